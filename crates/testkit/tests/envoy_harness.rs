//! The Envoy instrument itself: starts, answers, logs, and is gone after drop.

use std::io::{Read, Write};
use std::time::Duration;

use ostro_testkit::envoy::{Envoy, Options, START_LIMIT, validate};
use serde_json::{Value, json};

fn direct_response(port: u16) -> Value {
    json!({"static_resources": {"listeners": [{
        "name": "front",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{
            "name": "hcm",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "front",
                "http_filters": [{"name": "router", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
                "route_config": {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
                    {"match": {"prefix": "/"}, "direct_response": {"status": 418}}]}]}
            }
        }]}]
    }]}})
}

#[test]
fn an_envoy_serves_tells_and_ends() {
    let envoy = Envoy::start(&direct_response(0), &Options::default());
    envoy.wait_ready(START_LIMIT);
    let mut stream = std::net::TcpStream::connect(envoy.listener("front")).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 418"), "{answer}");
    assert_eq!(envoy.stat("http.front.downstream_rq_4xx"), 1);
    assert!(envoy.config_dump()["configs"].is_array());
    assert!(envoy.wait_for_log(Duration::from_secs(1), |l| l.contains("starting workers")).is_some());
    let (pid, dir) = (envoy.pid(), envoy.dir().to_path_buf());
    drop(envoy);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(!dir.exists());
}

#[test]
fn validate_tells_good_from_bad() {
    validate(&direct_response(0)).unwrap();
    let mut bad = direct_response(0);
    bad["static_resources"]["listeners"][0]["address"] = json!({});
    assert!(validate(&bad).unwrap_err().contains("ddress"));
}
