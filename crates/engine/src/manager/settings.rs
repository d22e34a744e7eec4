//! Limits and small switches of a connection manager.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;
use envoy_types::pb::envoy::config::core::v3::scheme_header_transformation::Transformation;
use envoy_types::pb::envoy::config::core::v3::{HttpProtocolOptions, SchemeHeaderTransformation};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager as Proto, RequestIdExtension,
};
use envoy_types::pb::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;

use crate::proto::{enumeration, flag, number, time_limit};
use crate::refusal::{Within, is, unpack};
use crate::{Refusal, Scheme};

/// Time limits of a connection manager; `None` is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagerTimeouts {
    /// Time for which nothing may move on a stream, where its route says nothing else. 5 minutes.
    pub stream_idle: Option<Duration>,
    /// Time for the rest of a stream to be written when all of it is there.
    pub stream_flush: Option<Duration>,
    /// Time for a request to come whole.
    pub request: Option<Duration>,
    /// Time for a request's head to come whole.
    pub request_headers: Option<Duration>,
    /// Time between saying that a connection is about to go and refusing streams. 5 s.
    pub drain: Duration,
    /// Time that a peer has to close a connection that we are done with. 1 s.
    pub delayed_close: Option<Duration>,
    /// Time for which a connection may have no stream. 1 hour.
    pub connection_idle: Option<Duration>,
    /// Age at which a connection is drained.
    pub max_connection: Option<Duration>,
    /// Age at which a stream is reset, where its route says nothing else.
    pub max_stream: Option<Duration>,
}

/// How large a request's head may be, and what it may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of all headers. 60 KiB.
    pub headers_bytes: usize,
    /// Number of headers. 100.
    pub headers_count: usize,
    /// What becomes of headers with `_` in their names.
    pub underscores: Underscores,
    /// Requests after which a connection is drained.
    pub requests_per_connection: Option<u32>,
}

/// What becomes of headers with `_` in their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Underscores {
    /// They are like others.
    Allow,
    /// Their request is refused.
    Reject,
    /// They are dropped.
    Drop,
}

/// How ids of requests are made and told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestIdRules {
    /// Is an id made for requests that have none?
    pub generates: bool,
    /// Do requests from outside keep the id they come with?
    pub keeps_external: bool,
    /// Is it told in every response?
    pub always_in_response: bool,
    /// Does it tell why a request is traced?
    pub packs_trace_reason: bool,
    /// Does it decide which requests are traced?
    pub decides_sampling: bool,
}

/// What becomes of `:scheme` before a request is routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemeRule {
    /// It stays.
    Keep,
    /// It is the upstream's: `https` over TLS.
    MatchUpstream,
    /// It is this, and so is `x-forwarded-proto`.
    Overwrite(Scheme),
}

impl ManagerTimeouts {
    pub(super) fn compile(proto: &Proto, common: &HttpProtocolOptions) -> Result<ManagerTimeouts, Refusal> {
        let minutes = |minutes: u64| Some(Duration::from_secs(minutes * 60));
        let limit = |field: &str, proto, default| time_limit(proto, default).within(|| field.to_owned());
        let stream_idle = limit("stream_idle_timeout", proto.stream_idle_timeout.as_ref(), minutes(5))?;
        let drain = limit("drain_timeout", proto.drain_timeout.as_ref(), Some(Duration::from_secs(5)))?;
        let delayed_close = proto.delayed_close_timeout.as_ref();
        Ok(ManagerTimeouts {
            stream_idle,
            stream_flush: limit("stream_flush_timeout", proto.stream_flush_timeout.as_ref(), stream_idle)?,
            request: limit("request_timeout", proto.request_timeout.as_ref(), None)?,
            request_headers: limit("request_headers_timeout", proto.request_headers_timeout.as_ref(), None)?,
            drain: drain.unwrap_or_default(),
            delayed_close: limit("delayed_close_timeout", delayed_close, Some(Duration::from_secs(1)))?,
            connection_idle: limit("idle_timeout", common.idle_timeout.as_ref(), minutes(60))?,
            max_connection: limit("max_connection_duration", common.max_connection_duration.as_ref(), None)?,
            max_stream: limit("max_stream_duration", common.max_stream_duration.as_ref(), None)?,
        })
    }
}

impl HeadLimits {
    pub(super) fn compile(proto: &Proto, common: &HttpProtocolOptions) -> Result<HeadLimits, Refusal> {
        fates!(common: HttpProtocolOptions {
            compiled:
                idle_timeout,
                max_connection_duration,
                max_headers_count,
                max_stream_duration,
                headers_with_underscores_action,
                max_requests_per_connection;
            refused:
                max_connection_duration_jitter,
                max_response_headers_kb;
        });
        let kilobytes = number(proto.max_request_headers_kb.as_ref()).unwrap_or(60);
        if !(1..=8192).contains(&kilobytes) {
            return Err(Refusal::invalid(format!("max_request_headers_kb {kilobytes}")));
        }
        let count = number(common.max_headers_count.as_ref()).unwrap_or(100);
        if count == 0 {
            return Err(Refusal::invalid("max_headers_count 0"));
        }
        let action = common.headers_with_underscores_action;
        Ok(HeadLimits {
            headers_bytes: kilobytes as usize * 1024,
            headers_count: count as usize,
            underscores: match enumeration(action, "headers_with_underscores_action")? {
                HeadersWithUnderscoresAction::Allow => Underscores::Allow,
                HeadersWithUnderscoresAction::RejectRequest => Underscores::Reject,
                HeadersWithUnderscoresAction::DropHeader => Underscores::Drop,
            },
            requests_per_connection: number(common.max_requests_per_connection.as_ref())
                .filter(|max| *max > 0),
        })
    }
}

impl RequestIdRules {
    pub(super) fn compile(proto: &Proto) -> Result<RequestIdRules, Refusal> {
        let extension = proto.request_id_extension.as_ref();
        let config = match extension.and_then(|RequestIdExtension { typed_config }| typed_config.as_ref()) {
            None => UuidRequestIdConfig::default(),
            Some(config) if is::<UuidRequestIdConfig>(config) => unpack(config)?,
            Some(config) => {
                return Err(Refusal::unsupported(&config.type_url).within("request_id_extension"));
            }
        };
        let UuidRequestIdConfig { pack_trace_reason, use_request_id_for_trace_sampling } = config;
        Ok(RequestIdRules {
            generates: flag(proto.generate_request_id.as_ref(), true),
            keeps_external: proto.preserve_external_request_id,
            always_in_response: proto.always_set_request_id_in_response,
            packs_trace_reason: flag(pack_trace_reason.as_ref(), true),
            decides_sampling: flag(use_request_id_for_trace_sampling.as_ref(), true),
        })
    }
}

impl SchemeRule {
    pub(super) fn compile(proto: Option<&SchemeHeaderTransformation>) -> Result<SchemeRule, Refusal> {
        let Some(SchemeHeaderTransformation { match_upstream, transformation }) = proto else {
            return Ok(SchemeRule::Keep);
        };
        match transformation {
            None if *match_upstream => Ok(SchemeRule::MatchUpstream),
            None => Ok(SchemeRule::Keep),
            Some(Transformation::SchemeToOverwrite(_)) if *match_upstream => {
                Err(Refusal::invalid("scheme_to_overwrite beside match_upstream"))
            }
            Some(Transformation::SchemeToOverwrite(scheme)) => match scheme.as_str() {
                "http" => Ok(SchemeRule::Overwrite(Scheme::Http)),
                "https" => Ok(SchemeRule::Overwrite(Scheme::Https)),
                other => Err(Refusal::invalid(format!("scheme_to_overwrite {other:?}"))),
            },
        }
    }
}
