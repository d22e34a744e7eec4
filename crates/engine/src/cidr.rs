//! Longest-prefix lookup of an address.

use std::collections::HashMap;
use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::CidrRange;
use ipnet::IpNet;

use crate::Refusal;

/// Values by address range. One hash lookup per distinct prefix length; at most 33 or 129.
#[derive(Clone, Debug)]
pub(crate) struct Prefixes<L> {
    v4: Family<L>,
    v6: Family<L>,
    /// For addresses that no range holds. A range of all addresses comes before it; which of the two Envoy takes is
    /// chance, so nobody should write both.
    any: Option<Box<L>>,
}

#[derive(Clone, Debug)]
struct Family<L> {
    /// Longest first.
    lengths: Vec<u8>,
    /// By prefix length and network address.
    ranges: HashMap<(u8, IpAddr), L>,
}

impl<L> Default for Prefixes<L> {
    fn default() -> Self {
        Prefixes { v4: Family::default(), v6: Family::default(), any: None }
    }
}

impl<L> Default for Family<L> {
    fn default() -> Self {
        Family { lengths: Vec::new(), ranges: HashMap::new() }
    }
}

impl<L: Default> Prefixes<L> {
    /// The value of this range (none = any address), made if new.
    pub(crate) fn entry(&mut self, range: Option<IpNet>) -> &mut L {
        let Some(range) = range else { return self.any.get_or_insert_default() };
        let family = if range.addr().is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let length = range.prefix_len();
        if let Err(place) = family.lengths.binary_search_by(|l| length.cmp(l)) {
            family.lengths.insert(place, length);
        }
        family.ranges.entry((length, range.network())).or_default()
    }
}

impl<L> Prefixes<L> {
    /// The value of the longest range that holds the address.
    pub(crate) fn find(&self, address: IpAddr) -> Option<&L> {
        let family = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let of_length = |length: &u8| {
            let network = IpNet::new(address, *length).ok()?.network();
            family.ranges.get(&(*length, network))
        };
        family.lengths.iter().find_map(of_length).or(self.any.as_deref())
    }
}

/// Reads a range; host bits beyond the prefix are dropped, as Envoy does.
pub(crate) fn range(range: &CidrRange) -> Result<IpNet, Refusal> {
    let CidrRange { address_prefix, prefix_len } = range;
    let length = prefix_len.as_ref().map_or(0, |l| l.value);
    let address = address_prefix.parse::<IpAddr>();
    let net = address.ok().zip(u8::try_from(length).ok()).and_then(|(a, l)| IpNet::new(a, l).ok());
    net.map(|n| n.trunc()).ok_or_else(|| Refusal::invalid(format!("address range {address_prefix}/{length}")))
}
