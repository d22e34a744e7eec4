//! Names and what is known of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Bound;

use hickory_proto::rr::rdata::SRV;
use hickory_proto::rr::{LowerName, Name};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::link::{POD_NETWORK, POD_NETWORK6, POD_PREFIX};
use crate::services::DOMAIN;

/// Addresses of the mesh: nobody else is asked whose they are.
const OWN_NETWORKS: [IpNet; 5] = [
    IpNet::V4(Ipv4Net::new_assert(POD_NETWORK, POD_PREFIX)),
    IpNet::V6(Ipv6Net::new_assert(POD_NETWORK6, 64)),
    ostro_mesh::vip::LOCAL_RANGE,
    ostro_mesh::vip::LOCAL_RANGE6,
    // Automatic addresses of ServiceEntries.
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(240, 240, 0, 0), 16)),
];

/// A snapshot of everything the mesh has a name for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Zone {
    /// Names under the mesh's domain.
    pub(super) names: BTreeMap<LowerName, Node>,
    /// Names of addresses.
    pub(super) pointers: BTreeMap<IpAddr, BTreeSet<Name>>,
    /// Hosts of ServiceEntries, those with a `*` in front too.
    pub(super) entries: BTreeMap<LowerName, Vec<Entry>>,
    /// Pods by their addresses.
    pub(super) residents: BTreeMap<IpAddr, Resident>,
}

/// What is known of a name. Nothing: the name exists, with records of no kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Node {
    /// `A` and `AAAA`.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// `CNAME`; excludes everything else.
    pub(super) alias: Option<Name>,
    /// `SRV`.
    pub(super) servers: Vec<SRV>,
    /// `TXT`.
    pub(super) text: Option<&'static str>,
}

/// One declaration of a host by a ServiceEntry.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// Where it was declared.
    pub(super) namespace: &'static str,
    /// Namespaces that see it, as written.
    pub(super) export_to: Vec<String>,
    /// Where programs find the host.
    pub(super) addresses: BTreeSet<IpAddr>,
}

impl Entry {
    fn visible_in(&self, namespace: &str) -> bool {
        let admits = |to: &String| match to.as_str() {
            "*" => true,
            "." => self.namespace == namespace,
            other => other == namespace,
        };
        self.export_to.is_empty() || self.export_to.iter().any(admits)
    }
}

/// A pod, as the one who asks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Resident {
    pub(super) namespace: String,
    pub(super) sidecar: bool,
}

/// On whose behalf a name is looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asker<'a> {
    /// The namespace whose view of ServiceEntries counts; none: they are not seen.
    entries_of: Option<&'a str>,
}

/// What a zone knows of a name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Found<'a> {
    /// What there is.
    Node(&'a Node),
    /// The host of a ServiceEntry: it has these addresses; what else there is of it, others know.
    Entry(&'a BTreeSet<IpAddr>),
    /// Names further down exist.
    Empty,
    /// It is the mesh's, and does not exist.
    Nothing,
    /// It is not the mesh's.
    Elsewhere,
}

/// What a zone knows of an address.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FoundAddress<'a> {
    Names(&'a BTreeSet<Name>),
    /// It is the mesh's, and nobody's.
    Nothing,
    /// It is not the mesh's.
    Elsewhere,
}

impl Zone {
    /// Who asks from an address. Only programs beside a sidecar see ServiceEntries: for anybody else the
    /// addresses lead nowhere.
    pub fn asker(&self, address: IpAddr) -> Asker<'_> {
        let resident = self.residents.get(&address.to_canonical()).filter(|resident| resident.sidecar);
        Asker { entries_of: resident.map(|resident| resident.namespace.as_str()) }
    }

    pub(super) fn find(&self, asker: Asker<'_>, name: &Name) -> Found<'_> {
        let name = LowerName::new(name);
        if let Some(node) = self.names.get(&name) {
            return Found::Node(node);
        }
        if let Some(addresses) = asker.entries_of.and_then(|namespace| self.entry(namespace, &name)) {
            return Found::Entry(addresses);
        }
        match domain().zone_of(&name) {
            true if self.is_above_others(&name) => Found::Empty,
            true => Found::Nothing,
            false => Found::Elsewhere,
        }
    }

    pub(super) fn find_address(&self, address: IpAddr) -> FoundAddress<'_> {
        match self.pointers.get(&address) {
            Some(names) => FoundAddress::Names(names),
            None if OWN_NETWORKS.iter().any(|network| network.contains(&address)) => FoundAddress::Nothing,
            None => FoundAddress::Elsewhere,
        }
    }

    /// Names sort by their labels from the last to the first: whatever is below a name follows it.
    fn is_above_others(&self, name: &LowerName) -> bool {
        let after = (Bound::Excluded(name), Bound::Unbounded);
        self.names.range::<LowerName, _>(after).next().is_some_and(|(next, _)| name.zone_of(next))
    }

    /// The host itself, or the longest `*` that covers it.
    fn entry(&self, namespace: &str, name: &LowerName) -> Option<&BTreeSet<IpAddr>> {
        if self.entries.is_empty() {
            return None;
        }
        let parents = std::iter::successors(Some(name.base_name()), |parent| {
            (!parent.is_root()).then(|| parent.base_name())
        });
        let wildcards = parents.take_while(|parent| !parent.is_root()).filter_map(|parent| {
            Name::from(parent).prepend_label("*").ok().map(|wildcard| LowerName::new(&wildcard))
        });
        std::iter::once(name.clone()).chain(wildcards).find_map(|host| {
            let visible =
                || self.entries.get(&host).into_iter().flatten().filter(|e| e.visible_in(namespace));
            // Istio's order too: one's own before another's.
            let chosen = visible().find(|entry| entry.namespace == namespace).or_else(|| visible().next());
            chosen.map(|entry| &entry.addresses)
        })
    }
}

/// The mesh's domain as a name.
pub(super) fn domain() -> LowerName {
    // Written here, so it is a name.
    LowerName::new(&Name::from_ascii(format!("{DOMAIN}.")).unwrap_or_default())
}
