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

use ostro_mesh::{Answer, KeyId, Proxy, Reads};
use ostro_names::Name;
use ostro_telemetry::{Metrics, Typed};
use ostro_translate::{Part, ResourceType, Roster};

use crate::answers::{Asker, AttrId, Questions};
use crate::generator::Generator;
use crate::readers::{Ids, Readers};
use crate::resource::{Resource, Version};

/// What is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

    /// What is looked at before what: what decides over others first, then endpoints, which overtake the rest.
    pub fn rank(self) -> u8 {
        match self {
            Item::Roster(_) => 0,
            Item::Names(..) => 1,
            Item::Content(ResourceType::Endpoint, _) => 2,
            Item::Content(..) => Item::LAST_RANK,
        }
    }

    /// The rank of what endpoints overtake.
    pub const LAST_RANK: u8 = 3;
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

/// Values that are no longer true, and who is to resolve them again.
pub(crate) type Stale = HashMap<Item, Vec<u32>>;

#[derive(Debug, Default)]
struct Shape {
    questions: Box<[AttrId]>,
    variants: HashMap<Box<[Answer]>, Slot>,
}

/// The shapes of one item, which has a number while it has any.
#[derive(Debug)]
struct Shapes {
    id: u32,
    shapes: Vec<Shape>,
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
    items: HashMap<Item, Shapes>,
    /// By [`Shapes::id`].
    item_ids: Vec<Item>,
    free_ids: Vec<u32>,
    questions: Questions,
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
            item_ids: Vec::new(),
            free_ids: Vec::new(),
            questions: Questions::default(),
            variants: Vec::new(),
            free: Vec::new(),
            readers: Readers::default(),
            metrics,
        }
    }

    /// The value of `item` for the asked proxy, found or built, held by it from now on.
    pub fn resolve(&mut self, world: &G::World, asker: &mut Asker<'_>, item: Item) -> Value {
        let found = self.find(world, asker, item);
        if let Some(value) = found.and_then(|slot| self.hold(slot, asker.id)) {
            self.metrics.cache_hits.inc();
            return value;
        }
        self.metrics.cache_misses.inc();
        self.build(world, asker, item)
    }

    fn hold(&mut self, slot: Slot, holder: u32) -> Option<Value> {
        let variant = self.variants.get_mut(slot.0 as usize)?.as_mut()?;
        variant.holders.insert(holder);
        Some(variant.value.clone())
    }

    fn find(&self, world: &G::World, asker: &mut Asker<'_>, item: Item) -> Option<Slot> {
        self.items.get(&item)?.shapes.iter().find_map(|shape| {
            let answers = shape.questions.iter().map(|id| {
                let question = self.questions.attr(*id)?;
                Some(asker.ask(&self.generator, world, *id, question).0)
            });
            let answers: Vec<Answer> = answers.collect::<Option<_>>()?;
            shape.variants.get(answers.as_slice()).copied()
        })
    }

    fn build(&mut self, world: &G::World, asker: &mut Asker<'_>, item: Item) -> Value {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.variants.push(None);
            // 2^32 variants are out of reach: each takes some hundred bytes.
            Slot((self.variants.len() - 1) as u32)
        });
        let (value, reads) = self.generate(world, asker.proxy, item, slot);
        let (questions, answers) = self.register(world, asker, item, &reads);
        self.attach(item, slot, questions, answers.clone());
        for key in &reads.keys {
            self.readers.insert(*key, slot.0);
        }
        self.account(item.kind(), reads.keys.len(), 1);
        let mut holders = Ids::default();
        holders.insert(asker.id);
        let keys = reads.keys.into();
        let variant = Variant { item, value: value.clone(), keys, answers, holders, attached: true };
        if let Some(place) = self.variants.get_mut(slot.0 as usize) {
            *place = Some(variant);
        }
        value
    }

    /// Numbers the questions that were asked, and notes which of them have to be put again for `item`.
    fn register(
        &mut self,
        world: &G::World,
        asker: &mut Asker<'_>,
        item: Item,
        reads: &Reads,
    ) -> (Box<[AttrId]>, Box<[Answer]>) {
        let item = self.item_id(item);
        let mut questions = Vec::with_capacity(reads.attrs.len());
        for (question, _) in &reads.attrs {
            let id = self.questions.id(question.clone());
            if asker.ask(&self.generator, world, id, question).1 {
                self.questions.note_item(id, item);
            }
            questions.push(id);
        }
        (questions.into(), reads.attrs.iter().map(|(_, answer)| *answer).collect())
    }

    fn item_id(&mut self, item: Item) -> u32 {
        if let Some(shapes) = self.items.get(&item) {
            return shapes.id;
        }
        let id = match self.free_ids.pop() {
            Some(id) => id,
            None => {
                self.item_ids.push(item);
                (self.item_ids.len() - 1) as u32
            }
        };
        if let Some(place) = self.item_ids.get_mut(id as usize) {
            *place = item;
        }
        self.items.insert(item, Shapes { id, shapes: Vec::new() });
        id
    }

    fn attach(&mut self, item: Item, slot: Slot, questions: Box<[AttrId]>, answers: Box<[Answer]>) {
        let Some(Shapes { shapes, .. }) = self.items.get_mut(&item) else { return };
        match shapes.iter_mut().find(|shape| shape.questions == questions) {
            Some(shape) => drop(shape.variants.insert(answers, slot)),
            None => shapes.push(Shape { questions, variants: HashMap::from([(answers, slot)]) }),
        }
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

    /// Puts the questions again whose answers depend on `keys`, and adds what the connection has to resolve again.
    pub fn reselect(&self, world: &G::World, asker: &mut Asker<'_>, keys: &[KeyId], stale: &mut Stale) {
        for question in asker.ask_again(&self.generator, world, &self.questions, keys) {
            for item in self.questions.items(question) {
                if let Some(item) = self.item_ids.get(item as usize) {
                    stale.entry(*item).or_default().push(asker.id);
                }
            }
        }
    }

    /// Detaches everything that read one of `keys`, and adds who has to resolve it again.
    pub fn invalidate(&mut self, keys: &[KeyId], stale: &mut Stale) {
        for slot in self.readers.of(keys) {
            self.detach(Slot(slot));
            if let Some(Some(variant)) = self.variants.get(slot as usize) {
                stale.entry(variant.item).or_default().extend(variant.holders.sorted());
            }
        }
    }

    fn detach(&mut self, slot: Slot) {
        let Some(Some(variant)) = self.variants.get_mut(slot.0 as usize) else { return };
        if !std::mem::take(&mut variant.attached) {
            return;
        }
        let item = variant.item;
        let keys = std::mem::take(&mut variant.keys);
        let answers = std::mem::take(&mut variant.answers);
        self.forget(item, slot, &answers);
        for key in &keys {
            self.readers.remove(*key, slot.0);
        }
        self.account(item.kind(), keys.len(), -1);
    }

    /// Takes a variant out of its item's shapes, and what becomes empty with it.
    fn forget(&mut self, item: Item, slot: Slot, answers: &[Answer]) {
        let Some(Shapes { id, shapes }) = self.items.get_mut(&item) else { return };
        let id = *id;
        for shape in shapes.iter_mut() {
            if shape.variants.get(answers) == Some(&slot) {
                shape.variants.remove(answers);
            }
        }
        let gone: Vec<AttrId> = shapes
            .extract_if(.., |shape| shape.variants.is_empty())
            .flat_map(|shape| shape.questions.into_vec())
            .collect();
        let empty = shapes.is_empty();
        let asked: Vec<AttrId> = shapes.iter().flat_map(|shape| shape.questions.iter().copied()).collect();
        for question in gone.into_iter().filter(|question| !asked.contains(question)) {
            self.questions.forget_item(question, id);
        }
        if empty {
            self.items.remove(&item);
            self.free_ids.push(id);
        }
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
