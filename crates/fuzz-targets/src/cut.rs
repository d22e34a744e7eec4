//! An input cut into what a target needs.

/// What is left of an input; past its end there are zeros and nothing.
pub(crate) struct Cut<'a>(&'a [u8]);

impl<'a> Cut<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Cut<'a> {
        Cut(input)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// As many bytes as the next two say, or as there are.
    pub(crate) fn piece(&mut self) -> &'a [u8] {
        let length = usize::from(u16::from_be_bytes([self.byte(), self.byte()]));
        let (piece, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        piece
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An input of these pieces, each with its length, the last without.
pub(crate) fn joined(before: &[u8], pieces: &[&[u8]], rest: &[u8]) -> Vec<u8> {
    let mut input = before.to_vec();
    for piece in pieces {
        input.extend(u16::try_from(piece.len()).expect("a short seed").to_be_bytes());
        input.extend_from_slice(piece);
    }
    input.extend_from_slice(rest);
    input
}

/// Seeds of text.
pub(crate) fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
