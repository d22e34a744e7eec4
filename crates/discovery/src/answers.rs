//! What proxies answer, remembered per connection.
//!
//! Most questions are about the proxy alone, and their answers never change. Some answers depend on the mesh too ("its
//! namespace, if that namespace has a DestinationRule for this host"). Those are remembered with the keys they depend on:
//! when such a key changes the question is put again, and only where the answer differs is anything resolved anew.
//!
//! Invariant (the contract of [`crate::Generator::answer`]): which keys an answer depends on is a function of question and proxy.

use std::collections::HashMap;

use ostro_mesh::{Answer, Attr, KeyId, Proxy};
use ostro_names::Spreading;

use crate::generator::Generator;
use crate::readers::{Ids, Readers};

/// A question, numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AttrId(u32);

/// All questions ever asked. It grows with the names that accepted configuration has used, as the table of names does.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    ids: HashMap<Attr, AttrId>,
    attrs: Vec<Attr>,
    /// Items with a shape that asks the question; kept only for questions whose answers depend on the mesh.
    asked_by: HashMap<AttrId, Ids>,
}

impl Questions {
    pub fn id(&mut self, question: &Attr) -> AttrId {
        if let Some(id) = self.ids.get(question) {
            return *id;
        }
        let id = AttrId(self.attrs.len() as u32);
        self.attrs.push(question.clone());
        self.ids.insert(question.clone(), id);
        id
    }

    /// The number of a question that was asked before.
    pub fn known(&self, question: &Attr) -> Option<AttrId> {
        self.ids.get(question).copied()
    }

    pub fn attr(&self, id: AttrId) -> Option<&Attr> {
        self.attrs.get(id.0 as usize)
    }

    pub fn note_item(&mut self, id: AttrId, item: u32) {
        self.asked_by.entry(id).or_default().insert(item);
    }

    pub fn forget_item(&mut self, id: AttrId, item: u32) {
        if let Some(items) = self.asked_by.get_mut(&id) {
            items.remove(item);
            if items.is_empty() {
                self.asked_by.remove(&id);
            }
        }
    }

    pub fn items(&self, id: AttrId) -> Vec<u32> {
        self.asked_by.get(&id).map(Ids::sorted).unwrap_or_default()
    }
}

type Fast<K, V> = HashMap<K, V, Spreading>;

/// One proxy's answers.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// With whether they depend on the mesh.
    known: Fast<AttrId, (Answer, bool)>,
    by_key: Fast<KeyId, Vec<AttrId>>,
}

impl Answers {
    /// The keys on which any answer depends.
    pub fn keys(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.by_key.keys().copied()
    }
}

/// A connection as it is asked.
pub(crate) struct Asker<'a> {
    pub id: u32,
    pub proxy: &'a Proxy,
    pub answers: &'a mut Answers,
    /// Key to the connections with an answer that depends on it.
    pub selection: &'a mut Readers,
}

impl Asker<'_> {
    /// The answer, and whether it depends on the mesh.
    pub fn ask<G: Generator>(
        &mut self,
        generator: &G,
        world: &G::World,
        id: AttrId,
        question: &Attr,
    ) -> (Answer, bool) {
        if let Some(known) = self.answers.known.get(&id) {
            return *known;
        }
        let mut keys: Vec<KeyId> = Vec::new();
        let answer = generator.answer(world, self.proxy, question, &mut |key| keys.push(key));
        keys.sort_unstable();
        keys.dedup();
        let known = (answer, !keys.is_empty());
        self.answers.known.insert(id, known);
        for key in keys {
            self.answers.by_key.entry(key).or_default().push(id);
            self.selection.insert(key, self.id);
        }
        known
    }

    /// Puts the questions again whose answers depend on `keys`; those answered differently now.
    pub fn ask_again<G: Generator>(
        &mut self,
        generator: &G,
        world: &G::World,
        questions: &Questions,
        keys: &[KeyId],
    ) -> Vec<AttrId> {
        let Answers { known, by_key } = &mut *self.answers;
        let concerned = keys.iter().filter_map(|key| by_key.get(key)).flatten();
        let mut changed = Vec::new();
        for id in concerned {
            let Some(question) = questions.attr(*id) else { continue };
            let answer = generator.answer(world, self.proxy, question, &mut |_| {});
            if known.insert(*id, (answer, true)) != Some((answer, true)) {
                changed.push(*id);
            }
        }
        changed
    }
}
