//! HTTP/2 and gRPC, the client's side.

use tokio::net::TcpStream;

use super::MESSAGE_BYTES;
use super::frames::{
    DATA, END_HEADERS, END_STREAM, Framed, HEADERS, PREFACE, RST_STREAM, begins_with_200, field, put,
};

/// A connection.
pub struct Client {
    framed: Framed,
    block: Vec<u8>,
    is_grpc: bool,
    next: u32,
}

impl Client {
    /// A connection on which nothing is under way.
    pub(super) fn new(stream: TcpStream, is_grpc: bool, authority: &str) -> Client {
        // `:method` and `:scheme: http` are in the static table.
        let mut block = vec![if is_grpc { 0x83 } else { 0x82 }, 0x86];
        field(&mut block, Ok(4), if is_grpc { "/bench.Echo/Unary" } else { "/some/path?with=query" });
        field(&mut block, Ok(1), authority);
        field(&mut block, Ok(58), "bench/1");
        if is_grpc {
            field(&mut block, Ok(31), "application/grpc");
            field(&mut block, Err("te"), "trailers");
        } else {
            field(&mut block, Ok(19), "*/*");
            field(&mut block, Ok(32), "session=0123456789abcdef");
        }
        Client { framed: Framed::new(stream, PREFACE), block, is_grpc, next: 1 }
    }

    pub(super) async fn request(&mut self) -> Result<(), String> {
        let stream = self.next;
        self.next += 2;
        let end = if self.is_grpc { 0 } else { END_STREAM };
        put(&mut self.framed.output, HEADERS, END_HEADERS | end, stream, &self.block);
        if self.is_grpc {
            let message = message();
            self.framed.window -= message.len() as i64;
            put(&mut self.framed.output, DATA, END_STREAM, stream, &message);
        }
        self.framed.flush().await?;
        let mut has_status = false;
        loop {
            while let Some((frame, payload)) = self.framed.next()? {
                match frame.kind {
                    HEADERS if !has_status => {
                        if !begins_with_200(payload) {
                            return Err(format!("no 200: {payload:x?}"));
                        }
                        has_status = true;
                    }
                    RST_STREAM => return Err("reset".to_owned()),
                    _ => {}
                }
                let ends = matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0;
                if ends && frame.stream == stream {
                    return if self.framed.window < 1 << 14 { Err("no window".to_owned()) } else { Ok(()) };
                }
            }
            self.framed.flush().await?;
            if !self.framed.fill().await? {
                return Err("closed before the response was complete".to_owned());
            }
        }
    }
}

/// A gRPC message: not compressed, its length, its bytes.
pub(super) fn message() -> [u8; MESSAGE_BYTES] {
    let mut message = [b'm'; MESSAGE_BYTES];
    message[..5].copy_from_slice(&[0, 0, 0, 0, (MESSAGE_BYTES - 5) as u8]);
    message
}
