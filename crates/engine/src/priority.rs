//! The two priorities of requests, which have limits of their own.

use envoy_types::pb::envoy::config::core::v3::RoutingPriority;

use crate::Refusal;
use crate::proto::enumeration;

/// Priority of a request (Envoy's `RoutingPriority`): of a route, and of a cluster's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Where nothing is said.
    #[default]
    Default,
    /// `HIGH`.
    High,
}

impl Priority {
    /// Reads a priority.
    pub(crate) fn compile(proto: i32) -> Result<Priority, Refusal> {
        Ok(match enumeration(proto, "priority")? {
            RoutingPriority::Default => Priority::Default,
            RoutingPriority::High => Priority::High,
        })
    }
}
