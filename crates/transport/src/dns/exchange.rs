//! One question to one server: over UDP, and over TCP if the reply was cut.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;

use super::limits;
use super::message::{Question, Said};
use crate::{ConnectOptions, connect};

/// What the server says. Bounded in time by the caller.
pub(super) async fn ask(server: SocketAddr, question: &Question, mark: Option<u32>) -> io::Result<Said> {
    match by_udp(server, question, mark).await? {
        Said::Truncated => by_tcp(server, question, mark).await,
        said => Ok(said),
    }
}

async fn by_udp(server: SocketAddr, question: &Question, mark: Option<u32>) -> io::Result<Said> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = Socket::new(Domain::for_address(server), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    socket.bind(&any.into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    // Replies of others do not reach a connected socket.
    socket.connect(server).await?;
    socket.send(&question.bytes).await?;
    let mut reply = [0; limits::UDP_REPLY as usize];
    loop {
        let length = socket.recv(&mut reply).await?;
        if let Some(said) = reply.get(..length).and_then(|reply| question.read(reply)) {
            return Ok(said);
        }
    }
}

async fn by_tcp(server: SocketAddr, question: &Question, mark: Option<u32>) -> io::Result<Said> {
    let mut stream = connect(server, &ConnectOptions { mark, ..ConnectOptions::default() }).await?;
    let length = u16::try_from(question.bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question.bytes.as_slice()].concat()).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    match question.read(&reply) {
        Some(Said::Truncated) | None => Err(io::ErrorKind::InvalidData.into()),
        Some(said) => Ok(said),
    }
}
