//! Virtual hosts and their routes.

use envoy_types::pb::envoy::config::route::v3::virtual_host::TlsRequirementType;
use envoy_types::pb::envoy::config::route::v3::{
    Decorator as DecoratorProto, Route as RouteProto, VirtualCluster as VirtualClusterProto,
    VirtualHost as HostProto,
};
use envoy_types::pb::google::protobuf::{UInt32Value, UInt64Value};

use super::matches::RouteMatch;
use super::mirror::Mirror;
use super::{Action, Defaults, TlsRequirement};
use crate::header_condition::HeaderCondition;
use crate::proto::{compact, enumeration, flag};
use crate::refusal::Within;
use crate::retry_policy::RetryPolicy;
use crate::{HeaderOps, Metadata, Refusal, Request, RouteFilters, RouteTracing};

/// A virtual host, compiled.
#[derive(Clone, Debug)]
pub struct VirtualHost {
    /// Name in xDS.
    pub name: String,
    /// Domains it answers for, as configured.
    pub domains: Vec<String>,
    /// For whom TLS is required.
    pub tls: TlsRequirement,
    /// Routes, tried in order.
    pub routes: Vec<Route>,
    /// Kinds of requests that are counted on their own, the first that matches.
    pub virtual_clusters: Vec<VirtualCluster>,
    /// Headers of requests.
    pub request_headers: HeaderOps,
    /// Headers of responses.
    pub response_headers: HeaderOps,
    /// What is said to filters.
    pub filters: RouteFilters,
    /// Is the upstream told which attempt it is (`x-envoy-attempt-count`)?
    pub tells_attempt: bool,
    /// Is the client told how many attempts it took?
    pub answers_attempts: bool,
    /// Is the upstream told that the attempt before timed out (`x-envoy-is-timeout-retry`)?
    pub tells_timeout_retry: bool,
    /// Bytes of a request that are kept to send them again; `None` for as many as may be buffered.
    pub replay_bytes: Option<u64>,
    /// Notes of others.
    pub metadata: Metadata,
}

/// A route, compiled.
#[derive(Clone, Debug)]
pub struct Route {
    /// Name in xDS, often empty.
    pub name: String,
    /// Which requests it is for.
    pub matches: RouteMatch,
    /// What becomes of them.
    pub action: Action,
    /// Headers of requests.
    pub request_headers: HeaderOps,
    /// Headers of responses.
    pub response_headers: HeaderOps,
    /// What is said to filters.
    pub filters: RouteFilters,
    /// Name in statistics; empty if it has none of its own.
    pub stat_prefix: String,
    /// What its requests are called in traces.
    pub decorator: Option<Decorator>,
    /// What is traced.
    pub tracing: Option<Box<RouteTracing>>,
    /// Bytes of a request that are kept to send them again, in place of the virtual host's.
    pub replay_bytes: Option<u64>,
    /// Notes of others.
    pub metadata: Metadata,
}

/// What requests are called in traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decorator {
    /// The name.
    pub operation: String,
    /// Is it told the other side?
    pub propagates: bool,
}

/// A kind of requests that is counted on its own.
#[derive(Clone, Debug)]
pub struct VirtualCluster {
    /// Name in statistics.
    pub name: String,
    conditions: Vec<HeaderCondition>,
}

impl VirtualHost {
    pub(super) fn compile(proto: HostProto, defaults: &Defaults<'_>) -> Result<VirtualHost, Refusal> {
        check_host(&proto)?;
        let retry = proto.retry_policy.as_ref().map(RetryPolicy::compile).transpose();
        let retry = retry.within(|| "retry_policy".to_owned())?;
        let mirrors = Mirror::compile_all(&proto.request_mirror_policies)?;
        let defaults = Defaults {
            retry: retry.as_ref(),
            mirrors: if mirrors.is_empty() { defaults.mirrors } else { &mirrors },
            ..*defaults
        };
        let (request_headers, response_headers) = header_ops(
            (&proto.request_headers_to_add, &proto.request_headers_to_remove),
            (&proto.response_headers_to_add, &proto.response_headers_to_remove),
        )?;
        #[allow(deprecated, reason = "older control planes still write it, and Envoy takes it")]
        let replay_bytes = replay_bytes(
            proto.per_request_buffer_limit_bytes.as_ref(),
            proto.request_body_buffer_limit.as_ref(),
        )?;
        let routes = proto.routes.into_iter().enumerate();
        let compile =
            |(i, r): (usize, RouteProto)| Route::compile(r, &defaults).within(|| format!("routes[{i}]"));
        Ok(VirtualHost {
            tls: match enumeration(proto.require_tls, "require_tls")? {
                TlsRequirementType::None => TlsRequirement::None,
                TlsRequirementType::ExternalOnly => TlsRequirement::External,
                TlsRequirementType::All => TlsRequirement::All,
            },
            virtual_clusters: proto
                .virtual_clusters
                .iter()
                .map(VirtualCluster::compile)
                .collect::<Result<_, _>>()
                .within(|| "virtual_clusters".to_owned())?,
            request_headers,
            response_headers,
            filters: RouteFilters::compile(&proto.typed_per_filter_config)?,
            tells_attempt: proto.include_request_attempt_count,
            answers_attempts: proto.include_attempt_count_in_response,
            tells_timeout_retry: proto.include_is_timeout_retry_header,
            replay_bytes,
            metadata: Metadata::compile(proto.metadata),
            routes: compact(routes.map(compile).collect::<Result<_, _>>()?),
            domains: compact(proto.domains),
            name: proto.name,
        })
    }

    /// The kind of requests that this one is counted with.
    pub fn virtual_cluster(&self, request: &Request) -> Option<&str> {
        let matches = |cluster: &&VirtualCluster| cluster.conditions.iter().all(|c| c.holds(request));
        self.virtual_clusters.iter().find(matches).map(|cluster| cluster.name.as_str())
    }
}

impl Route {
    fn compile(proto: RouteProto, defaults: &Defaults<'_>) -> Result<Route, Refusal> {
        check_route(&proto)?;
        let matches = proto.r#match.ok_or_else(|| Refusal::invalid("no match"))?;
        let action = proto.action.ok_or_else(|| Refusal::invalid("no action"))?;
        let (request_headers, response_headers) = header_ops(
            (&proto.request_headers_to_add, &proto.request_headers_to_remove),
            (&proto.response_headers_to_add, &proto.response_headers_to_remove),
        )?;
        #[allow(deprecated, reason = "older control planes still write it, and Envoy takes it")]
        let replay_bytes = replay_bytes(
            proto.per_request_buffer_limit_bytes.as_ref(),
            proto.request_body_buffer_limit.as_ref(),
        )?;
        Ok(Route {
            matches: RouteMatch::compile(&matches).within(|| "match".to_owned())?,
            action: Action::compile(action, defaults)?,
            request_headers,
            response_headers,
            filters: RouteFilters::compile(&proto.typed_per_filter_config)?,
            stat_prefix: proto.stat_prefix,
            decorator: proto.decorator.map(|DecoratorProto { operation, propagate }| Decorator {
                operation,
                propagates: flag(propagate.as_ref(), true),
            }),
            tracing: proto.tracing.map(RouteTracing::compile).transpose()?.map(Box::new),
            replay_bytes,
            metadata: Metadata::compile(proto.metadata),
            name: proto.name,
        })
    }
}

impl VirtualCluster {
    fn compile(proto: &VirtualClusterProto) -> Result<VirtualCluster, Refusal> {
        let VirtualClusterProto { headers, name } = proto;
        let conditions = headers.iter().map(HeaderCondition::compile).collect::<Result<_, _>>()?;
        Ok(VirtualCluster { name: name.clone(), conditions })
    }
}

type Operations<'a> = (&'a [envoy_types::pb::envoy::config::core::v3::HeaderValueOption], &'a [String]);

/// Operations on requests and responses, of any level: what is added, what is removed.
pub(super) fn header_ops(
    request: Operations<'_>,
    response: Operations<'_>,
) -> Result<(HeaderOps, HeaderOps), Refusal> {
    let of = |(add, remove): Operations<'_>, add_field: &str, remove_field: &str| {
        HeaderOps::compile(add, remove, add_field, remove_field)
    };
    Ok((
        of(request, "request_headers_to_add", "request_headers_to_remove")?,
        of(response, "response_headers_to_add", "response_headers_to_remove")?,
    ))
}

/// The newer field of the two, of which one may be set.
fn replay_bytes(old: Option<&UInt32Value>, new: Option<&UInt64Value>) -> Result<Option<u64>, Refusal> {
    match (old, new) {
        (Some(_), Some(_)) => {
            Err(Refusal::invalid("per_request_buffer_limit_bytes beside request_body_buffer_limit"))
        }
        (old, new) => Ok(new.map(|new| new.value).or(old.map(|old| old.value.into()))),
    }
}

/// Which field meets which fate.
fn check_host(proto: &HostProto) -> Result<(), Refusal> {
    fates!(proto: HostProto {
        compiled:
            name,
            domains,
            routes,
            require_tls,
            virtual_clusters,
            request_headers_to_add,
            request_headers_to_remove,
            response_headers_to_add,
            response_headers_to_remove,
            typed_per_filter_config,
            include_request_attempt_count,
            include_attempt_count_in_response,
            retry_policy,
            include_is_timeout_retry_header,
            per_request_buffer_limit_bytes,
            request_body_buffer_limit,
            request_mirror_policies,
            metadata;
        refused:
            matcher,
            rate_limits,
            cors,
            retry_policy_typed_config,
            hedge_policy,
            route_specifiers;
    });
    Ok(())
}

fn check_route(proto: &RouteProto) -> Result<(), Refusal> {
    fates!(proto: RouteProto {
        compiled:
            name,
            r#match,
            action,
            metadata,
            decorator,
            typed_per_filter_config,
            request_headers_to_add,
            request_headers_to_remove,
            response_headers_to_add,
            response_headers_to_remove,
            tracing,
            per_request_buffer_limit_bytes,
            request_body_buffer_limit,
            stat_prefix;
        refused:
            route_specifiers;
    });
    Ok(())
}
