//! How the control plane is reached: the seam where TLS will be put in.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ostro_transport::dns::{Family, Resolve};
use ostro_transport::{ConnectOptions, connect, connect_unix};
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection to the control plane.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection being made.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;

/// Whoever connects to the control plane. Bounds the time that takes itself.
pub trait Dial: Send + Sync + 'static {
    /// Connects, ready for HTTP/2.
    fn dial(&self) -> Dialing;
}

/// Where a control plane listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A name or an address, and a port.
    Host {
        /// Resolved for each attempt.
        name: String,
        /// The port.
        port: u16,
    },
    /// A unix socket; `@name` is an abstract one.
    Unix(PathBuf),
}

/// Connects in plain text, to the first target that answers.
#[derive(Clone)]
pub struct PlainDial(Arc<Plain>);

struct Plain {
    targets: Vec<Target>,
    resolver: Arc<dyn Resolve>,
    options: Box<OptionsFor>,
    timeout: Duration,
}

/// How the socket toward an address is made.
type OptionsFor = dyn Fn(IpAddr) -> ConnectOptions + Send + Sync;

impl PlainDial {
    /// `options`: how the socket toward an address is made; `timeout` is that of one address.
    pub fn new(
        targets: Vec<Target>,
        resolver: Arc<dyn Resolve>,
        options: impl Fn(IpAddr) -> ConnectOptions + Send + Sync + 'static,
        timeout: Duration,
    ) -> PlainDial {
        PlainDial(Arc::new(Plain { targets, resolver, options: Box::new(options), timeout }))
    }
}

impl fmt::Debug for PlainDial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PlainDial").field(&self.0.targets).finish()
    }
}

impl Dial for PlainDial {
    fn dial(&self) -> Dialing {
        let plain = self.0.clone();
        Box::pin(async move {
            let mut last = io::Error::other("no address of a control plane is configured");
            for target in &plain.targets {
                match plain.reach(target).await {
                    Ok(connected) => return Ok(connected),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }
}

impl Plain {
    async fn reach(&self, target: &Target) -> io::Result<Box<dyn Io>> {
        match target {
            Target::Unix(path) => {
                let connected = self.in_time(connect_unix(path)).await;
                Ok(Box::new(connected.map_err(|error| place(&path.display(), error))?))
            }
            Target::Host { name, port } => {
                let answer = self.resolver.lookup(name, Family::V4Preferred).await;
                let answer = answer.map_err(|error| io::Error::other(format!("{name}: {error}")))?;
                let mut last = io::Error::other(format!("{name} has no address"));
                for address in answer.addresses.iter() {
                    let to = SocketAddr::new(*address, *port);
                    match self.in_time(connect(to, &(self.options)(*address))).await {
                        Ok(connected) => return Ok(Box::new(connected)),
                        Err(error) => last = place(&to, error),
                    }
                }
                Err(last)
            }
        }
    }

    async fn in_time<T>(&self, connecting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        tokio::time::timeout(self.timeout, connecting)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

fn place(at: &dyn fmt::Display, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{at}: {error}"))
}
