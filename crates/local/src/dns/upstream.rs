//! The host's name servers, asked from the host's network.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::Message;
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::PORT;
use super::files::ResolvConf;
use super::wire;

/// When the asker is told that nobody answers: before it gives up itself, after 5 s for most.
pub const ANSWER_MAX: Duration = Duration::from_secs(4);
/// How long one server is waited for, before the next is asked.
const SERVER_MAX: Duration = Duration::from_millis(1300);
/// How often silent servers are asked again.
const ROUNDS: usize = 3;
/// Bytes of a reply over UDP; nobody asks for more.
const REPLY_MAX: usize = 8192;

/// The name servers of a `resolv.conf`, which is read again when it changes.
#[derive(Debug)]
pub(super) struct Upstream {
    path: PathBuf,
    known: Mutex<(Option<Stamp>, Arc<[SocketAddr]>)>,
}

/// Inode, time of last change, size.
type Stamp = (u64, i64, i64, u64);

impl Upstream {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, known: Mutex::new((None, Arc::new([]))) }
    }

    /// A server's reply, with the question's id; `None` if none replies in time, or there is none. If all fail,
    /// it is the last one's word.
    pub(super) async fn ask(&self, question: &[u8]) -> Option<Vec<u8>> {
        let servers = self.servers();
        timeout(ANSWER_MAX, rounds(&servers, question)).await.ok().flatten()
    }

    fn servers(&self) -> Arc<[SocketAddr]> {
        let stamp = fs::metadata(&self.path).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec(), m.size()));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp.is_none() || known.0 != stamp {
            *known = (stamp, read(&self.path));
            tracing::debug!(servers = ?known.1, "the host's name servers");
        }
        known.1.clone()
    }
}

fn read(path: &Path) -> Arc<[SocketAddr]> {
    let text = fs::read_to_string(path).unwrap_or_default();
    ResolvConf::parse(&text).name_servers.iter().filter_map(|server| address(server)).collect()
}

/// An address, of a certain interface if it says so.
fn address(text: &str) -> Option<SocketAddr> {
    let Some((address, zone)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse().ok()?, PORT));
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let index = zone.parse().ok().or_else(|| {
        let any = socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
        name_to_index(any, zone).ok()
    })?;
    Some(SocketAddrV6::new(address, PORT, 0, index).into())
}

/// Asks one server after the other, and the silent ones again.
async fn rounds(servers: &[SocketAddr], question: &[u8]) -> Option<Vec<u8>> {
    let mut last = None;
    for _ in 0..ROUNDS {
        let mut silent = false;
        for server in servers {
            match timeout(SERVER_MAX, exchange(*server, question)).await {
                Ok(Ok(reply)) if wire::is_failure(&reply) => last = Some(reply),
                Ok(Ok(reply)) => return Some(reply),
                Ok(Err(error)) => tracing::debug!(%server, %error, "a name server was not reached"),
                Err(_) => silent = true,
            }
        }
        if !silent {
            break;
        }
    }
    last
}

/// One server's reply: by UDP, and by TCP if that is not all of it.
async fn exchange(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut asked = question.to_vec();
    // Unlike the asker's own it is not known to anybody.
    wire::set_id(&mut asked, Message::query().metadata.id);
    let reply = by_udp(server, &asked).await?;
    if !wire::is_truncated(&reply) {
        return Ok(reply);
    }
    // A part is better than nothing.
    Ok(by_tcp(server, &asked).await.unwrap_or(reply))
}

async fn by_udp(server: SocketAddr, asked: &[u8]) -> io::Result<Vec<u8>> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(asked).await?;
    let mut reply = vec![0; REPLY_MAX];
    loop {
        let length = socket.recv(&mut reply).await?;
        if reply.get(..length).is_some_and(|reply| wire::replies_to(reply, asked)) {
            reply.truncate(length);
            return Ok(reply);
        }
    }
}

async fn by_tcp(server: SocketAddr, asked: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(asked.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(asked);
    stream.write_all(&framed).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    match wire::replies_to(&reply, asked) {
        true => Ok(reply),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}
