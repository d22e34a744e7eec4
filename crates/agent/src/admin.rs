//! A proxy's admin interface, as far as it is asked: Envoy's, which ours answers in the same form.
//!
//! What a program has to answer to stand here (of everything else nothing is relied on):
//!
//! | request | by whom | what of the answer counts |
//! |---|---|---|
//! | `GET /ready` | readiness | status 200, once the first configuration is in force |
//! | `GET /stats?filter=REGEX` | readiness | lines `NAME: VALUE` of `cluster_manager.cds.update_success`, `listener_manager.lds.update_success`, `listener_manager.workers_started` |
//! | `POST /drain_listeners?graceful&skip_exit` | the end of a pod | connections end after what they are doing; new ones are still taken |
//! | `GET /stats?format=json&usedonly&histogram_buckets=cumulative&filter=REGEX` | the live view | of each cluster `upstream_rq_completed`, `upstream_rq_5xx`, `upstream_cx_total`, `ssl.handshake`, and the buckets of `upstream_rq_time` |
//! | `GET /stats/prometheus` | whoever scrapes the pod's port 15090 | as the proxy writes it |
//!
//! After SIGTERM it has to end within two seconds, if it was drained before.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::ADMIN_PORT;

/// Longest answer read; the statistics of a large mesh are some MB.
const BODY_BYTES_MAX: usize = 64 << 20;
/// An admin interface on the loopback that takes longer is not going to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why a proxy did not answer. All of these are its state and worth another try.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody listens yet, or no longer.
    #[error("cannot connect to the proxy's admin interface: {0}")]
    Connect(#[source] std::io::Error),
    /// The connection broke or the answer made no sense.
    #[error("the proxy's admin interface failed: {0}")]
    Exchange(#[source] hyper::Error),
    /// The answer was cut off or too long.
    #[error("the answer of the proxy's admin interface could not be read: {0}")]
    Body(String),
    /// No answer in time.
    #[error("the proxy's admin interface did not answer within {TIMEOUT:?}")]
    Timeout,
}

/// How far a starting proxy has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// It has its first clusters and listeners, and its workers run.
    Yes,
    /// Not yet, and what it waits for.
    No(&'static str),
}

/// A client for one admin interface.
#[derive(Clone, Copy, Debug)]
pub struct Admin {
    address: SocketAddr,
}

impl Admin {
    /// The admin interface where our bootstrap puts it.
    pub fn local() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], ADMIN_PORT)) }
    }

    /// An admin interface somewhere else.
    pub fn at(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Whether this proxy can serve: it was given clusters and listeners once, and its workers run.
    pub async fn ready(&self) -> Result<Ready, AdminError> {
        let (status, _) = self.call(Method::GET, "/ready").await?;
        if status != StatusCode::OK {
            return Ok(Ready::No("initialization"));
        }
        let filter = "/stats?filter=^(cluster_manager.cds.update_success|listener_manager.lds.update_success|listener_manager.workers_started)$";
        let (_, body) = self.call(Method::GET, filter).await?;
        Ok(read_stats(&String::from_utf8_lossy(&body)))
    }

    /// Asks it to let its connections end after what they are doing.
    pub async fn drain(&self) -> Result<(), AdminError> {
        self.call(Method::POST, "/drain_listeners?graceful&skip_exit").await.map(|_| ())
    }

    /// One request; the whole answer.
    pub async fn call(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), AdminError> {
        tokio::time::timeout(TIMEOUT, self.exchange(method, path)).await.unwrap_or(Err(AdminError::Timeout))
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), AdminError> {
        let stream = TcpStream::connect(self.address).await.map_err(AdminError::Connect)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(AdminError::Exchange)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "envoy-admin")
            .body(Empty::<Bytes>::new())
            .map_err(|e| AdminError::Body(e.to_string()))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(AdminError::Exchange)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), BODY_BYTES_MAX)
                .collect()
                .await
                .map_err(|e| AdminError::Body(e.to_string()))?;
            Ok((status, body.to_bytes()))
        };
        // The connection makes progress only while it is polled; it ends with the exchange.
        tokio::pin!(answer);
        let mut connection = std::pin::pin!(connection);
        let mut open = true;
        loop {
            tokio::select! {
                result = &mut answer => return result,
                _ = &mut connection, if open => open = false,
            }
        }
    }
}

/// Reads `name: value` lines; a name that is absent counts as zero.
fn read_stats(text: &str) -> Ready {
    let value = |name: &str| {
        text.lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| value.trim().parse::<u64>().ok())
            .unwrap_or(0)
    };
    if value("cluster_manager.cds.update_success") == 0 {
        Ready::No("clusters")
    } else if value("listener_manager.lds.update_success") == 0 {
        Ready::No("listeners")
    } else if value("listener_manager.workers_started") == 0 {
        Ready::No("workers")
    } else {
        Ready::Yes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_needs_clusters_listeners_and_workers() {
        let full = "cluster_manager.cds.update_success: 1\nlistener_manager.lds.update_success: 2\nlistener_manager.workers_started: 1\n";
        assert_eq!(read_stats(full), Ready::Yes);
        assert_eq!(read_stats(""), Ready::No("clusters"));
        assert_eq!(
            read_stats(&full.replace("update_success: 2", "update_success: 0")),
            Ready::No("listeners")
        );
        assert_eq!(read_stats(&full.replace("started: 1", "started: 0")), Ready::No("workers"));
    }
}
