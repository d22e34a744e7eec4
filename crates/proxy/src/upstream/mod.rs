//! The way to upstreams: a worker's view of clusters, its pools of connections, and what carries one request.

mod carrier;
mod connect;
mod error;
mod http1;
mod http2;
mod multiplexed;
mod pool;
mod raw;

pub(crate) use carrier::Carrier;
pub(crate) use connect::open;
pub(crate) use error::UpstreamError;
pub(crate) use http1::{Call as Http1Call, ResponseHead};
pub(crate) use pool::{AcquireError, Lease, Plan, WorkerCluster};

use ostro_engine::Cluster;

use crate::h2::Handle;
use crate::wire::Wire;

/// Carries one request on a connection of HTTP/1 to a cluster.
pub(crate) fn carrier_http1(wire: Wire, cluster: &Cluster) -> Carrier {
    Carrier::Http1(http1::Call::new(wire, pool::terms(cluster)))
}

/// Carries one request on a connection of HTTP/2.
pub(crate) fn carrier_http2(handle: Handle) -> Carrier {
    Carrier::Http2(http2::Call::new(handle))
}
