//! Sockets: questions come in, answers go out.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use super::upstream::Upstream;
use super::wire::{self, Pending, Step, Transport};
use super::zone::{Asker, Zone};
use super::{PORT, PROXY_PORT};
use crate::place::Place;

/// Questions that the host's servers are asked at a time; above, the answer is `SERVFAIL`.
const FORWARDED_MAX: usize = 512;
/// Connections at a time; above, they are closed.
const CONNECTIONS_MAX: usize = 256;
/// Questions of one connection under way; above, no further one is read.
const PIPELINE_MAX: usize = 16;
/// How long a connection may be silent, or take no answer.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// Bytes of a question over UDP.
const QUESTION_MAX: usize = 4096;

/// What every task of the server shares.
#[derive(Clone)]
struct Server {
    zone: watch::Receiver<Arc<Zone>>,
    upstream: Arc<Upstream>,
    /// Runs tasks in the host's network.
    host: Handle,
    forwarded: Arc<Semaphore>,
    /// Who asks here are proxies.
    proxies: bool,
}

/// Serves names in `mesh` at each of `addresses`, for as long as the place lives. Names of others are asked
/// of the servers in the file `resolv_conf`, by tasks on `host`, whose network is the host's.
pub async fn serve(
    mesh: &Place,
    host: Handle,
    addresses: Vec<IpAddr>,
    zone: watch::Receiver<Arc<Zone>>,
    resolv_conf: PathBuf,
) -> io::Result<()> {
    let upstream = Arc::new(Upstream::new(resolv_conf));
    let forwarded = Arc::new(Semaphore::new(FORWARDED_MAX));
    let listen = async move {
        for address in addresses {
            for (port, proxies) in [(PORT, false), (PROXY_PORT, true)] {
                let (zone, upstream, host) = (zone.clone(), upstream.clone(), host.clone());
                let server = Server { zone, upstream, host, forwarded: forwarded.clone(), proxies };
                let at = SocketAddr::new(address, port);
                let (udp, tcp) = (UdpSocket::bind(at).await?, TcpListener::bind(at).await?);
                tokio::spawn(server.clone().datagrams(Arc::new(udp)));
                tokio::spawn(server.connections(tcp));
            }
        }
        Ok(())
    };
    mesh.spawn(listen).await.map_err(io::Error::other)?
}

impl Server {
    fn step(&self, from: IpAddr, question: &[u8], transport: Transport) -> Step {
        // Cloned: who sets the next zone should not wait.
        let zone = self.zone.borrow().clone();
        let asker = if self.proxies { Asker::default() } else { zone.asker(from) };
        wire::step(&zone, asker, question, transport)
    }

    /// Has others answer.
    async fn ask(&self, pending: Box<Pending>) -> Vec<u8> {
        let Ok(_permit) = self.forwarded.try_acquire() else {
            tracing::warn!("more than {FORWARDED_MAX} names are looked up outside at a time");
            return pending.answered(None);
        };
        let upstream = self.upstream.clone();
        let question = pending.question().to_vec();
        let reply = self.host.spawn(async move { upstream.ask(&question).await }).await;
        // The task is lost only with the host's runtime.
        pending.answered(reply.ok().flatten())
    }

    async fn datagrams(self, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; QUESTION_MAX];
        loop {
            let (length, from) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    // Of an earlier answer that somebody did not take.
                    tracing::debug!(%error, "a question was not received");
                    continue;
                }
            };
            let question = buffer.get(..length).unwrap_or_default();
            match self.step(from.ip(), question, Transport::Udp) {
                Step::Drop => {}
                Step::Reply(reply) => reply_to(&socket, from, &reply).await,
                Step::Ask(pending) => {
                    let (server, socket) = (self.clone(), socket.clone());
                    tokio::spawn(async move {
                        let reply = server.ask(pending).await;
                        reply_to(&socket, from, &reply).await;
                    });
                }
            }
        }
    }

    async fn connections(self, listener: TcpListener) {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection of a name's asker was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = connections.clone().try_acquire_owned() else { continue };
            let server = self.clone();
            tokio::spawn(async move {
                server.connection(stream, from.ip()).await;
                drop(permit);
            });
        }
    }

    /// Answers in whatever order answers come; the ids tell which is which (RFC 7766).
    async fn connection(self, stream: TcpStream, from: IpAddr) {
        let (mut reading, writing) = stream.into_split();
        let (replies, to_write) = mpsc::channel(PIPELINE_MAX);
        let writer = tokio::spawn(write(writing, to_write));
        let pipeline = Arc::new(Semaphore::new(PIPELINE_MAX));
        while let Ok(Ok(question)) = timeout(IDLE_MAX, read(&mut reading)).await {
            match self.step(from, &question, Transport::Tcp) {
                Step::Drop => break,
                Step::Reply(reply) => {
                    if replies.send(reply).await.is_err() {
                        break;
                    }
                }
                Step::Ask(pending) => {
                    // It is never closed.
                    let Ok(permit) = pipeline.clone().acquire_owned().await else { break };
                    let (server, replies) = (self.clone(), replies.clone());
                    tokio::spawn(async move {
                        // If it fails, nobody reads any more.
                        let _ = replies.send(server.ask(pending).await).await;
                        drop(permit);
                    });
                }
            }
        }
        drop(replies);
        // A panic was reported where it happened.
        let _ = writer.await;
    }
}

async fn reply_to(socket: &UdpSocket, to: SocketAddr, reply: &[u8]) {
    if let Err(error) = socket.send_to(reply, to).await {
        tracing::debug!(%to, %error, "an answer was not sent");
    }
}

async fn read(stream: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let mut question = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut question).await?;
    Ok(question)
}

/// Writes until nobody has anything to say, or nobody takes it.
async fn write(mut stream: OwnedWriteHalf, mut replies: mpsc::Receiver<Vec<u8>>) {
    while let Some(reply) = replies.recv().await {
        let Ok(length) = u16::try_from(reply.len()) else { return };
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&reply);
        if !matches!(timeout(IDLE_MAX, stream.write_all(&framed)).await, Ok(Ok(()))) {
            return;
        }
    }
}
