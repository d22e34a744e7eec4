//! Floor 4: what stands beside a stock Envoy: bootstrap, supervision, readiness.
