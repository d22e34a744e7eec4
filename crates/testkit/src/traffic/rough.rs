//! Clients that are not as polite as the others.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{AUTHORITY, Connection, Speech, connect, find};

/// Begins something and goes away, by a reset: which of several things, `turn` says.
///
/// # Errors
/// It cannot connect.
pub async fn abandon(to: SocketAddr, turn: usize) -> Result<(), String> {
    let whole = format!("GET /gone HTTP/1.1\r\nhost: {AUTHORITY}\r\n\r\n");
    let body = format!("POST /gone HTTP/1.1\r\nhost: {AUTHORITY}\r\ncontent-length: 100000\r\n\r\nhalf");
    let said = match turn % 5 {
        0 => "",
        1 => "GET /gone HTTP/1.1\r\nho",
        2 => &whole,
        3 => &body,
        _ => {
            let mut connection = Connection::open(to, None, Speech::Http2, AUTHORITY).await?;
            // Given up in the middle.
            let _ = tokio::time::timeout(Duration::from_micros(200), connection.request()).await;
            return Ok(());
        }
    };
    let mut stream = connect(to, None).await.map_err(|error| format!("connect: {error}"))?;
    stream.write_all(said.as_bytes()).await.map_err(|error| format!("write: {error}"))?;
    if turn.is_multiple_of(2) {
        let socket = socket2::SockRef::from(&stream);
        socket.set_linger(Some(Duration::ZERO)).map_err(|error| format!("linger: {error}"))?;
    }
    Ok(())
}

/// Opens a WebSocket, sends so many messages and reads each back, and closes.
///
/// # Errors
/// What went wrong.
pub async fn websocket(to: SocketAddr, messages: usize) -> Result<(), String> {
    let mut stream = connect(to, None).await.map_err(|error| format!("connect: {error}"))?;
    let ask = format!(
        "GET /ws HTTP/1.1\r\nhost: {AUTHORITY}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).await.map_err(|error| format!("write: {error}"))?;
    let mut read = Vec::new();
    while find(&read, b"\r\n\r\n").is_none() {
        if stream.read_buf(&mut read).await.map_err(|error| format!("read: {error}"))? == 0 {
            return Err("closed before the upgrade was granted".to_owned());
        }
    }
    if !read.starts_with(b"HTTP/1.1 101 ") {
        return Err(format!("no 101: {}", String::from_utf8_lossy(&read)));
    }
    let mut back = [0; 512];
    for message in 0..messages {
        // Bytes are passed on as they are: what they mean is nobody's business on the way.
        let sent = [message as u8; 512];
        stream.write_all(&sent).await.map_err(|error| format!("write: {error}"))?;
        stream.read_exact(&mut back).await.map_err(|error| format!("read: {error}"))?;
        if back != sent {
            return Err("something else came back".to_owned());
        }
    }
    Ok(())
}
