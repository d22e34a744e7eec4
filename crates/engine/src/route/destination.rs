//! One of a route's weighted clusters: what is done to the requests that go to it, before what its route does.

use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight as Proto;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::cluster_weight::HostRewriteSpecifier;
use http::HeaderValue;

use crate::proto::{header_value, number};
use crate::{HeaderOps, Refusal, RouteFilters};

/// What is done to requests that go to one of a route's weighted clusters.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Headers of the request.
    pub request_headers: HeaderOps,
    /// Headers of the response.
    pub response_headers: HeaderOps,
    /// What is said to filters.
    pub filters: RouteFilters,
    /// The host it gets.
    pub host: Option<HeaderValue>,
}

impl Destination {
    /// Name and weight.
    pub(super) fn share(proto: &Proto) -> (String, u32) {
        (proto.name.clone(), number(proto.weight.as_ref()).unwrap_or(0))
    }

    pub(super) fn compile(proto: &Proto) -> Result<Destination, Refusal> {
        let Proto {
            name,
            weight: _,
            request_headers_to_add,
            request_headers_to_remove,
            response_headers_to_add,
            response_headers_to_remove,
            typed_per_filter_config,
            host_rewrite_specifier,
            cluster_header,
            metadata_match,
        } = proto;
        refuse_if_set!(cluster_header, metadata_match);
        if name.is_empty() {
            return Err(Refusal::invalid("no name"));
        }
        let host = host_rewrite_specifier.as_ref().map(|HostRewriteSpecifier::HostRewriteLiteral(host)| host);
        let host = host.filter(|host| !host.is_empty());
        Ok(Destination {
            request_headers: HeaderOps::compile(
                request_headers_to_add,
                request_headers_to_remove,
                "request_headers_to_add",
                "request_headers_to_remove",
            )?,
            response_headers: HeaderOps::compile(
                response_headers_to_add,
                response_headers_to_remove,
                "response_headers_to_add",
                "response_headers_to_remove",
            )?,
            filters: RouteFilters::compile(typed_per_filter_config)?,
            host: host.map(|host| header_value(host, "host_rewrite_literal")).transpose()?,
        })
    }
}
