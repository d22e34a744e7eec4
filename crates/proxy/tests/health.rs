//! Active health checks: hosts are asked, chosen or not, and told of.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use support::{Proxy, bootstrap, cluster, connect, get, listener, manager, ok, server, tcp_proxy};

/// A cluster whose hosts are asked often.
fn checked(endpoints: &[SocketAddr], probe: Value) -> Value {
    let mut cluster = cluster("c", endpoints);
    let mut check = json!({
        "timeout": "5s",
        "interval": "0.02s",
        "no_traffic_interval": "0.02s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 2,
    });
    check.as_object_mut().unwrap().extend(probe.as_object().unwrap().clone());
    cluster["health_checks"] = json!([check]);
    cluster
}

fn http() -> Value {
    json!({"http_health_check": {"path": "/well"}})
}

#[test]
fn a_host_is_used_as_long_as_it_says_that_it_is_well() {
    let (is_well, probes) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (of_server, counted) = (Arc::clone(&is_well), Arc::clone(&probes));
    let sick = server(move |head| {
        if !head.starts_with("GET /well ") {
            return ok("one");
        }
        assert!(head.contains("\r\nuser-agent: Envoy/HC\r\n") && head.contains("\r\nhost: c\r\n"), "{head}");
        counted.fetch_add(1, Ordering::Relaxed);
        match of_server.load(Ordering::Relaxed) {
            true => ok(""),
            false => "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".to_owned(),
        }
    });
    let sound = server(|_| ok("two"));
    let proxy = Proxy::start(&bootstrap(&[listener("l", &manager("c"))], &[checked(&[sick, sound], http())]));
    proxy.wait_stat("cluster.c.membership_healthy", |count| count == 2);
    let at = proxy.listener("l");
    let bodies =
        || (0..4).map(|_| get(at, "/").split("\r\n\r\n").nth(1).unwrap().to_owned()).collect::<Vec<_>>();
    let both = bodies();
    assert!(both.contains(&"one".to_owned()) && both.contains(&"two".to_owned()), "{both:?}");
    assert!(proxy.admin("GET", "/clusters").contains(&format!("c::{sick}::health_flags::healthy")));

    is_well.store(false, Ordering::Relaxed);
    proxy.wait_stat("cluster.c.membership_healthy", |count| count == 1);
    proxy.wait_stat("cluster.c.health_check.healthy", |count| count == 1);
    assert!(proxy.admin("GET", "/clusters").contains(&format!("c::{sick}::health_flags::/failed_active_hc")));
    assert!(bodies().iter().all(|body| body == "two"));
    assert!(proxy.stat("cluster.c.health_check.failure") > 0);

    is_well.store(true, Ordering::Relaxed);
    proxy.wait_stat("cluster.c.membership_healthy", |count| count == 2);
    assert!(probes.load(Ordering::Relaxed) > 2);
    assert_eq!(proxy.stat("cluster.c.health_check.network_failure"), 0);
}

#[test]
fn a_host_that_nobody_reaches_fails() {
    let (gone, address) = support::upstream();
    drop(gone);
    let proxy = Proxy::start(&bootstrap(&[listener("l", &manager("c"))], &[checked(&[address], http())]));
    proxy.wait_stat("cluster.c.health_check.network_failure", |count| count >= 2);
    assert_eq!(proxy.stat("cluster.c.membership_healthy"), 0);
    assert!(proxy.admin("GET", "/clusters").contains("/failed_active_hc"));
}

#[test]
fn bytes_are_sent_and_looked_for() {
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listening.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listening.incoming().flatten() {
            let mut ping = [0; 4];
            if stream.read_exact(&mut ping).is_ok() && &ping == b"PING" {
                let _ = stream.write_all(b"+well, PONG");
            }
        }
    });
    // "PING" and "PONG".
    let probe =
        json!({"tcp_health_check": {"send": {"text": "50494E47"}, "receive": [{"text": "504F4E47"}]}});
    let proxy = Proxy::start(&bootstrap(&[], &[checked(&[address], probe)]));
    proxy.wait_stat("cluster.c.health_check.healthy", |count| count == 1);
    proxy.wait_stat("cluster.c.health_check.success", |count| count >= 2);
    assert_eq!(proxy.stat("cluster.c.health_check.failure"), 0);
}

#[test]
fn connections_end_with_the_health_of_their_host_where_the_cluster_says_so() {
    let is_well = Arc::new(AtomicBool::new(true));
    let of_server = Arc::clone(&is_well);
    let health = server(move |_| match of_server.load(Ordering::Relaxed) {
        true => ok(""),
        false => "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_owned(),
    });
    let (service, at) = support::upstream();
    let mut config = checked(&[at], http());
    config["close_connections_on_host_health_failure"] = json!(true);
    config["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["health_check_config"] =
        json!({"port_value": health.port()});
    let proxy = Proxy::start(&bootstrap(&[listener("l", &tcp_proxy("c"))], &[config]));
    proxy.wait_stat("cluster.c.membership_healthy", |count| count == 1);
    let mut client = connect(proxy.listener("l"));
    let _far = service.accept().unwrap();
    is_well.store(false, Ordering::Relaxed);
    let mut rest = Vec::new();
    // A reset would end it, too.
    let _ = client.read_to_end(&mut rest);
    assert_eq!(proxy.stat("cluster.c.membership_healthy"), 0);
}
