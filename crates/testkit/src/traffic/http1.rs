//! HTTP/1.1, the client's side.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{READ_BYTES, find};

/// A connection.
pub struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Box<[u8]>,
}

impl Client {
    /// A connection on which nothing is under way.
    pub(super) fn new(stream: TcpStream, authority: &str) -> Client {
        let request = format!(
            "GET /some/path?with=query HTTP/1.1\r\nhost: {authority}\r\nuser-agent: bench/1\r\naccept: */*\r\n\
             cookie: session=0123456789abcdef\r\n\r\n"
        );
        Client { stream, request: request.into_bytes(), buffer: vec![0; READ_BYTES].into_boxed_slice() }
    }

    pub(super) async fn request(&mut self) -> Result<(), String> {
        self.stream.write_all(&self.request).await.map_err(|error| format!("write: {error}"))?;
        let mut read = 0;
        let mut whole = None;
        while whole.is_none_or(|whole| read < whole) {
            let rest = self.buffer.get_mut(read..).unwrap_or_default();
            match self.stream.read(rest).await {
                Ok(0) => return Err("closed before the response was complete".to_owned()),
                Ok(more) => read += more,
                Err(error) => return Err(format!("read: {error}")),
            }
            if whole.is_none() {
                whole = length(self.buffer.get(..read).unwrap_or_default())?;
            }
        }
        if whole == Some(read) { Ok(()) } else { Err("more than a response".to_owned()) }
    }
}

/// Bytes of the response that begins here, once its head is complete.
fn length(text: &[u8]) -> Result<Option<usize>, String> {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    let Some(end) = find(text, b"\r\n\r\n") else { return Ok(None) };
    let (head, _) = text.split_at(end + 2);
    let said = || String::from_utf8_lossy(head).into_owned();
    if !head.starts_with(b"HTTP/1.1 200 ") {
        return Err(format!("no 200: {}", said()));
    }
    let value = find(head, NAME).and_then(|at| head.get(at + NAME.len()..)).ok_or_else(said)?;
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit());
    let body = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    Ok(Some(end + 4 + body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_s_length() {
        assert_eq!(length(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n"), Ok(None));
        assert_eq!(length(b"HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 13\r\n\r\nabc"), Ok(Some(58)));
        assert!(length(b"HTTP/1.1 503 No\r\ncontent-length: 3\r\n\r\nabc").is_err());
    }
}
