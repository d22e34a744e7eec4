//! One stream, without the stream: what was asked for, what was said, what is to be said next.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::Bytes;
use ostro_translate::ResourceType;

use super::{Answers, Refused, State};

/// Type and name.
pub type Key = (ResourceType, String);

/// A request in neither dialect.
#[derive(Debug, Default)]
pub(super) struct Ask {
    pub(super) type_url: String,
    pub(super) nonce: String,
    /// Why the response of that nonce is refused.
    pub(super) error: Option<String>,
    pub(super) subscribe: Vec<String>,
    pub(super) unsubscribe: Vec<String>,
    /// State of the world: all names that are wanted.
    pub(super) names: Vec<String>,
}

/// A response in neither dialect.
#[derive(Debug)]
pub(super) struct Say {
    pub(super) kind: ResourceType,
    pub(super) nonce: u64,
    pub(super) version: u64,
    pub(super) items: Vec<(String, u64, Bytes)>,
    pub(super) removed: Vec<String>,
}

#[derive(Debug, Default)]
struct Subscription {
    all: bool,
    names: BTreeSet<String>,
    /// The change that each was told in.
    told: HashMap<String, u64>,
}

impl Subscription {
    fn has(&self, name: &str) -> bool {
        self.all || self.names.contains(name)
    }
}

/// Waits for its answer.
#[derive(Debug)]
struct Outstanding {
    kind: ResourceType,
    change: u64,
    names: Vec<String>,
    removed: Vec<String>,
}

/// The state of a stream.
#[derive(Debug)]
pub(super) struct Session {
    is_world: bool,
    subscriptions: BTreeMap<ResourceType, Subscription>,
    /// The last change that was looked at.
    cursor: u64,
    nonce: u64,
    outstanding: BTreeMap<u64, Outstanding>,
    /// What is to be said.
    pub(super) queue: VecDeque<Say>,
}

impl Session {
    pub(super) fn new(is_world: bool, state: &State) -> Session {
        Session {
            is_world,
            subscriptions: BTreeMap::new(),
            cursor: state.change,
            nonce: 0,
            outstanding: BTreeMap::new(),
            queue: VecDeque::new(),
        }
    }

    /// Takes a request.
    pub(super) fn take(&mut self, ask: Ask, state: &State, answers: &mut Answers) {
        let Some(kind) = ResourceType::from_type_url(&ask.type_url) else { return };
        self.hear(&ask, answers);
        let is_first = !self.subscriptions.contains_key(&kind);
        let subscription = self.subscriptions.entry(kind).or_default();
        let wanted = if self.is_world { &ask.names } else { &ask.subscribe };
        let star = wanted.iter().any(|name| name == "*") || (is_first && wanted.is_empty());
        let is_new_all = star && !subscription.all;
        subscription.all |= star;
        let new: Vec<String> = wanted
            .iter()
            .filter(|name| *name != "*" && !subscription.names.contains(*name))
            .cloned()
            .collect();
        if self.is_world {
            subscription.names = ask.names.iter().filter(|name| *name != "*").cloned().collect();
        } else {
            subscription.names.extend(new.iter().cloned());
            for name in &ask.unsubscribe {
                subscription.names.remove(name);
                subscription.told.remove(name);
            }
        }
        if is_new_all || (self.is_world && !new.is_empty()) {
            self.say_all(kind, state);
        } else if !new.is_empty() {
            self.say_named(kind, new, state);
        }
        self.settle(answers);
    }

    /// Notes what became of a response.
    fn hear(&mut self, ask: &Ask, answers: &mut Answers) {
        let Ok(nonce) = ask.nonce.parse::<u64>() else { return };
        let Some(said) = self.outstanding.remove(&nonce) else { return };
        if self.is_world {
            // There only the last response of a kind is answered.
            self.outstanding.retain(|earlier, of| *earlier > nonce || of.kind != said.kind);
        }
        match &ask.error {
            Some(message) => {
                let refused = Refused { kind: said.kind, names: said.names, message: message.clone() };
                answers.refused.push(refused);
            }
            None => {
                answers.acknowledged += 1;
                answers.accepted.extend(said.names.into_iter().map(|name| (said.kind, name)));
                for name in said.removed {
                    answers.accepted.remove(&(said.kind, name));
                }
            }
        }
    }

    /// Looks at the next change, if there is one that was not looked at.
    pub(super) fn follow(&mut self, state: &State, answers: &mut Answers) -> bool {
        let next = state.log.partition_point(|logged| logged.change <= self.cursor);
        let Some(logged) = state.log.get(next) else { return false };
        self.cursor = logged.change;
        for kind in ResourceType::ALL {
            let Some(subscription) = self.subscriptions.get_mut(&kind) else { continue };
            let of_kind = logged.what.iter().filter(|(key, _)| key.0 == kind && subscription.has(&key.1));
            let of_kind: Vec<_> = of_kind.collect();
            if self.is_world {
                // What was told later than this change has it already.
                let is_news =
                    of_kind.iter().any(|(key, _)| subscription.told.get(&key.1) < Some(&logged.change));
                if is_news {
                    self.say_all(kind, state);
                }
                continue;
            }
            let (mut items, mut removed) = (Vec::new(), Vec::new());
            for ((_, name), content) in of_kind {
                if subscription.told.get(name) >= Some(&logged.change) {
                    continue;
                }
                subscription.told.insert(name.clone(), logged.change);
                match content {
                    Some(bytes) => items.push((name.clone(), logged.change, bytes.clone())),
                    None => removed.push(name.clone()),
                }
            }
            if !items.is_empty() || !removed.is_empty() {
                self.say(kind, items, removed);
            }
        }
        self.settle(answers);
        true
    }

    /// All that is wanted of a kind, as it is now.
    fn say_all(&mut self, kind: ResourceType, state: &State) {
        let Some(subscription) = self.subscriptions.get_mut(&kind) else { return };
        let all = state.resources.range((kind, String::new())..).take_while(|((of, _), _)| *of == kind);
        let items: Vec<_> = all
            .filter(|((_, name), _)| subscription.has(name))
            .map(|((_, name), (change, bytes))| (name.clone(), *change, bytes.clone()))
            .collect();
        subscription.told.values_mut().for_each(|told| *told = state.change);
        subscription.told.extend(items.iter().map(|(name, ..)| (name.clone(), state.change)));
        self.say(kind, items, Vec::new());
    }

    /// What was asked for by name; a name that there is not is said to be gone.
    fn say_named(&mut self, kind: ResourceType, names: Vec<String>, state: &State) {
        let Some(subscription) = self.subscriptions.get_mut(&kind) else { return };
        let (mut items, mut removed) = (Vec::new(), Vec::new());
        for name in names {
            subscription.told.insert(name.clone(), state.change);
            match state.resources.get(&(kind, name.clone())) {
                Some((change, bytes)) => items.push((name, *change, bytes.clone())),
                None => removed.push(name),
            }
        }
        self.say(kind, items, removed);
    }

    fn say(&mut self, kind: ResourceType, items: Vec<(String, u64, Bytes)>, removed: Vec<String>) {
        self.nonce += 1;
        let names = items.iter().map(|(name, ..)| name.clone()).collect();
        let outstanding = Outstanding { kind, change: self.cursor, names, removed: removed.clone() };
        self.outstanding.insert(self.nonce, outstanding);
        self.queue.push_back(Say { kind, nonce: self.nonce, version: self.cursor, items, removed });
    }

    fn settle(&self, answers: &mut Answers) {
        // A nonce is never of an earlier change than the one before it.
        let waits = self.outstanding.values().next();
        answers.settled = waits.map_or(self.cursor, |waits| waits.change.saturating_sub(1).min(self.cursor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::second::Logged;

    fn ask(kind: ResourceType, subscribe: &[&str], nonce: &str, error: Option<&str>) -> Ask {
        let names: Vec<String> = subscribe.iter().map(|name| (*name).to_owned()).collect();
        Ask {
            type_url: kind.type_url().to_owned(),
            nonce: nonce.to_owned(),
            error: error.map(str::to_owned),
            subscribe: names.clone(),
            names,
            ..Ask::default()
        }
    }

    fn put(state: &mut State, name: &str, content: Option<&'static str>) {
        state.change += 1;
        let key = (ResourceType::Endpoint, name.to_owned());
        let bytes = content.map(Bytes::from);
        match &bytes {
            Some(bytes) => drop(state.resources.insert(key.clone(), (state.change, bytes.clone()))),
            None => drop(state.resources.remove(&key)),
        }
        state.log.push(Logged { change: state.change, what: vec![(key, bytes)] });
    }

    fn said(session: &mut Session) -> Vec<String> {
        let text = |say: Say| {
            let items =
                say.items.iter().map(|(name, _, bytes)| format!("{name}={}", String::from_utf8_lossy(bytes)));
            let removed = say.removed.iter().map(|name| format!("-{name}"));
            items.chain(removed).collect::<Vec<_>>().join(" ")
        };
        session.queue.drain(..).map(text).collect()
    }

    #[test]
    fn deltas_tell_every_change_once() {
        let (mut state, mut answers) = (State::default(), Answers::default());
        put(&mut state, "a", Some("1"));
        let mut session = Session::new(false, &state);
        session.take(ask(ResourceType::Endpoint, &["a", "b"], "", None), &state, &mut answers);
        assert_eq!(said(&mut session), ["a=1 -b"]);
        assert_eq!(answers.settled, 0, "not answered yet");
        put(&mut state, "a", Some("2"));
        put(&mut state, "a", Some("3"));
        put(&mut state, "c", Some("1"));
        while session.follow(&state, &mut answers) {}
        assert_eq!(said(&mut session), ["a=2", "a=3"]);
        session.take(ask(ResourceType::Endpoint, &[], "1", None), &state, &mut answers);
        session.take(ask(ResourceType::Endpoint, &[], "2", Some("no")), &state, &mut answers);
        assert_eq!((answers.settled, answers.acknowledged), (2, 1));
        assert_eq!(answers.refused[0].names, ["a"]);
        session.take(ask(ResourceType::Endpoint, &[], "3", None), &state, &mut answers);
        assert_eq!(answers.settled, 4);
        // Asked for late: what is told then is not told again as a change.
        put(&mut state, "b", Some("1"));
        session.take(ask(ResourceType::Endpoint, &["d"], "", None), &state, &mut answers);
        put(&mut state, "a", None);
        while session.follow(&state, &mut answers) {}
        assert_eq!(said(&mut session), ["-d", "b=1", "-a"]);
    }

    #[test]
    fn the_state_of_the_world_is_told_whole() {
        let (mut state, mut answers) = (State::default(), Answers::default());
        put(&mut state, "a", Some("1"));
        put(&mut state, "b", Some("1"));
        let mut session = Session::new(true, &state);
        session.take(ask(ResourceType::Endpoint, &["a"], "", None), &state, &mut answers);
        session.take(ask(ResourceType::Endpoint, &["a", "b"], "1", None), &state, &mut answers);
        assert_eq!(said(&mut session), ["a=1", "a=1 b=1"]);
        session.take(ask(ResourceType::Endpoint, &["a", "b"], "2", None), &state, &mut answers);
        assert_eq!(said(&mut session), [""; 0]);
        put(&mut state, "b", Some("2"));
        put(&mut state, "a", None);
        while session.follow(&state, &mut answers) {}
        assert_eq!(said(&mut session), ["b=2"]);
        session.take(ask(ResourceType::Endpoint, &["a", "b"], "3", None), &state, &mut answers);
        assert_eq!(answers.settled, 4);
    }
}
