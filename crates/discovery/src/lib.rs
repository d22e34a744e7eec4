//! Floor 3: the ADS server: subscriptions, what changed for whom, pushes.
