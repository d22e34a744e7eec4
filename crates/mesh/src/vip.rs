//! Addresses for Services that no cluster gave one: files hold Services without `clusterIP`, and whoever
//! reads the same files must come to the same address (the control plane makes listeners for it, the local
//! runner makes names resolve to it).
//!
//! An address is a hash of namespace and name, probed upwards past those already taken, in the order of
//! (namespace, name). So it depends on nothing but the set of Services, and nearly always on the one
//! Service alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Network of the range, 10.96.0.0/12: what kubeadm gives Services too.
const BASE: u32 = u32::from_be_bytes([10, 96, 0, 0]);
const HOST_BITS: u32 = 20;
/// The first addresses are left to well-known Services (kubernetes, kube-dns).
const RESERVED: u32 = 256;

/// Services as (namespace, name).
pub type ServiceName<'a> = (&'a str, &'a str);

/// True if the range above holds this address.
pub fn contains(address: Ipv4Addr) -> bool {
    u32::from(address) >> HOST_BITS == BASE >> HOST_BITS
}

/// An address for each of `wanting`, none of them in `given` (the addresses that Services state
/// themselves). A Service that finds the whole range taken gets none.
pub fn assign<'a>(
    wanting: impl IntoIterator<Item = ServiceName<'a>>,
    given: &BTreeSet<Ipv4Addr>,
) -> BTreeMap<ServiceName<'a>, Ipv4Addr> {
    const SLOTS: u32 = (1 << HOST_BITS) - RESERVED;
    let ordered: BTreeSet<ServiceName<'a>> = wanting.into_iter().collect();
    let mut taken = given.clone();
    let mut assigned = BTreeMap::new();
    for service in ordered {
        let start = hash(service);
        let free = (0..SLOTS)
            .map(|step| Ipv4Addr::from(BASE + RESERVED + start.wrapping_add(step) % SLOTS))
            .find(|address| !taken.contains(address));
        if let Some(address) = free {
            taken.insert(address);
            assigned.insert(service, address);
        }
    }
    assigned
}

/// FNV-1a over `namespace/name`, folded to 32 bits: fixed for ever, unlike the standard library's hasher.
fn hash((namespace, name): ServiceName<'_>) -> u32 {
    let text = namespace.bytes().chain([b'/']).chain(name.bytes());
    let wide = text.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // Taking the high half's bits into the low one loses nothing that 32 bits could keep.
    (wide ^ (wide >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_arrival_does_not_matter_and_the_range_is_kept() {
        let names: Vec<String> = (0..500).map(|i| format!("s{i}")).collect();
        let forward = assign(names.iter().map(|n| ("default", n.as_str())), &BTreeSet::new());
        let backward = assign(names.iter().rev().map(|n| ("default", n.as_str())), &BTreeSet::new());
        assert_eq!(forward, backward);
        assert!(forward.values().all(|a| contains(*a)));
        assert_eq!(forward.values().collect::<BTreeSet<_>>().len(), 500, "no address twice");
    }

    #[test]
    fn a_taken_address_is_passed_over() {
        let wish = assign([("default", "web")], &BTreeSet::new())[&("default", "web")];
        let next = assign([("default", "web")], &BTreeSet::from([wish]))[&("default", "web")];
        assert_eq!(u32::from(next), u32::from(wish) + 1);
    }

    #[test]
    fn addresses_are_fixed_for_ever() {
        // Changing this breaks running meshes: a control plane and a runner of different builds disagree.
        let assigned = assign([("default", "reviews")], &BTreeSet::new());
        assert_eq!(assigned[&("default", "reviews")].to_string(), "10.107.53.26");
    }
}
