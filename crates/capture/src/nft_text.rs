//! Rules as text that `nft -f` reads, for people: what `ostro capture plan` shows. What is loaded goes another way
//! ([`crate::nft`]); a test loads both and compares.

use std::fmt::Write as _;

use crate::netlink::batch::Hook;
use crate::nft::{chain_name, hook, table_ref};
use crate::rules::{Action, ChainName, Family, Match, Owner, Protocol, Rule, Ruleset, State};

/// The rules as input of `nft -f`, for a namespace that has none of ours.
pub fn script(rules: &Ruleset) -> String {
    let mut text = String::new();
    for table in &rules.tables {
        let name = table_ref(table.kind).name;
        push(&mut text, format_args!("table inet {name} {{\n"));
        for chain in &table.chains {
            push(&mut text, format_args!("\tchain {} {{\n", chain_name(chain.name)));
            if let Some(Hook { kind, point, priority }) = hook(table.kind, chain.name) {
                let (kind, point) = (kind.as_str(), point.as_str());
                push(&mut text, format_args!("\t\ttype {kind} hook {point} priority {priority};\n"));
            }
            for line in chain.rules.iter().flat_map(|rule| lines(rules, chain.name, rule)) {
                push(&mut text, format_args!("\t\t{line}\n"));
            }
            text.push_str("\t}\n");
        }
        text.push_str("}\n");
    }
    text
}

fn push(text: &mut String, piece: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(piece);
}

/// One rule; two where the kernel needs two (see [`crate::nft::lowered`]).
fn lines(rules: &Ruleset, chain: ChainName, rule: &Rule) -> Vec<String> {
    let mut words = Vec::new();
    if rule.family().is_none() && chain.is_base() && !rules.ipv6 {
        words.push("meta nfproto ipv4".to_owned());
    }
    let protocol = rule.matches.iter().find_map(|m| match m {
        Match::Protocol(protocol) => Some(*protocol),
        _ => None,
    });
    words.extend(rule.matches.iter().map(|condition| match_text(condition, protocol)));
    words.push("counter".to_owned());
    let line = |action: &str| [words.join(" "), action.to_owned()].join(" ");
    let mut out = vec![line(&action_text(rule))];
    if matches!(rule.action, Action::Tproxy { .. }) {
        out.push(line("drop"));
    }
    out
}

fn match_text(condition: &Match, protocol: Option<Protocol>) -> String {
    let port = protocol_name(protocol.unwrap_or(Protocol::Tcp));
    match condition {
        Match::Protocol(protocol) => format!("meta l4proto {}", protocol_name(*protocol)),
        Match::Dport(number) => format!("{port} dport {number}"),
        Match::NotDports(numbers) => {
            let each: Vec<String> =
                numbers.iter().map(|number| format!("{port} dport != {number}")).collect();
            each.join(" ")
        }
        Match::Sport(number) => format!("{port} sport {number}"),
        Match::Source(net) => format!("{} saddr {}", address_word(net), net.trunc()),
        Match::Destination(net) => format!("{} daddr {}", address_word(net), net.trunc()),
        Match::NotDestination(net) => format!("{} daddr != {}", address_word(net), net.trunc()),
        Match::In(interface) => format!("iifname {}", interface_word(interface)),
        Match::Out(interface) => format!("oifname {}", interface_word(interface)),
        Match::Owner(owner) => owner_text(*owner, ""),
        Match::NotOwner(owner) => owner_text(*owner, "!= "),
        Match::Mark(mark) => format!("meta mark {mark}"),
        Match::NotMark(mark) => format!("meta mark != {mark}"),
        Match::ConnectionMark(mark) => format!("ct mark {mark}"),
        Match::State(State::Invalid) => "ct state invalid".to_owned(),
        Match::State(State::Established) => "ct state established,related".to_owned(),
    }
}

fn owner_text(owner: Owner, not: &str) -> String {
    match owner {
        Owner::Uid(id) => format!("meta skuid {not}{id}"),
        Owner::Gid(id) => format!("meta skgid {not}{id}"),
        Owner::Mark(mark) => format!("meta mark {not}{mark}"),
    }
}

fn action_text(rule: &Rule) -> String {
    match rule.action {
        Action::Return => "return".to_owned(),
        Action::Accept => "accept".to_owned(),
        Action::Drop => "drop".to_owned(),
        Action::Jump(target) => format!("jump {}", chain_name(target)),
        Action::Redirect(port) => format!("redirect to :{port}"),
        Action::Tproxy { port, mark } => {
            let family = if rule.family() == Some(Family::V6) { "ip6" } else { "ip" };
            format!("tproxy {family} to :{port} meta mark set {mark} accept")
        }
        Action::Mark(mark) => format!("meta mark set {mark}"),
        Action::SaveMark => "ct mark set meta mark".to_owned(),
        Action::RestoreMark => "meta mark set ct mark".to_owned(),
        Action::Zone(zone) => format!("ct zone set {zone}"),
    }
}

fn address_word(net: &ipnet::IpNet) -> &'static str {
    if net.addr().is_ipv4() { "ip" } else { "ip6" }
}

fn interface_word(interface: &crate::Interface) -> String {
    match interface.prefix() {
        Some(prefix) => format!("\"{prefix}*\""),
        None => format!("\"{}\"", interface.as_str()),
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}
