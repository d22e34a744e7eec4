//! The iptables back end: a [`Ruleset`] as text that `iptables-restore` and `ip6tables-restore` read, and the only place
//! that runs programs: those two and `iptables-save`, `ip6tables-save`.
//!
//! Tables are shared with others here, so only what is ours is changed: chains with our names, and rules in the
//! kernel's chains that lead to them or carry our comment.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use crate::config::Interface;
use crate::rules::{Action, ChainName, Family, Match, Owner, Protocol, Rule, Ruleset, State, TableKind};

/// Marks rules in the kernel's chains as ours.
pub(crate) const COMMENT: &str = "-m comment --comment ostro-capture";
/// Every chain that we may have made.
const OWN_CHAINS: [ChainName; 8] = [
    ChainName::Inbound,
    ChainName::Redirect,
    ChainName::InRedirect,
    ChainName::OutputRules,
    ChainName::OutputDns,
    ChainName::Divert,
    ChainName::Tproxy,
    ChainName::Drop,
];

/// Why the rules are not in force. The machine's fault: a missing package or kernel feature, or permission.
#[derive(Debug, thiserror::Error)]
pub enum IptablesError {
    /// It could not be run.
    #[error(
        "cannot run {program} (Debian and Ubuntu: apt-get install iptables; or use --backend nft, which needs no program): {source}"
    )]
    Run {
        /// The program.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It refused.
    #[error("{program} refused: {said}")]
    Refused {
        /// The program.
        program: &'static str,
        /// In its own words.
        said: String,
    },
}

/// Brings rules into force in the calling thread's network namespace, in place of those of an earlier plan: table by
/// table, each in one step.
pub fn apply(rules: &Ruleset) -> Result<(), IptablesError> {
    set(Some(rules))
}

/// Takes our rules out of the calling thread's network namespace, if there are any.
pub fn remove() -> Result<(), IptablesError> {
    set(None)
}

fn set(rules: Option<&Ruleset>) -> Result<(), IptablesError> {
    for (family, saved) in save(rules.is_some_and(|rules| rules.ipv6))? {
        let text = script(rules, family, &saved);
        let restore = if family == Family::V4 { "iptables-restore" } else { "ip6tables-restore" };
        if !text.is_empty() {
            run(restore, &["--noflush", "--wait"], &text)?;
        }
    }
    Ok(())
}

/// What there is now, by family. A system without IPv6 has nothing of it, unless it is wanted.
pub(crate) fn save(ipv6: bool) -> Result<Vec<(Family, String)>, IptablesError> {
    let mut saved = vec![(Family::V4, run("iptables-save", &[], "")?)];
    match run("ip6tables-save", &[], "") {
        Ok(text) => saved.push((Family::V6, text)),
        Err(error) if ipv6 => return Err(error),
        Err(_) => {}
    }
    Ok(saved)
}

fn run(program: &'static str, arguments: &[&str], input: &str) -> Result<String, IptablesError> {
    let failed = |source| IptablesError::Run { program, source };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut pipe) = child.stdin.take() {
        // If it ends early, its own words say more than the broken pipe.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(IptablesError::Refused { program, said })
        }
    }
}

/// The rules for one family, for a namespace without rules.
pub fn restore(rules: &Ruleset, family: Family) -> String {
    script(Some(rules), family, "")
}

/// The input of `iptables-restore --noflush` that makes our rules these (none, without), given what `iptables-save`
/// says there is.
pub fn script(rules: Option<&Ruleset>, family: Family, saved: &str) -> String {
    let rules = rules.filter(|rules| family == Family::V4 || rules.ipv6);
    let there = ours(saved);
    let mut text = String::new();
    for kind in [TableKind::Raw, TableKind::Mangle, TableKind::Nat] {
        let wanted = rules.and_then(|rules| rules.tables.iter().find(|table| table.kind == kind));
        let there = there.get(table_name(kind)).cloned().unwrap_or_default();
        if wanted.is_none() && there.chains.is_empty() && there.rules.is_empty() {
            continue;
        }
        push(&mut text, format_args!("*{}\n", table_name(kind)));
        let chains = wanted.map(|table| table.chains.as_slice()).unwrap_or_default();
        let names: Vec<&str> =
            chains.iter().filter(|c| !c.name.is_base()).map(|c| chain_name(c.name)).collect();
        // Makes the chain, or empties it.
        let stale = there.chains.iter().map(String::as_str).filter(|name| !names.contains(name));
        for name in names.iter().copied().chain(stale.clone()) {
            push(&mut text, format_args!(":{name} - [0:0]\n"));
        }
        for rule in &there.rules {
            push(&mut text, format_args!("-D {rule}\n"));
        }
        for name in stale {
            push(&mut text, format_args!("-X {name}\n"));
        }
        for chain in chains {
            for rule in chain.rules.iter().filter(|r| r.family().is_none_or(|f| f == family)) {
                let comment = if chain.name.is_base() { format!("{COMMENT} ") } else { String::new() };
                let name = chain_name(chain.name);
                push(&mut text, format_args!("-A {name} {comment}{}\n", rule_text(rule)));
            }
        }
        text.push_str("COMMIT\n");
    }
    text
}

/// What is ours in one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ours {
    /// Chains with our names.
    pub chains: Vec<String>,
    /// Rules in the kernel's chains, without `-A`.
    pub rules: Vec<String>,
    /// Rules in our chains, without `-A`.
    pub own_rules: Vec<String>,
}

/// What is ours in what `iptables-save` printed, by table.
pub(crate) fn ours(saved: &str) -> BTreeMap<&str, Ours> {
    let own = |name: &str| OWN_CHAINS.iter().any(|own| chain_name(*own) == name);
    let mut tables: BTreeMap<&str, Ours> = BTreeMap::new();
    let mut table = "";
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name.trim();
        } else if let Some(name) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
            if own(name) {
                tables.entry(table).or_default().chains.push(name.to_owned());
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let words: Vec<&str> = rule.split(' ').collect();
            let from_own = words.first().is_some_and(|chain| own(chain));
            let leads_to_own = words.windows(2).any(|pair| matches!(pair, ["-j", target] if own(target)));
            if from_own {
                tables.entry(table).or_default().own_rules.push(rule.to_owned());
            } else if leads_to_own || rule.contains(COMMENT) {
                tables.entry(table).or_default().rules.push(rule.to_owned());
            }
        }
    }
    tables
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

/// A condition.
pub(crate) fn match_text(condition: &Match) -> String {
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

/// What happens.
pub(crate) fn action_text(action: Action) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Plan};

    fn rules() -> Ruleset {
        Plan::new(&Config::sidecar()).unwrap().rules
    }

    fn chain<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
        let head = format!("-A {name} ");
        text.lines().filter_map(|l| l.strip_prefix(&head)).collect()
    }

    #[test]
    fn a_sidecar_leaves_the_proxys_own_ports_reachable() {
        let text = restore(&rules(), Family::V4);
        assert_eq!(
            chain(&text, "ISTIO_INBOUND"),
            [
                "-p tcp --dport 15008 -j RETURN",
                "-p tcp --dport 15090 -j RETURN",
                "-p tcp --dport 15021 -j RETURN",
                "-p tcp --dport 15020 -j RETURN",
                "-p tcp -j ISTIO_IN_REDIRECT",
            ]
        );
        assert_eq!(restore(&rules(), Family::V6), "", "IPv6 was not asked for");
    }

    #[test]
    fn the_proxys_own_traffic_returns_before_anything_is_redirected() {
        let text = restore(&rules(), Family::V4);
        let output = chain(&text, "ISTIO_OUTPUT");
        let own = output.iter().position(|r| *r == "-m owner --uid-owner 1337 -j RETURN").unwrap();
        let all = output.iter().position(|r| *r == "-j ISTIO_REDIRECT").unwrap();
        assert!(own < all);
        assert_eq!(output[0], "-o lo -s 127.0.0.6/32 -j RETURN");
        assert_eq!(all, output.len() - 1);
    }

    #[test]
    fn what_others_have_is_left_and_what_we_had_goes() {
        let saved = "*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n:ISTIO_OUTPUT_DNS - [1:2]\n\
                     -A PREROUTING -j DOCKER\n-A OUTPUT -o eth1 -m comment --comment ostro-capture -j RETURN\n\
                     -A OUTPUT -j ISTIO_OUTPUT_DNS\n-A ISTIO_OUTPUT_DNS -p udp -j RETURN\nCOMMIT\n";
        let text = script(None, Family::V4, saved);
        assert_eq!(
            text,
            "*nat\n:ISTIO_OUTPUT_DNS - [0:0]\n-D OUTPUT -o eth1 -m comment --comment ostro-capture -j RETURN\n\
             -D OUTPUT -j ISTIO_OUTPUT_DNS\n-X ISTIO_OUTPUT_DNS\nCOMMIT\n"
        );
        assert_eq!(script(None, Family::V4, "*nat\n:DOCKER - [0:0]\nCOMMIT\n"), "");
        let text = script(Some(&rules()), Family::V4, saved);
        assert!(text.contains("-X ISTIO_OUTPUT_DNS\n") && text.contains(":ISTIO_OUTPUT - [0:0]\n"), "{text}");
    }
}
