//! Route configurations: which virtual host, which route, which cluster.

mod action;
pub mod domains;
mod headers;
mod host;
pub mod matches;

use std::borrow::Cow;

use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;

pub use action::{Action, Direct, Forward};
pub use host::{Route, VirtualHost};

use crate::refusal::Within;
use crate::{Refusal, Request, Scheme};
use domains::Domains;

/// A route configuration, compiled.
#[derive(Clone, Debug)]
pub struct RouteTable {
    /// Name in xDS.
    pub name: String,
    /// The message without its virtual hosts: header operations, per-filter configuration.
    pub rest: Box<RouteConfiguration>,
    hosts: Vec<VirtualHost>,
    domains: Domains,
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
    pub fn compile(mut proto: RouteConfiguration) -> Result<RouteTable, Refusal> {
        let place = || format!("route configuration {}", proto.name);
        check(&proto).within(place)?;
        let hosts = std::mem::take(&mut proto.virtual_hosts);
        let place = || format!("route configuration {}", proto.name);
        let mut domains = Domains::default();
        let mut compiled = Vec::with_capacity(hosts.len());
        for (index, host) in hosts.into_iter().enumerate() {
            let name = host.name.clone();
            let host_place = || format!("virtual host {name}");
            for domain in &host.domains {
                domains.insert(domain, index).within(host_place).within(place)?;
            }
            compiled.push(VirtualHost::compile(host).within(host_place).within(place)?);
        }
        Ok(RouteTable { name: proto.name.clone(), hosts: compiled, domains, rest: Box::new(proto) })
    }

    /// The virtual host for an authority.
    pub fn host(&self, authority: &str) -> Option<&VirtualHost> {
        let authority =
            if self.rest.ignore_port_in_host_matching { without_port(authority) } else { authority };
        let authority = match authority.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(authority.to_ascii_lowercase()),
            false => Cow::Borrowed(authority),
        };
        self.domains.find(&authority).and_then(|index| self.hosts.get(index))
    }

    /// What becomes of a request; `random` is drawn once per request.
    pub fn decide(&self, request: &Request, random: u64) -> Decision<'_> {
        let Some(host) = self.host(request.host()) else { return Decision::NoVirtualHost };
        let wants_tls = match host.tls {
            TlsRequirement::None => false,
            TlsRequirement::External => !request.is_internal,
            TlsRequirement::All => true,
        };
        if wants_tls && request.scheme == Scheme::Http {
            return Decision::RedirectToTls(host);
        }
        match host.routes.iter().find(|r| r.matches.hold(request, random)) {
            Some(route) => Decision::Route(host, route),
            None => Decision::NoRoute(host),
        }
    }

    /// All virtual hosts, in order.
    pub fn hosts(&self) -> &[VirtualHost] {
        &self.hosts
    }
}

/// Which field meets which fate; [`RouteTable::rest`] has what is carried.
fn check(proto: &RouteConfiguration) -> Result<(), Refusal> {
    fates!(proto: RouteConfiguration {
        compiled:
            name,
            virtual_hosts,
            ignore_port_in_host_matching;
        carried:
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
            metadata;
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
