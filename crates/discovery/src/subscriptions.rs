//! One peer's conversation about one resource type: what it subscribes to, what it has been sent, what it said of it.
//!
//! A state machine without I/O, clock or resources. Both transports speak to it: delta (the peer names what it adds and
//! takes away) and state of the world (the peer repeats everything it wants).
//!
//! Rules (of the xDS protocol, and of the control planes that Envoys have been written against):
//! - the first request of a stream starts the conversation, whatever its nonce: after a reconnect the old one is void;
//! - an answer to anything but the last response is stale: its verdict is ignored. What a *delta* request subscribes or
//!   unsubscribes is honoured all the same, since the peer will not say it again;
//! - a name that is subscribed again is sent again, because the peer may have forgotten it;
//! - at most one response is in flight.

use std::collections::HashSet;
use std::time::Instant;

use ostro_names::Name;

use crate::resource::Version;

/// A request as it concerns one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// Nonce of the response that this one answers; empty when it answers none.
    pub nonce: String,
    /// The peer's words if it refuses that response.
    pub refusal: Option<String>,
    pub names: Names,
}

/// The names of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Names {
    Delta(Delta),
    /// All that are wanted, and the version last accepted.
    World {
        names: Vec<Name>,
        star: bool,
        version: String,
    },
}

/// Changes of a delta subscription; `*` is taken out of the lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Delta {
    pub subscribe: Vec<Name>,
    pub subscribe_star: bool,
    pub unsubscribe: Vec<Name>,
    pub unsubscribe_star: bool,
    /// What the peer has from an earlier stream.
    pub known: Vec<(Name, Version)>,
}

/// What the peer said of the last response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The request answered no response.
    None,
    /// Accepted; the names that the response carried.
    Ack(Vec<Name>),
    /// Refused: the names and the peer's words.
    Nack(Vec<Name>, String),
    /// It answered an older response.
    Stale,
}

/// What follows from a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub verdict: Verdict,
    /// The first request of the stream for this type.
    pub first: bool,
    /// Names that are new.
    pub subscribed: Vec<Name>,
    /// Names that the peer subscribed to before and names again: it may have forgotten them.
    pub again: Vec<Name>,
    /// Names the peer has forgotten.
    pub unsubscribed: Vec<Name>,
    /// The new state of the wildcard, if it changed.
    pub wildcard: Option<bool>,
    pub known: Vec<(Name, Version)>,
    /// State of the world: the version of the whole set that the peer has from an earlier stream.
    pub known_set: Option<Version>,
}

/// A response that the peer has not answered.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub since: Instant,
    /// What it told, by name.
    pub names: Vec<Name>,
}

/// The state of the conversation.
#[derive(Debug, Default)]
pub(crate) struct Subscription {
    /// Whether the type has a meaning for "everything".
    wildcard_type: bool,
    started: bool,
    wildcard: bool,
    names: HashSet<Name>,
    sent: u64,
    acked: u64,
    in_flight: Option<InFlight>,
    refusal: Option<String>,
}

impl Subscription {
    pub fn new(wildcard_type: bool) -> Self {
        Subscription { wildcard_type, ..Subscription::default() }
    }

    /// Takes in a request.
    pub fn hear(&mut self, request: Request) -> Heard {
        let first = !std::mem::replace(&mut self.started, true);
        let verdict = if first { Verdict::None } else { self.judge(&request) };
        let mut heard = Heard {
            verdict,
            first,
            subscribed: Vec::new(),
            again: Vec::new(),
            unsubscribed: Vec::new(),
            wildcard: None,
            known: Vec::new(),
            known_set: None,
        };
        match request.names {
            Names::Delta(delta) => self.hear_delta(delta, &mut heard),
            Names::World { .. } if heard.verdict == Verdict::Stale => {}
            Names::World { names, star, version } => {
                self.hear_world(names, star, &version, request.nonce.is_empty(), &mut heard);
            }
        }
        heard
    }

    fn judge(&mut self, request: &Request) -> Verdict {
        if request.nonce.is_empty() {
            return Verdict::None;
        }
        if request.nonce != nonce(self.sent) {
            return Verdict::Stale;
        }
        let names = self.in_flight.take().map(|flight| flight.names).unwrap_or_default();
        match &request.refusal {
            Some(words) => {
                self.refusal = Some(words.clone());
                Verdict::Nack(names, words.clone())
            }
            None => {
                self.acked = self.sent;
                self.refusal = None;
                Verdict::Ack(names)
            }
        }
    }

    fn hear_delta(&mut self, delta: Delta, heard: &mut Heard) {
        let before = self.wildcard;
        let silent = delta.subscribe.is_empty() && !delta.subscribe_star;
        if delta.subscribe_star || heard.first && silent {
            self.wildcard = self.wildcard_type;
        }
        if delta.unsubscribe_star {
            self.wildcard = false;
        }
        heard.wildcard = (before != self.wildcard).then_some(self.wildcard);
        for name in delta.subscribe {
            if self.names.insert(name) {
                heard.subscribed.push(name);
            } else {
                heard.again.push(name);
            }
        }
        if heard.first {
            // What the peer has is what it subscribed to, where names are subscribed to one by one.
            if !self.wildcard {
                for (name, _) in &delta.known {
                    if self.names.insert(*name) {
                        heard.subscribed.push(*name);
                    }
                }
            }
            heard.known = delta.known;
        }
        for name in delta.unsubscribe {
            if self.names.remove(&name) {
                heard.again.retain(|subscribed| *subscribed != name);
                match heard.subscribed.iter().position(|subscribed| *subscribed == name) {
                    Some(position) => drop(heard.subscribed.remove(position)),
                    None => heard.unsubscribed.push(name),
                }
            }
        }
    }

    fn hear_world(&mut self, names: Vec<Name>, star: bool, version: &str, afresh: bool, heard: &mut Heard) {
        let before = self.wildcard;
        let empty = names.is_empty();
        if star || heard.first && empty {
            self.wildcard = self.wildcard_type;
        } else if !empty {
            self.wildcard = false;
        }
        heard.wildcard = (before != self.wildcard).then_some(self.wildcard);
        let wanted: HashSet<Name> = names.iter().copied().collect();
        heard.unsubscribed = self.names.difference(&wanted).copied().collect();
        heard.unsubscribed.sort_unstable();
        let mut names: Vec<Name> = wanted.iter().copied().collect();
        names.sort_unstable();
        let (again, subscribed) = names.into_iter().partition(|name| self.names.contains(name));
        heard.subscribed = subscribed;
        if afresh {
            heard.again = again;
        }
        self.names = wanted;
        if heard.first && !version.is_empty() {
            heard.known_set = Some(Version::parse(version));
        }
    }

    /// Notes that a response with these names goes out, and gives its nonce.
    pub fn send(&mut self, names: Vec<Name>, now: Instant) -> String {
        self.sent += 1;
        self.in_flight = Some(InFlight { since: now, names });
        nonce(self.sent)
    }

    /// The response that waits for an answer.
    pub fn in_flight(&self) -> Option<&InFlight> {
        self.in_flight.as_ref()
    }

    /// No answer is expected any more.
    pub fn give_up(&mut self) {
        self.in_flight = None;
    }

    pub fn started(&self) -> bool {
        self.started
    }

    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    pub fn has(&self, name: Name) -> bool {
        self.names.contains(&name)
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Nonces of the last response, and of the last one accepted; empty before the first.
    pub fn nonces(&self) -> (String, String) {
        (nonce(self.sent), nonce(self.acked))
    }

    /// The peer's words, if it refused the last response.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }
}

fn nonce(count: u64) -> String {
    if count == 0 { String::new() } else { format!("{count:x}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text)
    }

    fn delta(nonce: &str, subscribe: &[&str], unsubscribe: &[&str]) -> Request {
        let plain =
            |names: &[&str]| names.iter().filter(|text| **text != "*").map(|text| name(text)).collect();
        Request {
            nonce: nonce.into(),
            refusal: None,
            names: Names::Delta(Delta {
                subscribe: plain(subscribe),
                subscribe_star: subscribe.contains(&"*"),
                unsubscribe: plain(unsubscribe),
                unsubscribe_star: unsubscribe.contains(&"*"),
                known: Vec::new(),
            }),
        }
    }

    fn world(nonce: &str, names: &[&str], version: &str) -> Request {
        Request {
            nonce: nonce.into(),
            refusal: None,
            names: Names::World {
                names: names.iter().map(|text| name(text)).collect(),
                star: false,
                version: version.into(),
            },
        }
    }

    #[test]
    fn an_empty_first_request_is_a_wildcard_only_where_that_means_something() {
        let mut clusters = Subscription::new(true);
        assert_eq!(clusters.hear(delta("", &[], &[])).wildcard, Some(true));
        assert_eq!(clusters.hear(delta("", &[], &[])).wildcard, None, "later requests do not start it anew");
        let mut routes = Subscription::new(false);
        assert_eq!(routes.hear(delta("", &[], &[])).wildcard, None);
    }

    #[test]
    fn star_on_and_off_in_the_first_request_subscribes_to_nothing() {
        let mut clusters = Subscription::new(true);
        let heard = clusters.hear(delta("", &["*"], &["*"]));
        assert_eq!((heard.wildcard, clusters.is_wildcard()), (None, false));
    }

    #[test]
    fn a_spontaneous_request_names_only_what_it_adds() {
        let mut routes = Subscription::new(false);
        routes.hear(delta("", &["80"], &[]));
        let heard = routes.hear(delta("", &["443"], &[]));
        assert_eq!(heard.subscribed, [name("443")]);
        assert_eq!(heard.verdict, Verdict::None);
        let heard = routes.hear(delta("", &[], &["80"]));
        assert_eq!((heard.subscribed, heard.unsubscribed), (vec![], vec![name("80")]));
        assert!(!routes.has(name("80")) && routes.has(name("443")));
    }

    #[test]
    fn a_name_subscribed_again_is_sent_again() {
        let mut routes = Subscription::new(false);
        routes.hear(delta("", &["80"], &[]));
        let heard = routes.hear(delta("", &["80"], &[]));
        assert_eq!((heard.subscribed, heard.again), (vec![], vec![name("80")]));
    }

    #[test]
    fn known_resources_are_subscribed_to_but_for_those_unsubscribed() {
        let mut endpoints = Subscription::new(false);
        let version = Version::of(b"x");
        let mut request = delta("", &["a"], &["c"]);
        if let Names::Delta(delta) = &mut request.names {
            delta.known = vec![(name("a"), version), (name("b"), version), (name("c"), version)];
        }
        let heard = endpoints.hear(request);
        assert_eq!(heard.subscribed, [name("a"), name("b")]);
        assert_eq!(heard.known.len(), 3);
        assert!(!endpoints.has(name("c")));
    }

    #[test]
    fn verdicts_belong_to_the_last_response() {
        let mut routes = Subscription::new(false);
        routes.hear(delta("", &["80"], &[]));
        let first = routes.send(vec![name("80")], Instant::now());
        assert!(routes.in_flight().is_some());
        assert_eq!(routes.hear(delta(&first, &[], &[])).verdict, Verdict::Ack(vec![name("80")]));
        assert!(routes.in_flight().is_none());
        let second = routes.send(vec![name("80")], Instant::now());
        assert_eq!(routes.hear(delta(&first, &[], &[])).verdict, Verdict::Stale);
        assert!(routes.in_flight().is_some(), "a stale answer is no answer");
        let mut refused = delta(&second, &[], &[]);
        refused.refusal = Some("no such filter".into());
        assert_eq!(routes.hear(refused).verdict, Verdict::Nack(vec![name("80")], "no such filter".into()));
        assert_eq!(routes.refusal(), Some("no such filter"));
        assert_eq!(routes.nonces(), (second, first));
    }

    #[test]
    fn a_stale_delta_request_still_subscribes_and_a_stale_world_request_does_not() {
        let mut routes = Subscription::new(false);
        routes.hear(delta("", &["80"], &[]));
        routes.send(vec![], Instant::now());
        let heard = routes.hear(delta("beef", &["443"], &[]));
        assert_eq!((heard.verdict, heard.subscribed), (Verdict::Stale, vec![name("443")]));

        let mut routes = Subscription::new(false);
        routes.hear(world("", &["80"], ""));
        routes.send(vec![], Instant::now());
        let heard = routes.hear(world("beef", &["80", "443"], ""));
        assert_eq!((heard.verdict, heard.subscribed), (Verdict::Stale, vec![]));
    }

    #[test]
    fn the_first_request_is_never_stale() {
        let mut routes = Subscription::new(false);
        let heard = routes.hear(delta("old stream", &["80"], &[]));
        assert_eq!((heard.verdict, heard.first), (Verdict::None, true));
    }

    #[test]
    fn a_world_request_is_compared_with_the_one_before() {
        let mut endpoints = Subscription::new(false);
        let heard = endpoints.hear(world("", &["a", "b"], "00ff00ff00ff00ff"));
        assert_eq!(heard.subscribed, [name("a"), name("b")]);
        assert_eq!(heard.known_set, Some(Version::parse("00ff00ff00ff00ff")));
        let sent = endpoints.send(vec![name("a"), name("b")], Instant::now());
        let heard = endpoints.hear(world(&sent, &["b", "c"], "1"));
        assert_eq!((heard.subscribed, heard.unsubscribed), (vec![name("c")], vec![name("a")]));
        assert_eq!(heard.known_set, None);
        let heard = endpoints.hear(world(&sent, &[], "1"));
        assert_eq!(heard.unsubscribed, [name("b"), name("c")]);
    }
}
