//! Where a head ends, found without reading any byte twice, however slowly it comes.

/// A search for the end of a head in a buffer that grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// Bytes looked at.
    seen: usize,
    /// Where the line begins that is being looked at.
    line: usize,
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The head is the first so many bytes, the empty line included.
    End(usize),
    /// There is more to come.
    More,
    /// A line that ends in LF alone.
    BareLineFeed,
}

impl Search {
    /// Goes on with what has been added to `buffer` since the last call.
    pub fn go_on(&mut self, buffer: &[u8]) -> Found {
        while let Some(offset) = memchr::memchr(b'\n', buffer.get(self.seen..).unwrap_or_default()) {
            let feed = self.seen + offset;
            let line = buffer.get(self.line..feed).unwrap_or_default();
            self.seen = feed + 1;
            match line {
                [b'\r'] => return Found::End(self.seen),
                [.., b'\r'] => self.line = self.seen,
                _ => return Found::BareLineFeed,
            }
        }
        self.seen = buffer.len();
        Found::More
    }
}

/// How many bytes of empty lines `buffer` begins with (RFC 9112 section 2.2: those before a request are ignored).
pub fn empty_lines(buffer: &[u8]) -> usize {
    buffer.chunks_exact(2).take_while(|pair| *pair == b"\r\n").count() * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_found_however_it_is_cut() {
        let head = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nbody";
        let end = head.len() - 4;
        for cut in 0..head.len() {
            let mut search = Search::default();
            let first = search.go_on(&head[..cut]);
            let found = if first == Found::More { search.go_on(head) } else { first };
            assert_eq!(found, Found::End(end), "cut at {cut}");
        }
    }

    #[test]
    fn a_bare_line_feed_is_told_at_once() {
        assert_eq!(Search::default().go_on(b"GET / HTTP/1.1\n"), Found::BareLineFeed);
        assert_eq!(Search::default().go_on(b"GET / HTTP/1.1\r\n\n"), Found::BareLineFeed);
        assert_eq!(Search::default().go_on(b"GET / HTTP/1.1\r\n"), Found::More);
        assert_eq!(Search::default().go_on(b"\r\n"), Found::End(2));
    }

    #[test]
    fn empty_lines_are_counted() {
        assert_eq!(empty_lines(b"\r\n\r\nGET"), 4);
        assert_eq!(empty_lines(b"GET"), 0);
        assert_eq!(empty_lines(b"\r"), 0);
    }
}
