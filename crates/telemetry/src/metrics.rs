//! The control plane's metrics, by the names of istiod's (`pilot_*`), so that dashboards and alerts go on working.

use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::plain::Plain;

/// The resource type, by Istio's abbreviation (`cds`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Typed {
    /// `cds`, `eds`, `lds` or `rds`.
    pub r#type: &'static str,
}

/// What set off a push.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Trigger {
    /// `config`, `service`, `endpoint`, `proxyrequest`.
    pub r#type: &'static str,
}

/// An event of a configuration object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConfigEvent {
    /// The object's kind; one of the kinds that are acted on.
    pub r#type: &'static str,
    /// `update` (new or changed) or `delete`.
    pub event: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Versioned {
    version: &'static str,
}

/// All metrics. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Connected proxies.
    pub proxies: Plain,
    /// Responses sent.
    pub pushes: Family<Typed, Plain>,
    /// Bytes of the resources of each response.
    pub config_size: Family<Typed, Histogram>,
    /// Seconds from a change's arrival until one proxy has acknowledged all of it.
    pub convergence: Histogram,
    /// Seconds a change takes to be worked out for everybody, before the first byte is sent.
    pub push_time: Histogram,
    /// Changes worked out.
    pub triggers: Family<Trigger, Plain>,
    /// Responses a proxy refused.
    pub rejects: Family<Typed, Plain>,
    /// Requests that answered a response other than the last one.
    pub expired_nonces: Family<Typed, Plain>,
    /// Responses given up because the proxy did not acknowledge them in time.
    pub write_timeouts: Plain,
    /// Hosts known.
    pub services: Plain,
    /// VirtualServices in force.
    pub virtual_services: Plain,
    /// Objects that came or went.
    pub config_events: Family<ConfigEvent, Plain>,
    /// Objects refused; the last good version of each stays in force.
    pub rejected_configs: Plain,
    /// Reads noted of resources that are held now, by type of resource.
    pub index_edges: Family<Typed, Plain>,
    /// Memory of those reads, both directions, by type of resource.
    pub index_bytes: Family<Typed, Plain>,
    /// Distinct encoded resources held now, by type.
    pub resources: Family<Typed, Plain>,
    /// Look-ups answered by a resource that was built for another proxy or earlier.
    pub cache_hits: Plain,
    /// Look-ups that had to build.
    pub cache_misses: Plain,
    uptime: Plain,
    started: Instant,
    version: &'static str,
}

impl Metrics {
    /// Metrics of a process of this version, all zero.
    pub fn new(version: &'static str) -> Self {
        Metrics {
            proxies: Plain::default(),
            pushes: Family::default(),
            config_size: Family::new_with_constructor(|| Histogram::new(BYTES)),
            convergence: Histogram::new(SECONDS),
            push_time: Histogram::new(SECONDS),
            triggers: Family::default(),
            rejects: Family::default(),
            expired_nonces: Family::default(),
            write_timeouts: Plain::default(),
            services: Plain::default(),
            virtual_services: Plain::default(),
            config_events: Family::default(),
            rejected_configs: Plain::default(),
            index_edges: Family::default(),
            index_bytes: Family::default(),
            resources: Family::default(),
            cache_hits: Plain::default(),
            cache_misses: Plain::default(),
            uptime: Plain::default(),
            started: Instant::now(),
            version,
        }
    }

    /// The text that Prometheus scrapes (OpenMetrics 1.0).
    pub fn encode(&self) -> String {
        self.uptime.set(i64::try_from(self.started.elapsed().as_secs()).unwrap_or(i64::MAX));
        let mut registry = Registry::default();
        self.register_istio(&mut registry);
        self.register_own(&mut registry);
        let mut text = String::new();
        // Writing to a String fails only if a metric's own encoding does; what is there is still worth serving.
        if let Err(error) = text::encode(&mut text, &registry) {
            tracing::error!(%error, "metrics cannot be written whole");
        }
        text
    }

    fn register_istio(&self, registry: &mut Registry) {
        let versioned = Family::<Versioned, Plain>::default();
        versioned.get_or_create(&Versioned { version: self.version }).set(1);
        registry.register("pilot_info", "Version of this control plane", versioned);
        let connected = Family::<Versioned, Plain>::default();
        connected.get_or_create(&Versioned { version: self.version }).set(self.proxies.get());
        registry.register("pilot_xds", "Proxies connected", connected);
        registry.register("pilot_xds_pushes", "Responses sent", self.pushes.clone());
        registry.register("pilot_xds_config_size_bytes", "Bytes of each response", self.config_size.clone());
        registry.register(
            "pilot_proxy_convergence_time",
            "Seconds from a change until a proxy has all of it",
            self.convergence.clone(),
        );
        registry.register(
            "pilot_pushcontext_init_seconds",
            "Seconds to work out a change for everybody",
            self.push_time.clone(),
        );
        registry.register("pilot_push_triggers", "Changes worked out, by reason", self.triggers.clone());
        registry.register("pilot_total_xds_rejects", "Responses refused by proxies", self.rejects.clone());
        registry.register("pilot_xds_expired_nonce", "Answers to old responses", self.expired_nonces.clone());
        registry.register(
            "pilot_xds_write_timeout",
            "Responses not acknowledged in time",
            self.write_timeouts.clone(),
        );
        registry.register("pilot_services", "Hosts known", self.services.clone());
        registry.register("pilot_virt_services", "VirtualServices in force", self.virtual_services.clone());
        registry.register("pilot_k8s_cfg_events", "Objects that came or went", self.config_events.clone());
        registry.register("pilot_total_rejected_configs", "Objects refused", self.rejected_configs.clone());
        let reads = Family::<Typed, Plain>::default();
        reads.get_or_create(&Typed { r#type: "hit" }).set(self.cache_hits.get());
        reads.get_or_create(&Typed { r#type: "miss" }).set(self.cache_misses.get());
        registry.register("xds_cache_reads", "Look-ups of encoded resources", reads);
        registry.register("istiod_uptime_seconds", "Seconds since the start", self.uptime.clone());
    }

    fn register_own(&self, registry: &mut Registry) {
        registry.register(
            "ostro_read_index_edges",
            "Reads noted of held resources",
            self.index_edges.clone(),
        );
        registry.register("ostro_read_index_bytes", "Memory of the noted reads", self.index_bytes.clone());
        registry.register("ostro_resources", "Distinct encoded resources held", self.resources.clone());
    }
}

/// Buckets for seconds: a millisecond to half a minute.
const SECONDS: [f64; 12] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 5.0, 10.0, 30.0];

/// Buckets for bytes: Istio's.
const BYTES: [f64; 7] = [1.0, 10_000.0, 1_000_000.0, 4_000_000.0, 10_000_000.0, 40_000_000.0, 100_000_000.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_keep_istios_names() {
        let metrics = Metrics::new("1.2.3");
        metrics.pushes.get_or_create(&Typed { r#type: "cds" }).add(7);
        metrics.proxies.set(3);
        let text = metrics.encode();
        for line in [
            "pilot_xds_pushes{type=\"cds\"} 7",
            "pilot_xds{version=\"1.2.3\"} 3",
            "pilot_info{version=\"1.2.3\"} 1",
            "pilot_xds_write_timeout 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
