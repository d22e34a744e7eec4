//! The TCP side: one line of JSON that tells who was reached, then everything back as it came.
//!
//! A server-first port writes the line at once; the others wait for the client's first bytes, as most
//! protocols do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Me;
use crate::serve::told_to_end;

/// Connections served at a time; the next ones wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 4_096;
const BUFFER_BYTES: usize = 16 << 10;
/// After a failed accept (out of descriptors, mostly) the next try waits, or it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub async fn serve(listener: TcpListener, me: Arc<Me>, port: u16, server_first: bool) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let end = told_to_end();
    tokio::pin!(end);
    loop {
        let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
        let accepted = tokio::select! {
            () = &mut end => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let greeting = greeting(&me, port, from);
                tokio::spawn(async move {
                    // A client that breaks off is its own affair.
                    let _ = talk(stream, &greeting, server_first).await;
                    drop(slot);
                });
            }
            Err(error) => {
                eprintln!("ostro-sample: port {port}: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn greeting(me: &Me, port: u16, from: SocketAddr) -> String {
    let seen = json!({"hostname": me.hostname, "protocol": "TCP", "port": port, "source": from.ip().to_canonical().to_string()});
    format!("{seen}\n")
}

async fn talk(mut stream: TcpStream, greeting: &str, server_first: bool) -> io::Result<()> {
    if server_first {
        stream.write_all(greeting.as_bytes()).await?;
    }
    let mut greeted = server_first;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return stream.shutdown().await;
        }
        if !greeted {
            stream.write_all(greeting.as_bytes()).await?;
            greeted = true;
        }
        stream.write_all(buffer.get(..count).unwrap_or_default()).await?;
    }
}
