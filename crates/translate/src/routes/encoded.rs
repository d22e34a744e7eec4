//! A virtual host as a value of its own, encoded, to be joined into as many route configurations as there are; and where
//! those who join get it from.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use ostro_mesh::View;
use ostro_mesh::model::Age;
use ostro_names::Host;

use super::domains::Domain;
use super::virtual_host::encoded;
use crate::encode::append;

/// `VirtualHost.domains`
const DOMAINS: u32 = 2;

/// A virtual host before it is known which of its domains others claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedVirtualHost {
    /// What it answers for.
    pub host: Host,
    /// The port that requests were sent to.
    pub port: u16,
    /// Who comes first: virtual hosts of older VirtualServices, then services by age.
    pub precedence: (bool, Option<Age>),
    /// The hosts, wildcards included, of the VirtualServices for this host, whether their routes are used or not: where
    /// a service has the port, all of them may have a virtual host on it.
    pub rule_hosts: Vec<Host>,
    message: Bytes,
    body_len: usize,
    claims: Box<[Claim]>,
    name_hash: u64,
}

/// A domain that is claimed: where in the message its text is, at the end of its field.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    start: u32,
    end: u32,
    short: bool,
    hash: u64,
}

/// A text with its hash, worked out when it was encoded: tables look up each domain of the mesh.
#[derive(Debug, Clone, Copy)]
pub struct Text<'h> {
    hash: u64,
    /// UTF-8.
    pub bytes: &'h [u8],
}

impl<'h> Text<'h> {
    /// This text.
    pub fn new(text: &'h str) -> Self {
        Text { hash: hash(text.as_bytes()), bytes: text.as_bytes() }
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.bytes == other.bytes
    }
}

impl Eq for Text<'_> {}

impl Hash for Text<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// The same for the life of the process, and not to be guessed from outside.
fn hash(text: &[u8]) -> u64 {
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    SEED.hash_one(text)
}

impl EncodedVirtualHost {
    /// The virtual host whose message without domains is `body`, claiming `domains`.
    pub fn new(
        (host, port): (Host, u16),
        body: Vec<u8>,
        domains: &[Domain],
        precedence: (bool, Option<Age>),
        rule_hosts: Vec<Host>,
    ) -> Self {
        let body_len = body.len();
        // Fields of a message may come in any order, so the domains may follow what is after them by number.
        let mut message = body;
        let mut claim = |domain: &Domain| {
            append(&mut message, DOMAINS, domain.text.as_bytes());
            // A message of 4 GiB is out of reach: configuration files have limits.
            let end = message.len() as u32;
            let start = end - domain.text.len() as u32;
            Claim { start, end, short: domain.short, hash: hash(domain.text.as_bytes()) }
        };
        let claims = domains.iter().map(&mut claim).collect();
        let name_hash = hash(host.as_str().as_bytes());
        Self { host, port, precedence, rule_hosts, message: message.into(), body_len, claims, name_hash }
    }

    /// The same, claiming other domains.
    pub fn claiming(&self, domains: &[Domain]) -> Self {
        let body = self.body().to_vec();
        Self::new((self.host, self.port), body, domains, self.precedence, self.rule_hosts.clone())
    }

    /// The `VirtualHost` with all that it claims.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// The `VirtualHost` without domains.
    pub fn body(&self) -> &[u8] {
        self.message.get(..self.body_len).unwrap_or_default()
    }

    /// What it claims, its own name first, and whether that is a shortened name.
    pub fn claims(&self) -> impl ExactSizeIterator<Item = (Text<'_>, bool)> {
        self.claims.iter().map(|claim| {
            let range = claim.start as usize..claim.end as usize;
            (Text { hash: claim.hash, bytes: self.message.get(range).unwrap_or_default() }, claim.short)
        })
    }

    /// The host.
    pub fn name(&self) -> Text<'static> {
        Text { hash: self.name_hash, bytes: self.host.as_str().as_bytes() }
    }
}

/// Where virtual hosts come from: built on the spot, or kept by somebody who knows when they change.
pub trait VirtualHosts {
    /// What [`encoded`] gives for the proxy behind `view`.
    ///
    /// Whoever does not build it through `view` has to put to `view` each question that was asked when it was built, so
    /// that what it is joined into is shared by proxies that agree on it, and has to know when it changes.
    fn get(&mut self, view: &View<'_>, host: Host, port: u16) -> Option<Arc<EncodedVirtualHost>>;
}

/// Builds each virtual host on the spot.
#[derive(Debug, Clone, Copy, Default)]
pub struct OnTheSpot;

impl VirtualHosts for OnTheSpot {
    fn get(&mut self, view: &View<'_>, host: Host, port: u16) -> Option<Arc<EncodedVirtualHost>> {
        encoded(view, host, port).map(Arc::new)
    }
}
