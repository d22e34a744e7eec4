//! How long a request may take: what its route says, what its headers ask for, and what comes of both.
//!
//! Source: Envoy's documentation, "Router", `x-envoy-upstream-rq-timeout-ms` and what follows it.

use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3::RouteAction;
use envoy_types::pb::envoy::config::route::v3::route_action::MaxStreamDuration;
use http::{HeaderName, HeaderValue};

use crate::names::{
    X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS, X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS,
};
use crate::proto::{duration, time_limit, time_override};
use crate::refusal::Within;
use crate::retry_policy::RetryPolicy;
use crate::{Headers, Refusal, Request, Router, grpc};

/// Time for a response where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What a route says of time. Of what is an override, `None` is silence, and `Some(None)` is "no limit".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTimeouts {
    /// From the end of the request to the end of the response, retries and all.
    pub response: Option<Duration>,
    /// Time for which nothing may move, in place of the manager's.
    pub idle: Option<Option<Duration>>,
    /// Time for the rest to be written, in place of the manager's.
    pub flush: Option<Option<Duration>>,
    max_stream: Option<Option<Duration>>,
    grpc: GrpcTimeout,
    /// Whether the newer `max_stream_duration` is there, even without a value: then `timeout` does not count.
    bounds_stream: bool,
    /// The older way to say what gRPC's clients get.
    old_grpc: GrpcTimeout,
}

/// What of the time a gRPC client asks for is granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrpcTimeout {
    /// Is it granted at all, and how much at most?
    pub max: Option<Option<Duration>>,
    /// What the proxy keeps for itself.
    pub offset: Option<Duration>,
}

/// What comes of all that for one request; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the end of the request to the end of the response, retries and all.
    pub response: Option<Duration>,
    /// For one try.
    pub per_try: Option<Duration>,
    /// For one try to bring nothing.
    pub per_try_idle: Option<Duration>,
}

impl GrpcTimeout {
    /// The whole stream's time of a client that asks for `asked`: at most the maximum, less the offset. Zero is over at once.
    pub fn granted(self, asked: Duration) -> Option<Duration> {
        let asked = match self.max? {
            Some(max) => asked.min(max),
            None => asked,
        };
        Some(asked.saturating_sub(self.offset.unwrap_or_default()))
    }

    /// The same in the older way, where the time is the response's, none asked for is as much as may be, and an offset that
    /// would leave nothing does not count.
    fn granted_old(self, asked: Option<Duration>) -> Option<Option<Duration>> {
        let max = self.max?;
        let asked = asked.filter(|asked| !asked.is_zero()).map(|asked| match self.offset {
            Some(offset) if offset < asked => asked.saturating_sub(offset),
            _ => asked,
        });
        Some(match (asked, max) {
            (Some(asked), Some(max)) => Some(asked.min(max)),
            (asked, max) => asked.or(max),
        })
    }
}

impl RouteTimeouts {
    pub(super) fn compile(proto: &RouteAction) -> Result<RouteTimeouts, Refusal> {
        #[allow(deprecated, reason = "older control planes still write it, and Envoy takes it")]
        let (old_max, old_offset) = (proto.max_grpc_timeout.as_ref(), proto.grpc_timeout_offset.as_ref());
        let bounds = proto.max_stream_duration.unwrap_or_default();
        let MaxStreamDuration { max_stream_duration, grpc_timeout_header_max, grpc_timeout_header_offset } =
            bounds;
        let read = || {
            Ok(RouteTimeouts {
                response: time_limit(proto.timeout.as_ref(), Some(TIMEOUT))?,
                idle: time_override(proto.idle_timeout.as_ref())?,
                flush: time_override(proto.flush_timeout.as_ref())?,
                max_stream: time_override(max_stream_duration.as_ref())?,
                grpc: GrpcTimeout {
                    max: time_override(grpc_timeout_header_max.as_ref())?,
                    offset: grpc_timeout_header_offset.as_ref().map(duration).transpose()?,
                },
                bounds_stream: proto.max_stream_duration.is_some(),
                old_grpc: GrpcTimeout {
                    max: time_override(old_max)?,
                    offset: old_offset.map(duration).transpose()?,
                },
            })
        };
        read().within(|| "timeouts".to_owned())
    }

    /// The times of a request, which its headers may change. Those headers are removed, and what is expected of the
    /// upstream is told it.
    pub(super) fn of_request(
        &self,
        request: &mut Request,
        retry: Option<&RetryPolicy>,
        router: &Router,
    ) -> Timeouts {
        let is_grpc = request.is_grpc();
        let headers = &mut request.headers;
        let mut response = match (self.bounds_stream, self.old_grpc.granted_old(grpc::timeout(headers))) {
            (true, _) => None,
            (false, Some(granted)) if is_grpc => granted,
            (false, _) => self.response,
        };
        // Zero in a header is no limit.
        let limit = |millis: u64| Some(Duration::from_millis(millis)).filter(|limit| !limit.is_zero());
        let expected = headers.contains(&X_ENVOY_EXPECTED_RQ_TIMEOUT_MS) && router.respects_expected_timeout;
        let asked = match expected {
            true => millis(headers, &X_ENVOY_EXPECTED_RQ_TIMEOUT_MS),
            false => take_millis(headers, X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS),
        };
        if let Some(asked) = asked {
            response = limit(asked);
        }
        let mut per_try = retry.and_then(|retry| retry.per_try_timeout);
        if let Some(asked) = take_millis(headers, X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS) {
            per_try = limit(asked);
        }
        per_try = per_try.filter(|per_try| response.is_none_or(|response| *per_try < response));
        let per_try_idle = retry.and_then(|retry| retry.per_try_idle_timeout);
        let timeouts = Timeouts { response, per_try, per_try_idle };
        self.tell(headers, timeouts, router, is_grpc);
        timeouts
    }

    fn tell(&self, headers: &mut Headers, timeouts: Timeouts, router: &Router, is_grpc: bool) {
        let Some(expected) = timeouts.per_try.or(timeouts.response) else { return };
        let millis = u64::try_from(expected.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return;
        }
        if !router.suppresses_envoy_headers {
            headers.set(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, HeaderValue::from(millis));
        }
        if is_grpc && !self.bounds_stream && self.old_grpc.max.is_some() {
            headers.set(grpc::GRPC_TIMEOUT, grpc::timeout_value(expected));
        }
    }

    /// How old a request's stream may become, where the manager says `manager`. What is granted to a gRPC client is told
    /// the upstream.
    pub(super) fn max_stream(&self, request: &mut Request, manager: Option<Duration>) -> Option<Duration> {
        let asked = grpc::timeout(&request.headers).and_then(|asked| self.grpc.granted(asked));
        let max = asked.or_else(|| self.max_stream.unwrap_or(manager))?;
        if self.bounds_stream && request.is_grpc() {
            request.headers.set(grpc::GRPC_TIMEOUT, grpc::timeout_value(max));
        }
        Some(max)
    }
}

fn millis(headers: &Headers, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn take_millis(headers: &mut Headers, name: HeaderName) -> Option<u64> {
    let value = millis(headers, &name);
    headers.remove(&name);
    value
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::Duration as DurationProto;
    use http::Method;

    use super::*;

    const ROUTER: Router = Router {
        suppresses_envoy_headers: false,
        starts_child_span: false,
        respects_expected_timeout: false,
        suppresses_grpc_failure_stats: false,
        dynamic_stats: true,
    };

    fn seconds(seconds: i64) -> Option<DurationProto> {
        Some(DurationProto { seconds, nanos: 0 })
    }

    fn millis(millis: u64) -> Option<Duration> {
        Some(Duration::from_millis(millis))
    }

    fn request(headers: &[(HeaderName, &'static str)]) -> Request {
        let slash = HeaderValue::from_static("/");
        let mut request = Request::new(Method::GET, HeaderValue::from_static("a"), slash);
        for (name, value) in headers {
            request.headers.append(name.clone(), HeaderValue::from_static(value));
        }
        request
    }

    fn told(request: &Request, name: &HeaderName) -> Option<String> {
        request.headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    const GRPC: (HeaderName, &str) = (http::header::CONTENT_TYPE, "application/grpc");

    #[test]
    fn headers_change_the_routes_times() {
        let route = RouteTimeouts::compile(&RouteAction::default()).unwrap();
        let retry = RetryPolicy { per_try_timeout: millis(2000), ..RetryPolicy::default() };
        let (whole, per_try) = (X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS, X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS);
        for (headers, wanted, expected) in [
            (&[][..], (millis(15_000), millis(2000)), Some("2000")),
            (&[(whole.clone(), "1500")], (millis(1500), None), Some("1500")),
            (&[(whole.clone(), "0")], (None, millis(2000)), Some("2000")),
            (&[(per_try.clone(), "70")], (millis(15_000), millis(70)), Some("70")),
            (&[(per_try.clone(), "0")], (millis(15_000), None), Some("15000")),
            (&[(whole.clone(), "x")], (millis(15_000), millis(2000)), Some("2000")),
            (&[(whole.clone(), "0"), (per_try.clone(), "0")], (None, None), None),
        ] {
            let mut request = request(headers);
            let times = route.of_request(&mut request, Some(&retry), &ROUTER);
            assert_eq!((times.response, times.per_try), wanted, "{headers:?}");
            assert_eq!(told(&request, &X_ENVOY_EXPECTED_RQ_TIMEOUT_MS).as_deref(), expected);
            assert!(!request.headers.contains(&whole) && !request.headers.contains(&per_try));
        }
    }

    #[test]
    fn routers_may_respect_or_suppress() {
        let route = RouteTimeouts::compile(&RouteAction::default()).unwrap();
        let respects = Router { respects_expected_timeout: true, ..ROUTER };
        let mut expecting = request(&[(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, "300")]);
        assert_eq!(route.of_request(&mut expecting, None, &respects).response, millis(300));
        let mut expecting = request(&[(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, "300")]);
        assert_eq!(route.of_request(&mut expecting, None, &ROUTER).response, millis(15_000));
        let suppresses = Router { suppresses_envoy_headers: true, ..ROUTER };
        let mut quiet = request(&[]);
        route.of_request(&mut quiet, None, &suppresses);
        assert!(quiet.headers.is_empty());
    }

    #[test]
    fn a_bound_of_the_stream_replaces_the_timeout() {
        let bounds = MaxStreamDuration {
            max_stream_duration: seconds(9),
            grpc_timeout_header_max: seconds(3),
            grpc_timeout_header_offset: seconds(1),
        };
        let action =
            RouteAction { timeout: seconds(5), max_stream_duration: Some(bounds), ..Default::default() };
        let route = RouteTimeouts::compile(&action).unwrap();
        assert_eq!(route.of_request(&mut request(&[]), None, &ROUTER).response, None);
        assert_eq!(route.max_stream(&mut request(&[]), millis(1)), millis(9000));
        for (asked, wanted) in [("2S", 1000), ("9S", 2000), ("1S", 0), ("500m", 0)] {
            let mut request = request(&[GRPC, (grpc::GRPC_TIMEOUT, asked)]);
            assert_eq!(route.max_stream(&mut request, None), millis(wanted), "{asked}");
            assert_eq!(told(&request, &grpc::GRPC_TIMEOUT), Some(format!("{wanted}m")));
        }
        let silent = RouteTimeouts::compile(&RouteAction::default()).unwrap();
        assert_eq!(silent.max_stream(&mut request(&[]), millis(7)), millis(7));
        let off = MaxStreamDuration { max_stream_duration: seconds(0), ..Default::default() };
        let off = RouteAction { max_stream_duration: Some(off), ..Default::default() };
        assert_eq!(RouteTimeouts::compile(&off).unwrap().max_stream(&mut request(&[]), millis(7)), None);
    }

    #[test]
    fn the_older_way_is_about_the_response() {
        #[allow(deprecated, reason = "the older way")]
        let action = |max, offset| RouteAction {
            max_grpc_timeout: seconds(max),
            grpc_timeout_offset: seconds(offset),
            ..Default::default()
        };
        let response = |action: &RouteAction, headers: &[_]| {
            let route = RouteTimeouts::compile(action).unwrap();
            route.of_request(&mut request(headers), None, &ROUTER).response
        };
        let asks = |value| [GRPC, (grpc::GRPC_TIMEOUT, value)];
        assert_eq!(response(&action(10, 1), &asks("5S")), millis(4000));
        assert_eq!(response(&action(10, 1), &asks("1S")), millis(1000));
        assert_eq!(response(&action(10, 1), &asks("60S")), millis(10_000));
        assert_eq!(response(&action(0, 0), &asks("60S")), millis(60_000));
        assert_eq!(response(&action(10, 1), &[GRPC]), millis(10_000));
        assert_eq!(response(&action(0, 1), &[GRPC]), None);
        assert_eq!(response(&action(10, 1), &[(grpc::GRPC_TIMEOUT, "5S")]), millis(15_000));
    }
}
