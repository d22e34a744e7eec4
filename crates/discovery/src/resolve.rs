//! From changed values to what each connection should have: rosters give parts, parts give names, names give resources,
//! and each step looks only at what differs from the last time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use imbl::ordset::DiffItem;
use ostro_mesh::KeyId;
use ostro_names::Name;
use ostro_translate::{Part, ResourceType, Roster};

use crate::answers::Asker;
use crate::cache::Cache;
use crate::connection::{Connection, Membership};
use crate::generator::Generator;
use crate::item::{Item, Named, Rostered, Slot, Stale, Value};
use crate::readers::Readers;
use crate::resource::Resource;

/// What a change amounts to, over all connections.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// By type, in [`ResourceType::ALL`] order.
    pub kinds: [Amount; 4],
    /// Connections that have something to be told.
    pub connections: BTreeSet<u32>,
}

impl Tally {
    /// What became pending of one type.
    pub fn amount(&self, kind: ResourceType) -> Amount {
        // `ALL` lists the variants in their order.
        self.kinds.get(kind as usize).copied().unwrap_or_default()
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.resources)?;
        if self.removed > 0 {
            write!(f, "-{}", self.removed)?;
        }
        write!(f, "/{}B", self.bytes)
    }
}

/// Resources that became pending.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Amount {
    pub resources: usize,
    pub removed: usize,
    pub bytes: usize,
}

/// Resolves on behalf of connections.
pub(crate) struct Resolver<'a, G: Generator> {
    pub cache: &'a mut Cache<G>,
    pub world: &'a G::World,
    pub selection: &'a mut Readers,
    pub tally: &'a mut Tally,
}

impl<G: Generator> Resolver<'_, G> {
    fn value(&mut self, connection: &mut Connection, item: Item) -> Value {
        let Connection { id, proxy, answers, .. } = connection;
        let mut asker = Asker { id: *id, proxy, answers, selection: self.selection };
        self.cache.resolve(self.world, &mut asker, item)
    }

    /// Puts the questions again whose answers depend on `keys`, and adds what is to be resolved again.
    pub fn reselect(&mut self, connection: &mut Connection, keys: &[KeyId], stale: &mut Stale) {
        let Connection { id, proxy, answers, .. } = connection;
        let mut asker = Asker { id: *id, proxy, answers, selection: self.selection };
        self.cache.reselect(self.world, &mut asker, keys, stale);
    }

    /// Detaches everything that read one of `keys`, and adds who has to resolve it again.
    pub fn invalidate(
        &mut self,
        connections: &mut BTreeMap<u32, Connection>,
        keys: &[KeyId],
        stale: &mut Stale,
    ) {
        for slot in self.cache.readers_of(keys) {
            let joined = self.cache.virtual_host(slot);
            let joined = joined.and_then(|(item, id)| Some((item, connections.get_mut(&id)?)));
            let Some((item, connection)) = joined else {
                self.cache.expire(slot, stale);
                continue;
            };
            let Connection { id, proxy, answers, .. } = connection;
            let mut asker = Asker { id: *id, proxy, answers, selection: self.selection };
            self.cache.renew(self.world, &mut asker, slot, item, stale);
        }
    }

    /// Subscribes to all of a wildcard type.
    pub fn join(&mut self, connection: &mut Connection, kind: ResourceType) {
        let Value::Roster(roster) = self.value(connection, Item::Roster(kind)) else { return };
        let parts: Vec<Part> = parts_of(&roster.roster);
        let old = connection.set_membership(kind, Some(Membership { roster, parts: Default::default() }));
        debug_assert!(old.is_none(), "joined twice");
        for part in parts {
            self.add_part(connection, kind, part);
        }
    }

    /// Subscribes to all of a wildcard type no longer.
    pub fn leave(&mut self, connection: &mut Connection, kind: ResourceType) {
        let Some(membership) = connection.set_membership(kind, None) else { return };
        for named in membership.parts.into_values() {
            self.drop_part(connection, kind, &named);
        }
        self.cache.release(membership.roster.slot, connection.id);
    }

    /// Subscribes to one name.
    pub fn refer(&mut self, connection: &mut Connection, kind: ResourceType, name: Name) {
        if connection.channels.of_mut(kind).ledger.refer(name) {
            self.content(connection, kind, name);
        }
    }

    fn unrefer(&mut self, connection: &mut Connection, kind: ResourceType, name: Name) {
        let ledger = &mut connection.channels.of_mut(kind).ledger;
        if let Some(resource) = ledger.unrefer(name) {
            if ledger.will_remove(name) {
                self.note(connection.id, kind, None);
            }
            self.cache.release(resource.slot, connection.id);
        }
    }

    /// Applies one stale value to one holder.
    pub fn refresh(&mut self, connection: &mut Connection, item: Item) {
        match item {
            Item::Roster(kind) => self.roster(connection, kind),
            Item::Names(kind, part) => self.names(connection, kind, part),
            // The tables that join it are stale themselves.
            Item::VirtualHost(..) => {}
            Item::Content(kind, name) => {
                if connection.channels.of(kind).ledger.wanted(name).is_some() {
                    self.content(connection, kind, name);
                }
            }
        }
    }

    fn roster(&mut self, connection: &mut Connection, kind: ResourceType) {
        if connection.membership(kind).is_none() {
            return;
        }
        let Value::Roster(new) = self.value(connection, Item::Roster(kind)) else { return };
        let Some(membership) = connection.membership(kind) else { return };
        let old = std::mem::replace(&mut membership.roster, new.clone());
        let (added, removed) = difference(&old, &new);
        // Additions first: a name that moves from one part to another never leaves.
        for part in added {
            self.add_part(connection, kind, part);
        }
        for part in removed {
            let named = connection.membership(kind).and_then(|membership| membership.parts.remove(&part));
            if let Some(named) = named {
                self.drop_part(connection, kind, &named);
            }
        }
        self.release_if_other(connection, old.slot, new.slot);
    }

    fn add_part(&mut self, connection: &mut Connection, kind: ResourceType, part: Part) {
        let Value::Names(named) = self.value(connection, Item::Names(kind, part)) else { return };
        if let Some(membership) = connection.membership(kind) {
            membership.parts.insert(part, named.clone());
        }
        for name in &named.names {
            self.refer(connection, kind, *name);
        }
    }

    fn drop_part(&mut self, connection: &mut Connection, kind: ResourceType, named: &Arc<Named>) {
        for name in &named.names {
            self.unrefer(connection, kind, *name);
        }
        self.cache.release(named.slot, connection.id);
    }

    fn names(&mut self, connection: &mut Connection, kind: ResourceType, part: Part) {
        let has = connection.membership(kind).is_some_and(|membership| membership.parts.contains_key(&part));
        if !has {
            return;
        }
        let Value::Names(new) = self.value(connection, Item::Names(kind, part)) else { return };
        let Some(membership) = connection.membership(kind) else { return };
        let Some(old) = membership.parts.insert(part, new.clone()) else { return };
        for name in new.names.iter().filter(|name| !old.names.contains(name)) {
            self.refer(connection, kind, *name);
        }
        for name in old.names.iter().filter(|name| !new.names.contains(name)) {
            self.unrefer(connection, kind, *name);
        }
        self.release_if_other(connection, old.slot, new.slot);
    }

    fn content(&mut self, connection: &mut Connection, kind: ResourceType, name: Name) {
        let Value::Content(new) = self.value(connection, Item::Content(kind, name)) else { return };
        let ledger = &mut connection.channels.of_mut(kind).ledger;
        let old = ledger.want(name, new.clone());
        let differs = old.as_ref().is_none_or(|old| old.version != new.version);
        if differs && (ledger.will_upsert(name) || ledger.will_remove(name)) {
            self.note(connection.id, kind, Some(&new));
        }
        if let Some(old) = old {
            self.release_if_other(connection, old.slot, new.slot);
        }
    }

    fn release_if_other(&mut self, connection: &Connection, old: Slot, new: Slot) {
        if old != new {
            self.cache.release(old, connection.id);
        }
    }

    fn note(&mut self, connection: u32, kind: ResourceType, resource: Option<&Resource>) {
        self.tally.connections.insert(connection);
        // `ALL` lists the variants in their order.
        if let Some(amount) = self.tally.kinds.get_mut(kind as usize) {
            match resource.filter(|resource| resource.bytes.is_some()) {
                Some(resource) => {
                    amount.resources += 1;
                    amount.bytes += resource.size();
                }
                None => amount.removed += 1,
            }
        }
    }
}

fn parts_of(roster: &Roster) -> Vec<Part> {
    let hosts = roster.public.iter().chain(roster.own.iter()).map(|host| Part::Host(*host));
    let all: BTreeSet<Part> = roster.fixed.iter().copied().chain(hosts).collect();
    all.into_iter().collect()
}

/// The parts that `new` has and `old` has not, and the other way round; in time proportional to the difference.
fn difference(old: &Rostered, new: &Rostered) -> (Vec<Part>, Vec<Part>) {
    let (old, new) = (&old.roster, &new.roster);
    let has = |roster: &Roster, part: &Part| match part {
        Part::Host(host) => roster.public.contains(host) || roster.own.contains(host),
        other => roster.fixed.contains(other),
    };
    let mut touched: BTreeSet<Part> = old.fixed.iter().chain(&new.fixed).copied().collect();
    for (before, after) in [(&old.public, &new.public), (&old.own, &new.own)] {
        for item in before.diff(after) {
            let (DiffItem::Add(host) | DiffItem::Remove(host)) = item;
            touched.insert(Part::Host(*host));
        }
    }
    let added = touched.iter().copied().filter(|part| has(new, part) && !has(old, part)).collect();
    let removed = touched.into_iter().filter(|part| has(old, part) && !has(new, part)).collect();
    (added, removed)
}
