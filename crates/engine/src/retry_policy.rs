//! When a request is tried again: a policy of routes, which requests may change by headers.
//!
//! Source: Envoy's documentation, "Router", `x-envoy-retry-on` and what follows it.

use std::borrow::Cow;
use std::ops::BitOr;
use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3::RetryPolicy as Proto;
use envoy_types::pb::envoy::config::route::v3::retry_policy::retry_host_predicate::ConfigType as PredicateConfig;
use envoy_types::pb::envoy::config::route::v3::retry_policy::retry_priority::ConfigType as PriorityConfig;
use envoy_types::pb::envoy::config::route::v3::retry_policy::{
    RateLimitedRetryBackOff, ResetHeader, ResetHeaderFormat, RetryBackOff, RetryHostPredicate, RetryPriority,
};
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use http::{HeaderName, HeaderValue};

use crate::header_condition::HeaderCondition;
use crate::names::{
    X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT, X_ENVOY_MAX_RETRIES, X_ENVOY_RETRIABLE_HEADER_NAMES,
    X_ENVOY_RETRIABLE_STATUS_CODES, X_ENVOY_RETRY_GRPC_ON, X_ENVOY_RETRY_ON,
    X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS, is_of_envoy,
};
use crate::proto::{duration, enumeration, header_name, number, time_limit};
use crate::refusal::{Within, is, unpack};
use crate::{BackOff, Refusal, Request};

/// First bound of waiting where nothing is said.
const BACK_OFF: Duration = Duration::from_millis(25);
/// Longest wait that a rate limit may ask for where nothing is said.
const RATE_LIMITED_MAX: Duration = Duration::from_secs(300);

/// When a request is tried again, and how.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// After what.
    pub on: RetryOn,
    /// How often, besides the first time.
    pub retries: u32,
    /// How long one try may take.
    pub per_try_timeout: Option<Duration>,
    /// How long a try may bring nothing.
    pub per_try_idle_timeout: Option<Duration>,
    /// Statuses that count for [`RetryOn::RETRIABLE_STATUS_CODES`].
    pub statuses: Vec<u16>,
    /// Headers of responses that count for [`RetryOn::RETRIABLE_HEADERS`]: any of them.
    pub response_headers: Vec<HeaderCondition>,
    /// Only requests that meet one of these are tried again; all, if there are none.
    pub request_headers: Vec<HeaderCondition>,
    /// Waiting between tries.
    pub back_off: BackOff,
    /// Waiting as the response asks for.
    pub rate_limited: Option<RateLimitedBackOff>,
    /// Hosts that have been tried are not chosen again, if others are to be had.
    pub avoids_previous_hosts: bool,
    /// How often a host is drawn before the last is taken in any case.
    pub host_attempts: u32,
    /// Priorities that have been tried are avoided, the load computed anew after so many tries.
    pub avoids_previous_priorities: Option<u32>,
}

/// Waiting as the response asks for.
#[derive(Clone, Debug)]
pub struct RateLimitedBackOff {
    /// Headers that say when to come back; the first that is there counts.
    pub reset_headers: Vec<(HeaderName, ResetFormat)>,
    /// Who asks for more than this is not waited for.
    pub max: Duration,
}

/// How a header says when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetFormat {
    /// In so many seconds.
    Seconds,
    /// At this second since the epoch.
    UnixTimestamp,
}

/// What a request is tried again after; several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn(u32);

/// Declares every reason once: constant, name, whether it is gRPC's, meaning.
macro_rules! reasons {
    ($($constant:ident = $bit:literal, $name:literal, $grpc:literal, $doc:literal;)*) => {
        impl RetryOn {
            $(#[doc = $doc] pub const $constant: RetryOn = RetryOn(1 << $bit);)*
        }

        const REASONS: &[(RetryOn, &str, bool)] = &[$((RetryOn::$constant, $name, $grpc),)*];
    };
}

reasons! {
    FIVE_XX = 0, "5xx", false, "A status of 500 or more, no response, a reset or a timeout.";
    GATEWAY_ERROR = 1, "gateway-error", false, "502, 503 or 504, and what counts as one of them.";
    RESET = 2, "reset", false, "No response: the stream was reset, the connection closed, a try's time was over.";
    RESET_BEFORE_REQUEST = 3, "reset-before-request", false, "A reset before the head of the request was sent.";
    CONNECT_FAILURE = 4, "connect-failure", false, "No connection came about.";
    ENVOY_RATELIMITED = 5, "envoy-ratelimited", false, "The response has `x-envoy-ratelimited`.";
    RETRIABLE_4XX = 6, "retriable-4xx", false, "409.";
    REFUSED_STREAM = 7, "refused-stream", false, "HTTP/2's REFUSED_STREAM.";
    RETRIABLE_STATUS_CODES = 8, "retriable-status-codes", false, "One of the policy's statuses.";
    RETRIABLE_HEADERS = 9, "retriable-headers", false, "One of the policy's response headers.";
    HTTP3_POST_CONNECT_FAILURE = 10, "http3-post-connect-failure", false, "HTTP/3 failed after it was connected.";
    CANCELLED = 16, "cancelled", true, "gRPC's status 1.";
    DEADLINE_EXCEEDED = 17, "deadline-exceeded", true, "gRPC's status 4.";
    RESOURCE_EXHAUSTED = 18, "resource-exhausted", true, "gRPC's status 8.";
    INTERNAL = 19, "internal", true, "gRPC's status 13.";
    UNAVAILABLE = 20, "unavailable", true, "gRPC's status 14.";
}

impl RetryOn {
    /// Reads a list with `,` between its words. Words that nobody knows are nothing, as for Envoy.
    pub fn parse(list: &str) -> RetryOn {
        RetryOn::of(list, |_| true)
    }

    fn of(list: &str, is_wanted: impl Fn(bool) -> bool) -> RetryOn {
        let words = list.split(',').map(str::trim);
        let known = words.filter_map(|word| REASONS.iter().find(|(_, name, _)| *name == word));
        known.filter(|(.., grpc)| is_wanted(*grpc)).fold(RetryOn(0), |all, (reason, ..)| all | *reason)
    }

    /// Whether all of these are among them.
    pub fn has(self, reasons: RetryOn) -> bool {
        self.0 & reasons.0 == reasons.0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for RetryOn {
    type Output = RetryOn;

    fn bitor(self, other: RetryOn) -> RetryOn {
        RetryOn(self.0 | other.0)
    }
}

impl Default for RetryPolicy {
    /// What a request may change if its route says nothing: one retry, after nothing.
    fn default() -> RetryPolicy {
        RetryPolicy {
            on: RetryOn::default(),
            retries: 1,
            per_try_timeout: None,
            per_try_idle_timeout: None,
            statuses: Vec::new(),
            response_headers: Vec::new(),
            request_headers: Vec::new(),
            back_off: BackOff { base: BACK_OFF, max: BACK_OFF.saturating_mul(10) },
            rate_limited: None,
            avoids_previous_hosts: false,
            host_attempts: 1,
            avoids_previous_priorities: None,
        }
    }
}

impl RetryPolicy {
    pub(crate) fn compile(proto: &Proto) -> Result<RetryPolicy, Refusal> {
        fates!(proto: Proto {
            compiled:
                retry_on,
                num_retries,
                per_try_timeout,
                per_try_idle_timeout,
                retry_priority,
                retry_host_predicate,
                host_selection_retry_max_attempts,
                retriable_status_codes,
                retry_back_off,
                rate_limited_retry_back_off,
                retriable_headers,
                retriable_request_headers;
            refused:
                retry_options_predicates,
                refresh_cluster_on_retry;
        });
        let conditions = |protos: &[_], field: &str| {
            let all = protos.iter().map(HeaderCondition::compile).collect::<Result<Vec<_>, _>>();
            all.within(|| field.to_owned())
        };
        let status = |code: &u32| {
            u16::try_from(*code).map_err(|_| Refusal::invalid(format!("retriable_status_codes {code}")))
        };
        let attempts = u32::try_from(proto.host_selection_retry_max_attempts);
        let attempts = attempts.map_err(|_| Refusal::invalid("host_selection_retry_max_attempts"))?.max(1);
        let limited = proto.rate_limited_retry_back_off.as_ref().map(RateLimitedBackOff::compile);
        let predicates = proto.retry_host_predicate.iter().map(previous_hosts);
        let predicates: Vec<()> = predicates.collect::<Result<_, _>>()?;
        Ok(RetryPolicy {
            on: RetryOn::parse(&proto.retry_on),
            retries: number(proto.num_retries.as_ref()).unwrap_or(1),
            per_try_timeout: time_limit(proto.per_try_timeout.as_ref(), None)?,
            per_try_idle_timeout: time_limit(proto.per_try_idle_timeout.as_ref(), None)?,
            statuses: proto.retriable_status_codes.iter().map(status).collect::<Result<_, _>>()?,
            response_headers: conditions(&proto.retriable_headers, "retriable_headers")?,
            request_headers: conditions(&proto.retriable_request_headers, "retriable_request_headers")?,
            back_off: back_off(proto.retry_back_off.as_ref()).within(|| "retry_back_off".to_owned())?,
            rate_limited: limited.transpose().within(|| "rate_limited_retry_back_off".to_owned())?,
            avoids_previous_hosts: !predicates.is_empty(),
            host_attempts: attempts,
            avoids_previous_priorities: proto.retry_priority.as_ref().map(previous_priorities).transpose()?,
        })
    }

    /// The policy for a request: its route's, as its headers change it. The headers are removed. `None` if the request is
    /// not to be tried again in any case.
    pub fn for_request<'a>(
        policy: Option<&'a RetryPolicy>,
        request: &mut Request,
    ) -> Option<Cow<'a, RetryPolicy>> {
        let policy = Asked::take(request).apply(policy)?;
        let is_limited = !policy.request_headers.is_empty();
        let is_concerned = policy.request_headers.iter().any(|condition| condition.holds(request));
        (!is_limited || is_concerned).then_some(policy)
    }
}

/// What a request's headers ask for.
#[derive(Default)]
struct Asked {
    on: RetryOn,
    retries: Option<u32>,
    statuses: Vec<u16>,
    response_headers: Vec<HeaderCondition>,
}

impl Asked {
    fn take(request: &mut Request) -> Asked {
        let headers = &mut request.headers;
        if !headers.iter().any(|(name, _)| is_of_envoy(name)) {
            return Asked::default();
        }
        let mut taken = |name: HeaderName| {
            let value = headers.get(&name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            headers.remove(&name);
            value
        };
        let list = |value: Option<String>| -> Vec<String> {
            value.iter().flat_map(|value| value.split(',')).map(|word| word.trim().to_owned()).collect()
        };
        let http = taken(X_ENVOY_RETRY_ON).map(|words| RetryOn::of(&words, |grpc| !grpc));
        let grpc = taken(X_ENVOY_RETRY_GRPC_ON).map(|words| RetryOn::of(&words, |grpc| grpc));
        let retries = taken(X_ENVOY_MAX_RETRIES).and_then(|retries| retries.trim().parse().ok());
        let statuses = list(taken(X_ENVOY_RETRIABLE_STATUS_CODES));
        let names = list(taken(X_ENVOY_RETRIABLE_HEADER_NAMES));
        taken(X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT);
        taken(X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS);
        Asked {
            on: http.unwrap_or_default() | grpc.unwrap_or_default(),
            retries,
            statuses: statuses.iter().filter_map(|code| code.parse().ok()).collect(),
            response_headers: names.iter().filter_map(|name| HeaderCondition::present(name)).collect(),
        }
    }

    fn apply(self, policy: Option<&RetryPolicy>) -> Option<Cow<'_, RetryPolicy>> {
        let on = self.on | policy.map(|policy| policy.on).unwrap_or_default();
        if on.is_empty() {
            return None;
        }
        let changes_nothing = self.on.is_empty()
            && self.retries.is_none()
            && self.statuses.is_empty()
            && self.response_headers.is_empty();
        if let Some(policy) = policy
            && changes_nothing
        {
            return Some(Cow::Borrowed(policy));
        }
        let mut own = policy.cloned().unwrap_or_default();
        own.on = on;
        own.retries = self.retries.unwrap_or(own.retries);
        own.statuses.extend(self.statuses);
        own.response_headers.extend(self.response_headers);
        Some(Cow::Owned(own))
    }
}

fn back_off(proto: Option<&RetryBackOff>) -> Result<BackOff, Refusal> {
    let Some(RetryBackOff { base_interval, max_interval }) = proto else {
        return BackOff::new(BACK_OFF, None);
    };
    let base = base_interval.as_ref().ok_or_else(|| Refusal::invalid("no base_interval"))?;
    BackOff::new(duration(base)?, max_interval.as_ref().map(duration).transpose()?)
}

impl RateLimitedBackOff {
    fn compile(proto: &RateLimitedRetryBackOff) -> Result<RateLimitedBackOff, Refusal> {
        let RateLimitedRetryBackOff { reset_headers, max_interval } = proto;
        let header = |ResetHeader { name, format }: &ResetHeader| {
            let format = match enumeration(*format, "format")? {
                ResetHeaderFormat::Seconds => ResetFormat::Seconds,
                ResetHeaderFormat::UnixTimestamp => ResetFormat::UnixTimestamp,
            };
            Ok((header_name(name, "reset_headers")?, format))
        };
        let max = max_interval.as_ref().map(duration).transpose()?;
        Ok(RateLimitedBackOff {
            reset_headers: reset_headers.iter().map(header).collect::<Result<_, Refusal>>()?,
            max: max.map_or(RATE_LIMITED_MAX, |max| max.max(Duration::from_millis(1))),
        })
    }

    /// How long a response asks to wait, at `now` since the epoch; `None` if it asks for nothing, or for too much.
    pub fn asked(&self, headers: &crate::Headers, now: Duration) -> Option<Duration> {
        let read = |value: &HeaderValue| value.to_str().ok()?.trim().parse::<u64>().ok();
        let asked = |(name, format): &(HeaderName, ResetFormat)| {
            let seconds = read(headers.get(name)?)?;
            let wait = match format {
                ResetFormat::Seconds => Duration::from_secs(seconds),
                ResetFormat::UnixTimestamp => {
                    Duration::from_secs(seconds).checked_sub(now).filter(|wait| !wait.is_zero())?
                }
            };
            (wait <= self.max).then_some(wait)
        };
        self.reset_headers.iter().find_map(asked)
    }
}

fn previous_hosts(proto: &RetryHostPredicate) -> Result<(), Refusal> {
    let RetryHostPredicate { name, config_type } = proto;
    match config_type {
        Some(PredicateConfig::TypedConfig(config)) if is::<PreviousHostsPredicate>(config) => Ok(()),
        // Before there were typed configurations, the name said it all.
        None if name == "envoy.retry_host_predicates.previous_hosts" => Ok(()),
        _ => Err(Refusal::unsupported(format!("retry_host_predicate {name}"))),
    }
}

fn previous_priorities(proto: &RetryPriority) -> Result<u32, Refusal> {
    let RetryPriority { name, config_type } = proto;
    match config_type {
        Some(PriorityConfig::TypedConfig(config)) if is::<PreviousPrioritiesConfig>(config) => {
            let PreviousPrioritiesConfig { update_frequency } = unpack(config)?;
            let frequency = u32::try_from(update_frequency).ok().filter(|frequency| *frequency > 0);
            frequency.ok_or_else(|| Refusal::invalid(format!("update_frequency {update_frequency}")))
        }
        _ => Err(Refusal::unsupported(format!("retry_priority {name}"))),
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::{Duration as DurationProto, UInt32Value};
    use http::Method;

    use super::*;
    use crate::Headers;

    fn request(headers: &[(HeaderName, &'static str)]) -> Request {
        let slash = HeaderValue::from_static("/");
        let mut request = Request::new(Method::GET, HeaderValue::from_static("a"), slash);
        for (name, value) in headers {
            request.headers.append(name.clone(), HeaderValue::from_static(value));
        }
        request
    }

    fn istios() -> RetryPolicy {
        RetryPolicy::compile(&Proto {
            retry_on: "connect-failure,refused-stream,unavailable,cancelled,503,reset-before-request".into(),
            num_retries: Some(UInt32Value { value: 2 }),
            host_selection_retry_max_attempts: 5,
            retriable_status_codes: vec![503],
            retry_host_predicate: vec![RetryHostPredicate {
                name: "envoy.retry_host_predicates.previous_hosts".into(),
                config_type: None,
            }],
            ..Default::default()
        })
        .unwrap()
    }

    #[test]
    fn policies_are_read() {
        let policy = istios();
        let connect = RetryOn::CONNECT_FAILURE | RetryOn::RESET_BEFORE_REQUEST | RetryOn::UNAVAILABLE;
        assert!(policy.on.has(connect) && !policy.on.has(RetryOn::FIVE_XX));
        assert_eq!((policy.retries, policy.host_attempts, policy.avoids_previous_hosts), (2, 5, true));
        assert_eq!(policy.back_off, BackOff { base: BACK_OFF, max: Duration::from_millis(250) });
        let wrong = Proto {
            retry_back_off: Some(RetryBackOff {
                base_interval: Some(DurationProto { seconds: 2, nanos: 0 }),
                max_interval: Some(DurationProto { seconds: 1, nanos: 0 }),
            }),
            ..Default::default()
        };
        assert!(RetryPolicy::compile(&wrong).is_err());
    }

    #[test]
    fn requests_may_ask_for_more() {
        let policy = istios();
        let mut plain = request(&[]);
        let found = RetryPolicy::for_request(Some(&policy), &mut plain);
        assert!(matches!(found, Some(Cow::Borrowed(_))));
        assert!(RetryPolicy::for_request(None, &mut plain).is_none());
        let mut asking = request(&[
            (X_ENVOY_RETRY_ON, "5xx, retriable-headers, unavailable"),
            (X_ENVOY_RETRY_GRPC_ON, "internal,5xx"),
            (X_ENVOY_MAX_RETRIES, "7"),
            (X_ENVOY_RETRIABLE_STATUS_CODES, "418, x"),
            (X_ENVOY_RETRIABLE_HEADER_NAMES, "x-again"),
        ]);
        let found = RetryPolicy::for_request(None, &mut asking).unwrap();
        assert_eq!(found.on, RetryOn::FIVE_XX | RetryOn::RETRIABLE_HEADERS | RetryOn::INTERNAL);
        assert_eq!((found.retries, found.statuses.as_slice()), (7, &[418][..]));
        let again: Headers = [("x-again".parse().unwrap(), "".parse().unwrap())].into_iter().collect();
        assert!(found.response_headers[0].holds_for_headers(&again));
        assert!(asking.headers.is_empty());
    }

    #[test]
    fn only_some_requests_are_tried_again() {
        let mut policy = istios();
        policy.request_headers = vec![HeaderCondition::present("x-idempotent").unwrap()];
        assert!(RetryPolicy::for_request(Some(&policy), &mut request(&[])).is_none());
        let idempotent = HeaderName::from_static("x-idempotent");
        assert!(RetryPolicy::for_request(Some(&policy), &mut request(&[(idempotent, "")])).is_some());
    }

    #[test]
    fn responses_say_when_to_come_back() {
        let (after, reset) = (HeaderName::from_static("retry-after"), HeaderName::from_static("x-reset"));
        let limited = RateLimitedBackOff {
            reset_headers: vec![
                (after.clone(), ResetFormat::Seconds),
                (reset.clone(), ResetFormat::UnixTimestamp),
            ],
            max: Duration::from_secs(60),
        };
        let asked = |name: &HeaderName, value: &'static str| {
            let headers: Headers = [(name.clone(), HeaderValue::from_static(value))].into_iter().collect();
            limited.asked(&headers, Duration::from_secs(1000))
        };
        assert_eq!(asked(&after, "5"), Some(Duration::from_secs(5)));
        assert_eq!(asked(&after, "61"), None);
        assert_eq!(asked(&after, "soon"), None);
        assert_eq!(asked(&reset, "1007"), Some(Duration::from_secs(7)));
        assert_eq!(asked(&reset, "999"), None);
    }
}
