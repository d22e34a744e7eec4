//! Filter chains that do not claim the same connections: Envoy refuses a whole listener over one combination of
//! prefix, server name and protocol that two chains both match.
//!
//! Invariant: of two chains that claim a combination the first has it, and the second keeps what is left of it.

use std::collections::HashSet;

use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, FilterChainMatch};

use crate::listener::RAW_BUFFER;

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

    /// The chains of a listener and its default chain, for connections that none of them takes: the chain without a match,
    /// else `otherwise`. A chain without a match that is alone needs no default.
    ///
    /// Envoy never goes back up in its match: once some chain demands `raw_buffer`, a connection in plaintext that none of
    /// those take is not offered to chains that demand no transport. The chain without a match therefore has to be the
    /// listener's default, and one that only demands a prefix has to be said twice.
    pub fn finish(
        mut self,
        otherwise: impl FnOnce() -> FilterChain,
    ) -> (Vec<FilterChain>, Option<FilterChain>) {
        let all = self.chains.iter().position(|chain| chain.filter_chain_match.is_none());
        if all.is_some() && self.chains.len() == 1 {
            return (self.chains, None);
        }
        let rest = all.map_or_else(otherwise, |index| self.chains.remove(index));
        for again in self.said_again() {
            self.add(again);
        }
        (self.chains, Some(rest))
    }

    /// Chains by prefix alone, as chains for plaintext, where another chain for plaintext has their prefix.
    fn said_again(&self) -> Vec<FilterChain> {
        let plaintext = |matched: &&FilterChainMatch| matched.transport_protocol == RAW_BUFFER;
        let matches = || self.chains.iter().filter_map(|chain| chain.filter_chain_match.as_ref());
        let hidden =
            |prefix: &&CidrRange| matches().filter(plaintext).any(|m| m.prefix_ranges.contains(prefix));
        let again = |chain: &FilterChain| {
            let matched = chain.filter_chain_match.as_ref()?;
            let prefixes: Vec<CidrRange> = matched.prefix_ranges.iter().filter(hidden).cloned().collect();
            let by_prefix = FilterChainMatch { prefix_ranges: prefixes.clone(), ..Default::default() };
            let is_by_prefix = FilterChainMatch { prefix_ranges: Vec::new(), ..matched.clone() }
                == FilterChainMatch::default();
            (is_by_prefix && !prefixes.is_empty()).then(|| FilterChain {
                filter_chain_match: Some(FilterChainMatch {
                    transport_protocol: RAW_BUFFER.to_owned(),
                    ..by_prefix
                }),
                ..chain.clone()
            })
        };
        self.chains.iter().filter_map(again).collect()
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
        let (chains, rest) =
            set.finish(|| FilterChain { name: "otherwise".to_owned(), ..Default::default() });
        chains.into_iter().chain(rest.filter(|rest| rest.name != "otherwise")).map(tell).collect()
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

    /// Where Envoy would lose plaintext that is no HTTP, measured with 1.40: connections were reset.
    #[test]
    fn plaintext_finds_its_chain_beside_one_for_http() {
        let set = |all: &FilterChain| {
            let mut set = ChainSet::default();
            let mut http = chain("http", &["10.0.0.0/8"], &[], RAW_BUFFER);
            if let Some(matched) = &mut http.filter_chain_match {
                matched.application_protocols = vec!["http/1.1".to_owned()];
            }
            set.add(http);
            set.add(all.clone());
            set.finish(|| chain("otherwise", &[], &[], ""))
        };
        let (chains, rest) = set(&chain("tcp", &[], &[], ""));
        assert_eq!(chains.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["http"]);
        assert_eq!(rest.unwrap().name, "tcp");

        let by_prefix = chain("tcp", &["10.0.0.0/8", "11.0.0.0/8"], &[], "");
        let (chains, rest) = set(&by_prefix);
        let again = chain("tcp", &["10.0.0.0/8"], &[], RAW_BUFFER);
        assert_eq!(chains.get(1..), Some([by_prefix, again].as_slice()));
        assert_eq!(rest.unwrap().name, "otherwise");
    }
}
