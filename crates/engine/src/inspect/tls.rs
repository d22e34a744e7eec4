//! The ClientHello that a TLS connection begins with (RFC 8446, 4.1.2), read without touching it.
//!
//! Only what chooses a filter chain is read: the server name (RFC 6066, 3) and the application protocols (RFC 7301, 3.1).
//! Bytes that are no ClientHello are plaintext; a ClientHello that is wrong further inside is left for the TLS stack to
//! refuse.

use std::borrow::Cow;

/// Content type of handshake records.
const HANDSHAKE: u8 = 22;
/// Type of the message.
const CLIENT_HELLO: u8 = 1;
/// Longest record (RFC 8446, 5.1).
const RECORD_MAX: usize = 1 << 14;
const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// What the first bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Read {
    NeedMore,
    Hello { server_name: Box<str>, protocols: Vec<Box<str>> },
    NotTls,
    TooLarge,
}

/// Looks at the bytes that have come so far; a ClientHello, with its record headers, may be `bytes_max` long.
pub(super) fn read(bytes: &[u8], bytes_max: usize) -> Read {
    match message(bytes) {
        Gathered::Whole(hello) => match client_hello(&hello) {
            Some((server_name, protocols)) => Read::Hello { server_name, protocols },
            None => Read::NotTls,
        },
        Gathered::Part if bytes.len() >= bytes_max => Read::TooLarge,
        Gathered::Part => Read::NeedMore,
        Gathered::NotTls => Read::NotTls,
    }
}

enum Gathered<'a> {
    Whole(Cow<'a, [u8]>),
    Part,
    NotTls,
}

/// The body of the ClientHello, put together if it is spread over records.
fn message(bytes: &[u8]) -> Gathered<'_> {
    let mut rest = bytes;
    let mut gathered: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    loop {
        let known = |place: usize, wanted: u8| rest.get(place).is_none_or(|byte| *byte == wanted);
        if !known(0, HANDSHAKE) || !known(1, 3) {
            return Gathered::NotTls;
        }
        let Some(&[_, _, _, high, low]) = rest.first_chunk::<RECORD_HEADER>() else { return Gathered::Part };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > RECORD_MAX {
            return Gathered::NotTls;
        }
        let record = rest.get(RECORD_HEADER..).unwrap_or_default();
        let part = record.get(..length).unwrap_or(record);
        if gathered.is_empty() {
            gathered = Cow::Borrowed(part)
        } else {
            gathered.to_mut().extend_from_slice(part)
        }
        if gathered.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Gathered::NotTls;
        }
        if let Some(&[_, a, b, c]) = gathered.first_chunk::<MESSAGE_HEADER>() {
            let end = MESSAGE_HEADER + u32::from_be_bytes([0, a, b, c]) as usize;
            if gathered.len() >= end {
                return Gathered::Whole(slice(gathered, MESSAGE_HEADER, end));
            }
        }
        if record.len() < length {
            return Gathered::Part;
        }
        rest = record.get(length..).unwrap_or_default();
    }
}

fn slice(bytes: Cow<'_, [u8]>, begin: usize, end: usize) -> Cow<'_, [u8]> {
    match bytes {
        Cow::Borrowed(bytes) => Cow::Borrowed(bytes.get(begin..end).unwrap_or_default()),
        Cow::Owned(bytes) => Cow::Owned(bytes.get(begin..end).unwrap_or_default().to_vec()),
    }
}

/// Bytes that are read from the front; `None` where they end too early.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of at most three bytes.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Bytes behind their length, which is a number of so many bytes.
    fn sized(&mut self, bytes: usize) -> Option<Reader<'a>> {
        let length = self.number(bytes)?;
        self.take(length).map(Reader)
    }
}

/// Server name, in lower case, and protocols.
fn client_hello(body: &[u8]) -> Option<(Box<str>, Vec<Box<str>>)> {
    let mut hello = Reader(body);
    // Version and random.
    hello.take(2 + 32)?;
    hello.sized(1).filter(|session| session.0.len() <= 32)?;
    hello.sized(2).filter(|suites| suites.0.len() >= 2 && suites.0.len().is_multiple_of(2))?;
    hello.sized(1).filter(|compressions| !compressions.0.is_empty())?;
    let mut server_name = String::new();
    let mut protocols = Vec::new();
    if hello.0.is_empty() {
        return Some((server_name.into(), protocols));
    }
    let mut extensions = hello.sized(2).filter(|_| hello.0.is_empty())?;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let extension = extensions.sized(2)?;
        match u16::try_from(kind).ok()? {
            SERVER_NAME => server_name = name(extension)?,
            ALPN => protocols = alpn(extension).unwrap_or_default(),
            _ => {}
        }
    }
    Some((server_name.into(), protocols))
}

/// The one host name of the extension. A server's empty one does not occur in a ClientHello.
fn name(mut extension: Reader<'_>) -> Option<String> {
    let mut list = extension.sized(2)?;
    let kind = list.number(1)?;
    let name = list.sized(2)?.0;
    let is_whole = extension.0.is_empty() && list.0.is_empty() && kind == 0;
    let is_name = !name.is_empty() && name.len() <= 255 && !name.contains(&0);
    (is_whole && is_name).then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}

fn alpn(mut extension: Reader<'_>) -> Option<Vec<Box<str>>> {
    let mut list = extension.sized(2)?;
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let protocol = list.sized(1).filter(|protocol| !protocol.0.is_empty())?;
        protocols.push(String::from_utf8_lossy(protocol.0).into());
    }
    Some(protocols)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sized(bytes: usize, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&length[4 - bytes..], content].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &sized(2, content)].concat()
    }

    fn hello(name: &str, protocols: &[&str]) -> Vec<u8> {
        let mut extensions = extension(43, &[2, 3, 4]);
        if !name.is_empty() {
            let list = sized(2, &[&[0][..], &sized(2, name.as_bytes())].concat());
            extensions.extend(extension(SERVER_NAME, &list));
        }
        if !protocols.is_empty() {
            let list: Vec<u8> = protocols.iter().flat_map(|p| sized(1, p.as_bytes())).collect();
            extensions.extend(extension(ALPN, &sized(2, &list)));
        }
        let parts = [&[3, 3][..], &[7; 32], &sized(1, &[]), &sized(2, &[0x13, 1]), &sized(1, &[0])];
        let body = [&parts.concat()[..], &sized(2, &extensions)].concat();
        [&[CLIENT_HELLO][..], &sized(3, &body)].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        message.chunks(size).flat_map(|part| [&[HANDSHAKE, 3, 1][..], &sized(2, part)].concat()).collect()
    }

    fn found(name: &str, protocols: &[&str]) -> Read {
        let protocols = protocols.iter().map(|protocol| Box::from(*protocol)).collect();
        Read::Hello { server_name: name.into(), protocols }
    }

    #[test]
    fn a_hello_is_read_whole_however_it_is_cut() {
        let message = hello("Www.Example.com", &["istio", "h2"]);
        for size in [1, 3, 10, 1000] {
            let bytes = records(&message, size);
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end], 16384), Read::NeedMore, "{end} of {}", bytes.len());
            }
            assert_eq!(read(&bytes, 16384), found("www.example.com", &["istio", "h2"]));
            assert_eq!(
                read(&[&bytes[..], b"early data"].concat(), 16384),
                found("www.example.com", &["istio", "h2"])
            );
        }
        assert_eq!(read(&records(&hello("", &[]), 100), 16384), found("", &[]));
    }

    #[test]
    fn what_is_no_hello_is_plaintext_at_once() {
        let not_tls: [&[u8]; 6] = [
            b"G",
            b"\x17",
            b"\x16\x02",
            b"\x16\x03\x01\0\0",
            b"\x16\x03\x01\x50\0",
            b"\x16\x03\x01\0\x04\x02",
        ];
        for bytes in not_tls {
            assert_eq!(read(bytes, 16384), Read::NotTls, "{bytes:?}");
        }
        // A name that is none spoils the whole hello.
        let mut message = hello("a", &[]);
        let last = message.len() - 1;
        message[last] = 0;
        assert_eq!(read(&records(&message, 1000), 16384), Read::NotTls);
    }

    #[test]
    fn a_hello_has_a_longest() {
        let bytes = records(&hello("a", &[]), 1000);
        assert_eq!(read(&bytes[..30], 30), Read::TooLarge);
        assert_eq!(read(&bytes, 30), found("a", &[]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0..90_usize) {
            read(&bytes, 16384);
            let real = records(&hello("a.b", &["h2"]), 50);
            bytes.splice(0..0, real[..cut.min(real.len())].iter().copied());
            read(&bytes, 16384);
        }
    }
}
