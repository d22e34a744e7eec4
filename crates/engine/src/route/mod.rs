//! Route configurations: which virtual host, which route, which cluster, and what is done to the request on the way.

mod action;
mod chosen;
mod destination;
pub mod domains;
mod hash_policy;
mod host;
pub mod matches;
mod mirror;
mod redirect;
mod rewrite;
mod timeouts;

use std::borrow::Cow;

use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use http::{HeaderName, HeaderValue};

pub use action::{Action, Direct, Forward};
pub use chosen::Chosen;
pub use destination::Destination;
pub use hash_policy::{HashPolicies, Hashed};
pub use host::{Decorator, Route, VirtualCluster, VirtualHost};
pub use mirror::Mirror;
pub use redirect::Redirect;
pub use timeouts::{GrpcTimeout, RouteTimeouts, Timeouts};

use crate::proto::{header_name, number};
use crate::refusal::Within;
use crate::retry_policy::RetryPolicy;
use crate::{HeaderOps, Metadata, Refusal, Request, RouteFilters, Scheme};
use domains::Domains;

/// Longest body of a direct response where nothing is said.
const DIRECT_BODY_MAX: usize = 4096;

/// A route configuration, compiled.
#[derive(Clone, Debug)]
pub struct RouteTable {
    /// Name in xDS.
    pub name: String,
    /// Headers that only the inside may send.
    pub internal_only_headers: Vec<HeaderName>,
    /// Headers of requests.
    pub request_headers: HeaderOps,
    /// Headers of responses.
    pub response_headers: HeaderOps,
    /// Of operations on headers those of routes come last, and so win; otherwise those of the table do.
    pub most_specific_wins: bool,
    /// What is said to filters.
    pub filters: RouteFilters,
    /// Must its clusters exist when it is taken? `None`: only where it is in a listener.
    pub validates_clusters: Option<bool>,
    /// Notes of others.
    pub metadata: Metadata,
    ignores_port: bool,
    hosts: Vec<VirtualHost>,
    domains: Domains,
}

/// What a level says to those within it that say nothing themselves.
#[derive(Clone, Copy)]
struct Defaults<'a> {
    retry: Option<&'a RetryPolicy>,
    mirrors: &'a [Mirror],
    direct_body_max: usize,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'a> {
    /// No virtual host has a domain for this authority: 404.
    NoVirtualHost,
    /// The virtual host wants TLS: 301 to `https`.
    RedirectToTls(&'a VirtualHost),
    /// The virtual host has no route for it: 404.
    NoRoute(&'a VirtualHost),
    /// This route of this virtual host.
    Route(&'a VirtualHost, &'a Route),
}

/// The same in numbers, for those who keep the table beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// No virtual host has a domain for this authority: 404.
    NoVirtualHost,
    /// The virtual host wants TLS: 301 to [`tls_location`].
    RedirectToTls,
    /// The virtual host has no route for it: 404.
    NoRoute,
    /// This route: see [`RouteTable::chosen`].
    Route(RouteId),
}

/// A route of a table, and which of its weighted clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteId {
    host: u32,
    route: u32,
    place: u32,
}

/// For whom a virtual host requires TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsRequirement {
    /// Nobody.
    None,
    /// Requests from outside.
    External,
    /// Everybody.
    All,
}

impl RouteTable {
    /// Compiles a route configuration.
    pub fn compile(proto: RouteConfiguration) -> Result<RouteTable, Refusal> {
        let place = format!("route configuration {}", proto.name);
        check(&proto).and_then(|()| RouteTable::compile_checked(proto)).within(|| place)
    }

    fn compile_checked(proto: RouteConfiguration) -> Result<RouteTable, Refusal> {
        let mirrors = Mirror::compile_all(&proto.request_mirror_policies)?;
        let body_max = number(proto.max_direct_response_body_size_bytes.as_ref());
        let direct_body_max = body_max.map_or(DIRECT_BODY_MAX, |max| max as usize);
        let defaults = Defaults { retry: None, mirrors: &mirrors, direct_body_max };
        let mut domains = Domains::default();
        let mut hosts = Vec::with_capacity(proto.virtual_hosts.len());
        for (index, host) in proto.virtual_hosts.into_iter().enumerate() {
            let name = host.name.clone();
            let host_place = || format!("virtual host {name}");
            for domain in &host.domains {
                domains.insert(domain, index).within(host_place)?;
            }
            hosts.push(VirtualHost::compile(host, &defaults).within(host_place)?);
        }
        let internal = proto.internal_only_headers.iter();
        let internal = internal.map(|name| header_name(name, "internal_only_headers"));
        let (request_headers, response_headers) = host::header_ops(
            (&proto.request_headers_to_add, &proto.request_headers_to_remove),
            (&proto.response_headers_to_add, &proto.response_headers_to_remove),
        )?;
        Ok(RouteTable {
            internal_only_headers: internal.collect::<Result<_, _>>()?,
            request_headers,
            response_headers,
            most_specific_wins: proto.most_specific_header_mutations_wins,
            filters: RouteFilters::compile(&proto.typed_per_filter_config)?,
            validates_clusters: proto.validate_clusters.map(|flag| flag.value),
            metadata: Metadata::compile(proto.metadata),
            ignores_port: proto.ignore_port_in_host_matching,
            name: proto.name,
            hosts,
            domains,
        })
    }

    /// The virtual host for an authority.
    pub fn host(&self, authority: &str) -> Option<&VirtualHost> {
        self.host_index(authority).and_then(|index| self.hosts.get(index))
    }

    fn host_index(&self, authority: &str) -> Option<usize> {
        let authority = if self.ignores_port { without_port(authority) } else { authority };
        let authority = match authority.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(authority.to_ascii_lowercase()),
            false => Cow::Borrowed(authority),
        };
        self.domains.find(&authority)
    }

    /// What becomes of a request; `random` is drawn once per request.
    pub fn decide(&self, request: &Request, random: u64) -> Decision<'_> {
        let Some(host) = self.host(request.host()) else { return Decision::NoVirtualHost };
        if host.wants_tls(request) {
            return Decision::RedirectToTls(host);
        }
        match host.route_index(request, random).and_then(|index| host.routes.get(index)) {
            Some(route) => Decision::Route(host, route),
            None => Decision::NoRoute(host),
        }
    }

    /// The same in numbers.
    pub fn select(&self, request: &Request, random: u64) -> Selection {
        let index = self.host_index(request.host());
        let Some((index, host)) = index.and_then(|index| Some((index, self.hosts.get(index)?))) else {
            return Selection::NoVirtualHost;
        };
        if host.wants_tls(request) {
            return Selection::RedirectToTls;
        }
        let Some(route) = host.route_index(request, random) else { return Selection::NoRoute };
        let place = host.routes.get(route).and_then(|route| match &route.action {
            Action::Forward(forward) => Some(forward.place(random)),
            Action::Redirect(_) | Action::Direct(_) => None,
        });
        // A message has fewer of anything than this.
        let number = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
        Selection::Route(RouteId {
            host: number(index),
            route: number(route),
            place: number(place.unwrap_or(0)),
        })
    }

    /// A route that this table selected.
    pub fn chosen(&self, id: RouteId) -> Option<Chosen<'_>> {
        let host = self.hosts.get(id.host as usize)?;
        let route = host.routes.get(id.route as usize)?;
        Some(Chosen { table: self, host, route, place: id.place as usize })
    }

    /// All virtual hosts, in order.
    pub fn hosts(&self) -> &[VirtualHost] {
        &self.hosts
    }
}

impl VirtualHost {
    fn wants_tls(&self, request: &Request) -> bool {
        let wants_tls = match self.tls {
            TlsRequirement::None => false,
            TlsRequirement::External => !request.is_internal,
            TlsRequirement::All => true,
        };
        wants_tls && request.scheme == Scheme::Http
    }

    fn route_index(&self, request: &Request, random: u64) -> Option<usize> {
        self.routes.iter().position(|route| route.matches.hold(request, random))
    }
}

/// Where a request is sent whose virtual host wants TLS.
pub fn tls_location(request: &Request) -> Option<HeaderValue> {
    let location = [b"https://", request.authority.as_bytes(), request.path.as_bytes()].concat();
    HeaderValue::from_maybe_shared(bytes::Bytes::from(location)).ok()
}

/// Which field meets which fate.
fn check(proto: &RouteConfiguration) -> Result<(), Refusal> {
    fates!(proto: RouteConfiguration {
        compiled:
            name,
            virtual_hosts,
            internal_only_headers,
            response_headers_to_add,
            response_headers_to_remove,
            request_headers_to_add,
            request_headers_to_remove,
            most_specific_header_mutations_wins,
            validate_clusters,
            max_direct_response_body_size_bytes,
            request_mirror_policies,
            typed_per_filter_config,
            metadata,
            ignore_port_in_host_matching;
        refused:
            vhds,
            cluster_specifier_plugins,
            vhost_header,
            ignore_path_parameters_in_path_matching,
            route_specifiers;
    });
    Ok(())
}

/// The authority without `:port`; an IPv6 literal keeps its brackets.
fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if authority.rfind(']').is_none_or(|bracket| bracket < colon) => {
            authority.get(..colon).unwrap_or(authority)
        }
        _ => authority,
    }
}
