//! HTTP connection managers that are in force.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwapOption;
use ostro_engine::{
    AccessLog, Direction, HttpFilterKind, HttpManager, RouteTable, Router, Routes, StreamView,
};

use super::Shared;
use crate::access_log::{Logs, Sink};
use crate::istio::HttpFilters;
use crate::stats::{HttpStats, Scope};
use crate::worker::Worker;

/// A route configuration by name, as it is now; `None` until it has come.
#[derive(Debug, Default)]
pub(crate) struct RouteSlot {
    table: ArcSwapOption<RouteTable>,
}

impl RouteSlot {
    /// The routes.
    pub fn load(&self) -> Option<Arc<RouteTable>> {
        self.table.load_full()
    }

    /// Puts routes in force.
    pub fn store(&self, table: Option<Arc<RouteTable>>) {
        self.table.store(table);
    }
}

/// The route configurations that somebody uses, by name.
#[derive(Debug, Default)]
pub(crate) struct RouteSlots {
    slots: Mutex<HashMap<String, Weak<RouteSlot>>>,
}

impl RouteSlots {
    /// The slot of a name.
    pub fn get(&self, name: &str) -> Arc<RouteSlot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(name).and_then(Weak::upgrade) {
            return slot;
        }
        slots.retain(|_, slot| slot.strong_count() > 0);
        let slot = Arc::new(RouteSlot::default());
        slots.insert(name.to_owned(), Arc::downgrade(&slot));
        slot
    }
}

/// Of a manager without one; the engine refuses those.
const PLAIN_ROUTER: Router = Router {
    suppresses_envoy_headers: false,
    starts_child_span: false,
    respects_expected_timeout: false,
    suppresses_grpc_failure_stats: false,
    dynamic_stats: true,
};

/// An HTTP connection manager that is in force.
pub(crate) struct Manager {
    /// What the engine makes of its configuration.
    pub engine: Arc<HttpManager>,
    /// Where its routes are.
    pub routes: Arc<RouteSlot>,
    /// What is counted of it.
    pub stats: Scope<HttpStats>,
    /// Istio's filters among its filters.
    pub istio: Option<Box<HttpFilters>>,
    sinks: Vec<Sink>,
    router: Router,
    http2: Arc<ostro_http2::Config>,
}

impl Manager {
    /// Puts a manager in force, in a listener of this direction.
    pub fn new(
        engine: &Arc<HttpManager>,
        direction: Direction,
        slots: &RouteSlots,
        shared: &Shared,
    ) -> Manager {
        let routes = match &engine.routes {
            Routes::Named { name, .. } => slots.get(name),
            Routes::Inline(table) => {
                let slot = Arc::new(RouteSlot::default());
                slot.store(Some(Arc::clone(table)));
                slot
            }
        };
        let router = engine.filters.iter().find_map(|filter| match &filter.kind {
            HttpFilterKind::Router(router) => Some(*router),
            _ => None,
        });
        Manager {
            routes,
            stats: shared.stats.http(&engine.stat_prefix),
            istio: HttpFilters::of(&engine.filters, direction, shared),
            sinks: sinks(&engine.access_logs, &shared.logs),
            router: router.unwrap_or(PLAIN_ROUTER),
            http2: Arc::new(super::http2_server(engine)),
            engine: Arc::clone(engine),
        }
    }

    /// The router's settings.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// What HTTP/2 connections may do.
    pub fn http2_config(&self) -> Arc<ostro_http2::Config> {
        Arc::clone(&self.http2)
    }

    /// Logs a stream that is over.
    pub fn log(&self, worker: &Worker, stream: StreamView<'_>, random: u64) {
        log(worker, &self.engine.access_logs, &self.sinks, stream, random);
    }
}

/// Where logs go.
pub(super) fn sinks(configured: &[AccessLog], logs: &Logs) -> Vec<Sink> {
    configured.iter().map(|log| logs.sink(&log.sink)).collect()
}

/// Writes what the logs say of a stream.
pub(super) fn log(
    worker: &Worker,
    configured: &[AccessLog],
    sinks: &[Sink],
    stream: StreamView<'_>,
    random: u64,
) {
    for (log, sink) in configured.iter().zip(sinks) {
        worker.log(sink, |out| log.write(stream, random, out));
    }
}
