//! Every encoded resource, roster and list of names that some connection holds, each built once for all proxies that
//! agree on it.
//!
//! An item (a resource by type and name, a roster, a part's names) has *shapes*: the ordered list of questions that its
//! generator asked the proxy. A shape has *variants* by the answers. A look-up asks the proxy each shape's questions and
//! takes the variant under its answers; if there is none, one is built, which may add a shape.
//!
//! Invariants:
//! - a variant lives as long as somebody holds it, so the cache is bounded by what is subscribed;
//! - a variant that is found by a look-up is current: those that read a changed key were detached first. A detached one is
//!   found no more, and goes when its last holder has resolved again.

use std::collections::HashMap;
use std::sync::Arc;

use ostro_mesh::{Answer, Attr, KeyId, Proxy, Reads};
use ostro_names::Name;
use ostro_telemetry::{Metrics, Typed};
use ostro_translate::{Part, ResourceType, Roster};

use crate::generator::Generator;
use crate::readers::{Ids, Readers};
use crate::resource::{Resource, Version};

/// What is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Item {
    Roster(ResourceType),
    Names(ResourceType, Part),
    Content(ResourceType, Name),
}

impl Item {
    pub fn kind(self) -> ResourceType {
        match self {
            Item::Roster(kind) | Item::Names(kind, _) | Item::Content(kind, _) => kind,
        }
    }
}

/// Where a variant is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Slot(u32);

/// A roster, and where it is kept.
#[derive(Debug)]
pub(crate) struct Rostered {
    pub slot: Slot,
    pub roster: Roster,
}

/// The names of a part, and where they are kept.
#[derive(Debug)]
pub(crate) struct Named {
    pub slot: Slot,
    pub names: Vec<Name>,
}

/// A cached value.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Roster(Arc<Rostered>),
    Names(Arc<Named>),
    Content(Arc<Resource>),
}

/// Values that are no longer true, and who holds them.
#[derive(Debug)]
pub(crate) struct Dirty {
    pub item: Item,
    /// Connections, ascending.
    pub holders: Vec<u32>,
}

#[derive(Debug, Default)]
struct Shape {
    questions: Box<[Attr]>,
    variants: HashMap<Box<[Answer]>, Slot>,
}

#[derive(Debug)]
struct Variant {
    item: Item,
    value: Value,
    keys: Box<[KeyId]>,
    answers: Box<[Answer]>,
    holders: Ids,
    /// Whether look-ups find it.
    attached: bool,
}

/// The cache. Not shared: the one task that distributes owns it.
pub(crate) struct Cache<G> {
    generator: G,
    items: HashMap<Item, Vec<Shape>>,
    variants: Vec<Option<Variant>>,
    free: Vec<Slot>,
    readers: Readers,
    metrics: Metrics,
}

impl<G: Generator> Cache<G> {
    pub fn new(generator: G, metrics: Metrics) -> Self {
        Cache {
            generator,
            items: HashMap::new(),
            variants: Vec::new(),
            free: Vec::new(),
            readers: Readers::default(),
            metrics,
        }
    }

    /// The value of `item` for `proxy`, found or built, held by `holder` from now on. The keys on which the proxy's
    /// answers depend go to `selection`: when one of them changes, this connection has to resolve anew.
    pub fn resolve(
        &mut self,
        world: &G::World,
        proxy: &Proxy,
        item: Item,
        holder: u32,
        selection: &mut dyn FnMut(KeyId),
    ) -> Value {
        let found = self.find(world, proxy, item, selection);
        if let Some(value) = found.and_then(|slot| self.hold(slot, holder)) {
            self.metrics.cache_hits.inc();
            return value;
        }
        self.metrics.cache_misses.inc();
        self.build(world, proxy, item, holder, selection)
    }

    fn hold(&mut self, slot: Slot, holder: u32) -> Option<Value> {
        let variant = self.variants.get_mut(slot.0 as usize)?.as_mut()?;
        variant.holders.insert(holder);
        Some(variant.value.clone())
    }

    fn find(
        &self,
        world: &G::World,
        proxy: &Proxy,
        item: Item,
        selection: &mut dyn FnMut(KeyId),
    ) -> Option<Slot> {
        self.items.get(&item)?.iter().find_map(|shape| {
            let answers: Vec<Answer> = shape
                .questions
                .iter()
                .map(|question| self.generator.answer(world, proxy, question, selection))
                .collect();
            shape.variants.get(answers.as_slice()).copied()
        })
    }

    fn build(
        &mut self,
        world: &G::World,
        proxy: &Proxy,
        item: Item,
        holder: u32,
        selection: &mut dyn FnMut(KeyId),
    ) -> Value {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.variants.push(None);
            // 2^32 variants are out of reach: each takes some hundred bytes.
            Slot((self.variants.len() - 1) as u32)
        });
        let (value, reads) = self.generate(world, proxy, item, slot);
        for (question, _) in &reads.attrs {
            self.generator.answer(world, proxy, question, selection);
        }
        self.insert(item, slot, value.clone(), reads, holder);
        value
    }

    fn generate(&self, world: &G::World, proxy: &Proxy, item: Item, slot: Slot) -> (Value, Reads) {
        match item {
            Item::Roster(kind) => {
                let (roster, reads) = self.generator.roster(world, proxy, kind);
                (Value::Roster(Arc::new(Rostered { slot, roster })), reads)
            }
            Item::Names(kind, part) => {
                let (names, reads) = self.generator.part_names(world, proxy, kind, part);
                (Value::Names(Arc::new(Named { slot, names })), reads)
            }
            Item::Content(kind, name) => {
                let (bytes, reads) = self.generator.content(world, proxy, kind, name);
                let version = bytes.as_ref().map_or(Version::ABSENT, |bytes| Version::of(bytes));
                let endpoints = match (&bytes, kind) {
                    (Some(bytes), ResourceType::Cluster) => self.generator.endpoints_of(bytes),
                    _ => None,
                };
                (Value::Content(Arc::new(Resource { slot, version, bytes, endpoints })), reads)
            }
        }
    }

    fn insert(&mut self, item: Item, slot: Slot, value: Value, reads: Reads, holder: u32) {
        let (questions, answers): (Vec<Attr>, Vec<Answer>) = reads.attrs.into_iter().unzip();
        let answers: Box<[Answer]> = answers.into();
        let shapes = self.items.entry(item).or_default();
        match shapes.iter_mut().find(|shape| *shape.questions == *questions) {
            Some(shape) => {
                shape.variants.insert(answers.clone(), slot);
            }
            None => {
                let variants = HashMap::from([(answers.clone(), slot)]);
                shapes.push(Shape { questions: questions.into(), variants });
            }
        }
        for key in &reads.keys {
            self.readers.insert(*key, slot.0);
        }
        self.account(item.kind(), reads.keys.len(), 1);
        let keys = reads.keys.into();
        let mut holders = Ids::default();
        holders.insert(holder);
        let variant = Variant { item, value, keys, answers, holders, attached: true };
        if let Some(place) = self.variants.get_mut(slot.0 as usize) {
            *place = Some(variant);
        }
    }

    /// `holder` no longer holds what is in `slot`.
    pub fn release(&mut self, slot: Slot, holder: u32) {
        let Some(Some(variant)) = self.variants.get_mut(slot.0 as usize) else { return };
        variant.holders.remove(holder);
        if !variant.holders.is_empty() {
            return;
        }
        self.detach(slot);
        if let Some(place) = self.variants.get_mut(slot.0 as usize) {
            *place = None;
            self.free.push(slot);
        }
    }

    /// Detaches everything that read one of `keys`; in the order of items, so that what follows is deterministic.
    pub fn invalidate(&mut self, keys: &[KeyId]) -> Vec<Dirty> {
        let mut dirty: Vec<Dirty> = Vec::new();
        for slot in self.readers.of(keys) {
            self.detach(Slot(slot));
            if let Some(Some(variant)) = self.variants.get(slot as usize) {
                dirty.push(Dirty { item: variant.item, holders: variant.holders.sorted() });
            }
        }
        dirty.sort_by_key(|dirty| dirty.item);
        dirty
    }

    fn detach(&mut self, slot: Slot) {
        let Some(Some(variant)) = self.variants.get_mut(slot.0 as usize) else { return };
        if !std::mem::take(&mut variant.attached) {
            return;
        }
        let item = variant.item;
        let keys = std::mem::take(&mut variant.keys);
        if let Some(shapes) = self.items.get_mut(&item) {
            for shape in shapes.iter_mut() {
                if shape.variants.get(&variant.answers) == Some(&slot) {
                    shape.variants.remove(&variant.answers);
                }
            }
            shapes.retain(|shape| !shape.variants.is_empty());
            if shapes.is_empty() {
                self.items.remove(&item);
            }
        }
        for key in &keys {
            self.readers.remove(*key, slot.0);
        }
        self.account(item.kind(), keys.len(), -1);
    }

    fn account(&self, kind: ResourceType, edges: usize, sign: i64) {
        let label = Typed { r#type: kind.short() };
        let edges = sign * i64::try_from(edges).unwrap_or(i64::MAX);
        let bytes = (size_of::<KeyId>() + Readers::EDGE_BYTES) as i64;
        self.metrics.index_edges.get_or_create(&label).add(edges);
        self.metrics.index_bytes.get_or_create(&label).add(edges * bytes);
        self.metrics.resources.get_or_create(&label).add(sign);
    }

    /// How many variants are held.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.variants.len() - self.free.len()
    }
}

const _: () = assert!(size_of::<KeyId>() + Readers::EDGE_BYTES <= 16, "an edge costs at most sixteen bytes");
