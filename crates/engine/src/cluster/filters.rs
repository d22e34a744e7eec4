//! Network filters of a cluster's connections (`filters`): Istio's, by which peers tell themselves.

use envoy_types::pb::envoy::config::cluster::v3::Filter;

use crate::istio::MetadataExchange;
use crate::refusal::Within;
use crate::{Refusal, typed_struct};

/// The exchange of metadata, if it is among them; every other filter is refused.
pub(super) fn compile(filters: &[Filter]) -> Result<Option<MetadataExchange>, Refusal> {
    let mut exchange = None;
    for filter in filters {
        let Filter { name, typed_config, config_discovery } = filter;
        let place = || format!("filters[{name}]");
        let found = (|| {
            refuse_if_set!(config_discovery);
            let config = typed_config.as_ref().ok_or_else(|| Refusal::invalid("no typed_config"))?;
            let config = typed_struct::open(config)?;
            match MetadataExchange::is(&config) {
                true => MetadataExchange::compile(&config),
                false => Err(Refusal::unsupported(&config.type_url)),
            }
        })();
        exchange = Some(found.within(place)?);
    }
    Ok(exchange)
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::google::protobuf::Any;

    fn filter(type_url: &str) -> Filter {
        let typed_config = Some(Any { type_url: type_url.to_owned(), value: Vec::new() });
        Filter { name: "f".to_owned(), typed_config, config_discovery: None }
    }

    #[test]
    fn istios_exchange_is_taken_and_nothing_else() {
        assert_eq!(compile(&[]).unwrap(), None);
        let exchange = "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange";
        assert!(compile(&[filter(exchange)]).unwrap().is_some());
        let refusal = compile(&[filter("type.googleapis.com/a.B")]).unwrap_err().to_string();
        assert_eq!(refusal, "filters[f]: not supported: type.googleapis.com/a.B");
    }
}
