//! What the cache keeps: variants in slots, found by item and answers, each with what it read and who holds it.
//!
//! Invariants:
//! - a variant lives as long as somebody holds it: connections, or, of a virtual host, the tables that join it. So what is
//!   kept is bounded by what is subscribed;
//! - a variant that is found by a look-up is current: those that read a changed key were detached first, and so were the
//!   tables that join a detached virtual host. A detached one is found no more, and goes when its last holder has resolved
//!   again;
//! - a table's keys are its own: what its virtual hosts read is known of them, by the edge between their slots. Their
//!   questions are among its questions, unless its own answers decide them, and then the keys on which those answers
//!   depend are among its keys. So whoever takes the table by its answers would have been given the same virtual hosts.

use std::collections::HashMap;
use std::sync::Arc;

use ostro_mesh::{Answer, Attr, KeyId};
use ostro_names::{Host, Name, Spreading};
use ostro_telemetry::{Metrics, Typed};
use ostro_translate::{EncodedVirtualHost, Part, ResourceType, Roster};

use crate::answers::{AttrId, Questions};
use crate::readers::{Ids, Readers};
use crate::resource::Resource;

/// What is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Item {
    Roster(ResourceType),
    Names(ResourceType, Part),
    /// Held by tables only, so never stale for a connection.
    VirtualHost(Host, u16),
    Content(ResourceType, Name),
}

impl Item {
    /// Under which type it is counted in the metrics.
    fn counted_as(self) -> &'static str {
        match self {
            Item::Roster(kind) | Item::Names(kind, _) | Item::Content(kind, _) => kind.short(),
            Item::VirtualHost(..) => VIRTUAL_HOSTS,
        }
    }

    /// What is looked at before what: what decides over others first, then endpoints, which overtake the rest.
    pub fn rank(self) -> u8 {
        match self {
            Item::Roster(_) => 0,
            Item::Names(..) => 1,
            Item::Content(ResourceType::Endpoint, _) => 2,
            Item::VirtualHost(..) | Item::Content(..) => Item::LAST_RANK,
        }
    }

    /// The rank of what endpoints overtake.
    pub const LAST_RANK: u8 = 3;
}

/// The type under which virtual hosts are counted: that of the service that would carry them alone.
const VIRTUAL_HOSTS: &str = "vhds";

/// Where a variant is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Slot(u32);

impl Slot {
    /// As a holder of others.
    pub fn index(self) -> u32 {
        self.0
    }
}

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
    /// `None`: there is none for this host and port, which is knowledge too.
    VirtualHost(Option<Arc<EncodedVirtualHost>>),
    Content(Arc<Resource>),
}

impl Value {
    /// Whether both are the same virtual host.
    fn is_virtual_host(&self, other: &Value) -> bool {
        matches!((self, other), (Value::VirtualHost(one), Value::VirtualHost(other)) if one == other)
    }
}

/// Values that are no longer true, and which connections are to resolve them again.
pub(crate) type Stale = HashMap<Item, Vec<u32>>;

#[derive(Debug)]
struct Shape {
    questions: Box<[AttrId]>,
    variants: HashMap<Box<[Answer]>, Slot, Spreading>,
}

/// The shapes of one item, which has a number while it has any.
#[derive(Debug)]
struct Shapes {
    id: u32,
    shapes: Vec<Shape>,
}

/// A variant that was built.
#[derive(Debug)]
pub(crate) struct New {
    pub item: Item,
    pub value: Value,
    pub keys: Box<[KeyId]>,
    pub questions: Box<[AttrId]>,
    pub answers: Box<[Answer]>,
    /// The virtual hosts that it joins, distinct, held by it already.
    pub joined: Vec<Slot>,
}

#[derive(Debug)]
struct Variant {
    new: New,
    /// Connections; of a virtual host, the slots of tables.
    holders: Ids,
    /// Whether look-ups find it.
    attached: bool,
}

/// The variants.
#[derive(Debug)]
pub(crate) struct Store {
    pub questions: Questions,
    items: HashMap<Item, Shapes, Spreading>,
    /// By [`Shapes::id`].
    item_ids: Vec<Item>,
    free_ids: Vec<u32>,
    variants: Vec<Option<Variant>>,
    free: Vec<Slot>,
    readers: Readers,
    metrics: Metrics,
}

impl Store {
    pub fn new(metrics: Metrics) -> Self {
        Store {
            questions: Questions::default(),
            items: HashMap::default(),
            item_ids: Vec::new(),
            free_ids: Vec::new(),
            variants: Vec::new(),
            free: Vec::new(),
            readers: Readers::default(),
            metrics,
        }
    }

    fn variant(&self, slot: Slot) -> Option<&Variant> {
        self.variants.get(slot.0 as usize)?.as_ref()
    }

    fn variant_mut(&mut self, slot: Slot) -> Option<&mut Variant> {
        self.variants.get_mut(slot.0 as usize)?.as_mut()
    }

    /// The variant of `item` under these answers.
    pub fn find(
        &self,
        item: Item,
        mut answer: impl FnMut(AttrId, &Attr) -> Answer,
    ) -> Option<(Slot, &Value)> {
        let shapes = &self.items.get(&item)?.shapes;
        let slot = shapes.iter().find_map(|shape| {
            let answers = shape.questions.iter().map(|id| Some(answer(*id, self.questions.attr(*id)?)));
            let answers: Vec<Answer> = answers.collect::<Option<_>>()?;
            shape.variants.get(answers.as_slice()).copied()
        })?;
        Some((slot, &self.variant(slot)?.new.value))
    }

    /// The questions of what is in `slot`.
    pub fn questions_of(&self, slot: Slot) -> &[AttrId] {
        self.variant(slot).map_or(&[], |variant| &variant.new.questions)
    }

    /// A slot to be filled by [`insert`](Self::insert).
    pub fn reserve(&mut self) -> Slot {
        self.free.pop().unwrap_or_else(|| {
            self.variants.push(None);
            // 2^32 variants are out of reach: each takes some hundred bytes.
            Slot((self.variants.len() - 1) as u32)
        })
    }

    /// Fills a slot. Nobody holds it yet.
    pub fn insert(&mut self, slot: Slot, new: New) {
        self.item_id(new.item);
        if let Some(Shapes { shapes, .. }) = self.items.get_mut(&new.item) {
            let (questions, answers) = (new.questions.clone(), new.answers.clone());
            match shapes.iter_mut().find(|shape| shape.questions == questions) {
                Some(shape) => drop(shape.variants.insert(answers, slot)),
                None => shapes.push(Shape { questions, variants: HashMap::from_iter([(answers, slot)]) }),
            }
        }
        for key in &new.keys {
            self.readers.insert(*key, slot.0);
        }
        self.count(new.item, 1, new.keys.len() + new.joined.len());
        if let Some(place) = self.variants.get_mut(slot.0 as usize) {
            *place = Some(Variant { new, holders: Ids::default(), attached: true });
        }
    }

    /// `holder` holds what is in `slot` from now on; whether it did not already.
    pub fn hold(&mut self, slot: Slot, holder: u32) -> bool {
        self.variant_mut(slot).is_some_and(|variant| variant.holders.insert(holder))
    }

    /// `holder` no longer holds what is in `slot`. The last one takes it with it, and what it joins.
    pub fn release(&mut self, slot: Slot, holder: u32) {
        let Some(variant) = self.variant_mut(slot) else { return };
        variant.holders.remove(holder);
        if !variant.holders.is_empty() {
            return;
        }
        self.detach(slot);
        let Some(variant) = self.variants.get_mut(slot.0 as usize).and_then(Option::take) else { return };
        self.free.push(slot);
        self.uncount(variant.new.item, 0, variant.new.joined.len());
        for joined in variant.new.joined {
            self.release(joined, slot.0);
        }
    }

    /// Where something has read one of `keys`.
    pub fn readers_of(&self, keys: &[KeyId]) -> Vec<Slot> {
        self.readers.of(keys).into_iter().map(Slot).collect()
    }

    /// The item in `slot`, if it is a virtual host, and a connection that has it in one of its tables.
    pub fn virtual_host(&self, slot: Slot) -> Option<(Item, u32)> {
        let variant = self.variant(slot)?;
        let Item::VirtualHost(..) = variant.new.item else { return None };
        let table = self.variant(Slot(variant.holders.any()?))?;
        Some((variant.new.item, table.holders.any()?))
    }

    /// Puts a virtual host that was built again in the place of what is in `slot`, if they are under the same answers to
    /// the same questions. Only if it differs are the tables that join it detached and added to `stale`.
    pub fn renew(&mut self, slot: Slot, new: New, stale: &mut Stale) {
        let Some(variant) = self.variant_mut(slot).filter(|variant| variant.attached) else { return };
        let old = &mut variant.new;
        if (&old.questions, &old.answers) != (&new.questions, &new.answers) {
            return self.expire(slot, stale);
        }
        let differs = !old.value.is_virtual_host(&new.value);
        let unread = std::mem::replace(&mut old.keys, new.keys.clone());
        if differs {
            old.value = new.value;
        }
        let (item, tables) = (old.item, if differs { variant.holders.sorted() } else { Vec::new() });
        self.uncount(item, 0, unread.len());
        self.count(item, 0, new.keys.len());
        for key in unread {
            self.readers.remove(key, slot.0);
        }
        for key in new.keys {
            self.readers.insert(key, slot.0);
        }
        tables.into_iter().for_each(|table| self.expire(Slot(table), stale));
    }

    /// Detaches a variant and the tables that join it. What is detached already was added to `stale` then.
    pub fn expire(&mut self, slot: Slot, stale: &mut Stale) {
        if !self.detach(slot) {
            return;
        }
        let Some(variant) = self.variant(slot) else { return };
        let holders = variant.holders.sorted();
        match variant.new.item {
            // Once: tables join virtual hosts, and those join nothing.
            Item::VirtualHost(..) => holders.into_iter().for_each(|table| self.expire(Slot(table), stale)),
            item => stale.entry(item).or_default().extend(holders),
        }
    }

    /// Takes a variant from where look-ups find it; whether it was there.
    fn detach(&mut self, slot: Slot) -> bool {
        let Some(variant) = self.variant_mut(slot) else { return false };
        if !std::mem::take(&mut variant.attached) {
            return false;
        }
        let item = variant.new.item;
        let keys = std::mem::take(&mut variant.new.keys);
        let answers = std::mem::take(&mut variant.new.answers);
        self.forget(item, slot, &answers);
        for key in &keys {
            self.readers.remove(*key, slot.0);
        }
        self.uncount(item, 1, keys.len());
        true
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

    /// Notes that `item` has to be resolved again by those who answer `question` differently one day. A virtual host has
    /// not: its tables ask the same, or know.
    pub fn note_asking(&mut self, item: Item, question: AttrId) {
        if !matches!(item, Item::VirtualHost(..)) {
            let id = self.item_id(item);
            self.questions.note_item(question, id);
        }
    }

    /// The items that have to be resolved again by those who answer `question` differently now.
    pub fn asking(&self, question: AttrId) -> Vec<Item> {
        let ids = self.questions.items(question).into_iter();
        ids.filter_map(|id| self.item_ids.get(id as usize)).copied().collect()
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

    fn count(&self, item: Item, variants: i64, edges: usize) {
        let label = Typed { r#type: item.counted_as() };
        let edges = i64::try_from(edges).unwrap_or(i64::MAX);
        self.metrics.index_edges.get_or_create(&label).add(edges);
        self.metrics.index_bytes.get_or_create(&label).add(edges * EDGE_BYTES);
        self.metrics.resources.get_or_create(&label).add(variants);
    }

    fn uncount(&self, item: Item, variants: i64, edges: usize) {
        let label = Typed { r#type: item.counted_as() };
        let edges = i64::try_from(edges).unwrap_or(i64::MAX);
        self.metrics.index_edges.get_or_create(&label).add(-edges);
        self.metrics.index_bytes.get_or_create(&label).add(-edges * EDGE_BYTES);
        self.metrics.resources.get_or_create(&label).add(-variants);
    }

    /// How many variants are held.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.variants.len() - self.free.len()
    }
}

/// One edge: four bytes at the reader (a key, or the slot of a virtual host), and its place in a set of readers.
const EDGE_BYTES: i64 = (size_of::<KeyId>() + Readers::EDGE_BYTES) as i64;

const _: () = assert!(EDGE_BYTES <= 16, "an edge costs at most sixteen bytes");
const _: () = assert!(size_of::<Slot>() == size_of::<KeyId>(), "both sorts of edge cost the same");
