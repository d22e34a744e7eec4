//! The mesh's side of the socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::geteuid;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::applied::{Store, key_of};
use super::body::{Answer, Refused, json, with};
use super::{APPLIED, PODS, exec, view};
use crate::identity::Identity;
use crate::logs::{self, Follow, Instance, Log};
use crate::plan::{PodName, REPLICAS_MAX};
use crate::status::Status;
use crate::wishes::{InForce, Scales};
use ostro_api::similar;

/// Connections at a time; the next ones wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 64;
/// Of them, those that stay: streams and programs in pods.
const STREAMS_MAX: usize = 48;
/// Bytes of one request's body.
const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Bytes of one request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long a connection may last that is not a stream.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// How long an answer waits for the mesh to have read what was put in force.
const READ_MAX: Duration = Duration::from_secs(2);
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
    /// The objects of the files.
    pub in_force: watch::Receiver<InForce>,
    /// Numbers of replicas that were asked for.
    pub scales: watch::Sender<Scales>,
    /// What was applied.
    pub applied: Mutex<Store>,
    /// Who everything runs as.
    pub identity: Identity,
    /// Cancelled by `POST /v1/down`.
    pub down: CancellationToken,
    /// Places of streams: [`streams`].
    pub streams: Arc<Semaphore>,
}

/// As many places as there are for streams.
pub fn streams() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(STREAMS_MAX))
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
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
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
        (Method::GET, ["objects"]) => Ok(json(StatusCode::OK, &objects(desk))),
        (Method::POST, ["apply"]) => {
            let (apply, desk) = (read(request).await?, desk.clone());
            put(desk, move |store, in_force| store.apply(&apply, in_force)).await
        }
        (Method::POST, ["delete"]) => {
            let (delete, desk) = (read(request).await?, desk.clone());
            put(desk, move |store, in_force| store.delete(&delete, in_force)).await
        }
        (Method::POST, ["scale"]) => Ok(json(StatusCode::OK, &scale(desk, &read(request).await?)?)),
        (Method::GET, ["pods", namespace, name, "logs", container]) => {
            let pod = PodName { namespace: (*namespace).to_owned(), name: (*name).to_owned() };
            logs(desk, &request, &pod, container, stays).await
        }
        (Method::POST, ["pods", namespace, name, "exec"]) => {
            let pod = PodName { namespace: (*namespace).to_owned(), name: (*name).to_owned() };
            upgrade(desk, request, pod, stays)
        }
        (Method::POST, ["down"]) => {
            desk.down.cancel();
            Ok(json(StatusCode::ACCEPTED, &serde_json::json!({})))
        }
        _ => Err(Refused::new(StatusCode::NOT_FOUND, format!("nothing at {} {path}", request.method()))),
    }
}

impl Desk {
    fn store(&self) -> MutexGuard<'_, Store> {
        // What it holds is what is on disk, whatever became of the one who held it last.
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_force(&self) -> InForce {
        self.in_force.borrow().clone()
    }
}

/// Changes what was applied, and answers when the mesh has read it, so that the next command finds it. Reading and judging
/// texts takes time that others should not wait for.
async fn put(
    desk: Arc<Desk>,
    work: impl FnOnce(&mut Store, &InForce) -> Result<view::Applied, Refused> + Send + 'static,
) -> Result<Response<Answer>, Refused> {
    let own = desk.clone();
    let done = tokio::task::spawn_blocking(move || work(&mut own.store(), &own.in_force())).await;
    let done = done.map_err(|e| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))??;
    let mut in_force = desk.in_force.clone();
    let read = in_force.wait_for(|now| done.objects.iter().all(|change| desk.store().is_read(change, now)));
    // What is written is written, whoever has read it; a mesh that ends reads nothing more.
    let _ = tokio::time::timeout(READ_MAX, read).await;
    Ok(json(StatusCode::OK, &done))
}

fn objects(desk: &Desk) -> view::Objects {
    let store = desk.mesh.state.join(APPLIED);
    let in_force = desk.in_force();
    let objects = in_force.values().map(|object| view::Object {
        key: key_of(object.key()),
        origin: object.origin.to_string(),
        applied: Path::new(object.origin.file.as_ref()).starts_with(&store),
    });
    view::Objects { objects: objects.collect() }
}

/// Kinds that have a number of replicas.
const SCALED: [&str; 3] = ["Deployment", "StatefulSet", "ReplicaSet"];

fn scale(desk: &Desk, scale: &view::Scale) -> Result<view::Scaled, Refused> {
    let view::Scale { workload, replicas } = scale;
    let refuse = |text| Err(Refused::new(StatusCode::UNPROCESSABLE_ENTITY, text));
    if *replicas > REPLICAS_MAX {
        return refuse(format!(
            "{replicas} replicas are more than the {REPLICAS_MAX} that one workload may have here"
        ));
    }
    let in_force = desk.in_force();
    let scalable = || in_force.values().filter(|object| SCALED.contains(&object.meta.kind.as_str()));
    let found = scalable().find(|object| key_of(object.key()) == *workload);
    let Some(object) = found else {
        let there = scalable().filter(|object| object.meta.namespace.as_str() == workload.namespace);
        let hint = similar::did_you_mean(&workload.name, there.map(|object| object.meta.name.as_str()));
        let view::Key { kind, namespace, name } = workload;
        return refuse(format!("no {kind} `{name}` in namespace {namespace}{hint}"));
    };
    let mut written = None;
    desk.scales.send_modify(|scales| written = scales.set(object, *replicas));
    Ok(view::Scaled { written: written.unwrap_or(1), origin: object.origin.to_string() })
}

/// The way from a request to a program in a pod.
fn upgrade(
    desk: &Arc<Desk>,
    request: Request<Incoming>,
    pod: PodName,
    stays: &Stays,
) -> Result<Response<Answer>, Refused> {
    if request.headers().get(header::UPGRADE).is_none_or(|protocol| protocol != exec::PROTOCOL) {
        let text = format!("programs are run by `Upgrade: {}`", exec::PROTOCOL);
        return Err(Refused::new(StatusCode::UPGRADE_REQUIRED, text));
    }
    let (place, setting) = {
        let status = desk.status.borrow();
        let found = status.pods.iter().find(|known| known.name == pod);
        let found = found.ok_or_else(|| Refused::new(StatusCode::NOT_FOUND, format!("no pod {pod}")))?;
        let place = found.place.clone().ok_or_else(|| {
            let PodName { namespace, name } = &pod;
            let text = format!(
                "pod {name} is {} and takes no programs now\n  what it wrote:        ostro logs {name} -n \
                 {namespace}\n  what runs instead:    ostro ps -n {namespace}",
                found.summary()
            );
            Refused::new(StatusCode::CONFLICT, text)
        })?;
        (place, exec::Setting { env: found.env(), user: desk.identity.program_user() })
    };
    let held = stream_place(desk, stays)?;
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<UnixStream>>() else { return };
        let Ok(stream) = parts.io.into_inner().into_std() else { return };
        // It ends at once with the pod, and its program with it.
        if let Ok(Err(error)) = place.spawn(exec::serve(stream, setting)).await {
            tracing::debug!(%pod, %error, "a caller's program");
        }
        drop(held);
    });
    let mut response = Response::new(Answer::Whole(None));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(exec::PROTOCOL));
    Ok(response)
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

/// What a container wrote: `?tail=N`, `?previous=true`, `?follow=true`.
async fn logs(
    desk: &Arc<Desk>,
    request: &Request<Incoming>,
    pod: &PodName,
    container: &str,
    stays: &Stays,
) -> Result<Response<Answer>, Refused> {
    let known = {
        let status = desk.status.borrow();
        let pod = status.pods.iter().find(|known| known.name == *pod);
        pod.is_some_and(|pod| pod.containers.iter().any(|known| known.name == container))
    };
    if !known {
        let text = format!("no container `{container}` in a pod {pod}");
        return Err(Refused::new(StatusCode::NOT_FOUND, text));
    }
    let log = Log::new(&desk.mesh.state.join(PODS).join(pod.to_string()).join(logs::DIRECTORY), container);
    let tail = query(request, "tail").and_then(|lines| lines.parse().ok());
    let failed = |error: io::Error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    if has_query(request, "follow=true") {
        let follow = log.follow(tail).map_err(failed)?;
        let (pieces, body) = Answer::stream(stream_place(desk, stays)?);
        tokio::spawn(pass_on(follow, pieces, desk.status.clone(), pod.clone()));
        return Ok(with(StatusCode::OK, "text/plain", body));
    }
    let instance = match has_query(request, "previous=true") {
        true => Instance::Previous,
        false => Instance::Present,
    };
    let text = tokio::task::spawn_blocking(move || log.tail(instance, tail)).await;
    let text = text.map_err(|error| failed(io::Error::other(error)))?.map_err(failed)?;
    match text {
        Some(text) => Ok(with(StatusCode::OK, "text/plain", Answer::Whole(Some(text.into())))),
        None if instance == Instance::Previous => {
            let text =
                format!("container `{container}` of {pod} was not started before; leave --previous out");
            Err(Refused::new(StatusCode::NOT_FOUND, text))
        }
        None => Ok(with(StatusCode::OK, "text/plain", Answer::Whole(None))),
    }
}

/// Passes a log on as it grows, until its reader or its pod is gone.
async fn pass_on(
    mut follow: Follow,
    pieces: mpsc::Sender<Bytes>,
    mut status: watch::Receiver<Status>,
    pod: PodName,
) {
    let gone = async {
        // Fails once the mesh ends, which is as good.
        let _ = status.wait_for(|status| status.pods.iter().all(|known| known.name != pod)).await;
    };
    tokio::pin!(gone);
    loop {
        tokio::select! {
            read = follow.next() => match read {
                Ok(Some(bytes)) => if pieces.send(bytes.into()).await.is_err() { return },
                Ok(None) | Err(_) => return,
            },
            () = &mut gone => {
                // Its last words.
                while let Ok(Some(bytes)) = follow.ready() {
                    if pieces.send(bytes.into()).await.is_err() {
                        return;
                    }
                }
                return;
            }
            () = pieces.closed() => return,
        }
    }
}

fn query<'a>(request: &'a Request<Incoming>, name: &str) -> Option<&'a str> {
    request.uri().query()?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
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

/// A request's body, within its bound, as what it should be.
async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refused> {
    let limited = Limited::new(request.into_body(), REQUEST_BYTES_MAX);
    let bytes: Bytes = match limited.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let text = format!("more than {} MiB in one request; apply in parts", REQUEST_BYTES_MAX >> 20);
            return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        Err(error) => return Err(Refused::new(StatusCode::BAD_REQUEST, error.to_string())),
    };
    serde_json::from_slice(&bytes).map_err(|e| Refused::new(StatusCode::BAD_REQUEST, e.to_string()))
}
