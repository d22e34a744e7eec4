//! What is known of names, as long as it lives.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::message::{Kind, Said};

/// Answers by name and family. Time is an argument.
#[derive(Debug, Default)]
pub(super) struct Cache {
    room: usize,
    known: HashMap<Key, (Said, Instant)>,
}

type Key = (String, Kind);

impl Cache {
    /// Keeps at most so many.
    pub(super) fn new(room: usize) -> Cache {
        Cache { room, known: HashMap::new() }
    }

    /// What is known of a name, its time to live that which is left.
    pub(super) fn get(&self, name: &str, kind: Kind, now: Instant) -> Option<Said> {
        // A key of borrowed parts would spare this copy; lookups are rare beside requests.
        let (said, until) = self.known.get(&(name.to_owned(), kind))?;
        let left = until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some(match said {
            Said::Addresses(addresses, _) => Said::Addresses(addresses.clone(), left),
            Said::NoSuchName(_) => Said::NoSuchName(left),
            Said::NoAddress(_) => Said::NoAddress(left),
            Said::Truncated | Said::Failed(_) => return None,
        })
    }

    /// Remembers what was said, if it holds for a while. When there is no room, what has died goes, then what
    /// would die next.
    pub(super) fn put(&mut self, name: &str, kind: Kind, said: &Said, now: Instant) {
        let (Said::Addresses(_, ttl) | Said::NoSuchName(ttl) | Said::NoAddress(ttl)) = said else { return };
        if *ttl == Duration::ZERO || self.room == 0 {
            return;
        }
        let key = (name.to_owned(), kind);
        if self.known.len() >= self.room && !self.known.contains_key(&key) {
            self.make_room(now);
        }
        self.known.insert(key, (said.clone(), now + *ttl));
    }

    fn make_room(&mut self, now: Instant) {
        self.known.retain(|_, (_, until)| *until > now);
        while self.known.len() >= self.room {
            let Some(next) = self.known.iter().min_by_key(|(_, (_, until))| *until) else { return };
            let next = next.0.clone();
            self.known.remove(&next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_live_as_long_as_they_say_and_no_more_are_kept_than_there_is_room() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let found = |ttl| Said::Addresses(vec!["10.0.0.1".parse().unwrap()], Duration::from_secs(ttl));
        let mut cache = Cache::new(2);
        cache.put("a", Kind::V4, &found(10), start);
        cache.put("b", Kind::V4, &Said::NoSuchName(Duration::from_secs(5)), start);
        assert_eq!(cache.get("a", Kind::V4, at(4)), Some(found(6)));
        assert_eq!(cache.get("a", Kind::V6, at(4)), None);
        assert_eq!(cache.get("b", Kind::V4, at(4)), Some(Said::NoSuchName(Duration::from_secs(1))));
        assert_eq!(cache.get("b", Kind::V4, at(5)), None);
        // No room: the one that would die next goes.
        cache.put("c", Kind::V4, &found(100), at(4));
        assert_eq!(cache.get("b", Kind::V4, at(4)), None);
        assert!(cache.get("a", Kind::V4, at(4)).is_some() && cache.get("c", Kind::V4, at(4)).is_some());
        // Neither failures nor what holds for no time are remembered.
        for said in [found(0), Said::Failed("SERVFAIL".into()), Said::Truncated] {
            cache.put("c", Kind::V6, &said, at(4));
            assert_eq!(cache.get("c", Kind::V6, at(4)), None);
        }
        let mut none = Cache::new(0);
        none.put("a", Kind::V4, &found(10), start);
        assert_eq!(none.get("a", Kind::V4, start), None);
    }
}
