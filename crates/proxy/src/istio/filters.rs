//! Istio's filters of one connection manager or filter chain that is in force.

use std::sync::Arc;

use http::HeaderValue;
use ostro_engine::istio::{IstioStats, PeerMetadata, Reporter, Telling};
use ostro_engine::{Direction, HttpFilter, HttpFilterKind, NetworkFilter};

use super::identity::{Identity, LabelSet};
use crate::config::Shared;
use crate::stats::{Gauge, MetadataExchangeStats, Scope, SeriesName, Thread};

/// What counts.
pub(crate) struct StatsFilter {
    /// Stands for it in keys.
    pub number: u32,
    /// Whose report it is.
    pub reporter: Reporter,
    /// What it counts, and how.
    pub engine: Arc<IstioStats>,
}

/// What learns of peers, and tells them.
pub(crate) struct Exchange {
    /// What is configured.
    pub engine: Arc<PeerMetadata>,
    /// Labels that are read of peers besides.
    pub(super) labels: LabelSet,
    /// The proxy's own metadata.
    own: Option<HeaderValue>,
}

/// Those of a connection manager.
pub(crate) struct HttpFilters {
    /// In order; by the place of the filter among the manager's.
    pub exchanges: Vec<(usize, Exchange)>,
    /// The same of what counts.
    pub stats: Vec<(usize, StatsFilter)>,
    /// Messages of gRPC are counted.
    pub counts_messages: bool,
    /// Some report is a client's.
    pub is_source: bool,
}

/// Those of a filter chain that carries bytes.
#[derive(Default)]
pub(crate) struct TcpFilters {
    /// What counts.
    pub stats: Vec<StatsFilter>,
    /// What is counted of asking for peers, where they are: without, nothing is decided about them.
    pub exchange: Option<Scope<MetadataExchangeStats>>,
}

impl StatsFilter {
    fn new(engine: &Arc<IstioStats>, direction: Direction, shared: &Shared) -> StatsFilter {
        let labels = shared.identity.workload.build_labels();
        let labels = labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let build = SeriesName { metric: "istio_build", labels };
        let writer = shared.stats.writer(Thread::Main);
        if let Some(gauge) = shared.stats.labelled().on::<Gauge>(&writer, build) {
            gauge.add(1 - gauge.get());
        }
        StatsFilter {
            number: shared.identity.number(),
            reporter: engine.reporter(direction),
            engine: Arc::clone(engine),
        }
    }
}

impl Exchange {
    fn new(engine: &Arc<PeerMetadata>, identity: &Identity) -> Exchange {
        Exchange {
            labels: identity.label_set(&engine.labels),
            own: identity.header(&engine.labels),
            engine: Arc::clone(engine),
        }
    }

    /// The proxy's own metadata as a header has it, if there is somebody to be told.
    pub fn told(&self, telling: Option<Telling>) -> Option<(Telling, &HeaderValue)> {
        telling.zip(self.own.as_ref())
    }
}

impl HttpFilters {
    /// Those among a manager's filters; nothing if there are none.
    pub fn of(filters: &[HttpFilter], direction: Direction, shared: &Shared) -> Option<Box<HttpFilters>> {
        let (mut exchanges, mut stats, mut counts_messages) = (Vec::new(), Vec::new(), false);
        for (place, filter) in filters.iter().enumerate() {
            match &filter.kind {
                HttpFilterKind::PeerMetadata(engine) => {
                    exchanges.push((place, Exchange::new(engine, &shared.identity)));
                }
                HttpFilterKind::IstioStats(engine) => {
                    stats.push((place, StatsFilter::new(engine, direction, shared)));
                }
                HttpFilterKind::GrpcStats(grpc) => counts_messages |= grpc.emits_filter_state,
                _ => {}
            }
        }
        if exchanges.is_empty() && stats.is_empty() {
            return None;
        }
        counts_messages &= !stats.is_empty();
        let is_source = stats.iter().any(|(_, filter)| filter.reporter == Reporter::Source);
        Some(Box::new(HttpFilters { exchanges, stats, counts_messages, is_source }))
    }
}

impl TcpFilters {
    /// Those among a chain's filters.
    pub fn of(filters: &[NetworkFilter], direction: Direction, shared: &Shared) -> TcpFilters {
        let mut all = TcpFilters::default();
        for filter in filters {
            match filter {
                NetworkFilter::IstioStats(engine) => {
                    all.stats.push(StatsFilter::new(engine, direction, shared));
                }
                NetworkFilter::MetadataExchange(_) => all.exchange = Some(shared.stats.metadata_exchange()),
                NetworkFilter::SetFilterState(_) => {}
            }
        }
        all
    }
}
