//! From a configuration to rules. The order of the rules of one chain is that of `istio-iptables`, and part of what
//! they mean.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::{Config, Dns, Groups, Interception, Interface, Ports, Ranges};
use crate::rules::{Action, ChainName, Match, Owner, Protocol, Ruleset, State, TableKind};
use Action::{Accept, Drop, Jump, Redirect, RestoreMark, Return, SaveMark, Zone};
use ChainName::{
    Divert, Drop as DropChain, InRedirect, Inbound, Output, OutputDns, OutputRules, Prerouting,
    Redirect as ToOutbound, Tproxy,
};
use Match::{
    ConnectionMark, Destination, Dport, In, Mark, NotDestination, NotDports, NotMark, NotOwner, Out, Source,
    Sport,
};
use TableKind::{Mangle, Nat, Raw};

const TCP: Match = Match::Protocol(Protocol::Tcp);
const UDP: Match = Match::Protocol(Protocol::Udp);

/// Where DNS questions go.
const DNS_PORT: u16 = 53;
/// Where the proxy's agent answers them.
const AGENT_DNS_PORT: u16 = 15053;
/// Connection-tracking zone of what the agent asks real servers. Without zones, an application's question and the
/// agent's own to the same server could share addresses and ports, and one's answer would reach the other.
const ZONE_UPSTREAM: u16 = 1;
/// Zone of what applications ask the agent.
const ZONE_APPLICATION: u16 = 2;

/// Under TPROXY, packets of the proxy to its own pod carry this mark: they are inbound requests of a pod that
/// calls its own service, told from those that one program of the pod sends another.
const OUTBOUND_MARK: u32 = 1338;

/// Proxies' inbound clusters connect to the application from these addresses, so that their connections, which
/// also leave through the loopback, are told from the application's own.
const INBOUND_SOURCES: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 6), 32)),
    IpNet::V6(Ipv6Net::new_assert(INBOUND_SOURCE_V6, 128)),
];
/// The second of them; unlike 127.0.0.6 it is nobody's address until given to the loopback.
pub(crate) const INBOUND_SOURCE_V6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// What a namespace needs for a configuration to be in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The rules.
    pub rules: Ruleset,
    /// What routing has to know, for TPROXY.
    pub routing: Option<Routing>,
    /// Whether the loopback needs the address `::6`.
    pub inbound_source_v6: bool,
}

/// Packets with a mark are delivered here, whatever their address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routing {
    /// The mark.
    pub mark: u32,
    /// The routing table that says so.
    pub table: u32,
    /// For IPv6 too.
    pub ipv6: bool,
}

/// A configuration that cannot work. The user's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The proxy could not be told from anybody.
    #[error(
        "outbound traffic is captured, but nothing tells the proxy's own traffic: give a user id (-u), a group id (-g) or a socket mark (--proxy-mark), otherwise the proxy's connections return to itself for ever"
    )]
    NoProxy,
    /// One mark for two purposes.
    #[error(
        "mark {0} cannot be both the proxy's socket mark (--proxy-mark) and that of inbound TPROXY connections (-t): choose another for one of them"
    )]
    SameMark(u32),
    /// A mark that matches every unmarked packet.
    #[error("mark 0 is what every packet has: choose another for {0}")]
    NoMark(&'static str),
    /// A routing table that the system itself uses.
    #[error("routing table {0} is the system's own: choose another number (-r; 133 by default)")]
    SystemTable(u32),
}

impl Plan {
    /// The rules of a configuration.
    pub fn new(config: &Config) -> Result<Plan, ConfigError> {
        validate(config)?;
        let mut planner = Planner { config, rules: Ruleset::new(config.ipv6) };
        planner.interfaces();
        planner.drop_invalid();
        planner.targets();
        planner.inbound();
        planner.outbound();
        let tproxy = match config.interception {
            Interception::Tproxy { mark, table } => Some((mark, table)),
            Interception::Redirect => None,
        };
        if let Some((mark, _)) = tproxy {
            planner.tproxy(mark);
        }
        let routing = tproxy.filter(|_| config.captures_inbound());
        Ok(Plan {
            rules: planner.rules,
            routing: routing.map(|(mark, table)| Routing { mark, table, ipv6: config.ipv6 }),
            inbound_source_v6: config.ipv6,
        })
    }
}

fn validate(config: &Config) -> Result<(), ConfigError> {
    let outbound = config.outbound != Ranges::Only(Vec::new()) || !config.include_outbound_ports.is_empty();
    let known = [&config.proxy_uids, &config.proxy_gids, &config.proxy_marks].iter().any(|l| !l.is_empty());
    if outbound && !known {
        return Err(ConfigError::NoProxy);
    }
    if config.proxy_marks.contains(&0) {
        return Err(ConfigError::NoMark("the proxy's sockets (--proxy-mark)"));
    }
    if let Interception::Tproxy { mark, table } = config.interception {
        if mark == 0 {
            return Err(ConfigError::NoMark("inbound TPROXY connections (-t)"));
        }
        if config.proxy_marks.contains(&mark) {
            return Err(ConfigError::SameMark(mark));
        }
        if matches!(table, 0 | 253..=255) {
            return Err(ConfigError::SystemTable(table));
        }
    }
    Ok(())
}

struct Planner<'a> {
    config: &'a Config,
    rules: Ruleset,
}

impl Planner<'_> {
    fn add(&mut self, table: TableKind, chain: ChainName, matches: impl Into<Vec<Match>>, action: Action) {
        self.rules.append(table, chain, matches.into(), action);
    }

    fn is_tproxy(&self) -> bool {
        matches!(self.config.interception, Interception::Tproxy { .. })
    }

    fn interfaces(&mut self) {
        let config = self.config;
        let tables: &[TableKind] = if self.is_tproxy() { &[Nat, Mangle] } else { &[Nat] };
        for table in tables {
            for interface in &config.exclude_interfaces {
                self.add(*table, Prerouting, [In(interface.clone())], Return);
                self.add(*table, Output, [Out(interface.clone())], Return);
            }
        }
        for interface in &config.virtual_interfaces {
            self.rules.insert(Nat, Prerouting, 0, vec![In(interface.clone())], Return);
        }
    }

    fn drop_invalid(&mut self) {
        if self.config.drop_invalid {
            self.add(Mangle, Prerouting, [Match::State(State::Invalid)], Jump(DropChain));
            self.add(Mangle, DropChain, [], Drop);
        }
    }

    /// Where captured connections go.
    fn targets(&mut self) {
        let config = self.config;
        self.add(Nat, Inbound, [TCP, Dport(config.tunnel_port)], Return);
        self.add(Nat, ToOutbound, [TCP], Redirect(config.outbound_port));
        self.add(Nat, InRedirect, [TCP], Redirect(config.inbound_port));
    }

    fn inbound(&mut self) {
        let config = self.config;
        if !config.captures_inbound() {
            return;
        }
        let (table, target) = match config.interception {
            Interception::Redirect => (Nat, InRedirect),
            Interception::Tproxy { mark, .. } => {
                self.add(Mangle, Divert, [], Action::Mark(mark));
                self.add(Mangle, Divert, [], Accept);
                for loopback in self.loopbacks() {
                    let to = Action::Tproxy { port: config.inbound_port, mark };
                    self.add(Mangle, Tproxy, [NotDestination(loopback), TCP], to);
                }
                (Mangle, Tproxy)
            }
        };
        self.add(table, Prerouting, [TCP], Jump(Inbound));
        match &config.inbound {
            Ports::All => {
                for port in &config.exclude_inbound {
                    self.add(table, Inbound, [TCP, Dport(*port)], Return);
                }
                self.captured_inbound(table, vec![TCP], target);
            }
            Ports::Only(ports) => {
                for port in ports {
                    self.captured_inbound(table, vec![TCP, Dport(*port)], target);
                }
            }
        }
    }

    fn captured_inbound(&mut self, table: TableKind, matches: Vec<Match>, target: ChainName) {
        if target == Tproxy {
            // Later packets of a connection go where its first one went.
            let mut known = matches.clone();
            known.push(Match::State(State::Established));
            self.add(table, Inbound, known, Jump(Divert));
        }
        self.add(table, Inbound, matches, Jump(target));
    }

    fn outbound(&mut self) {
        let config = self.config;
        self.add(Nat, Output, [], Jump(OutputRules));
        for port in &config.exclude_outbound_ports {
            self.add(Nat, OutputRules, [TCP, Dport(*port)], Return);
            self.add(Nat, OutputRules, [UDP, Dport(*port)], Return);
        }
        for source in INBOUND_SOURCES {
            self.add(Nat, OutputRules, [out_lo(), Source(source)], Return);
        }
        for owner in self.owners() {
            self.proxy_traffic(owner);
        }
        self.owner_groups();
        if config.captures_dns() {
            self.dns();
        }
        for loopback in self.loopbacks() {
            self.add(Nat, OutputRules, [Destination(loopback)], Return);
        }
        for range in &config.exclude_outbound {
            self.add(Nat, OutputRules, [Destination(*range)], Return);
        }
        for port in &config.include_outbound_ports {
            self.add(Nat, OutputRules, [TCP, Dport(*port)], Jump(ToOutbound));
        }
        self.outbound_ranges();
    }

    fn outbound_ranges(&mut self) {
        let config = self.config;
        let ranges: Vec<Option<IpNet>> = match &config.outbound {
            Ranges::All => vec![None],
            Ranges::Only(ranges) => ranges.iter().copied().map(Some).collect(),
        };
        for range in ranges {
            let destination: Vec<Match> = range.map(Destination).into_iter().collect();
            for interface in &config.virtual_interfaces {
                let mut matches = vec![In(interface.clone())];
                matches.extend(destination.clone());
                self.rules.insert(Nat, Prerouting, 0, matches, Jump(ToOutbound));
            }
            self.add(Nat, OutputRules, destination, Jump(ToOutbound));
        }
    }

    /// By what the proxy's own traffic is known, in the order of the rules.
    fn owners(&self) -> Vec<Owner> {
        let uids = self.config.proxy_uids.iter().map(|id| Owner::Uid(*id));
        let gids = self.config.proxy_gids.iter().map(|id| Owner::Gid(*id));
        let marks = self.config.proxy_marks.iter().map(|mark| Owner::Mark(*mark));
        uids.chain(gids).chain(marks).collect()
    }

    /// The proxy's own connections: to the pod's own address they are inbound requests (a pod that calls its own
    /// service), to anywhere else they go out as they are. Everybody else's loopback traffic is the
    /// application's private matter, unless the loopback is captured by name.
    fn proxy_traffic(&mut self, owner: Owner) {
        let config = self.config;
        let dns = config.captures_dns();
        // With DNS captured, the agent's question to a server of this very pod must not become an inbound request.
        // Istio's rules see to it for user ids only, and so do ours: groups follow users in practice.
        let spared = match owner {
            Owner::Gid(_) => vec![config.tunnel_port],
            Owner::Uid(_) | Owner::Mark(_) if dns => vec![DNS_PORT, config.tunnel_port],
            Owner::Uid(_) | Owner::Mark(_) => vec![config.tunnel_port],
        };
        for loopback in self.loopbacks() {
            let own =
                [out_lo(), NotDestination(loopback), TCP, NotDports(spared.clone()), Match::Owner(owner)];
            self.add(Nat, OutputRules, own, Jump(InRedirect));
        }
        if !config.captures_loopback() {
            let others = match dns {
                // A DNS server on the loopback is captured as any other, over TCP as over UDP.
                true => vec![out_lo(), TCP, NotDports(vec![DNS_PORT]), NotOwner(owner)],
                false => vec![out_lo(), NotOwner(owner)],
            };
            self.add(Nat, OutputRules, others, Return);
        }
        self.add(Nat, OutputRules, [Match::Owner(owner)], Return);
    }

    fn owner_groups(&mut self) {
        match &self.config.owner_groups {
            Groups::Except(groups) => {
                for group in groups {
                    self.add(Nat, OutputRules, [Match::Owner(Owner::Gid(*group))], Return);
                }
            }
            Groups::Only(groups) => {
                let none: Vec<Match> = groups.iter().map(|group| NotOwner(Owner::Gid(*group))).collect();
                self.add(Nat, OutputRules, none, Return);
            }
        }
    }

    fn dns(&mut self) {
        self.add(Nat, OutputRules, [], Jump(OutputDns));
        let servers: Vec<Option<IpNet>> = match &self.config.dns {
            Dns::Off => Vec::new(),
            Dns::All => vec![None],
            Dns::Servers(servers) => servers.iter().map(|server| Some(host(*server))).collect(),
        };
        for protocol in [TCP, UDP] {
            for server in &servers {
                let asked = with(vec![protocol.clone(), Dport(DNS_PORT)], server.map(Destination));
                self.add(Nat, OutputDns, asked, Redirect(AGENT_DNS_PORT));
            }
        }
        self.add(Raw, Output, [], Jump(OutputDns));
        for owner in self.owners() {
            let owned = Match::Owner(owner);
            self.add(Raw, OutputDns, [UDP, Dport(DNS_PORT), owned.clone()], Zone(ZONE_UPSTREAM));
            self.add(Raw, OutputDns, [UDP, Sport(AGENT_DNS_PORT), owned], Zone(ZONE_APPLICATION));
        }
        self.add(Raw, Prerouting, [], Jump(Inbound));
        for server in &servers {
            let asked = with(vec![UDP, Dport(DNS_PORT)], server.map(Destination));
            self.add(Raw, OutputDns, asked, Zone(ZONE_APPLICATION));
            let answered = with(vec![UDP, Sport(DNS_PORT)], server.map(Source));
            self.add(Raw, Inbound, answered, Zone(ZONE_UPSTREAM));
        }
    }

    fn tproxy(&mut self, mark: u32) {
        let config = self.config;
        // Proxies mark their connections to the application. The mark is remembered, and given back to the
        // application's answers, which routing then leads to the proxy: they are addressed to the client.
        self.add(Mangle, Prerouting, [TCP, Mark(mark)], SaveMark);
        self.add(Mangle, Output, [TCP, out_lo(), Mark(mark)], Return);
        for owner in self.owners() {
            // A socket's mark is on the packet already, and tells as much.
            if !matches!(owner, Owner::Mark(_)) {
                for loopback in self.loopbacks() {
                    let own = [NotDestination(loopback), TCP, out_lo(), Match::Owner(owner)];
                    self.add(Mangle, Output, own, Action::Mark(OUTBOUND_MARK));
                }
            }
        }
        self.add(Mangle, Output, [TCP, ConnectionMark(mark)], RestoreMark);
        // In front of whatever is captured: what the proxy marked, what it sends by the inbound source, and what
        // programs of the pod send each other.
        let lo = In(Interface::loopback());
        let mut private = vec![TCP, lo.clone(), NotMark(OUTBOUND_MARK)];
        private.extend(config.proxy_marks.iter().map(|mark| NotMark(*mark)));
        let [v4, v6] = INBOUND_SOURCES.map(|source| vec![TCP, Source(source), lo.clone()]);
        for matches in [private, v6, v4, vec![TCP, Mark(mark)]] {
            self.rules.insert(Mangle, Inbound, 0, matches, Return);
        }
    }

    /// What counts as loopback, by family.
    fn loopbacks(&self) -> [IpNet; 2] {
        let v6 = Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128);
        [IpNet::V4(self.config.loopback), IpNet::V6(v6)]
    }
}

fn out_lo() -> Match {
    Out(Interface::loopback())
}

fn host(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

fn with(mut matches: Vec<Match>, more: Option<Match>) -> Vec<Match> {
    matches.extend(more);
    matches
}
