//! Clusters that are in force.

use std::sync::Arc;

use ostro_engine::Upstream;
use ostro_engine::cluster::Bind;
use ostro_engine::istio::ClusterFacts;

use super::Versioned;
use crate::stats::{ClusterStats, MetadataExchangeStats, Scope};

/// A cluster that is in force.
pub(crate) struct LiveCluster {
    /// Hosts, limits, health.
    pub upstream: Arc<Upstream>,
    /// What is counted of it.
    pub stats: Scope<ClusterStats>,
    /// Where its connections come from.
    pub bind: Bind,
    /// What is counted of asking its connections' peers who they are, if they are asked.
    pub exchange: Option<Scope<MetadataExchangeStats>>,
    /// What it says to Istio's filters.
    pub facts: ClusterFacts,
    /// Stands for it, as it is now, in keys of what those have seen.
    pub number: u32,
}

/// All clusters that are in force, by name.
#[derive(Default)]
pub(crate) struct Clusters {
    all: Versioned<imbl::HashMap<Arc<str>, Arc<LiveCluster>>>,
}

impl Clusters {
    /// A cluster.
    pub fn get(&self, name: &str) -> Option<Arc<LiveCluster>> {
        self.all.load().get(name).cloned()
    }

    /// Changes whenever a cluster comes, goes or is replaced.
    pub fn version(&self) -> u64 {
        self.all.version()
    }

    /// Puts a cluster in force. One thread changes clusters.
    pub fn put(&self, cluster: Arc<LiveCluster>) {
        let name = Arc::clone(&cluster.upstream.cluster.name);
        self.all.store(self.all.load().update(name, cluster));
    }

    /// Takes a cluster out of force.
    pub fn remove(&self, name: &str) {
        self.all.store(self.all.load().without(name));
    }

    /// All of them, in no order.
    pub fn all(&self) -> Vec<Arc<LiveCluster>> {
        self.all.load().values().cloned().collect()
    }
}
