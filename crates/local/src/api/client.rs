//! The caller's side of the socket.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::exec::{self, Descriptor, Heard, Order, Said};
use super::view;
use crate::meshes::{LOCK, MeshName, Meshes, SOCKET, Standing, name_option, try_lock};

/// How long an answer may take: as long as the mesh gives itself, and a little.
const ANSWER_MAX: Duration = Duration::from_secs(35);
/// Bytes of an answer's head that is read by hand.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How often an ending mesh is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// Processes of one mesh above the one that answers, with the one that the user sees.
const ANCESTORS_MAX: usize = 3;

/// Why a mesh did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is none. The user's to mend.
    #[error("no mesh named `{name}` runs{others}\n  start it:    ostro up{option} -f PATH\n  try one:     ostro demo", option = name_option(.name), others = others(.running))]
    NotRunning {
        /// The one that was meant.
        name: MeshName,
        /// Those that run.
        running: Vec<MeshName>,
    },
    /// It ended without cleaning up.
    #[error(
        "the mesh `{name}` was killed and is not running; it left files, but no process\n  clean up:      ostro down{option}\n  start again:   ostro up{option} ... (cleans up as well)",
        option = name_option(.name)
    )]
    Killed {
        /// Which.
        name: MeshName,
    },
    /// It is coming up or ending. Trying again helps.
    #[error("the mesh `{name}` is just starting or ending and does not answer yet; try again in a moment")]
    NotYet {
        /// Which.
        name: MeshName,
    },
    /// It is another user's.
    #[error("the mesh `{name}` belongs to {}; only its owner can use it\n  as its owner:   {} {command}{option}", whose(*.owner), sudo(*.owner), option = name_option(.name), command = "ostro ps")]
    Foreign {
        /// Which.
        name: MeshName,
        /// Whose.
        owner: u32,
    },
    /// It refused. Its words.
    #[error("{0}")]
    Refused(view::Refusal),
    /// The connection broke.
    #[error("the mesh did not answer to the end ({0})\n  is it still there:   ostro ps --all")]
    Broken(#[source] io::Error),
    /// Its directory cannot be looked at.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn others(running: &[MeshName]) -> String {
    let names: Vec<&str> = running.iter().map(MeshName::as_str).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(
            "\n  these run:   {} (say which: --name {})",
            names.join(", "),
            names.first().copied().unwrap_or_default()
        ),
    }
}

fn whose(owner: u32) -> String {
    if owner == 0 { "root".to_owned() } else { format!("the user with uid {owner}") }
}

fn sudo(owner: u32) -> String {
    if owner == 0 { "sudo".to_owned() } else { format!("sudo -u '#{owner}'") }
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
    ClientError::Broken(io::Error::other(error))
}

/// A mesh that answers.
#[derive(Clone, Debug)]
pub struct Client {
    name: MeshName,
    dir: PathBuf,
}

impl Client {
    /// The mesh of this name, if it answers.
    pub async fn open(meshes: &Meshes, name: &MeshName) -> Result<Self, ClientError> {
        let client = Self { name: name.clone(), dir: meshes.dir(name) };
        let Err(error) = client.connect().await else { return Ok(client) };
        let name = name.clone();
        Err(match meshes.standing(&name) {
            Standing::Held => ClientError::NotYet { name },
            Standing::Left => ClientError::Killed { name },
            Standing::Foreign { owner } => ClientError::Foreign { name, owner },
            Standing::None if error.kind() == io::ErrorKind::PermissionDenied => {
                ClientError::File { path: client.dir, source: error }
            }
            Standing::None => ClientError::NotRunning { name, running: running(meshes) },
        })
    }

    /// Its name.
    pub fn name(&self) -> &MeshName {
        &self.name
    }

    async fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.dir.join(SOCKET)).await
    }

    /// The mesh as a whole.
    pub async fn mesh(&self) -> Result<view::Mesh, ClientError> {
        self.get("/v1/mesh").await
    }

    /// Its pods.
    pub async fn pods(&self) -> Result<view::Pods, ClientError> {
        self.get("/v1/pods").await
    }

    /// Its pods now, and whenever something about them changes.
    pub async fn watch_pods(&self) -> Result<Lines, ClientError> {
        let response = self.send(Method::GET, "/v1/pods?watch=true", Bytes::new()).await?;
        Ok(Lines { body: response.into_body(), rest: Vec::new() })
    }

    /// Everything in force that comes from files.
    pub async fn objects(&self) -> Result<view::Objects, ClientError> {
        self.get("/v1/objects").await
    }

    /// Puts objects in force.
    pub async fn apply(&self, apply: &view::Apply) -> Result<view::Applied, ClientError> {
        self.post("/v1/apply", apply).await
    }

    /// Takes objects out of force that were applied.
    pub async fn delete(&self, delete: &view::Delete) -> Result<view::Applied, ClientError> {
        self.post("/v1/delete", delete).await
    }

    /// Asks for a number of replicas.
    pub async fn scale(&self, scale: &view::Scale) -> Result<view::Scaled, ClientError> {
        self.post("/v1/scale", scale).await
    }

    /// What a container wrote, piece by piece.
    pub async fn logs(&self, pod: &view::Pod, container: &str, which: &Logs) -> Result<Pieces, ClientError> {
        let mut query = format!("follow={}&previous={}", which.follow, which.previous);
        if let Some(lines) = which.tail {
            query.push_str(&format!("&tail={lines}"));
        }
        let path = format!("/v1/pods/{}/{}/logs/{container}?{query}", pod.namespace, pod.name);
        Ok(Pieces { body: self.send(Method::GET, &path, Bytes::new()).await?.into_body() })
    }

    /// Runs a program in a pod, with these as its standard input, output and error.
    pub async fn exec(
        &self,
        pod: &view::Pod,
        order: &Order,
        stdio: [&dyn Descriptor; 3],
    ) -> Result<Session, ClientError> {
        let mut stream = self.connect().await.map_err(ClientError::Broken)?;
        let head = format!(
            "POST /v1/pods/{}/{}/exec HTTP/1.1\r\nHost: mesh\r\nConnection: upgrade\r\nUpgrade: {}\r\n\r\n",
            pod.namespace,
            pod.name,
            exec::PROTOCOL
        );
        stream.write_all(head.as_bytes()).await.map_err(ClientError::Broken)?;
        upgraded(&mut stream).await?;
        exec::send(&mut stream, order, stdio).await.map_err(ClientError::Broken)?;
        let (reader, writer) = stream.into_split();
        Ok(Session { reader: BufReader::new(reader), writer })
    }

    /// Ends the mesh; returns when its processes are gone.
    pub async fn down(&self) -> Result<(), ClientError> {
        let processes = self.processes().await.map_err(ClientError::Broken)?;
        let _: serde_json::Value = self.post("/v1/down", &serde_json::json!({})).await?;
        while !processes.iter().all(has_ended) {
            tokio::time::sleep(LOOK).await;
        }
        let lock = self.dir.join(LOCK);
        while try_lock(&lock, false).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// The mesh's process, and those above it that run the same program for its sake.
    async fn processes(&self) -> io::Result<Vec<OwnedFd>> {
        let peer = self.connect().await?.peer_cred()?.pid();
        let program = |pid: i32| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
        let own = peer.and_then(program);
        let pids = std::iter::successors(peer, |pid| parent(*pid)).take(ANCESTORS_MAX);
        let own = pids.take_while(|pid| own.is_some() && program(*pid) == own);
        // One that is gone already need not be waited for.
        Ok(own.filter_map(|pid| pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()).collect())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.whole(Method::GET, path, Bytes::new()).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(broken)?;
        self.whole(Method::POST, path, body.into()).await
    }

    async fn whole<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let answer = async {
            let response = self.send(method, path, body).await?;
            let bytes = response.into_body().collect().await.map_err(broken)?.to_bytes();
            serde_json::from_slice(&bytes).map_err(broken)
        };
        tokio::time::timeout(ANSWER_MAX, answer).await.map_err(broken)?
    }

    /// One request on a connection of its own; an answer that is not a refusal.
    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, ClientError> {
        let stream = self.connect().await.map_err(ClientError::Broken)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // How it ends shows in what is asked of it.
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "mesh");
        let request = request.body(Full::new(body)).map_err(broken)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        match response.status() {
            StatusCode::OK | StatusCode::ACCEPTED => Ok(response),
            _ => Err(refused(response).await),
        }
    }
}

/// Reads the answer to an upgrade, byte by byte: what follows it is not HTTP.
async fn upgraded(stream: &mut UnixStream) -> Result<(), ClientError> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        head.push(stream.read_u8().await.map_err(ClientError::Broken)?);
    }
    let head = String::from_utf8_lossy(&head);
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status == "101" {
        return Ok(());
    }
    let mut body = Vec::new();
    stream.take(HEAD_BYTES_MAX as u64).read_to_end(&mut body).await.map_err(ClientError::Broken)?;
    Err(serde_json::from_slice(&body).map_or_else(|_| broken(status.to_owned()), ClientError::Refused))
}

/// A program that runs in a pod.
#[derive(Debug)]
pub struct Session {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Session {
    /// What becomes of it; `signals` are passed on meanwhile. Going away ends the program.
    pub async fn end(self, mut signals: mpsc::Receiver<i32>) -> Result<Heard, ClientError> {
        let Self { mut reader, mut writer } = self;
        let mut line = Vec::new();
        let heard = reader.read_until(b'\n', &mut line);
        let passing = async {
            while let Some(number) = signals.recv().await {
                let Ok(mut text) = serde_json::to_vec(&Said::Signal(number)) else { continue };
                text.push(b'\n');
                if writer.write_all(&text).await.is_err() {
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            read = heard => {
                read.map_err(ClientError::Broken)?;
            }
            () = passing => {}
        }
        if line.is_empty() {
            let text = "the pod has ended, and the program with it";
            return Err(ClientError::Refused(view::Refusal { error: text.to_owned(), details: Vec::new() }));
        }
        serde_json::from_slice(&line).map_err(broken)
    }
}

async fn refused(response: Response<Incoming>) -> ClientError {
    let status = response.status();
    let Ok(body) = response.into_body().collect().await else { return broken(status.to_string()) };
    match serde_json::from_slice(&body.to_bytes()) {
        Ok(refusal) => ClientError::Refused(refusal),
        Err(_) => broken(status.to_string()),
    }
}

/// Names of the meshes that run.
pub fn running(meshes: &Meshes) -> Vec<MeshName> {
    let names = meshes.names().unwrap_or_default();
    names.into_iter().filter(|name| meshes.standing(name) == Standing::Held).collect()
}

/// A process's descriptor is readable once it has ended. One that cannot be asked is not waited for.
fn has_ended(process: &OwnedFd) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())) != Ok(0)
}

fn parent(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// Which part of a log is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Logs {
    /// Go on with what is written from now on.
    pub follow: bool,
    /// Of the program before it was last started again.
    pub previous: bool,
    /// Only the last lines.
    pub tail: Option<usize>,
}

/// A stream of bytes.
#[derive(Debug)]
pub struct Pieces {
    body: Incoming,
}

impl Pieces {
    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, ClientError>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(bytes) => return Some(Ok(bytes)),
                    Err(_) => continue,
                },
                Err(error) => return Some(Err(broken(error))),
            }
        }
    }
}

/// A stream of JSON lines.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    /// The next line; `None` when the mesh ends.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Option<Result<T, ClientError>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).map_err(broken));
            }
            match self.body.frame().await? {
                Ok(frame) => self.rest.extend(frame.into_data().unwrap_or_default()),
                Err(error) => return Some(Err(broken(error))),
            }
        }
    }
}
