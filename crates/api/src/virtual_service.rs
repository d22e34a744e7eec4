//! Istio's VirtualService (networking.istio.io, every served version): how requests are routed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::schema::{choice, schema};

/// The statuses of gRPC, each at the position that is its number.
pub const GRPC_STATUSES: &[&str] = &[
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

schema! {
    /// Routing rules for hosts.
    strict struct VirtualService {
        /// Hosts as written: short, fully qualified, or with a `*` in front. Empty only in a delegate.
        hosts: Vec<String>,
        /// Gateways as written, `mesh` among them; empty means `mesh`.
        gateways: Vec<String>,
        /// Rules for HTTP, tried in order.
        http: Vec<HttpRoute>,
        /// Rules for TLS that is passed through, by server name.
        tls: Vec<TlsRoute>,
        /// Rules for opaque TCP.
        tcp: Vec<TcpRoute>,
        /// Namespaces that see this; empty means the mesh's default.
        export_to: Vec<String>,
    }

    /// One HTTP rule: which requests, and what becomes of them.
    strict struct HttpRoute {
        /// For people and metrics.
        name: String,
        /// Any of these; empty means every request.
        r#match: Vec<HttpMatchRequest>,
        /// Where to, by weight.
        route: Vec<HttpRouteDestination>,
        /// Answer with a redirect; excludes `route`.
        redirect: Option<HttpRedirect>,
        /// Answer from the proxy; excludes `route`.
        direct_response: Option<HttpDirectResponse>,
        /// Go on in another VirtualService; excludes `route`.
        delegate: Option<Delegate>,
        /// Change path or authority on the way.
        rewrite: Option<HttpRewrite>,
        /// For the whole request; unset means none.
        timeout: Option<Duration>,
        /// Unset means the mesh's default.
        retries: Option<HttpRetry>,
        /// Faults to inject.
        fault: Option<HttpFaultInjection>,
        /// A destination that gets a copy of each request.
        mirror: Option<Destination>,
        /// Several of them, each with a percentage.
        mirrors: Vec<HttpMirrorPolicy>,
        /// Deprecated form of `mirror_percentage`, in whole percent.
        mirror_percent: Option<u32>,
        /// Share of requests that `mirror` gets; unset means all.
        mirror_percentage: Option<Percent>,
        /// Cross-origin policy.
        cors_policy: Option<CorsPolicy>,
        /// Header operations for all destinations.
        headers: Option<Headers>,
    }

    /// A VirtualService to go on in.
    strict struct Delegate {
        /// Its name.
        name: String,
        /// Its namespace; empty means the root's.
        namespace: String,
    }

    /// Conditions on a request, all of which must hold.
    strict struct HttpMatchRequest {
        /// For people and metrics.
        name: String,
        /// On the path (query excluded for exact and regex).
        uri: Option<StringMatch>,
        /// On the scheme.
        scheme: Option<StringMatch>,
        /// On the method.
        method: Option<StringMatch>,
        /// On host and port.
        authority: Option<StringMatch>,
        /// On headers, by name.
        headers: BTreeMap<String, StringMatch>,
        /// The port the request was sent to.
        port: Option<u16>,
        /// Only for proxies whose labels contain these.
        source_labels: BTreeMap<String, String>,
        /// Only at these gateways; empty means the VirtualService's.
        gateways: Vec<String>,
        /// On query parameters, by name.
        query_params: BTreeMap<String, StringMatch>,
        /// Exact and prefix `uri` ignore case.
        ignore_uri_case: bool,
        /// Headers that must not match.
        without_headers: BTreeMap<String, StringMatch>,
        /// Only for proxies in this namespace; empty means any.
        source_namespace: String,
        /// Prefix of the route's statistics.
        stat_prefix: String,
    }

    /// A destination with its share.
    strict struct HttpRouteDestination {
        /// Where to.
        destination: Option<Destination>,
        /// Share relative to its siblings; ignored when it has none.
        weight: u32,
        /// Header operations for this destination.
        headers: Option<Headers>,
    }

    /// A destination of opaque traffic with its share.
    strict struct RouteDestination {
        /// Where to.
        destination: Option<Destination>,
        /// Share relative to its siblings; ignored when it has none.
        weight: u32,
    }

    /// A service, and which part of it.
    strict struct Destination {
        /// As written: short or fully qualified.
        host: String,
        /// A subset of the host's DestinationRule; empty means all of it.
        subset: String,
        /// Unset where the service has one port or the request's port is meant.
        port: Option<PortSelector>,
    }

    /// A port by number.
    strict struct PortSelector {
        /// 1 to 65535.
        number: u16,
    }

    /// Header operations.
    strict struct Headers {
        /// On the request.
        request: Option<HeaderOperations>,
        /// On the response.
        response: Option<HeaderOperations>,
    }

    /// What is done to headers.
    strict struct HeaderOperations {
        /// Overwrite or create.
        set: BTreeMap<String, String>,
        /// Append.
        add: BTreeMap<String, String>,
        /// Take away.
        remove: Vec<String>,
    }

    /// TLS that is passed through.
    strict struct TlsRoute {
        /// Any of these.
        r#match: Vec<TlsMatchAttributes>,
        /// Where to, by weight.
        route: Vec<RouteDestination>,
    }

    /// Conditions on a TLS connection.
    strict struct TlsMatchAttributes {
        /// Server names, possibly with a `*` in front.
        sni_hosts: Vec<String>,
        /// Original destination in any of these.
        destination_subnets: Vec<String>,
        /// The port connected to.
        port: Option<u16>,
        /// Only for proxies whose labels contain these.
        source_labels: BTreeMap<String, String>,
        /// Only at these gateways.
        gateways: Vec<String>,
        /// Only for proxies in this namespace; empty means any.
        source_namespace: String,
    }

    /// Opaque TCP.
    strict struct TcpRoute {
        /// Any of these; empty means every connection.
        r#match: Vec<L4MatchAttributes>,
        /// Where to, by weight.
        route: Vec<RouteDestination>,
    }

    /// Conditions on a connection.
    strict struct L4MatchAttributes {
        /// Original destination in any of these.
        destination_subnets: Vec<String>,
        /// The port connected to.
        port: Option<u16>,
        /// Ignored, as in Istio.
        source_subnet: String,
        /// Only for proxies whose labels contain these.
        source_labels: BTreeMap<String, String>,
        /// Only at these gateways.
        gateways: Vec<String>,
        /// Only for proxies in this namespace; empty means any.
        source_namespace: String,
    }

    /// A redirect.
    strict struct HttpRedirect {
        /// The new path, whole; empty keeps it.
        uri: String,
        /// Replaces the part of the path that a prefix matched; excludes `uri`.
        prefix_rewrite: String,
        /// The new authority; empty keeps it.
        authority: String,
        /// The new port; excludes `derive_port`.
        port: Option<u16>,
        /// Where the new port comes from.
        derive_port: Option<RedirectPort>,
        /// The new scheme; empty keeps it.
        scheme: String,
        /// 301 (also when 0), 302, 303, 307 or 308.
        redirect_code: u32,
    }

    /// An answer by the proxy.
    strict struct HttpDirectResponse {
        /// HTTP status, 100 to 599.
        status: u32,
        /// Its body.
        body: Option<HttpBody>,
    }

    /// A body: one of the two.
    strict struct HttpBody {
        /// Text.
        string: Option<String>,
        /// Base64.
        bytes: Option<String>,
    }

    /// A rewrite.
    strict struct HttpRewrite {
        /// Replaces what the prefix or exact match matched; empty keeps it.
        uri: String,
        /// The new authority; empty keeps it.
        authority: String,
        /// By regular expression; excludes `uri`.
        uri_regex_rewrite: Option<RegexRewrite>,
    }

    /// A rewrite of the path by regular expression.
    strict struct RegexRewrite {
        /// RE2.
        r#match: String,
        /// May refer to captures as `\1`.
        rewrite: String,
    }

    /// When and how often to try again.
    strict struct HttpRetry {
        /// Retries after the first try; 0 turns them off.
        attempts: u32,
        /// Unset means the route's timeout.
        per_try_timeout: Option<Duration>,
        /// Conditions and status codes, comma separated; empty means the default.
        retry_on: String,
        /// Also in other localities.
        retry_remote_localities: Option<bool>,
        /// Do not ask a host again that failed; unset means true.
        retry_ignore_previous_hosts: Option<bool>,
        /// Base of the back-off; unset means 25 ms.
        backoff: Option<Duration>,
    }

    /// Cross-origin policy.
    strict struct CorsPolicy {
        /// Deprecated form of exact `allow_origins`.
        allow_origin: Vec<String>,
        /// Origins that may.
        allow_origins: Vec<StringMatch>,
        /// Access-Control-Allow-Methods.
        allow_methods: Vec<String>,
        /// Access-Control-Allow-Headers.
        allow_headers: Vec<String>,
        /// Access-Control-Expose-Headers.
        expose_headers: Vec<String>,
        /// Access-Control-Max-Age.
        max_age: Option<Duration>,
        /// Access-Control-Allow-Credentials.
        allow_credentials: Option<bool>,
        /// What becomes of a preflight that no origin matches.
        unmatched_preflights: UnmatchedPreflights,
    }

    /// Faults to inject.
    strict struct HttpFaultInjection {
        /// Wait first.
        delay: Option<FaultDelay>,
        /// Answer with an error.
        abort: Option<FaultAbort>,
    }

    /// A delay.
    strict struct FaultDelay {
        /// Deprecated form of `percentage`, in whole percent.
        percent: u32,
        /// How long.
        fixed_delay: Option<Duration>,
        /// Accepted by Istio's schema, without effect.
        exponential_delay: Option<Duration>,
        /// Share of requests; unset means all.
        percentage: Option<Percent>,
    }

    /// An abort: one status of the three.
    strict struct FaultAbort {
        /// HTTP status.
        http_status: Option<u32>,
        /// gRPC status by name, such as `UNAVAILABLE`.
        grpc_status: Option<String>,
        /// Accepted by Istio's schema, without effect.
        http2_error: Option<String>,
        /// Share of requests; unset means all.
        percentage: Option<Percent>,
    }

    /// A mirror.
    strict struct HttpMirrorPolicy {
        /// Where the copy goes.
        destination: Option<Destination>,
        /// Share of requests; unset means all.
        percentage: Option<Percent>,
    }

    /// A percentage, 0 to 100.
    strict struct Percent {
        /// In percent.
        value: f64,
    }
}

choice! {
    /// Where a redirect's port comes from.
    enum RedirectPort {
        /// 80 or 443, by scheme.
        FromProtocolDefault = "FROM_PROTOCOL_DEFAULT",
        /// The request's.
        FromRequestPort = "FROM_REQUEST_PORT",
    }

    /// What becomes of a CORS preflight that no origin matches.
    enum UnmatchedPreflights {
        /// As FORWARD.
        Unspecified = "UNSPECIFIED",
        /// It goes to the destination.
        Forward = "FORWARD",
        /// The proxy answers without CORS headers.
        Ignore = "IGNORE",
    }
}

/// How a string is compared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StringMatch {
    /// `{}`: whatever it is. For headers: present.
    #[default]
    Any,
    /// Equal.
    Exact(String),
    /// Starts with.
    Prefix(String),
    /// RE2, the whole string.
    Regex(String),
}
