//! `envoy.filters.http.fault`: requests delayed and aborted on purpose.
//!
//! Source: Envoy's documentation, "Fault Injection".

use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::common::fault::v3::FaultDelay as DelayProto;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::fault_abort::ErrorType;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{
    FaultAbort as AbortProto, HttpFault as Proto,
};
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use http::{HeaderName, StatusCode};

use crate::header_condition::HeaderCondition;
use crate::names::X_ENVOY_DOWNSTREAM_SERVICE_NODE;
use crate::proto::{duration, number};
use crate::refusal::Within;
use crate::{Fraction, Refusal, Request};

const DELAY: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request");
const DELAY_PERCENTAGE: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request-percentage");
const ABORT: HeaderName = HeaderName::from_static("x-envoy-fault-abort-request");
const ABORT_GRPC: HeaderName = HeaderName::from_static("x-envoy-fault-abort-grpc-request");
const ABORT_PERCENTAGE: HeaderName = HeaderName::from_static("x-envoy-fault-abort-request-percentage");

/// Requests delayed and aborted on purpose.
#[derive(Clone, Debug)]
pub struct Fault {
    delay: Option<(Delay, Fraction)>,
    abort: Option<(Abort, Fraction)>,
    /// Body of the answer to an aborted request.
    pub abort_body: String,
    /// Only requests to this cluster.
    upstream_cluster: Option<String>,
    headers: Vec<HeaderCondition>,
    downstream_nodes: Vec<String>,
    max_active: Option<u32>,
    /// Nothing is counted for the client's cluster.
    pub disables_downstream_stats: bool,
}

#[derive(Clone, Copy, Debug)]
enum Delay {
    Fixed(Duration),
    /// As the request's header says, in milliseconds.
    Header,
}

#[derive(Clone, Copy, Debug)]
enum Abort {
    Fixed(FaultAbort),
    /// As the request's headers say.
    Header,
}

/// How a request is aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAbort {
    /// With an HTTP status.
    Http(StatusCode),
    /// With a gRPC status.
    Grpc(u32),
}

/// What becomes of a request: it is delayed, then aborted, or neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultDecision {
    /// For how long it is delayed.
    pub delay: Option<Duration>,
    /// How it is aborted, after the delay.
    pub abort: Option<FaultAbort>,
}

impl FaultDecision {
    /// Whether anything is done to the request.
    pub fn is_fault(&self) -> bool {
        self.delay.is_some() || self.abort.is_some()
    }
}

impl Fault {
    pub(super) fn compile(proto: &Proto) -> Result<Fault, Refusal> {
        let Proto {
            delay,
            abort,
            upstream_cluster,
            headers,
            downstream_nodes,
            max_active_faults,
            response_rate_limit,
            // There is no runtime to ask under these names.
            delay_percent_runtime: _,
            abort_percent_runtime: _,
            delay_duration_runtime: _,
            abort_http_status_runtime: _,
            max_active_faults_runtime: _,
            response_rate_limit_percent_runtime: _,
            abort_grpc_status_runtime: _,
            disable_downstream_cluster_stats,
            filter_metadata,
        } = proto;
        refuse_if_set!(response_rate_limit, filter_metadata);
        let body = abort.as_ref().map(|abort| abort.response_body.as_str()).unwrap_or_default();
        let headers = headers.iter().map(HeaderCondition::compile);
        Ok(Fault {
            delay: delay.as_ref().map(compile_delay).transpose().within(|| "delay".to_owned())?,
            abort: abort.as_ref().map(compile_abort).transpose().within(|| "abort".to_owned())?,
            abort_body: if body.is_empty() { "fault filter abort" } else { body }.to_owned(),
            upstream_cluster: Some(upstream_cluster.clone()).filter(|name| !name.is_empty()),
            headers: headers.collect::<Result<_, _>>().within(|| "headers".to_owned())?,
            downstream_nodes: downstream_nodes.clone(),
            max_active: number(max_active_faults.as_ref()),
            disables_downstream_stats: *disable_downstream_cluster_stats,
        })
    }

    /// What becomes of a request on its way to `cluster` while `active` others are delayed or aborted.
    pub fn decide(
        &self,
        request: &Request,
        cluster: Option<&str>,
        active: u64,
        random: [u64; 2],
    ) -> FaultDecision {
        let is_full = self.max_active.is_some_and(|max| active >= u64::from(max));
        if is_full || !self.concerns(request, cluster) {
            return FaultDecision::default();
        }
        let [for_delay, for_abort] = random;
        let delay = self.delay.filter(|(delay, fraction)| match delay {
            Delay::Fixed(_) => fraction.holds(for_delay),
            Delay::Header => limited(*fraction, request, &DELAY_PERCENTAGE).holds(for_delay),
        });
        let abort = self.abort.filter(|(abort, fraction)| match abort {
            Abort::Fixed(_) => fraction.holds(for_abort),
            Abort::Header => limited(*fraction, request, &ABORT_PERCENTAGE).holds(for_abort),
        });
        FaultDecision {
            delay: delay.and_then(|(delay, _)| delay.of(request)),
            abort: abort.and_then(|(abort, _)| abort.of(request)),
        }
    }

    fn concerns(&self, request: &Request, cluster: Option<&str>) -> bool {
        let is_node = || {
            let node = request.headers.get(&X_ENVOY_DOWNSTREAM_SERVICE_NODE);
            node.is_some_and(|node| {
                self.downstream_nodes.iter().any(|name| name.as_bytes() == node.as_bytes())
            })
        };
        self.upstream_cluster.as_deref().is_none_or(|wanted| cluster == Some(wanted))
            && self.headers.iter().all(|condition| condition.holds(request))
            && (self.downstream_nodes.is_empty() || is_node())
    }
}

impl Delay {
    fn of(self, request: &Request) -> Option<Duration> {
        match self {
            Delay::Fixed(delay) => Some(delay),
            Delay::Header => {
                header_number(request, &DELAY).map(|millis| Duration::from_millis(millis.into()))
            }
        }
    }
}

impl Abort {
    fn of(self, request: &Request) -> Option<FaultAbort> {
        match self {
            Abort::Fixed(abort) => Some(abort),
            Abort::Header => {
                let status = header_number(request, &ABORT).and_then(http_status);
                let http = status.map(FaultAbort::Http);
                http.or_else(|| header_number(request, &ABORT_GRPC).map(FaultAbort::Grpc))
            }
        }
    }
}

/// A header may make the share smaller.
fn limited(fraction: Fraction, request: &Request, name: &HeaderName) -> Fraction {
    let (numerator, _) = fraction.parts();
    header_number(request, name).map_or(fraction, |wanted| fraction.with_numerator(wanted.min(numerator)))
}

fn header_number(request: &Request, name: &HeaderName) -> Option<u32> {
    request.headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn http_status(code: u32) -> Option<StatusCode> {
    let code = u16::try_from(code).ok().filter(|code| (200..600).contains(code))?;
    StatusCode::from_u16(code).ok()
}

fn fraction(proto: Option<&FractionalPercent>) -> Result<Fraction, Refusal> {
    proto.map_or(Ok(Fraction::NONE), Fraction::compile)
}

fn compile_delay(proto: &DelayProto) -> Result<(Delay, Fraction), Refusal> {
    let DelayProto { percentage, fault_delay_secifier } = proto;
    let delay = match fault_delay_secifier {
        Some(FaultDelaySecifier::FixedDelay(delay)) => Delay::Fixed(duration(delay)?),
        Some(FaultDelaySecifier::HeaderDelay(_)) => Delay::Header,
        None => return Err(Refusal::invalid("no delay")),
    };
    Ok((delay, fraction(percentage.as_ref())?))
}

fn compile_abort(proto: &AbortProto) -> Result<(Abort, Fraction), Refusal> {
    let AbortProto { percentage, response_body: _, error_type } = proto;
    let abort = match error_type {
        Some(ErrorType::HttpStatus(code)) => {
            let status = http_status(*code).ok_or_else(|| Refusal::invalid(format!("http_status {code}")))?;
            Abort::Fixed(FaultAbort::Http(status))
        }
        Some(ErrorType::GrpcStatus(code)) => Abort::Fixed(FaultAbort::Grpc(*code)),
        Some(ErrorType::HeaderAbort(_)) => Abort::Header,
        None => return Err(Refusal::invalid("no status")),
    };
    Ok((abort, fraction(percentage.as_ref())?))
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::route::v3::HeaderMatcher;
    use envoy_types::pb::envoy::extensions::filters::common::fault::v3::fault_delay::HeaderDelay;
    use envoy_types::pb::envoy::extensions::filters::http::fault::v3::fault_abort::HeaderAbort;
    use envoy_types::pb::google::protobuf::{Duration as DurationProto, UInt32Value};
    use http::{HeaderValue, Method};

    use super::*;

    fn percent(numerator: u32) -> Option<FractionalPercent> {
        Some(FractionalPercent { numerator, denominator: 0 })
    }

    fn fixed() -> Proto {
        Proto {
            delay: Some(DelayProto {
                percentage: percent(50),
                fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(DurationProto {
                    seconds: 7,
                    nanos: 0,
                })),
            }),
            abort: Some(AbortProto {
                percentage: percent(10),
                error_type: Some(ErrorType::HttpStatus(555)),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn request(headers: &[(HeaderName, &'static str)]) -> Request {
        let slash = HeaderValue::from_static("/");
        let mut request = Request::new(Method::GET, HeaderValue::from_static("a"), slash);
        for (name, value) in headers {
            request.headers.append(name.clone(), HeaderValue::from_static(value));
        }
        request
    }

    #[test]
    fn faults_are_shares_of_requests() {
        let fault = Fault::compile(&fixed()).unwrap();
        let decide = |random| fault.decide(&request(&[]), None, 0, random);
        let delay = Some(Duration::from_secs(7));
        let abort = Some(FaultAbort::Http(StatusCode::from_u16(555).unwrap()));
        assert_eq!(decide([49, 9]), FaultDecision { delay, abort });
        assert_eq!(decide([50, 9]), FaultDecision { delay: None, abort });
        assert!(!decide([50, 10]).is_fault());
        assert_eq!(fault.abort_body, "fault filter abort");
    }

    #[test]
    fn only_some_requests_are_concerned() {
        let headers = vec![HeaderMatcher { name: "x-test".into(), ..Default::default() }];
        let limited = Proto {
            headers,
            upstream_cluster: "c".into(),
            max_active_faults: Some(UInt32Value { value: 2 }),
            ..fixed()
        };
        let fault = Fault::compile(&limited).unwrap();
        let x_test = HeaderName::from_static("x-test");
        let good = request(&[(x_test, "")]);
        let is_fault = |request, cluster, active| fault.decide(request, cluster, active, [0, 0]).is_fault();
        assert!(is_fault(&good, Some("c"), 1));
        assert!(!is_fault(&good, Some("c"), 2));
        assert!(!is_fault(&good, Some("d"), 0));
        assert!(!is_fault(&request(&[]), Some("c"), 0));
    }

    #[test]
    fn requests_may_ask_for_faults() {
        let by_header = Proto {
            delay: Some(DelayProto {
                percentage: percent(50),
                fault_delay_secifier: Some(FaultDelaySecifier::HeaderDelay(HeaderDelay {})),
            }),
            abort: Some(AbortProto {
                percentage: percent(100),
                error_type: Some(ErrorType::HeaderAbort(HeaderAbort {})),
                ..Default::default()
            }),
            ..Default::default()
        };
        let fault = Fault::compile(&by_header).unwrap();
        let decide = |headers: &[_], random| fault.decide(&request(headers), None, 0, random);
        assert!(!decide(&[], [0, 0]).is_fault());
        assert_eq!(decide(&[(DELAY, "20")], [49, 0]).delay, Some(Duration::from_millis(20)));
        assert_eq!(decide(&[(DELAY, "20"), (DELAY_PERCENTAGE, "30")], [30, 0]).delay, None);
        assert_eq!(decide(&[(DELAY, "20"), (DELAY_PERCENTAGE, "90")], [50, 0]).delay, None);
        assert_eq!(decide(&[(ABORT, "404")], [0, 0]).abort, Some(FaultAbort::Http(StatusCode::NOT_FOUND)));
        assert_eq!(decide(&[(ABORT, "99"), (ABORT_GRPC, "5")], [0, 0]).abort, Some(FaultAbort::Grpc(5)));
    }
}
