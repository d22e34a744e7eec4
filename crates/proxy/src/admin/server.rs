//! The thread, its connections and their requests.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, SERVER};
use http::{Method, Request, Response};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::answer::{Answer, Body, Out};
use super::{Admin, paths};

/// Connections that are open at once; further ones wait to be accepted.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// Answers that are written at once; further ones wait.
const WRITERS_MAX: usize = 4;
/// Chunks of an answer that wait to be sent.
const CHUNKS_MAX: usize = 4;
/// A client that takes longer to say what it wants is not going to.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A pause after the system could not accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin interface while it runs. Dropping it ends it.
pub(crate) struct AdminHandle {
    address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl AdminHandle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminHandle {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the admin interface's thread has panicked");
        }
    }
}

/// Serves the admin interface on a bound socket.
///
/// # Errors
/// The system gives no thread or no event queue.
pub(crate) fn serve(listener: std::net::TcpListener, admin: Arc<Admin>) -> io::Result<AdminHandle> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(WRITERS_MAX)
        .thread_name("admin-writer")
        .build()?;
    let (end, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.block_on(async {
            let listener = match TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "the admin interface cannot be served"),
            };
            tokio::select! {
                () = accept(&listener, &admin) => {}
                _ = ended => {}
            }
        });
        // Writers whose readers have gone end at their next chunk.
        runtime.shutdown_background();
    })?;
    Ok(AdminHandle { address, end: Some(end), thread: Some(thread) })
}

async fn accept(listener: &TcpListener, admin: &Arc<Admin>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let admin = Arc::clone(admin);
                tokio::spawn(async move {
                    connection(stream, admin).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin interface cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, admin: Arc<Admin>) {
    let service = hyper::service::service_fn(move |request| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(respond(&admin, &request)) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the admin interface ended");
    }
}

fn respond(admin: &Arc<Admin>, request: &Request<Incoming>) -> Response<Chunks> {
    let is_post = request.method() == Method::POST;
    let uri = request.uri();
    let answer = paths::answer(admin, is_post, uri.path(), uri.query().unwrap_or_default());
    let Answer { status, content_type, body } = answer;
    let mut response = Response::new(start(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    headers.insert(SERVER, HeaderValue::from_static("envoy"));
    response
}

/// Begins to write what is written while it is sent.
fn start(body: Body) -> Chunks {
    match body {
        Body::Whole(bytes) => Chunks::Whole(Some(Bytes::from(bytes))),
        Body::Written(write) => {
            let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
            tokio::task::spawn_blocking(move || {
                write(&mut Out::new(move |chunk| sender.blocking_send(Bytes::from(chunk)).is_ok()));
            });
            Chunks::Written(chunks)
        }
    }
}

/// The body of a response.
enum Chunks {
    Whole(Option<Bytes>),
    Written(mpsc::Receiver<Bytes>),
}

impl HttpBody for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = match self.get_mut() {
            Chunks::Whole(bytes) => Poll::Ready(bytes.take()),
            Chunks::Written(chunks) => chunks.poll_recv(context),
        };
        chunk.map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Chunks::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Chunks::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Chunks::Written(_) => SizeHint::default(),
        }
    }
}
