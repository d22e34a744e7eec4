//! Which objects want an address that nobody wrote: Services of a mesh that hands out cluster addresses, and hosts of
//! ServiceEntries. [`vip`](crate::vip) decides who gets which.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use ostro_api::kubernetes::ServiceType;
use ostro_api::service_entry::Resolution;
use ostro_api::{Kind, Object, ObjectKey, Spec};
use ostro_names::{Host, Name, Namespace};

use crate::objects::{Index, Objects};
use crate::services::{hosts_of, is_headless, written_addresses};
use crate::vip::{AutoClaim, AutoRange, Claim, Range, Seats};

/// On a ServiceEntry: `false` declines an automatic address.
const AUTO_ADDRESS_LABEL: &str = "networking.istio.io/enable-autoallocate-ip";

/// The addresses handed out.
pub(crate) struct Addresses {
    cluster_ips: Option<Seats<Range>>,
    claims: HashMap<ObjectKey, Claim>,
    auto: Seats<AutoRange>,
    auto_hosts: HashMap<ObjectKey, BTreeSet<Host>>,
    auto_users: Index<(Namespace, Host), ObjectKey>,
}

impl Addresses {
    pub(crate) fn new(cluster_ip_range: Option<IpNet>) -> Self {
        Addresses {
            cluster_ips: cluster_ip_range.map(|range| Seats::new(Range::new(range))),
            claims: HashMap::new(),
            auto: Seats::new(AutoRange),
            auto_hosts: HashMap::new(),
            auto_users: Index::default(),
        }
    }

    /// The cluster address of a Service that was written without one.
    pub(crate) fn cluster_ip(&self, namespace: Namespace, name: Name) -> Option<IpAddr> {
        self.cluster_ips.as_ref()?.address(&Claim::Any(namespace, name))
    }

    /// The automatic address of a host, if this ServiceEntry wants one for it.
    pub(crate) fn automatic(&self, entry: &ObjectKey, host: Host) -> Option<IpAddr> {
        let wanted = self.auto_hosts.get(entry).is_some_and(|hosts| hosts.contains(&host));
        let declarations = self.declarations(entry.namespace, host);
        wanted.then(|| self.auto.address(entry.namespace, host, declarations)).flatten()
    }

    /// Takes and gives back addresses for the dirty objects; whose address had to give way becomes dirty too.
    pub(crate) fn settle(&mut self, dirty: &mut BTreeSet<ObjectKey>, objects: &Objects) {
        let mut also = BTreeSet::new();
        for key in dirty.iter() {
            let object = objects.get(key);
            match key.kind {
                Kind::Service => self.settle_cluster_ip(*key, object.and_then(claim), &mut also),
                _ => self.settle_auto(
                    *key,
                    object.map(|object| auto_hosts(object)).unwrap_or_default(),
                    &mut also,
                ),
            }
        }
        dirty.append(&mut also);
    }

    fn settle_cluster_ip(&mut self, key: ObjectKey, claim: Option<Claim>, also: &mut BTreeSet<ObjectKey>) {
        let Some(seats) = &mut self.cluster_ips else { return };
        if self.claims.get(&key) == claim.as_ref() {
            return;
        }
        let mut moved = BTreeSet::new();
        if let Some(old) = self.claims.remove(&key) {
            seats.dismiss(&old, &mut moved);
        }
        if let Some(claim) = claim {
            seats.admit(claim.clone(), &mut moved);
            self.claims.insert(key, claim);
        }
        also.extend(moved.into_iter().map(|claim| match claim {
            Claim::Fixed(_, namespace, name) | Claim::Any(namespace, name) => {
                ObjectKey { kind: Kind::Service, namespace, name }
            }
        }));
    }

    fn settle_auto(&mut self, key: ObjectKey, new: BTreeSet<Host>, also: &mut BTreeSet<ObjectKey>) {
        let old = self.auto_hosts.remove(&key).unwrap_or_default();
        let mut moved: BTreeSet<AutoClaim> = BTreeSet::new();
        for host in old.difference(&new) {
            self.auto_users.remove(&(key.namespace, *host), &key);
            self.auto.dismiss(&(key.namespace, *host, self.declarations(key.namespace, *host)), &mut moved);
            moved.insert((key.namespace, *host, 0));
        }
        for host in new.difference(&old) {
            self.auto.admit((key.namespace, *host, self.declarations(key.namespace, *host)), &mut moved);
            self.auto_users.insert((key.namespace, *host), key);
        }
        if !new.is_empty() {
            self.auto_hosts.insert(key, new);
        }
        for (namespace, host, _) in moved {
            also.extend(self.auto_users.get(&(namespace, host)));
        }
    }

    /// How many objects of the namespace declare the host and want an address for it.
    fn declarations(&self, namespace: Namespace, host: Host) -> u32 {
        u32::try_from(self.auto_users.count(&(namespace, host))).unwrap_or(u32::MAX)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.auto_hosts.is_empty() && self.auto_users.is_empty()
    }
}

/// The automatic addresses of the hosts of ServiceEntries, by namespace and host: those that a mesh of these objects
/// hands out. Pure.
pub fn automatic_addresses<'a>(
    objects: impl IntoIterator<Item = &'a Object>,
) -> BTreeMap<(&'static str, &'static str), IpAddr> {
    let mut declarations: BTreeMap<(Namespace, Host), u32> = BTreeMap::new();
    let mut seats = Seats::new(AutoRange);
    for object in objects {
        for host in auto_hosts(object) {
            let number = declarations.entry((object.meta.namespace, host)).or_default();
            seats.admit((object.meta.namespace, host, *number), &mut BTreeSet::new());
            *number += 1;
        }
    }
    let address = |((namespace, host), number): ((Namespace, Host), u32)| {
        Some(((namespace.as_str(), host.as_str()), seats.address(namespace, host, number)?))
    };
    declarations.into_iter().filter_map(address).collect()
}

/// What a Service asks of the range of cluster addresses.
fn claim(object: &Arc<Object>) -> Option<Claim> {
    let Spec::Service(spec) = &object.spec else { return None };
    let (namespace, name) = (object.meta.namespace, object.meta.name);
    if spec.r#type == ServiceType::ExternalName || is_headless(spec) {
        return None;
    }
    Some(match written_addresses(spec).first() {
        Some(address) => Claim::Fixed(*address, namespace, name),
        None => Claim::Any(namespace, name),
    })
}

/// The hosts for which a ServiceEntry wants an automatic address.
fn auto_hosts(object: &Object) -> BTreeSet<Host> {
    let Spec::ServiceEntry(spec) = &object.spec else { return BTreeSet::new() };
    let declined = object.meta.labels.get(AUTO_ADDRESS_LABEL).is_some_and(|value| value == "false");
    if declined || !spec.addresses.is_empty() || spec.resolution == Resolution::None {
        return BTreeSet::new();
    }
    hosts_of(spec).into_iter().filter(|host| !host.as_str().starts_with('*')).collect()
}
