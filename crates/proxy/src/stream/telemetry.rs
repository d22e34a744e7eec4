//! What Istio's filters do with a stream: who is at its ends is read from headers and told in them, and it is counted when it
//! is over.

use std::sync::Arc;

use ostro_engine::istio::{X_ENVOY_PEER_METADATA, X_ENVOY_PEER_METADATA_ID};
use ostro_engine::{Chosen, Headers, Host};

use super::Stream;
use crate::istio::{Finished, HttpFilters, LiveId, Seen, Sides};
use crate::upstream::WorkerCluster;

/// What is noted of a stream.
#[derive(Default)]
pub(super) struct Noted {
    /// Who is at its ends.
    sides: Sides,
    /// The client said who it is: its node, and its workload.
    said_id: bool,
    said_workload: bool,
    is_grpc: bool,
    /// Filters that the route has switched off, by their places.
    off: u64,
    /// The count of its messages while it is under way.
    messages: Option<LiveId>,
}

impl Noted {
    fn is_on(&self, place: usize) -> bool {
        self.off & bit(place) == 0
    }
}

/// Filters beyond the 64th cannot be switched off by routes; nobody has as many.
fn bit(place: usize) -> u64 {
    u32::try_from(place).ok().and_then(|place| 1_u64.checked_shl(place)).unwrap_or_default()
}

impl<'s> Stream<'s> {
    fn istio(&self) -> Option<&'s HttpFilters> {
        self.scope.manager.istio.as_deref()
    }

    /// Notes which filters the route has, and who the client says it is.
    pub(super) fn meet_client(&mut self, chosen: Option<Chosen<'_>>) {
        let Some(istio) = self.istio() else { return };
        self.noted.is_grpc = self.request.is_grpc();
        let filters = &self.scope.manager.engine.filters;
        let places = istio.exchanges.iter().map(|(place, _)| place);
        for place in places.chain(istio.stats.iter().map(|(place, _)| place)) {
            if let (Some(chosen), Some(filter)) = (chosen, filters.get(*place))
                && !chosen.runs(filter)
            {
                self.noted.off |= bit(*place);
            }
        }
        for (place, exchange) in &istio.exchanges {
            if !exchange.engine.reads_requests || !self.noted.is_on(*place) {
                continue;
            }
            let id = self.request.headers.take(&X_ENVOY_PEER_METADATA_ID);
            let workload = self.request.headers.take(&X_ENVOY_PEER_METADATA);
            self.noted.said_id |= id.is_some();
            self.noted.said_workload |= workload.is_some();
            if self.noted.sides.client.is_none() {
                self.noted.sides.client =
                    self.scope.worker.seen.told(exchange, id.as_ref(), workload.as_ref());
            }
        }
    }

    /// Notes where the request goes, and tells it who this is.
    pub(super) fn meet_cluster(&mut self, cluster: &WorkerCluster) {
        let Some(istio) = self.istio() else { return };
        let live = cluster.live();
        self.noted.sides.cluster = Some(Arc::clone(live));
        for (place, exchange) in &istio.exchanges {
            let telling = exchange.told(exchange.engine.tells_servers).filter(|_| self.noted.is_on(*place));
            let Some((telling, workload)) = telling else { continue };
            if live.facts.is_told_nothing(telling.skips_external) {
                continue;
            }
            if let Some(id) = &self.scope.worker.seen.identity().id {
                self.request.headers.set(X_ENVOY_PEER_METADATA_ID, id.clone());
            }
            self.request.headers.set(X_ENVOY_PEER_METADATA, workload.clone());
        }
        self.begin_messages(istio);
    }

    /// Notes which host was chosen.
    pub(super) fn meet_host(&mut self, host: &Host) {
        if self.istio().is_some_and(|istio| istio.is_source) {
            self.noted.sides.endpoint = self.scope.worker.seen.endpoint(host);
        }
    }

    /// Notes who the server says it is, and tells the client who this is, if it told itself.
    pub(super) fn meet_server(&mut self, headers: &mut Headers) {
        let Some(istio) = self.istio() else { return };
        let seen = &self.scope.worker.seen;
        for (place, exchange) in &istio.exchanges {
            if !self.noted.is_on(*place) {
                continue;
            }
            if exchange.engine.reads_responses {
                let id = headers.take(&X_ENVOY_PEER_METADATA_ID);
                let workload = headers.take(&X_ENVOY_PEER_METADATA);
                if self.noted.sides.server.is_none() {
                    self.noted.sides.server = seen.told(exchange, id.as_ref(), workload.as_ref());
                }
            }
            let Some((telling, workload)) = exchange.told(exchange.engine.tells_clients) else { continue };
            let cluster = self.noted.sides.cluster.as_ref();
            if cluster.is_some_and(|cluster| cluster.facts.is_told_nothing(telling.skips_external)) {
                continue;
            }
            if let Some(id) = seen.identity().id.as_ref().filter(|_| self.noted.said_id) {
                headers.set(X_ENVOY_PEER_METADATA_ID, id.clone());
            }
            if self.noted.said_workload {
                headers.set(X_ENVOY_PEER_METADATA, workload.clone());
            }
        }
        self.know_messages(istio, false);
    }

    /// Whether the messages of this stream are to be counted.
    pub(super) fn counts_messages(&self) -> bool {
        self.noted.messages.is_some()
    }

    fn begin_messages(&mut self, istio: &HttpFilters) {
        let first = istio.stats.iter().find(|(place, _)| self.noted.is_on(*place));
        if let Some((_, filter)) = first.filter(|_| istio.counts_messages && self.noted.is_grpc) {
            self.noted.messages = Some(self.scope.worker.seen.begin(filter.engine.report_interval));
            self.know_messages(istio, false);
        }
    }

    /// So many messages have come and gone.
    pub(super) fn pass_messages(&self, received: u64, sent: u64) {
        if let Some(id) = self.noted.messages {
            self.scope.worker.seen.pass(id, received, sent);
        }
    }

    /// Messages can be told once it is decided who is at the other end, at the latest when the stream `is_over`.
    fn know_messages(&self, istio: &HttpFilters, is_over: bool) {
        let Some(id) = self.noted.messages else { return };
        let first = istio.stats.iter().find(|(place, _)| self.noted.is_on(*place));
        let Some((_, filter)) = first else { return };
        if is_over || Seen::is_decided(filter, &self.noted.sides) {
            let worker = &self.scope.worker;
            let told = (&self.noted.sides, self.view(), false);
            worker.seen.know(id, filter, &worker.shared.stats, &worker.writer, told);
        }
    }

    /// Counts the stream, which is over.
    pub(super) fn report_telemetry(&mut self, took_ms: u64) {
        let Some(istio) = self.istio() else { return };
        let worker = &self.scope.worker;
        self.know_messages(istio, true);
        if let Some(id) = self.noted.messages {
            worker.seen.end(id);
        }
        for (_, filter) in istio.stats.iter().filter(|(place, _)| self.noted.is_on(*place)) {
            let finished = Finished {
                sides: &self.noted.sides,
                view: self.view(),
                is_grpc: self.noted.is_grpc,
                took_ms,
            };
            worker.seen.count(filter, &worker.shared.stats, &worker.writer, finished);
        }
    }
}
