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
pub(crate) use error::UpstreamError;
pub(crate) use http1::ResponseHead;
pub(crate) use pool::{AcquireError, Lease, Plan, WorkerCluster};
