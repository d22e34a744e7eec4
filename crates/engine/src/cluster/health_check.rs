//! How hosts are asked for their health, as configured: HTTP, TCP and gRPC health checks.

use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::health_check::{
    GrpcHealthCheck, HealthChecker, HttpHealthCheck, Payload as ProtoPayload, TcpHealthCheck, payload,
};
use envoy_types::pb::envoy::config::core::v3::{HeaderValueOption, HealthCheck as Proto, RequestMethod};
use envoy_types::pb::envoy::r#type::v3::{CodecClientType, Int64Range};
use envoy_types::pb::google::protobuf::Duration as ProtoDuration;
use http::{HeaderName, HeaderValue, Method};

use crate::proto::{enumeration, flag, header_name, header_value, number};
use crate::refusal::Within;
use crate::wire::{bounded, duration_or, positive, required};
use crate::{Refusal, TextMatcher};

/// Envoy's default for `no_traffic_interval`.
const NO_TRAFFIC_INTERVAL: Duration = Duration::from_secs(60);
/// Envoy's default for `response_buffer_size`.
const BUFFER: usize = 1_024;
/// The largest `response_buffer_size` that is taken.
const BUFFER_MAX: u64 = 1 << 20;

/// One way in which a cluster's hosts are asked.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Until an answer must be there.
    pub timeout: Duration,
    /// Between two probes, by how the last ones went.
    pub intervals: Intervals,
    /// Failures in a row that make a host unhealthy.
    pub unhealthy_threshold: u32,
    /// Successes in a row that make it healthy; the first probe of all needs no others.
    pub healthy_threshold: u32,
    /// Another port than the endpoint's.
    pub port: Option<u16>,
    /// The connection is kept for the next probe.
    pub reuses_connection: bool,
}

/// Between two probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// Of a healthy host.
    pub healthy: Duration,
    /// Of an unhealthy one.
    pub unhealthy: Duration,
    /// Of a healthy host that has begun to fail.
    pub unhealthy_edge: Duration,
    /// Of an unhealthy host that has begun to succeed.
    pub healthy_edge: Duration,
    /// While the cluster has never been connected to.
    pub no_traffic: Duration,
    /// While it has not, of a healthy host.
    pub no_traffic_healthy: Duration,
    /// Random wait before the first probe.
    pub initial_jitter: Duration,
    /// Random addition to each.
    pub jitter: Duration,
    /// Random addition to each, in percent of it.
    pub jitter_percent: u32,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Probe {
    /// A request.
    Http(Box<HttpProbe>),
    /// A connection, and perhaps bytes.
    Tcp(TcpProbe),
    /// `grpc.health.v1.Health/Check`.
    Grpc(GrpcProbe),
}

/// A request, and which answers are good.
#[derive(Clone, Debug)]
pub struct HttpProbe {
    /// Method; not CONNECT.
    pub method: Method,
    /// Value of `host`, where the endpoint has none of its own; `None`: the cluster's name.
    pub host: Option<HeaderValue>,
    /// Path.
    pub path: HeaderValue,
    /// Body of the request.
    pub send: Bytes,
    /// What the response's body must have, in this order.
    pub receive: Vec<Payload>,
    /// Bytes of the response's body that are looked at.
    pub buffer: usize,
    /// Headers to add; whether beside others of the name.
    pub headers_to_add: Vec<(HeaderName, HeaderValue, bool)>,
    /// Headers to remove.
    pub headers_to_remove: Vec<HeaderName>,
    /// Statuses that mean healthy; none: 200.
    pub expected: Vec<StatusRange>,
    /// Statuses that count towards the threshold, where others fail the host at once.
    pub retriable: Vec<StatusRange>,
    /// It is sent by HTTP/2.
    pub http2: bool,
    /// What `x-envoy-upstream-healthchecked-cluster` must say.
    pub service_name: Option<TextMatcher>,
}

/// Statuses, from the first up to but not including the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// The first.
    pub start: u16,
    /// The one behind the last.
    pub end: u16,
}

/// Bytes to be found.
pub type Payload = Bytes;

/// A connection, and perhaps bytes.
#[derive(Clone, Debug)]
pub struct TcpProbe {
    /// What is sent; nothing: connecting is enough.
    pub send: Bytes,
    /// What must come, in this order, other bytes between them.
    pub receive: Vec<Payload>,
}

/// `grpc.health.v1.Health/Check`.
#[derive(Clone, Debug)]
pub struct GrpcProbe {
    /// The service asked for; empty: the server.
    pub service: String,
    /// `:authority`, where the endpoint has none of its own; `None`: the cluster's name.
    pub authority: Option<HeaderValue>,
    /// Metadata to add; whether beside others of the name.
    pub metadata: Vec<(HeaderName, HeaderValue, bool)>,
}

pub(super) fn compile(all: &[Proto]) -> Result<Vec<HealthCheck>, Refusal> {
    if all.len() > 1 {
        return Err(Refusal::invalid("health_checks: more than one"));
    }
    let all = all.iter().enumerate();
    all.map(|(place, proto)| HealthCheck::compile(proto).within(|| format!("health_checks[{place}]")))
        .collect()
}

impl HealthCheck {
    fn compile(proto: &Proto) -> Result<HealthCheck, Refusal> {
        refuse(proto)?;
        let threshold = |field, value: &Option<_>| match number(value.as_ref()) {
            Some(value) => Ok(value.max(1)),
            None => Err(Refusal::invalid("must be set").within(field)),
        };
        let port = bounded("alt_port", proto.alt_port.as_ref(), 0..=u32::from(u16::MAX))?;
        Ok(HealthCheck {
            probe: Probe::compile(proto.health_checker.as_ref())?,
            timeout: required("timeout", proto.timeout.as_ref())?,
            intervals: Intervals::compile(proto)?,
            unhealthy_threshold: threshold("unhealthy_threshold", &proto.unhealthy_threshold)?,
            healthy_threshold: threshold("healthy_threshold", &proto.healthy_threshold)?,
            port: port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
            reuses_connection: flag(proto.reuse_connection.as_ref(), true),
        })
    }
}

impl Intervals {
    fn compile(proto: &Proto) -> Result<Intervals, Refusal> {
        let or = |field, value: &Option<ProtoDuration>, default| {
            positive(field, value.as_ref()).map(|value| value.unwrap_or(default))
        };
        let healthy = required("interval", proto.interval.as_ref())?;
        let unhealthy = or("unhealthy_interval", &proto.unhealthy_interval, healthy)?;
        let no_traffic = or("no_traffic_interval", &proto.no_traffic_interval, NO_TRAFFIC_INTERVAL)?;
        let jitter =
            |field, value: &Option<ProtoDuration>| duration_or(field, value.as_ref(), Duration::ZERO);
        Ok(Intervals {
            healthy,
            unhealthy,
            unhealthy_edge: or("unhealthy_edge_interval", &proto.unhealthy_edge_interval, unhealthy)?,
            healthy_edge: or("healthy_edge_interval", &proto.healthy_edge_interval, healthy)?,
            no_traffic,
            no_traffic_healthy: or(
                "no_traffic_healthy_interval",
                &proto.no_traffic_healthy_interval,
                no_traffic,
            )?,
            initial_jitter: jitter("initial_jitter", &proto.initial_jitter)?,
            jitter: jitter("interval_jitter", &proto.interval_jitter)?,
            jitter_percent: proto.interval_jitter_percent,
        })
    }
}

impl Probe {
    fn compile(proto: Option<&HealthChecker>) -> Result<Probe, Refusal> {
        match proto {
            Some(HealthChecker::HttpHealthCheck(proto)) => HttpProbe::compile(proto)
                .map(|probe| Probe::Http(Box::new(probe)))
                .within(|| "http_health_check".into()),
            Some(HealthChecker::TcpHealthCheck(proto)) => {
                TcpProbe::compile(proto).map(Probe::Tcp).within(|| "tcp_health_check".into())
            }
            Some(HealthChecker::GrpcHealthCheck(proto)) => {
                GrpcProbe::compile(proto).map(Probe::Grpc).within(|| "grpc_health_check".into())
            }
            Some(HealthChecker::CustomHealthCheck(custom)) => {
                Err(Refusal::unsupported(format!("custom_health_check {}", custom.name)))
            }
            None => Err(Refusal::invalid("no health_checker")),
        }
    }
}

impl HttpProbe {
    fn compile(proto: &HttpHealthCheck) -> Result<HttpProbe, Refusal> {
        let HttpHealthCheck {
            host,
            path,
            send,
            receive,
            response_buffer_size,
            request_headers_to_add,
            request_headers_to_remove,
            expected_statuses,
            retriable_statuses,
            codec_client_type,
            service_name_matcher,
            method,
        } = proto;
        if path.is_empty() {
            return Err(Refusal::invalid("path is empty"));
        }
        let method = method_of(enumeration(*method, "method")?)?;
        let send = send.as_ref().map(bytes_of).transpose().within(|| "send".into())?.unwrap_or_default();
        if !send.is_empty() && !matches!(method, Method::POST | Method::PUT | Method::PATCH | Method::OPTIONS)
        {
            return Err(Refusal::invalid(format!("send with method {method}")));
        }
        let buffer = response_buffer_size.as_ref().map_or(BUFFER as u64, |size| size.value);
        if buffer > BUFFER_MAX {
            return Err(Refusal::unsupported(format!("response_buffer_size {buffer}")));
        }
        let http2 = match enumeration(*codec_client_type, "codec_client_type")? {
            CodecClientType::Http1 => false,
            CodecClientType::Http2 => true,
            CodecClientType::Http3 => return Err(Refusal::unsupported("codec_client_type HTTP3")),
        };
        let remove = request_headers_to_remove.iter();
        Ok(HttpProbe {
            method,
            host: optional_value(host, "host")?,
            path: header_value(path, "path")?,
            send,
            receive: receive.iter().map(bytes_of).collect::<Result<_, _>>().within(|| "receive".into())?,
            buffer: if buffer == 0 { BUFFER_MAX as usize } else { buffer as usize },
            headers_to_add: headers(request_headers_to_add).within(|| "request_headers_to_add".into())?,
            headers_to_remove: remove
                .map(|name| header_name(name, "request_headers_to_remove"))
                .collect::<Result<_, _>>()?,
            expected: statuses(expected_statuses).within(|| "expected_statuses".into())?,
            retriable: statuses(retriable_statuses).within(|| "retriable_statuses".into())?,
            http2,
            service_name: service_name_matcher.as_ref().map(TextMatcher::compile).transpose()?,
        })
    }
}

fn method_of(method: RequestMethod) -> Result<Method, Refusal> {
    Ok(match method {
        RequestMethod::MethodUnspecified | RequestMethod::Get => Method::GET,
        RequestMethod::Head => Method::HEAD,
        RequestMethod::Post => Method::POST,
        RequestMethod::Put => Method::PUT,
        RequestMethod::Delete => Method::DELETE,
        RequestMethod::Options => Method::OPTIONS,
        RequestMethod::Trace => Method::TRACE,
        RequestMethod::Patch => Method::PATCH,
        RequestMethod::Connect => return Err(Refusal::invalid("method CONNECT")),
    })
}

impl TcpProbe {
    fn compile(proto: &TcpHealthCheck) -> Result<TcpProbe, Refusal> {
        let TcpHealthCheck { send, receive, proxy_protocol_config } = proto;
        refuse_if_set!(proxy_protocol_config);
        Ok(TcpProbe {
            send: send.as_ref().map(bytes_of).transpose().within(|| "send".into())?.unwrap_or_default(),
            receive: receive.iter().map(bytes_of).collect::<Result<_, _>>().within(|| "receive".into())?,
        })
    }
}

impl GrpcProbe {
    fn compile(proto: &GrpcHealthCheck) -> Result<GrpcProbe, Refusal> {
        let GrpcHealthCheck { service_name, authority, initial_metadata } = proto;
        Ok(GrpcProbe {
            service: service_name.clone(),
            authority: optional_value(authority, "authority")?,
            metadata: headers(initial_metadata).within(|| "initial_metadata".into())?,
        })
    }
}

fn optional_value(text: &str, field: &str) -> Result<Option<HeaderValue>, Refusal> {
    if text.is_empty() { Ok(None) } else { header_value(text, field).map(Some) }
}

/// A payload: text is hexadecimal.
fn bytes_of(proto: &ProtoPayload) -> Result<Bytes, Refusal> {
    match &proto.payload {
        Some(payload::Payload::Text(text)) => {
            let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let pair = |pair: &[u8]| match pair {
                [high, low] => Some(digit(high)? << 4 | digit(low)?),
                _ => None,
            };
            let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
            let bytes = bytes.filter(|bytes| !bytes.is_empty());
            bytes.map(Bytes::from).ok_or_else(|| Refusal::invalid(format!("{text:?} is not hexadecimal")))
        }
        Some(payload::Payload::Binary(bytes)) => Ok(Bytes::copy_from_slice(bytes)),
        None => Err(Refusal::invalid("no payload")),
    }
}

fn statuses(all: &[Int64Range]) -> Result<Vec<StatusRange>, Refusal> {
    let range = |Int64Range { start, end }: &Int64Range| {
        let (start, end) = (u16::try_from(*start).ok()?, u16::try_from(*end).ok()?);
        (start < end && start >= 100 && end <= 600).then_some(StatusRange { start, end })
    };
    all.iter()
        .map(|proto| {
            range(proto).ok_or_else(|| Refusal::invalid(format!("[{}, {})", proto.start, proto.end)))
        })
        .collect()
}

fn headers(all: &[HeaderValueOption]) -> Result<Vec<(HeaderName, HeaderValue, bool)>, Refusal> {
    all.iter().map(header).collect()
}

fn header(proto: &HeaderValueOption) -> Result<(HeaderName, HeaderValue, bool), Refusal> {
    #[allow(deprecated, reason = "Envoy reads `append` still")]
    let HeaderValueOption { header, append, append_action, keep_empty_value } = proto;
    refuse_if_set!(keep_empty_value);
    let header = header.as_ref().ok_or_else(|| Refusal::invalid("no header"))?;
    if header.value.contains('%') || !header.raw_value.is_empty() {
        return Err(Refusal::unsupported(format!("{}: a value that is no plain text", header.key)));
    }
    // APPEND_IF_EXISTS_OR_ADD is 0; OVERWRITE_IF_EXISTS_OR_ADD is 2.
    let appends = match append_action {
        0 => flag(append.as_ref(), true),
        2 => false,
        other => return Err(Refusal::unsupported(format!("append_action {other}"))),
    };
    Ok((header_name(&header.key, "key")?, header_value(&header.value, "value")?, appends))
}

/// Which field meets which fate.
fn refuse(proto: &Proto) -> Result<(), Refusal> {
    fates!(proto: Proto {
        compiled:
            timeout,
            interval,
            initial_jitter,
            interval_jitter,
            interval_jitter_percent,
            unhealthy_threshold,
            healthy_threshold,
            alt_port,
            reuse_connection,
            no_traffic_interval,
            no_traffic_healthy_interval,
            unhealthy_interval,
            unhealthy_edge_interval,
            healthy_edge_interval,
            health_checker;
        carried:;
        refused:
            event_log_path,
            event_logger,
            event_service,
            always_log_health_check_failures,
            always_log_health_check_success,
            tls_options,
            transport_socket_match_criteria;
    });
    Ok(())
}
