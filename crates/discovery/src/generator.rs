//! What builds resources: an interface, so that distribution can be tested with worlds of any shape.

use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use ostro_mesh::{Answer, Attr, KeyId, Proxy, Reads, Snapshot, View};
use ostro_names::{Host, Name};
use ostro_translate::{EncodedVirtualHost, Part, ResourceType, Roster};
use prost::Message;

/// Builds resources from a world for a proxy and says what it read.
///
/// The contract: the result is a function of the values under the keys it reports and of the answers it reports; the
/// order of questions is a function of the same.
pub trait Generator: Send + 'static {
    /// An immutable state of the mesh, cheap to clone.
    type World: Clone + Send + Sync + 'static;

    /// How `proxy` answers `question`; the keys on which the answer depends go to `note`. Which keys those are depends on
    /// the question and the proxy alone.
    fn answer(
        &self,
        world: &Self::World,
        proxy: &Proxy,
        question: &Attr,
        note: &mut dyn FnMut(KeyId),
    ) -> Answer;

    /// The bytes of one resource; `None` if there is no such resource for this proxy. Virtual hosts that it joins come
    /// from `virtual_hosts`; what those read is not among what it reports, except for the questions.
    fn content(
        &self,
        world: &Self::World,
        proxy: &Proxy,
        virtual_hosts: &mut dyn VirtualHosts,
        kind: ResourceType,
        name: Name,
    ) -> (Option<Bytes>, Reads);

    /// One virtual host, without its domains settled; `None` if there is none for this proxy.
    fn virtual_host(
        &self,
        world: &Self::World,
        proxy: &Proxy,
        host: Host,
        port: u16,
    ) -> (Option<EncodedVirtualHost>, Reads);

    /// The parts of a wildcard type.
    fn roster(&self, world: &Self::World, proxy: &Proxy, kind: ResourceType) -> (Roster, Reads);

    /// The names that one part contributes.
    fn part_names(
        &self,
        world: &Self::World,
        proxy: &Proxy,
        kind: ResourceType,
        part: Part,
    ) -> (Vec<Name>, Reads);

    /// The load assignment that a cluster stays warming without.
    fn endpoints_of(&self, cluster: &Bytes) -> Option<Name> {
        let cluster = Cluster::decode(cluster.clone()).ok()?;
        if cluster.cluster_discovery_type != Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)) {
            return None;
        }
        let service = cluster.eds_cluster_config.map(|config| config.service_name).unwrap_or_default();
        Some(Name::new(if service.is_empty() { &cluster.name } else { &service }))
    }
}

/// Where a generator gets the virtual hosts that it joins.
pub trait VirtualHosts {
    /// What [`Generator::virtual_host`] gives for the world and the proxy that the resource is built for.
    ///
    /// Every question that was asked for it goes to `ask`, to be asked for the resource too: proxies share the resource
    /// only if they agree on what is joined into it. The same question may be left out after the first time.
    fn get(&mut self, host: Host, port: u16, ask: &mut dyn FnMut(&Attr)) -> Option<Arc<EncodedVirtualHost>>;
}

/// The same for `translate`, which asks through its view.
struct ThroughView<'a>(&'a mut dyn VirtualHosts);

impl ostro_translate::VirtualHosts for ThroughView<'_> {
    fn get(&mut self, view: &View<'_>, host: Host, port: u16) -> Option<Arc<EncodedVirtualHost>> {
        self.0.get(host, port, &mut |question| view.put(question))
    }
}

/// The product's generator: `translate` over `mesh`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Translator;

impl Generator for Translator {
    type World = Snapshot;

    fn answer(
        &self,
        world: &Snapshot,
        proxy: &Proxy,
        question: &Attr,
        note: &mut dyn FnMut(KeyId),
    ) -> Answer {
        ostro_mesh::answer(world, proxy, question, &mut |key| note(key.id()))
    }

    fn content(
        &self,
        world: &Snapshot,
        proxy: &Proxy,
        virtual_hosts: &mut dyn VirtualHosts,
        kind: ResourceType,
        name: Name,
    ) -> (Option<Bytes>, Reads) {
        let view = View::new(world, proxy);
        let bytes = ostro_translate::content_with(&view, &mut ThroughView(virtual_hosts), kind, name);
        (bytes, view.into_reads())
    }

    fn virtual_host(
        &self,
        world: &Snapshot,
        proxy: &Proxy,
        host: Host,
        port: u16,
    ) -> (Option<EncodedVirtualHost>, Reads) {
        let view = View::new(world, proxy);
        let virtual_host = ostro_translate::virtual_host(&view, host, port);
        (virtual_host, view.into_reads())
    }

    fn roster(&self, world: &Snapshot, proxy: &Proxy, kind: ResourceType) -> (Roster, Reads) {
        let view = View::new(world, proxy);
        let roster = ostro_translate::roster(&view, kind);
        (roster, view.into_reads())
    }

    fn part_names(
        &self,
        world: &Snapshot,
        proxy: &Proxy,
        kind: ResourceType,
        part: Part,
    ) -> (Vec<Name>, Reads) {
        let view = View::new(world, proxy);
        let names = ostro_translate::part_names(&view, kind, part);
        (names, view.into_reads())
    }
}
