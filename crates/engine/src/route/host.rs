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

/// Which field meets which fate. Bound to `_`: compiled, or carried in [`VirtualHost::rest`].
fn check_host(proto: &HostProto) -> Result<(), Refusal> {
    #[allow(deprecated, reason = "a deprecated field that is set must be seen to be refused")]
    let HostProto {
        // Compiled.
        name: _,
        domains: _,
        routes: _,
        require_tls: _,
        // Carried.
        virtual_clusters: _,
        request_headers_to_add: _,
        request_headers_to_remove: _,
        response_headers_to_add: _,
        response_headers_to_remove: _,
        typed_per_filter_config: _,
        include_request_attempt_count: _,
        include_attempt_count_in_response: _,
        retry_policy: _,
        include_is_timeout_retry_header: _,
        request_mirror_policies: _,
        metadata: _,
        // Refused.
        matcher,
        rate_limits,
        cors,
        retry_policy_typed_config,
        hedge_policy,
        per_request_buffer_limit_bytes,
        request_body_buffer_limit,
        route_specifiers,
    } = proto;
    refuse_if_set!(
        matcher,
        rate_limits,
        cors,
        retry_policy_typed_config,
        hedge_policy,
        per_request_buffer_limit_bytes,
        request_body_buffer_limit,
        route_specifiers,
    );
    Ok(())
}

fn check_route(proto: &RouteProto) -> Result<(), Refusal> {
    #[allow(deprecated, reason = "a deprecated field that is set must be seen to be refused")]
    let RouteProto {
        // Compiled.
        name: _,
        r#match: _,
        action: _,
        // Carried.
        metadata: _,
        decorator: _,
        typed_per_filter_config: _,
        request_headers_to_add: _,
        request_headers_to_remove: _,
        response_headers_to_add: _,
        response_headers_to_remove: _,
        tracing: _,
        stat_prefix: _,
        // Refused.
        per_request_buffer_limit_bytes,
        request_body_buffer_limit,
        route_specifiers,
    } = proto;
    refuse_if_set!(per_request_buffer_limit_bytes, request_body_buffer_limit, route_specifiers);
    Ok(())
}
