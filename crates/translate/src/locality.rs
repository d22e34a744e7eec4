//! Preference by place: endpoints grouped by locality, with weights and priorities as
//! `localityLbSetting` and its defaults say.
//!
//! The proxy's own place is asked only where the answer matters, so that clusters without such preference are the same
//! for every proxy.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use ostro_api::destination_rule::{LocalityDistribute, LocalityFailover, LocalityLbSetting};
use ostro_mesh::View;
use ostro_mesh::model::{Endpoint, Locality};

use crate::policy::Policy;

/// Endpoints of one place and priority.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub place: Locality,
    pub endpoints: Vec<Endpoint>,
    pub weight: u32,
    /// 0 is tried first; without gaps over all groups.
    pub priority: u32,
}

impl Group {
    fn new(place: Locality, endpoints: Vec<Endpoint>) -> Self {
        let weight = endpoints.iter().fold(0u32, |sum, endpoint| sum.saturating_add(endpoint.weight.max(1)));
        Group { place, endpoints, weight, priority: 0 }
    }
}

/// The groups of a cluster, in order of place, then priority.
pub fn arrange(
    view: &View<'_>,
    by_place: BTreeMap<Locality, Vec<Endpoint>>,
    policy: &Policy<'_>,
) -> Vec<Group> {
    let groups: Vec<Group> =
        by_place.into_iter().map(|(place, endpoints)| Group::new(place, endpoints)).collect();
    let Some(setting) = setting(policy, &view.mesh_config().locality_lb_setting) else { return groups };
    if !setting.distribute.is_empty() {
        return match place_of_proxy(view) {
            Some(place) => distribute(groups, &place, &setting.distribute),
            None => groups,
        };
    }
    // Without outlier detection no priority would ever be found unhealthy, and failover would never happen.
    if policy.outlier_detection.is_none() {
        return groups;
    }
    prioritise(view, groups, setting)
}

/// Whether the proxy is to choose between places by their weights: where shares are written, and where places fail over
/// to each other. Elsewhere weights by place would get in the way of the balancer's own choice.
pub fn is_weighted(policy: &Policy<'_>, mesh: &LocalityLbSetting) -> bool {
    setting(policy, mesh).is_some_and(|setting| {
        let fails_over = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
        !setting.distribute.is_empty() || (fails_over && policy.outlier_detection.is_some())
    })
}

/// A rule's setting, unless it is switched off; else the mesh's, likewise.
fn setting<'a>(policy: &Policy<'a>, mesh: &'a LocalityLbSetting) -> Option<&'a LocalityLbSetting> {
    let own = policy.load_balancer.and_then(|lb| lb.locality_lb_setting.as_ref());
    let setting = own.unwrap_or(mesh);
    (setting.enabled != Some(false)).then_some(setting)
}

/// `None` if the proxy does not know where it is: then no place is nearer than another.
fn place_of_proxy(view: &View<'_>) -> Option<Locality> {
    let (region, zone, subzone) = view.locality();
    let place = Locality { region: region.to_owned(), zone: zone.to_owned(), subzone: subzone.to_owned() };
    (place != Locality::default()).then_some(place)
}

fn prioritise(view: &View<'_>, groups: Vec<Group>, setting: &LocalityLbSetting) -> Vec<Group> {
    let by_labels = !setting.failover_priority.is_empty();
    let mut groups = groups;
    if by_labels {
        groups = groups
            .into_iter()
            .flat_map(|group| split_by_labels(view, group, &setting.failover_priority))
            .collect();
    }
    // One place for all endpoints makes all alike, whoever asks.
    let by_place = (!by_labels || !setting.failover.is_empty()) && groups.len() > 1;
    if let Some(own) = by_place.then(|| place_of_proxy(view)).flatten() {
        for group in &mut groups {
            group.priority = group.priority * 5 + distance(&own, &group.place, &setting.failover);
        }
    }
    close_gaps(&mut groups);
    groups
}

/// How far a place is: 0 same subzone, 1 same zone, 2 same region, 3 elsewhere, 4 elsewhere and not where failover from
/// the proxy's region is to go.
fn distance(own: &Locality, place: &Locality, failover: &[LocalityFailover]) -> u32 {
    if own.region != place.region {
        return match failover.iter().find(|rule| rule.from == own.region) {
            Some(rule) if rule.to != place.region => 4,
            _ => 3,
        };
    }
    match (own.zone == place.zone, own.subzone == place.subzone) {
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 2,
    }
}

/// Splits a place by how many of the leading labels agree with the proxy's: all, all but the last, and so on.
fn split_by_labels(view: &View<'_>, group: Group, labels: &[String]) -> Vec<Group> {
    let mut split: BTreeMap<u32, Vec<Endpoint>> = BTreeMap::new();
    for endpoint in group.endpoints {
        let agreeing = labels.iter().take_while(|label| {
            let (key, wanted) = match label.split_once('=') {
                Some((key, value)) => (key, value),
                None => (label.as_str(), label_of_proxy(view, label)),
            };
            label_of_endpoint(&endpoint, key) == wanted
        });
        let priority = labels.len() - agreeing.count();
        split.entry(priority as u32).or_default().push(endpoint);
    }
    let group_of = |(priority, endpoints)| Group { priority, ..Group::new(group.place.clone(), endpoints) };
    split.into_iter().map(group_of).collect()
}

/// A label of the proxy. Those that tell a place are the place's, whether the pod carries them or not.
fn label_of_proxy(view: &View<'_>, key: &str) -> &'static str {
    let place = |part| match part {
        PlacePart::Region => view.locality().0,
        PlacePart::Zone => view.locality().1,
        PlacePart::Subzone => view.locality().2,
    };
    let known = place_part(key).map(place).filter(|text| !text.is_empty());
    known.unwrap_or_else(|| view.label(key))
}

/// The same of an endpoint.
fn label_of_endpoint<'a>(endpoint: &'a Endpoint, key: &str) -> &'a str {
    let place = |part| match part {
        PlacePart::Region => endpoint.locality.region.as_str(),
        PlacePart::Zone => endpoint.locality.zone.as_str(),
        PlacePart::Subzone => endpoint.locality.subzone.as_str(),
    };
    let known = place_part(key).map(place).filter(|text| !text.is_empty());
    known.unwrap_or_else(|| endpoint.labels.get(key).map_or("", String::as_str))
}

/// What a label tells of a place.
#[derive(Debug, Clone, Copy)]
enum PlacePart {
    Region,
    Zone,
    Subzone,
}

fn place_part(label: &str) -> Option<PlacePart> {
    match label {
        "topology.kubernetes.io/region" => Some(PlacePart::Region),
        "topology.kubernetes.io/zone" => Some(PlacePart::Zone),
        "topology.istio.io/subzone" => Some(PlacePart::Subzone),
        _ => None,
    }
}

fn close_gaps(groups: &mut [Group]) {
    let mut present: Vec<u32> = groups.iter().map(|group| group.priority).collect();
    present.sort_unstable();
    present.dedup();
    for group in groups {
        group.priority = present.partition_point(|priority| *priority < group.priority) as u32;
    }
}

/// Fixed shares by place; places that no share names get nothing.
fn distribute(groups: Vec<Group>, own: &Locality, rules: &[LocalityDistribute]) -> Vec<Group> {
    let Some(rule) = rules.iter().find(|rule| covers(&rule.from, own)) else { return groups };
    // The narrowest pattern first: what it names is not the wildcard's.
    let mut shares: Vec<(&String, u32)> = rule.to.iter().map(|(pattern, share)| (pattern, *share)).collect();
    shares.sort_by_key(|(pattern, _)| (Reverse(exact_parts(pattern)), *pattern));
    let mut assigned: Vec<Option<u32>> = vec![None; groups.len()];
    for (pattern, share) in shares {
        let free = |(index, group): (usize, &Group)| {
            (assigned.get(index) == Some(&None) && covers(pattern, &group.place)).then_some(index)
        };
        let members: Vec<usize> = groups.iter().enumerate().filter_map(free).collect();
        let weight_of = |index: &usize| groups.get(*index).map_or(0, |group| u64::from(group.weight));
        let total: u64 = members.iter().map(weight_of).sum();
        for index in &members {
            let part = (weight_of(index) * u64::from(share)).div_ceil(total.max(1));
            if let Some(slot) = assigned.get_mut(*index) {
                *slot = Some(u32::try_from(part).unwrap_or(u32::MAX));
            }
        }
    }
    let with_share = groups.into_iter().zip(assigned);
    with_share
        .filter_map(|(group, weight)| {
            weight.filter(|weight| *weight > 0).map(|weight| Group { weight, ..group })
        })
        .collect()
}

/// Whether `region/zone/subzone`, cut short or with `*` for a part, covers a place.
fn covers(pattern: &str, place: &Locality) -> bool {
    let parts = [&place.region, &place.zone, &place.subzone];
    pattern.split('/').zip(parts).all(|(pattern, part)| pattern == "*" || pattern == part)
}

fn exact_parts(pattern: &str) -> usize {
    pattern.split('/').filter(|part| *part != "*").count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn place(text: &str) -> Locality {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Locality { region: next(), zone: next(), subzone: next() }
    }

    fn group(text: &str, weight: u32) -> Group {
        Group { place: place(text), endpoints: Vec::new(), weight, priority: 0 }
    }

    #[test]
    fn distance_is_by_the_first_part_that_differs() {
        let own = place("r1/z1/s1");
        let failover = [LocalityFailover { from: "r1".into(), to: "r2".into() }];
        let cases =
            [("r1/z1/s1", 0), ("r1/z1/s2", 1), ("r1/z2/s1", 2), ("r2/z1/s1", 3), ("r3/z1/s1", 4), ("", 4)];
        for (other, expected) in cases {
            assert_eq!(distance(&own, &place(other), &failover), expected, "{other}");
        }
        assert_eq!(distance(&own, &place("r3/z1/s1"), &[]), 3);
    }

    #[test]
    fn priorities_have_no_gaps() {
        let mut groups = vec![group("a", 1), group("b", 1), group("c", 1)];
        for (group, priority) in groups.iter_mut().zip([4, 1, 4]) {
            group.priority = priority;
        }
        close_gaps(&mut groups);
        assert_eq!(groups.iter().map(|group| group.priority).collect::<Vec<_>>(), [1, 0, 1]);
    }

    #[test]
    fn shares_go_to_the_narrowest_pattern_and_unnamed_places_get_none() {
        let rules = [LocalityDistribute {
            from: "r1/*".into(),
            to: BTreeMap::from([("*".to_owned(), 10), ("r1/z1".to_owned(), 60), ("r1/z2/*".to_owned(), 30)]),
        }];
        let groups =
            vec![group("r1/z1/s1", 1), group("r1/z1/s2", 2), group("r1/z2/s1", 5), group("r2/z1", 7)];
        let got = distribute(groups.clone(), &place("r1/z9"), &rules);
        assert_eq!(got.iter().map(|group| group.weight).collect::<Vec<_>>(), [20, 40, 30, 10]);
        // Another origin is under no rule.
        assert_eq!(distribute(groups.clone(), &place("r9"), &rules), groups);
        let only = [LocalityDistribute { from: "*".into(), to: BTreeMap::from([("r2".to_owned(), 100)]) }];
        let got = distribute(groups, &place("r9"), &only);
        assert_eq!(got.iter().map(|group| group.place.clone()).collect::<Vec<_>>(), [place("r2/z1")]);
    }

    #[test]
    fn a_group_weighs_what_its_endpoints_weigh() {
        let endpoint = Endpoint {
            service_namespace: Default::default(),
            service_object: Default::default(),
            service_registry: ostro_mesh::model::Registry::Kubernetes,
            port_name: Default::default(),
            address: ostro_mesh::model::EndpointAddress::Dns("a".into()),
            port: 80,
            labels: Arc::default(),
            locality: Arc::default(),
            health: ostro_mesh::model::Health::Healthy,
            weight: 3,
            service_account: None,
            workload: Arc::default(),
            mtls: false,
        };
        assert_eq!(Group::new(place(""), vec![endpoint.clone(), endpoint]).weight, 6);
    }
}
