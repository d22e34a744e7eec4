//! Which of a pod's connections are turned to its proxy: all, but for what Istio's annotations say. Pure.

use std::collections::BTreeMap;
use std::str::FromStr;

use ipnet::IpNet;
use ostro_capture::{Config, Ports, Ranges};

use crate::link::{GATEWAY, GATEWAY6};

const ALL: &str = "*";

/// An annotation that says nothing sensible. The user's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {annotation}: {found:?} is not {wanted}")]
pub struct AnnotationError {
    annotation: &'static str,
    found: String,
    wanted: &'static str,
}

/// What is captured in a pod with these annotations, whose proxy is known by the mark if there is one.
pub fn config(
    annotations: &BTreeMap<String, String>,
    mark: Option<u32>,
    ipv6: bool,
) -> Result<Config, AnnotationError> {
    let said = Said(annotations);
    let mut config = Config { ipv6, ..Config::sidecar() };
    if let Some(mark) = mark {
        config = config.by_mark(mark);
    }
    // The control plane and the name server are the pod's ground, not its peers.
    config.exclude_outbound =
        vec![IpNet::from(std::net::IpAddr::from(GATEWAY)), IpNet::from(std::net::IpAddr::from(GATEWAY6))];
    if let Some(ports) = said.some_or_all("traffic.sidecar.istio.io/includeInboundPorts", PORTS)? {
        config.inbound = ports.map_or(Ports::All, Ports::Only);
    }
    if let Some(ranges) = said.some_or_all("traffic.sidecar.istio.io/includeOutboundIPRanges", RANGES)? {
        config.outbound = ranges.map_or(Ranges::All, Ranges::Only);
    }
    config.exclude_inbound.extend(said.list::<u16>("traffic.sidecar.istio.io/excludeInboundPorts", PORTS)?);
    config
        .exclude_outbound
        .extend(said.list::<IpNet>("traffic.sidecar.istio.io/excludeOutboundIPRanges", RANGES)?);
    config.include_outbound_ports = said.list("traffic.sidecar.istio.io/includeOutboundPorts", PORTS)?;
    config.exclude_outbound_ports = said.list("traffic.sidecar.istio.io/excludeOutboundPorts", PORTS)?;
    config.exclude_interfaces = said.list("traffic.sidecar.istio.io/excludeInterfaces", INTERFACES)?;
    Ok(config)
}

const PORTS: &str = "ports, separated by commas";
const RANGES: &str = "address ranges such as 10.0.0.0/8, separated by commas";
const INTERFACES: &str = "names of interfaces, separated by commas";

/// A pod's annotations.
struct Said<'a>(&'a BTreeMap<String, String>);

impl Said<'_> {
    fn list<T: FromStr>(
        &self,
        annotation: &'static str,
        wanted: &'static str,
    ) -> Result<Vec<T>, AnnotationError> {
        let Some(text) = self.0.get(annotation) else { return Ok(Vec::new()) };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let wrong = |_| AnnotationError { annotation, found: text.clone(), wanted };
        parts.map(|part| part.parse().map_err(|_| ()).map_err(wrong)).collect()
    }

    /// Nothing: it is not there. Nothing in it: all.
    #[expect(clippy::option_option, reason = "absent, all, and some are three things")]
    fn some_or_all<T: FromStr>(
        &self,
        annotation: &'static str,
        wanted: &'static str,
    ) -> Result<Option<Option<Vec<T>>>, AnnotationError> {
        match self.0.get(annotation).map(|text| text.trim()) {
            None => Ok(None),
            Some(ALL) => Ok(Some(None)),
            Some(_) => Ok(Some(Some(self.list(annotation, wanted)?))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_of(annotations: &[(&str, &str)]) -> Result<Config, AnnotationError> {
        let annotation =
            |(name, value): &(&str, &str)| (format!("traffic.sidecar.istio.io/{name}"), (*value).to_owned());
        config(&annotations.iter().map(annotation).collect(), None, true)
    }

    #[test]
    fn everything_is_captured_but_the_ground() {
        let config = config_of(&[]).unwrap();
        assert_eq!((&config.inbound, &config.outbound), (&Ports::All, &Ranges::All));
        let ground = ["10.244.0.1/32", "fd00:10:244::1/128"].map(|range| range.parse().unwrap());
        assert_eq!(config.exclude_outbound, ground);
    }

    #[test]
    fn annotations_choose() {
        let config = config_of(&[
            ("includeInboundPorts", "80, 81"),
            ("excludeInboundPorts", "9200"),
            ("excludeOutboundPorts", "9100,"),
            ("includeOutboundIPRanges", "*"),
            ("excludeOutboundIPRanges", "192.0.2.0/24"),
        ])
        .unwrap();
        assert_eq!(config.inbound, Ports::Only(vec![80, 81]));
        assert!(config.exclude_inbound.contains(&9200) && config.exclude_inbound.contains(&15020));
        assert_eq!(config.exclude_outbound_ports, [9100]);
        assert_eq!(config.outbound, Ranges::All);
        assert_eq!(config.exclude_outbound.last(), Some(&"192.0.2.0/24".parse().unwrap()));
        assert_eq!(config_of(&[("includeOutboundIPRanges", "")]).unwrap().outbound, Ranges::Only(vec![]));
    }

    #[test]
    fn nonsense_is_told_with_the_annotation() {
        let error = config_of(&[("excludeOutboundPorts", "http")]).unwrap_err().to_string();
        assert_eq!(
            error,
            "annotation traffic.sidecar.istio.io/excludeOutboundPorts: \"http\" is not ports, separated by commas"
        );
    }
}
