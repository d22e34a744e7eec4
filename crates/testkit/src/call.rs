//! One call, made from inside a pod with the C library's own resolver, as a program would.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;

/// How long a call may take; what is not there has to be told before.
const CALL_MAX: Duration = Duration::from_secs(5);

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug)]
pub enum Speaks {
    /// HTTP/1.1.
    Http,
    /// The client speaks first.
    Tcp,
    /// The server speaks first.
    Hello,
    /// Not on a connection at all.
    Udp,
}

/// What was seen of a call.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Where it came from, if there was a connection.
    pub local: Option<SocketAddr>,
    /// What came of it.
    pub said: Said,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Who answered, by host name.
    By(String),
    /// A status and nobody's name.
    Status(u16),
    /// There was no connection, or nothing but its end.
    Closed(String),
    /// There is no such name.
    NoName,
    /// Nothing, for as long as it was waited.
    Nothing,
}

/// Calls a host, by name or address, and hears who answers.
pub async fn call(host: String, port: u16, speaks: Speaks) -> Seen {
    let mut local = None;
    let said = match timeout(CALL_MAX, talk(&host, port, speaks, &mut local)).await {
        Ok(Ok(said)) => said,
        Ok(Err(error)) => Said::Closed(error.to_string()),
        Err(_) => Said::Nothing,
    };
    Seen { local, said }
}

async fn talk(host: &str, port: u16, speaks: Speaks, local: &mut Option<SocketAddr>) -> io::Result<Said> {
    let addresses: Vec<SocketAddr> = match lookup_host((host, port)).await {
        Ok(addresses) => addresses.collect(),
        Err(_) => return Ok(Said::NoName),
    };
    if let Speaks::Udp = speaks {
        return datagram(addresses[0]).await;
    }
    let mut stream = connect(&addresses).await?;
    *local = Some(stream.local_addr()?);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match speaks {
        Speaks::Http => {
            let request = format!("GET / HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
        }
        Speaks::Tcp => stream.write_all(b"hello\n").await?,
        Speaks::Hello | Speaks::Udp => {}
    }
    let mut answer = Vec::new();
    match speaks {
        Speaks::Http => {
            stream.read_to_end(&mut answer).await?;
        }
        _ => {
            while !answer.ends_with(b"\n") {
                answer.push(stream.read_u8().await?);
            }
        }
    }
    Ok(understand(&String::from_utf8_lossy(&answer)))
}

/// Connects to the first address that answers, from a port that no other connection has, before or after: those that
/// the kernel chooses lie higher.
async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    static NEXT: AtomicU16 = AtomicU16::new(10_000);
    let mut failed = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        let any: IpAddr = match address.is_ipv4() {
            true => Ipv4Addr::UNSPECIFIED.into(),
            false => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind((any, NEXT.fetch_add(1, Ordering::Relaxed)).into())?;
        match socket.connect(*address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn datagram(to: SocketAddr) -> io::Result<Said> {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).await?;
    socket.connect(to).await?;
    socket.send(b"hello").await?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).await?;
    Ok(understand(&String::from_utf8_lossy(&answer[..length])))
}

/// Who answered is in the JSON that servers answer with; proxies answer with a status alone.
fn understand(answer: &str) -> Said {
    let json = answer.find('{').zip(answer.rfind('}')).and_then(|(from, to)| answer.get(from..=to));
    let account: Option<Value> = json.and_then(|json| serde_json::from_str(json).ok());
    match account.as_ref().and_then(|account| account["hostname"].as_str()) {
        Some(name) => Said::By(name.to_owned()),
        None => answer
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .map_or_else(|| Said::Closed(answer.to_owned()), Said::Status),
    }
}
