//! Rules of how an endpoint is chosen.

use std::collections::BTreeSet;

use crate::decode::At;
use crate::destination_rule::{
    ConsistentHashLb, LoadBalancerSettings, LocalityLbSetting, SimpleLb, WarmupConfiguration,
};
use crate::validate::rules;

/// Maglev tables are smaller than this in Envoy.
const MAGLEV_TABLE_SIZE: u64 = 5_000_011;
/// Rings are no larger than this in Envoy.
const RING_SIZE: u64 = 8 * 1024 * 1024;

pub(super) fn check(at: &At<'_>, settings: Option<&LoadBalancerSettings>, has_outlier: bool) {
    let Some(settings) = settings else { return };
    if settings.simple.is_some() && settings.consistent_hash.is_some() {
        at.field("consistentHash").complain("consistentHash beside simple", "one of them");
    }
    if let Some(hash) = &settings.consistent_hash {
        consistent_hash(&at.field("consistentHash"), hash);
    }
    if let Some(locality) = &settings.locality_lb_setting {
        locality_lb(&at.field("localityLbSetting"), locality, has_outlier);
    }
    rules::duration(&at.field("warmupDurationSecs"), settings.warmup_duration_secs);
    if let Some(config) = &settings.warmup {
        warmup(&at.field("warmup"), config);
        if settings.warmup_duration_secs.is_some() {
            at.field("warmupDurationSecs").complain("warmupDurationSecs beside warmup", "warmup alone");
        }
    }
    let warms = settings.warmup.is_some() || settings.warmup_duration_secs.is_some();
    let ignored = settings.consistent_hash.is_some()
        || matches!(settings.simple, Some(SimpleLb::Random | SimpleLb::Passthrough));
    if warms && ignored {
        at.warn("a warm-up where it has no effect", "ROUND_ROBIN, LEAST_REQUEST");
    }
}

fn consistent_hash(at: &At<'_>, hash: &ConsistentHashLb) {
    const KEYS: [&str; 4] = ["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"];
    if KEYS.iter().filter(|key| at.field(key).is_set()).count() > 1 {
        at.complain("several keys to hash", format!("one of {}", KEYS.join(", ")));
    }
    for (field, name) in [
        ("httpHeaderName", &hash.http_header_name),
        ("httpQueryParameterName", &hash.http_query_parameter_name),
    ] {
        if name.as_ref().is_some_and(|name| name.is_empty() || name.contains(['\r', '\n', '\0'])) {
            at.field(field).refuse("a name");
        }
    }
    if let Some(cookie) = &hash.http_cookie {
        let cookie_at = at.field("httpCookie");
        if cookie.name.is_empty() {
            cookie_at.field("name").complain("nothing", "the cookie's name");
        }
        for (index, attribute) in cookie.attributes.iter().enumerate() {
            if attribute.name.is_empty() {
                cookie_at
                    .field("attributes")
                    .item(index)
                    .field("name")
                    .complain("nothing", "the attribute's name");
            }
        }
    }
    let algorithms = [hash.ring_hash.is_some(), hash.maglev.is_some(), hash.minimum_ring_size != 0];
    if algorithms.iter().filter(|set| **set).count() > 1 {
        at.complain("several algorithms", "one of ringHash, maglev, minimumRingSize");
    }
    if hash.minimum_ring_size != 0 {
        at.field("minimumRingSize").warn("minimumRingSize, which is deprecated", "ringHash.minimumRingSize");
    }
    let ring = hash.ring_hash.as_ref().map_or(hash.minimum_ring_size, |ring| ring.minimum_ring_size);
    if ring > RING_SIZE {
        at.complain(format!("a ring of {ring} at least"), format!("0 to {RING_SIZE}"));
    }
    if let Some(maglev) = &hash.maglev {
        let table = at.field("maglev");
        let size = maglev.table_size;
        if !(1..MAGLEV_TABLE_SIZE).contains(&size) || !is_prime(size) {
            table.field("tableSize").refuse(format!("a prime number below {MAGLEV_TABLE_SIZE}"));
        }
    }
}

/// For numbers that [`MAGLEV_TABLE_SIZE`] bounds: at most some 1,100 divisions. As in Envoy, 1 counts.
fn is_prime(number: u64) -> bool {
    if number < 4 {
        return number > 0;
    }
    number % 2 == 1
        && (3..).step_by(2).take_while(|factor| factor * factor <= number).all(|f| !number.is_multiple_of(f))
}

/// Rules of preference by place; MeshConfig has one too.
pub(super) fn locality_lb(at: &At<'_>, setting: &LocalityLbSetting, has_outlier: bool) {
    let conflict = |name: &str, other: &str| {
        at.field(name).complain(format!("{name} beside {other}"), "one of them");
    };
    if !setting.distribute.is_empty() && !setting.failover.is_empty() {
        conflict("failover", "distribute");
    }
    if !setting.failover.is_empty() {
        for (index, label) in setting.failover_priority.iter().enumerate() {
            let place =
                ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];
            if place.contains(&label.as_str()) {
                let item = at.field("failoverPriority");
                item.item(index).complain(format!("{label} beside failover"), "labels that are no place");
            }
        }
    }
    distribute(&at.field("distribute"), setting);
    for (index, failover) in setting.failover.iter().enumerate() {
        let list = at.field("failover");
        let item = list.item(index);
        if failover.from == failover.to {
            item.complain(format!("{:?} to itself", failover.from), "two different regions");
        }
        for (name, region) in [("from", &failover.from), ("to", &failover.to)] {
            if region.contains(['/', '*']) || region.is_empty() {
                item.field(name).refuse("a region alone, without * and /");
            }
        }
    }
    let fails_over = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
    if fails_over && !has_outlier {
        at.warn(
            "failover without outlierDetection",
            "outlierDetection beside it: without it nothing fails over",
        );
    }
}

fn distribute(list: &At<'_>, setting: &LocalityLbSetting) {
    let mut origins = Localities::default();
    for (index, distribute) in setting.distribute.iter().enumerate() {
        let item = list.item(index);
        origins.add(&item.field("from"), &distribute.from);
        let to = item.field("to");
        let mut targets = Localities::default();
        let mut sum: u64 = 0;
        for (locality, weight) in &distribute.to {
            let at = to.key(locality);
            targets.add(&at, locality);
            if *weight == 0 {
                at.refuse("1 to 100");
            }
            sum += u64::from(*weight);
        }
        if sum != 100 {
            to.complain(format!("weights of {sum} together"), "a sum of 100");
        }
    }
}

/// Localities of which none may cover another.
#[derive(Default)]
struct Localities {
    /// Each without its trailing wildcard, ending in `/`.
    seen: BTreeSet<String>,
}

impl Localities {
    fn add(&mut self, at: &At<'_>, locality: &str) {
        let parts: Vec<&str> = locality.split('/').collect();
        let wildcards = locality.matches('*').count();
        let misplaced = wildcards > 1 || (wildcards == 1 && parts.last() != Some(&"*"));
        if parts.len() > 3 || parts.contains(&"") || misplaced {
            at.complain(
                format!("the locality {}", crate::tree::quoted(locality)),
                "region/zone/subzone, * at the end",
            );
            return;
        }
        let stem = locality.strip_suffix('*').unwrap_or(locality);
        let stem = if stem.is_empty() || stem.ends_with('/') { stem.to_owned() } else { format!("{stem}/") };
        // Prefixes of a string are neighbours before it in order; what it is a prefix of comes after.
        let covers = self.seen.range(stem.clone()..).next().is_some_and(|next| next.starts_with(&stem));
        let covered = (0..=stem.len()).any(|end| {
            let prefix = stem.get(..end).unwrap_or_default();
            (prefix.is_empty() || prefix.ends_with('/')) && self.seen.contains(prefix)
        });
        if covers || covered {
            let found =
                format!("the locality {}, which overlaps with another", crate::tree::quoted(locality));
            at.complain(found, "localities of which none covers another");
        }
        self.seen.insert(stem);
    }
}

fn warmup(at: &At<'_>, warmup: &WarmupConfiguration) {
    if warmup.duration.is_none() {
        at.field("duration").complain("nothing", "a duration, at least 1ms");
    }
    rules::duration(&at.field("duration"), warmup.duration);
    if warmup.minimum_percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
        at.field("minimumPercent").refuse("0 to 100");
    }
    if warmup.aggression.is_some_and(|aggression| aggression < 1.0) {
        at.field("aggression").refuse("1 or more");
    }
}

#[cfg(test)]
mod tests {
    use super::is_prime;

    #[test]
    fn primes_are_told_from_others() {
        for prime in [1, 2, 3, 5, 7, 65_537, 4_999_999] {
            assert!(is_prime(prime), "{prime}");
        }
        for other in [0, 4, 9, 15, 65_536, 65_535, 4_999_997] {
            assert!(!is_prime(other), "{other}");
        }
    }
}
