//! Sets of hosts that follow from per-host values: who sees a host, on which ports it is.

use std::collections::BTreeSet;
use std::hash::Hash;

use imbl::HashMap;
use ostro_names::{Host, Namespace};

use crate::changes::Touched;
use crate::key::Key;
use crate::model::Visibility;
use crate::snapshot::Hosts;

/// Sets of hosts by something; an empty set is no entry.
type Sets<K> = HashMap<K, Hosts>;

/// Who sees at least one of the objects of a host.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Audience {
    public: bool,
    /// Empty if public: what all see is not listed again.
    namespaces: BTreeSet<Namespace>,
}

impl Audience {
    pub(crate) fn of<'a>(visibilities: impl Iterator<Item = &'a Visibility>) -> Self {
        let mut audience = Audience::default();
        for visibility in visibilities {
            match visibility {
                Visibility::Public => audience.public = true,
                Visibility::Namespaces(namespaces) => audience.namespaces.extend(namespaces),
            }
        }
        if audience.public {
            audience.namespaces.clear();
        }
        audience
    }

    /// Moves the host from the sets of this audience to those of the new one.
    pub(crate) fn replace(
        &self,
        new: &Audience,
        host: Host,
        (public, public_key): (&mut Hosts, Key),
        (namespaces, namespace_key): (&mut Sets<Namespace>, fn(Namespace) -> Key),
        touched: &mut Touched,
    ) {
        if self.public != new.public {
            touched.note(public_key);
            if new.public {
                public.insert(host);
            } else {
                public.remove(&host);
            }
        }
        let sets = (self.namespaces.clone(), new.namespaces.clone());
        enter(namespaces, host, sets, namespace_key, touched);
    }
}

/// Takes the host out of the sets it is no longer in and puts it into those it is now in; empty sets vanish.
pub(crate) fn enter<K: Copy + Ord + Hash>(
    sets: &mut Sets<K>,
    host: Host,
    (old, new): (BTreeSet<K>, BTreeSet<K>),
    key: fn(K) -> Key,
    touched: &mut Touched,
) {
    for gone in old.difference(&new) {
        touched.note(key(*gone));
        let mut hosts = sets.get(gone).cloned().unwrap_or_default();
        hosts.remove(&host);
        if hosts.is_empty() {
            sets.remove(gone);
        } else {
            sets.insert(*gone, hosts);
        }
    }
    for come in new.difference(&old) {
        touched.note(key(*come));
        let mut hosts = sets.get(come).cloned().unwrap_or_default();
        hosts.insert(host);
        sets.insert(*come, hosts);
    }
}
