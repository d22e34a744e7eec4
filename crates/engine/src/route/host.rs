//! Virtual hosts and their routes.

use envoy_types::pb::envoy::config::route::v3::virtual_host::TlsRequirementType;
use envoy_types::pb::envoy::config::route::v3::{Route as RouteProto, VirtualHost as HostProto};

use super::matches::RouteMatch;
use super::{Action, TlsRequirement};
use crate::Refusal;
use crate::refusal::Within;

/// A virtual host, compiled.
#[derive(Clone, Debug)]
pub struct VirtualHost {
    /// Name in xDS.
    pub name: String,
    /// For whom TLS is required.
    pub tls: TlsRequirement,
    /// Routes, tried in order.
    pub routes: Vec<Route>,
    /// The message without its routes: header operations, retry policy, per-filter configuration.
    pub rest: Box<HostProto>,
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
    /// The message without match and action: header operations, tracing, per-filter configuration (faults, CORS).
    pub rest: Box<RouteProto>,
}

impl VirtualHost {
    pub(super) fn compile(mut proto: HostProto) -> Result<VirtualHost, Refusal> {
        check_host(&proto)?;
        let tls = match TlsRequirementType::try_from(proto.require_tls) {
            Ok(TlsRequirementType::None) => TlsRequirement::None,
            Ok(TlsRequirementType::ExternalOnly) => TlsRequirement::External,
            Ok(TlsRequirementType::All) => TlsRequirement::All,
            Err(_) => return Err(Refusal::unsupported(format!("require_tls {}", proto.require_tls))),
        };
        let routes = std::mem::take(&mut proto.routes).into_iter().enumerate();
        let compile = |(i, r): (usize, RouteProto)| Route::compile(r).within(|| format!("routes[{i}]"));
        let routes = routes.map(compile).collect::<Result<_, _>>()?;
        Ok(VirtualHost { name: proto.name.clone(), tls, routes, rest: Box::new(proto) })
    }
}

impl Route {
    fn compile(mut proto: RouteProto) -> Result<Route, Refusal> {
        check_route(&proto)?;
        let matches = proto.r#match.take().ok_or_else(|| Refusal::invalid("no match"))?;
        let matches = RouteMatch::compile(&matches).within(|| "match".to_owned())?;
        let action = proto.action.take().ok_or_else(|| Refusal::invalid("no action"))?;
        let action = Action::compile(action)?;
        Ok(Route { name: proto.name.clone(), matches, action, rest: Box::new(proto) })
    }
}

/// Which field meets which fate; [`VirtualHost::rest`] has what is carried.
fn check_host(proto: &HostProto) -> Result<(), Refusal> {
    fates!(proto: HostProto {
        compiled:
            name,
            domains,
            routes,
            require_tls;
        carried:
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
            request_mirror_policies,
            metadata;
        refused:
            matcher,
            rate_limits,
            cors,
            retry_policy_typed_config,
            hedge_policy,
            per_request_buffer_limit_bytes,
            request_body_buffer_limit,
            route_specifiers;
    });
    Ok(())
}

fn check_route(proto: &RouteProto) -> Result<(), Refusal> {
    fates!(proto: RouteProto {
        compiled:
            name,
            r#match,
            action;
        carried:
            metadata,
            decorator,
            typed_per_filter_config,
            request_headers_to_add,
            request_headers_to_remove,
            response_headers_to_add,
            response_headers_to_remove,
            tracing,
            stat_prefix;
        refused:
            per_request_buffer_limit_bytes,
            request_body_buffer_limit,
            route_specifiers;
    });
    Ok(())
}
