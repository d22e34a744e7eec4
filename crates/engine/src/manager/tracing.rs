//! Which requests are traced, and what is told of them.

use envoy_types::pb::envoy::config::route::v3::Tracing as RouteProto;
use envoy_types::pb::envoy::config::trace::v3::tracing::Http as Provider;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing as Proto;
use envoy_types::pb::envoy::r#type::tracing::v3::CustomTag;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use http::HeaderName;

use super::RequestIdRules;
use crate::format::Format;
use crate::proto::{flag, number};
use crate::request_id::{RequestId, TraceReason, X_REQUEST_ID};
use crate::{Fraction, Refusal, Request};

const X_CLIENT_TRACE_ID: HeaderName = HeaderName::from_static("x-client-trace-id");
const X_ENVOY_FORCE_TRACE: HeaderName = HeaderName::from_static("x-envoy-force-trace");

/// What is traced of a manager's requests.
#[derive(Clone, Debug)]
pub struct Tracing {
    /// Which shares of requests.
    pub sampling: Sampling,
    /// Are events told besides?
    pub verbose: bool,
    /// Longest path that is told, in bytes.
    pub path_tag_max: u32,
    /// What is told besides, as configured.
    pub tags: Vec<CustomTag>,
    /// Whom it is told, as configured; nobody, if there is none.
    pub provider: Option<Box<Provider>>,
    /// Is each request to an upstream a span of its own?
    pub spawns_upstream_span: bool,
    /// Name of the span, if it is not to be the route's.
    pub operation: Option<Format>,
    /// Name of the upstream's span.
    pub upstream_operation: Option<Format>,
    /// Are upstreams told of the trace?
    pub propagates: bool,
}

/// What a route says of it.
#[derive(Clone, Debug)]
pub struct RouteTracing {
    /// Instead of the manager's.
    pub sampling: Sampling,
    /// Besides the manager's.
    pub tags: Vec<CustomTag>,
    /// Instead of the manager's, if there is one.
    pub operation: Option<Format>,
    /// Instead of the manager's, if there is one.
    pub upstream_operation: Option<Format>,
}

/// Which shares of requests are traced.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Of those whose client wishes it.
    pub client: Fraction,
    /// Of the others.
    pub random: Fraction,
    /// Of all that are to be traced, how many are.
    pub overall: Fraction,
}

impl Tracing {
    pub(super) fn compile(proto: Option<Proto>) -> Result<Option<Box<Tracing>>, Refusal> {
        let Some(proto) = proto else { return Ok(None) };
        let Proto {
            client_sampling,
            random_sampling,
            overall_sampling,
            verbose,
            max_path_tag_length,
            custom_tags,
            provider,
            spawn_upstream_span,
            operation,
            upstream_operation,
            no_context_propagation,
        } = proto;
        Ok(Some(Box::new(Tracing {
            sampling: Sampling {
                client: Fraction::of_percent(client_sampling.as_ref())?,
                random: Fraction::of_percent(random_sampling.as_ref())?,
                overall: Fraction::of_percent(overall_sampling.as_ref())?,
            },
            verbose,
            path_tag_max: number(max_path_tag_length.as_ref()).unwrap_or(256),
            tags: custom_tags,
            provider: provider.map(Box::new),
            spawns_upstream_span: flag(spawn_upstream_span.as_ref(), false),
            operation: format(&operation)?,
            upstream_operation: format(&upstream_operation)?,
            propagates: !no_context_propagation,
        })))
    }

    /// Decides whether a request is traced, and writes that into its id. `route` is what its route says, if it says
    /// anything; `random` is the request's own.
    pub fn decide(
        &self,
        request: &mut Request,
        rules: RequestIdRules,
        route: Option<&RouteTracing>,
        random: u64,
    ) -> TraceReason {
        let sampling = route.map_or(self.sampling, |route| route.sampling);
        if !rules.decides_sampling {
            return TraceReason::Sampled;
        }
        let Some(id) = RequestId::of(request) else { return TraceReason::NotTraced };
        let number = id.number();
        let said = if rules.packs_trace_reason { id.reason() } else { TraceReason::NotTraced };
        let wished = match said {
            TraceReason::NotTraced
                if request.headers.contains(&X_CLIENT_TRACE_ID) && sampling.client.holds(random) =>
            {
                TraceReason::ClientForced
            }
            TraceReason::NotTraced if request.headers.contains(&X_ENVOY_FORCE_TRACE) => {
                TraceReason::ServiceForced
            }
            TraceReason::NotTraced if sampling.random.holds(number) => TraceReason::Sampled,
            said => said,
        };
        let reason = if sampling.overall.holds(number) { wished } else { TraceReason::NotTraced };
        if reason != said && rules.packs_trace_reason {
            request.headers.set(X_REQUEST_ID, id.with_reason(reason).value());
        }
        reason
    }
}

impl RouteTracing {
    pub(crate) fn compile(proto: RouteProto) -> Result<RouteTracing, Refusal> {
        let RouteProto {
            client_sampling,
            random_sampling,
            overall_sampling,
            custom_tags,
            operation,
            upstream_operation,
        } = proto;
        let fraction =
            |proto: Option<FractionalPercent>| proto.as_ref().map_or(Ok(Fraction::ALL), Fraction::compile);
        Ok(RouteTracing {
            sampling: Sampling {
                client: fraction(client_sampling)?,
                random: fraction(random_sampling)?,
                overall: fraction(overall_sampling)?,
            },
            tags: custom_tags,
            operation: format(&operation)?,
            upstream_operation: format(&upstream_operation)?,
        })
    }
}

fn format(text: &str) -> Result<Option<Format>, Refusal> {
    Some(text).filter(|text| !text.is_empty()).map(Format::compile).transpose()
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Method};

    use super::*;

    const RULES: RequestIdRules = RequestIdRules {
        generates: true,
        keeps_external: false,
        always_in_response: false,
        packs_trace_reason: true,
        decides_sampling: true,
    };

    fn tracing(client: Fraction, random: Fraction, overall: Fraction) -> Tracing {
        let mut tracing = *Tracing::compile(Some(Proto::default())).unwrap().unwrap();
        tracing.sampling = Sampling { client, random, overall };
        tracing
    }

    fn request(headers: &[(&'static str, &'static str)]) -> Request {
        let slash = HeaderValue::from_static("/");
        let mut request = Request::new(Method::GET, HeaderValue::from_static("a"), slash);
        request.headers.append(X_REQUEST_ID, RequestId::new([1; 16]).value());
        for (name, value) in headers {
            request.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        request
    }

    #[test]
    fn wishes_come_before_samples() {
        let (all, none) = (Fraction::ALL, Fraction::NONE);
        let force = ("x-envoy-force-trace", "1");
        let client = ("x-client-trace-id", "x");
        for (tracing, headers, wanted) in [
            (tracing(all, all, all), &[][..], TraceReason::Sampled),
            (tracing(all, none, all), &[], TraceReason::NotTraced),
            (tracing(all, none, all), &[client], TraceReason::ClientForced),
            (tracing(none, none, all), &[client], TraceReason::NotTraced),
            (tracing(none, none, all), &[client, force], TraceReason::ServiceForced),
            (tracing(all, all, none), &[force], TraceReason::NotTraced),
        ] {
            let mut request = request(headers);
            assert_eq!(tracing.decide(&mut request, RULES, None, 3), wanted);
            assert_eq!(RequestId::of(&request).unwrap().reason(), wanted);
        }
    }

    #[test]
    fn the_route_and_the_id_have_a_say() {
        let all = tracing(Fraction::ALL, Fraction::ALL, Fraction::ALL);
        let never = RouteProto { random_sampling: Some(FractionalPercent::default()), ..Default::default() };
        let never = RouteTracing::compile(never).unwrap();
        let mut plain = request(&[]);
        assert_eq!(all.decide(&mut plain, RULES, Some(&never), 0), TraceReason::NotTraced);
        let traced = RequestId::new([1; 16]).with_reason(TraceReason::Sampled);
        plain.headers.set(X_REQUEST_ID, traced.value());
        assert_eq!(all.decide(&mut plain, RULES, Some(&never), 0), TraceReason::Sampled);
        plain.headers.set(X_REQUEST_ID, HeaderValue::from_static("own"));
        assert_eq!(all.decide(&mut plain, RULES, None, 0), TraceReason::NotTraced);
    }
}
