//! What probes send, and what answers mean: HTTP, TCP and gRPC.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderName};
use http::{HeaderValue, Method, StatusCode};
use memchr::memmem;
use prost::Message;

use super::{Checker, ProbeResult};
use crate::cluster::{GrpcProbe, HttpProbe, StatusRange, TcpProbe};
use crate::{Headers, Request};

/// Who asks.
const USER_AGENT: HeaderValue = HeaderValue::from_static("Envoy/HC");
/// A response's word that its host is to be taken out at once.
const IMMEDIATE_FAIL: HeaderName = HeaderName::from_static("x-envoy-immediate-health-check-fail");
/// A response's word that its host is degraded.
const DEGRADED: HeaderName = HeaderName::from_static("x-envoy-degraded");
/// A response's word which cluster it is of.
const CHECKED_CLUSTER: HeaderName = HeaderName::from_static("x-envoy-upstream-healthchecked-cluster");
/// The method that gRPC servers answer for their health.
const GRPC_PATH: HeaderValue = HeaderValue::from_static("/grpc.health.v1.Health/Check");
/// Bytes before a gRPC message: whether it is compressed, and its length.
const GRPC_PREFIX: usize = 5;
/// The most that a gRPC answer may have: it is one number.
const GRPC_ANSWER_MAX: usize = 1_024;

impl Checker {
    /// The `host` of a probe: the endpoint's for health checks, the check's, or the cluster's name.
    fn authority(&self, configured: Option<&HeaderValue>) -> HeaderValue {
        let own = HeaderValue::from_str(&self.host.health_check.hostname).ok();
        let own = own.filter(|name| !name.is_empty());
        own.or_else(|| configured.cloned())
            .or_else(|| HeaderValue::from_str(&self.upstream.cluster.name).ok())
            .unwrap_or(HeaderValue::from_static(""))
    }

    /// The request of an HTTP probe, with its body.
    pub fn http_request(&self, probe: &HttpProbe) -> (Request, Bytes) {
        let authority = self.authority(probe.host.as_ref());
        let mut request = Request::new(probe.method.clone(), authority, probe.path.clone());
        request.headers.append(header::USER_AGENT, USER_AGENT);
        if !probe.send.is_empty() {
            request.headers.append(header::CONTENT_LENGTH, HeaderValue::from(probe.send.len()));
        }
        add(&mut request, &probe.headers_to_add);
        for name in &probe.headers_to_remove {
            request.headers.remove(name);
        }
        (request, probe.send.clone())
    }

    /// What the answer to an HTTP probe means. `body`: its beginning, up to [`HttpProbe::buffer`] bytes.
    pub fn judge_http(
        &self,
        probe: &HttpProbe,
        status: StatusCode,
        headers: &Headers,
        body: &[u8],
    ) -> ProbeResult {
        let failed = if headers.contains(&IMMEDIATE_FAIL) {
            ProbeResult::ImmediateFail
        } else {
            ProbeResult::Unhealthy
        };
        if !is_expected(&probe.expected, status) {
            return match is_within(&probe.retriable, status) {
                true => ProbeResult::Retriable,
                false => failed,
            };
        }
        if !has_all(body, &probe.receive) {
            return failed;
        }
        if let Some(service) = &probe.service_name {
            self.upstream.health_stats.verify_cluster.inc();
            let name = headers.get(&CHECKED_CLUSTER).map_or(&b""[..], HeaderValue::as_bytes);
            if !service.matches(name) {
                return ProbeResult::Unhealthy;
            }
        }
        if headers.contains(&DEGRADED) { ProbeResult::Degraded } else { ProbeResult::Healthy }
    }

    /// The request of a gRPC probe, with its body.
    pub fn grpc_request(&self, probe: &GrpcProbe) -> (Request, Bytes) {
        let mut request = Request::new(Method::POST, self.authority(probe.authority.as_ref()), GRPC_PATH);
        request.headers.append(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        request.headers.append(header::TE, HeaderValue::from_static("trailers"));
        request.headers.append(header::USER_AGENT, USER_AGENT);
        add(&mut request, &probe.metadata);
        let message = CheckRequest { service: probe.service.clone() };
        let mut body = BytesMut::with_capacity(GRPC_PREFIX + message.encoded_len());
        body.put_u8(0);
        body.put_u32(u32::try_from(message.encoded_len()).unwrap_or(0));
        body.extend_from_slice(&message.encode_to_vec());
        (request, body.freeze())
    }

    /// What the answer to a gRPC probe means: `grpc_status` is in the trailers, or in the headers if there was nothing else.
    pub fn judge_grpc(
        &self,
        status: StatusCode,
        grpc_status: Option<&HeaderValue>,
        body: &[u8],
    ) -> ProbeResult {
        let is_ok = status == StatusCode::OK && grpc_status.is_some_and(|code| code == "0");
        let message = is_ok.then(|| grpc_message(body)).flatten();
        let answer = message.and_then(|message| CheckResponse::decode(message).ok());
        match answer {
            Some(CheckResponse { status: SERVING }) => ProbeResult::Healthy,
            _ => ProbeResult::Unhealthy,
        }
    }
}

impl TcpProbe {
    /// What the bytes received so far mean; `None`: more must come. Without anything to receive, a connection is enough.
    pub fn judge(&self, received: &[u8]) -> Option<ProbeResult> {
        has_all(received, &self.receive).then_some(ProbeResult::Healthy)
    }
}

fn add(request: &mut Request, headers: &[(HeaderName, HeaderValue, bool)]) {
    for (name, value, beside) in headers {
        if *name == header::HOST {
            request.authority = value.clone();
        } else if *beside {
            request.headers.append(name.clone(), value.clone());
        } else {
            request.headers.set(name.clone(), value.clone());
        }
    }
}

fn is_expected(expected: &[StatusRange], status: StatusCode) -> bool {
    if expected.is_empty() { status == StatusCode::OK } else { is_within(expected, status) }
}

fn is_within(ranges: &[StatusRange], status: StatusCode) -> bool {
    ranges.iter().any(|range| (range.start..range.end).contains(&status.as_u16()))
}

/// Whether all the parts are there in this order.
fn has_all(mut bytes: &[u8], parts: &[Bytes]) -> bool {
    for part in parts {
        match memmem::find(bytes, part) {
            Some(place) => bytes = bytes.get(place + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}

/// The one message of a body.
fn grpc_message(body: &[u8]) -> Option<&[u8]> {
    let (prefix, rest) = body.split_at_checked(GRPC_PREFIX)?;
    match prefix {
        [0, length @ ..] => {
            let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
            (length <= GRPC_ANSWER_MAX && rest.len() == length).then_some(rest)
        }
        _ => None,
    }
}

/// `SERVING` of `grpc.health.v1.HealthCheckResponse.ServingStatus`.
const SERVING: i32 = 1;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct CheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct CheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}
