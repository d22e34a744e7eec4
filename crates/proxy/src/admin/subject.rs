//! The proxy as the admin interface sees it.

use std::net::SocketAddr;
use std::time::SystemTime;

use crate::stats::Reading;

/// The proxy. Everything is asked from the admin interface's threads; answers may lock what the control side locks for a short time.
pub(crate) trait Subject: Send + Sync {
    /// How far it is.
    fn state(&self) -> ServerState;
    /// Its bootstrap, as `envoy.config.bootstrap.v3.Bootstrap`, what the command line says of the node added to it.
    fn bootstrap(&self) -> Held<'_>;
    /// Tells every resource of a kind, in order of their names.
    fn resources(&self, kind: ResourceKind, tell: &mut dyn FnMut(&Resource<'_>));
    /// The version of the last response that was taken.
    fn version(&self, kind: ResourceKind) -> String;
    /// Tells every cluster in force.
    fn clusters(&self, tell: &mut dyn FnMut(&ClusterStatus));
    /// Tells every listener in force that is bound.
    fn listeners(&self, tell: &mut dyn FnMut(&ListenerStatus));
    /// Tells, by their whole names, statistics that are not counted in [`crate::stats`]: of subscriptions, of the
    /// connection to the control plane, of what there is.
    fn statistics(&self, tell: &mut dyn FnMut(&str, Reading));
    /// The same of clusters: their limits, members, outliers, health checks. One cluster after the other.
    fn cluster_statistics(&self, tell: &mut dyn FnMut(&str, Reading));
    /// Certificates in use.
    fn certificates(&self) -> Vec<Certificate>;
    /// What is waited for before the proxy serves: who waits, and for what.
    fn unready(&self) -> Vec<(String, Vec<String>)>;
    /// Workers that serve.
    fn concurrency(&self) -> u32;
    /// Connections of clients that are open.
    fn connections(&self) -> u64;
    /// Ends connections; returns at once.
    fn drain_listeners(&self, drain: Drain);
    /// Answers health checks with failure, or no longer.
    fn fail_health_checks(&self, fail: bool);
    /// Ends the process in order; called once the answer is on its way.
    fn quit(&self);
}

/// How far the proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerState {
    /// It serves.
    Live,
    /// It fails health checks, or ends.
    Draining,
    /// It waits for the clusters it starts with.
    PreInitializing,
    /// It waits for its configuration.
    Initializing,
}

impl ServerState {
    /// As `/ready` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            ServerState::Live => "LIVE",
            ServerState::Draining => "DRAINING",
            ServerState::PreInitializing => "PRE_INITIALIZING",
            ServerState::Initializing => "INITIALIZING",
        }
    }

    /// As the gauge `server.state` says it: the number of `envoy.admin.v3.ServerInfo.State`.
    pub fn number(self) -> u64 {
        match self {
            ServerState::Live => 0,
            ServerState::Draining => 1,
            ServerState::PreInitializing => 2,
            ServerState::Initializing => 3,
        }
    }
}

/// Kinds of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ResourceKind {
    /// `envoy.config.cluster.v3.Cluster`
    Cluster,
    /// `envoy.config.listener.v3.Listener`
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration`
    Route,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`
    Endpoint,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret`
    Secret,
    /// `envoy.config.core.v3.TypedExtensionConfig`
    Extension,
}

impl ResourceKind {
    /// The type URL of its messages.
    pub fn type_url(self) -> &'static str {
        match self {
            ResourceKind::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            ResourceKind::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            ResourceKind::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            ResourceKind::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            ResourceKind::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            ResourceKind::Extension => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        }
    }
}

/// A resource, in all the states in which it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resource<'a> {
    /// Its name; empty for one that is a part of another.
    pub name: &'a str,
    /// Where it comes from.
    pub origin: Origin,
    /// What is in force.
    pub active: Option<Held<'a>>,
    /// What will be in force once it has what it needs.
    pub warming: Option<Held<'a>>,
    /// What still has connections.
    pub draining: Option<Held<'a>>,
    /// What was refused last, if nothing was taken since.
    pub failure: Option<Failure<'a>>,
    /// How the control plane's word was taken.
    pub status: Status,
}

/// Where a resource comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The bootstrap, or another resource that contains it.
    Static,
    /// The control plane, or a file.
    Dynamic,
}

/// A resource as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held<'a> {
    /// Version of the response it was in.
    pub version: &'a str,
    /// The message.
    pub bytes: &'a [u8],
    /// When it came.
    pub updated: SystemTime,
}

/// A refusal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure<'a> {
    /// What was refused.
    pub held: Held<'a>,
    /// Why.
    pub details: &'a str,
}

/// `envoy.admin.v3.ClientResourceStatus`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Asked for.
    Requested,
    /// The control plane says there is none.
    DoesNotExist,
    /// Taken.
    Acked,
    /// Refused.
    Nacked,
    /// Asked for, for too long.
    TimedOut,
}

impl Status {
    /// As Envoy says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Requested => "REQUESTED",
            Status::DoesNotExist => "DOES_NOT_EXIST",
            Status::Acked => "ACKED",
            Status::Nacked => "NACKED",
            Status::TimedOut => "TIMEOUT",
        }
    }
}

/// A cluster in force.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterStatus {
    /// Its name.
    pub name: String,
    /// Its name in statistics.
    pub stat_name: String,
    /// It came from the control plane.
    pub is_dynamic: bool,
    /// Its name in the endpoint discovery service, if another than its own.
    pub endpoint_name: String,
    /// Limits of ordinary and of important requests.
    pub thresholds: [Thresholds; 2],
    /// Outlier detection is on.
    pub ejects: bool,
    /// Percent to which healthy hosts' capacity is taken to be larger than it is.
    pub overprovisioning: u32,
    /// Its hosts.
    pub hosts: Vec<HostStatus>,
}

/// Limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Thresholds {
    /// Connections.
    pub connections: u64,
    /// Requests that wait for a connection.
    pub pending: u64,
    /// Requests.
    pub requests: u64,
    /// Retries.
    pub retries: u64,
}

/// A host of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct HostStatus {
    /// Where it is: an IP address and port, or a path.
    pub address: HostAddress,
    /// Its name, if it was resolved or has one of its own.
    pub hostname: String,
    /// Region, zone, sub-zone.
    pub locality: [String; 3],
    /// Weight.
    pub weight: u32,
    /// Priority; 0 is the first choice.
    pub priority: u32,
    /// `envoy.lb.canary` of its metadata.
    pub is_canary: bool,
    /// The control plane's word: `HEALTHY`, `UNHEALTHY`, `DRAINING`, `TIMEOUT`, `DEGRADED`; `UNKNOWN` counts as `HEALTHY`.
    pub eds_health: &'static str,
    /// Envoy's flags that are set: `failed_active_hc`, `failed_outlier_check`, `failed_eds_health`, `degraded_active_hc`, `degraded_eds_health`,
    /// `pending_dynamic_removal`, `pending_active_hc`, `excluded_via_immediate_hc_fail`, `active_hc_timeout`, `eds_status_draining`.
    pub flags: Vec<&'static str>,
    /// The share of requests that succeeded in the last interval, in percent, if it is known.
    pub success_rate: Option<f64>,
    /// Connections.
    pub cx_active: u64,
    /// Connections that failed to come about.
    pub cx_connect_fail: u64,
    /// Connections ever.
    pub cx_total: u64,
    /// Requests.
    pub rq_active: u64,
    /// Requests that failed.
    pub rq_error: u64,
    /// Requests that wait for a connection to this host.
    pub rq_pending_active: u64,
    /// Requests that succeeded.
    pub rq_success: u64,
    /// Requests that took too long.
    pub rq_timeout: u64,
    /// Requests ever.
    pub rq_total: u64,
}

/// Where a host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostAddress {
    /// TCP.
    Socket(SocketAddr),
    /// A Unix socket.
    Pipe(String),
}

impl std::fmt::Display for HostAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HostAddress::Socket(address) => write!(f, "{address}"),
            HostAddress::Pipe(path) => f.write_str(path),
        }
    }
}

/// A listener that is bound.
#[derive(Clone, Debug)]
pub(crate) struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// Its address, the port as the system chose it if it was to choose.
    pub address: SocketAddr,
    /// Further ones.
    pub additional: Vec<SocketAddr>,
}

/// How listeners are drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drain {
    /// Connections may end by themselves, within the drain time, before listeners are closed.
    pub graceful: bool,
    /// Only listeners for traffic that comes in.
    pub inbound_only: bool,
    /// Listeners are not closed.
    pub skip_exit: bool,
}

/// A certificate in use, and the authorities it goes with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Certificate {
    /// Certificates of authorities.
    pub authorities: Vec<CertificateDetails>,
    /// The proxy's own, with what signs it.
    pub chain: Vec<CertificateDetails>,
}

/// What is in a certificate.
#[derive(Clone, Debug)]
pub(crate) struct CertificateDetails {
    /// Where it was read from.
    pub path: String,
    /// In hexadecimal digits.
    pub serial_number: String,
    /// Who it is for, as URIs.
    pub uris: Vec<String>,
    /// Who it is for, as DNS names.
    pub dns_names: Vec<String>,
    /// From when on it is good.
    pub valid_from: SystemTime,
    /// Until when it is good.
    pub expires: SystemTime,
}
