//! The pages: metrics, readiness, and what every proxy has, at the paths that istiod has them at.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, serve as serve_http};
use ostro_discovery::Handle;
use ostro_discovery::status::{Dump, ProxyStatus};
use ostro_mesh::Snapshot;
use ostro_telemetry::Metrics;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the pages show.
pub(crate) struct Pages {
    pub discovery: Handle<Snapshot>,
    pub metrics: Metrics,
    pub version: &'static str,
}

type Shared = State<Arc<Pages>>;

/// Serves the pages until `stop`.
pub(crate) async fn serve(listener: TcpListener, pages: Arc<Pages>, stop: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/ready", get(ready))
        .route("/version", get(version))
        .route("/debug/syncz", get(syncz))
        .route("/debug/push_status", get(push_status))
        .route("/debug/connections", get(connections))
        .route("/debug/config_dump", get(config_dump))
        .with_state(pages);
    let shutdown = stop.clone();
    if let Err(error) = serve_http(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
    {
        tracing::error!(%error, "pages are served no longer");
        stop.cancel();
    }
}

async fn metrics(State(pages): Shared) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], pages.metrics.encode()).into_response()
}

/// The pages are served only once the configuration has been read: whoever is answered is answered by one that is ready.
async fn ready() -> StatusCode {
    StatusCode::OK
}

async fn version(State(pages): Shared) -> Json<Value> {
    Json(json!({ "version": pages.version, "product": "ostro" }))
}

async fn syncz(State(pages): Shared) -> Json<Vec<ProxyStatus>> {
    Json(pages.discovery.proxies().await)
}

/// What is still on its way, and what was refused.
async fn push_status(State(pages): Shared) -> Json<Value> {
    let proxies = pages.discovery.proxies().await;
    let types = proxies.iter().flat_map(|proxy| proxy.types.iter().map(move |kind| (proxy, kind)));
    let open: Vec<Value> = types
        .filter(|(_, kind)| kind.state == "STALE" || kind.state == "ERROR")
        .map(|(proxy, kind)| {
            json!({ "proxy": proxy.proxy, "type": kind.r#type, "state": kind.state,
                                     "pending": kind.pending, "refusal": kind.refusal })
        })
        .collect();
    Json(json!({ "proxies": proxies.len(), "open": open }))
}

async fn connections(State(pages): Shared) -> Json<Value> {
    let proxies = pages.discovery.proxies().await;
    let clients: Vec<Value> = proxies
        .iter()
        .map(|proxy| {
            json!({ "proxy": proxy.proxy, "transport": proxy.transport,
                             "connectedSince": proxy.connected_since })
        })
        .collect();
    Json(json!({ "totalClients": clients.len(), "clients": clients }))
}

/// Whose configuration: Istio's parameter name.
#[derive(serde::Deserialize)]
struct Whose {
    #[serde(rename = "proxyID")]
    proxy: Option<String>,
}

async fn config_dump(State(pages): Shared, Query(whose): Query<Whose>) -> Response {
    let Some(proxy) = whose.proxy else {
        return (StatusCode::BAD_REQUEST, "proxyID is missing: a node id, or pod.namespace\n")
            .into_response();
    };
    match pages.discovery.dump(&proxy).await {
        Some(dump) => Json(dumped(&dump)).into_response(),
        None => (StatusCode::NOT_FOUND, format!("no proxy {proxy} is connected\n")).into_response(),
    }
}

fn dumped(dump: &Dump) -> Value {
    let resources: Vec<Value> = dump
        .resources
        .iter()
        .map(|resource| {
            json!({ "type": resource.kind.short(), "name": resource.name, "version": resource.version,
                                "bytes": resource.bytes.len(), "message": resource.text() })
        })
        .collect();
    json!({ "status": dump.status, "resources": resources })
}
