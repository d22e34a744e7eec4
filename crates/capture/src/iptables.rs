//! The iptables back end: a [`Ruleset`] as text that `iptables-restore` and `ip6tables-restore` read.

use std::fmt::Write as _;

use crate::config::Interface;
use crate::rules::{Action, ChainName, Family, Match, Owner, Protocol, Rule, Ruleset, State, TableKind};

/// The rules for one family, ready for `iptables-restore` (or `ip6tables-restore`).
pub fn restore(rules: &Ruleset, family: Family) -> String {
    let mut text = String::new();
    if family == Family::V6 && !rules.ipv6 {
        return text;
    }
    for table in &rules.tables {
        push(&mut text, format_args!("*{}\n", table_name(table.kind)));
        for chain in table.chains.iter().filter(|chain| !chain.name.is_base()) {
            push(&mut text, format_args!("-N {}\n", chain_name(chain.name)));
        }
        for chain in &table.chains {
            for rule in chain.rules.iter().filter(|r| r.family().is_none_or(|f| f == family)) {
                push(&mut text, format_args!("-A {} {}\n", chain_name(chain.name), rule_text(rule)));
            }
        }
        text.push_str("COMMIT\n");
    }
    text
}

fn push(text: &mut String, piece: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(piece);
}

/// The table's name.
pub(crate) fn table_name(kind: TableKind) -> &'static str {
    match kind {
        TableKind::Raw => "raw",
        TableKind::Mangle => "mangle",
        TableKind::Nat => "nat",
    }
}

/// The chain's name.
pub(crate) fn chain_name(name: ChainName) -> &'static str {
    match name {
        ChainName::Prerouting => "PREROUTING",
        ChainName::Output => "OUTPUT",
        ChainName::Inbound => "ISTIO_INBOUND",
        ChainName::Redirect => "ISTIO_REDIRECT",
        ChainName::InRedirect => "ISTIO_IN_REDIRECT",
        ChainName::OutputRules => "ISTIO_OUTPUT",
        ChainName::OutputDns => "ISTIO_OUTPUT_DNS",
        ChainName::Divert => "ISTIO_DIVERT",
        ChainName::Tproxy => "ISTIO_TPROXY",
        ChainName::Drop => "ISTIO_DROP",
    }
}

/// A rule, without its chain.
pub(crate) fn rule_text(rule: &Rule) -> String {
    let mut words: Vec<String> = rule.matches.iter().map(match_text).collect();
    words.push(action_text(rule.action));
    words.join(" ")
}

fn match_text(condition: &Match) -> String {
    match condition {
        Match::Protocol(protocol) => format!("-p {}", protocol_name(*protocol)),
        Match::Dport(port) => format!("--dport {port}"),
        Match::NotDports(ports) => match ports.as_slice() {
            [port] => format!("! --dport {port}"),
            ports => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                format!("-m multiport ! --dports {}", ports.join(","))
            }
        },
        Match::Sport(port) => format!("--sport {port}"),
        Match::Source(net) => format!("-s {}", net.trunc()),
        Match::Destination(net) => format!("-d {}", net.trunc()),
        Match::NotDestination(net) => format!("! -d {}", net.trunc()),
        Match::In(interface) => format!("-i {}", Interface::as_str(interface)),
        Match::Out(interface) => format!("-o {}", Interface::as_str(interface)),
        Match::Owner(owner) => owner_text(*owner, ""),
        Match::NotOwner(owner) => owner_text(*owner, "! "),
        Match::Mark(mark) => format!("-m mark --mark {mark}"),
        Match::NotMark(mark) => format!("-m mark ! --mark {mark}"),
        Match::ConnectionMark(mark) => format!("-m connmark --mark {mark}"),
        Match::State(State::Invalid) => "-m conntrack --ctstate INVALID".to_owned(),
        Match::State(State::Established) => "-m conntrack --ctstate RELATED,ESTABLISHED".to_owned(),
    }
}

fn owner_text(owner: Owner, not: &str) -> String {
    match owner {
        Owner::Uid(id) => format!("-m owner {not}--uid-owner {id}"),
        Owner::Gid(id) => format!("-m owner {not}--gid-owner {id}"),
        Owner::Mark(mark) => format!("-m mark {not}--mark {mark}"),
    }
}

fn action_text(action: Action) -> String {
    match action {
        Action::Return => "-j RETURN".to_owned(),
        Action::Accept => "-j ACCEPT".to_owned(),
        Action::Drop => "-j DROP".to_owned(),
        Action::Jump(target) => format!("-j {}", chain_name(target)),
        Action::Redirect(port) => format!("-j REDIRECT --to-ports {port}"),
        Action::Tproxy { port, mark } => {
            format!("-j TPROXY --tproxy-mark {mark}/0xffffffff --on-port {port}")
        }
        Action::Mark(mark) => format!("-j MARK --set-mark {mark}"),
        Action::SaveMark => "-j CONNMARK --save-mark".to_owned(),
        Action::RestoreMark => "-j CONNMARK --restore-mark".to_owned(),
        Action::Zone(zone) => format!("-j CT --zone {zone}"),
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}
