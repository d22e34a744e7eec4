//! Filter chains that do not claim the same connections: Envoy refuses a whole listener over one combination of
//! prefix, server name and protocol that two chains both match.
//!
//! Invariant: of two chains that claim a combination the first has it, and the second keeps what is left of it.

use std::collections::HashSet;

use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, FilterChainMatch};

/// One combination: destination port, prefix, server name, transport and application protocols.
type Claim = (Option<u32>, Option<(String, u32)>, String, String);

/// Chains in order of precedence.
#[derive(Debug, Default)]
pub struct ChainSet {
    chains: Vec<FilterChain>,
    claimed: HashSet<Claim>,
}

impl ChainSet {
    /// Adds what is left of `chain`, if anything.
    pub fn add(&mut self, chain: FilterChain) {
        let matched = chain.filter_chain_match.clone().unwrap_or_default();
        for (prefixes, names) in self.unclaimed(&matched) {
            let left = FilterChainMatch { prefix_ranges: prefixes, server_names: names, ..matched.clone() };
            let left = (left != FilterChainMatch::default()).then_some(left);
            self.chains.push(FilterChain { filter_chain_match: left, ..chain.clone() });
        }
    }

    /// Whether some chain takes every connection that no other does.
    pub fn has_match_all(&self) -> bool {
        self.chains.iter().any(|chain| chain.filter_chain_match.is_none())
    }

    /// The chains.
    pub fn into_chains(self) -> Vec<FilterChain> {
        self.chains
    }

    /// Claims what `matched` can still have: prefixes with the same free server names together.
    fn unclaimed(&mut self, matched: &FilterChainMatch) -> Vec<(Vec<CidrRange>, Vec<String>)> {
        let protocols = format!("{} {}", matched.transport_protocol, matched.application_protocols.join(" "));
        let port = matched.destination_port.map(|port| port.value);
        // Without prefixes, or names, there is one combination, of any.
        let prefixes: Vec<Option<&CidrRange>> = match matched.prefix_ranges.as_slice() {
            [] => vec![None],
            ranges => ranges.iter().map(Some).collect(),
        };
        let mut free: Vec<(Vec<CidrRange>, Vec<String>)> = Vec::new();
        for prefix in prefixes {
            let key = prefix.map(|range| {
                (range.address_prefix.clone(), range.prefix_len.map_or(0, |length| length.value))
            });
            let mut claim =
                |name: &str| self.claimed.insert((port, key.clone(), name.to_owned(), protocols.clone()));
            let names: Vec<String> =
                matched.server_names.iter().filter(|name| claim(name)).cloned().collect();
            if names.is_empty() && (!matched.server_names.is_empty() || !claim("")) {
                continue;
            }
            match free.iter_mut().find(|(_, same)| *same == names) {
                Some((ranges, _)) => ranges.extend(prefix.cloned()),
                None => free.push((prefix.cloned().into_iter().collect(), names)),
            }
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::cidr;

    fn chain(name: &str, prefixes: &[&str], names: &[&str], protocol: &str) -> FilterChain {
        let matched = FilterChainMatch {
            prefix_ranges: prefixes.iter().map(|prefix| cidr(prefix.parse().unwrap())).collect(),
            server_names: names.iter().map(|name| (*name).to_owned()).collect(),
            transport_protocol: protocol.to_owned(),
            ..Default::default()
        };
        let matched = (matched != FilterChainMatch::default()).then_some(matched);
        FilterChain { name: name.to_owned(), filter_chain_match: matched, ..Default::default() }
    }

    fn left(chains: Vec<FilterChain>) -> Vec<(String, Vec<String>, Vec<String>)> {
        let mut set = ChainSet::default();
        chains.into_iter().for_each(|chain| set.add(chain));
        let tell = |chain: FilterChain| {
            let matched = chain.filter_chain_match.unwrap_or_default();
            let prefixes = matched.prefix_ranges.into_iter().map(|range| range.address_prefix).collect();
            (chain.name, prefixes, matched.server_names)
        };
        set.into_chains().into_iter().map(tell).collect()
    }

    fn row(name: &str, prefixes: &[&str], names: &[&str]) -> (String, Vec<String>, Vec<String>) {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        (name.to_owned(), own(prefixes), own(names))
    }

    #[test]
    fn what_is_claimed_is_the_firsts() {
        assert_eq!(
            left(vec![
                chain("a", &[], &["x", "y"], ""),
                chain("b", &[], &["y", "z"], ""),
                chain("c", &[], &["z"], "")
            ]),
            [row("a", &[], &["x", "y"]), row("b", &[], &["z"])]
        );
        assert_eq!(left(vec![chain("a", &[], &[], ""), chain("b", &[], &[], "")]), [row("a", &[], &[])]);
        assert_eq!(
            left(vec![
                chain("a", &["10.0.0.0/8"], &["x"], ""),
                chain("b", &["10.0.0.0/8", "11.0.0.0/8"], &["x", "y"], "")
            ]),
            [
                row("a", &["10.0.0.0"], &["x"]),
                row("b", &["10.0.0.0"], &["y"]),
                row("b", &["11.0.0.0"], &["x", "y"])
            ]
        );
    }

    #[test]
    fn repetitions_within_a_chain_are_one() {
        let repeated = chain("a", &["10.0.0.0/8", "10.0.0.0/8"], &["x", "x"], "");
        assert_eq!(left(vec![repeated]), [row("a", &["10.0.0.0"], &["x"])]);
    }

    #[test]
    fn different_protocols_and_prefix_lengths_do_not_meet() {
        let chains = vec![
            chain("a", &["10.0.0.0/8"], &[], ""),
            chain("b", &["10.0.0.0/16"], &[], ""),
            chain("c", &["10.0.0.0/8"], &[], "raw_buffer"),
        ];
        assert_eq!(left(chains.clone()).len(), chains.len());
    }
}
