//! Reading back what is loaded: the chains and rules of tables.

use std::collections::BTreeMap;

use rustix::io::Errno;
use rustix::net::netlink;

use super::attr::{Attrs, Writer};
use super::batch::{ChainKind, Hook, HookPoint, SUBSYSTEM, TableRef, header};
use super::expr::Expr;
use super::socket::{Answer, DUMP, Socket, message};
use super::{Family, NetlinkError};

const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
/// Bytes in front of a message's attributes.
const HEADER: usize = 4;
/// How often a list is asked for that others change while it is read.
const TRIES: usize = 8;

/// The chains of a table, by name.
pub type Chains = BTreeMap<String, LoadedChain>;

/// A chain that is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadedChain {
    /// Where the kernel enters it: kind, point, priority; `None` if it does not, or in a way that we never use.
    pub hook: Option<Hook>,
    /// Its rules, in order.
    pub rules: Vec<Vec<Expr>>,
}

/// A chain, or a rule of one, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// A chain.
    Chain {
        /// Its table.
        table: String,
        /// Its name.
        chain: String,
        /// Where the kernel enters it.
        hook: Option<Hook>,
    },
    /// A rule.
    Rule {
        /// Its table.
        table: String,
        /// Its chain.
        chain: String,
        /// What it does.
        expressions: Vec<Expr>,
    },
}

/// The chains of a table in the calling thread's network namespace; `None` if there is no such table.
pub fn chains(table: TableRef<'_>) -> Result<Option<Chains>, NetlinkError> {
    let socket = Socket::open(Some(netlink::NETFILTER))?;
    let mut found: Option<Chains> = None;
    for loaded in list(&socket, GET_CHAIN, table)? {
        if let Loaded::Chain { table: of, chain, hook } = loaded
            && of == table.name
        {
            found.get_or_insert_default().entry(chain).or_default().hook = hook;
        }
    }
    for loaded in list(&socket, GET_RULE, table)? {
        if let Loaded::Rule { table: of, chain, expressions } = loaded
            && of == table.name
        {
            found.get_or_insert_default().entry(chain).or_default().rules.push(expressions);
        }
    }
    Ok(found)
}

fn list(socket: &Socket, kind: u16, table: TableRef<'_>) -> Result<Vec<Loaded>, NetlinkError> {
    let mut attributes = Writer::default();
    attributes.text(1, table.name);
    let mut body = header(table.family.number(), 0).to_vec();
    body.extend(attributes.finish().unwrap_or_default());
    let mut request = Vec::new();
    message(&mut request, SUBSYSTEM << 8 | kind, DUMP, 1, &body);
    let what = || format!("listing table {}", table.name);
    for _ in 0..TRIES {
        let answers = socket.ask(&request)?;
        let error = answers.iter().find_map(|answer| match answer {
            Answer::Error { error, .. } => Some(*error),
            _ => None,
        });
        match error {
            None if answers.contains(&Answer::Done { interrupted: false }) => {
                return Ok(answers.iter().filter_map(|answer| read(table.family, answer)).collect());
            }
            None if !answers.iter().any(|answer| matches!(answer, Answer::Done { .. })) => {
                return Err(NetlinkError::Answer { what: what(), found: "the list has no end" });
            }
            Some(Errno::NOENT) => return Ok(Vec::new()),
            None | Some(Errno::INTR | Errno::AGAIN) => {}
            Some(error) => return Err(NetlinkError::refused(what(), None, error)),
        }
    }
    Err(NetlinkError::Answer { what: what(), found: "the list changes faster than it can be read" })
}

/// One member of a list, if it is of this family.
fn read(family: Family, answer: &Answer) -> Option<Loaded> {
    let Answer::Message { kind, body } = answer else { return None };
    (body.first() == Some(&family.number())).then(|| parse(*kind, body)).flatten()
}

/// Reads a message about a chain or rule.
pub fn parse(kind: u16, body: &[u8]) -> Option<Loaded> {
    let attributes = Attrs(body.get(HEADER..)?);
    let table = attributes.text(1)?.to_owned();
    match kind ^ (SUBSYSTEM << 8) {
        NEW_CHAIN => {
            let hook = attributes.find(4).and_then(|hook| read_hook(hook.inside(), attributes.text(7)?));
            Some(Loaded::Chain { table, chain: attributes.text(3)?.to_owned(), hook })
        }
        NEW_RULE => {
            let elements = attributes.find(4).map_or(Attrs(&[]), |list| list.inside());
            let expressions = elements.map(|element| Expr::read(element.inside())).collect();
            Some(Loaded::Rule { table, chain: attributes.text(2)?.to_owned(), expressions })
        }
        _ => None,
    }
}

fn read_hook(attributes: Attrs<'_>, kind: &str) -> Option<Hook> {
    let kinds = [ChainKind::Filter, ChainKind::Route, ChainKind::Nat];
    let points = [HookPoint::Prerouting, HookPoint::Input, HookPoint::Output, HookPoint::Postrouting];
    let number = attributes.u32(1)?;
    Some(Hook {
        kind: kinds.into_iter().find(|known| known.as_str() == kind)?,
        point: points.into_iter().find(|known| known.number() == number)?,
        priority: i32::from_be_bytes(attributes.find(2)?.value.try_into().ok()?),
    })
}
