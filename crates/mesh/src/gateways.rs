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

#[cfg(test)]
mod tests {
    use ostro_api::Kind;

    use crate::key::Key;
    use crate::testing::{delete, mesh, upsert};

    fn gateway(name: &str, extra: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: shop{extra}}}\nspec: {{selector: {{istio: edge}}, servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}]}}\n---\n"
        )
    }

    #[test]
    fn gateways_come_oldest_first() {
        let old = ", creationTimestamp: '2020-01-01T00:00:00Z'";
        let mut mesh = mesh(&(gateway("a", "") + &gateway("b", old)));
        let names = |mesh: &crate::Mesh| {
            mesh.snapshot().gateways.iter().map(|gateway| gateway.age.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(names(&mesh), ["b", "a"]);
        let (_, changes) = upsert(&mut mesh, &gateway("b", ""));
        assert_eq!(names(&mesh), ["a", "b"]);
        assert_eq!(changes.iter().map(|id| id.key()).collect::<Vec<_>>(), [Key::Gateways]);
        delete(&mut mesh, Kind::Gateway, "shop", "a");
        delete(&mut mesh, Kind::Gateway, "shop", "b");
        assert!(mesh.holds_nothing());
    }
}
