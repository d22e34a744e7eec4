//! The mesh's side of the socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::{Answer, Refused, json, with};
use super::view;
use crate::status::Status;

/// Connections at a time; the next ones wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 64;
/// Of them, those that stay: streams and programs in pods.
const STREAMS_MAX: usize = 48;
/// Bytes of one request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long a connection may last that is not a stream.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// How long answers under way may take when the mesh ends.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
/// After a failed accept (out of descriptors, mostly) the next try waits, or it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Longest path of a socket that the kernel takes.
const SOCKET_PATH_MAX: usize = 107;

/// What the mesh lets callers see and do.
#[derive(Debug)]
pub struct Desk {
    /// What does not change.
    pub mesh: view::Mesh,
    /// The pods.
    pub status: watch::Receiver<Status>,
    /// Cancelled by `POST /v1/down`.
    pub down: CancellationToken,
    /// Places of streams.
    streams: Arc<Semaphore>,
}

impl Desk {
    /// A desk for this mesh.
    pub fn new(mesh: view::Mesh, status: watch::Receiver<Status>, down: CancellationToken) -> Self {
        Self { mesh, status, down, streams: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }
}

/// A socket at `path` that only this user can reach, from its first moment.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    if path.as_os_str().len() > SOCKET_PATH_MAX {
        let text = format!("a socket's path has {SOCKET_PATH_MAX} bytes at most: choose a shorter directory");
        return Err(io::Error::new(io::ErrorKind::InvalidFilename, text));
    }
    // Of the same length as a name, and nobody looks for it there.
    let aside = path.with_extension("new!");
    for stale in [path, &aside] {
        match fs::remove_file(stale) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let listener = UnixListener::bind(&aside)?;
    fs::set_permissions(&aside, Permissions::from_mode(0o600))?;
    fs::rename(&aside, path)?;
    Ok(listener)
}

/// Answers until `stop`; then lets answers under way end, for a moment, and takes the socket away.
pub async fn serve(listener: UnixListener, path: PathBuf, desk: Arc<Desk>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tasks = TaskTracker::new();
    let accepting = async {
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) if is_own(&stream) => {
                    tasks.spawn(attend(stream, desk.clone(), slot, stop.clone()));
                }
                Ok(_) => tracing::warn!("a caller of another user was not answered"),
                Err(error) => {
                    tracing::warn!(%error, "a caller was not answered");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
    // Only a convenience: a socket nobody listens at refuses.
    let _ = fs::remove_file(&path);
    tasks.close();
    let _ = tokio::time::timeout(FAREWELL_MAX, tasks.wait()).await;
}

fn is_own(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == geteuid().as_raw())
}

/// Says that a connection stays, so that it is not ended by the clock.
#[derive(Clone, Debug, Default)]
struct Stays(Arc<AtomicBool>);

/// One connection, one request.
async fn attend(stream: UnixStream, desk: Arc<Desk>, _slot: OwnedSemaphorePermit, stop: CancellationToken) {
    let stays = Stays::default();
    let told = stays.clone();
    let service = service_fn(move |request| {
        let (desk, stays) = (desk.clone(), told.clone());
        async move { io::Result::Ok(answer(&desk, request, &stays).await.unwrap_or_else(|r| r.answer())) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let deadline = async {
        tokio::time::sleep(REQUEST_MAX).await;
        while stays.0.load(Ordering::Relaxed) {
            tokio::time::sleep(REQUEST_MAX).await;
        }
    };
    tokio::select! {
        // How a caller's connection ends is his own affair.
        _ = connection.as_mut() => return,
        () = deadline => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    if !stays.0.load(Ordering::Relaxed) {
        let _ = connection.await;
    }
}

async fn answer(
    desk: &Arc<Desk>,
    request: Request<Incoming>,
    stays: &Stays,
) -> Result<Response<Answer>, Refused> {
    let path = request.uri().path().to_owned();
    let mut parts = path.split('/').skip(1);
    if parts.next() != Some("v1") {
        let text = format!("this mesh speaks version {} (paths begin with /v1)", super::VERSION);
        return Err(Refused::new(StatusCode::NOT_FOUND, text));
    }
    let parts: Vec<&str> = parts.collect();
    let method = request.method().clone();
    match (method, parts.as_slice()) {
        (Method::GET, ["mesh"]) => Ok(json(StatusCode::OK, &desk.mesh)),
        (Method::GET, ["pods"]) if has_query(&request, "watch=true") => watch_pods(desk, stays),
        (Method::GET, ["pods"]) => Ok(json(StatusCode::OK, &view::Pods::from(&*desk.status.borrow()))),
        (Method::POST, ["down"]) => {
            desk.down.cancel();
            Ok(json(StatusCode::ACCEPTED, &serde_json::json!({})))
        }
        _ => Err(Refused::new(StatusCode::NOT_FOUND, format!("nothing at {} {path}", request.method()))),
    }
}

fn has_query(request: &Request<Incoming>, wanted: &str) -> bool {
    request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == wanted))
}

/// Each state of the pods as one line; a reader who is slow misses states, never the last one.
fn watch_pods(desk: &Arc<Desk>, stays: &Stays) -> Result<Response<Answer>, Refused> {
    let (pieces, body) = Answer::stream(stream_place(desk, stays)?);
    let mut status = desk.status.clone();
    tokio::spawn(async move {
        let mut said = None;
        loop {
            let now = view::Pods::from(&*status.borrow_and_update());
            if said.as_ref() != Some(&now) {
                let mut line = serde_json::to_vec(&now).unwrap_or_default();
                line.push(b'\n');
                if pieces.send(line.into()).await.is_err() {
                    return;
                }
                said = Some(now);
            }
            tokio::select! {
                changed = status.changed() => if changed.is_err() { return },
                () = pieces.closed() => return,
            }
        }
    });
    Ok(with(StatusCode::OK, "application/x-ndjson", body))
}

/// A place for a stream; from now on the connection is not ended by the clock.
fn stream_place(desk: &Desk, stays: &Stays) -> Result<OwnedSemaphorePermit, Refused> {
    let place = desk.streams.clone().try_acquire_owned().map_err(|_| {
        let text = format!("{STREAMS_MAX} streams and programs are open, which is the most; end one of them");
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, text)
    })?;
    stays.0.store(true, Ordering::Relaxed);
    Ok(place)
}
