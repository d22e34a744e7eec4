//! Rules in a language of our own: what both back ends can say, and nothing else.
//!
//! A [`Ruleset`] is what [`crate::nft`] and [`crate::iptables`] are made from, so the two cannot disagree about
//! what a configuration means, only about how it is written.

use ipnet::IpNet;

use crate::config::Interface;

/// The rules of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// Do they concern IPv6 too?
    pub ipv6: bool,
    /// Tables that have rules, in the order packets meet them.
    pub tables: Vec<Table>,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Which.
    pub kind: TableKind,
    /// Its chains, those that the kernel enters first; every chain that is jumped to is here.
    pub chains: Vec<Chain>,
}

/// The tables, in the order packets meet them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableKind {
    /// Before the kernel looks a connection up.
    Raw,
    /// After that, before addresses change.
    Mangle,
    /// Where addresses change; only the first packet of a connection comes by.
    Nat,
}

/// One chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Which.
    pub name: ChainName,
    /// Its rules, first match first.
    pub rules: Vec<Rule>,
}

/// The chains; their names, which are those of `istio-iptables`, are what people look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChainName {
    /// What arrives, before it is routed. Entered by the kernel.
    Prerouting,
    /// What local processes send. Entered by the kernel.
    Output,
    /// Which inbound connections are captured.
    Inbound,
    /// To the proxy's outbound listener.
    Redirect,
    /// To the proxy's inbound listener.
    InRedirect,
    /// Which outbound connections are captured.
    OutputRules,
    /// Which DNS questions are captured.
    OutputDns,
    /// Packets of connections that the proxy has: to the loopback.
    Divert,
    /// New inbound connections: to the proxy's listener, as they are.
    Tproxy,
    /// Nowhere.
    Drop,
}

impl ChainName {
    /// Does the kernel enter it by itself?
    pub fn is_base(self) -> bool {
        matches!(self, ChainName::Prerouting | ChainName::Output)
    }
}

/// What happens to packets that fit all of some conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The conditions.
    pub matches: Vec<Match>,
    /// What happens.
    pub action: Action,
}

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Who sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A process of this user.
    Uid(u32),
    /// A process of this group.
    Gid(u32),
    /// A socket with this mark.
    Mark(u32),
}

/// What the kernel knows about a packet's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The packet fits into no connection.
    Invalid,
    /// It belongs to one, or to a relative of one.
    Established,
}

/// A condition. Conditions on ports come after the one on the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// The protocol.
    Protocol(Protocol),
    /// The destination's port.
    Dport(u16),
    /// The destination's port is none of these.
    NotDports(Vec<u16>),
    /// The source's port.
    Sport(u16),
    /// The source; makes it a rule of one family.
    Source(IpNet),
    /// The destination; makes it a rule of one family.
    Destination(IpNet),
    /// Not this destination; makes it a rule of one family.
    NotDestination(IpNet),
    /// The interface it came in by.
    In(Interface),
    /// The interface it goes out by.
    Out(Interface),
    /// Who sent it.
    Owner(Owner),
    /// Who did not send it.
    NotOwner(Owner),
    /// The packet's mark.
    Mark(u32),
    /// Not this mark.
    NotMark(u32),
    /// The connection's mark.
    ConnectionMark(u32),
    /// Its place in a connection.
    State(State),
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Back to the chain that jumped here; in a chain the kernel entered: on its way.
    Return,
    /// On its way.
    Accept,
    /// Nowhere.
    Drop,
    /// On with the rules of another chain.
    Jump(ChainName),
    /// To this port of this machine.
    Redirect(u16),
    /// To the transparent socket on this port, marked. Dropped if there is none.
    Tproxy {
        /// The port.
        port: u16,
        /// The mark.
        mark: u32,
    },
    /// Gets this mark.
    Mark(u32),
    /// The packet's mark becomes the connection's.
    SaveMark,
    /// The connection's mark becomes the packet's.
    RestoreMark,
    /// The kernel looks its connection up among those of this zone.
    Zone(u16),
}

impl Rule {
    /// The family it is about, if only one.
    pub fn family(&self) -> Option<Family> {
        self.matches.iter().find_map(|m| match m {
            Match::Source(net) | Match::Destination(net) | Match::NotDestination(net) => Some(family_of(net)),
            _ => None,
        })
    }
}

fn family_of(net: &IpNet) -> Family {
    match net {
        IpNet::V4(_) => Family::V4,
        IpNet::V6(_) => Family::V6,
    }
}

impl Ruleset {
    /// Without rules.
    pub fn new(ipv6: bool) -> Self {
        Self { ipv6, tables: Vec::new() }
    }

    /// Adds a rule to the end of a chain, unless it is about a family that is left alone.
    pub fn append(&mut self, table: TableKind, chain: ChainName, matches: Vec<Match>, action: Action) {
        self.insert(table, chain, usize::MAX, matches, action);
    }

    /// The same, before the rule that is `at` that place of the chain now.
    pub fn insert(
        &mut self,
        table: TableKind,
        chain: ChainName,
        at: usize,
        matches: Vec<Match>,
        action: Action,
    ) {
        let rule = Rule { matches, action };
        if rule.family() == Some(Family::V6) && !self.ipv6 {
            return;
        }
        if let Action::Jump(target) = action {
            self.chain(table, target);
        }
        let rules = &mut self.chain(table, chain).rules;
        rules.insert(at.min(rules.len()), rule);
    }

    /// The chain, made if it is not there yet.
    fn chain(&mut self, table: TableKind, name: ChainName) -> &mut Chain {
        let found = self.tables.binary_search_by_key(&table, |t| t.kind);
        let place = found.unwrap_or_else(|place| {
            self.tables.insert(place, Table { kind: table, chains: Vec::new() });
            place
        });
        // Both places were just found or made.
        let chains = &mut self.tables[place].chains;
        let found = chains.binary_search_by_key(&name, |c| c.name);
        let place = found.unwrap_or_else(|place| {
            chains.insert(place, Chain { name, rules: Vec::new() });
            place
        });
        &mut chains[place]
    }
}
