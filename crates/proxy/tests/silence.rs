//! Connections on which nobody speaks at first, at a listener that finds out what they speak: who speaks first decides.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};

use serde_json::{Value, json};
use support::{Proxy, bootstrap, cluster, connect, listener, manager, ok, server, tcp_proxy, upstream};

/// HTTP goes to one cluster, all else to another.
fn either(http: SocketAddr, other: SocketAddr) -> Value {
    let mut listener = listener("either", &manager("http"));
    listener["filter_chains"][0]["filter_chain_match"] = json!({"application_protocols": ["http/1.1"]});
    listener["default_filter_chain"] =
        json!({"filters": [{"name": "tcp", "typed_config": tcp_proxy("other")}]});
    listener["listener_filters"] = json!([{
        "name": "http",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
        },
    }]);
    // However long it takes.
    listener["listener_filters_timeout"] = json!("0s");
    bootstrap(&[listener], &[cluster("http", &[http]), cluster("other", &[other])])
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";

#[test]
fn a_connection_that_is_held_ready_is_routed_once_it_is_used() {
    let (other, other_at) = upstream();
    let proxy = Proxy::start(&either(server(|_| ok("routed")), other_at));
    let mut client = connect(proxy.listener("either"));
    // Nothing was said for so long that the other cluster was connected to, in case its server speaks first.
    let (mut ready, _) = other.accept().unwrap();
    client.write_all(GET).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("routed"), "{answer}");
    let mut heard = Vec::new();
    ready.read_to_end(&mut heard).unwrap();
    assert!(heard.is_empty(), "{heard:?}");
    proxy.wait_stat("cluster.other.upstream_cx_active", |open| open == 0);
}

#[test]
fn a_connection_whose_server_is_not_there_is_routed_all_the_same() {
    let (gone, gone_at) = upstream();
    drop(gone);
    let proxy = Proxy::start(&either(server(|_| ok("routed")), gone_at));
    let mut client = connect(proxy.listener("either"));
    proxy.wait_stat("cluster.other.upstream_cx_total", |tried| tried > 0);
    client.write_all(GET).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("routed"), "{answer}");
}

#[test]
fn a_server_that_speaks_first_is_heard_and_so_is_its_client() {
    let (other, other_at) = upstream();
    let proxy = Proxy::start(&either(server(|_| ok("routed")), other_at));
    let mut client = connect(proxy.listener("either"));
    let (mut mail, _) = other.accept().unwrap();
    mail.write_all(b"220 mail.test\r\n").unwrap();
    let mut greeting = [0; 15];
    client.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 mail.test\r\n");
    // It looks like HTTP, and what it is was settled before.
    client.write_all(GET).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    mail.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, GET);
}

#[test]
fn bytes_of_a_client_that_was_silent_go_where_it_was_connected_to() {
    let (other, other_at) = upstream();
    let proxy = Proxy::start(&either(server(|_| ok("routed")), other_at));
    let mut client = connect(proxy.listener("either"));
    let (mut same, _) = other.accept().unwrap();
    client.write_all(b"\x00\x01 no HTTP at all").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    same.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"\x00\x01 no HTTP at all");
    assert_eq!(proxy.stat("cluster.other.upstream_cx_total"), 1, "connected to once");
}
