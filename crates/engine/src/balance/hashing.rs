//! Choice by hash: a ring or a table over the hosts of a priority, built once per version and shared by all workers.
//!
//! Places are Envoy's: the same hosts and weights give the same host for a hash as in Envoy.

use std::sync::Arc;

use envoy_types::pb::google::protobuf::value::Kind;
use xxhash_rust::xxh64::xxh64;

use super::host::Host;

/// Hosts with their shares of the load, which add up to 1.
pub(crate) type Shares = Vec<(Arc<Host>, f64)>;

/// A way from hashes to hosts.
#[derive(Debug)]
pub(crate) struct HashTable {
    shares: Shares,
    places: Places,
    balance_factor: Option<u32>,
}

#[derive(Debug)]
enum Places {
    /// Hashes in ascending order, each with the host that has the place.
    Ring(Vec<(u64, u32)>),
    /// Hosts by hash modulo the size.
    Table(Vec<u32>),
}

impl HashTable {
    /// A ring of `least` to `most` places, by weight.
    pub(crate) fn ring(
        shares: Shares,
        least: u64,
        most: u64,
        by_hostname: bool,
        factor: Option<u32>,
    ) -> HashTable {
        let places = Places::Ring(ring(&shares, least, most, by_hostname));
        HashTable { shares, places, balance_factor: factor }
    }

    /// A table of `size` places, by weight.
    pub(crate) fn maglev(shares: Shares, size: u64, by_hostname: bool, factor: Option<u32>) -> HashTable {
        let places = Places::Table(maglev(&shares, size, by_hostname));
        HashTable { shares, places, balance_factor: factor }
    }

    /// Places in all.
    pub(crate) fn size(&self) -> usize {
        match &self.places {
            Places::Ring(places) => places.len(),
            Places::Table(places) => places.len(),
        }
    }

    /// Places of the host that has fewest, and of the one that has most.
    pub(crate) fn places_per_host(&self) -> (usize, usize) {
        let mut counts = vec![0_usize; self.shares.len()];
        let mut count = |host: u32| {
            if let Some(count) = counts.get_mut(host as usize) {
                *count += 1;
            }
        };
        match &self.places {
            Places::Ring(places) => places.iter().for_each(|(_, host)| count(*host)),
            Places::Table(places) => places.iter().for_each(|host| count(*host)),
        }
        (counts.iter().min().copied().unwrap_or(0), counts.iter().max().copied().unwrap_or(0))
    }

    /// The host for a hash, at the `attempt`th try (from 0). `active` is how many requests the cluster has in flight.
    pub(crate) fn choose(&self, hash: u64, attempt: u32, active: u64) -> Option<&Arc<Host>> {
        let place = match &self.places {
            Places::Ring(places) => on_ring(places, hash, attempt)?,
            Places::Table(places) => in_table(places, hash, attempt)?,
        } as usize;
        match self.balance_factor {
            None => self.shares.get(place).map(|(host, _)| host),
            Some(factor) => self.bounded(place, hash, factor, active),
        }
    }

    /// The host at `place`, unless it has more than its part of what is in flight: then another, in an order that only
    /// depends on the hash; the least loaded if all have.
    fn bounded(&self, place: usize, hash: u64, factor: u32, active: u64) -> Option<&Arc<Host>> {
        let slots = (active + 1).saturating_mul(u64::from(factor)).div_ceil(100);
        let load = |(host, share): &(Arc<Host>, f64)| {
            let own = (slots as f64 * share).ceil().max(1.0);
            host.state.rq_active.get() as f64 / own
        };
        let first = self.shares.get(place)?;
        let mut least = (load(first), &first.0);
        if least.0 <= 1.0 {
            return Some(&first.0);
        }
        let count = self.shares.len();
        let begin = (xxh64(&hash.to_le_bytes(), 0) % count as u64) as usize;
        let step = step(hash, count);
        for turn in 0..count {
            let other = self.shares.get((begin + turn * step) % count)?;
            let load = load(other);
            if load <= 1.0 {
                return Some(&other.0);
            }
            if load < least.0 {
                least = (load, &other.0);
            }
        }
        Some(least.1)
    }
}

/// A step that comes by each of `count` places before any of them again.
fn step(hash: u64, count: usize) -> usize {
    let wanted = 1 + (xxh64(&hash.to_le_bytes(), 1) % count as u64) as usize;
    let common = |mut a: usize, mut b: usize| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    // 1 shares no divisor with anything, hence there is one.
    (1..=wanted).rev().find(|step| common(*step, count) == 1).unwrap_or(1)
}

/// What a host's places are made from: what its metadata says, its name, or its address.
fn key(host: &Host, by_hostname: bool) -> &str {
    let stated = host.metadata.get("envoy.lb", &["hash_key"]).and_then(|value| value.kind.as_ref());
    match stated {
        Some(Kind::StringValue(key)) if !key.is_empty() => key,
        _ if by_hostname => &host.hostname,
        _ => &host.name,
    }
}

/// Every host has `scale * share` places; what is left of a place goes over to the next host.
fn ring(shares: &Shares, least: u64, most: u64, by_hostname: bool) -> Vec<(u64, u32)> {
    let smallest = shares.iter().map(|(_, share)| *share).fold(f64::INFINITY, f64::min);
    if shares.is_empty() {
        return Vec::new();
    }
    let scale = ((smallest * least as f64).ceil() / smallest).min(most as f64);
    let mut places = Vec::with_capacity(scale.ceil() as usize);
    let (mut reached, mut target) = (0.0, 0.0);
    let mut text = Vec::with_capacity(64);
    for (number, (host, share)) in (0_u32..).zip(shares) {
        target += scale * share;
        text.clear();
        text.extend_from_slice(key(host, by_hostname).as_bytes());
        text.push(b'_');
        let stem = text.len();
        for place in 0_u64.. {
            if reached >= target {
                break;
            }
            text.truncate(stem);
            push_decimal(&mut text, place);
            places.push((xxh64(&text, 0), number));
            reached += 1.0;
        }
    }
    places.sort_unstable();
    places
}

fn push_decimal(text: &mut Vec<u8>, number: u64) {
    use std::io::Write;
    // Writing to memory cannot fail.
    let _ = write!(text, "{number}");
}

/// The first place at or behind the hash; a further attempt takes the next ones.
fn on_ring(places: &[(u64, u32)], hash: u64, attempt: u32) -> Option<u32> {
    if places.is_empty() {
        return None;
    }
    let first = places.partition_point(|(place, _)| *place < hash);
    let at = (first % places.len() + attempt as usize) % places.len();
    places.get(at).map(|(_, host)| *host)
}

fn in_table(places: &[u32], hash: u64, attempt: u32) -> Option<u32> {
    // As Envoy has it: `hash ^= ~0 - attempt + 1` for further attempts.
    let hash = if attempt == 0 { hash } else { hash ^ (u64::MAX - u64::from(attempt)).wrapping_add(1) };
    let at = hash.checked_rem(places.len() as u64)?;
    places.get(at as usize).copied()
}

struct Applicant<'a> {
    key: &'a str,
    offset: u64,
    skip: u64,
    tries: u64,
    share: f64,
    target: f64,
}

impl<'a> Applicant<'a> {
    fn new(key: &'a str, share: f64, size: u64) -> Applicant<'a> {
        let hash = |seed| xxh64(key.as_bytes(), seed);
        let skip = hash(1) % (size - 1).max(1) + 1;
        Applicant { key, offset: hash(0) % size, skip, tries: 0, share, target: 0.0 }
    }
}

/// Maglev: hosts take turns to claim the next free place of their own permutation, those of less weight fewer turns.
fn maglev(shares: &Shares, size: u64, by_hostname: bool) -> Vec<u32> {
    const FREE: u32 = u32::MAX;
    if shares.is_empty() {
        return Vec::new();
    }
    let largest = shares.iter().map(|(_, share)| *share).fold(0.0, f64::max);
    let mut applicants: Vec<_> = (0_u32..)
        .zip(shares.iter().map(|(host, share)| Applicant::new(key(host, by_hostname), *share, size)))
        .collect();
    // By key: whoever lists hosts in another order gets the same table.
    applicants.sort_by(|(_, a), (_, b)| a.key.cmp(b.key));
    let mut places = vec![FREE; size as usize];
    let mut free = places.len();
    for round in 1_u64.. {
        for (number, applicant) in &mut applicants {
            if free == 0 {
                return places;
            }
            if (round as f64) * applicant.share < applicant.target {
                continue;
            }
            applicant.target += largest;
            // A prime size: the permutation comes by every place, and there is a free one.
            loop {
                let at = (applicant.offset + applicant.skip * applicant.tries) % size;
                applicant.tries += 1;
                if let Some(place) = places.get_mut(at as usize).filter(|place| **place == FREE) {
                    *place = *number;
                    free -= 1;
                    break;
                }
            }
        }
    }
    places
}
