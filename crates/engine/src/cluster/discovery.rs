//! Where a cluster's hosts come from, and how names are resolved.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster as Proto;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CustomClusterType, DiscoveryType, DnsLookupFamily, LbConfig, OriginalDstLbConfig,
};
use envoy_types::pb::envoy::extensions::clusters::common::dns::v3::DnsLookupFamily as ExtensionFamily;
use envoy_types::pb::envoy::extensions::clusters::dns::v3::DnsCluster;
use envoy_types::pb::envoy::extensions::clusters::original_dst::v3::OriginalDstCluster;
use envoy_types::pb::google::protobuf::{Duration as ProtoDuration, UInt32Value};
use http::HeaderName;

use super::Assignment;
use crate::Refusal;
use crate::proto::{enumeration, header_name};
use crate::refusal::{Within, is, unpack};
use crate::wire::{bounded, duration_or, positive};

/// Where endpoints come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Written in the cluster.
    Static,
    /// Every address a name resolves to.
    StrictDns,
    /// One address of a name at a time.
    LogicalDns,
    /// The endpoint discovery service, under this name.
    Eds(String),
    /// Where the connection was going.
    OriginalDestination(OriginalDestination),
}

/// How the destination of an ORIGINAL_DST cluster is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginalDestination {
    /// A request header that says it, before the connection does.
    pub header: Option<HeaderName>,
    /// A port instead of the destination's own.
    pub port: Option<u16>,
}

/// Header that overrides the destination where none is named.
const DEFAULT_HEADER: HeaderName = HeaderName::from_static("x-envoy-original-dst-host");

/// How names are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// Which addresses of a name are taken.
    pub family: DnsFamily,
    /// Between two resolutions.
    pub refresh: Duration,
    /// Random addition to it.
    pub jitter: Duration,
    /// Between two resolutions while they fail: the first bound and the last; `None`: as ever.
    pub failure_refresh: Option<(Duration, Duration)>,
    /// The answer's own lifetime takes the place of `refresh`.
    pub respects_ttl: bool,
    /// A lifetime is taken for at least so long.
    pub min_refresh: Duration,
}

/// Which addresses of a name are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsFamily {
    /// IPv6's, else IPv4's.
    #[default]
    Auto,
    /// IPv4's.
    V4Only,
    /// IPv6's.
    V6Only,
    /// IPv4's, else IPv6's.
    V4Preferred,
    /// All.
    All,
}

impl Default for DnsSettings {
    fn default() -> DnsSettings {
        DnsSettings {
            family: DnsFamily::Auto,
            refresh: Duration::from_secs(5),
            jitter: Duration::ZERO,
            failure_refresh: None,
            respects_ttl: false,
            min_refresh: Duration::ZERO,
        }
    }
}

impl Discovery {
    pub(super) fn compile(proto: &Proto) -> Result<Discovery, Refusal> {
        match &proto.cluster_discovery_type {
            None => Ok(Discovery::Static),
            Some(ClusterDiscoveryType::Type(kind)) => plain(proto, enumeration(*kind, "type")?),
            Some(ClusterDiscoveryType::ClusterType(custom)) => {
                extension(custom).within(|| "cluster_type".into())
            }
        }
    }
}

fn plain(proto: &Proto, kind: DiscoveryType) -> Result<Discovery, Refusal> {
    Ok(match kind {
        DiscoveryType::Static => Discovery::Static,
        DiscoveryType::StrictDns => Discovery::StrictDns,
        DiscoveryType::LogicalDns => Discovery::LogicalDns,
        DiscoveryType::OriginalDst => {
            let config = match &proto.lb_config {
                Some(LbConfig::OriginalDstLbConfig(config)) => config.clone(),
                _ => OriginalDstLbConfig::default(),
            };
            let OriginalDstLbConfig {
                use_http_header,
                http_header_name,
                upstream_port_override,
                metadata_key,
            } = config;
            let metadata_key = &metadata_key;
            refuse_if_set!(metadata_key);
            original(use_http_header, &http_header_name, upstream_port_override.as_ref())
                .within(|| "original_dst_lb_config".into())?
        }
        DiscoveryType::Eds => {
            let service = proto.eds_cluster_config.as_ref().map(|eds| eds.service_name.as_str());
            let service = service.filter(|service| !service.is_empty()).unwrap_or(&proto.name);
            Discovery::Eds(service.to_owned())
        }
    })
}

fn extension(custom: &CustomClusterType) -> Result<Discovery, Refusal> {
    let Some(config) = &custom.typed_config else {
        return Err(Refusal::unsupported(format!("cluster type {}", custom.name)));
    };
    if is::<DnsCluster>(config) {
        let logical = unpack::<DnsCluster>(config)?.all_addresses_in_single_endpoint;
        return Ok(if logical { Discovery::LogicalDns } else { Discovery::StrictDns });
    }
    if is::<OriginalDstCluster>(config) {
        let OriginalDstCluster { use_http_header, http_header_name, upstream_port_override, metadata_key } =
            unpack(config)?;
        let metadata_key = &metadata_key;
        refuse_if_set!(metadata_key);
        return original(use_http_header, &http_header_name, upstream_port_override.as_ref());
    }
    Err(Refusal::unsupported(format!("cluster type {}", config.type_url)))
}

fn original(by_header: bool, name: &str, port: Option<&UInt32Value>) -> Result<Discovery, Refusal> {
    let header = match (by_header, name) {
        (false, _) => None,
        (true, "") => Some(DEFAULT_HEADER),
        (true, name) => Some(header_name(name, "http_header_name")?),
    };
    let port = bounded("upstream_port_override", port, 0..=u32::from(u16::MAX))?;
    let port = port.and_then(|port| u16::try_from(port).ok());
    Ok(Discovery::OriginalDestination(OriginalDestination { header, port }))
}

impl DnsSettings {
    /// Settings of the cluster's own fields, or of the DNS extension, which replaces them.
    #[allow(deprecated, reason = "Envoy reads the cluster's own fields still")]
    pub(super) fn compile(proto: &Proto) -> Result<DnsSettings, Refusal> {
        if let Some(ClusterDiscoveryType::ClusterType(CustomClusterType {
            typed_config: Some(config), ..
        })) = &proto.cluster_discovery_type
            && is::<DnsCluster>(config)
        {
            return of_extension(&unpack(config)?).within(|| "cluster_type".into());
        }
        let family = match enumeration(proto.dns_lookup_family, "dns_lookup_family")? {
            DnsLookupFamily::Auto => DnsFamily::Auto,
            DnsLookupFamily::V4Only => DnsFamily::V4Only,
            DnsLookupFamily::V6Only => DnsFamily::V6Only,
            DnsLookupFamily::V4Preferred => DnsFamily::V4Preferred,
            DnsLookupFamily::All => DnsFamily::All,
        };
        let default = DnsSettings::default();
        let failure = proto.dns_failure_refresh_rate.as_ref();
        Ok(DnsSettings {
            family,
            refresh: positive("dns_refresh_rate", proto.dns_refresh_rate.as_ref())?
                .unwrap_or(default.refresh),
            jitter: duration_or("dns_jitter", proto.dns_jitter.as_ref(), default.jitter)?,
            failure_refresh: failure
                .map(|rate| failure_refresh(rate.base_interval.as_ref(), rate.max_interval.as_ref()))
                .transpose()?,
            respects_ttl: proto.respect_dns_ttl,
            min_refresh: default.min_refresh,
        })
    }
}

fn of_extension(proto: &DnsCluster) -> Result<DnsSettings, Refusal> {
    let DnsCluster {
        dns_refresh_rate,
        dns_failure_refresh_rate,
        respect_dns_ttl,
        dns_jitter,
        // The resolver is the proxy's own, whichever library was meant.
        typed_dns_resolver_config: _,
        dns_lookup_family,
        all_addresses_in_single_endpoint: _,
        dns_min_refresh_rate,
    } = proto;
    let family = match enumeration(*dns_lookup_family, "dns_lookup_family")? {
        ExtensionFamily::Unspecified | ExtensionFamily::Auto => DnsFamily::Auto,
        ExtensionFamily::V4Only => DnsFamily::V4Only,
        ExtensionFamily::V6Only => DnsFamily::V6Only,
        ExtensionFamily::V4Preferred => DnsFamily::V4Preferred,
        ExtensionFamily::All => DnsFamily::All,
    };
    let default = DnsSettings::default();
    let failure = dns_failure_refresh_rate.as_ref();
    Ok(DnsSettings {
        family,
        refresh: positive("dns_refresh_rate", dns_refresh_rate.as_ref())?.unwrap_or(default.refresh),
        jitter: duration_or("dns_jitter", dns_jitter.as_ref(), default.jitter)?,
        failure_refresh: failure
            .map(|rate| failure_refresh(rate.base_interval.as_ref(), rate.max_interval.as_ref()))
            .transpose()?,
        respects_ttl: *respect_dns_ttl,
        min_refresh: duration_or("dns_min_refresh_rate", dns_min_refresh_rate.as_ref(), default.min_refresh)?,
    })
}

fn failure_refresh(
    base: Option<&ProtoDuration>,
    max: Option<&ProtoDuration>,
) -> Result<(Duration, Duration), Refusal> {
    let base = crate::wire::required("base_interval", base)?;
    let max = positive("max_interval", max)?.unwrap_or(base.saturating_mul(10));
    if max < base {
        return Err(Refusal::invalid("max_interval is less than base_interval"));
    }
    Ok((base, max))
}

/// What kind of cluster may have which endpoints written in it.
pub(super) fn check_assignment(
    discovery: &Discovery,
    assignment: Option<&Assignment>,
) -> Result<(), Refusal> {
    let Some(assignment) = assignment else {
        return match discovery {
            Discovery::LogicalDns => Err(Refusal::invalid("LOGICAL_DNS without load_assignment")),
            _ => Ok(()),
        };
    };
    let endpoints = assignment.localities.iter().map(|locality| locality.endpoints.len()).sum::<usize>();
    match discovery {
        Discovery::Static if assignment.names().next().is_some() => {
            Err(Refusal::invalid("load_assignment: a name where an address is needed; use STRICT_DNS"))
        }
        Discovery::LogicalDns if endpoints != 1 => {
            Err(Refusal::invalid("load_assignment: LOGICAL_DNS needs exactly one endpoint"))
        }
        Discovery::Eds(_) | Discovery::OriginalDestination(_) => {
            Err(Refusal::invalid("load_assignment: endpoints in a cluster that finds its own"))
        }
        _ => Ok(()),
    }
}
