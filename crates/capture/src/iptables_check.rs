//! What of our rules `iptables-save` shows, compared with what it should.
//!
//! It prints rules in its own way: addresses first, then interfaces, the protocol, and modules as they were written,
//! with all that was left out. [`saved`] writes a rule that way.

use crate::iptables::{self, COMMENT, IptablesError, action_text, chain_name, match_text, ours, table_name};
use crate::rules::{Action, Chain, Family, Match, Owner, Protocol, Rule, Ruleset, TableKind};

/// What is loaded and is not as the rules say, in words; nothing if they are in force.
pub fn differences(rules: &Ruleset) -> Result<Vec<String>, IptablesError> {
    let mut found = Vec::new();
    for (family, text) in iptables::save(rules.ipv6)? {
        let wanted = (family == Family::V4 || rules.ipv6).then_some(rules);
        found.extend(compare(wanted, family, &text));
    }
    Ok(found)
}

fn compare(rules: Option<&Ruleset>, family: Family, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let there = ours(text);
    let program = if family == Family::V4 { "iptables" } else { "ip6tables" };
    for kind in [TableKind::Raw, TableKind::Mangle, TableKind::Nat] {
        let name = table_name(kind);
        let mut there = there.get(name).cloned().unwrap_or_default();
        let wanted = rules.and_then(|rules| rules.tables.iter().find(|table| table.kind == kind));
        let mut base = Vec::new();
        for chain in wanted.map(|table| table.chains.as_slice()).unwrap_or_default() {
            let chain_text = chain_name(chain.name);
            let expected = lines(chain, family);
            if chain.name.is_base() {
                base.extend(expected);
                continue;
            }
            let Some(place) = there.chains.iter().position(|there| there == chain_text) else {
                found.push(format!("missing: {program} chain {chain_text} of table {name}"));
                continue;
            };
            there.chains.remove(place);
            let head = format!("{chain_text} ");
            let loaded: Vec<&String> =
                there.own_rules.iter().filter(|rule| rule.starts_with(&head)).collect();
            found.extend(first(&expected, &loaded).map(|what| format!("{program} table {name}: {what}")));
        }
        let not_ours = there.chains.iter();
        found.extend(
            not_ours.map(|chain| format!("not of this plan: {program} chain {chain} of table {name}")),
        );
        // What is ours in the kernel's chains is in order by chain; others' rules may stand between.
        for chain in ["PREROUTING ", "OUTPUT "] {
            let of = |rules: &[String]| -> Vec<String> {
                rules.iter().filter(|rule| rule.starts_with(chain)).cloned().collect()
            };
            let (expected, loaded) = (of(&base), of(&there.rules));
            let loaded: Vec<&String> = loaded.iter().collect();
            found.extend(first(&expected, &loaded).map(|what| format!("{program} table {name}: {what}")));
        }
    }
    found
}

/// The first line that differs, in words.
fn first(expected: &[String], loaded: &[&String]) -> Option<String> {
    let at = |place: usize| (expected.get(place), loaded.get(place).copied());
    let (expected, loaded) =
        (0..expected.len().max(loaded.len())).map(at).find(|(expected, loaded)| expected != loaded)?;
    let text = |rule: Option<&String>| rule.map_or("nothing", String::as_str).to_owned();
    Some(format!("expected {}, found {}", text(expected), text(loaded)))
}

fn lines(chain: &Chain, family: Family) -> Vec<String> {
    let rules = chain.rules.iter().filter(|rule| rule.family().is_none_or(|f| f == family));
    rules
        .map(|rule| format!("{} {}", chain_name(chain.name), saved(rule, chain.name.is_base(), family)))
        .collect()
}

/// A rule as `iptables-save` prints it.
fn saved(rule: &Rule, base: bool, family: Family) -> String {
    let mut words = Vec::new();
    let address =
        |m: &&Match| matches!(m, Match::Source(_) | Match::Destination(_) | Match::NotDestination(_));
    let everywhere = |m: &&Match| match m {
        Match::Source(net) | Match::Destination(net) => net.prefix_len() == 0,
        _ => false,
    };
    words.extend(rule.matches.iter().filter(address).filter(|m| !everywhere(m)).map(match_text));
    let interface = |m: &&Match| matches!(m, Match::In(_) | Match::Out(_));
    words.extend(rule.matches.iter().filter(interface).map(match_text));
    let protocol = rule.matches.iter().find_map(|m| match m {
        Match::Protocol(protocol) => Some(*protocol),
        _ => None,
    });
    words.extend(protocol.map(|protocol| match_text(&Match::Protocol(protocol))));
    words.extend(base.then(|| COMMENT.to_owned()));
    words.extend(rule.matches.iter().filter_map(|condition| module(condition, protocol)));
    words.push(target(rule.action, family));
    words.join(" ")
}

/// A condition of a module, with the module's name.
fn module(condition: &Match, protocol: Option<Protocol>) -> Option<String> {
    let text = match_text(condition);
    let marked = |not: &str, mark: u32| format!("-m mark {not}--mark {mark:#x}");
    match condition {
        Match::Dport(_) | Match::Sport(_) => {
            Some(format!("-m {} {text}", if protocol == Some(Protocol::Udp) { "udp" } else { "tcp" }))
        }
        Match::NotDports(ports) if ports.len() == 1 => Some(format!("-m tcp {text}")),
        Match::Owner(Owner::Mark(mark)) | Match::Mark(mark) => Some(marked("", *mark)),
        Match::NotOwner(Owner::Mark(mark)) | Match::NotMark(mark) => Some(marked("! ", *mark)),
        Match::ConnectionMark(mark) => Some(format!("-m connmark --mark {mark:#x}")),
        Match::NotDports(_) | Match::Owner(_) | Match::NotOwner(_) | Match::State(_) => Some(text),
        Match::Protocol(_)
        | Match::Source(_)
        | Match::Destination(_)
        | Match::NotDestination(_)
        | Match::In(_)
        | Match::Out(_) => None,
    }
}

fn target(action: Action, family: Family) -> String {
    let text = action_text(action);
    let any = if family == Family::V4 { "0.0.0.0" } else { "::" };
    match action {
        Action::Tproxy { port, mark } => {
            format!("-j TPROXY --on-port {port} --on-ip {any} --tproxy-mark {mark:#x}/0xffffffff")
        }
        Action::Mark(mark) => format!("-j MARK --set-xmark {mark:#x}/0xffffffff"),
        Action::SaveMark | Action::RestoreMark => format!("{text} --nfmask 0xffffffff --ctmask 0xffffffff"),
        _ => text,
    }
}
