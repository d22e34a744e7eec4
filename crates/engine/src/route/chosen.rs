//! The route that has been chosen for a request, with all that is said about it on the levels above and below.

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};

use super::action::Action;
use super::destination::Destination;
use super::hash_policy::Hashed;
use super::host::{Route, VirtualHost};
use super::mirror::Mirror;
use super::rewrite::{HostRewrite, set_host};
use super::timeouts::Timeouts;
use super::{Forward, RouteTable};
use crate::retry_policy::RetryPolicy;
use crate::{HeaderMutation, HeaderOps, Headers, HttpFilter, Request, RouteFilter, Router, StreamInfo};

/// A route with what is around it.
#[derive(Clone, Copy, Debug)]
pub struct Chosen<'a> {
    /// The route configuration.
    pub table: &'a RouteTable,
    /// The virtual host.
    pub host: &'a VirtualHost,
    /// The route.
    pub route: &'a Route,
    pub(super) place: usize,
}

impl<'a> Chosen<'a> {
    /// How the request is forwarded, if it is.
    pub fn forward(&self) -> Option<&'a Forward> {
        match &self.route.action {
            Action::Forward(forward) => Some(forward),
            Action::Redirect(_) | Action::Direct(_) => None,
        }
    }

    /// Settings of the weighted cluster, if it is one.
    pub fn destination(&self) -> Option<&'a Destination> {
        self.forward()?.destinations.get(self.place)
    }

    /// The cluster; `None` if the request is not forwarded, or does not have the header that should name it.
    pub fn cluster<'r>(&self, request: &'r Request) -> Option<&'r str>
    where
        'a: 'r,
    {
        self.forward()?.cluster_at(request, self.place)
    }

    /// When the request is tried again.
    pub fn retry(&self) -> Option<&'a RetryPolicy> {
        self.forward()?.retry.as_ref()
    }

    /// Where it is sent, too.
    pub fn mirrors(&self) -> &'a [Mirror] {
        self.forward().map(|forward| forward.mirrors.as_slice()).unwrap_or_default()
    }

    /// By what its host is chosen.
    pub fn hash(&self, request: &Request, info: &StreamInfo) -> Hashed {
        self.forward().map(|forward| forward.hash.hash(request, info)).unwrap_or_default()
    }

    /// Bytes of it that are kept to send them again; `None` for as many as may be buffered.
    pub fn replay_bytes(&self) -> Option<u64> {
        self.route.replay_bytes.or(self.host.replay_bytes)
    }

    /// How long it may take, as its headers change it; they are removed, and the upstream is told what is expected of it.
    pub fn timeouts(&self, request: &mut Request, router: &Router) -> Timeouts {
        let Some(forward) = self.forward() else { return Timeouts::default() };
        forward.timeouts.of_request(request, forward.retry.as_ref(), router)
    }

    /// How old its stream may become, where the manager says `manager`; what is granted to a gRPC client is told upstream.
    pub fn max_stream(&self, request: &mut Request, manager: Option<Duration>) -> Option<Duration> {
        match self.forward() {
            Some(forward) => forward.timeouts.max_stream(request, manager),
            None => manager,
        }
    }

    /// What is said to a filter, the most specific first.
    fn said(&self, name: &str) -> impl Iterator<Item = &'a RouteFilter> {
        let of_destination = self.destination().map(|destination| &destination.filters);
        let levels =
            [of_destination, Some(&self.route.filters), Some(&self.host.filters), Some(&self.table.filters)];
        levels.into_iter().flatten().filter_map(move |filters| filters.get(name))
    }

    /// Whether a filter looks at the request.
    pub fn runs(&self, filter: &HttpFilter) -> bool {
        match self.said(&filter.name).next() {
            Some(RouteFilter::Disabled) => false,
            Some(_) => true,
            None => !filter.disabled,
        }
    }

    /// The configuration that a filter of this name has here, the most specific one.
    pub fn filter(&self, name: &str) -> Option<&'a RouteFilter> {
        self.said(name).find(|said| !matches!(said, RouteFilter::Disabled | RouteFilter::Enabled))
    }

    /// Changes of headers that are said to a filter of this name, in the order in which they are made after `own`, the
    /// filter's.
    pub fn header_mutations(&self, name: &str, own: &HeaderMutation) -> Vec<&'a HeaderMutation> {
        let mutations = self.said(name).filter_map(|said| match said {
            RouteFilter::HeaderMutation(mutation) => Some(&**mutation),
            _ => None,
        });
        let mut mutations: Vec<_> = mutations.collect();
        if own.most_specific_wins {
            mutations.reverse();
        }
        mutations
    }

    /// Operations on headers, in the order in which they are made.
    fn header_ops(&self, of: impl Fn(Level<'a>) -> &'a HeaderOps) -> impl Iterator<Item = &'a HeaderOps> {
        let (table, host, route) =
            (Level::Table(self.table), Level::Host(self.host), Level::Route(self.route));
        let levels = if self.table.most_specific_wins { [table, host, route] } else { [route, host, table] };
        self.destination().map(Level::Destination).into_iter().chain(levels).map(of)
    }

    /// Makes of a request what goes upstream: headers are added and removed, path and host are rewritten. `stripped_port`
    /// is what admission took from the host.
    pub fn finish_request(
        &self,
        request: &mut Request,
        info: &StreamInfo,
        router: &Router,
        stripped_port: Option<u16>,
    ) {
        let mut ops = self.header_ops(|level| level.request_headers());
        let destination = self.destination();
        if destination.is_some()
            && let Some(first) = ops.next()
        {
            first.apply_to_request(request, info);
        }
        if let Some(host) = destination.and_then(|destination| destination.host.as_ref()) {
            request.authority = host.clone();
        }
        ops.for_each(|ops| ops.apply_to_request(request, info));
        if let Some(port) = stripped_port.filter(|_| request.method == Method::CONNECT) {
            restore_port(&mut request.authority, port);
        }
        let Some(forward) = self.forward() else { return };
        let tells = !router.suppresses_envoy_headers;
        forward.host.apply(request, info, forward.appends_forwarded_host, tells);
        let matched = self.route.matches.matched(request);
        forward.path.apply(request, matched, info, tells);
    }

    /// Whether the request gets the name of the host that is chosen.
    pub fn rewrites_host_to_upstream(&self) -> bool {
        self.forward().is_some_and(|forward| matches!(forward.host, HostRewrite::Auto))
    }

    /// Gives it that name, if it is to have it and there is one.
    pub fn rewrite_host(&self, request: &mut Request, hostname: &str, router: &Router) {
        let Some(forward) = self.forward().filter(|_| self.rewrites_host_to_upstream()) else { return };
        if let Ok(host) = HeaderValue::from_str(hostname)
            && !host.is_empty()
        {
            let tells = !router.suppresses_envoy_headers;
            set_host(request, host, forward.appends_forwarded_host, tells);
        }
    }

    /// Makes of a response what goes to the client: headers are added and removed. It is done to replies of the proxy's own
    /// that a route makes, too.
    pub fn finish_response(&self, response: &mut Headers, info: &StreamInfo, request: &Request) {
        self.header_ops(|level| level.response_headers())
            .for_each(|ops| ops.apply_to_response(response, info, Some(request)));
    }

    /// Where the request is redirected to, and with which status, if it is.
    pub fn redirect(&self, request: &Request, info: &StreamInfo) -> Option<(StatusCode, HeaderValue)> {
        let Action::Redirect(redirect) = &self.route.action else { return None };
        let location = redirect.location(request, self.route.matches.matched(request), info);
        let location = HeaderValue::from_maybe_shared(bytes::Bytes::from(location)).ok()?;
        Some((redirect.status, location))
    }
}

#[derive(Clone, Copy)]
enum Level<'a> {
    Destination(&'a Destination),
    Route(&'a Route),
    Host(&'a VirtualHost),
    Table(&'a RouteTable),
}

impl<'a> Level<'a> {
    fn request_headers(self) -> &'a HeaderOps {
        match self {
            Level::Destination(level) => &level.request_headers,
            Level::Route(level) => &level.request_headers,
            Level::Host(level) => &level.request_headers,
            Level::Table(level) => &level.request_headers,
        }
    }

    fn response_headers(self) -> &'a HeaderOps {
        match self {
            Level::Destination(level) => &level.response_headers,
            Level::Route(level) => &level.response_headers,
            Level::Host(level) => &level.response_headers,
            Level::Table(level) => &level.response_headers,
        }
    }
}

/// Gives a host that has no port this one.
fn restore_port(authority: &mut HeaderValue, port: u16) {
    let host = authority.as_bytes();
    let colon = memchr::memrchr(b':', host);
    let has_port =
        colon.is_some_and(|colon| memchr::memrchr(b']', host).is_none_or(|bracket| bracket < colon));
    if !has_port && let Ok(with) = HeaderValue::from_bytes(&[host, format!(":{port}").as_bytes()].concat()) {
        *authority = with;
    }
}
