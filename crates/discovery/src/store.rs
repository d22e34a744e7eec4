//! What the cache keeps: variants in slots, found by item and answers, each with what it read and who holds it.
//!
//! Invariants:
//! - a variant lives as long as somebody holds it: connections, or, of a virtual host, the tables that join it. So what is
//!   kept is bounded by what is subscribed;
//! - a variant that is found by a look-up is current: those that read a changed key were detached first, or, of virtual
//!   hosts, built again. A detached one is found no more, and goes when its last holder has resolved again. A table whose
//!   virtual hosts changed is still found, marked to be joined again before anybody is given it;
//! - a table's keys are its own: what its virtual hosts read is known of them, by the edge between their slots. Their
//!   questions are among its questions, unless its own answers decide them, and then the keys on which those answers
//!   depend are among its keys. So whoever takes the table by its answers would have been given the same virtual hosts.

use std::collections::HashMap;
use std::sync::Arc;

use ostro_mesh::{Answer, Attr, KeyId};
use ostro_names::Spreading;
use ostro_telemetry::{Metrics, Typed};
use ostro_translate::EncodedVirtualHost;

use crate::answers::{AttrId, Questions};
use crate::item::{Item, Slot, Stale, Value};
use crate::readers::{Ids, Readers};

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
    /// Whether virtual hosts that it joins have changed since.
    unjoined: bool,
}

/// What a look-up found.
#[derive(Debug)]
pub(crate) struct Found<'s> {
    pub slot: Slot,
    pub value: &'s Value,
    /// It is a table, and only its virtual hosts are current.
    pub unjoined: bool,
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
    pub fn find(&self, item: Item, mut answer: impl FnMut(AttrId, &Attr) -> Answer) -> Option<Found<'_>> {
        let shapes = &self.items.get(&item)?.shapes;
        let slot = shapes.iter().find_map(|shape| {
            let answers = shape.questions.iter().map(|id| Some(answer(*id, self.questions.attr(*id)?)));
            let answers: Vec<Answer> = answers.collect::<Option<_>>()?;
            shape.variants.get(answers.as_slice()).copied()
        })?;
        let Variant { new, unjoined, .. } = self.variant(slot)?;
        Some(Found { slot, value: &new.value, unjoined: *unjoined })
    }

    /// The virtual hosts that the table in `slot` joins.
    pub fn joined(&self, slot: Slot) -> &[Slot] {
        self.variant(slot).map_or(&[], |variant| &variant.new.joined)
    }

    /// The virtual host in `slot`, if it is this one and current; there may be none for this host and port.
    pub fn current(&self, slot: Slot, item: Item) -> Option<&Option<Arc<EncodedVirtualHost>>> {
        let variant = self.variant(slot).filter(|variant| variant.attached && variant.new.item == item)?;
        match &variant.new.value {
            Value::VirtualHost(virtual_host) => Some(virtual_host),
            Value::Roster(_) | Value::Names(_) | Value::Content(_) => None,
        }
    }

    /// The questions of what is in `slot`.
    pub fn questions_of(&self, slot: Slot) -> &[AttrId] {
        self.variant(slot).map_or(&[], |variant| &variant.new.questions)
    }

    /// Whether what is in `slot` asked all of these.
    pub fn asks<'q>(&self, slot: Slot, questions: impl Iterator<Item = &'q Attr>) -> bool {
        let asked = self.questions_of(slot);
        questions
            .into_iter()
            .all(|question| self.questions.known(question).is_some_and(|id| asked.contains(&id)))
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
            *place = Some(Variant { new, holders: Ids::default(), attached: true, unjoined: false });
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
    /// the same questions. Only if it differs are there tables to be joined again, which are added to `stale`.
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
        tables.into_iter().for_each(|table| self.unjoin(Slot(table), stale));
    }

    /// Marks a table whose virtual hosts have changed. What is marked or detached already was added to `stale` then.
    fn unjoin(&mut self, slot: Slot, stale: &mut Stale) {
        let Some(variant) = self.variant_mut(slot).filter(|variant| variant.attached) else { return };
        if !std::mem::replace(&mut variant.unjoined, true) {
            stale.entry(variant.new.item).or_default().extend(variant.holders.sorted());
        }
    }

    /// Puts what was joined again in the place of the table in `slot`, which read `keys` for it and asked nothing new.
    pub fn rejoin(&mut self, slot: Slot, value: Value, keys: Vec<KeyId>) {
        let Some(variant) = self.variant_mut(slot).filter(|variant| variant.attached) else { return };
        variant.unjoined = false;
        variant.new.value = value;
        let (item, old) = (variant.new.item, &variant.new.keys);
        let more: Vec<KeyId> = keys.into_iter().filter(|key| !old.contains(key)).collect();
        if more.is_empty() {
            return;
        }
        // What is no longer read is kept: at worst the table is built for nothing once.
        variant.new.keys = old.iter().copied().chain(more.iter().copied()).collect();
        for key in &more {
            self.readers.insert(*key, slot.0);
        }
        self.count(item, 0, more.len());
    }

    /// Detaches a variant; the tables that join it are to be joined again. What is detached already was added to `stale`
    /// then.
    pub fn expire(&mut self, slot: Slot, stale: &mut Stale) {
        if !self.detach(slot) {
            return;
        }
        let Some(variant) = self.variant(slot) else { return };
        let holders = variant.holders.sorted();
        match variant.new.item {
            Item::VirtualHost(..) => holders.into_iter().for_each(|table| self.unjoin(Slot(table), stale)),
            item => stale.entry(item).or_default().extend(holders),
        }
    }

    /// Takes a variant from where look-ups find it; whether it was there.
    pub fn detach(&mut self, slot: Slot) -> bool {
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
