//! Any history, and what a model without counts, indices and short cuts makes of it.

use proptest::prelude::*;

use super::*;

/// A version of a root: its bytes, and what it needs.
type Version = (Bytes, BTreeSet<Key>);

/// Everything is worked out anew after each step.
#[derive(Debug, Default)]
struct Model {
    active: BTreeMap<Key, Version>,
    next: BTreeMap<Key, Version>,
    leaves: BTreeMap<Key, Bytes>,
    /// Leaves that were answered since something began to need them.
    answered: BTreeSet<Key>,
    cds_answered: bool,
    lds_answered: bool,
    phase: u8,
    /// Amid a response the start does not go on.
    amid: bool,
}

#[derive(Clone, Debug)]
struct Change {
    kind: Kind,
    world: bool,
    /// Name, tag (a version, or "bad"), what it needs.
    resources: Vec<(u8, u8, BTreeSet<u8>)>,
    removed: BTreeSet<u8>,
}

impl Change {
    fn bytes(&self, name: u8, tag: u8, needs: &BTreeSet<u8>) -> (Bytes, bool, BTreeSet<Key>) {
        let bad = tag == 0;
        let tag = if bad { "bad".to_owned() } else { tag.to_string() };
        let name = name.to_string();
        match self.kind {
            Kind::CLUSTER => {
                let service = needs.first().map(ToString::to_string);
                let bytes = cluster(&name, &tag, service.as_deref());
                (bytes, bad, service.map(|service| (Kind::ENDPOINT, service.into())).into_iter().collect())
            }
            Kind::LISTENER => {
                let words: Vec<String> = needs.iter().map(ToString::to_string).collect();
                // A version that differs in bytes alone, or is bad.
                let tail = if bad { "bad".to_owned() } else { " ".repeat(tag.parse().unwrap()) };
                let routes = words.iter().map(|route| (Kind::ROUTE, Arc::from(route.as_str())));
                (listener(&name, &format!("{} {tail}", words.join(" "))), bad, routes.collect())
            }
            Kind::ENDPOINT => (endpoints(&name, &tag), bad, BTreeSet::new()),
            _ => (routes(&name, &tag), bad, BTreeSet::new()),
        }
    }

    fn delivery(&self) -> Delivery {
        let item = |(name, tag, needs): &(u8, u8, BTreeSet<u8>)| Item {
            name: name.to_string().into(),
            version: "v".into(),
            bytes: Some(self.bytes(*name, *tag, needs).0),
            ttl: None,
        };
        Delivery {
            whole: self.world,
            items: self.resources.iter().map(item).collect(),
            removed: if self.world {
                Vec::new()
            } else {
                self.removed.iter().map(ToString::to_string).collect()
            },
            ..Delivery::default()
        }
    }
}

impl Model {
    fn needs(&self) -> BTreeSet<Key> {
        self.active.values().chain(self.next.values()).flat_map(|(_, needs)| needs.iter().cloned()).collect()
    }

    fn apply(&mut self, change: &Change) {
        let is_root = change.kind == Kind::CLUSTER || change.kind == Kind::LISTENER;
        if change.kind == Kind::LISTENER && self.phase == 0 {
            return;
        }
        let present: BTreeSet<Key> =
            change.resources.iter().map(|(name, ..)| (change.kind, name.to_string().into())).collect();
        let held: BTreeSet<Key> = self.active.keys().chain(self.next.keys()).cloned().collect();
        self.amid = true;
        if change.kind == Kind::LISTENER {
            self.take_away(change, held.clone(), &present);
        }
        for (name, tag, needs) in &change.resources {
            let key: Key = (change.kind, name.to_string().into());
            let (bytes, bad, needs) = change.bytes(*name, *tag, needs);
            if is_root {
                self.root(key, bytes, bad, needs);
            } else if self.needs().contains(&key) {
                self.answered.insert(key.clone());
                if !bad {
                    self.leaves.insert(key, bytes);
                }
            }
            self.settle();
        }
        if change.kind != Kind::LISTENER {
            self.take_away(change, held, &present);
        }
        self.cds_answered |= change.kind == Kind::CLUSTER;
        self.lds_answered |= change.kind == Kind::LISTENER;
        self.amid = false;
        self.settle();
        self.forget();
    }

    fn take_away(&mut self, change: &Change, held: BTreeSet<Key>, present: &BTreeSet<Key>) {
        let is_root = change.kind == Kind::CLUSTER || change.kind == Kind::LISTENER;
        let gone: BTreeSet<Key> = match (change.world, is_root) {
            (true, true) => {
                held.into_iter().filter(|key| key.0 == change.kind && !present.contains(key)).collect()
            }
            (true, false) => BTreeSet::new(),
            (false, _) => {
                change.removed.iter().map(|name| (change.kind, Arc::from(name.to_string()))).collect()
            }
        };
        for key in gone {
            self.active.remove(&key);
            self.next.remove(&key);
            if key.0 == Kind::ENDPOINT && self.needs().contains(&key) {
                self.answered.insert(key);
            }
            self.settle();
        }
    }

    fn root(&mut self, key: Key, bytes: Bytes, bad: bool, needs: BTreeSet<Key>) {
        if self.next.get(&key).is_some_and(|next| next.0 == bytes) {
            return;
        }
        if self.active.get(&key).is_some_and(|active| active.0 == bytes) {
            self.next.remove(&key);
        } else if !bad {
            self.next.insert(key, (bytes, needs));
        }
    }

    /// Whatever can come into force does.
    fn settle(&mut self) {
        loop {
            let can = |(key, (_, needs)): &(&Key, &Version)| {
                let phase = if key.0 == Kind::LISTENER { 1 } else { 0 };
                self.phase >= phase && needs.iter().all(|need| self.answered.contains(need))
            };
            let Some(key) = self.next.iter().find(can).map(|(key, _)| key.clone()) else { break };
            let version = self.next.remove(&key).unwrap();
            self.active.insert(key, version);
        }
        if self.amid {
            return;
        }
        let waits = |kind: Kind| self.next.keys().any(|key| key.0 == kind);
        if self.phase == 0 && self.cds_answered && !waits(Kind::CLUSTER) {
            self.phase = 1;
        }
        if self.phase == 1 && self.lds_answered && !waits(Kind::LISTENER) {
            self.phase = 2;
        }
    }

    /// What nothing needs is gone; at the end of a response.
    fn forget(&mut self) {
        let needs = self.needs();
        self.answered.retain(|key| needs.contains(key));
        self.leaves.retain(|key, _| needs.contains(key));
    }

    fn in_force(&self) -> BTreeMap<Key, Bytes> {
        let roots = self.active.iter().map(|(key, (bytes, _))| (key.clone(), bytes.clone()));
        roots.chain(self.leaves.clone()).collect()
    }
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let kind = prop_oneof![
        3 => Just(Kind::CLUSTER),
        3 => Just(Kind::ENDPOINT),
        2 => Just(Kind::LISTENER),
        3 => Just(Kind::ROUTE),
    ];
    let resource = (0..4u8, 0..4u8, proptest::collection::btree_set(0..4u8, 0..3));
    let change = (
        kind,
        any::<bool>(),
        proptest::collection::vec(resource, 0..4),
        proptest::collection::btree_set(0..4u8, 0..2),
    );
    let change = change.prop_map(|(kind, world, resources, removed)| {
        let mut seen = BTreeSet::new();
        let resources: Vec<_> = resources.into_iter().filter(|(name, ..)| seen.insert(*name)).collect();
        let removed = removed.into_iter().filter(|name| !seen.contains(name)).collect();
        Change { kind, world, resources, removed }
    });
    proptest::collection::vec(change, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// After every step the consumer has in force exactly what the model has; exactly what is needed is asked for; and the
    /// records say the same.
    #[test]
    fn any_history(changes in changes()) {
        let now = Moment::now();
        let mut store = Store::new(Recorder::default(), wildcards(None));
        store.begin(now);
        let mut model = Model::default();
        let mut asked = BTreeSet::new();
        for change in changes {
            let outcome = store.deliver(change.kind, Origin::Ads, change.delivery(), None, now);
            let bad = change.resources.iter().filter(|(_, tag, _)| *tag == 0).count();
            prop_assert!(outcome.refused.len() <= bad);
            model.apply(&change);
            let expected = model.in_force();
            prop_assert_eq!(&store.consumer.committed, &expected);
            for ask in store.take_asks() {
                match ask {
                    Ask::Want(key, _) => prop_assert!(asked.insert(key)),
                    Ask::Unwant(key, _) => prop_assert!(asked.remove(&key)),
                    Ask::All(..) => {}
                }
            }
            prop_assert_eq!(&asked, &model.needs());
            prop_assert_eq!(store.consumer.phases.len(), usize::from(model.phase));
            let mut recorded = BTreeMap::new();
            for kind in [Kind::CLUSTER, Kind::ENDPOINT, Kind::LISTENER, Kind::ROUTE] {
                store.records.each(kind, &mut |record| {
                    if let Some(held) = &record.active {
                        recorded.insert((kind, record.name.clone()), held.bytes.clone());
                    }
                });
            }
            prop_assert_eq!(recorded, expected);
            let waiting: Vec<Key> = store.records.unready().into_iter().map(|(key, _)| key).collect();
            prop_assert_eq!(waiting, model.next.keys().cloned().collect::<Vec<_>>());
            prop_assert_eq!(store.holds(Kind::CLUSTER), model.phase > 0 && model.next.keys().any(|key| key.0 == Kind::CLUSTER));
        }
    }
}
