//! The load generator itself: paced, and honest about failures.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ostro_testkit::load::{Load, Plan};
use tokio::net::TcpListener;

/// A server that fails every tenth request.
async fn flaky_server() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let count = count.clone();
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(
                TokioIo::new(stream),
                service_fn(move |_| {
                    let turn = count.fetch_add(1, Ordering::Relaxed);
                    async move {
                        let status = if turn % 10 == 9 { 503 } else { 200 };
                        hyper::Response::builder().status(status).body(Full::new(bytes::Bytes::from("hello")))
                    }
                }),
            ));
        }
    });
    address
}

#[tokio::test]
async fn counts_every_answer_and_failure() {
    let target = flaky_server().await;
    let plan = Plan {
        target,
        path: "/".to_string(),
        headers: vec![("host".to_string(), "test".to_string())],
        rate: 500,
        connections: 4,
    };
    let load = Load::start(plan, |answer| match answer.status {
        200 => Ok("ok".to_string()),
        status => Err(format!("status {status}")),
    });
    load.more(200).await;
    let report = load.finish().await;
    assert!(report.total() >= 200, "{report:?}");
    assert_eq!(report.failed, report.total() / 10, "{report:?}");
}
