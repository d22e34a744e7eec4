//! A plan as `iptables-restore` input, REDIRECT mode, IPv4 (CONTRACT 6.4: the order of the rules of
//! one chain is part of the contract, and so are the chains' names, which people look for).

use std::fmt::Write as _;

use crate::{Plan, Ports, Ranges, TUNNEL_PORT};

const INBOUND: &str = "ISTIO_INBOUND";
const REDIRECT: &str = "ISTIO_REDIRECT";
const IN_REDIRECT: &str = "ISTIO_IN_REDIRECT";
const OUTPUT: &str = "ISTIO_OUTPUT";

/// Envoy's inbound clusters connect to the application from this address, so that their connections,
/// which also leave through the loopback, are told from the application's own.
const INBOUND_SOURCE: &str = "127.0.0.6/32";
const LOOPBACK: &str = "127.0.0.1/32";

/// The rules of `plan`: one `nat` table, ready for `iptables-restore`.
pub fn redirect(plan: &Plan) -> String {
    let mut rules = Rules::default();
    for chain in [INBOUND, REDIRECT, IN_REDIRECT, OUTPUT] {
        rules.line(format_args!("-N {chain}"));
    }
    for nic in &plan.exclude_interfaces {
        rules.line(format_args!("-A PREROUTING -i {nic} -j RETURN"));
        rules.line(format_args!("-A OUTPUT -o {nic} -j RETURN"));
    }
    targets(&mut rules, plan);
    inbound(&mut rules, plan);
    outbound(&mut rules, plan);
    format!("*nat\n{}COMMIT\n", rules.0)
}

/// Where captured connections go.
fn targets(rules: &mut Rules, plan: &Plan) {
    rules.line(format_args!("-A {INBOUND} -p tcp --dport {TUNNEL_PORT} -j RETURN"));
    rules.line(format_args!("-A {REDIRECT} -p tcp -j REDIRECT --to-ports {}", plan.outbound_port));
    rules.line(format_args!("-A {IN_REDIRECT} -p tcp -j REDIRECT --to-ports {}", plan.inbound_port));
}

fn inbound(rules: &mut Rules, plan: &Plan) {
    if plan.inbound == Ports::Only(Vec::new()) {
        return;
    }
    rules.line(format_args!("-A PREROUTING -p tcp -j {INBOUND}"));
    match &plan.inbound {
        Ports::All => {
            for port in &plan.exclude_inbound {
                rules.line(format_args!("-A {INBOUND} -p tcp --dport {port} -j RETURN"));
            }
            rules.line(format_args!("-A {INBOUND} -p tcp -j {IN_REDIRECT}"));
        }
        Ports::Only(ports) => {
            for port in ports {
                rules.line(format_args!("-A {INBOUND} -p tcp --dport {port} -j {IN_REDIRECT}"));
            }
        }
    }
}

fn outbound(rules: &mut Rules, plan: &Plan) {
    rules.line(format_args!("-A OUTPUT -j {OUTPUT}"));
    for port in &plan.exclude_outbound_ports {
        for protocol in ["tcp", "udp"] {
            rules.line(format_args!("-A {OUTPUT} -p {protocol} --dport {port} -j RETURN"));
        }
    }
    rules.line(format_args!("-A {OUTPUT} -o lo -s {INBOUND_SOURCE} -j RETURN"));
    for uid in &plan.proxy_uids {
        proxy_traffic(rules, plan, "--uid-owner", *uid);
    }
    for gid in &plan.proxy_gids {
        proxy_traffic(rules, plan, "--gid-owner", *gid);
    }
    rules.line(format_args!("-A {OUTPUT} -d {LOOPBACK} -j RETURN"));
    for range in &plan.exclude_outbound {
        rules.line(format_args!("-A {OUTPUT} -d {range} -j RETURN"));
    }
    for port in &plan.include_outbound_ports {
        rules.line(format_args!("-A {OUTPUT} -p tcp --dport {port} -j {REDIRECT}"));
    }
    match &plan.outbound {
        Ranges::All => rules.line(format_args!("-A {OUTPUT} -j {REDIRECT}")),
        Ranges::Only(ranges) => {
            for range in ranges {
                rules.line(format_args!("-A {OUTPUT} -d {range} -j {REDIRECT}"));
            }
        }
    }
}

/// The proxy's own connections: to the pod's own address they are inbound requests (a pod that calls
/// its own service), to anywhere else they go out as they are. Everybody else's loopback traffic is
/// the application's private matter, unless the plan captures the loopback by name.
fn proxy_traffic(rules: &mut Rules, plan: &Plan, owner: &str, id: u32) {
    rules.line(format_args!(
        "-A {OUTPUT} -o lo ! -d {LOOPBACK} -p tcp ! --dport {TUNNEL_PORT} -m owner {owner} {id} -j {IN_REDIRECT}"
    ));
    if !captures_loopback(plan) {
        rules.line(format_args!("-A {OUTPUT} -o lo -m owner ! {owner} {id} -j RETURN"));
    }
    rules.line(format_args!("-A {OUTPUT} -m owner {owner} {id} -j RETURN"));
}

fn captures_loopback(plan: &Plan) -> bool {
    match &plan.outbound {
        Ranges::All => false,
        Ranges::Only(ranges) => ranges.iter().any(|r| r.addr().is_loopback()),
    }
}

/// Rules in the order they are added.
#[derive(Default)]
struct Rules(String);

impl Rules {
    fn line(&mut self, rule: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{rule}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
        let head = format!("-A {name} ");
        text.lines().filter_map(|l| l.strip_prefix(&head)).collect()
    }

    #[test]
    fn a_sidecar_leaves_the_proxys_own_ports_reachable() {
        let text = redirect(&Plan::sidecar());
        assert_eq!(
            chain(&text, INBOUND),
            [
                "-p tcp --dport 15008 -j RETURN",
                "-p tcp --dport 15090 -j RETURN",
                "-p tcp --dport 15021 -j RETURN",
                "-p tcp --dport 15020 -j RETURN",
                "-p tcp -j ISTIO_IN_REDIRECT",
            ]
        );
    }

    #[test]
    fn the_proxys_own_traffic_returns_before_anything_is_redirected() {
        let text = redirect(&Plan::sidecar());
        let output = chain(&text, OUTPUT);
        let own = output.iter().position(|r| *r == "-m owner --uid-owner 1337 -j RETURN").unwrap();
        let all = output.iter().position(|r| *r == "-j ISTIO_REDIRECT").unwrap();
        assert!(own < all);
        assert_eq!(output[0], "-o lo -s 127.0.0.6/32 -j RETURN");
        assert_eq!(all, output.len() - 1);
    }

    #[test]
    fn named_ranges_are_captured_and_nothing_else() {
        let plan = Plan {
            outbound: Ranges::Only(vec!["10.0.0.0/8".parse().unwrap()]),
            exclude_outbound: vec!["10.1.0.0/16".parse().unwrap()],
            include_outbound_ports: vec![31000],
            exclude_outbound_ports: vec![25],
            ..Plan::nothing()
        };
        let text = redirect(&plan);
        assert!(chain(&text, "PREROUTING").is_empty(), "no inbound capture was asked for");
        let output = chain(&text, OUTPUT);
        assert_eq!(output[..2], ["-p tcp --dport 25 -j RETURN", "-p udp --dport 25 -j RETURN"]);
        assert_eq!(
            output[output.len() - 4..],
            [
                "-d 127.0.0.1/32 -j RETURN",
                "-d 10.1.0.0/16 -j RETURN",
                "-p tcp --dport 31000 -j ISTIO_REDIRECT",
                "-d 10.0.0.0/8 -j ISTIO_REDIRECT",
            ]
        );
    }

    #[test]
    fn capturing_the_loopback_drops_the_rule_that_spares_it() {
        let plan = Plan { outbound: Ranges::Only(vec!["127.0.0.0/8".parse().unwrap()]), ..Plan::nothing() };
        let text = redirect(&plan);
        assert!(!text.contains("! --uid-owner"));
        assert!(redirect(&Plan::sidecar()).contains("-o lo -m owner ! --uid-owner 1337 -j RETURN"));
    }
}
