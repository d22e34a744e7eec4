//! That a request between known ends takes no memory, shown by counting what the thread allocates.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::listener::v3::Listener as ListenerProto;
use http::{HeaderValue, Method, StatusCode};
use ostro_engine::istio::Peer;
use ostro_engine::{
    ConnectionInfo, Direction, Headers, Listener, Protocol, Request, StreamInfo, StreamView, Terminal,
};

use super::{Finished, HttpFilters, Identity, Seen, Sides};
use crate::config::Shared;
use crate::stats::Thread;

/// Counts what each thread allocates; of the tests of this crate alone.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: everything is the system's allocator's doing; counting takes no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends has nothing to count in any more.
        let _ = ALLOCATED.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

/// How often `work` allocates.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATED.get();
    work();
    ALLOCATED.get() - before
}

fn filters(shared: &Shared) -> Box<HttpFilters> {
    let plain = |name: &str, of: &str| serde_json::json!({"name": name, "typed_config": {"@type": format!("type.googleapis.com/{of}")}});
    let peer = serde_json::json!({
        "name": "peer",
        "typed_config": {
            "@type": "type.googleapis.com/io.istio.http.peer_metadata.Config",
            "downstream_discovery": [{"istio_headers": {}}],
        },
    });
    let stats = serde_json::json!({
        "name": "stats",
        "typed_config": {
            "@type": "type.googleapis.com/stats.PluginConfig",
            "metrics": [{"name": "requests_total", "dimensions": {"method": "request.method"}}],
        },
    });
    let router = plain("router", "envoy.extensions.filters.http.router.v3.Router");
    let mut manager =
        plain("manager", "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager");
    let config = &mut manager["typed_config"];
    config["stat_prefix"] = "in".into();
    config["http_filters"] = serde_json::json!([peer, stats, router]);
    config["route_config"] = serde_json::json!({"name": "r"});
    let listener = serde_json::json!({
        "name": "l",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [manager]}],
    });
    let proto: ListenerProto = ostro_envoy_json::from_json(&listener.to_string()).unwrap();
    let listener = Listener::compile(proto).unwrap();
    let Terminal::Http(manager) = &listener.chains().next().unwrap().terminal else { panic!() };
    HttpFilters::of(&manager.filters, Direction::Inbound, shared).unwrap()
}

fn info() -> StreamInfo {
    let address = "127.0.0.1:80".parse().unwrap();
    let connection = ConnectionInfo {
        id: 1,
        local: address,
        remote: address,
        direct_remote: address,
        server_name: None,
        is_restored: false,
    };
    let mut info = StreamInfo::new(Arc::new(connection), Duration::ZERO, Some(Protocol::Http11));
    info.status = Some(StatusCode::OK);
    info
}

#[test]
fn a_request_between_known_ends_takes_no_memory() {
    let own = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let bind = ostro_engine::cluster::Bind::default();
    let shared = Shared::new(own, bind, Identity::default(), None);
    let (filters, writer) = (filters(&shared), shared.stats.writer(Thread::Worker(0)));
    let seen = Seen::new(Arc::clone(&shared.identity));
    let id = HeaderValue::from_static("sidecar~10.0.0.1~web-0.shop~shop.svc.cluster.local");
    let metadata = Peer { workload: "web".into(), ..Peer::default() }.to_header().unwrap();
    let request =
        Request::new(Method::GET, HeaderValue::from_static("ratings"), HeaderValue::from_static("/"));
    let (info, response) = (info(), Headers::default());
    let view = StreamView { info: &info, request: Some(&request), response: Some(&response), trailers: None };
    let one = || {
        let client = seen.told(&filters.exchanges[0].1, Some(&id), Some(&metadata));
        assert!(client.is_some());
        let sides = Sides { client, ..Sides::default() };
        let finished = Finished { sides: &sides, view, is_grpc: false, took_ms: 3 };
        seen.count(&filters.stats[0].1, &shared.stats, &writer, finished);
    };
    assert!(allocations(one) > 0, "the first is remembered");
    assert_eq!(allocations(|| (0..100).for_each(|_| one())), 0);
    let mut told = String::new();
    shared.stats.labelled().read(&mut |name, reading| told += &format!("{} {reading:?}\n", name.flat("")));
    assert!(told.contains("istio_requests_total.reporter.destination.source_workload.web."), "{told}");
    assert!(told.contains(".method.GET Counter(101)"), "{told}");
}
