//! The proxy as its admin interface sees it: what is shared, what is recorded of resources, and orders for the control side.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType as FilterConfig;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::google::protobuf::value::Kind as ValueKind;
use ostro_engine::balance::{Host, HostAddress as EngineAddress};
use ostro_engine::cluster::{Discovery, StatedHealth};
use ostro_engine::{Cluster, Priority, Upstream};
use ostro_xds_client as xds;
use ostro_xds_client::{Kind, Phase, Records};
use prost::{Message as _, Name as _};
use tokio::sync::mpsc;

use crate::admin::{
    Certificate, ClusterStatus, Drain, Failure, Held, HostAddress, HostStatus, ListenerStatus, Origin,
    Resource, ResourceKind, ServerState, Status, Subject, Thresholds,
};
use crate::config::{LiveCluster, Shared};
use crate::control::Control;
use crate::stats::Reading;
use crate::worker::Scope;

/// Orders that wait for the control side.
const ORDERS_MAX: usize = 16;
/// A control side that takes longer to answer is not going to.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What the admin interface wants of the control side.
enum Order {
    Drain(Drain),
    Listeners(SyncSender<Vec<ListenerStatus>>),
    Fail(bool),
    Quit,
}

/// What the control side hears of the admin interface.
pub(crate) struct Orders(mpsc::Receiver<Order>);

/// The proxy.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    records: Records,
    bootstrap: Bytes,
    started: SystemTime,
    workers: u32,
    is_failing: AtomicBool,
    orders: mpsc::Sender<Order>,
}

impl Proxy {
    /// The proxy, and what the control side is to obey. `bootstrap`: encoded, as it is in force.
    pub fn new(shared: Arc<Shared>, records: Records, bootstrap: Bytes, workers: u32) -> (Proxy, Orders) {
        let (orders, heard) = mpsc::channel(ORDERS_MAX);
        let (started, is_failing) = (SystemTime::now(), AtomicBool::new(false));
        (Proxy { shared, records, bootstrap, started, workers, is_failing, orders }, Orders(heard))
    }

    fn order(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            tracing::warn!("the control side is too busy for an order of the admin interface");
        }
    }

    fn in_order(&self) -> Vec<Arc<LiveCluster>> {
        let mut clusters = self.shared.clusters.all();
        clusters.sort_by(|a, b| a.upstream.cluster.name.cmp(&b.upstream.cluster.name));
        clusters
    }

    fn status(&self, upstream: &Upstream) -> ClusterStatus {
        let cluster = &upstream.cluster;
        let record = self.records.get(Kind::CLUSTER, &cluster.name);
        let endpoint_name = match &cluster.discovery {
            Discovery::Eds(name) if **name != *cluster.name => name.clone(),
            _ => String::new(),
        };
        ClusterStatus {
            name: cluster.name.to_string(),
            stat_name: cluster.stat_name.to_string(),
            is_dynamic: record.is_some_and(|record| record.origin != xds::Origin::Static),
            endpoint_name,
            thresholds: [thresholds(upstream, Priority::Default), thresholds(upstream, Priority::High)],
            ejects: upstream.outlier.is_some(),
            overprovisioning: overprovisioning(cluster),
            hosts: upstream.snapshot().hosts().map(|host| host_status(host)).collect(),
        }
    }
}

impl Subject for Proxy {
    fn state(&self) -> ServerState {
        if self.is_failing.load(Ordering::Relaxed) {
            return ServerState::Draining;
        }
        match self.records.phase() {
            Phase::Clusters => ServerState::PreInitializing,
            Phase::Listeners => ServerState::Initializing,
            Phase::Live => ServerState::Live,
        }
    }

    fn bootstrap(&self) -> Held<'_> {
        Held { version: "", bytes: &self.bootstrap, updated: self.started }
    }

    fn resources(&self, kind: ResourceKind, tell: &mut dyn FnMut(&Resource<'_>)) {
        self.records.each(of_kind(kind), &mut |record| {
            tell(&Resource {
                name: &record.name,
                origin: if record.origin == xds::Origin::Static { Origin::Static } else { Origin::Dynamic },
                active: record.active.as_ref().map(held),
                warming: record.warming.as_ref().map(held),
                draining: None,
                failure: record.failure.as_deref().map(|failure| Failure {
                    held: Held { version: &failure.version, bytes: &failure.bytes, updated: failure.at },
                    details: &failure.details,
                }),
                status: status(record.status),
            });
        });
        if kind == ResourceKind::Route {
            self.records.each(Kind::LISTENER, &mut |record| inline_routes(record, tell));
        }
    }

    fn version(&self, kind: ResourceKind) -> String {
        self.records.version(of_kind(kind))
    }

    fn clusters(&self, tell: &mut dyn FnMut(&ClusterStatus)) {
        for live in self.in_order() {
            tell(&self.status(&live.upstream));
        }
    }

    fn listeners(&self, tell: &mut dyn FnMut(&ListenerStatus)) {
        let (answer, answered) = sync_channel(1);
        self.order(Order::Listeners(answer));
        if let Ok(mut listeners) = answered.recv_timeout(ANSWER_TIMEOUT) {
            listeners.sort_by(|a, b| a.name.cmp(&b.name));
            listeners.iter().for_each(tell);
        }
    }

    fn statistics(&self, tell: &mut dyn FnMut(&str, Reading)) {
        for (kind, prefix) in
            [(Kind::CLUSTER, "cluster_manager.cds"), (Kind::LISTENER, "listener_manager.lds")]
        {
            let counters = self.records.counters(kind);
            counters.each(&mut |name, value| {
                let is_gauge = matches!(name, "update_time" | "version");
                let reading = if is_gauge { Reading::Gauge(value) } else { Reading::Counter(value) };
                tell(&format!("{prefix}.{name}"), reading);
            });
            tell(&format!("{prefix}.version_text"), Reading::Text(counters.version_text()));
        }
        let control_plane = self.records.control_plane();
        control_plane.each(&mut |name, value| {
            let is_counter = name == "rate_limit_enforced";
            let reading = if is_counter { Reading::Counter(value) } else { Reading::Gauge(value) };
            tell(&format!("control_plane.{name}"), reading);
        });
        tell("control_plane.identifier", Reading::Text(control_plane.identifier()));
        for (kind, active, warming) in [
            (Kind::CLUSTER, "cluster_manager.active_clusters", "cluster_manager.warming_clusters"),
            (
                Kind::LISTENER,
                "listener_manager.total_listeners_active",
                "listener_manager.total_listeners_warming",
            ),
        ] {
            let (mut counts, mut waits) = (0, 0);
            self.records.each(kind, &mut |record| {
                counts += u64::from(record.active.is_some());
                waits += u64::from(record.warming.is_some());
            });
            tell(active, Reading::Gauge(counts));
            tell(warming, Reading::Gauge(waits));
        }
        tell(
            "listener_manager.workers_started",
            Reading::Gauge(u64::from(self.records.phase() == Phase::Live)),
        );
    }

    fn cluster_statistics(&self, tell: &mut dyn FnMut(&str, Reading)) {
        let now = self.shared.clock().monotonic();
        for live in self.in_order() {
            cluster_statistics(&live.upstream, now, tell);
        }
    }

    /// There is no TLS yet.
    fn certificates(&self) -> Vec<Certificate> {
        Vec::new()
    }

    fn unready(&self) -> Vec<(String, Vec<String>)> {
        let named = |(kind, name): &(Kind, Arc<str>)| format!("{} {name}", kind.short().to_uppercase());
        let unready = self.records.unready();
        unready.iter().map(|(key, needs)| (named(key), needs.iter().map(named).collect())).collect()
    }

    fn concurrency(&self) -> u32 {
        self.workers
    }

    fn connections(&self) -> u64 {
        self.shared.connections.now()
    }

    fn drain_listeners(&self, drain: Drain) {
        self.order(Order::Drain(drain));
    }

    fn fail_health_checks(&self, fail: bool) {
        self.is_failing.store(fail, Ordering::Relaxed);
        self.order(Order::Fail(fail));
    }

    fn quit(&self) {
        self.order(Order::Quit);
    }
}

impl Orders {
    /// Does what the admin interface wants, until it wants an end.
    pub async fn obey(&mut self, control: &Rc<RefCell<Control>>, drain_time: Duration) {
        while let Some(order) = self.0.recv().await {
            match order {
                Order::Quit => return,
                Order::Listeners(answer) => {
                    let control = control.borrow();
                    let bound =
                        control.addresses().filter_map(|(name, addresses)| listener_status(name, addresses));
                    // Who asked may have given up.
                    let _ = answer.try_send(bound.collect());
                }
                Order::Drain(drain) => drain_listeners(control, drain, drain_time),
                Order::Fail(is_failing) => control.borrow().fail(is_failing),
            }
        }
        // The admin interface has gone: that is no reason to end.
        std::future::pending().await
    }
}

fn drain_listeners(control: &Rc<RefCell<Control>>, drain: Drain, drain_time: Duration) {
    let scope = if drain.inbound_only { Scope::Inbound } else { Scope::All };
    control.borrow_mut().drain(scope);
    if !drain.graceful {
        return control.borrow_mut().close(scope);
    }
    if !drain.skip_exit {
        let control = Rc::clone(control);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(drain_time).await;
            control.borrow_mut().close(scope);
        });
    }
}

fn listener_status(name: &str, addresses: &[SocketAddr]) -> Option<ListenerStatus> {
    let (first, additional) = addresses.split_first()?;
    Some(ListenerStatus { name: name.to_owned(), address: *first, additional: additional.to_vec() })
}

fn of_kind(kind: ResourceKind) -> Kind {
    match kind {
        ResourceKind::Cluster => Kind::CLUSTER,
        ResourceKind::Listener => Kind::LISTENER,
        ResourceKind::Route => Kind::ROUTE,
        ResourceKind::Endpoint => Kind::ENDPOINT,
        ResourceKind::Secret => Kind::SECRET,
        ResourceKind::Extension => Kind::EXTENSION,
    }
}

/// Route configurations that are written in a listener.
fn inline_routes(record: &xds::Record, tell: &mut dyn FnMut(&Resource<'_>)) {
    let Some(active) = &record.active else { return };
    let Ok(listener) = Listener::decode(&active.bytes[..]) else { return };
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    for filter in chains.flat_map(|chain| &chain.filters) {
        let Some(FilterConfig::TypedConfig(config)) = &filter.config_type else { continue };
        if config.type_url != HttpConnectionManager::type_url() {
            continue;
        }
        let manager = HttpConnectionManager::decode(&config.value[..]).unwrap_or_default();
        if let Some(RouteSpecifier::RouteConfig(routes)) = manager.route_specifier {
            let bytes = routes.encode_to_vec();
            tell(&Resource {
                name: &routes.name,
                origin: Origin::Static,
                active: Some(Held { version: "", bytes: &bytes, updated: active.updated }),
                warming: None,
                draining: None,
                failure: None,
                status: Status::Acked,
            });
        }
    }
}

fn held(held: &xds::Held) -> Held<'_> {
    Held { version: &held.version, bytes: &held.bytes, updated: held.updated }
}

fn status(status: xds::Status) -> Status {
    match status {
        xds::Status::Requested => Status::Requested,
        xds::Status::DoesNotExist => Status::DoesNotExist,
        xds::Status::Acked => Status::Acked,
        xds::Status::Nacked => Status::Nacked,
        xds::Status::TimedOut => Status::TimedOut,
    }
}

fn thresholds(upstream: &Upstream, priority: Priority) -> Thresholds {
    let limits = upstream.breakers.limits(priority);
    Thresholds {
        connections: limits.connections.into(),
        pending: limits.pending.into(),
        requests: limits.requests.into(),
        retries: limits.retries.into(),
    }
}

/// Of the endpoints written in the cluster; the default, if they are elsewhere.
fn overprovisioning(cluster: &Cluster) -> u32 {
    const DEFAULT: u32 = 140;
    cluster.assignment.as_ref().map_or(DEFAULT, |assignment| assignment.overprovisioning)
}

fn host_status(host: &Host) -> HostStatus {
    let state = &host.state;
    let locality = &host.locality;
    let is_canary = host
        .metadata
        .get("envoy.lb", &["canary"])
        .is_some_and(|value| matches!(value.kind, Some(ValueKind::BoolValue(true))));
    HostStatus {
        address: match &host.address {
            EngineAddress::Socket(address) => HostAddress::Socket(*address),
            EngineAddress::Pipe(path) => HostAddress::Pipe(path.display().to_string()),
        },
        hostname: host.hostname.to_string(),
        locality: [locality.region.to_string(), locality.zone.to_string(), locality.sub_zone.to_string()],
        weight: host.weight,
        priority: host.priority,
        is_canary,
        eds_health: match host.stated {
            StatedHealth::Healthy => "HEALTHY",
            StatedHealth::Unhealthy => "UNHEALTHY",
            StatedHealth::Draining => "DRAINING",
            StatedHealth::Timeout => "TIMEOUT",
            StatedHealth::Degraded => "DEGRADED",
        },
        flags: host.flags().words().collect(),
        success_rate: state.success_rate(),
        cx_active: state.cx_active.get(),
        cx_connect_fail: state.cx_connect_fail.get(),
        cx_total: state.cx_total.get(),
        rq_active: state.rq_active.get(),
        rq_error: state.rq_error.get(),
        // Requests wait for their cluster, not for a host.
        rq_pending_active: 0,
        rq_success: state.rq_success.get(),
        rq_timeout: state.rq_timeout.get(),
        rq_total: state.rq_total.get(),
    }
}

/// What the engine counts of a cluster.
fn cluster_statistics(upstream: &Upstream, now: Duration, tell: &mut dyn FnMut(&str, Reading)) {
    let prefix = format!("cluster.{}.", upstream.cluster.stat_name);
    let mut tell = |name: &str, reading: Reading| tell(&format!("{prefix}{name}"), reading);
    for (priority, name) in [(Priority::Default, "default"), (Priority::High, "high")] {
        let gauges = upstream.breakers.gauges(priority, now);
        let mut gauge =
            |row: &str, value: u64| tell(&format!("circuit_breakers.{name}.{row}"), Reading::Gauge(value));
        gauge("cx_open", gauges.cx_open.into());
        gauge("cx_pool_open", gauges.cx_pool_open.into());
        if let Some(remaining) = gauges.remaining {
            gauge("remaining_cx", remaining.cx);
            gauge("remaining_cx_pools", remaining.cx_pools);
            gauge("remaining_pending", remaining.pending);
            gauge("remaining_retries", remaining.retries);
            gauge("remaining_rq", remaining.rq);
        }
        gauge("rq_open", gauges.rq_open.into());
        gauge("rq_pending_open", gauges.rq_pending_open.into());
        gauge("rq_retry_open", gauges.rq_retry_open.into());
    }
    if !upstream.cluster.health_checks.is_empty() {
        let stats = &upstream.health_stats;
        for (name, value) in [
            ("attempt", &stats.attempt),
            ("failure", &stats.failure),
            ("network_failure", &stats.network_failure),
            ("passive_failure", &stats.passive_failure),
            ("success", &stats.success),
            ("verify_cluster", &stats.verify_cluster),
        ] {
            tell(&format!("health_check.{name}"), Reading::Counter(value.get()));
        }
        tell("health_check.degraded", Reading::Gauge(stats.degraded.get()));
        tell("health_check.healthy", Reading::Gauge(stats.healthy.get()));
    }
    let counts = upstream.snapshot().membership();
    tell("membership_degraded", Reading::Gauge(counts.degraded));
    tell("membership_excluded", Reading::Gauge(counts.excluded));
    tell("membership_healthy", Reading::Gauge(counts.healthy));
    tell("membership_total", Reading::Gauge(counts.total));
    if let Some(outlier) = &upstream.outlier {
        outlier_statistics(outlier.stats(), &mut tell);
    }
}

/// Tells these counters by the names of their fields.
macro_rules! tell_fields {
    ($stats:expr, $tell:expr, [$($field:ident),* $(,)?]) => {
        $($tell(concat!("outlier_detection.", stringify!($field)), Reading::Counter($stats.$field.get()));)*
    };
}

fn outlier_statistics(stats: &ostro_engine::outlier::OutlierCounters, tell: &mut dyn FnMut(&str, Reading)) {
    tell("outlier_detection.ejections_active", Reading::Gauge(stats.ejections_active.get()));
    tell_fields!(
        stats,
        tell,
        [
            ejections_consecutive_5xx,
            ejections_detected_consecutive_5xx,
            ejections_detected_consecutive_gateway_failure,
            ejections_detected_consecutive_local_origin_failure,
            ejections_detected_failure_percentage,
            ejections_detected_local_origin_failure_percentage,
            ejections_detected_local_origin_success_rate,
            ejections_detected_success_rate,
            ejections_enforced_consecutive_5xx,
            ejections_enforced_consecutive_gateway_failure,
            ejections_enforced_consecutive_local_origin_failure,
            ejections_enforced_failure_percentage,
            ejections_enforced_local_origin_failure_percentage,
            ejections_enforced_local_origin_success_rate,
            ejections_enforced_success_rate,
            ejections_enforced_total,
            ejections_overflow,
            ejections_success_rate,
            ejections_total,
        ]
    );
}
