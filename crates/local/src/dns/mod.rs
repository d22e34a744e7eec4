//! The mesh's name server: what Kubernetes' cluster DNS and Istio's DNS proxy are to a cluster's pods.
//!
//! Pods ask at the mesh's gateway address, port 53 over UDP and TCP. Names of the mesh are answered from a
//! [`Zone`], a snapshot that the runner replaces whenever pods or objects change; any other question goes,
//! as it came, to the host's own name servers, by sockets of the host's network.
//!
//! Proxies ask at [`PROXY_PORT`] instead, where names of ServiceEntries are not the mesh's to answer: a proxy
//! that resolves the host of one wants the server behind it, and would otherwise be sent to the address by
//! which programs reach that very proxy. In Istio the same comes of capturing all DNS but the proxy's own.
//!
//! The parts, pure ones first:
//! * [`zone`]: names and what is known of them; [`records`]: a zone from services, pods and entries;
//! * [`answer`]: a question's answer, if it is the mesh's to give; [`wire`]: from bytes to bytes;
//! * [`files`]: what a pod reads, `/etc/resolv.conf` and `/etc/hosts`;
//! * [`upstream`]: the host's name servers; [`server`]: sockets.
//!
//! What this deliberately is not: a cache (the host's resolver is one), a recursive resolver, a validator.
//!
//! Invariants:
//! * Records follow Kubernetes' DNS specification 1.1.0; `NXDOMAIN` means that nothing at or below the name
//!   exists, an empty answer that the name does, and both carry the SOA that lets a client remember them.
//! * What cannot be answered is refused at once or within [`upstream::ANSWER_MAX`], never left open.
//! * Questions under way, connections and what each may ask are bounded; what is above gets `SERVFAIL`.

mod answer;
pub mod files;
mod records;
mod server;
mod upstream;
pub mod wire;
mod zone;

#[cfg(test)]
mod tests;

pub use records::zone;
pub use server::serve;
pub use zone::{Asker, Zone};

/// Where pods' programs ask.
pub const PORT: u16 = 53;
/// Where pods' proxies ask.
pub const PROXY_PORT: u16 = 15053;
