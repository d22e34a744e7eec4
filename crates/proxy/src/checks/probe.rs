//! One probe: what is sent, and what comes back.

use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, StatusCode};
use ostro_engine::balance::HostAddress;
use ostro_engine::cluster::{Probe, TcpProbe};
use ostro_engine::health_check::{Checker, ProbeResult};
use ostro_engine::{Headers, Request};
use ostro_http2::ErrorCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::Piece;
use crate::config::LiveCluster;
use crate::h2::{self, Handle};
use crate::socket::Socket;
use crate::upstream::{Carrier, Http1Call, UpstreamError, carrier_http1, carrier_http2, open};
use crate::wire::Wire;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Bytes of a gRPC answer that are looked at: it is one number.
const GRPC_BYTES_MAX: usize = 4 * 1024;
/// Bytes that are looked at for what a TCP probe is to receive.
const TCP_BYTES_MAX: usize = 64 * 1024;

/// The connection of one host's checks, between two of them.
#[derive(Default)]
pub(super) struct Kept {
    http1: Option<Box<Http1Call>>,
    http2: Option<Handle>,
}

/// The answer to a request.
struct Answer {
    status: StatusCode,
    headers: Headers,
    body: Vec<u8>,
    trailers: Option<Headers>,
}

impl Kept {
    /// Closes it.
    pub fn close(&mut self) {
        self.http1 = None;
        if let Some(handle) = self.http2.take() {
            handle.close(ErrorCode::NO_ERROR);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.close();
    }
}

/// Asks a host. Takes as long as the host does.
pub(super) async fn ask(live: &LiveCluster, checker: &RefCell<Checker>, kept: &mut Kept) -> ProbeResult {
    let (probe, target, reuses) = {
        let checker = checker.borrow();
        let settings = checker.settings();
        (settings.probe.clone(), checker.target(), settings.reuses_connection)
    };
    let result = match &probe {
        Probe::Tcp(probe) => tcp(live, &target, probe).await,
        Probe::Http(probe) => {
            let (request, body) = checker.borrow().http_request(probe);
            let exchange = Exchange { request, body, most: probe.buffer, is_http2: probe.http2 };
            let answer = exchange.run(live, &target, kept).await;
            answer.map(|answer| {
                checker.borrow().judge_http(probe, answer.status, &answer.headers, &answer.body)
            })
        }
        Probe::Grpc(probe) => {
            let (request, body) = checker.borrow().grpc_request(probe);
            let exchange = Exchange { request, body, most: GRPC_BYTES_MAX, is_http2: true };
            let answer = exchange.run(live, &target, kept).await;
            answer.map(|answer| {
                let at_the_end = answer.trailers.as_ref().unwrap_or(&answer.headers);
                let status = at_the_end.get(&GRPC_STATUS);
                checker.borrow().judge_grpc(answer.status, status, &answer.body)
            })
        }
    };
    if result.is_err() || !reuses {
        kept.close();
    }
    result.unwrap_or_else(|error| {
        tracing::debug!(reason = error.reason(), "a probe failed");
        ProbeResult::Network
    })
}

async fn connect(live: &LiveCluster, target: &HostAddress) -> Result<Socket, UpstreamError> {
    let HostAddress::Socket(address) = target else {
        return Err(UpstreamError::Connect("not an IP address".to_owned()));
    };
    open(&live.upstream.cluster, &live.bind, *address).await
}

async fn tcp(
    live: &LiveCluster,
    target: &HostAddress,
    probe: &TcpProbe,
) -> Result<ProbeResult, UpstreamError> {
    let mut socket = connect(live, target).await?;
    let broken = |_| UpstreamError::Terminated;
    socket.write_all(&probe.send).await.map_err(broken)?;
    let mut received = BytesMut::new();
    loop {
        if let Some(result) = probe.judge(&received) {
            return Ok(result);
        }
        if received.len() >= TCP_BYTES_MAX || socket.read_buf(&mut received).await.map_err(broken)? == 0 {
            return Err(UpstreamError::Terminated);
        }
    }
}

/// A request.
struct Exchange {
    request: Request,
    body: Bytes,
    /// Bytes of the answer's body that are looked at.
    most: usize,
    is_http2: bool,
}

impl Exchange {
    async fn run(
        self,
        live: &LiveCluster,
        target: &HostAddress,
        kept: &mut Kept,
    ) -> Result<Answer, UpstreamError> {
        let cluster = &live.upstream.cluster;
        if self.is_http2 {
            let usable = kept.http2.take().filter(|handle| handle.can_open() && handle.open_slots() > 0);
            let handle = match usable {
                Some(handle) => handle,
                None => {
                    let socket = connect(live, target).await?;
                    let config = Arc::new(crate::config::http2_client(cluster));
                    let (driver, handle) = h2::connect(socket, config);
                    tokio::task::spawn_local(driver);
                    handle
                }
            };
            kept.http2 = Some(handle.clone());
            let mut carrier = carrier_http2(handle);
            return self.exchange(&mut carrier).await;
        }
        let mut carrier = match kept.http1.take_if(|call| call.is_quiet()) {
            Some(call) => Carrier::Http1(call),
            None => carrier_http1(Wire::new(connect(live, target).await?, BytesMut::new()), cluster),
        };
        let answer = self.exchange(&mut carrier).await?;
        if let Carrier::Http1(mut call) = carrier {
            kept.http1 = call.renew().then_some(call);
        }
        Ok(answer)
    }

    async fn exchange(self, carrier: &mut Carrier) -> Result<Answer, UpstreamError> {
        let ends = self.body.is_empty();
        carrier.send_head(&self.request, ends, false)?;
        if !ends {
            carrier.send_data(self.body);
            carrier.send_end(None);
        }
        let head = loop {
            let head = poll_fn(|cx| {
                // What breaks is seen by whoever reads.
                let _ = carrier.poll_flush(cx);
                carrier.poll_head(cx)
            });
            let head = head.await?;
            if !head.status.is_informational() {
                break head;
            }
        };
        let mut answer =
            Answer { status: head.status, headers: head.headers, body: Vec::new(), trailers: None };
        let mut is_complete = head.ends;
        while !is_complete {
            match poll_fn(|cx| carrier.poll_body(cx)).await? {
                Piece::Data(data) => {
                    let room = self.most.saturating_sub(answer.body.len());
                    answer.body.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
                }
                Piece::Trailers(trailers) => {
                    answer.trailers = Some(trailers);
                    is_complete = true;
                }
                Piece::End => is_complete = true,
            }
        }
        Ok(answer)
    }
}
