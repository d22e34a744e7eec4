//! Floor 2: (snapshot, proxy) to Envoy xDS resources, one file per concern.
