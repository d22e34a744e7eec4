//! Floor 4: the L7 data plane.

pub mod http1;
