//! Batches: changes to tables, chains, rules and sets that come into force together or not at all.

use rustix::net::netlink;

use super::attr::Writer;
use super::expr::{Expr, Verdict};
use super::socket::{ACK, APPEND, Answer, CREATE, Socket, message};
use super::{Family, NetlinkError};

/// `NFNL_SUBSYS_NFTABLES`, in the upper byte of a message's type.
pub(super) const SUBSYSTEM: u16 = 10;
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;
/// Attribute that lists hold their members in.
const LIST_ELEMENT: u16 = 1;

/// A table's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableRef<'a> {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: &'a str,
}

/// Where the kernel enters a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// What its rules may do.
    pub kind: ChainKind,
    /// At which point of a packet's way.
    pub point: HookPoint,
    /// Before or after others at that point; smaller is earlier.
    pub priority: i32,
}

/// What the rules of a chain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// Let packets pass or not, and mark them.
    Filter,
    /// The same, and packets that were changed are routed anew.
    Route,
    /// Rewrite addresses; sees only the first packet of a connection.
    Nat,
}

impl ChainKind {
    /// The kernel's name.
    pub fn as_str(self) -> &'static str {
        match self {
            ChainKind::Filter => "filter",
            ChainKind::Route => "route",
            ChainKind::Nat => "nat",
        }
    }
}

/// A point of a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    /// It arrived, and is not routed yet.
    Prerouting,
    /// It is for this machine.
    Input,
    /// A process of this machine sent it.
    Output,
    /// It leaves.
    Postrouting,
}

impl HookPoint {
    /// The kernel's number.
    pub fn number(self) -> u32 {
        match self {
            HookPoint::Prerouting => 0,
            HookPoint::Input => 1,
            HookPoint::Output => 3,
            HookPoint::Postrouting => 4,
        }
    }

    /// The name people write.
    pub fn as_str(self) -> &'static str {
        match self {
            HookPoint::Prerouting => "prerouting",
            HookPoint::Input => "input",
            HookPoint::Output => "output",
            HookPoint::Postrouting => "postrouting",
        }
    }
}

/// A set of keys, or with verdicts a map from keys to what becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set<'a> {
    /// Its name.
    pub name: &'a str,
    /// Of what parts keys are made.
    pub key: &'a [KeyPart],
    /// Has every key a verdict?
    pub verdicts: bool,
}

/// A part of a key. Each begins at a multiple of four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// The number of a transport protocol.
    Protocol,
    /// A port.
    Port,
}

impl KeyPart {
    /// Bytes it takes, with what is between it and the next.
    pub fn bytes(self) -> u32 {
        if self == KeyPart::Ipv6 { 16 } else { 4 }
    }

    /// The type that `nft list` shows it as.
    fn datatype(self) -> u32 {
        match self {
            KeyPart::Ipv4 => 7,
            KeyPart::Ipv6 => 8,
            KeyPart::Protocol => 12,
            KeyPart::Port => 13,
        }
    }
}

/// Bits of one part's type in that of a key.
const DATATYPE_BITS: u32 = 6;
/// `NFT_SET_MAP`.
const SET_MAP: u32 = 8;
/// `NFT_DATA_VERDICT`.
const SET_VERDICTS: u32 = 0xffff_ff00;

/// What a message of a batch was about, for the day it is refused.
#[derive(Debug)]
struct Step {
    what: String,
    module: Option<&'static str>,
}

/// Changes, in order.
#[derive(Debug, Default)]
pub struct Batch {
    messages: Vec<u8>,
    /// Message number n is described by step n-1; number 0 is the beginning of the batch.
    steps: Vec<Step>,
    too_long: Option<String>,
}

impl Batch {
    /// Makes a table, unless it is there.
    pub fn add_table(&mut self, table: TableRef<'_>) {
        let what = format!("table {}", table.name);
        self.push(NEW_TABLE, CREATE, table.family, Step { what, module: None }, |w| w.text(1, table.name));
    }

    /// Deletes a table with all it holds. It must be there: [`Batch::add_table`] first makes sure of it.
    pub fn delete_table(&mut self, table: TableRef<'_>) {
        let what = format!("deleting table {}", table.name);
        self.push(DELETE_TABLE, 0, table.family, Step { what, module: None }, |w| w.text(1, table.name));
    }

    /// Makes a chain; with a hook, one that the kernel enters.
    pub fn add_chain(&mut self, table: TableRef<'_>, name: &str, hook: Option<Hook>) {
        let what = format!("chain {name} of table {}", table.name);
        let module = hook.filter(|hook| hook.kind == ChainKind::Nat).map(|_| "nft_chain_nat");
        self.push(NEW_CHAIN, CREATE, table.family, Step { what, module }, |w| {
            w.text(1, table.name);
            w.text(3, name);
            if let Some(hook) = hook {
                w.nest(4, |w| {
                    w.u32(1, hook.point.number());
                    w.put(2, &hook.priority.to_be_bytes());
                });
                w.text(7, hook.kind.as_str());
            }
        });
    }

    /// Adds a rule to the end of a chain. `what` names it when it is refused.
    pub fn add_rule(&mut self, table: TableRef<'_>, chain: &str, expressions: &[Expr], what: String) {
        let module = expressions.iter().find_map(Expr::module);
        let what = format!("the rule {what:?} of chain {chain} in table {}", table.name);
        self.push(NEW_RULE, CREATE | APPEND, table.family, Step { what, module }, |w| {
            w.text(1, table.name);
            w.text(2, chain);
            w.nest(4, |w| {
                for expression in expressions {
                    w.nest(LIST_ELEMENT, |w| expression.write(w));
                }
            });
        });
    }

    /// Deletes the rules of a chain.
    pub fn flush_chain(&mut self, table: TableRef<'_>, chain: &str) {
        let what = format!("emptying chain {chain} of table {}", table.name);
        self.push(DELETE_RULE, 0, table.family, Step { what, module: None }, |w| {
            w.text(1, table.name);
            w.text(2, chain);
        });
    }

    /// Deletes a chain, with its rules. Nothing may lead to it any more.
    pub fn delete_chain(&mut self, table: TableRef<'_>, chain: &str) {
        let what = format!("deleting chain {chain} of table {}", table.name);
        self.push(DELETE_CHAIN, 0, table.family, Step { what, module: None }, |w| {
            w.text(1, table.name);
            w.text(3, chain);
        });
    }

    /// Makes a set.
    pub fn add_set(&mut self, table: TableRef<'_>, set: Set<'_>) {
        let what = format!("set {} of table {}", set.name, table.name);
        let datatype = set.key.iter().fold(0, |all, part| all << DATATYPE_BITS | part.datatype());
        // Wanted unique within a batch; we refer to sets by name.
        let id = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
        self.push(NEW_SET, CREATE, table.family, Step { what, module: None }, |w| {
            w.text(1, table.name);
            w.text(2, set.name);
            w.u32(3, if set.verdicts { SET_MAP } else { 0 });
            w.u32(4, datatype);
            w.u32(5, set.key.iter().map(|part| part.bytes()).sum());
            if set.verdicts {
                w.u32(6, SET_VERDICTS);
            }
            w.u32(10, id);
        });
    }

    /// Puts a key into a set; into a map, with what becomes of the packet.
    pub fn add_element(&mut self, table: TableRef<'_>, set: &str, key: &[u8], verdict: Option<&Verdict>) {
        self.element(NEW_ELEMENT, CREATE, table, set, key, verdict);
    }

    /// Takes a key out of a set or map.
    pub fn delete_element(&mut self, table: TableRef<'_>, set: &str, key: &[u8]) {
        self.element(DELETE_ELEMENT, 0, table, set, key, None);
    }

    fn element(
        &mut self,
        kind: u16,
        flags: u16,
        table: TableRef<'_>,
        set: &str,
        key: &[u8],
        verdict: Option<&Verdict>,
    ) {
        let what = format!("a member of set {set} of table {}", table.name);
        self.push(kind, flags, table.family, Step { what, module: None }, |w| {
            w.text(1, table.name);
            w.text(2, set);
            w.nest(3, |w| {
                w.nest(LIST_ELEMENT, |w| {
                    w.nest(1, |w| w.put(1, key));
                    if let Some(verdict) = verdict {
                        w.nest(2, |w| w.nest(2, |w| verdict.write(w)));
                    }
                });
            });
        });
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.messages.len()
    }

    /// Is there nothing to do?
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Brings everything into force, or nothing.
    pub fn commit(self) -> Result<(), NetlinkError> {
        if let Some(what) = self.too_long {
            return Err(NetlinkError::TooLong { what });
        }
        if self.steps.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(self.messages.len() + 64);
        let subsystem = header(0, SUBSYSTEM);
        message(&mut bytes, BEGIN, 0, 0, &subsystem);
        bytes.extend_from_slice(&self.messages);
        message(&mut bytes, END, 0, u32::MAX, &subsystem);
        judge(&self.steps, &Socket::open(Some(netlink::NETFILTER))?.ask(&bytes)?)
    }

    fn push(&mut self, kind: u16, flags: u16, family: Family, step: Step, fill: impl FnOnce(&mut Writer)) {
        let mut writer = Writer::default();
        fill(&mut writer);
        let Some(attributes) = writer.finish() else {
            self.too_long.get_or_insert(step.what);
            return;
        };
        // One acknowledgement is enough: the kernel answers after the whole batch, and refusals unasked.
        let ack = if self.steps.is_empty() { ACK } else { 0 };
        self.steps.push(step);
        let mut body = header(family.number(), 0).to_vec();
        body.extend_from_slice(&attributes);
        let sequence = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
        message(&mut self.messages, SUBSYSTEM << 8 | kind, flags | ack, sequence, &body);
    }
}

/// `nfgenmsg`: in front of the attributes of every message.
pub(super) fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// What the answers to a batch come to.
fn judge(steps: &[Step], answers: &[Answer]) -> Result<(), NetlinkError> {
    let refused = answers.iter().filter_map(|answer| match answer {
        Answer::Error { sequence, error } => Some((*sequence, *error)),
        _ => None,
    });
    if let Some((sequence, error)) = refused.min_by_key(|(sequence, _)| *sequence) {
        let place = usize::try_from(sequence).ok().and_then(|s| s.checked_sub(1));
        let (what, module) = match place.and_then(|place| steps.get(place)) {
            Some(step) => (step.what.clone(), step.module),
            None => ("the changes".to_owned(), None),
        };
        return Err(NetlinkError::refused(what, module, error));
    }
    match answers.iter().any(|answer| matches!(answer, Answer::Ack { sequence: 1 })) {
        true => Ok(()),
        false => {
            Err(NetlinkError::Answer { what: "a batch of changes".to_owned(), found: "no acknowledgement" })
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    fn steps() -> Vec<Step> {
        vec![
            Step { what: "table a".to_owned(), module: None },
            Step { what: "the rule b".to_owned(), module: Some("nft_redir") },
        ]
    }

    #[test]
    fn an_acknowledged_batch_is_in_force_and_silence_is_not_consent() {
        assert!(judge(&steps(), &[Answer::Ack { sequence: 1 }]).is_ok());
        assert!(matches!(judge(&steps(), &[]), Err(NetlinkError::Answer { .. })));
        assert!(matches!(judge(&steps(), &[Answer::Ack { sequence: 2 }]), Err(NetlinkError::Answer { .. })));
    }

    #[test]
    fn a_refusal_names_the_first_change_that_was_refused_and_what_to_do() {
        let answers = [Answer::Error { sequence: 2, error: Errno::NOENT }, Answer::Ack { sequence: 1 }];
        let error = judge(&steps(), &answers).unwrap_err();
        let NetlinkError::Missing { module, what, .. } = &error else { panic!("{error}") };
        assert_eq!((*module, what.as_str()), ("nft_redir", "the rule b"));
        let refused = |sequence, error| judge(&steps(), &[Answer::Error { sequence, error }]).unwrap_err();
        assert!(matches!(refused(0, Errno::PERM), NetlinkError::Permission));
        assert!(matches!(refused(0, Errno::OPNOTSUPP), NetlinkError::NoNfTables));
        assert!(matches!(refused(1, Errno::BUSY), NetlinkError::Refused { .. }));
        assert!(matches!(refused(77, Errno::INVAL), NetlinkError::Refused { .. }));
    }
}
