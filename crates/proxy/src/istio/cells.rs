//! The cells of a label set.

use ostro_engine::istio::{IstioStats, Labels, Metric, Values};

use crate::stats::{Counter, Histogram, Labelled, SeriesName, Stats, Writer};

/// What is counted of requests. What is not counted, or finds no room, is not there.
#[derive(Default)]
pub(super) struct RequestCells {
    pub requests: Option<Labelled<Counter>>,
    pub duration: Option<Labelled<Histogram>>,
    pub request_bytes: Option<Labelled<Histogram>>,
    pub response_bytes: Option<Labelled<Histogram>>,
}

/// What is counted of streams or connections while they are under way: two numbers that grow, and that they began and
/// ended.
#[derive(Default)]
pub(super) struct PassingCells {
    /// Of what came from the client.
    pub received: Option<Labelled<Counter>>,
    /// Of what went to it.
    pub sent: Option<Labelled<Counter>>,
    pub opened: Option<Labelled<Counter>>,
    pub closed: Option<Labelled<Counter>>,
}

/// Makes the cells of a label set.
pub(super) struct Maker<'m> {
    pub stats: &'m Stats,
    pub writer: &'m Writer,
    pub filter: &'m IstioStats,
    pub labels: Labels<'m>,
    pub values: Values<'m>,
}

impl Maker<'_> {
    pub fn requests(&self) -> RequestCells {
        RequestCells {
            requests: self.cell(Metric::Requests),
            duration: self.cell(Metric::RequestDuration),
            request_bytes: self.cell(Metric::RequestBytes),
            response_bytes: self.cell(Metric::ResponseBytes),
        }
    }

    pub fn messages(&self) -> PassingCells {
        PassingCells {
            received: self.cell(Metric::RequestMessages),
            sent: self.cell(Metric::ResponseMessages),
            ..PassingCells::default()
        }
    }

    pub fn connections(&self) -> PassingCells {
        PassingCells {
            received: self.cell(Metric::ReceivedBytes),
            sent: self.cell(Metric::SentBytes),
            opened: self.cell(Metric::ConnectionsOpened),
            closed: self.cell(Metric::ConnectionsClosed),
        }
    }

    fn cell<K: crate::stats::Kind>(&self, metric: Metric) -> Option<Labelled<K>> {
        let labels = self.filter.labels(metric, &self.labels, &self.values)?;
        self.stats.labelled().on(self.writer, SeriesName { metric: metric.name(), labels })
    }
}
