//! Every encoded resource, roster and list of names that some connection holds, and the virtual hosts in them, each built
//! once for all proxies that agree on it.
//!
//! An item (a resource by type and name, a roster, a part's names, a virtual host) has *shapes*: the ordered list of
//! questions that its generator asked the proxy. A shape has *variants* by the answers. A look-up asks the proxy each
//! shape's questions and takes the variant under its answers; if there is none, one is built, which may add a shape.
//!
//! Virtual hosts are items that no connection holds: route configurations, *tables*, join them. They are looked up, or
//! built, while the table is, for the same proxy, and all tables with the same variant share it. When a virtual host
//! changes, so do the tables that join it; they are joined again when they are looked up.
//!
//! This file looks up and builds; [`crate::store`] keeps, and [`crate::table`] joins.

use std::sync::Arc;

use bytes::Bytes;
use ostro_mesh::{Answer, Attr, KeyId, Reads};
use ostro_names::Name;
use ostro_telemetry::Metrics;
use ostro_translate::ResourceType;

use crate::answers::{Asker, AttrId};
use crate::generator::Generator;
use crate::item::{Item, Named, Rostered, Slot, Stale, Value};
use crate::resource::{Resource, Version};
use crate::store::{Found, New, Store};
use crate::table::{Again, Table};

/// The cache. Not shared: the one task that distributes owns it.
pub(crate) struct Cache<G> {
    generator: G,
    store: Store,
    metrics: Metrics,
}

impl<G: Generator> Cache<G> {
    pub fn new(generator: G, metrics: Metrics) -> Self {
        Cache { generator, store: Store::new(metrics.clone()), metrics }
    }

    /// The value of `item` for the asked proxy, found or built, held by it from now on.
    pub fn resolve(&mut self, world: &G::World, asker: &mut Asker<'_>, item: Item) -> Value {
        let holder = asker.id;
        let Cache { generator, store, metrics } = self;
        let (slot, value) = Builder { generator, store, metrics, world, asker }.find_or_build(item);
        self.store.hold(slot, holder);
        value
    }

    /// `holder` no longer holds what is in `slot`.
    pub fn release(&mut self, slot: Slot, holder: u32) {
        self.store.release(slot, holder);
    }

    /// Puts the questions again whose answers depend on `keys`, and adds what the connection has to resolve again.
    pub fn reselect(&self, world: &G::World, asker: &mut Asker<'_>, keys: &[KeyId], stale: &mut Stale) {
        for question in asker.ask_again(&self.generator, world, &self.store.questions, keys) {
            for item in self.store.asking(question) {
                stale.entry(item).or_default().push(asker.id);
            }
        }
    }

    /// Where something has read one of `keys`, to be [renewed](Self::renew) or [expired](Self::expire).
    pub fn readers_of(&self, keys: &[KeyId]) -> Vec<Slot> {
        self.store.readers_of(keys)
    }

    /// The virtual host in `slot`, and a connection that has it in one of its tables and for which it can be built again.
    pub fn virtual_host(&self, slot: Slot) -> Option<(Item, u32)> {
        self.store.virtual_host(slot)
    }

    /// Builds a virtual host again for one that has it. Most of what a virtual host reads does not show in it, and then its
    /// tables are not touched.
    pub fn renew(
        &mut self,
        world: &G::World,
        asker: &mut Asker<'_>,
        slot: Slot,
        item: Item,
        stale: &mut Stale,
    ) {
        let Cache { generator, store, metrics } = self;
        let (_, new) = Builder { generator, store, metrics, world, asker }.build(item, slot);
        self.store.renew(slot, new, stale);
    }

    /// Detaches what is in `slot`, and adds who has to resolve it again.
    pub fn expire(&mut self, slot: Slot, stale: &mut Stale) {
        self.store.expire(slot, stale);
    }

    /// How many variants are held.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.store.len()
    }
}

/// Finds and builds for one proxy.
pub(crate) struct Builder<'b, 'a, G: Generator> {
    generator: &'b G,
    pub store: &'b mut Store,
    metrics: &'b Metrics,
    world: &'b G::World,
    asker: &'b mut Asker<'a>,
}

impl<G: Generator> Builder<'_, '_, G> {
    /// Whoever called is to hold it.
    pub fn find_or_build(&mut self, item: Item) -> (Slot, Value) {
        let Builder { generator, store, metrics, world, asker } = self;
        let answer = |id, question: &Attr| asker.ask(*generator, world, id, question).0;
        if let Some(Found { slot, value, unjoined }) = store.find(item, answer) {
            if !unjoined {
                metrics.cache_hits.inc();
                return (slot, value.clone());
            }
            if let Some(value) = self.rejoin(item, slot) {
                return (slot, value);
            }
            // It has other virtual hosts now. Who holds it is about to resolve again.
            self.store.detach(slot);
        }
        self.build_new(item)
    }

    fn build_new(&mut self, item: Item) -> (Slot, Value) {
        let slot = self.store.reserve();
        let (value, new) = self.build(item, slot);
        self.store.insert(slot, new);
        (slot, value)
    }

    /// What is to be put in `slot`.
    fn build(&mut self, item: Item, slot: Slot) -> (Value, New) {
        self.metrics.cache_misses.inc();
        let (value, reads, joined) = self.generate(item, slot);
        let (questions, answers) = self.register(item, &reads);
        let new = New { item, value: value.clone(), keys: reads.keys.into(), questions, answers, joined };
        (value, new)
    }

    /// The value, what was read for it, and the virtual hosts that it joins.
    fn generate(&mut self, item: Item, slot: Slot) -> (Value, Reads, Vec<Slot>) {
        let (generator, world, proxy) = (self.generator, self.world, self.asker.proxy);
        let (value, reads) = match item {
            Item::Roster(kind) => {
                let (roster, reads) = generator.roster(world, proxy, kind);
                (Value::Roster(Arc::new(Rostered { slot, roster })), reads)
            }
            Item::Names(kind, part) => {
                let (names, reads) = generator.part_names(world, proxy, kind, part);
                (Value::Names(Arc::new(Named { slot, names })), reads)
            }
            Item::VirtualHost(host, port) => {
                let (virtual_host, reads) = generator.virtual_host(world, proxy, host, port);
                (Value::VirtualHost(virtual_host.map(Arc::new)), reads)
            }
            Item::Content(kind, name) => return self.content(kind, name, slot),
        };
        (value, reads, Vec::new())
    }

    fn content(&mut self, kind: ResourceType, name: Name, slot: Slot) -> (Value, Reads, Vec<Slot>) {
        let (generator, world, proxy) = (self.generator, self.world, self.asker.proxy);
        let mut table = Table::new(self, slot);
        let (bytes, reads) = generator.content(world, proxy, &mut table, kind, name);
        let joined = table.into_joined();
        (self.resource(kind, slot, bytes), reads, joined)
    }

    fn resource(&self, kind: ResourceType, slot: Slot, bytes: Option<Bytes>) -> Value {
        let version = bytes.as_ref().map_or(Version::ABSENT, |bytes| Version::of(bytes));
        let endpoints = match (&bytes, kind) {
            (Some(bytes), ResourceType::Cluster) => self.generator.endpoints_of(bytes),
            _ => None,
        };
        Value::Content(Arc::new(Resource { slot, version, bytes, endpoints }))
    }

    /// Joins the table in `slot` again, of the virtual hosts that it had, as they are now. Nothing else of what it read has
    /// changed, nor any answer. `None` if it would now have others.
    fn rejoin(&mut self, item: Item, slot: Slot) -> Option<Value> {
        let Item::Content(kind, name) = item else { return None };
        self.metrics.cache_misses.inc();
        let mut again = Again::new(self.store, slot);
        let (bytes, reads) = self.generator.content(self.world, self.asker.proxy, &mut again, kind, name);
        if !again.is_whole() || !self.store.asks(slot, reads.attrs.iter().map(|(question, _)| question)) {
            return None;
        }
        let value = self.resource(kind, slot, bytes);
        self.store.rejoin(slot, value.clone(), reads.keys);
        Some(value)
    }

    /// Numbers the questions that were asked, and notes which of them have to be put again for `item`.
    fn register(&mut self, item: Item, reads: &Reads) -> (Box<[AttrId]>, Box<[Answer]>) {
        let Builder { generator, store, world, asker, .. } = self;
        let mut questions = Vec::with_capacity(reads.attrs.len());
        for (question, _) in &reads.attrs {
            let id = store.questions.id(question);
            if asker.ask(*generator, world, id, question).1 {
                store.note_asking(item, id);
            }
            questions.push(id);
        }
        (questions.into(), reads.attrs.iter().map(|(_, answer)| *answer).collect())
    }
}
