//! HTTP filters: what is done with a request between its admission and its way upstream. One file for each kind.
//!
//! A filter that is not known is refused, unless it says that it may be left out.

mod cors;
mod fault;
mod grpc_stats;
mod header_mutation;
mod per_route;
mod router;
mod set_filter_state;

use std::sync::Arc;

use envoy_types::pb::envoy::extensions::filters::http;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter as Proto;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::google::protobuf::Any;

pub use cors::{CorsAllowed, CorsDecision, CorsPolicy};
pub use fault::{Fault, FaultAbort, FaultDecision};
pub use grpc_stats::{GrpcStats, MethodStats};
pub use header_mutation::HeaderMutation;
pub(crate) use header_mutation::changes;
pub use per_route::{RouteFilter, RouteFilters};
pub use router::Router;
pub use set_filter_state::RequestState;

use crate::istio::{Alpn, IstioStats, PeerMetadata};
use crate::refusal::{Within, is, unpack};
use crate::{Refusal, typed_struct};

/// An HTTP filter.
#[derive(Clone, Debug)]
pub struct HttpFilter {
    /// Name in xDS, by which routes refer to it.
    pub name: String,
    /// Off, unless a route switches it on?
    pub disabled: bool,
    /// What it does.
    pub kind: HttpFilterKind,
}

/// What a filter does.
#[derive(Clone, Debug)]
pub enum HttpFilterKind {
    /// Sends requests on their way; always the last.
    Router(Router),
    /// Lets pages of other origins in, by the policies of routes.
    Cors,
    /// Delays and aborts requests.
    Fault(Box<Fault>),
    /// Counts gRPC's calls and messages.
    GrpcStats(GrpcStats),
    /// Translates gRPC-Web.
    GrpcWeb,
    /// Asks for routes and clusters that are not known yet.
    OnDemand {
        /// For clusters, too?
        discovers_clusters: bool,
    },
    /// Notes things of a request.
    SetFilterState(RequestState),
    /// Changes headers.
    HeaderMutation(Box<HeaderMutation>),
    /// Counts Istio's standard metrics.
    IstioStats(Arc<IstioStats>),
    /// Learns who is at the other end, and tells it who is here.
    PeerMetadata(Arc<PeerMetadata>),
    /// Says which application protocols upstream connections offer.
    Alpn(Alpn),
}

/// Compiles a manager's filters, in order.
pub(crate) fn compile(protos: &[Proto]) -> Result<Vec<HttpFilter>, Refusal> {
    let one = |proto: &Proto| {
        HttpFilter::compile(proto).within(|| format!("http_filters[{}]", proto.name)).transpose()
    };
    let filters: Vec<HttpFilter> = protos.iter().filter_map(one).collect::<Result<_, _>>()?;
    let is_router = |filter: &HttpFilter| matches!(filter.kind, HttpFilterKind::Router(_));
    let Some((last, before)) = filters.split_last() else {
        return Err(Refusal::invalid("no HTTP filters"));
    };
    if !is_router(last) || last.disabled {
        return Err(Refusal::invalid("the last HTTP filter must be the router"));
    }
    if before.iter().any(is_router) {
        return Err(Refusal::invalid("a router that is not the last HTTP filter"));
    }
    Ok(filters)
}

impl HttpFilter {
    /// `None` for a filter that is not known and may be left out.
    fn compile(proto: &Proto) -> Result<Option<HttpFilter>, Refusal> {
        let Proto { name, is_optional, disabled, config_type } = proto;
        let config = match config_type {
            Some(ConfigType::TypedConfig(any)) => any,
            Some(ConfigType::ConfigDiscovery(_)) => return Err(Refusal::unsupported("config_discovery")),
            None => return Err(Refusal::invalid("no typed_config")),
        };
        let config = typed_struct::open(config)?;
        match HttpFilterKind::compile(&config)? {
            Some(kind) => Ok(Some(HttpFilter { name: name.clone(), disabled: *disabled, kind })),
            None if *is_optional => Ok(None),
            None => Err(Refusal::unsupported(&config.type_url)),
        }
    }
}

impl HttpFilterKind {
    /// Every kind is here; `None` for others.
    fn compile(config: &Any) -> Result<Option<HttpFilterKind>, Refusal> {
        Ok(Some(if is::<http::router::v3::Router>(config) {
            HttpFilterKind::Router(Router::compile(&unpack(config)?)?)
        } else if is::<http::cors::v3::Cors>(config) {
            HttpFilterKind::Cors
        } else if is::<http::fault::v3::HttpFault>(config) {
            HttpFilterKind::Fault(Box::new(Fault::compile(&unpack(config)?)?))
        } else if is::<http::grpc_stats::v3::FilterConfig>(config) {
            HttpFilterKind::GrpcStats(GrpcStats::compile(unpack(config)?))
        } else if is::<http::grpc_web::v3::GrpcWeb>(config) {
            HttpFilterKind::GrpcWeb
        } else if is::<http::on_demand::v3::OnDemand>(config) {
            let http::on_demand::v3::OnDemand { odcds } = unpack(config)?;
            HttpFilterKind::OnDemand { discovers_clusters: odcds.is_some() }
        } else if is::<http::set_filter_state::v3::Config>(config) {
            HttpFilterKind::SetFilterState(RequestState::compile(&unpack(config)?)?)
        } else if is::<http::header_mutation::v3::HeaderMutation>(config) {
            HttpFilterKind::HeaderMutation(Box::new(HeaderMutation::compile(&unpack(config)?)?))
        } else if IstioStats::is(config) {
            HttpFilterKind::IstioStats(Arc::new(IstioStats::compile(config)?))
        } else if PeerMetadata::is(config) {
            HttpFilterKind::PeerMetadata(Arc::new(PeerMetadata::compile(config)?))
        } else if Alpn::is(config) {
            HttpFilterKind::Alpn(Alpn::compile(config)?)
        } else {
            return Ok(None);
        }))
    }
}

#[cfg(test)]
mod tests {
    use prost::{Message, Name};

    use super::*;

    fn filter<M: Message + Name + Default>(is_optional: bool) -> Proto {
        let config = Any { type_url: M::type_url(), value: M::default().encode_to_vec() };
        Proto {
            name: M::NAME.to_owned(),
            is_optional,
            disabled: false,
            config_type: Some(ConfigType::TypedConfig(config)),
        }
    }

    #[test]
    fn the_router_is_the_last_and_only_one() {
        let router = || filter::<http::router::v3::Router>(false);
        let cors = || filter::<http::cors::v3::Cors>(false);
        assert_eq!(compile(&[cors(), router()]).unwrap().len(), 2);
        for wrong in [vec![], vec![cors()], vec![router(), cors()], vec![router(), router()]] {
            assert!(compile(&wrong).is_err());
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name_or_left_out() {
        let router = filter::<http::router::v3::Router>(false);
        let refusal = compile(&[filter::<http::lua::v3::Lua>(false), router.clone()]).unwrap_err();
        assert!(refusal.to_string().contains("filters.http.lua.v3.Lua"), "{refusal}");
        assert_eq!(compile(&[filter::<http::lua::v3::Lua>(true), router]).unwrap().len(), 1);
    }
}
