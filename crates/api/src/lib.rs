//! Floor 1: Kubernetes and Istio objects as slim types: parse, default, validate.
