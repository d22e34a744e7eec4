//! The proxy as Istio's filters tell it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use envoy_types::pb::envoy::config::core::v3::Node;
use http::HeaderValue;
use ostro_engine::istio::{LocalWorkload, Peer};

/// Most sets of additional labels that filters ask for; those of a mesh ask for one.
const LABEL_SETS_MAX: usize = 64;

/// Who this proxy is, and numbers for what it gets to know. One for the process.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    node: Node,
    /// Its workload, as its own labels have it.
    pub workload: LocalWorkload,
    /// Its id as a header has it.
    pub id: Option<HeaderValue>,
    label_sets: Mutex<Vec<Vec<String>>>,
    numbers: AtomicU32,
}

/// A set of additional labels: peers are remembered with those that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LabelSet(pub(super) usize);

impl Identity {
    /// The proxy of this node.
    pub fn new(node: Node) -> Identity {
        Identity {
            workload: LocalWorkload::of(&node),
            id: HeaderValue::from_str(&node.id).ok().filter(|id| !id.is_empty()),
            node,
            ..Identity::default()
        }
    }

    /// The proxy's metadata as a header has it, with these labels besides the usual ones.
    pub(super) fn header(&self, labels: &[String]) -> Option<HeaderValue> {
        Peer::of_node(&self.node, labels).to_header()
    }

    /// The set of these labels; the empty one if there are too many.
    pub(super) fn label_set(&self, labels: &[String]) -> LabelSet {
        if labels.is_empty() {
            return LabelSet(0);
        }
        let mut sets = self.label_sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sets.iter().position(|set| set == labels) {
            return LabelSet(known + 1);
        }
        if sets.len() >= LABEL_SETS_MAX {
            tracing::warn!(?labels, "too many sets of additional labels: these are not read of peers");
            return LabelSet(0);
        }
        sets.push(labels.to_vec());
        LabelSet(sets.len())
    }

    /// The labels of a set.
    pub(super) fn labels(&self, set: LabelSet) -> Vec<String> {
        let sets = self.label_sets.lock().unwrap_or_else(PoisonError::into_inner);
        set.0.checked_sub(1).and_then(|index| sets.get(index)).cloned().unwrap_or_default()
    }

    /// A number that nothing else in the process has.
    pub fn number(&self) -> u32 {
        // 0 stands for nothing.
        self.numbers.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }
}
