//! Addresses for services that have none: the same set of services has the same addresses, whatever the order in
//! which they came.
//!
//! Each claimant asks for seats in an order of its own (from a hash of its name), and a seat goes to the claimant
//! that sorts first of those who ask for it; who loses a seat asks for its next. That has one outcome, the one in
//! which claimants choose in sorted order, and it is kept up to date by moving only those whom a change concerns.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use ostro_api::kubernetes;
use ostro_names::{Host, Name, Namespace};

/// Decides which seat a claimant asks for first, second, and so on.
pub(crate) trait Seating {
    type Claimant: Clone + Ord + Hash;
    /// `None`: nothing left to ask for.
    fn seat(&self, claimant: &Self::Claimant, attempt: u32) -> Option<u32>;
}

/// Who sits where.
pub(crate) struct Seats<S: Seating> {
    seating: S,
    /// All who have asked for a seat, whether they got it or went on; the first has it.
    claims: HashMap<u32, BTreeSet<S::Claimant>>,
    /// How many times each claimant was refused. It sits where it asked last, unless nothing was left.
    refused: HashMap<S::Claimant, u32>,
}

impl<S: Seating> Seats<S> {
    pub(crate) fn new(seating: S) -> Self {
        Seats { seating, claims: HashMap::new(), refused: HashMap::new() }
    }

    /// Where the claimant sits.
    pub(crate) fn seat(&self, claimant: &S::Claimant) -> Option<u32> {
        self.refused.get(claimant).and_then(|attempt| self.seating.seat(claimant, *attempt))
    }

    /// Admits a claimant; names to `moved` everyone whose seat changed.
    pub(crate) fn admit(&mut self, claimant: S::Claimant, moved: &mut BTreeSet<S::Claimant>) {
        if self.refused.contains_key(&claimant) {
            return;
        }
        let mut asking = Some((claimant, 0));
        while let Some((claimant, attempt)) = asking.take() {
            moved.insert(claimant.clone());
            asking = self.ask(claimant, attempt).map(|displaced| {
                let attempt = self.refused.get(&displaced).map_or(0, |attempt| attempt + 1);
                (displaced, attempt)
            });
        }
    }

    /// Seats the claimant, from this attempt on; returns whom it displaced.
    fn ask(&mut self, claimant: S::Claimant, mut attempt: u32) -> Option<S::Claimant> {
        while let Some(seat) = self.seating.seat(&claimant, attempt) {
            let claims = self.claims.entry(seat).or_default();
            let holder = claims.first().cloned();
            claims.insert(claimant.clone());
            if holder.as_ref().is_none_or(|holder| claimant < *holder) {
                self.refused.insert(claimant, attempt);
                return holder;
            }
            attempt += 1;
        }
        self.refused.insert(claimant, attempt);
        None
    }

    /// Dismisses a claimant; names to `moved` everyone else whose seat changed.
    pub(crate) fn dismiss(&mut self, claimant: &S::Claimant, moved: &mut BTreeSet<S::Claimant>) {
        let mut vacant = self.seat(claimant);
        let Some(refused) = self.refused.remove(claimant) else { return };
        for attempt in 0..=refused {
            self.withdraw(claimant, attempt);
        }
        while let Some(seat) = vacant.take() {
            let Some(heir) = self.claims.get(&seat).and_then(|claims| claims.first().cloned()) else {
                return;
            };
            vacant = self.seat(&heir);
            self.promote(&heir, seat);
            moved.insert(heir);
        }
    }

    /// Moves a claimant up to a seat it was refused before.
    fn promote(&mut self, claimant: &S::Claimant, seat: u32) {
        let refused = self.refused.get(claimant).copied().unwrap_or_default();
        let mut kept = BTreeSet::new();
        let mut attempt = 0;
        while let Some(asked) = self.seating.seat(claimant, attempt) {
            kept.insert(asked);
            if asked == seat {
                break;
            }
            attempt += 1;
        }
        for later in attempt + 1..=refused {
            if self.seating.seat(claimant, later).is_some_and(|asked| !kept.contains(&asked)) {
                self.withdraw(claimant, later);
            }
        }
        self.refused.insert(claimant.clone(), attempt);
    }

    fn withdraw(&mut self, claimant: &S::Claimant, attempt: u32) {
        let Some(seat) = self.seating.seat(claimant, attempt) else { return };
        if let Some(claims) = self.claims.get_mut(&seat) {
            claims.remove(claimant);
            if claims.is_empty() {
                self.claims.remove(&seat);
            }
        }
    }
}

/// A Service that wants an address of the range, or was written with one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Claim {
    /// It has this one. Sorts before all who may have any.
    Fixed(IpAddr, Namespace, Name),
    /// It takes any.
    Any(Namespace, Name),
}

/// Addresses of a range, asked for one after the other from the one that the name's hash points to.
pub(crate) struct Range {
    first: u128,
    count: u32,
    v4: bool,
}

/// The range that kubeadm gives Services too. Files hold Services without `clusterIP`; whoever reads the same files
/// comes to the same addresses here: the control plane makes listeners for them, the local runner makes names
/// resolve to them.
pub const LOCAL_RANGE: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12));

/// IPv6 addresses that go with [`LOCAL_RANGE`]: unique local (RFC 4193), ending in the bytes of the IPv4 one.
pub const LOCAL_RANGE6: IpNet =
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0), 96));

/// The first addresses of a range are left to well-known Services (kubernetes, kube-dns): at most so many.
const RESERVED: u128 = 256;
/// Addresses of a range that are ever tried; far above what a mesh has services.
const RANGE_SEATS: u128 = 1 << 24;

impl Range {
    pub(crate) fn new(range: IpNet) -> Self {
        let network = number(range.network());
        let size = number(range.broadcast()).saturating_sub(network).saturating_add(1);
        let reserved = (size / 16).clamp(1, RESERVED);
        let count = (size - reserved).min(RANGE_SEATS);
        Range {
            first: network + reserved,
            count: u32::try_from(count).unwrap_or(0),
            v4: range.addr().is_ipv4(),
        }
    }

    /// The address of a seat.
    fn address(&self, seat: u32) -> IpAddr {
        let number = self.first + u128::from(seat);
        if self.v4 {
            IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(0)))
        } else {
            IpAddr::V6(Ipv6Addr::from(number))
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl Seating for Range {
    type Claimant = Claim;

    fn seat(&self, claimant: &Claim, attempt: u32) -> Option<u32> {
        match claimant {
            Claim::Fixed(address, ..) => {
                let offset = number(*address).checked_sub(self.first)?;
                let within = address.is_ipv4() == self.v4 && offset < u128::from(self.count);
                (within && attempt == 0).then(|| u32::try_from(offset).ok())?
            }
            Claim::Any(namespace, name) => {
                let start = hash(*namespace, *name);
                (attempt < self.count).then(|| {
                    let seat = (u64::from(start) + u64::from(attempt)) % u64::from(self.count);
                    u32::try_from(seat).unwrap_or(0)
                })
            }
        }
    }
}

/// FNV-1a over `namespace/name`, folded to 32 bits: fixed for ever, unlike the standard library's hasher.
fn hash(namespace: Namespace, name: Name) -> u32 {
    let text = namespace.as_str().bytes().chain([b'/']).chain(name.as_str().bytes());
    let wide = text.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // Taking the high half's bits into the low one loses nothing that 32 bits could keep.
    (wide ^ (wide >> 32)) as u32
}

/// Services as (namespace, name).
pub type ServiceName<'a> = (&'a str, &'a str);

/// Whether [`LOCAL_RANGE`] holds this address.
pub fn contains(address: Ipv4Addr) -> bool {
    LOCAL_RANGE.contains(&IpAddr::V4(address))
}

/// The addresses of a Service that was handed this one, by its `ipFamilies` and `ipFamilyPolicy`: of the families it
/// asks for, the first one first. Only addresses of [`LOCAL_RANGE`] have an IPv6 twin, so others stay alone.
pub fn of_families(spec: &kubernetes::Service, address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V4(v4) = address else { return vec![address] };
    if !contains(v4) {
        return vec![address];
    }
    let six_first = spec.ip_families.first().is_some_and(|family| family == "IPv6");
    let dual = matches!(spec.ip_family_policy.as_str(), "PreferDualStack" | "RequireDualStack");
    match (six_first, dual || spec.ip_families.len() > 1) {
        (false, false) => vec![address],
        (false, true) => vec![address, twin(v4).into()],
        (true, true) => vec![twin(v4).into(), address],
        (true, false) => vec![twin(v4).into()],
    }
}

/// The address of [`LOCAL_RANGE6`] that goes with one of [`LOCAL_RANGE`].
fn twin(address: Ipv4Addr) -> Ipv6Addr {
    let IpAddr::V6(network) = LOCAL_RANGE6.addr() else { return Ipv6Addr::UNSPECIFIED };
    Ipv6Addr::from(u128::from(network) | u128::from(u32::from(address)))
}

/// An address of [`LOCAL_RANGE`] for each of `wanting`, none of them in `given` (the addresses that Services state
/// themselves). A Service that finds the whole range taken gets none. A pure function of its arguments: a mesh with
/// this range comes to the same addresses.
pub fn assign<'a>(
    wanting: impl IntoIterator<Item = ServiceName<'a>>,
    given: &BTreeSet<Ipv4Addr>,
) -> BTreeMap<ServiceName<'a>, Ipv4Addr> {
    let mut seats = Seats::new(Range::new(LOCAL_RANGE));
    for address in given {
        let claim = Claim::Fixed(IpAddr::V4(*address), Namespace::default(), Name::default());
        seats.admit(claim, &mut BTreeSet::new());
    }
    let claim = |(namespace, name)| Claim::Any(Namespace::new(namespace), Name::new(name));
    let wanting: BTreeSet<ServiceName<'a>> = wanting.into_iter().collect();
    for service in &wanting {
        seats.admit(claim(*service), &mut BTreeSet::new());
    }
    let assigned = |service| match seats.address(&claim(service)) {
        Some(IpAddr::V4(address)) => Some((service, address)),
        _ => None,
    };
    wanting.into_iter().filter_map(assigned).collect()
}

impl Seats<Range> {
    /// The address of a claimant.
    pub(crate) fn address(&self, claimant: &Claim) -> Option<IpAddr> {
        self.seat(claimant).map(|seat| self.seating.address(seat))
    }
}

/// 240.240.0.0/16 for ServiceEntries without an address, as Istio's address auto-allocation hands it out: by double
/// hashing of `namespace/host`. Each declaration of a host takes a seat; the host has the address of its lowest.
pub(crate) struct AutoRange;

/// One declaration of a host: namespace, host, and a running number among those of the same host.
pub(crate) type AutoClaim = (Namespace, Host, u32);

const AUTO_SEATS: u32 = 256 * 254;
/// The largest prime below [`AUTO_SEATS`].
const AUTO_PRIME: u32 = 65_011;
/// A host that was refused this often goes without an address; with half of the seats taken, one in 2^64 hosts.
const AUTO_ATTEMPTS: u32 = 64;

impl Seating for AutoRange {
    type Claimant = AutoClaim;

    fn seat(&self, (namespace, host, _): &AutoClaim, attempt: u32) -> Option<u32> {
        let hash = fnv1a(&format!("{namespace}/{host}"));
        let step = AUTO_PRIME - hash % AUTO_PRIME;
        let seats = (0..AUTO_ATTEMPTS).map(|round| match round {
            0 => hash % AUTO_SEATS,
            _ => hash.wrapping_add(round.wrapping_mul(step)) % (AUTO_SEATS - 1),
        });
        // Addresses that end in .0 are left out: some resolvers and stacks refuse them.
        seats.filter(|seat| (seat + 1) % 255 != 0).nth(attempt as usize)
    }
}

impl Seats<AutoRange> {
    /// The address of a host that is declared so many times in a namespace.
    pub(crate) fn address(&self, namespace: Namespace, host: Host, declarations: u32) -> Option<IpAddr> {
        let seat = (0..declarations).filter_map(|number| self.seat(&(namespace, host, number))).min()?;
        let [.., third, fourth] = ((seat + 1) / 255 * 256 + (seat + 1) % 255).to_be_bytes();
        Some(IpAddr::V4(Ipv4Addr::new(240, 240, third, fourth)))
    }
}

/// FNV-1a, 32 bit: what Istio places automatic addresses by.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(2_166_136_261, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Few seats and many claimants, so that everybody is in everybody's way.
    struct Crowded;

    impl Seating for Crowded {
        type Claimant = u32;

        fn seat(&self, claimant: &u32, attempt: u32) -> Option<u32> {
            // Deliberately asks for some seats twice.
            (attempt < 9)
                .then(|| (claimant.wrapping_mul(2_654_435_761) % 7 + attempt * (claimant % 3 + 1)) % 11)
        }
    }

    fn in_turn(claimants: &BTreeSet<u32>) -> BTreeMap<u32, Option<u32>> {
        let mut taken = BTreeSet::new();
        let choose = |claimant: &u32| {
            let mut attempts = (0..).map_while(|attempt| Crowded.seat(claimant, attempt));
            (*claimant, attempts.find(|seat| taken.insert(*seat)))
        };
        claimants.iter().map(choose).collect()
    }

    proptest! {
        #[test]
        fn seats_are_those_of_choosing_in_sorted_order(steps in prop::collection::vec((any::<bool>(), 0u32..24), 0..80)) {
            let mut seats = Seats::new(Crowded);
            let mut present = BTreeSet::new();
            for (arrives, claimant) in steps {
                let before = in_turn(&present);
                let mut moved = BTreeSet::new();
                if arrives {
                    present.insert(claimant);
                    seats.admit(claimant, &mut moved);
                } else {
                    present.remove(&claimant);
                    seats.dismiss(&claimant, &mut moved);
                }
                let expected = in_turn(&present);
                for (claimant, seat) in &expected {
                    prop_assert_eq!(seats.seat(claimant), *seat);
                    let changed = before.get(claimant).copied().flatten() != *seat;
                    prop_assert!(!changed || moved.contains(claimant), "{} moved unseen", claimant);
                }
            }
            for claimant in present {
                seats.dismiss(&claimant, &mut BTreeSet::new());
            }
            prop_assert!(seats.claims.is_empty() && seats.refused.is_empty());
        }
    }

    fn taking_any(name: &str) -> Claim {
        Claim::Any(Namespace::new("n"), Name::new(name))
    }

    fn allocated(range: &str, claims: impl IntoIterator<Item = Claim>) -> BTreeMap<Claim, IpAddr> {
        let mut seats = Seats::new(Range::new(range.parse().unwrap()));
        let claims: Vec<Claim> = claims.into_iter().collect();
        for claim in &claims {
            seats.admit(claim.clone(), &mut BTreeSet::new());
        }
        claims.into_iter().filter_map(|claim| Some((claim.clone(), seats.address(&claim)?))).collect()
    }

    #[test]
    fn written_addresses_are_never_given_to_others() {
        let fixed = Claim::Fixed("10.0.0.3".parse().unwrap(), Namespace::new("z"), Name::new("z"));
        let claims: Vec<Claim> =
            ["a", "b", "c", "d", "e", "f"].map(taking_any).into_iter().chain([fixed]).collect();
        let forward = allocated("10.0.0.0/29", claims.clone());
        assert_eq!(forward, allocated("10.0.0.0/29", claims.into_iter().rev()));
        let distinct: BTreeSet<IpAddr> = forward.values().copied().collect();
        assert_eq!(distinct.len(), 7, "{forward:?}");
        assert!(!distinct.contains(&"10.0.0.0".parse().unwrap()));
    }

    #[test]
    fn a_full_range_leaves_the_last_in_order_without_address() {
        let got = allocated("10.0.0.0/30", ["d", "c", "a", "b"].map(taking_any));
        assert_eq!(got.into_keys().collect::<Vec<_>>(), ["a", "b", "c"].map(taking_any));
        assert!(allocated("10.0.0.0/32", [taking_any("a")]).is_empty());
    }

    #[test]
    fn a_range_may_be_ipv6() {
        let got = allocated("fd00::/108", [taking_any("a")]);
        assert!(got.values().all(|address| address.is_ipv6() && address.to_string().starts_with("fd00::")));
        assert_eq!(got.len(), 1);
    }

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

    #[test]
    fn automatic_addresses_are_istios() {
        let (namespace, host) = (Namespace::new("default"), Host::new("istio.io"));
        let mut seats = Seats::new(AutoRange);
        seats.admit((namespace, host, 0), &mut BTreeSet::new());
        seats.admit((namespace, host, 1), &mut BTreeSet::new());
        assert_eq!(seats.address(namespace, host, 2), Some("240.240.91.120".parse().unwrap()));
        assert_eq!(seats.address(namespace, host, 1), Some("240.240.122.168".parse().unwrap()));
    }
}
