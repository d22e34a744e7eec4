//! Floor 3: which connections of a pod are turned to its proxy.
//!
//! A [`Plan`] says what is captured; [`redirect`] turns it into the text that `iptables-restore`
//! loads inside the pod's network namespace.
//!
//! What this crate deliberately is not: it runs no program, opens no socket and enters no namespace.
//! A plan is data and the rules are text, so both can be read, compared and tested without a kernel.
//!
//! Invariants:
//! * The proxy's own traffic, known by user or group id, is never captured as outbound traffic:
//!   otherwise it would be sent to itself for ever.
//! * The same plan gives the same text.

mod plan;
mod redirect;

pub use plan::{Plan, Ports, Ranges};
pub use redirect::redirect;

/// User and group the proxy runs as; the rules know its traffic by it.
pub const PROXY_ID: u32 = 1337;
/// Where captured outbound connections go: the proxy's `virtualOutbound` listener.
pub const OUTBOUND_PORT: u16 = 15001;
/// Where captured inbound connections go: the proxy's `virtualInbound` listener.
pub const INBOUND_PORT: u16 = 15006;
/// HBONE: carries its own original destination and is never redirected.
pub const TUNNEL_PORT: u16 = 15008;
/// Ports of the proxy itself that must stay reachable from outside the pod: Envoy's metrics, the
/// readiness listener and the agent's status port.
pub const PROXY_PORTS: [u16; 3] = [15090, 15021, 15020];
