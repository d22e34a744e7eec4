//! Choice of hosts, against what it is defined to be.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config::{
    ConsistentHashingLbConfig, LocalityConfigSpecifier, LocalityWeightedLbConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    CommonLbConfig, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig,
    RoundRobinLbConfig, SlowStartConfig,
};
use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use envoy_types::pb::envoy::r#type::v3::Percent;
use ostro_engine::balance::{Availability, Loads, NothingResolved};
use ostro_engine::retry::Tried;
use ostro_engine::{Choice, Picker, Priority, Upstream};
use proptest::prelude::*;
use support::{Locality, at, cluster, endpoints, number, number64, seconds, upstream};

const NOW: Duration = Duration::from_secs(1_000);

/// Any numbers, the same each time.
fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn shares(upstream: &Arc<Upstream>, turns: u32, choice: &Choice<'_>) -> BTreeMap<String, u32> {
    let mut picker = Picker::new(Arc::clone(upstream), 5);
    let mut random = random(1);
    let mut shares = BTreeMap::new();
    for _ in 0..turns {
        let host = picker.choose(choice, NOW, &mut random);
        *shares.entry(host.map_or("none".to_owned(), |host| host.name.to_string())).or_default() += 1;
    }
    shares
}

#[test]
fn round_robin_takes_turns_and_minds_weights() {
    let even = upstream(cluster("c"), &endpoints(&[Locality::of(&[1, 1, 1, 1])]));
    assert_eq!(shares(&even, 400, &Choice::default()).into_values().collect::<Vec<_>>(), [100; 4]);
    let uneven = upstream(cluster("c"), &endpoints(&[Locality::of(&[1, 2, 5])]));
    let shares = shares(&uneven, 800, &Choice::default());
    for (weight, share) in [1.0, 2.0, 5.0].iter().zip(shares.values()) {
        assert!((f64::from(*share) - 100.0 * weight).abs() <= 3.0, "{shares:?}");
    }
}

#[test]
fn least_requests_prefers_the_idle_host_and_divides_weights_by_load() {
    let mut proto = cluster("c");
    proto.lb_policy = LbPolicy::LeastRequest as i32;
    let even = upstream(proto.clone(), &endpoints(&[Locality::of(&[1, 1, 1])]));
    let busy = Arc::clone(even.snapshot().hosts().next().unwrap());
    let permits: Vec<_> = (0..10).map(|_| even.request(&busy, Priority::Default, NOW).unwrap()).collect();
    let counts = shares(&even, 9_000, &Choice::default());
    // Of two choices among three, only both being the busy one choose it: 1 of 9.
    let share = f64::from(counts[&*busy.name]) / 9_000.0;
    assert!((share - 1.0 / 9.0).abs() < 0.02, "{counts:?}");
    drop(permits);
    let uneven = upstream(proto, &endpoints(&[Locality::of(&[1, 3])]));
    let heavy = Arc::clone(uneven.snapshot().hosts().nth(1).unwrap());
    let _permits: Vec<_> = (0..2).map(|_| uneven.request(&heavy, Priority::Default, NOW).unwrap()).collect();
    // 3 / (2 + 1) is as much as 1 / (0 + 1).
    let counts = shares(&uneven, 1_000, &Choice::default());
    assert!(counts.values().all(|count| (*count as i64 - 500).abs() < 5), "{counts:?}");
}

#[test]
fn a_full_scan_finds_the_host_with_fewest_requests() {
    use envoy_types::pb::envoy::extensions::load_balancing_policies::least_request::v3::{
        LeastRequest, least_request::SelectionMethod,
    };
    let mut proto = cluster("c");
    let config = LeastRequest { selection_method: SelectionMethod::FullScan as i32, ..Default::default() };
    proto.load_balancing_policy = Some(support::policy(&config));
    let upstream = upstream(proto, &endpoints(&[Locality::of(&[1; 5])]));
    let hosts: Vec<_> = upstream.snapshot().hosts().cloned().collect();
    let _permits: Vec<_> =
        hosts.iter().skip(1).map(|host| upstream.request(host, Priority::Default, NOW).unwrap()).collect();
    assert_eq!(shares(&upstream, 50, &Choice::default()), [(hosts[0].name.to_string(), 50)].into());
}

#[test]
fn random_is_even() {
    let mut proto = cluster("c");
    proto.lb_policy = LbPolicy::Random as i32;
    let upstream = upstream(proto, &endpoints(&[Locality::of(&[1, 9, 1, 1])]));
    let shares = shares(&upstream, 8_000, &Choice::default());
    assert!(shares.values().all(|share| (1_800..2_200).contains(share)), "{shares:?}");
}

#[test]
fn a_new_host_begins_slowly() {
    let slow = SlowStartConfig { slow_start_window: seconds(100), ..Default::default() };
    let mut proto = cluster("c");
    proto.lb_config =
        Some(LbConfig::RoundRobinLbConfig(RoundRobinLbConfig { slow_start_config: Some(slow) }));
    let upstream = upstream(proto, &endpoints(&[Locality::of(&[1])]));
    let later = NOW + Duration::from_secs(500);
    upstream.set_endpoints(&endpoints(&[Locality::of(&[1, 1])]), &NothingResolved, later);
    let new = upstream.snapshot().hosts().nth(1).unwrap().name.to_string();
    let mut picker = Picker::new(Arc::clone(&upstream), 0);
    let mut random = random(3);
    let mut share = |seconds: u64| {
        let now = later + Duration::from_secs(seconds);
        let chosen =
            (0..1_100).filter(|_| *picker.choose(&Choice::default(), now, &mut random).unwrap().name == *new);
        chosen.count()
    };
    // A tenth of the weight against a whole one; then half; then the same.
    assert!((95..=105).contains(&share(1)));
    assert!((360..=372).contains(&share(50)));
    assert!((545..=555).contains(&share(101)));
}

#[test]
fn without_healthy_hosts_of_the_first_priority_the_next_takes_over() {
    let state = |healthy: usize, priority| {
        let hosts = (0..10)
            .map(|place| if place < healthy { HealthStatus::Healthy } else { HealthStatus::Unhealthy });
        Locality { priority, health: hosts.collect(), ..Locality::of(&[1; 10]) }
    };
    let loads = |first, second| {
        let upstream = upstream(cluster("c"), &endpoints(&[state(first, 0), state(second, 1)]));
        upstream.snapshot().loads().healthy.clone()
    };
    // The table of Envoy's documentation, at an overprovisioning of 140 %.
    assert_eq!(loads(10, 10), [100, 0]);
    assert_eq!(loads(8, 10), [100, 0]);
    assert_eq!(loads(7, 10), [98, 2]);
    assert_eq!(loads(5, 10), [70, 30]);
    assert_eq!(loads(2, 10), [28, 72]);
    assert_eq!(loads(0, 10), [0, 100]);
    assert_eq!(loads(2, 2), [50, 50]);
}

#[test]
fn in_panic_all_hosts_are_used_unless_it_is_to_fail() {
    let sick = Locality { health: vec![HealthStatus::Unhealthy; 4], ..Locality::of(&[1; 4]) };
    let upstream_of = |threshold: Option<f64>| {
        let mut proto = cluster("c");
        let panic = threshold.map(|value| Percent { value });
        proto.common_lb_config =
            Some(CommonLbConfig { healthy_panic_threshold: panic, ..Default::default() });
        upstream(proto, &endpoints(std::slice::from_ref(&sick)))
    };
    let panicking = upstream_of(None);
    assert_eq!(shares(&panicking, 40, &Choice::default()).into_values().collect::<Vec<_>>(), [10; 4]);
    assert_eq!(panicking.stats.lb_healthy_panic.get(), 40);
    assert_eq!(shares(&upstream_of(Some(0.0)), 3, &Choice::default()), [("none".to_owned(), 3)].into());
    let empty = upstream(cluster("c"), &endpoints(&[]));
    assert_eq!(shares(&empty, 1, &Choice::default()), [("none".to_owned(), 1)].into());
}

#[test]
fn localities_get_load_by_weight_and_health() {
    let mut proto = cluster("c");
    proto.common_lb_config = Some(CommonLbConfig {
        locality_config_specifier: Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(
            LocalityWeightedLbConfig {},
        )),
        ..Default::default()
    });
    let half = Locality {
        zone: "b",
        weight: 2,
        health: vec![HealthStatus::Healthy, HealthStatus::Unhealthy],
        first: 10,
        ..Locality::of(&[1, 1])
    };
    let none = Locality { zone: "c", weight: 0, first: 20, ..Locality::of(&[1]) };
    let whole = Locality { zone: "a", weight: 1, ..Locality::of(&[1, 1]) };
    let upstream = upstream(proto, &endpoints(&[whole, half, none]));
    let shares = shares(&upstream, 2_400, &Choice::default());
    // 1 against 2 * 1.4 * 1/2; the third has no weight.
    let first: u32 =
        shares.iter().filter(|(name, _)| name.starts_with("10.0.0.")).map(|(_, share)| share).sum();
    assert!((995..=1_005).contains(&first), "{shares:?}");
    assert_eq!(shares.len(), 3);
}

#[test]
fn hosts_keep_what_is_known_of_them_over_updates() {
    let upstream = upstream(cluster("c"), &endpoints(&[Locality::of(&[1, 1, 1])]));
    let before: Vec<_> = upstream.snapshot().hosts().cloned().collect();
    let permit = upstream.request(&before[1], Priority::Default, NOW).unwrap();
    let next = endpoints(&[Locality { first: 1, ..Locality::of(&[1, 7, 1]) }]);
    let membership = upstream.set_endpoints(&next, &NothingResolved, NOW);
    let after: Vec<_> = upstream.snapshot().hosts().cloned().collect();
    assert!(Arc::ptr_eq(&before[1], &after[0]), "nothing of it has changed");
    assert_eq!((after[1].id(), after[1].weight), (before[2].id(), 7));
    assert_eq!(after[0].state.rq_active.get(), 1);
    assert_eq!(membership.added.len(), 1);
    assert_eq!(membership.removed.iter().map(|host| host.id()).collect::<Vec<_>>(), [before[0].id()]);
    assert!(before[0].is_gone() && !before[1].is_gone());
    drop(permit);
    assert_eq!(after[0].state.rq_active.get(), 0);
    // A new version of the cluster keeps them too.
    let next = Upstream::replacing(Arc::clone(&upstream.cluster), &upstream, NOW);
    assert_eq!(
        next.snapshot().hosts().map(|host| host.id()).collect::<Vec<_>>(),
        after.iter().map(|host| host.id()).collect::<Vec<_>>()
    );
}

#[test]
fn a_retry_keeps_away_from_hosts_and_priorities_that_were_tried() {
    let upstream_one = upstream(cluster("c"), &endpoints(&[Locality::of(&[1, 1, 1])]));
    let mut picker = Picker::new(Arc::clone(&upstream_one), 0);
    let mut random = random(9);
    let mut tried = Tried::new(true, 5, None);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let choice = Choice { tried: Some(&tried), ..Choice::default() };
        let host = picker.choose(&choice, NOW, &mut random).unwrap();
        assert!(!seen.contains(&host.id()));
        seen.push(host.id());
        tried.attempting(&host);
    }
    let second = Locality { priority: 1, first: 5, ..Locality::of(&[1]) };
    let upstream_two = upstream(cluster("c"), &endpoints(&[Locality::of(&[1]), second]));
    let mut picker = Picker::new(upstream_two, 0);
    let mut tried = Tried::new(false, 1, Some(1));
    let mut priorities = Vec::new();
    for _ in 0..4 {
        let choice = Choice { tried: Some(&tried), ..Choice::default() };
        let host = picker.choose(&choice, NOW, &mut random).unwrap();
        priorities.push(host.priority);
        tried.attempting(&host);
    }
    assert_eq!(priorities, [0, 1, 0, 1]);
}

#[test]
fn original_destinations_are_hosts_until_nobody_uses_them() {
    let mut proto = cluster("c");
    proto.cluster_discovery_type =
        support::discovery(envoy_types::pb::envoy::config::cluster::v3::cluster::DiscoveryType::OriginalDst);
    proto.lb_policy = LbPolicy::ClusterProvided as i32;
    let upstream = Arc::new(Upstream::new(support::compiled(proto)));
    let mut one = Picker::new(Arc::clone(&upstream), 0);
    let mut other = Picker::new(Arc::clone(&upstream), 0);
    let choice = Choice { destination: Some(at(7)), ..Choice::default() };
    let host = one.choose(&choice, NOW, &mut random(0)).unwrap();
    assert_eq!(host.name, at(7).to_string().into());
    assert_eq!(other.choose(&choice, NOW, &mut random(0)).unwrap().id(), host.id());
    assert!(one.choose(&Choice::default(), NOW, &mut random(0)).is_none());
    assert!(!upstream.tick(NOW, 0), "the first interval begins");
    let permit = upstream.connect(&host, Priority::Default).unwrap();
    assert!(!upstream.tick(NOW + Duration::from_secs(6), 0));
    assert!(!upstream.tick(NOW + Duration::from_secs(12), 0), "it has a connection");
    drop(permit);
    assert!(upstream.tick(NOW + Duration::from_secs(18), 0));
    assert!(host.is_gone());
    assert_ne!(one.choose(&choice, NOW, &mut random(0)).unwrap().id(), host.id());
}

fn hashing(
    policy: LbPolicy,
    config: LbConfig,
    factor: Option<u32>,
) -> envoy_types::pb::envoy::config::cluster::v3::Cluster {
    let mut proto = cluster("c");
    proto.lb_policy = policy as i32;
    proto.lb_config = Some(config);
    let consistent = ConsistentHashingLbConfig {
        use_hostname_for_hashing: false,
        hash_balance_factor: factor.and_then(number),
    };
    proto.common_lb_config =
        Some(CommonLbConfig { consistent_hashing_lb_config: Some(consistent), ..Default::default() });
    proto
}

fn ring() -> envoy_types::pb::envoy::config::cluster::v3::Cluster {
    let config = RingHashLbConfig { minimum_ring_size: number64(1_024), ..Default::default() };
    hashing(LbPolicy::RingHash, LbConfig::RingHashLbConfig(config), None)
}

fn maglev() -> envoy_types::pb::envoy::config::cluster::v3::Cluster {
    hashing(LbPolicy::Maglev, LbConfig::MaglevLbConfig(MaglevLbConfig { table_size: number64(2_503) }), None)
}

/// Hosts by hash.
fn placement(upstream: &Arc<Upstream>, hashes: u64) -> HashMap<u64, String> {
    let mut picker = Picker::new(Arc::clone(upstream), 0);
    let mut any = random(4);
    let mut hash = random(8);
    (0..hashes)
        .map(|number| {
            let choice = Choice { hash: Some(hash()), ..Choice::default() };
            (number, picker.choose(&choice, NOW, &mut any).unwrap().name.to_string())
        })
        .collect()
}

#[test]
fn hashes_stay_where_they_are_when_a_host_goes() {
    // The ring of fewer hosts has more places for each, Maglev's table has nobody's places to share out.
    for (proto, moved_max) in [(ring(), 250), (maglev(), 200)] {
        let upstream = upstream(proto, &endpoints(&[Locality::of(&[1; 10])]));
        let before = placement(&upstream, 2_000);
        upstream.set_endpoints(&endpoints(&[Locality::of(&[1; 9])]), &NothingResolved, NOW);
        let after = placement(&upstream, 2_000);
        let gone = support::name(9);
        let moved = before.iter().filter(|(hash, host)| **host != gone && after[hash] != **host).count();
        assert!(moved <= moved_max, "{moved} hashes left hosts that stayed");
        assert!(after.values().all(|host| *host != gone));
    }
}

#[test]
fn hashes_are_spread_by_weight() {
    for proto in [ring(), maglev()] {
        let upstream = upstream(proto, &endpoints(&[Locality::of(&[1, 2, 5])]));
        let mut counts = BTreeMap::new();
        placement(&upstream, 16_000).into_values().for_each(|host| *counts.entry(host).or_insert(0_u32) += 1);
        for (weight, count) in [1.0, 2.0, 5.0].iter().zip(counts.values()) {
            let expected = 2_000.0 * weight;
            assert!((f64::from(*count) / expected - 1.0).abs() < 0.2, "{counts:?}");
        }
    }
}

#[test]
fn a_bounded_load_goes_to_another_host_the_same_each_time() {
    let config = RingHashLbConfig::default();
    let proto = hashing(LbPolicy::RingHash, LbConfig::RingHashLbConfig(config), Some(150));
    let upstream = upstream(proto, &endpoints(&[Locality::of(&[1; 4])]));
    let mut picker = Picker::new(Arc::clone(&upstream), 0);
    let choice = Choice { hash: Some(0x1234_5678), ..Choice::default() };
    let mut any = random(2);
    let mut permits = Vec::new();
    let mut most = 0;
    for _ in 0..40 {
        let host = picker.choose(&choice, NOW, &mut any).unwrap();
        permits.push(upstream.request(&host, Priority::Default, NOW).unwrap());
        let active: Vec<_> = upstream.snapshot().hosts().map(|host| host.state.rq_active.get()).collect();
        most = most.max(active.iter().max().copied().unwrap());
        // 150 % of the average, rounded up, and the one that found it just within.
        let total: u64 = active.iter().sum();
        assert!(most <= (total * 150).div_ceil(400) + 2, "{active:?}");
    }
    let idle = upstream.snapshot().hosts().filter(|host| host.state.rq_active.get() == 0).count();
    // 40 requests fit into three hosts of 16.
    assert_eq!(idle, 1);
}

#[test]
fn a_locality_weighted_ring_gives_localities_their_share() {
    let mut proto = ring();
    proto.common_lb_config = Some(CommonLbConfig {
        locality_config_specifier: Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(
            LocalityWeightedLbConfig {},
        )),
        ..Default::default()
    });
    let far = Locality { zone: "far", weight: 1, first: 10, ..Locality::of(&[1; 4]) };
    let near = Locality { zone: "near", weight: 3, ..Locality::of(&[1; 2]) };
    let upstream = upstream(proto, &endpoints(&[near, far]));
    let near = placement(&upstream, 8_000)
        .into_values()
        .filter(|host| [support::name(0), support::name(1)].contains(host));
    let share = near.count() as f64 / 8_000.0;
    assert!((share - 0.75).abs() < 0.06, "{share}");
}

proptest! {
    #[test]
    fn loads_add_up_to_a_hundred(
        priorities in prop::collection::vec((0_u64..40, 0_u64..40, 0_u64..40, 0_u64..5), 1..6),
        overprovisioning in 100_u32..300,
        threshold in 0_u32..=100,
        weighted in any::<bool>(),
    ) {
        let all: Vec<_> = priorities
            .iter()
            .map(|(healthy, degraded, sick, excluded)| Availability {
                hosts: healthy + degraded + sick + excluded,
                excluded: *excluded,
                healthy: *healthy,
                degraded: *degraded,
                weight: healthy * 3 + degraded + sick,
                healthy_weight: healthy * 3,
                degraded_weight: *degraded,
            })
            .collect();
        let loads = Loads::calculate(&all, overprovisioning, weighted, threshold);
        prop_assert_eq!(loads.healthy.iter().chain(&loads.degraded).sum::<u32>(), 100);
        for random in 0..100 {
            let (priority, _) = loads.choose(random);
            prop_assert!(priority < all.len());
        }
        // Where nobody panics, no load goes where there is nobody.
        if loads.panic.iter().all(|panicking| !panicking) && all.iter().any(|one| one.healthy + one.degraded > 0) {
            for (share, one) in loads.healthy.iter().zip(&all) {
                prop_assert!(*share == 0 || one.healthy > 0 );
            }
        }
    }

    #[test]
    fn two_choices_of_uneven_hosts_follow_their_weights(weights in prop::collection::vec(1_u32..20, 2..8)) {
        let mut proto = cluster("c");
        proto.lb_policy = LbPolicy::LeastRequest as i32;
        proto.lb_config = Some(LbConfig::LeastRequestLbConfig(LeastRequestLbConfig::default()));
        let upstream = upstream(proto, &endpoints(&[Locality::of(&weights)]));
        let total: u32 = weights.iter().sum();
        let uniform = weights.iter().all(|weight| *weight == weights[0]);
        let counts = shares(&upstream, 100 * total, &Choice::default());
        for (place, weight) in weights.iter().enumerate() {
            let count = f64::from(counts[&support::name(place as u8)]);
            let expected = 100.0 * if uniform { f64::from(total) / weights.len() as f64 } else { f64::from(*weight) };
            let bound = if uniform { expected * 0.35 + 40.0 } else { weights.len() as f64 + 2.0 };
            prop_assert!((count - expected).abs() <= bound, "{} of {}", count, expected);
        }
    }
}
