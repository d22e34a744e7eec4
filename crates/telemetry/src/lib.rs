//! Floor 3: metrics and logs of the control plane.
