//! Domains of virtual hosts: exact first, then the longest suffix wildcard, then the longest prefix wildcard,
//! then `*`.

use std::collections::HashMap;

use crate::Refusal;

/// Domains of one route configuration, each leading to the index of its virtual host.
#[derive(Clone, Debug, Default)]
pub struct Domains {
    exact: HashMap<Box<str>, usize>,
    /// `*.example.com`, kept as `.example.com`.
    suffixes: ByLength,
    /// `example.*`, kept as `example.`.
    prefixes: ByLength,
    any: Option<usize>,
}

/// Literal parts of wildcards. A lookup costs one hash per distinct length below the authority's own, whatever
/// the number of wildcards.
#[derive(Clone, Debug, Default)]
struct ByLength {
    /// Longest first.
    lengths: Vec<usize>,
    literals: HashMap<Box<str>, usize>,
}

impl Domains {
    /// Enters a domain; one that is there already is refused, as by Envoy.
    pub fn insert(&mut self, domain: &str, host: usize) -> Result<(), Refusal> {
        let domain = domain.to_ascii_lowercase();
        let is_new = if domain == "*" {
            self.any.replace(host).is_none()
        } else if let Some(suffix) = domain.strip_prefix('*') {
            self.suffixes.insert(suffix, host)
        } else if let Some(prefix) = domain.strip_suffix('*') {
            self.prefixes.insert(prefix, host)
        } else {
            self.exact.insert(domain.as_str().into(), host).is_none()
        };
        if is_new { Ok(()) } else { Err(Refusal::invalid(format!("domain {domain:?} twice"))) }
    }

    /// The virtual host for an authority in lower case. Without an authority only a table of nothing but `*` answers.
    pub fn find(&self, authority: &str) -> Option<usize> {
        if authority.is_empty() {
            let only_any = self.exact.is_empty() && self.suffixes.is_empty() && self.prefixes.is_empty();
            return self.any.filter(|_| only_any);
        }
        let found = self.exact.get(authority).copied();
        let suffix = |length| authority.get(authority.len() - length..);
        let prefix = |length| authority.get(..length);
        found
            .or_else(|| self.suffixes.find(authority.len(), suffix))
            .or_else(|| self.prefixes.find(authority.len(), prefix))
            .or(self.any)
    }
}

impl ByLength {
    fn insert(&mut self, literal: &str, host: usize) -> bool {
        if let Err(place) = self.lengths.binary_search_by(|l| literal.len().cmp(l)) {
            self.lengths.insert(place, literal.len());
        }
        self.literals.insert(literal.into(), host).is_none()
    }

    fn is_empty(&self) -> bool {
        self.literals.is_empty()
    }

    /// The star stands for at least one character, so only shorter literals are tried.
    fn find<'a>(&self, length: usize, part: impl Fn(usize) -> Option<&'a str>) -> Option<usize> {
        let begin = self.lengths.partition_point(|l| *l >= length);
        let lengths = self.lengths.get(begin..).unwrap_or_default();
        lengths.iter().find_map(|l| self.literals.get(part(*l)?).copied())
    }
}
