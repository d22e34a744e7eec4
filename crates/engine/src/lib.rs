//! Floor 2: the data plane's mind without its body: xDS compiled and matched, no sockets, no clock.
//!
//! What it is: decoded Envoy configuration compiled, one resource at a time, into small tables, and the questions a
//! proxy asks of them: which listener, which filter chain, which virtual host, which route, which cluster. The
//! answers are Envoy's. What it deliberately is not: a proxy. It opens nothing, waits for nothing, and rolls no
//! dice: a random number is an argument, so that a decision can be asked for again and explained.
//!
//! A connection's way: [`Listeners::accept`] finds the listener, [`Listener::chain_for`] lets the listener's inspectors
//! look ([`inspect`]) and walks the filter chain match ([`chain`]), [`Terminal`] says what the chain is for.
//! A request's way: [`RouteTable::decide`] finds the virtual host ([`route::domains`]), then the first
//! route that matches ([`route::matches`]), and [`Forward::cluster`] picks the destination.
//!
//! That the answers are Envoy's is held against Envoy 1.40 itself: `routing_envoy`, `chains_envoy` and `regex_envoy` among the
//! suites of `testkit`.
//!
//! Invariants:
//! * What is configured and not supported is refused by name ([`Refusal`]), never ignored. Messages are taken apart
//!   without `..`, so that a field Envoy adds does not compile until someone decides what becomes of it:
//!   compiled here, carried as data for the data plane, or refused.
//! * The cost of a decision does not grow with what cannot match: exact names are hashed, wildcards are looked up
//!   by length, prefixes by prefix length. Routes of one virtual host are tried in order, as Envoy does.
//! * Nothing a peer sends can panic here.

#[macro_use]
mod refusal;
pub mod balance;
pub mod bootstrap;
pub mod breakers;
pub mod chain;
mod cidr;
pub mod cluster;
mod connection;
mod filter;
mod flags;
pub mod format;
#[allow(dead_code, reason = "shared with what is about to come")]
mod fraction;
pub mod health_check;
mod http_options;
pub mod inspect;
mod listener;
mod listeners;
mod message;
mod metadata;
pub mod outlier;
mod priority;
#[allow(dead_code, reason = "shared with what is about to come")]
mod proto;
mod request;
pub mod retry;
pub mod route;
mod socket_options;
mod stream_info;
mod text;
mod weighted;
mod wire;

pub use balance::{Choice, Host, Picker, Snapshot, Upstream};
pub use bootstrap::Bootstrap;
pub use cluster::{Cluster, Discovery};
pub use connection::{ClientHello, Connection, HttpVersion, Opening};
pub use filter::{
    Codec, DownstreamSocket, HttpFilter, HttpManager, NetworkFilter, Routes, TcpProxy, Terminal,
};
pub use flags::ResponseFlags;
pub use fraction::Fraction;
pub use http_options::{Http1Options, Http2Keepalive, Http2Options};
pub use listener::{FilterChain, Listener};
pub use listeners::Listeners;
pub use message::Headers;
pub use metadata::Metadata;
/// Regular expressions as Envoy has them; below us, because what people write is held to them too.
pub use ostro_re2 as regex;
pub use priority::Priority;
pub use refusal::{Reason, Refusal};
pub use request::{Request, RequestField, Scheme, is_grpc};
pub use route::{Action, Decision, Forward, Route, RouteTable, VirtualHost};
pub use socket_options::{SocketOption, SocketState, TcpKeepalive};
pub use stream_info::{ConnectionInfo, Protocol, StreamInfo, StreamView};
pub use text::TextMatcher;
pub use weighted::Weighted;
