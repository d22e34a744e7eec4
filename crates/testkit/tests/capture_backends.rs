//! Both back ends let the same packets through, whatever the configuration.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

#[path = "../../capture/tests/support/configs.rs"]
mod configs;

use ostro_testkit::conformance::capture_disagreements;
use proptest::prelude::*;

proptest! {
    // Each sends about two thousand packets through either.
    #![proptest_config(ProptestConfig { cases: 5, failure_persistence: None, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn both_back_ends_treat_packets_alike(config in configs::config()) {
        prop_assert_eq!(capture_disagreements(&config), Ok(Vec::new()));
    }
}
