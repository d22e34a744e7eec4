//! Configuration under fire, for a few seconds: no request fails, and each meets one configuration. At full rate, and with
//! memory watched, it is a benchmark (`cargo xtask bench fire`).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use ostro_testkit::fire::{Plan, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_meets_one_configuration_while_it_changes() {
    let plan = Plan {
        updates: 300,
        requests: 300,
        connections: 8,
        warm_up: Duration::from_secs(1),
        fire: Duration::from_secs(6),
    };
    let report = run(plan).await;
    assert_eq!(report.load.failed, 0, "{:#?}\n{}", report.load.failures, report.words);
    assert_eq!(report.refused, [""; 0]);
    assert!(report.acknowledged >= report.updates * 9 / 10, "{} of {}", report.acknowledged, report.updates);
    // Requests met many of the tables, or nothing was shown.
    assert!(report.tables.0 > 50, "{:?}", report.tables);
}
