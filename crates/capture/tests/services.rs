//! Services' addresses in a real kernel: two pods and the namespace that routes between them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test by panicking")]

mod support;

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use ostro_capture::rules::Protocol;
use ostro_capture::services::{Destinations, ENDPOINTS_MAX, Services, Virtual};
use support::{Namespace, ask_tcp, ask_udp, nft_list, serve};

/// Two pods, one word each, and a router.
struct Net {
    router: Namespace,
    a: Namespace,
    b: Namespace,
    services: Arc<Mutex<Services>>,
}

type Ask = fn(SocketAddr) -> io::Result<String>;

const A: [&str; 2] = ["10.244.0.2", "fd00::a"];
const B: [&str; 2] = ["10.244.0.3", "fd00::b"];
const VIP: [&str; 2] = ["10.96.0.1", "fd96::1"];

impl Net {
    fn new() -> Self {
        let (router, a, b) = (Namespace::new(), Namespace::new(), Namespace::new());
        router.run(|| {
            for name in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                // What a thread sees here is of its own namespace.
                std::fs::write(format!("/proc/sys/net/{name}"), "1").unwrap();
            }
        });
        for (pod, name, [v4, v6]) in [(&a, "pod-a", A), (&b, "pod-b", B)] {
            router.ip(&format!(
                "link add {name} type veth peer name eth0 netns {}\nlink set {name} up",
                pod.tid
            ));
            pod.ip(&format!(
                "link set eth0 up\naddr add {v4}/32 dev eth0\n-6 addr add {v6}/128 dev eth0 nodad\n\
                 route add 10.244.0.1 dev eth0\nroute add default via 10.244.0.1 src {v4}\n\
                 -6 route add fd00::1 dev eth0\n-6 route add default via fd00::1 src {v6}"
            ));
            router.ip(&format!(
                "addr add 10.244.0.1/32 dev {name}\n-6 addr add fd00::1/128 dev {name} nodad\n\
                 route add {v4} dev {name}\n-6 route add {v6} dev {name}"
            ));
        }
        // Its own connections to services need some route; where it leads does not matter.
        router.ip(
            "route add 10.96.0.0/16 dev pod-a src 10.244.0.1\n-6 route add fd96::/64 dev pod-a src fd00::1",
        );
        a.run(|| A.map(|ip| serve("a", at(ip, 80))));
        b.run(|| B.map(|ip| serve("b", at(ip, 80))));
        Self { router, a, b, services: Arc::default() }
    }

    fn set(&self, wanted: Destinations) {
        let services = Arc::clone(&self.services);
        self.router.run(move || services.lock().unwrap().set(&wanted).unwrap());
    }

    fn list(&self) -> String {
        self.router.run(nft_list)
    }
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

fn service(ip: &str, port: u16, protocol: Protocol, to: &[SocketAddr]) -> (Virtual, Vec<SocketAddr>) {
    (Virtual { address: ip.parse().unwrap(), port, protocol }, to.to_vec())
}

/// Both protocols and both families of one service.
fn everywhere(port: u16, to: &[&str]) -> Destinations {
    let to: Vec<SocketAddr> = to.iter().map(|ip| at(ip, 80)).collect();
    let ways = VIP.into_iter().flat_map(|ip| [(ip, Protocol::Tcp), (ip, Protocol::Udp)]);
    ways.map(|(ip, protocol)| service(ip, port, protocol, &to)).collect()
}

/// Asks the service until both pods have answered.
fn answers(
    net: &Namespace,
    ip: &'static str,
    ask: fn(SocketAddr) -> std::io::Result<String>,
) -> BTreeSet<String> {
    let mut heard = BTreeSet::new();
    // With two endpoints, one is not chosen in 64 tries once in 2^63 runs.
    for _ in 0..64 {
        heard.insert(net.run(move || ask(at(ip, 8080))).unwrap());
        if heard.len() == 2 {
            break;
        }
    }
    heard
}

#[test]
fn a_service_leads_to_all_its_endpoints_and_an_endpoint_can_call_itself() {
    let net = Net::new();
    net.set(everywhere(8080, &[A[0], A[1], B[0], B[1]]));
    for (family, ip) in VIP.into_iter().enumerate() {
        for ask in [ask_tcp as Ask, ask_udp] {
            // Itself it sees as the gateway, the other one as it is.
            let gateway = ["10.244.0.1", "fd00::1"][family];
            let expected = [format!("a {gateway}"), format!("b {}", A[family])];
            assert_eq!(answers(&net.a, ip, ask), BTreeSet::from(expected), "{ip}");
        }
        // From the router itself: the gateway's own connections.
        let heard: BTreeSet<String> = answers(&net.router, ip, ask_tcp);
        assert_eq!(heard.len(), 2, "{heard:?}");
    }
}

#[test]
fn without_endpoints_it_refuses_and_addresses_that_are_no_services_are_left_alone() {
    let net = Net::new();
    net.set(everywhere(8080, &[]));
    for ip in VIP {
        let refused = |from: &Namespace, ask: Ask| from.run(move || ask(at(ip, 8080))).unwrap_err().kind();
        for ask in [ask_tcp as Ask, ask_udp] {
            assert_eq!(refused(&net.b, ask), ErrorKind::ConnectionRefused, "{ip}");
        }
        // A datagram that this very namespace sends fails already as it is sent.
        assert_eq!(refused(&net.router, ask_tcp), ErrorKind::ConnectionRefused, "{ip}");
        assert_eq!(refused(&net.router, ask_udp), ErrorKind::PermissionDenied, "{ip}");
    }
    assert_eq!(net.b.run(|| ask_tcp(at(A[0], 80))).unwrap(), format!("a {}", B[0]));
}

#[test]
fn changes_leave_what_a_fresh_table_would_have() {
    let net = Net::new();
    let other = |to: &[SocketAddr]| service("10.96.0.9", 53, Protocol::Udp, to);
    let mut steps = vec![
        everywhere(8080, &[A[0], A[1]]),
        everywhere(8080, &[A[0], A[1], B[0], B[1]]),
        everywhere(8080, &[]),
        everywhere(8080, &[B[0]]),
        everywhere(9090, &[B[0]]),
        Destinations::new(),
    ];
    steps[1].extend([other(&[at(B[0], 80)])]);
    steps[4].extend([other(&[])]);
    for step in steps {
        net.set(step.clone());
        let fresh = Namespace::new().run(move || {
            Services::default().set(&step).unwrap();
            nft_list()
        });
        assert_eq!(sorted(&net.list()), sorted(&fresh));
    }
    let services = Arc::clone(&net.services);
    net.router.run(move || services.lock().unwrap().remove().unwrap());
    assert_eq!(net.list(), "");
}

/// Chains are listed in the order they were made in.
fn sorted(list: &str) -> Vec<String> {
    let mut blocks: Vec<String> = list.split("\n\n").map(|block| block.replace("\n}\n", "\n")).collect();
    blocks.iter_mut().for_each(|block| *block = block.trim_end().to_owned());
    blocks.sort();
    blocks
}

#[test]
fn more_than_one_message_can_carry_is_loaded_all_the_same() {
    let many: Vec<SocketAddr> =
        (0..=ENDPOINTS_MAX).map(|n| at(&format!("10.1.{}.{}", n / 256, n % 256), 80)).collect();
    let all: Destinations = (0..20).map(|n| service("10.96.7.7", 1000 + n, Protocol::Tcp, &many)).collect();
    Namespace::new().run(move || {
        let mut services = Services::default();
        services.set(&all).unwrap();
        assert_eq!(nft_list().matches("dnat ip to").count(), 20 * ENDPOINTS_MAX);
        assert!(services.in_force().unwrap().values().all(|to| to.len() == ENDPOINTS_MAX));
    });
}
