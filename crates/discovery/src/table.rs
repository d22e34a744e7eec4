//! Where a table gets its virtual hosts while it is joined.

use std::collections::HashSet;
use std::sync::Arc;

use ostro_mesh::Attr;
use ostro_names::{Host, Spreading};
use ostro_translate::EncodedVirtualHost;

use crate::answers::AttrId;
use crate::cache::Builder;
use crate::generator::{Generator, VirtualHosts};
use crate::item::{Item, Slot, Value};
use crate::store::Store;

/// A new table: each virtual host is looked up, or built, and held.
pub(crate) struct Table<'t, 'b, 'a, G: Generator> {
    builder: &'t mut Builder<'b, 'a, G>,
    slot: Slot,
    joined: Vec<Slot>,
    /// Questions that were put to the table too.
    asked: HashSet<AttrId, Spreading>,
}

impl<'t, 'b, 'a, G: Generator> Table<'t, 'b, 'a, G> {
    /// The table that will be in `slot`.
    pub fn new(builder: &'t mut Builder<'b, 'a, G>, slot: Slot) -> Self {
        Table { builder, slot, joined: Vec::new(), asked: HashSet::default() }
    }

    /// The virtual hosts that it holds now.
    pub fn into_joined(self) -> Vec<Slot> {
        self.joined
    }
}

impl<G: Generator> VirtualHosts for Table<'_, '_, '_, G> {
    fn get(&mut self, host: Host, port: u16, ask: &mut dyn FnMut(&Attr)) -> Option<Arc<EncodedVirtualHost>> {
        let (slot, value) = self.builder.find_or_build(Item::VirtualHost(host, port));
        let store = &mut *self.builder.store;
        if store.hold(slot, self.slot.0) {
            self.joined.push(slot);
        }
        for id in store.questions_of(slot) {
            if self.asked.insert(*id)
                && let Some(question) = store.questions.attr(*id)
            {
                ask(question);
            }
        }
        match value {
            Value::VirtualHost(virtual_host) => virtual_host,
            Value::Roster(_) | Value::Names(_) | Value::Content(_) => None,
        }
    }
}

/// A table that is joined again, of the virtual hosts that it holds, in their order. What they ask it asks already.
pub(crate) struct Again<'s> {
    store: &'s Store,
    joined: std::slice::Iter<'s, Slot>,
    /// So far the virtual hosts were those that it holds.
    same: bool,
}

impl<'s> Again<'s> {
    /// The table in `slot`.
    pub fn new(store: &'s Store, slot: Slot) -> Self {
        Again { store, joined: store.joined(slot).iter(), same: true }
    }

    /// Whether it was joined of the virtual hosts that it holds, all of them and no other.
    pub fn is_whole(&self) -> bool {
        self.same && self.joined.len() == 0
    }
}

impl VirtualHosts for Again<'_> {
    fn get(&mut self, host: Host, port: u16, _: &mut dyn FnMut(&Attr)) -> Option<Arc<EncodedVirtualHost>> {
        let next = self.joined.next().filter(|_| self.same);
        match next.and_then(|slot| self.store.current(*slot, Item::VirtualHost(host, port))) {
            Some(virtual_host) => virtual_host.clone(),
            None => {
                self.same = false;
                None
            }
        }
    }
}
