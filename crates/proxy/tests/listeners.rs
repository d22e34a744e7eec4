//! Listeners: how many connections there may be, and that no two have one address.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::{Value, json};
use support::{
    Proxy, bootstrap, cluster, connect, get, listener, manager, ok, refused, server, socket, status,
};

fn with_limit(listeners: &[Value], clusters: &[Value], most: u32) -> Value {
    let mut config = bootstrap(listeners, clusters);
    config["overload_manager"] = json!({"resource_monitors": [{
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            "max_active_downstream_connections": most,
        },
    }]});
    config
}

#[test]
fn connections_past_the_limit_are_closed_and_counted_where_a_listener_is_not_exempt() {
    let upstream = server(|_| ok("hello"));
    let mut exempt = listener("exempt", &manager("c"));
    exempt["ignore_global_conn_limit"] = json!(true);
    let mut plain = listener("plain", &manager("c"));
    plain["stat_prefix"] = json!("plain");
    let proxy = Proxy::start(&with_limit(&[plain, exempt], &[cluster("c", &[upstream])], 2));
    let at = proxy.listener("plain");
    let (one, two) = (connect(at), connect(at));
    proxy.wait_stat("listener.plain.downstream_cx_active", |active| active == 2);
    let mut answer = Vec::new();
    let _ = connect(at).read_to_end(&mut answer);
    assert!(answer.is_empty());
    proxy.wait_stat("listener.plain.downstream_global_cx_overflow", |count| count == 1);
    assert_eq!(status(&get(proxy.listener("exempt"), "/")), 200);
    drop(one);
    proxy.wait_stat("listener.plain.downstream_cx_active", |active| active == 1);
    assert_eq!(status(&get(at, "/")), 200);
    drop(two);
}

#[test]
fn two_listeners_of_one_address_are_refused_by_name() {
    // A port that nobody else is given: it is bound, not listened on, and may be shared.
    let holder = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    holder.set_reuse_port(true).unwrap();
    holder.set_reuse_address(true).unwrap();
    holder.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let at = holder.local_addr().unwrap().as_socket().unwrap();
    let mut listeners = [listener("one", &manager("c")), listener("two", &manager("c"))];
    listeners.iter_mut().for_each(|listener| listener["address"] = socket(at));
    let said = refused(&bootstrap(&listeners, &[]));
    let expected =
        format!("error adding listener: 'two' has duplicate address '{at}' as existing listener 'one'");
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn what_is_accepted_is_kept_alive_as_configured() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = listener("l", &support::tcp_proxy("c"));
    config["tcp_keepalive"] = json!({"keepalive_time": 1234});
    let proxy = Proxy::start(&bootstrap(&[config], &[cluster("c", &[upstream.local_addr().unwrap()])]));
    let mut client = connect(proxy.listener("l"));
    let (mut far, _) = upstream.accept().unwrap();
    client.write_all(b"x").unwrap();
    far.read_exact(&mut [0]).unwrap();
    // The proxy's end of the connection; its timer is 2 where probes are what is waited for.
    let sockets = std::fs::read_to_string(format!("/proc/{}/net/tcp", proxy.pid())).unwrap();
    let port = format!(":{:04X}", client.local_addr().unwrap().port());
    let own = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let own = own.filter(|columns| columns.get(2).is_some_and(|peer| peer.ends_with(&port)));
    let timers: Vec<String> =
        own.filter_map(|columns| columns.get(5).map(|timer| (*timer).to_owned())).collect();
    assert!(timers.iter().any(|timer| timer.starts_with("02:")), "{timers:?}");
}
