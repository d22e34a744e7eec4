//! Names to addresses, with their times to live.
//!
//! What it is: a stub resolver. It reads `/etc/resolv.conf` and `/etc/hosts` (again when they change), tries names as
//! resolv.conf(5) says, asks over UDP and over TCP what UDP cut off, follows aliases, and remembers answers and their
//! absence as long as they live. [`Resolve`] is the seam: who needs addresses takes one, and tests give their own.
//!
//! What it deliberately is not: recursive, validating, or a user of nsswitch. `getaddrinfo` would block a thread for each
//! question and knows no time to live, which Istio asks Envoy to respect; `hickory-resolver` brings some twenty
//! crates more (a concurrent cache, an IDNA table loader, uuid) into a proxy of a few megabytes. The message format is
//! `hickory-proto`'s, as it is for the name server of local meshes.
//!
//! The parts, pure ones first: [`conf`] the two files, [`message`] a question and what a reply says, `cache` what is
//! known, `exchange` sockets, `resolver` the order in which all that is done.
//!
//! Invariants: questions under way, answers kept and bytes of a reply are bounded ([`limits`]); a reply counts only if it
//! comes from the server that was asked, with the question's id and the question itself.

mod cache;
pub mod conf;
mod exchange;
pub mod limits;
pub mod message;
mod resolver;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use conf::Config;
pub use resolver::Resolver;

/// Which addresses are wanted: Envoy's `DnsLookupFamily`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Family {
    /// IPv6; IPv4 if there is none.
    #[default]
    Auto,
    /// IPv4 alone.
    V4Only,
    /// IPv6 alone.
    V6Only,
    /// IPv4; IPv6 if there is none.
    V4Preferred,
    /// Both, IPv6 first.
    All,
}

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// At least one, in the server's order.
    pub addresses: Arc<[IpAddr]>,
    /// How long that holds from now; of all records that led there the least. Zero is possible.
    pub ttl: Duration,
}

/// Why there is no address. The first two are answers: the name has none now. The others say nothing about the name, so
/// that whoever has an older answer keeps it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No server knows the name.
    #[error("no such name")]
    NoSuchName,
    /// The name is there, but has no address of the family wanted.
    #[error("the name has no address of this family")]
    NoAddress,
    /// Servers failed, refused or kept silent; the text is the last one's fault.
    #[error("no answer: {0}")]
    Unanswered(String),
    /// What was asked for can be no name.
    #[error("not a name that DNS can have")]
    BadName,
    /// Too many questions are under way.
    #[error("too many lookups under way")]
    Busy,
}

impl LookupError {
    /// Is it an answer about the name, so that older addresses are wrong?
    pub fn is_answer(&self) -> bool {
        matches!(self, LookupError::NoSuchName | LookupError::NoAddress)
    }
}

/// A lookup under way.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = Result<Answer, LookupError>> + Send + 'a>>;

/// Whoever can say what a name means.
pub trait Resolve: Send + Sync {
    /// The addresses of a name; an address as text is itself. Bounded in time by the resolver.
    fn lookup<'a>(&'a self, name: &'a str, family: Family) -> Lookup<'a>;
}
