//! Requests in both dialects, and any history of wants against naive servers.

use super::*;
use proptest::prelude::*;

const EDS: Kind = Kind::ENDPOINT;
const CDS: Kind = Kind::CLUSTER;

fn none(_: Kind) -> BTreeMap<Arc<str>, Arc<str>> {
    BTreeMap::new()
}

fn mux(dialect: Dialect) -> Mux {
    let mut mux = Mux::new(Node { id: "me".into(), ..Node::default() });
    mux.open(dialect);
    mux
}

fn delta(mux: &mut Mux) -> DeltaDiscoveryRequest {
    match mux.next(none) {
        Some(Request::Delta(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn world(mux: &mut Mux) -> DiscoveryRequest {
    match mux.next(none) {
        Some(Request::World(request)) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_delta_stream_from_its_start() {
    let mut mux = mux(Dialect::Delta);
    mux.want(EDS, &"b".into());
    mux.want_all(CDS);
    mux.want(EDS, &"a".into());
    let first = delta(&mut mux);
    assert_eq!((first.type_url.as_str(), first.node.unwrap().id.as_str()), (CDS.url(), "me"));
    assert!(first.resource_names_subscribe.is_empty() && first.response_nonce.is_empty());
    let second = delta(&mut mux);
    assert_eq!((second.node, second.resource_names_subscribe), (None, vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(mux.next(none), None);

    mux.answer(CDS, "n1".into(), "1".into(), None);
    mux.answer(CDS, "n2".into(), "2".into(), Some("no".into()));
    mux.unwant(EDS, &"a".into());
    mux.want(EDS, &"c".into());
    mux.want(EDS, &"d".into());
    mux.unwant(EDS, &"d".into());
    let ack = delta(&mut mux);
    assert_eq!((ack.response_nonce.as_str(), ack.error_detail), ("n1", None));
    let nack = delta(&mut mux);
    assert_eq!((nack.response_nonce.as_str(), nack.error_detail.unwrap()), ("n2", refused("no".into())));
    let changes = delta(&mut mux);
    assert_eq!(changes.resource_names_subscribe, ["c"]);
    assert_eq!(changes.resource_names_unsubscribe, ["a"]);
    assert_eq!(mux.next(none), None);
}

#[test]
fn a_new_stream_says_what_is_held() {
    let mut mux = mux(Dialect::Delta);
    mux.want_all(CDS);
    mux.want(EDS, &"a".into());
    (0..2).for_each(|_| drop(delta(&mut mux)));
    mux.answer(CDS, "old".into(), "1".into(), None);
    mux.close();
    assert_eq!((mux.next(none), mux.pending()), (None, 0));
    mux.open(Dialect::Delta);
    let held = |kind: Kind| -> BTreeMap<Arc<str>, Arc<str>> {
        let names: &[(&str, &str)] = if kind == CDS { &[("x", "7")] } else { &[("a", "8"), ("gone", "9")] };
        names.iter().map(|(name, version)| (Arc::from(*name), Arc::from(*version))).collect()
    };
    let versions = |request: Option<Request>| match request {
        Some(Request::Delta(request)) => {
            assert_eq!(request.response_nonce, "", "nonces are of their stream");
            let versions = request.initial_resource_versions;
            (
                versions.into_iter().collect::<Vec<_>>(),
                request.resource_names_subscribe,
                request.node.is_some(),
            )
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(versions(mux.next(held)), (vec![("x".into(), "7".into())], vec![], true));
    assert_eq!(versions(mux.next(held)), (vec![("a".into(), "8".into())], vec!["a".to_owned()], false));
    assert_eq!(mux.next(held), None);
}

#[test]
fn the_state_of_the_world() {
    let mut mux = mux(Dialect::World);
    mux.want(EDS, &"a".into());
    let first = world(&mut mux);
    assert_eq!((first.version_info.as_str(), first.resource_names), ("", vec!["a".to_owned()]));
    mux.answer(EDS, "n1".into(), "1".into(), None);
    let ack = world(&mut mux);
    assert_eq!((ack.version_info.as_str(), ack.response_nonce.as_str()), ("1", "n1"));
    mux.answer(EDS, "n2".into(), "2".into(), Some("no".into()));
    mux.want(EDS, &"b".into());
    let nack = world(&mut mux);
    assert_eq!((nack.version_info.as_str(), nack.response_nonce.as_str()), ("1", "n2"));
    assert_eq!(
        (nack.resource_names, nack.error_detail.unwrap().message),
        (vec!["a".into(), "b".into()], "no".into())
    );
    // Wanted again before the other end heard that it was not: it hears of both.
    mux.unwant(EDS, &"a".into());
    mux.want(EDS, &"a".into());
    assert_eq!(world(&mut mux).resource_names, ["b"]);
    let again = world(&mut mux);
    assert_eq!((again.resource_names, again.version_info.as_str()), (vec!["a".into(), "b".into()], "1"));
    mux.unwant(EDS, &"a".into());
    mux.unwant(EDS, &"b".into());
    assert!(world(&mut mux).resource_names.is_empty());
    assert_eq!(mux.next(none), None);
    mux.open(Dialect::World);
    assert_eq!(mux.next(none), None, "nothing is wanted");
    mux.want(EDS, &"c".into());
    let reopened = world(&mut mux);
    assert_eq!((reopened.version_info.as_str(), reopened.response_nonce.as_str()), ("1", ""));
}

#[test]
fn all_and_some_by_name() {
    let mut mux = mux(Dialect::Delta);
    mux.want(CDS, &"a".into());
    assert_eq!(delta(&mut mux).resource_names_subscribe, ["a"]);
    mux.want_all(CDS);
    assert_eq!(delta(&mut mux).resource_names_subscribe, ["*"]);
    mux.open(Dialect::Delta);
    assert_eq!(delta(&mut mux).resource_names_subscribe, ["a", "*"]);
    mux.open(Dialect::World);
    assert_eq!(world(&mut mux).resource_names, ["a", "*"]);
}

#[test]
fn answers_wait_while_they_are_held_but_not_for_ever() {
    let mut mux = mux(Dialect::Delta);
    mux.want_all(CDS);
    delta(&mut mux);
    mux.hold(CDS, true);
    for i in 1..limits::ACKS {
        mux.answer(CDS, i.to_string(), "v".into(), None);
        assert!(mux.next(none).is_none() && !mux.is_full());
    }
    mux.answer(CDS, "last".into(), "v".into(), None);
    assert!(mux.is_full());
    assert_eq!(delta(&mut mux).response_nonce, "1");
    assert!(mux.next(none).is_none() && !mux.is_full());
    mux.hold(CDS, false);
    for i in 2..limits::ACKS {
        assert_eq!(delta(&mut mux).response_nonce, i.to_string());
    }
    assert_eq!(delta(&mut mux).response_nonce, "last");
    assert!(mux.next(none).is_none());
}

#[test]
fn only_what_was_asked_for_on_this_stream_is_known() {
    let mut mux = mux(Dialect::World);
    mux.want_all(CDS);
    assert_eq!(mux.asked(CDS.url()), None);
    world(&mut mux);
    assert_eq!((mux.asked(CDS.url()), mux.asked(EDS.url()), mux.asked("")), (Some(CDS), None, None));
    mux.open(Dialect::World);
    assert_eq!(mux.asked(CDS.url()), None);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Want(u8),
    Unwant(u8),
    Send,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4u8).prop_map(Step::Want),
        4 => (0..4u8).prop_map(Step::Unwant),
        3 => Just(Step::Send),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 0..60)
}

/// A server that sends a name once when it is asked for, and what a client has got of it that forgets what it does not want.
#[derive(Default)]
struct Ends {
    wanted: BTreeSet<String>,
    client_has: BTreeSet<String>,
    client_wants: BTreeSet<String>,
}

impl Ends {
    fn hear(&mut self, request: Request) {
        let send: Vec<String> = match request {
            Request::Delta(request) => {
                for name in &request.resource_names_unsubscribe {
                    assert!(self.wanted.remove(name), "{name} was not subscribed to");
                }
                self.wanted.extend(request.resource_names_subscribe.iter().cloned());
                request.resource_names_subscribe
            }
            Request::World(request) => {
                let now: BTreeSet<String> = request.resource_names.into_iter().collect();
                let new = now.difference(&self.wanted).cloned().collect();
                self.wanted = now;
                new
            }
        };
        self.client_has.extend(send.into_iter().filter(|name| self.client_wants.contains(name)));
    }
}

proptest! {
    /// Whatever is wanted and not, in whatever order requests are taken: in the end the server knows exactly what is
    /// wanted, and has sent all of it since it was wanted last.
    #[test]
    fn in_the_end_both_know_what_is_wanted(steps in steps(), is_world in any::<bool>()) {
        let dialect = if is_world { Dialect::World } else { Dialect::Delta };
        let mut mux = mux(dialect);
        let mut ends = Ends::default();
        for step in steps.into_iter().chain([Step::Send; 20]) {
            match step {
                Step::Want(name) => {
                    mux.want(EDS, &name.to_string().into());
                    ends.client_wants.insert(name.to_string());
                }
                Step::Unwant(name) => {
                    mux.unwant(EDS, &name.to_string().into());
                    ends.client_wants.remove(&name.to_string());
                    ends.client_has.remove(&name.to_string());
                }
                Step::Send => {
                    if let Some(request) = mux.next(none) {
                        ends.hear(request);
                    }
                }
                Step::Reopen => {
                    mux.open(dialect);
                    ends.wanted.clear();
                }
            }
        }
        prop_assert_eq!(mux.next(none), None);
        prop_assert_eq!(&ends.wanted, &ends.client_wants);
        prop_assert_eq!(&ends.client_has, &ends.client_wants);
    }
}
