//! Listeners that are in force.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ostro_engine::inspect::Seen;
use ostro_engine::{Direction, Ends, FilterChain, Listener, Listeners, StreamView, TcpProxy, Terminal};

use super::Shared;
use super::manager::{Manager, RouteSlots, log, sinks};
use crate::access_log::Sink;
use crate::istio::TcpFilters;
use crate::stats::{ListenerStats, Scope, TcpStats};
use crate::worker::Worker;

/// A listener that is in force.
pub(crate) struct LiveListener {
    /// What the engine makes of its configuration.
    pub engine: Arc<Listener>,
    /// What is counted of it.
    pub stats: Scope<ListenerStats>,
    sinks: Vec<Sink>,
    /// In the order of the engine's.
    chains: Vec<Arc<LiveChain>>,
}

/// A filter chain that is in force. It outlives its listener's update if it did not change.
pub(crate) struct LiveChain {
    /// Name in xDS.
    pub name: String,
    /// What it is for.
    pub terminal: LiveTerminal,
    /// Tells it from a chain of other content.
    fingerprint: u64,
}

/// What becomes of a chain's connections.
pub(crate) enum LiveTerminal {
    /// They are closed.
    Close,
    /// Their bytes go to a cluster.
    Tcp(LiveTcp),
    /// They carry HTTP.
    Http(Arc<Manager>),
}

/// A TCP proxy that is in force.
pub(crate) struct LiveTcp {
    /// What the engine makes of its configuration.
    pub engine: Arc<TcpProxy>,
    /// What is counted of it.
    pub stats: Scope<TcpStats>,
    /// Istio's filters before it.
    pub istio: TcpFilters,
    sinks: Vec<Sink>,
}

impl LiveListener {
    /// Puts a listener in force. `fingerprints`: of its chains, in the engine's order; chains of `before` that are the
    /// same are taken over.
    pub fn new(
        engine: Arc<Listener>,
        fingerprints: &[u64],
        before: Option<&LiveListener>,
        slots: &RouteSlots,
        shared: &Shared,
    ) -> LiveListener {
        let known: HashMap<u64, &Arc<LiveChain>> =
            before.iter().flat_map(|before| &before.chains).map(|chain| (chain.fingerprint, chain)).collect();
        let live = |(chain, fingerprint): (&FilterChain, &u64)| match known.get(fingerprint) {
            Some(same) => Arc::clone(same),
            None => Arc::new(LiveChain::new(chain, engine.direction, *fingerprint, slots, shared)),
        };
        LiveListener {
            stats: shared.stats.listener(&engine.stat_name()),
            sinks: sinks(&engine.access_logs, &shared.logs),
            chains: engine.chains().zip(fingerprints).map(live).collect(),
            engine,
        }
    }

    /// The chain for a connection.
    pub fn chain(&self, ends: Ends, seen: &Seen) -> Option<&Arc<LiveChain>> {
        let chosen: *const FilterChain = self.engine.chain_for_seen(ends, seen)?;
        let index = self.engine.chains().position(|chain| std::ptr::eq(chain, chosen))?;
        self.chains.get(index)
    }

    /// Its chains.
    pub fn chains(&self) -> impl Iterator<Item = &Arc<LiveChain>> {
        self.chains.iter()
    }

    /// Whether it has this chain.
    pub fn has(&self, chain: &Arc<LiveChain>) -> bool {
        self.chains.iter().any(|own| Arc::ptr_eq(own, chain))
    }

    /// Logs a connection that is over.
    pub fn log(&self, worker: &Worker, stream: StreamView<'_>, random: u64) {
        log(worker, &self.engine.access_logs, &self.sinks, stream, random);
    }
}

impl LiveChain {
    fn new(
        chain: &FilterChain,
        direction: Direction,
        fingerprint: u64,
        slots: &RouteSlots,
        shared: &Shared,
    ) -> LiveChain {
        let terminal = match &chain.terminal {
            Terminal::Close => LiveTerminal::Close,
            Terminal::Tcp(tcp) => LiveTerminal::Tcp(LiveTcp {
                engine: Arc::clone(tcp),
                stats: shared.stats.tcp(&tcp.stat_prefix),
                istio: TcpFilters::of(&chain.filters, direction, shared),
                sinks: sinks(&tcp.access_logs, &shared.logs),
            }),
            Terminal::Http(http) => {
                LiveTerminal::Http(Arc::new(Manager::new(http, direction, slots, shared)))
            }
        };
        LiveChain { name: chain.name.clone(), terminal, fingerprint }
    }
}

impl LiveTcp {
    /// Logs a connection that is over.
    pub fn log(&self, worker: &Worker, stream: StreamView<'_>, random: u64) {
        log(worker, &self.engine.access_logs, &self.sinks, stream, random);
    }
}

/// All listeners that are in force.
#[derive(Clone, Default)]
pub(crate) struct LiveListeners {
    index: Listeners,
    by_name: HashMap<String, Arc<LiveListener>>,
}

impl LiveListeners {
    /// Puts a listener in force, in place of the one of its name.
    pub fn put(&mut self, listener: Arc<LiveListener>) {
        self.index.put(Arc::clone(&listener.engine));
        self.by_name.insert(listener.engine.name.clone(), listener);
    }

    /// Takes a listener out of force.
    pub fn remove(&mut self, name: &str) {
        self.index.remove(name);
        self.by_name.remove(name);
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<LiveListener>> {
        self.by_name.values()
    }

    /// A listener.
    pub fn get(&self, name: &str) -> Option<&Arc<LiveListener>> {
        self.by_name.get(name)
    }

    /// The listener a connection belongs to that arrived at `bound`'s socket.
    pub fn accept(&self, bound: &Arc<LiveListener>, destination: SocketAddr) -> Arc<LiveListener> {
        let found = self
            .index
            .accept(&bound.engine.name, destination)
            .and_then(|found| self.by_name.get(&found.name));
        Arc::clone(found.unwrap_or(bound))
    }
}
