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
//! A request's host: [`Upstream`] is a cluster with all that workers share of it, a worker's [`Picker`] chooses
//! ([`balance`]), within limits ([`breakers`]), among those that are well ([`outlier`], [`health_check`]), and again if
//! it went wrong ([`retry`]).
//!
//! That the answers are Envoy's is held against Envoy 1.40 itself: `routing_envoy`, `balancing_envoy`, `chains_envoy` and
//! `regex_envoy` among the suites of `testkit`.
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
mod access_log;
mod back_off;
pub mod balance;
pub mod bootstrap;
pub mod breakers;
pub mod chain;
mod cidr;
pub mod cluster;
mod connection;
mod extensions;
mod filter_state;
mod flags;
pub mod format;
mod fraction;
pub mod grpc;
pub mod hash;
mod header_condition;
mod header_ops;
pub mod health_check;
mod http_filter;
mod http_options;
pub mod inspect;
pub mod istio;
mod listener;
mod listeners;
mod manager;
mod message;
mod metadata;
pub mod names;
mod network;
pub mod outlier;
mod priority;
mod proto;
mod request;
pub mod request_id;
pub mod retry;
mod retry_policy;
pub mod route;
mod socket_options;
mod stream_info;
mod text;
mod typed_struct;
mod weighted;
mod wire;

pub use access_log::{AccessLog, LogFilter, LogSink};
pub use back_off::BackOff;
pub use balance::{Choice, Host, Picker, Snapshot, Upstream};
pub use bootstrap::Bootstrap;
pub use chain::Ends;
pub use cluster::{Cluster, Discovery};
pub use connection::{ClientHello, Connection, HttpVersion, Opening};
pub use extensions::{Extension, extensions};
pub use filter_state::FilterStateRule;
pub use flags::ResponseFlags;
pub use fraction::Fraction;
pub use header_condition::HeaderCondition;
pub use header_ops::HeaderOps;
pub use http_filter::{
    CorsAllowed, CorsDecision, CorsPolicy, Fault, FaultAbort, FaultDecision, GrpcStats, HeaderMutation,
    HttpFilter, HttpFilterKind, MethodStats, RequestState, RouteFilter, RouteFilters, Router,
};
pub use http_options::{Http1Options, Http2Keepalive, Http2Options};
pub use listener::{Direction, FilterChain, Listener, SocketSettings, socket_address};
pub use listeners::Listeners;
pub use manager::{
    Admission, Admitted, Answer, Arrival, Certificate, ClientCertRules, ClientRules, Codec, EscapedSlashes,
    HeadLimits, HostRules, HttpManager, LocalReplies, ManagerTimeouts, PathRules, Reply, RequestIdRules,
    RouteTracing, Routes, SchemeRule, ServerHeader, TlsFacts, Tracing, Underscores, Upgrades,
};
pub use message::Headers;
pub use metadata::Metadata;
pub use network::{ConnectionState, DownstreamSocket, NetworkFilter, TcpProxy, Terminal};
/// Regular expressions as Envoy has them; below us, because what people write is held to them too.
pub use ostro_re2 as regex;
pub use priority::Priority;
pub use refusal::{Reason, Refusal};
pub use request::{Request, RequestField, Scheme, is_grpc};
pub use retry_policy::{RateLimitedBackOff, ResetFormat, RetryOn, RetryPolicy};
pub use route::{
    Action, Chosen, Decision, Destination, Direct, Forward, HashPolicies, Hashed, Mirror, Redirect, Route,
    RouteId, RouteTable, RouteTimeouts, Selection, Timeouts, VirtualHost,
};
pub use socket_options::{SocketOption, SocketState, TcpKeepalive};
pub use stream_info::{ConnectionInfo, Protocol, StreamInfo, StreamView};
pub use text::TextMatcher;
pub use weighted::Weighted;
