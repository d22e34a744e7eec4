//! `envoy.filters.http.grpc_stats`: what is counted of gRPC.

use envoy_types::pb::envoy::config::core::v3::grpc_method_list::Service;
use envoy_types::pb::envoy::extensions::filters::http::grpc_stats::v3::FilterConfig as Proto;
use envoy_types::pb::envoy::extensions::filters::http::grpc_stats::v3::filter_config::PerMethodStatSpecifier;

/// What is counted of gRPC.
#[derive(Clone, Debug)]
pub struct GrpcStats {
    /// The numbers of messages of a request are noted with it.
    pub emits_filter_state: bool,
    /// Times of upstreams are told, too.
    pub upstream_stats: bool,
    /// Dots in names of services become `_`.
    pub replaces_dots: bool,
    /// Which methods are counted on their own.
    pub methods: MethodStats,
}

/// Which methods are counted on their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MethodStats {
    /// None.
    None,
    /// All that are called.
    All,
    /// These: services and their methods.
    Some(Vec<(String, Vec<String>)>),
}

impl GrpcStats {
    pub(super) fn compile(proto: Proto) -> GrpcStats {
        let Proto {
            emit_filter_state,
            enable_upstream_stats,
            replace_dots_in_grpc_service_name,
            per_method_stat_specifier,
        } = proto;
        let methods = match per_method_stat_specifier {
            None => MethodStats::None,
            Some(PerMethodStatSpecifier::StatsForAllMethods(all)) if all.value => MethodStats::All,
            Some(PerMethodStatSpecifier::StatsForAllMethods(_)) => MethodStats::None,
            Some(PerMethodStatSpecifier::IndividualMethodStatsAllowlist(list)) => {
                let pair = |Service { name, method_names }| (name, method_names);
                MethodStats::Some(list.services.into_iter().map(pair).collect())
            }
        };
        GrpcStats {
            emits_filter_state: emit_filter_state,
            upstream_stats: enable_upstream_stats,
            replaces_dots: replace_dots_in_grpc_service_name,
            methods,
        }
    }

    /// Whether calls of this method are counted on their own.
    pub fn counts(&self, service: &str, method: &str) -> bool {
        match &self.methods {
            MethodStats::None => false,
            MethodStats::All => true,
            MethodStats::Some(list) => list
                .iter()
                .any(|(name, methods)| name == service && methods.iter().any(|name| name == method)),
        }
    }
}
