//! Floor 3: which connections of a pod are turned to its proxy.
//!
//! A [`Config`] says what is captured, in the terms of Istio's init program; [`Plan::new`] makes rules of it, in a
//! language of our own ([`rules`]); two back ends write them down: [`nft`] tells the kernel through netlink,
//! [`iptables`] makes text for `iptables-restore`.
//!
//! [`services`] is the other half of a pod's network: addresses of services that lead to endpoints, for those who have
//! no proxy.
//!
//! What this crate deliberately is not: it enters no namespace, and runs no program but iptables' own for those who ask
//! for that back end. Everything acts on the network namespace of the calling thread, so whoever wants rules in a pod calls from a thread that is in it. Calls
//! are synchronous and short (a few system calls), fit for a task of a runtime.
//!
//! Invariants:
//! * The proxy's own traffic, known by user or group id or by its sockets' mark, is never captured as outbound
//!   traffic: otherwise it would be sent to itself for ever.
//! * The same configuration gives the same rules.
//! * Rules come into force whole or not at all, also when they replace others.

#![forbid(unsafe_code)]

pub mod config;
pub mod iptables;
mod iptables_check;
pub mod netlink;
pub mod nft;
pub mod nft_text;
mod plan;
pub mod routing;
pub mod rules;
pub mod services;
pub mod text;

pub use config::{Config, Dns, Groups, Interception, Interface, Ports, Ranges};
pub use iptables::IptablesError;
pub use netlink::NetlinkError;
pub use plan::{ConfigError, Plan, Routing};
pub use routing::RoutingError;

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

/// Who is told the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The kernel, through netlink.
    #[default]
    Nft,
    /// `iptables-restore` and `ip6tables-restore`.
    Iptables,
}

/// Why a plan is not in force.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Packet rules.
    #[error(transparent)]
    Rules(#[from] NetlinkError),
    /// Packet rules, through iptables.
    #[error(transparent)]
    Iptables(#[from] IptablesError),
    /// Routing.
    #[error(transparent)]
    Routing(#[from] RoutingError),
}

/// Brings a plan into force in the calling thread's network namespace by nftables, in place of an earlier one.
/// Doing it twice is doing it once.
pub fn apply(plan: &Plan) -> Result<(), ApplyError> {
    apply_by(Backend::Nft, plan)
}

/// The same, by a back end of one's choice.
pub fn apply_by(backend: Backend, plan: &Plan) -> Result<(), ApplyError> {
    // What the rules rely on comes first and goes last.
    routing::apply(plan)?;
    match backend {
        Backend::Nft => nft::apply(&plan.rules)?,
        Backend::Iptables => iptables::apply(&plan.rules)?,
    }
    routing::remove_but(Some(plan))?;
    Ok(())
}

/// What in the calling thread's network namespace is not as the plan says, in words; nothing if the plan is in force.
pub fn differences(plan: &Plan) -> Result<Vec<String>, ApplyError> {
    differences_by(Backend::Nft, plan)
}

/// The same, of what a back end has.
pub fn differences_by(backend: Backend, plan: &Plan) -> Result<Vec<String>, ApplyError> {
    let mut found = match backend {
        Backend::Nft => nft::differences(&plan.rules)?,
        Backend::Iptables => iptables_check::differences(&plan.rules)?,
    };
    found.extend(routing::differences(plan)?);
    Ok(found)
}

/// Takes everything of ours that nftables has out of the calling thread's network namespace; nothing there is fine.
pub fn remove() -> Result<(), ApplyError> {
    remove_by(Backend::Nft)
}

/// The same, of what a back end has.
pub fn remove_by(backend: Backend) -> Result<(), ApplyError> {
    match backend {
        Backend::Nft => nft::remove()?,
        Backend::Iptables => iptables::remove()?,
    }
    routing::remove_but(None)?;
    Ok(())
}
