//! Load for proxies, and the backend behind them: as little work for each request as there can be, so that what is measured
//! is the proxy.
//!
//! What it is not: a judge of HTTP. It speaks just so much that a correct proxy is served; whatever else it meets
//! is an error, which is counted.
//!
//! Everything runs on the thread that starts it (a `LocalSet`).

mod backend;
mod frames;
mod http1;
mod http2;
mod rough;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

pub use backend::{Backend, Replies};
pub use rough::{abandon, websocket};

/// Bytes of a response's body.
pub const BODY_BYTES: usize = 1024;
/// Bytes of a gRPC message, with its prefix.
const MESSAGE_BYTES: usize = 128;
/// The authority of every request, unless another is given.
pub const AUTHORITY: &str = "bench.local";
/// Bytes that are read at once.
const READ_BYTES: usize = 32 * 1024;
/// How long an answer may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Speech {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, requests without a body.
    Http2,
    /// gRPC, unary.
    Grpc,
}

/// A client's connection: one request at a time.
pub enum Connection {
    /// HTTP/1.1.
    Http1(http1::Client),
    /// HTTP/2.
    Http2(http2::Client),
}

impl Connection {
    /// Connects. `from`: the address to connect from.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn open(
        to: SocketAddr,
        from: Option<IpAddr>,
        speech: Speech,
        authority: &str,
    ) -> Result<Connection, String> {
        let stream = connect(to, from).await.map_err(|error| format!("connect: {error}"))?;
        Ok(match speech {
            Speech::Http1 => Connection::Http1(http1::Client::new(stream, authority)),
            Speech::Http2 | Speech::Grpc => {
                Connection::Http2(http2::Client::new(stream, speech == Speech::Grpc, authority))
            }
        })
    }

    /// Sends a request and reads its response, which has to be a 200 and complete.
    ///
    /// # Errors
    /// What went wrong; the connection is of no use then.
    pub async fn request(&mut self) -> Result<(), String> {
        match self {
            Connection::Http1(client) => client.request().await,
            Connection::Http2(client) => client.request().await,
        }
    }
}

async fn connect(to: SocketAddr, from: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Where a pattern begins.
fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, pattern)
}
