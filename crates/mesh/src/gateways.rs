//! Gateways, in the order in which Istio settles conflicts between them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ostro_api::{ObjectKey, Spec};

use crate::changes::Touched;
use crate::key::Key;
use crate::model::{Age, GatewayRules};
use crate::objects::Objects;
use crate::snapshot::Snapshot;

/// All Gateways, by age.
#[derive(Default)]
pub(crate) struct Gateways {
    ages: HashMap<ObjectKey, Age>,
    by_age: BTreeMap<Age, Arc<GatewayRules>>,
}

impl Gateways {
    /// Brings the list of Gateways up to date.
    pub(crate) fn update(
        &mut self,
        dirty: &BTreeSet<ObjectKey>,
        objects: &Objects,
        snapshot: &mut Snapshot,
        touched: &mut Touched,
    ) {
        if dirty.is_empty() {
            return;
        }
        for key in dirty {
            if let Some(age) = self.ages.remove(key) {
                self.by_age.remove(&age);
            }
            let Some(object) = objects.get(key) else { continue };
            if let Spec::Gateway(spec) = &object.spec {
                let age = Age::of(&object.meta);
                self.ages.insert(*key, age);
                self.by_age.insert(age, Arc::new(GatewayRules { age, spec: Arc::new(spec.clone()) }));
            }
        }
        touched.note(Key::Gateways);
        snapshot.gateways = self.by_age.values().cloned().collect();
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.ages.is_empty() && self.by_age.is_empty()
    }
}
