//! What answers behind the proxies.

use std::collections::VecDeque;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::frames::{DATA, END_HEADERS, END_STREAM, Framed, HEADERS, RST_STREAM, field, put};
use super::{BODY_BYTES, MESSAGE_BYTES, READ_BYTES, find, http2};

/// How a backend answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// HTTP/1.1; an upgrade is granted, and what comes then is sent back.
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
    /// HTTP/1.1 that breaks off: at once, within the head, or within the body, in turn.
    Broken,
}

/// A backend; it ends, with its connections, when dropped.
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backend {
    /// Starts one on this thread, at an address of the kernel's choosing.
    ///
    /// # Panics
    /// The system gives no socket.
    pub async fn start(replies: Replies) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("its address");
        let task = tokio::task::spawn_local(accept(listener, replies)).abort_handle();
        Backend { address, task }
    }
}

async fn accept(listener: TcpListener, replies: Replies) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                // A socket that refuses it is slower, no more.
                let _ = stream.set_nodelay(true);
                connections.spawn_local(serve(stream, replies));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Connections that break are the business of whoever counts.
async fn serve(stream: TcpStream, replies: Replies) {
    let _ = match replies {
        Replies::Http1 => http1(stream).await,
        Replies::Http2 => h2(stream, &Reply::plain()).await,
        Replies::Grpc => h2(stream, &Reply::grpc()).await,
        Replies::Broken => broken(stream).await,
    };
}

async fn http1(mut stream: TcpStream) -> Result<(), String> {
    let mut reply =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nserver: backend\r\ncontent-length: {BODY_BYTES}\r\n\r\n")
            .into_bytes();
    reply.resize(reply.len() + BODY_BYTES, b'b');
    let mut input = vec![0; READ_BYTES];
    let mut had = 0;
    loop {
        let rest = input.get_mut(had..).unwrap_or_default();
        let read = stream.read(rest).await.map_err(|error| error.to_string())?;
        if read == 0 {
            return Ok(());
        }
        had += read;
        let mut begin = 0;
        while let Some(end) = find(input.get(begin..had).unwrap_or_default(), b"\r\n\r\n") {
            let head = input.get(begin..begin + end).unwrap_or_default();
            begin += end + 4;
            if find(head, b"\r\nupgrade: ").is_some() {
                return echo(stream, input.get(begin..had).unwrap_or_default().to_vec()).await;
            }
            stream.write_all(&reply).await.map_err(|error| error.to_string())?;
        }
        input.copy_within(begin..had, 0);
        had -= begin;
    }
}

/// Reads something, says so much of a response as the port says, and closes.
async fn broken(mut stream: TcpStream) -> Result<(), String> {
    let parts: [&[u8]; 3] =
        [b"", b"HTTP/1.1 200 OK\r\ncontent-le", b"HTTP/1.1 200 OK\r\ncontent-length: 1024\r\n\r\nhalf"];
    let port = stream.peer_addr().map_err(|error| error.to_string())?.port();
    let mut input = [0; 256];
    stream.read(&mut input).await.map_err(|error| error.to_string())?;
    let said = parts.get(usize::from(port / 2) % parts.len()).copied().unwrap_or_default();
    stream.write_all(said).await.map_err(|error| error.to_string())
}

/// Grants an upgrade and sends back what comes.
async fn echo(mut stream: TcpStream, mut read: Vec<u8>) -> Result<(), String> {
    let granted = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(granted).await.map_err(|error| error.to_string())?;
    loop {
        stream.write_all(&read).await.map_err(|error| error.to_string())?;
        read.clear();
        if stream.read_buf(&mut read).await.map_err(|error| error.to_string())? == 0 {
            return Ok(());
        }
    }
}

/// A response of HTTP/2.
struct Reply {
    head: Vec<u8>,
    body: Vec<u8>,
    trailers: Option<Vec<u8>>,
}

impl Reply {
    fn plain() -> Reply {
        let mut head = vec![0x88];
        field(&mut head, Ok(31), "text/plain");
        field(&mut head, Ok(54), "backend");
        field(&mut head, Ok(28), &BODY_BYTES.to_string());
        Reply { head, body: vec![b'b'; BODY_BYTES], trailers: None }
    }

    fn grpc() -> Reply {
        let mut head = vec![0x88];
        field(&mut head, Ok(31), "application/grpc");
        let mut trailers = Vec::new();
        field(&mut trailers, Err("grpc-status"), "0");
        Reply { head, body: http2::message()[..MESSAGE_BYTES].to_vec(), trailers: Some(trailers) }
    }

    fn write(&self, framed: &mut Framed, stream: u32) {
        framed.window -= self.body.len() as i64;
        let out = &mut framed.output;
        put(out, HEADERS, END_HEADERS, stream, &self.head);
        let end = if self.trailers.is_none() { END_STREAM } else { 0 };
        put(out, DATA, end, stream, &self.body);
        if let Some(trailers) = &self.trailers {
            put(out, HEADERS, END_HEADERS | END_STREAM, stream, trailers);
        }
    }
}

async fn h2(stream: TcpStream, reply: &Reply) -> Result<(), String> {
    let mut framed = Framed::new(stream, b"");
    let mut waiting = VecDeque::new();
    let mut has_begun = false;
    loop {
        framed.flush().await?;
        if !framed.fill().await? {
            return Ok(());
        }
        if !has_begun {
            has_begun = framed.take_preface()?;
            if !has_begun {
                continue;
            }
        }
        while let Some((frame, _)) = framed.next()? {
            match frame.kind {
                HEADERS | DATA if frame.flags & END_STREAM != 0 => waiting.push_back(frame.stream),
                RST_STREAM => waiting.retain(|stream| *stream != frame.stream),
                _ => {}
            }
        }
        while framed.window >= reply.body.len() as i64
            && let Some(stream) = waiting.pop_front()
        {
            reply.write(&mut framed, stream);
        }
    }
}
