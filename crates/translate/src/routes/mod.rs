//! Routes: RouteConfigurations of sidecars, and the translation of a VirtualService's http rules that sidecars and
//! gateways share.
//!
//! What it is not: the route configurations of gateways (`gateway`), the inline ones of inbound listeners, and tcp and
//! tls rules, which become filter chains.
//!
//! Invariants:
//! - a virtual host is a function of its host and port ([`virtual_host::encoded`]); a route configuration only joins
//!   virtual hosts, which somebody else may have kept, and settles who gets a domain that several claim;
//! - nothing comes out that Envoy refuses: one bad route would cost a proxy the whole configuration.

mod action;
mod base64;
mod cors;
mod delegate;
pub mod destination;
mod domains;
pub mod encoded;
mod fault;
mod format;
mod fraction;
mod hash;
mod headers;
pub mod http;
mod join;
mod matching;
mod retry;
pub mod sidecar;
pub mod virtual_host;

pub use action::MAX_BODY_BYTES;
pub use domains::Domain;

use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};

use crate::encode::{number, wrapped};

/// The gateway name that stands for all sidecars.
pub const MESH: &str = "mesh";

/// Where routes are used: which gateway's, on which port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `mesh`, or `namespace/name` of a Gateway.
    pub gateway: String,
    /// The port that requests were sent to.
    pub port: u16,
    /// The listener terminates TLS.
    pub tls: bool,
}

/// A route configuration of these virtual hosts, with what all of ours have in common.
pub fn configuration(name: &str, virtual_hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts,
        // Routes may name clusters that come later, or never.
        validate_clusters: wrapped(false),
        ignore_port_in_host_matching: true,
        max_direct_response_body_size_bytes: number(MAX_BODY_BYTES),
        ..Default::default()
    }
}
