//! What becomes of a request's head before it is routed: its path and host are normalised, its client is found out, headers
//! that only some may send are dropped, and it gets an id.
//!
//! The order is Envoy's, because later steps see what earlier ones did.

use std::net::{IpAddr, SocketAddr};

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::client_cert::TlsFacts;
use super::path::Normalized;
use super::respond::add_to_list;
use super::sanitize::sanitize;
use super::{HttpManager, SchemeRule};
use crate::names::*;
use crate::request_id::{RequestId, TraceReason, X_REQUEST_ID};
use crate::{ConnectionInfo, Headers, Request, RouteTable, Scheme};

/// How a request arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Its connection.
    pub connection: &'a ConnectionInfo,
    /// What is known of TLS; `None` in plaintext.
    pub tls: Option<&'a TlsFacts>,
    /// The proxy's own address, which stands in `x-forwarded-for` for clients at a loopback address.
    pub own_ip: IpAddr,
    /// Random bits for an id.
    pub random: [u8; 16],
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is routed.
    Taken(Admitted),
    /// It is answered at once.
    Answered(Answer),
}

/// What is known of an admitted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Who it is from.
    pub client: SocketAddr,
    /// Is this the first proxy inside that it meets?
    pub is_edge: bool,
    /// Does it ask for an upgrade?
    pub is_upgrade: bool,
    /// The port that its host had and has no more; a CONNECT request gets it back before it goes upstream.
    pub stripped_port: Option<u16>,
}

/// An answer of the proxy's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Why (`%RESPONSE_CODE_DETAILS%`).
    pub details: &'static str,
    /// Where the client is sent instead.
    pub location: Option<HeaderValue>,
}

/// Headers that only the inside may send.
const OF_INSIDERS: [HeaderName; 14] = [
    X_ENVOY_RETRIABLE_STATUS_CODES,
    X_ENVOY_RETRIABLE_HEADER_NAMES,
    X_ENVOY_RETRY_ON,
    X_ENVOY_RETRY_GRPC_ON,
    X_ENVOY_MAX_RETRIES,
    X_ENVOY_UPSTREAM_ALT_STAT_NAME,
    X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS,
    X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS,
    X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE,
    X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
    X_ENVOY_FORCE_TRACE,
    X_ENVOY_IP_TAGS,
    X_ENVOY_ORIGINAL_URL,
    X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT,
];

/// Headers that a first proxy takes from nobody outside.
const OF_NEIGHBOURS: [HeaderName; 3] =
    [X_ENVOY_DECORATOR_OPERATION, X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER, X_ENVOY_DOWNSTREAM_SERVICE_NODE];

impl HttpManager {
    /// Does with a request's head what is done to all, and decides whether it goes on. `table` is what it will be routed by,
    /// if that is known already; its `internal_only_headers` count.
    pub fn admit(
        &self,
        request: &mut Request,
        arrival: Arrival<'_>,
        table: Option<&RouteTable>,
    ) -> Admission {
        if let Some(answer) = self.check_path(request) {
            return Admission::Answered(answer);
        }
        let stripped_port = self.host.apply(&mut request.authority, arrival.connection.local.port());
        let is_upgrade = is_upgrade(&request.headers);
        if let Some(answer) = sanitize(&mut request.headers, is_upgrade) {
            return Admission::Answered(answer);
        }

        let client = self.client.apply(&mut request.headers, arrival.connection.remote, arrival.own_ip);
        self.set_scheme(request, arrival);
        request.is_internal = client.is_internal;
        if client.is_internal {
            request.headers.append(X_ENVOY_INTERNAL, HeaderValue::from_static("true"));
        } else {
            let of_table = table.map(|table| table.internal_only_headers.as_slice()).unwrap_or_default();
            request.headers.retain(|name, _| {
                let is_refused = is_of_envoy(name)
                    && (OF_INSIDERS.contains(name) || client.is_edge && OF_NEIGHBOURS.contains(name))
                    || of_table.contains(name);
                !is_refused
            });
        }
        if let Some(via) = &self.via {
            add_to_list(&mut request.headers, http::header::VIA, via);
        }
        if client.is_edge
            && let Ok(address) = HeaderValue::from_str(&client.address.ip().to_string())
        {
            request.headers.set(X_ENVOY_EXTERNAL_ADDRESS, address);
        }
        self.set_id(request, client.is_edge, arrival.random);
        self.client_cert.apply(&mut request.headers, arrival.tls);
        Admission::Taken(Admitted {
            client: client.address,
            is_edge: client.is_edge,
            is_upgrade,
            stripped_port,
        })
    }

    fn check_path(&self, request: &mut Request) -> Option<Answer> {
        let answer = |status, details, location| Some(Answer { status, details, location });
        if request.path.is_empty() {
            return match request.method {
                Method::CONNECT => None,
                _ => answer(StatusCode::NOT_FOUND, "missing_path_rejected", None),
            };
        }
        if !request.path.as_bytes().starts_with(b"/") {
            return answer(StatusCode::NOT_FOUND, "absolute_path_rejected", None);
        }
        match self.path.apply(&request.path) {
            Normalized::Same => None,
            Normalized::Changed(path) => {
                request.path = path;
                None
            }
            Normalized::Rejected => answer(StatusCode::BAD_REQUEST, "path_normalization_failed", None),
            Normalized::Redirect(path) => {
                answer(StatusCode::TEMPORARY_REDIRECT, "path_normalization_failed", Some(path))
            }
        }
    }

    /// `x-forwarded-proto`, `x-forwarded-port` and the request's scheme.
    fn set_scheme(&self, request: &mut Request, arrival: Arrival<'_>) {
        let own = if arrival.tls.is_some() { Scheme::Https } else { Scheme::Http };
        let headers = &mut request.headers;
        // The header of a client that is no proxy of ours says nothing.
        let is_first = self.client.uses_remote_address && self.client.trusted_hops == 0;
        if is_first || !headers.contains(&X_FORWARDED_PROTO) {
            headers.set(X_FORWARDED_PROTO, HeaderValue::from_static(own.as_str()));
        }
        if self.appends_forwarded_port && (is_first || !headers.contains(&X_FORWARDED_PORT)) {
            headers.set(X_FORWARDED_PORT, HeaderValue::from(arrival.connection.local.port()));
        }
        if let SchemeRule::Overwrite(scheme) = self.scheme {
            headers.set(X_FORWARDED_PROTO, HeaderValue::from_static(scheme.as_str()));
        }
        request.scheme = match headers.get(&X_FORWARDED_PROTO).map(HeaderValue::as_bytes) {
            Some(proto) if proto.eq_ignore_ascii_case(b"https") => Scheme::Https,
            Some(proto) if proto.eq_ignore_ascii_case(b"http") => Scheme::Http,
            _ => own,
        };
    }

    fn set_id(&self, request: &mut Request, is_edge: bool, random: [u8; 16]) {
        let rules = self.request_id;
        if !rules.generates {
            return;
        }
        let renews = is_edge && !rules.keeps_external;
        let has_one = request.headers.get(&X_REQUEST_ID).is_some_and(|id| !id.is_empty());
        if renews || !has_one {
            request.headers.set(X_REQUEST_ID, RequestId::new(random).value());
        } else if is_edge
            && rules.packs_trace_reason
            && let Some(id) = RequestId::of(request)
        {
            // Nobody outside says what is traced.
            request.headers.set(X_REQUEST_ID, id.with_reason(TraceReason::NotTraced).value());
        }
    }
}

/// Whether headers ask for, or accept, an upgrade (RFC 9110, 7.8).
pub(crate) fn is_upgrade(headers: &Headers) -> bool {
    let is_named = |value: &HeaderValue| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    };
    headers.contains(&UPGRADE) && headers.get_all(&CONNECTION).any(is_named)
}
