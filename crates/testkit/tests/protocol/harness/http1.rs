//! HTTP/1 messages as they come over a [`Wire`]: read tolerantly, told exactly.

use super::wire::{Done, Wire, trouble};

/// A message as it came.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Request or status line.
    pub start: String,
    /// Fields in their order, names as they came.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// How the body was framed: `none`, `length`, `chunked`, `close`.
    pub framing: &'static str,
}

/// A message that is all there.
pub fn whole(bytes: &[u8]) -> Done<Message> {
    Wire::of_bytes(bytes).response()
}

fn fields(text: &str) -> Vec<(String, String)> {
    let pair = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    text.split("\r\n").filter_map(pair).collect()
}

fn find<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

impl Message {
    /// Status of a response; 0 if it is none.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// First value of a field, or `-`.
    pub fn get(&self, name: &str) -> &str {
        find(&self.fields, name).unwrap_or("-")
    }

    pub fn has(&self, name: &str) -> bool {
        find(&self.fields, name).is_some()
    }

    /// Every value of a field, joined by `; `, or `-`.
    pub fn all(&self, name: &str) -> String {
        let values: Vec<&str> = self
            .fields
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect();
        if values.is_empty() { "-".to_owned() } else { values.join("; ") }
    }

    pub fn trailer(&self, name: &str) -> &str {
        find(&self.trailers, name).unwrap_or("-")
    }

    /// `200 hello`, or the status alone.
    pub fn brief(&self) -> String {
        format!("{} {}", self.status(), self.text()).trim_end().to_owned()
    }

    /// A field as `name=value`.
    pub fn told(&self, name: &str) -> String {
        format!("{name}={}", self.all(name))
    }
}

impl Wire {
    /// A head: start line and fields.
    pub fn head(&mut self) -> Done<Message> {
        let bytes = self.until(b"\r\n\r\n")?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let text = text.trim_end_matches("\r\n");
        let (start, rest) = text.split_once("\r\n").unwrap_or((text, ""));
        Ok(Message { start: start.to_owned(), fields: fields(rest), ..Message::default() })
    }

    /// A request with its body.
    pub fn request(&mut self) -> Done<Message> {
        let mut message = self.head()?;
        self.body(&mut message, false)?;
        Ok(message)
    }

    /// A response with its body, interim or not.
    pub fn response(&mut self) -> Done<Message> {
        self.response_to("GET")
    }

    /// A response to a request of this method.
    pub fn response_to(&mut self, method: &str) -> Done<Message> {
        let mut message = self.head()?;
        let status = message.status();
        let none = method == "HEAD"
            || (100..200).contains(&status)
            || matches!(status, 204 | 304)
            || (method == "CONNECT" && status == 200);
        if none {
            message.framing = "none";
        } else {
            self.body(&mut message, true)?;
        }
        Ok(message)
    }

    fn body(&mut self, message: &mut Message, until_end: bool) -> Done {
        if message.get("transfer-encoding").eq_ignore_ascii_case("chunked") {
            message.framing = "chunked";
            return self.chunks(message);
        }
        if let Some(length) = find(&message.fields, "content-length") {
            let Ok(length) = length.parse() else { return trouble(format!("content-length: {length}")) };
            message.framing = "length";
            message.body = self.take(length)?;
            return Ok(());
        }
        message.framing = if until_end { "close" } else { "none" };
        if until_end {
            message.body = self.rest()?;
            if self.how() == "reset" {
                return trouble(format!("reset after {} bytes of a body", message.body.len()));
            }
        }
        Ok(())
    }

    fn chunks(&mut self, message: &mut Message) -> Done {
        while let Some(piece) = self.chunk()? {
            message.body.extend_from_slice(&piece);
        }
        loop {
            let line = self.until(b"\r\n")?;
            if line == b"\r\n" {
                return Ok(());
            }
            message.trailers.extend(fields(String::from_utf8_lossy(&line).trim_end()));
        }
    }

    /// One chunk, or `None` for the last one, whose trailers are not read.
    pub fn chunk(&mut self) -> Done<Option<Vec<u8>>> {
        let line = self.until(b"\r\n")?;
        let text = String::from_utf8_lossy(&line).into_owned();
        let size = text.trim().split(';').next().unwrap_or_default();
        let Ok(size) = usize::from_str_radix(size, 16) else {
            return trouble(format!("chunk size {text:?}"));
        };
        if size == 0 {
            return Ok(None);
        }
        let piece = self.take(size)?;
        let end = self.take(2)?;
        if end != b"\r\n" {
            return trouble(format!("chunk ends in {end:?}"));
        }
        Ok(Some(piece))
    }

    /// Sends a plain response with this body.
    pub fn answer(&mut self, body: &str) -> Done {
        self.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
    }

    /// Sends a plain `GET`.
    pub fn get(&mut self, path: &str) -> Done {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n\r\n"))
    }
}
