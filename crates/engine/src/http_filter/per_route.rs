//! What routes, and what is around them, say to filters (`typed_per_filter_config`).

use std::collections::HashMap;

use envoy_types::pb::envoy::config::route::v3::{CorsPolicy as OldCorsPolicy, FilterConfig};
use envoy_types::pb::envoy::extensions::filters::http;
use envoy_types::pb::google::protobuf::Any;

use super::{CorsPolicy, Fault, HeaderMutation, RequestState};
use crate::Refusal;
use crate::refusal::{Within, is, unpack};

/// What one level says to filters, by their names; most say nothing.
#[derive(Clone, Debug, Default)]
pub struct RouteFilters(Box<[(Box<str>, RouteFilter)]>);

/// What is said to one filter.
#[derive(Clone, Debug)]
pub enum RouteFilter {
    /// It is off.
    Disabled,
    /// It is on, as it is.
    Enabled,
    /// The policy of CORS.
    Cors(Box<CorsPolicy>),
    /// Faults, in place of the filter's own.
    Fault(Box<Fault>),
    /// Headers changed besides.
    HeaderMutation(Box<HeaderMutation>),
    /// Notes, in place of the filter's own.
    SetFilterState(RequestState),
    /// Clusters that are not known are asked for, or not.
    OnDemand {
        /// Are they?
        discovers_clusters: bool,
    },
}

impl RouteFilters {
    pub(crate) fn compile(protos: &HashMap<String, Any>) -> Result<RouteFilters, Refusal> {
        let mut filters: Vec<(Box<str>, RouteFilter)> = Vec::with_capacity(protos.len());
        for (name, config) in protos {
            let filter =
                RouteFilter::compile(config).within(|| format!("typed_per_filter_config[{name}]"))?;
            filters.extend(filter.map(|filter| (name.as_str().into(), filter)));
        }
        filters.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(RouteFilters(filters.into()))
    }

    /// All that is said, with the names of the filters.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RouteFilter)> {
        self.0.iter().map(|(name, filter)| (&**name, filter))
    }

    /// What is said to the filter of this name.
    pub fn get(&self, name: &str) -> Option<&RouteFilter> {
        self.0.iter().find(|(of, _)| **of == *name).map(|(_, filter)| filter)
    }
}

impl RouteFilter {
    /// `None` for what is not known and may be left out.
    fn compile(config: &Any) -> Result<Option<RouteFilter>, Refusal> {
        if !is::<FilterConfig>(config) {
            let filter = RouteFilter::of(config)?;
            return filter
                .map_or_else(|| Err(Refusal::unsupported(&config.type_url)), |filter| Ok(Some(filter)));
        }
        let FilterConfig { config, is_optional, disabled } = unpack(config)?;
        match config {
            _ if disabled => Ok(Some(RouteFilter::Disabled)),
            None => Ok(Some(RouteFilter::Enabled)),
            Some(config) => match RouteFilter::of(&config)? {
                None if !is_optional => Err(Refusal::unsupported(&config.type_url)),
                filter => Ok(filter),
            },
        }
    }

    /// Every kind is here; `None` for others.
    fn of(config: &Any) -> Result<Option<RouteFilter>, Refusal> {
        Ok(Some(if is::<http::cors::v3::CorsPolicy>(config) {
            RouteFilter::Cors(Box::new(CorsPolicy::compile(&unpack(config)?)?))
        } else if is::<OldCorsPolicy>(config) {
            RouteFilter::Cors(Box::new(CorsPolicy::compile_old(unpack(config)?)?))
        } else if is::<http::fault::v3::HttpFault>(config) {
            RouteFilter::Fault(Box::new(Fault::compile(&unpack(config)?)?))
        } else if is::<http::header_mutation::v3::HeaderMutationPerRoute>(config) {
            RouteFilter::HeaderMutation(Box::new(HeaderMutation::of_route(&unpack(config)?)?))
        } else if is::<http::set_filter_state::v3::Config>(config) {
            RouteFilter::SetFilterState(RequestState::compile(&unpack(config)?)?)
        } else if is::<http::on_demand::v3::PerRouteConfig>(config) {
            let http::on_demand::v3::PerRouteConfig { odcds } = unpack(config)?;
            RouteFilter::OnDemand { discovers_clusters: odcds.is_some() }
        } else {
            return Ok(None);
        }))
    }
}

#[cfg(test)]
mod tests {
    use prost::{Message, Name};

    use super::*;

    fn any<M: Message + Name>(message: &M) -> Any {
        Any { type_url: M::type_url(), value: message.encode_to_vec() }
    }

    fn compile(config: Any) -> Result<RouteFilters, Refusal> {
        RouteFilters::compile(&HashMap::from([("f".to_owned(), config)]))
    }

    #[test]
    fn filters_are_configured_switched_off_and_left_out() {
        let fault = any(&http::fault::v3::HttpFault::default());
        assert!(matches!(compile(fault.clone()).unwrap().get("f"), Some(RouteFilter::Fault(_))));
        let wrapped = |config, disabled, is_optional| any(&FilterConfig { config, is_optional, disabled });
        let of = |config| compile(config).unwrap().get("f").cloned();
        assert!(matches!(of(wrapped(Some(fault.clone()), false, false)), Some(RouteFilter::Fault(_))));
        assert!(matches!(of(wrapped(Some(fault), true, false)), Some(RouteFilter::Disabled)));
        assert!(matches!(of(wrapped(None, false, false)), Some(RouteFilter::Enabled)));
        let lua = any(&http::lua::v3::LuaPerRoute::default());
        assert!(of(wrapped(Some(lua.clone()), false, true)).is_none());
        let refusal = compile(wrapped(Some(lua.clone()), false, false)).unwrap_err();
        assert!(refusal.to_string().contains("LuaPerRoute"), "{refusal}");
        assert!(compile(lua).is_err());
    }
}
