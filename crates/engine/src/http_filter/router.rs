//! `envoy.filters.http.router`.

use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router as Proto;

use crate::Refusal;
use crate::proto::flag;

/// Sends requests on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Router {
    /// No `x-envoy-` headers are added, neither upstream nor downstream.
    pub suppresses_envoy_headers: bool,
    /// Each request upstream is a span of its own.
    pub starts_child_span: bool,
    /// `x-envoy-expected-rq-timeout-ms` of the client is its timeout.
    pub respects_expected_timeout: bool,
    /// gRPC statuses do not count as failures of the HTTP request.
    pub suppresses_grpc_failure_stats: bool,
    /// Statistics of virtual clusters and the like are kept.
    pub dynamic_stats: bool,
}

impl Router {
    pub(super) fn compile(proto: &Proto) -> Result<Router, Refusal> {
        fates!(proto: Proto {
            compiled:
                dynamic_stats,
                start_child_span,
                suppress_envoy_headers,
                respect_expected_rq_timeout,
                suppress_grpc_request_failure_code_stats;
            refused:
                upstream_log,
                upstream_log_options,
                strict_check_headers,
                upstream_http_filters,
                reject_connect_request_early_data;
        });
        #[allow(deprecated, reason = "Envoy still takes it")]
        let starts_child_span = proto.start_child_span;
        Ok(Router {
            suppresses_envoy_headers: proto.suppress_envoy_headers,
            starts_child_span,
            respects_expected_timeout: proto.respect_expected_rq_timeout,
            suppresses_grpc_failure_stats: proto.suppress_grpc_request_failure_code_stats,
            dynamic_stats: flag(proto.dynamic_stats.as_ref(), true),
        })
    }
}
