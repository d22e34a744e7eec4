//! DestinationRules: by namespace and host. Several for one host are merged as Istio merges them: subsets add up, and
//! the traffic policy is that of the oldest which has one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ostro_api::destination_rule::DestinationRule;
use ostro_api::{Object, ObjectKey, Spec};
use ostro_names::{Host, Namespace};

use crate::changes::Touched;
use crate::key::Key;
use crate::model::{Age, TrafficRule, Visibility};
use crate::objects::{Index, Objects};
use crate::scope::{resolve_host, visibility};
use crate::sets::enter;
use crate::settings::Context;
use crate::snapshot::Snapshot;

/// Which DestinationRules there are for each host.
#[derive(Default)]
pub(crate) struct Rules {
    of: HashMap<ObjectKey, Host>,
    by_host: Index<(Namespace, Host), ObjectKey>,
}

impl Rules {
    /// Brings the rules of the dirty DestinationRules' hosts up to date.
    pub(crate) fn update(
        &mut self,
        dirty: &BTreeSet<ObjectKey>,
        objects: &Objects,
        context: &Context<'_>,
        snapshot: &mut Snapshot,
        touched: &mut Touched,
    ) {
        let mut hosts = BTreeSet::new();
        for key in dirty {
            let old = self.of.remove(key);
            let new = objects.get(key).and_then(|object| rule_host(object, context));
            if let Some(host) = old {
                self.by_host.remove(&(key.namespace, host), key);
            }
            if let Some(host) = new {
                self.by_host.insert((key.namespace, host), *key);
                self.of.insert(*key, host);
            }
            hosts.extend(old.into_iter().chain(new).map(|host| (key.namespace, host)));
        }
        for (namespace, host) in hosts {
            self.relist(namespace, host, (objects, context), snapshot, touched);
        }
    }

    fn relist(
        &self,
        namespace: Namespace,
        host: Host,
        (objects, context): (&Objects, &Context<'_>),
        snapshot: &mut Snapshot,
        touched: &mut Touched,
    ) {
        let objects = self.by_host.get(&(namespace, host)).filter_map(|key| objects.get(key));
        let mut rules: Vec<TrafficRule> = objects.filter_map(|object| rule(object, host, context)).collect();
        rules.sort_by_key(|rule| rule.age);
        let known = |rules: bool| if rules { BTreeSet::from([namespace]) } else { BTreeSet::new() };
        let before = known(snapshot.rules.contains_key(&(namespace, host)));
        let after = known(!rules.is_empty());
        enter(&mut snapshot.rule_hosts, host, (before, after), Key::RuleHosts, touched);
        touched.note(Key::Rules(namespace, host));
        if rules.is_empty() {
            snapshot.rules.remove(&(namespace, host));
        } else {
            snapshot.rules.insert((namespace, host), merge(rules).into_iter().map(Arc::new).collect());
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.of.is_empty() && self.by_host.is_empty()
    }
}

fn rule_host(object: &Object, context: &Context<'_>) -> Option<Host> {
    let Spec::DestinationRule(spec) = &object.spec else { return None };
    resolve_host(&spec.host, object.meta.namespace, context.domain)
}

fn rule(object: &Object, host: Host, context: &Context<'_>) -> Option<TrafficRule> {
    let Spec::DestinationRule(spec) = &object.spec else { return None };
    let namespace = object.meta.namespace;
    let selector = spec.workload_selector.as_ref().map(|selector| selector.match_labels.clone());
    let visibility = match selector {
        // A rule for some workloads is a matter of their namespace, whatever it exports to.
        Some(_) => Visibility::Namespaces(vec![namespace]),
        None => visibility(spec.export_to.iter().map(String::as_str), context.rule_export_to(), namespace),
    };
    Some(TrafficRule {
        age: Age::of(&object.meta),
        host,
        visibility,
        selector,
        spec: Arc::new((**spec).clone()),
    })
}

/// Merges rules, oldest first, with equal visibility and selector: subsets add up, the first of a name counts, and
/// the first traffic policy holds.
fn merge(rules: Vec<TrafficRule>) -> Vec<TrafficRule> {
    let mut merged: Vec<TrafficRule> = Vec::new();
    for rule in rules {
        let same = |other: &&mut TrafficRule| {
            (&other.visibility, &other.selector) == (&rule.visibility, &rule.selector)
        };
        match merged.iter_mut().find(same) {
            Some(first) => add(Arc::make_mut(&mut first.spec), &rule.spec),
            None => merged.push(rule),
        }
    }
    merged
}

fn add(first: &mut DestinationRule, next: &DestinationRule) {
    if first.traffic_policy.is_none() {
        first.traffic_policy.clone_from(&next.traffic_policy);
    }
    for subset in &next.subsets {
        if first.subsets.iter().all(|known| known.name != subset.name) {
            first.subsets.push(subset.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use ostro_api::Kind;
    use ostro_names::Name;

    use super::*;
    use crate::testing::{delete, host, mesh};

    const WEB: &str = "web.shop.svc.cluster.local";

    fn rule(name: &str, spec: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{host: web, {spec}}}\n---\n"
        )
    }

    fn subsets(rule: &TrafficRule) -> Vec<&str> {
        rule.spec.subsets.iter().map(|subset| subset.name.as_str()).collect()
    }

    #[test]
    fn rules_of_one_host_merge_oldest_first() {
        let random = "trafficPolicy: {loadBalancer: {simple: RANDOM}}";
        let robin = "trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}";
        let mut mesh = mesh(
            &(rule("a", "subsets: [{name: v1, labels: {version: v1}}]")
                + &rule(
                    "b",
                    &format!(
                        "{random}, subsets: [{{name: v1, labels: {{version: other}}}}, {{name: v2, labels: {{version: v2}}}}]"
                    ),
                )
                + &rule("c", robin)),
        );
        let merged = |mesh: &crate::Mesh| mesh.snapshot().rules(Namespace::new("shop"), host(WEB));
        let rules = merged(&mesh);
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0].age.name, Name::new("a"));
        assert_eq!(subsets(&rules[0]), ["v1", "v2"]);
        assert_eq!(rules[0].spec.subsets[0].labels.get("version").map(String::as_str), Some("v1"));
        let policy = rules[0].spec.traffic_policy.as_ref().unwrap().load_balancer.as_ref().unwrap();
        assert_eq!(policy.simple.map(|simple| simple.as_str()), Some("RANDOM"));
        delete(&mut mesh, Kind::DestinationRule, "shop", "a");
        assert_eq!(merged(&mesh)[0].age.name, Name::new("b"));
    }

    #[test]
    fn other_audiences_and_selectors_stay_apart() {
        let mesh = mesh(
            &(rule("a", "subsets: [{name: v1}]")
                + &rule("b", "exportTo: ['.'], subsets: [{name: v2}]")
                + &rule("c", "workloadSelector: {matchLabels: {app: x}}, subsets: [{name: v3}]")),
        );
        let rules = mesh.snapshot().rules(Namespace::new("shop"), host(WEB));
        assert_eq!(rules.iter().map(|rule| subsets(rule).join(",")).collect::<Vec<_>>(), ["v1", "v2", "v3"]);
        let own = Visibility::Namespaces(vec![Namespace::new("shop")]);
        assert_eq!(rules[2].visibility, own, "a rule with a selector is its namespace's own");
    }

    #[test]
    fn the_hosts_of_a_namespace_are_listed_while_they_have_rules() {
        let mut mesh = mesh(&rule("a", "subsets: [{name: v1}]"));
        let hosts = |mesh: &crate::Mesh| mesh.snapshot().rule_hosts(Namespace::new("shop"));
        assert!(hosts(&mesh).contains(&host(WEB)));
        delete(&mut mesh, Kind::DestinationRule, "shop", "a");
        assert!(hosts(&mesh).is_empty() && mesh.holds_nothing());
    }
}
