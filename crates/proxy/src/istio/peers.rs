//! Peers that a worker has met, by what they call themselves.

use std::collections::HashMap;
use std::rc::Rc;

use http::HeaderValue;
use ostro_engine::Metadata;
use ostro_engine::balance::{Host, HostId};
use ostro_engine::istio::Peer;

use super::hash::ByNumbers;
use super::identity::{Identity, LabelSet};

/// Most peers that are remembered, of each set of labels; Istio's own limit.
const PEERS_MAX: usize = 500;
/// Most endpoints that are remembered.
const ENDPOINTS_MAX: usize = 4096;
/// Longest name by which a peer is remembered, in bytes.
const NAME_BYTES_MAX: usize = 1024;

/// A peer that is known.
#[derive(Debug)]
pub(crate) struct Known {
    /// Stands for it in keys.
    pub number: u32,
    /// The workload.
    pub peer: Peer,
}

/// A peer that is known.
pub(crate) type PeerRef = Rc<Known>;

/// Peers of one set of labels.
#[derive(Default)]
struct Named {
    labels: Vec<String>,
    by_name: HashMap<Box<[u8]>, PeerRef>,
}

/// What a worker knows of peers.
#[derive(Default)]
pub(super) struct Peers {
    sets: Vec<Option<Named>>,
    endpoints: ByNumbers<HostId, (Metadata, Option<PeerRef>)>,
}

impl Peers {
    /// The peer that tells itself in a message's headers: its node's id, if it said it, and its metadata.
    pub fn told(
        &mut self,
        identity: &Identity,
        set: LabelSet,
        id: Option<&HeaderValue>,
        metadata: &HeaderValue,
    ) -> Option<PeerRef> {
        if self.sets.len() <= set.0 {
            self.sets.resize_with(set.0 + 1, || None);
        }
        let named = self.sets.get_mut(set.0)?;
        let named =
            named.get_or_insert_with(|| Named { labels: identity.labels(set), by_name: HashMap::new() });
        let name = id.map(HeaderValue::as_bytes).filter(|id| !id.is_empty()).unwrap_or(metadata.as_bytes());
        if let Some(known) = named.by_name.get(name) {
            return Some(Rc::clone(known));
        }
        let peer = Peer::of_header(metadata.as_bytes(), &named.labels)?;
        let known = Rc::new(Known { number: identity.number(), peer });
        if named.by_name.len() >= PEERS_MAX {
            // As in Istio: a quarter goes, whichever.
            let gone: Vec<_> = named.by_name.keys().take(PEERS_MAX / 4).cloned().collect();
            gone.iter().for_each(|name| {
                named.by_name.remove(name);
            });
        }
        if name.len() <= NAME_BYTES_MAX {
            named.by_name.insert(name.into(), Rc::clone(&known));
        }
        Some(known)
    }

    /// The peer that an endpoint's metadata tells of.
    pub fn endpoint(&mut self, identity: &Identity, host: &Host) -> Option<PeerRef> {
        let id = host.id();
        if let Some((metadata, known)) = self.endpoints.get(&id)
            && metadata.is_same(&host.metadata)
        {
            return known.clone();
        }
        let text = host.metadata.get("istio", &["workload"]).and_then(|value| match &value.kind {
            Some(envoy_types::pb::google::protobuf::value::Kind::StringValue(text)) => Some(text.as_str()),
            _ => None,
        });
        let peer = text.and_then(Peer::of_endpoint);
        let known = peer.map(|peer| Rc::new(Known { number: identity.number(), peer }));
        if self.endpoints.len() >= ENDPOINTS_MAX {
            self.endpoints.clear();
        }
        self.endpoints.insert(id, (host.metadata.clone(), known.clone()));
        known
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

    use super::*;

    fn header(workload: &str) -> HeaderValue {
        Peer { workload: workload.into(), ..Peer::default() }.to_header().unwrap()
    }

    #[test]
    fn a_peer_is_known_by_its_id_and_without_one_by_what_it_says() {
        let (identity, mut peers) = (Identity::default(), Peers::default());
        let set = identity.label_set(&[]);
        let id = HeaderValue::from_static("sidecar~1");
        let first = peers.told(&identity, set, Some(&id), &header("a")).unwrap();
        let again = peers.told(&identity, set, Some(&id), &header("b")).unwrap();
        assert_eq!((again.number, &*again.peer.workload), (first.number, "a"));
        let nameless = peers.told(&identity, set, None, &header("b")).unwrap();
        assert_ne!(nameless.number, first.number);
        assert_eq!(peers.told(&identity, set, None, &header("b")).unwrap().number, nameless.number);
        assert!(peers.told(&identity, set, None, &HeaderValue::from_static("%")).is_none());
    }

    #[test]
    fn the_memory_of_peers_is_bounded() {
        let (identity, mut peers) = (Identity::default(), Peers::default());
        let set = identity.label_set(&["role".to_owned()]);
        for number in 0..PEERS_MAX * 3 {
            let id = HeaderValue::from(number);
            assert!(peers.told(&identity, set, Some(&id), &header("a")).is_some());
        }
        assert!(peers.sets.iter().flatten().all(|named| named.by_name.len() <= PEERS_MAX));
    }
}
