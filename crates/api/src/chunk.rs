//! A file to its parts: split at the `---` lines before anything is parsed, so that a document that does
//! not parse leaves its neighbours unharmed.

/// A part of a file between two `---` lines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Chunk<'a> {
    pub bytes: &'a [u8],
    /// Lines of the file before it.
    pub lines_before: u32,
}

/// Splits a file at its `---` lines. Parts without content are left out.
pub(crate) fn split(bytes: &[u8]) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut start_line, mut at, mut line) = (0, 0, 0, 0);
    let mut content = false;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = rest.iter().position(|&b| b == b'\n').map_or(rest.len(), |end| end + 1);
        let this = &rest[..length];
        if is_separator(this) {
            if content {
                chunks.push(Chunk { bytes: &bytes[start..at], lines_before: start_line });
            }
            (start, start_line, content) = (at, line, false);
            // `--- {a: b}`: content may follow on the same line.
            content |= has_content(this.get(3..).unwrap_or_default());
        } else {
            content |= has_content(this);
        }
        at += length;
        line += 1;
    }
    if content {
        chunks.push(Chunk { bytes: &bytes[start..], lines_before: start_line });
    }
    chunks
}

fn is_separator(line: &[u8]) -> bool {
    line.starts_with(b"---") && line.get(3).is_none_or(u8::is_ascii_whitespace)
}

/// Whether a line says anything: it is neither blank, nor a comment, directive or document end.
fn has_content(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    !(line.is_empty() || line.starts_with(b"#") || line.starts_with(b"%") || line == b"...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_split_at_its_separators_only() {
        let file = b"# head\n%YAML 1.2\n---\na: 1\n--- # again\nb: |\n  ---\n  x\n---\n\n# nothing\n---\r\nc: 3\r\n--- {d: 4}\n----\n";
        let got: Vec<_> = split(file)
            .into_iter()
            .map(|chunk| (std::str::from_utf8(chunk.bytes).unwrap(), chunk.lines_before))
            .collect();
        let expected = [
            ("---\na: 1\n", 2),
            ("--- # again\nb: |\n  ---\n  x\n", 4),
            ("---\r\nc: 3\r\n", 11),
            ("--- {d: 4}\n----\n", 13),
        ];
        assert_eq!(got, expected);
    }
}
