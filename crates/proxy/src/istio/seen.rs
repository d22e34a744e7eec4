//! What a worker has seen of peers and label sets, and the counting itself.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use ostro_engine::balance::Host;
use ostro_engine::istio::{
    AttributeSource, Ends, Outcome, Peer, Principals, Reporter, RequestProtocol, RouteKind, Values,
    destination,
};
use ostro_engine::{Headers, ResponseFlags, StreamView, grpc};
use tokio::time::Instant;

use super::cells::{Maker, PassingCells, RequestCells};
use super::filters::{Exchange, StatsFilter};
use super::hash::ByNumbers;
use super::identity::Identity;
use super::live::{LiveId, Lives};
use super::peers::{PeerRef, Peers};
use crate::config::LiveCluster;
use crate::stats::{Stats, Writer};

/// Most keys that are remembered; then all are forgotten. What they led to is found again, by its labels.
const KEYS_MAX: usize = 16_384;
/// Most texts that have a number; the same.
const TEXTS_MAX: usize = 4096;
/// Longest host of a request that is told as a service: longer ones are no host's.
const HOST_BYTES_MAX: usize = 255;

/// A worker's memory.
pub(crate) struct Seen {
    identity: Arc<Identity>,
    peers: RefCell<Peers>,
    texts: RefCell<HashMap<Box<str>, u32>>,
    requests: RefCell<ByNumbers<RequestKey, Rc<RequestCells>>>,
    passing: RefCell<ByNumbers<PassingKey, Rc<PassingCells>>>,
    lives: RefCell<Lives>,
    /// Where values of expressions are written.
    scratch: RefCell<String>,
}

/// Whom a stream or connection is between, as numbers. 0 stands for nobody and nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct EndsKey {
    filter: u32,
    peer: u32,
    server: u32,
    cluster: u32,
    host: u32,
    values: u32,
    route: RouteKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct RequestKey {
    ends: EndsKey,
    protocol: RequestProtocol,
    status: u16,
    /// One more than the status; 0: none.
    grpc_status: u32,
    flags: ResponseFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PassingKey {
    ends: EndsKey,
    is_tcp: bool,
    flags: ResponseFlags,
}

/// Who is at the ends of a stream or connection, as far as it is known, and where it goes.
#[derive(Clone, Default)]
pub(crate) struct Sides {
    /// The client, if it told itself.
    pub client: Option<PeerRef>,
    /// The server, if it told itself.
    pub server: Option<PeerRef>,
    /// The server, as its endpoint's metadata has it.
    pub endpoint: Option<PeerRef>,
    /// Where it goes.
    pub cluster: Option<Arc<LiveCluster>>,
}

/// A request that is over.
#[derive(Clone, Copy)]
pub(crate) struct Finished<'f> {
    /// Who is at its ends.
    pub sides: &'f Sides,
    /// What is known of it besides.
    pub view: StreamView<'f>,
    /// Is it gRPC?
    pub is_grpc: bool,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl Sides {
    fn peer(&self, reporter: Reporter) -> Option<&PeerRef> {
        match reporter {
            Reporter::Source => self.server.as_ref().or(self.endpoint.as_ref()),
            Reporter::Destination | Reporter::Waypoint => self.client.as_ref(),
        }
    }

    fn waypoints_server(&self, reporter: Reporter) -> Option<&PeerRef> {
        self.server.as_ref().filter(|_| reporter == Reporter::Waypoint)
    }
}

fn number(peer: Option<&PeerRef>) -> u32 {
    peer.map_or(0, |known| known.number)
}

fn workload(peer: Option<&PeerRef>) -> Option<&Peer> {
    peer.map(|known| &known.peer)
}

impl Seen {
    /// Nothing yet.
    pub fn new(identity: Arc<Identity>) -> Seen {
        Seen {
            identity,
            peers: RefCell::default(),
            texts: RefCell::default(),
            requests: RefCell::default(),
            passing: RefCell::default(),
            lives: RefCell::default(),
            scratch: RefCell::default(),
        }
    }

    /// The proxy itself.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The peer that tells itself in headers.
    pub fn told(
        &self,
        exchange: &Exchange,
        id: Option<&HeaderValue>,
        metadata: Option<&HeaderValue>,
    ) -> Option<PeerRef> {
        let metadata = metadata.filter(|metadata| !metadata.is_empty())?;
        self.peers.borrow_mut().told(&self.identity, exchange.labels, id, metadata)
    }

    /// The peer that an endpoint's metadata tells of.
    pub fn endpoint(&self, host: &Host) -> Option<PeerRef> {
        self.peers.borrow_mut().endpoint(&self.identity, host)
    }

    /// A number for a text.
    fn text(&self, text: &str) -> u32 {
        let mut texts = self.texts.borrow_mut();
        if let Some(number) = texts.get(text) {
            return *number;
        }
        if texts.len() >= TEXTS_MAX {
            texts.clear();
        }
        let number = self.identity.number();
        texts.insert(text.into(), number);
        number
    }

    /// Counts a request.
    pub fn count(&self, filter: &StatsFilter, stats: &Stats, writer: &Writer, of: Finished<'_>) {
        let info = of.view.info;
        let ends = self.key(filter, of.sides, of.view);
        let outcome = Outcome {
            protocol: if of.is_grpc { RequestProtocol::Grpc } else { RequestProtocol::Http },
            status: info.status.map_or(0, |status| status.as_u16()),
            grpc_status: grpc_status(of),
            flags: info.flags,
        };
        let key = RequestKey {
            ends,
            protocol: outcome.protocol,
            status: outcome.status,
            grpc_status: outcome.grpc_status.map_or(0, |status| status.saturating_add(1)),
            flags: outcome.flags,
        };
        let known = self.requests.borrow().get(&key).cloned();
        let cells = known.unwrap_or_else(|| {
            let cells = self.with_ends(filter, of.sides, of.view, |ends, values| {
                let labels = ends.request_labels(&outcome);
                Maker { stats, writer, filter: &filter.engine, labels, values }.requests()
            });
            remember(&self.requests, key, cells)
        });
        if let Some(requests) = &cells.requests {
            requests.inc();
        }
        let received = info.header_bytes_received + info.bytes_received;
        let sent = info.header_bytes_sent + info.bytes_sent;
        for (cell, value) in
            [(&cells.duration, of.took_ms), (&cells.request_bytes, received), (&cells.response_bytes, sent)]
        {
            if let Some(cell) = cell {
                cell.record(value);
            }
        }
    }

    /// Something begins whose numbers are told while it is under way.
    pub fn begin(&self, every: Option<Duration>) -> LiveId {
        self.lives.borrow_mut().begin(every)
    }

    /// So much of it has passed.
    pub fn pass(&self, id: LiveId, received: u64, sent: u64) {
        self.lives.borrow_mut().pass(id, received, sent);
    }

    /// It is known now who is at its ends, so that it can be told.
    pub fn know(
        &self,
        id: LiveId,
        filter: &StatsFilter,
        stats: &Stats,
        writer: &Writer,
        (sides, view, is_tcp): (&Sides, StreamView<'_>, bool),
    ) {
        if self.lives.borrow_mut().is_known(id) {
            return;
        }
        let flags = if is_tcp { view.info.flags } else { ResponseFlags::default() };
        let key = PassingKey { ends: self.key(filter, sides, view), is_tcp, flags };
        let known = self.passing.borrow().get(&key).cloned();
        let cells = known.unwrap_or_else(|| {
            let cells = self.with_ends(filter, sides, view, |ends, values| {
                let labels = if is_tcp { ends.connection_labels(flags) } else { ends.labels() };
                let maker = Maker { stats, writer, filter: &filter.engine, labels, values };
                if is_tcp { maker.connections() } else { maker.messages() }
            });
            remember(&self.passing, key, cells)
        });
        self.lives.borrow_mut().know(id, cells);
    }

    /// Whether it is decided who is at the other end of a stream, as far as headers go.
    pub fn is_decided(filter: &StatsFilter, sides: &Sides) -> bool {
        match filter.reporter {
            Reporter::Source => sides.server.is_some(),
            Reporter::Destination | Reporter::Waypoint => sides.client.is_some(),
        }
    }

    /// It is over.
    pub fn end(&self, id: LiveId) {
        self.lives.borrow_mut().end(id);
    }

    /// Tells what is due.
    pub fn tick(&self) {
        self.lives.borrow_mut().tell_due(Instant::now());
    }

    fn key(&self, filter: &StatsFilter, sides: &Sides, view: StreamView<'_>) -> EndsKey {
        let route = route_kind(view);
        let facts = sides.cluster.as_ref().map(|cluster| &cluster.facts);
        let host = match facts.is_none_or(|facts| facts.needs_host(route)) {
            true => host(filter, view),
            false => "",
        };
        EndsKey {
            filter: filter.number,
            peer: number(sides.peer(filter.reporter)),
            server: number(sides.waypoints_server(filter.reporter)),
            cluster: sides.cluster.as_ref().map_or(0, |cluster| cluster.number),
            host: if host.is_empty() { 0 } else { self.text(host) },
            values: match filter.engine.expressions() {
                0 => 0,
                count => self.values(filter, sides, view, count),
            },
            route,
        }
    }

    /// A number for the values of a filter's expressions.
    fn values(&self, filter: &StatsFilter, sides: &Sides, view: StreamView<'_>, count: usize) -> u32 {
        let mut scratch = self.scratch.borrow_mut();
        scratch.clear();
        for expression in 0..count {
            filter.engine.write_value(expression, attributes(sides, view), &mut scratch);
            scratch.push('\0');
        }
        self.text(&scratch)
    }

    /// Makes something of who is at the ends.
    fn with_ends<T>(
        &self,
        filter: &StatsFilter,
        sides: &Sides,
        view: StreamView<'_>,
        make: impl FnOnce(&Ends<'_>, Values<'_>) -> T,
    ) -> T {
        let facts = sides.cluster.as_ref().map(|cluster| &cluster.facts);
        let ends = Ends {
            reporter: filter.reporter,
            local: &self.identity.workload,
            peer: workload(sides.peer(filter.reporter)),
            server: workload(sides.waypoints_server(filter.reporter)),
            destination: destination(host(filter, view), route_kind(view), facts),
            // Connections are plaintext.
            principals: Principals::default(),
        };
        let value = |expression| {
            let mut value = String::new();
            filter.engine.write_value(expression, attributes(sides, view), &mut value);
            value.into()
        };
        make(&ends, Values((0..filter.engine.expressions()).map(value).collect()))
    }
}

fn remember<K: Eq + std::hash::Hash, C>(map: &RefCell<ByNumbers<K, Rc<C>>>, key: K, cells: C) -> Rc<C> {
    let cells = Rc::new(cells);
    let mut map = map.borrow_mut();
    if map.len() >= KEYS_MAX {
        map.clear();
    }
    map.insert(key, Rc::clone(&cells));
    cells
}

fn attributes<'a>(sides: &'a Sides, view: StreamView<'a>) -> AttributeSource<'a> {
    AttributeSource {
        stream: view,
        downstream: workload(sides.client.as_ref()),
        upstream: workload(sides.server.as_ref()),
    }
}

/// The request's host, if it may speak for the destination.
fn host<'v>(filter: &StatsFilter, view: StreamView<'v>) -> &'v str {
    let host = view.request.filter(|_| filter.engine.uses_host).map(|request| request.host());
    host.filter(|host| host.len() <= HOST_BYTES_MAX).unwrap_or_default()
}

fn route_kind(view: StreamView<'_>) -> RouteKind {
    view.info.route.as_deref().filter(|_| view.request.is_some()).map_or(RouteKind::Service, RouteKind::of)
}

/// gRPC's status, as the response says it or as its HTTP status stands for it.
fn grpc_status(of: Finished<'_>) -> Option<u32> {
    if !of.is_grpc {
        return None;
    }
    let said = |headers: Option<&Headers>| headers.and_then(grpc::status);
    said(of.view.trailers)
        .or_else(|| said(of.view.response))
        .or_else(|| of.view.info.status.map(grpc::status_of_http))
}
