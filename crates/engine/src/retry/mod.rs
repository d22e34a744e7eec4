//! Whether a request is tried again, when, and what of the cluster is left out then.
//!
//! What it is: Envoy's retry state of one request: told how each try ended, it says what becomes of it. What it
//! deliberately is not: the request. That nothing has gone to the client yet, and that the request's body is still at
//! hand, is for the caller to see to.
//!
//! Invariant: a retry is under way only while its permit of the cluster's breakers is held.

mod tried;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use crate::balance::{Host, Upstream};
use crate::breakers::RetryPermit;
use crate::{Headers, Priority, ResetFormat, ResponseFlags, RetryOn, RetryPolicy};
pub use tried::Tried;

/// A response of an Envoy that limits rates.
const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");
/// gRPC's status, in the headers of a response that has nothing else.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Why a try ended without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// No connection came about.
    ConnectFailure,
    /// No connection came about in time.
    ConnectTimeout,
    /// A limit of the cluster was reached. It is never tried again.
    Overflow,
    /// The host refused the stream (HTTP/2's REFUSED_STREAM): it has not looked at the request.
    RefusedStream,
    /// The host reset the stream.
    Remote,
    /// The connection was closed.
    Termination,
    /// The host broke the protocol.
    ProtocolError,
    /// We reset the stream: a try's own time was over.
    Local,
}

/// What becomes of a request after a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is tried again (`upstream_rq_retry`).
    Retry {
        /// After waiting for so long.
        after: Duration,
        /// The response said how long (`upstream_rq_retry_backoff_ratelimited`, else `..._exponential`).
        rate_limited: bool,
    },
    /// What there is stands.
    No(Denied),
}

/// Why a request is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// How it ended is no reason to (`upstream_rq_retry_success`, if [`Retries::retried`]).
    NotRetriable,
    /// All retries are used up (`upstream_rq_retry_limit_exceeded`).
    LimitReached,
    /// There are too many retries at once (`upstream_rq_retry_overflow`).
    Overflow,
}

impl Denied {
    /// What access logs say of it.
    pub fn flags(self) -> ResponseFlags {
        match self {
            Denied::NotRetriable => ResponseFlags::default(),
            Denied::LimitReached => ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED,
            Denied::Overflow => ResponseFlags::UPSTREAM_OVERFLOW,
        }
    }
}

/// The tries of one request.
#[derive(Debug)]
pub struct Retries<'p> {
    policy: Option<Cow<'p, RetryPolicy>>,
    upstream: Arc<Upstream>,
    priority: Priority,
    tried: Tried,
    remaining: u32,
    retried: u32,
    /// Of the retry under way.
    permit: Option<RetryPermit>,
}

impl<'p> Retries<'p> {
    /// A request that is about to be tried. `policy`: what [`RetryPolicy::for_request`] says; without one it is tried once.
    pub fn new(
        policy: Option<Cow<'p, RetryPolicy>>,
        upstream: Arc<Upstream>,
        priority: Priority,
    ) -> Retries<'p> {
        let tried = policy.as_ref().map_or_else(Tried::default, |policy| {
            Tried::new(policy.avoids_previous_hosts, policy.host_attempts, policy.avoids_previous_priorities)
        });
        let remaining = policy.as_ref().map_or(0, |policy| policy.retries);
        Retries { policy, upstream, priority, tried, remaining, retried: 0, permit: None }
    }

    /// For the choice of the next host ([`crate::Choice::tried`]).
    pub fn tried(&self) -> &Tried {
        &self.tried
    }

    /// A host was chosen for this try.
    pub fn attempting(&mut self, host: &Host) {
        self.tried.attempting(host);
    }

    /// How often it was tried again.
    pub fn retried(&self) -> u32 {
        self.retried
    }

    /// The policy, for its timeouts.
    pub fn policy(&self) -> Option<&RetryPolicy> {
        self.policy.as_deref()
    }

    /// A try brought a response; `unix`: the time of day, which a response may refer to.
    pub fn on_response(
        &mut self,
        status: StatusCode,
        headers: &Headers,
        now: Duration,
        unix: Duration,
        random: u64,
    ) -> Verdict {
        let Some(policy) = self.policy.as_deref() else { return Verdict::No(Denied::NotRetriable) };
        let wanted = is_retriable(policy, status, headers);
        let asked = if wanted { asked_wait(policy, headers, unix) } else { None };
        self.decide(wanted, asked, now, random)
    }

    /// A try ended without a response. `began`: the upstream's connection has taken the request's head.
    pub fn on_reset(&mut self, reset: Reset, began: bool, now: Duration, random: u64) -> Verdict {
        let on = self.policy.as_deref().map_or_else(RetryOn::default, |policy| policy.on);
        self.decide(is_reset_retriable(on, reset, began), None, now, random)
    }

    /// The request cannot be tried again: the retry under way counts no longer.
    pub fn give_up(&mut self) {
        self.permit = None;
        self.policy = None;
    }

    /// A try took longer than one may.
    pub fn on_per_try_timeout(&mut self, began: bool, now: Duration, random: u64) -> Verdict {
        self.on_reset(Reset::Local, began, now, random)
    }

    fn decide(&mut self, wanted: bool, asked: Option<Duration>, now: Duration, random: u64) -> Verdict {
        // The retry before this is over.
        self.permit = None;
        let Some(policy) = self.policy.as_deref().filter(|_| wanted) else {
            return Verdict::No(Denied::NotRetriable);
        };
        if self.remaining == 0 {
            return Verdict::No(Denied::LimitReached);
        }
        self.remaining -= 1;
        let Ok(permit) = self.upstream.retry(self.priority, now) else {
            return Verdict::No(Denied::Overflow);
        };
        let after = match asked {
            Some(asked) => jittered(asked, random),
            None => policy.back_off.wait(self.retried, random),
        };
        self.permit = Some(permit);
        self.retried += 1;
        Verdict::Retry { after, rate_limited: asked.is_some() }
    }
}

fn is_retriable(policy: &RetryPolicy, status: StatusCode, headers: &Headers) -> bool {
    let on = policy.on;
    // An Envoy that limits rates said no: asking again is what that was about.
    if headers.contains(&RATE_LIMITED) {
        return on.has(RetryOn::ENVOY_RATELIMITED);
    }
    let code = status.as_u16();
    (on.has(RetryOn::FIVE_XX) && (500..600).contains(&code))
        || (on.has(RetryOn::GATEWAY_ERROR) && (502..=504).contains(&code))
        || (on.has(RetryOn::RETRIABLE_4XX) && status == StatusCode::CONFLICT)
        || (on.has(RetryOn::RETRIABLE_STATUS_CODES) && policy.statuses.contains(&code))
        || (on.has(RetryOn::RETRIABLE_HEADERS)
            && policy.response_headers.iter().any(|condition| condition.holds_for_headers(headers)))
        || grpc_reason(headers).is_some_and(|reason| on.has(reason))
}

fn grpc_reason(headers: &Headers) -> Option<RetryOn> {
    match headers.get(&GRPC_STATUS)?.as_bytes() {
        b"1" => Some(RetryOn::CANCELLED),
        b"4" => Some(RetryOn::DEADLINE_EXCEEDED),
        b"8" => Some(RetryOn::RESOURCE_EXHAUSTED),
        b"13" => Some(RetryOn::INTERNAL),
        b"14" => Some(RetryOn::UNAVAILABLE),
        _ => None,
    }
}

fn is_reset_retriable(on: RetryOn, reset: Reset, began: bool) -> bool {
    if reset == Reset::Overflow {
        return false;
    }
    let connecting = matches!(reset, Reset::ConnectFailure | Reset::ConnectTimeout);
    (connecting && on.has(RetryOn::CONNECT_FAILURE))
        || on.has(RetryOn::RESET)
        || (on.has(RetryOn::RESET_BEFORE_REQUEST) && !began)
        // It would be answered with a 503.
        || on.has(RetryOn::FIVE_XX)
        || on.has(RetryOn::GATEWAY_ERROR)
        || (reset == Reset::RefusedStream && on.has(RetryOn::REFUSED_STREAM))
}

/// When the response says to come back, if the policy listens and it is not too long.
fn asked_wait(policy: &RetryPolicy, headers: &Headers, unix: Duration) -> Option<Duration> {
    let limited = policy.rate_limited.as_ref()?;
    let mut waits = limited.reset_headers.iter().filter_map(|(name, format)| {
        let number: u64 = headers.get(name).map(HeaderValue::to_str)?.ok()?.trim().parse().ok()?;
        match format {
            ResetFormat::Seconds => Some(Duration::from_secs(number)),
            ResetFormat::UnixTimestamp => number.checked_sub(unix.as_secs()).map(Duration::from_secs),
        }
    });
    waits.find(|wait| *wait <= limited.max)
}

/// At least what was asked, at most half as much again.
fn jittered(asked: Duration, random: u64) -> Duration {
    let half = u64::try_from(asked.as_millis() / 2).unwrap_or(u64::MAX);
    asked + Duration::from_millis(random.checked_rem(half).unwrap_or(0))
}
