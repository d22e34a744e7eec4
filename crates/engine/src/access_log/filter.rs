//! Which streams a log takes.

use std::time::Duration;

use envoy_types::pb::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use envoy_types::pb::envoy::config::accesslog::v3::comparison_filter::Op;
use envoy_types::pb::envoy::config::accesslog::v3::grpc_status_filter::Status;
use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLogFilter, ComparisonFilter, GrpcStatusFilter, HeaderFilter, ResponseFlagFilter, RuntimeFilter,
};
use http::StatusCode;

use crate::header_condition::HeaderCondition;
use crate::proto::enumeration;
use crate::refusal::Within;
use crate::request_id::RequestId;
use crate::{Fraction, Refusal, ResponseFlags, StreamView, grpc};

/// Deepest nesting of filters.
const DEPTH_MAX: usize = 16;

/// A condition on a stream that has ended.
#[derive(Clone, Debug)]
pub struct LogFilter(Node);

#[derive(Clone, Debug)]
enum Node {
    Status(Comparison),
    /// In milliseconds.
    Duration(Comparison),
    /// No filter of ours marks requests as health checks.
    Always,
    Sample {
        fraction: Fraction,
        by_request_id: bool,
    },
    All(Vec<Node>),
    Any(Vec<Node>),
    Header(Box<HeaderCondition>),
    /// Any of these; any at all if there are none.
    Flags(Vec<ResponseFlags>),
    Grpc {
        statuses: Vec<u32>,
        exclude: bool,
    },
}

#[derive(Clone, Copy, Debug)]
struct Comparison {
    op: Op,
    value: u64,
}

impl LogFilter {
    pub(crate) fn compile(proto: &AccessLogFilter) -> Result<LogFilter, Refusal> {
        Node::compile(proto, 0).map(LogFilter)
    }

    /// Whether the log takes the stream; `random` decides about samples.
    pub fn takes(&self, stream: StreamView<'_>, random: u64) -> bool {
        self.0.takes(stream, random)
    }
}

impl Node {
    fn compile(proto: &AccessLogFilter, depth: usize) -> Result<Node, Refusal> {
        if depth > DEPTH_MAX {
            return Err(Refusal::unsupported(format!("deeper than {DEPTH_MAX}")));
        }
        let each = |filters: &[AccessLogFilter]| {
            filters.iter().map(|filter| Node::compile(filter, depth + 1)).collect::<Result<Vec<_>, _>>()
        };
        let comparison = |proto: Option<&ComparisonFilter>, name: &str| {
            Comparison::compile(proto).within(|| name.to_owned())
        };
        let specifier = proto.filter_specifier.as_ref();
        Ok(match specifier.ok_or_else(|| Refusal::invalid("a filter of no kind"))? {
            FilterSpecifier::StatusCodeFilter(filter) => {
                Node::Status(comparison(filter.comparison.as_ref(), "status_code_filter")?)
            }
            FilterSpecifier::DurationFilter(filter) => {
                Node::Duration(comparison(filter.comparison.as_ref(), "duration_filter")?)
            }
            FilterSpecifier::NotHealthCheckFilter(_) => Node::Always,
            FilterSpecifier::RuntimeFilter(filter) => Node::sample(filter)?,
            FilterSpecifier::AndFilter(filter) => Node::All(each(&filter.filters)?),
            FilterSpecifier::OrFilter(filter) => Node::Any(each(&filter.filters)?),
            FilterSpecifier::HeaderFilter(HeaderFilter { header }) => {
                let header = header.as_ref().ok_or_else(|| Refusal::invalid("no header"))?;
                Node::Header(Box::new(HeaderCondition::compile(header)?))
            }
            FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter { flags }) => {
                let flag = |name: &String| {
                    ResponseFlags::parse(name).ok_or_else(|| Refusal::invalid(format!("flag {name}")))
                };
                Node::Flags(flags.iter().map(flag).collect::<Result<_, _>>()?)
            }
            FilterSpecifier::GrpcStatusFilter(filter) => Node::grpc(filter)?,
            FilterSpecifier::TraceableFilter(_) => return Err(Refusal::unsupported("traceable_filter")),
            FilterSpecifier::ExtensionFilter(extension) => {
                return Err(Refusal::unsupported(format!("extension_filter {}", extension.name)));
            }
            FilterSpecifier::MetadataFilter(_) => return Err(Refusal::unsupported("metadata_filter")),
            FilterSpecifier::LogTypeFilter(_) => return Err(Refusal::unsupported("log_type_filter")),
        })
    }

    fn sample(proto: &RuntimeFilter) -> Result<Node, Refusal> {
        let RuntimeFilter { runtime_key: _, percent_sampled, use_independent_randomness } = proto;
        let fraction = percent_sampled.as_ref().map_or(Ok(Fraction::NONE), Fraction::compile)?;
        Ok(Node::Sample { fraction, by_request_id: !use_independent_randomness })
    }

    fn grpc(proto: &GrpcStatusFilter) -> Result<Node, Refusal> {
        let GrpcStatusFilter { statuses, exclude } = proto;
        let code = |status: &i32| enumeration::<Status>(*status, "status").map(|status| status as u32);
        Ok(Node::Grpc { statuses: statuses.iter().map(code).collect::<Result<_, _>>()?, exclude: *exclude })
    }

    fn takes(&self, stream: StreamView<'_>, random: u64) -> bool {
        let info = stream.info;
        match self {
            // Envoy compares with 0 what has no status, and so never takes it for a minimum.
            Node::Status(comparison) => {
                comparison.holds(info.status.map_or(0, |status| status.as_u16().into()))
            }
            Node::Duration(comparison) => {
                let millis = info.ended.as_ref().map(Duration::as_millis);
                millis.is_some_and(|millis| comparison.holds(u64::try_from(millis).unwrap_or(u64::MAX)))
            }
            Node::Always => true,
            Node::Sample { fraction, by_request_id } => {
                let id = stream.request.filter(|_| *by_request_id).and_then(RequestId::of);
                fraction.holds(id.map_or(random, |id| id.number()))
            }
            Node::All(nodes) => nodes.iter().all(|node| node.takes(stream, random)),
            Node::Any(nodes) => nodes.iter().any(|node| node.takes(stream, random)),
            Node::Header(condition) => stream.request.is_some_and(|request| condition.holds(request)),
            Node::Flags(flags) if flags.is_empty() => !info.flags.is_empty(),
            Node::Flags(flags) => flags.iter().any(|flag| info.flags.has(*flag)),
            Node::Grpc { statuses, exclude } => {
                let status = grpc_status(stream);
                statuses.contains(&status) != *exclude
            }
        }
    }
}

impl Comparison {
    fn compile(proto: Option<&ComparisonFilter>) -> Result<Comparison, Refusal> {
        let ComparisonFilter { op, value } = proto.ok_or_else(|| Refusal::invalid("no comparison"))?;
        let value = value.as_ref().ok_or_else(|| Refusal::invalid("no value"))?;
        Ok(Comparison { op: enumeration(*op, "op")?, value: value.default_value.into() })
    }

    fn holds(self, value: u64) -> bool {
        match self.op {
            Op::Eq => value == self.value,
            Op::Ge => value >= self.value,
            Op::Le => value <= self.value,
            Op::Ne => value != self.value,
        }
    }
}

/// What the stream says of itself, else what its HTTP status stands for.
fn grpc_status(stream: StreamView<'_>) -> u32 {
    let said = [stream.trailers, stream.response].into_iter().flatten().find_map(grpc::status);
    said.unwrap_or_else(|| grpc::status_of_http(stream.info.status.unwrap_or(StatusCode::OK)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use envoy_types::pb::envoy::config::accesslog::v3::{
        AndFilter, DurationFilter, OrFilter, StatusCodeFilter,
    };
    use envoy_types::pb::envoy::config::core::v3::RuntimeUInt32;
    use envoy_types::pb::envoy::r#type::v3::FractionalPercent;

    use super::*;
    use crate::{ConnectionInfo, Headers, StreamInfo};

    fn info(status: u16) -> StreamInfo {
        let at = "10.0.0.1:80".parse().unwrap();
        let connection = ConnectionInfo {
            id: 1,
            local: at,
            remote: at,
            direct_remote: at,
            server_name: None,
            is_restored: false,
        };
        let mut info = StreamInfo::new(Arc::new(connection), Duration::ZERO, None);
        info.status = StatusCode::from_u16(status).ok();
        info.ended = Some(Duration::from_millis(70));
        info
    }

    fn takes(filter: FilterSpecifier, info: &StreamInfo, response: Option<&Headers>) -> bool {
        let filter = LogFilter::compile(&AccessLogFilter { filter_specifier: Some(filter) }).unwrap();
        filter.takes(StreamView { info, request: None, response, trailers: None }, 7)
    }

    fn compare(op: Op, value: u32) -> Option<ComparisonFilter> {
        let value = RuntimeUInt32 { default_value: value, runtime_key: String::new() };
        Some(ComparisonFilter { op: op as i32, value: Some(value) })
    }

    #[test]
    fn status_and_duration_are_compared() {
        let status = |op, value| {
            FilterSpecifier::StatusCodeFilter(StatusCodeFilter { comparison: compare(op, value) })
        };
        let info = info(503);
        for (op, value, wanted) in [
            (Op::Ge, 500, true),
            (Op::Ge, 504, false),
            (Op::Le, 503, true),
            (Op::Eq, 200, false),
            (Op::Ne, 1, true),
        ] {
            assert_eq!(takes(status(op, value), &info, None), wanted, "{op:?} {value}");
        }
        let slow = FilterSpecifier::DurationFilter(DurationFilter { comparison: compare(Op::Ge, 71) });
        assert!(!takes(slow.clone(), &info, None));
        let either = |filters: Vec<FilterSpecifier>| -> Vec<AccessLogFilter> {
            filters.into_iter().map(|filter| AccessLogFilter { filter_specifier: Some(filter) }).collect()
        };
        let both = vec![slow, status(Op::Ge, 500)];
        assert!(takes(FilterSpecifier::OrFilter(OrFilter { filters: either(both.clone()) }), &info, None));
        assert!(!takes(FilterSpecifier::AndFilter(AndFilter { filters: either(both) }), &info, None));
    }

    #[test]
    fn grpc_statuses_are_said_or_derived() {
        let filter =
            |exclude| FilterSpecifier::GrpcStatusFilter(GrpcStatusFilter { statuses: vec![14], exclude });
        let info = info(503);
        assert!(takes(filter(false), &info, None));
        let said: Headers = [("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect();
        assert!(!takes(filter(false), &info, Some(&said)));
        assert!(takes(filter(true), &info, Some(&said)));
    }

    #[test]
    fn samples_are_random_without_an_id() {
        let filter = |numerator| {
            let percent_sampled = Some(FractionalPercent { numerator, denominator: 0 });
            FilterSpecifier::RuntimeFilter(RuntimeFilter { percent_sampled, ..Default::default() })
        };
        assert!(takes(filter(8), &info(200), None) && !takes(filter(7), &info(200), None));
    }
}
