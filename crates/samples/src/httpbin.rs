//! The parts of httpbin that routing examples use, with answers of the same shape.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::flaky::Draws;
use crate::serve;

/// As in the original.
const DELAY_MAX: Duration = Duration::from_secs(10);
const BYTES_MAX: usize = 1 << 20;

#[derive(clap::Args)]
pub struct Options {
    /// Port to listen on
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,
}

pub async fn run(options: Options) -> io::Result<()> {
    serve::http(router(), options.port).await
}

pub fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "httpbin: status, headers, get, anything, delay, ip, bytes, unstable\n" }))
        .route("/health", get(|| async { "ok" }))
        .route(
            "/headers",
            get(|headers: HeaderMap| async move { Json(json!({"headers": listed(&headers)})) }),
        )
        .route(
            "/ip",
            get(|ConnectInfo(from): ConnectInfo<SocketAddr>| async move {
                Json(json!({"origin": from.ip().to_canonical().to_string()}))
            }),
        )
        .route("/user-agent", get(user_agent))
        .route("/status/{codes}", any(status))
        .route("/delay/{seconds}", any(delay))
        .route("/bytes/{count}", get(bytes))
        .route("/response-headers", get(response_headers))
        .route("/unstable", any(unstable))
        .route("/get", get(anything))
        .route("/{method}", any(anything_by_method))
        .route("/anything", any(anything))
        .route("/anything/{*rest}", any(anything))
        .with_state(Arc::new(Draws::default()))
}

/// Headers by name in Go's spelling, each with all its values.
fn listed(headers: &HeaderMap) -> Value {
    let mut map = Map::new();
    let mut names: Vec<&HeaderName> = headers.keys().collect();
    names.sort_by_key(|name| name.as_str());
    for name in names {
        let values = headers.get_all(name).iter().map(|v| Value::from(String::from_utf8_lossy(v.as_bytes())));
        map.insert(canonical(name.as_str()), values.collect());
    }
    Value::Object(map)
}

/// `x-request-id` as `X-Request-Id`.
fn canonical(name: &str) -> String {
    let mut upper = true;
    name.chars()
        .map(|c| {
            let cased = if upper { c.to_ascii_uppercase() } else { c };
            upper = c == '-';
            cased
        })
        .collect()
}

async fn user_agent(headers: HeaderMap) -> Json<Value> {
    let agent = headers.get("user-agent").map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    Json(json!({ "user-agent": agent }))
}

/// One status, or one drawn from a weighted list: `200:3,500:1`.
async fn status(State(draws): State<Arc<Draws>>, Path(codes): Path<String>) -> Response {
    match draw_status(&codes, draws.next()) {
        Some(code) => code.into_response(),
        None => (StatusCode::BAD_REQUEST, "want CODE or CODE:WEIGHT,...\n").into_response(),
    }
}

/// The status at `point` (0.0 to 1.0) of the cumulated weights.
pub fn draw_status(codes: &str, point: f64) -> Option<StatusCode> {
    let mut weighted = Vec::new();
    for entry in codes.split(',') {
        let (code, weight) = entry.split_once(':').unwrap_or((entry, "1"));
        let weight: f64 = weight.trim().parse().ok().filter(|w: &f64| w.is_finite() && *w >= 0.0)?;
        weighted.push((code.trim().parse::<StatusCode>().ok()?, weight));
    }
    let mut left = point * weighted.iter().map(|(_, weight)| weight).sum::<f64>();
    for (code, weight) in &weighted {
        if left < *weight {
            return Some(*code);
        }
        left -= weight;
    }
    weighted.last().map(|(code, _)| *code)
}

async fn delay(Path(seconds): Path<f64>) -> Response {
    let Ok(wanted) = Duration::try_from_secs_f64(seconds) else {
        return (StatusCode::BAD_REQUEST, "want a number of seconds\n").into_response();
    };
    tokio::time::sleep(wanted.min(DELAY_MAX)).await;
    Json(json!({ "delay": seconds })).into_response()
}

async fn bytes(Path(count): Path<usize>) -> Bytes {
    Bytes::from(vec![b'*'; count.min(BYTES_MAX)])
}

/// Answers with the query's pairs as headers.
async fn response_headers(Query(pairs): Query<Vec<(String, String)>>) -> Response {
    let mut response = StatusCode::OK.into_response();
    for (name, value) in &pairs {
        let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) else {
            return (StatusCode::BAD_REQUEST, "not a header\n").into_response();
        };
        response.headers_mut().append(name, value);
    }
    response
}

/// Fails with 500 in the given share (0.0 to 1.0) of all calls, half of them by default.
async fn unstable(State(draws): State<Arc<Draws>>, Query(query): Query<Vec<(String, String)>>) -> StatusCode {
    let share =
        query.iter().find(|(key, _)| key == "failure_rate").map_or(Ok(0.5), |(_, v)| v.parse::<f64>());
    match share {
        Ok(share) if draws.hit(share) => StatusCode::INTERNAL_SERVER_ERROR,
        Ok(_) => StatusCode::OK,
        Err(_) => StatusCode::BAD_REQUEST,
    }
}

/// `/post`, `/put`, `/patch` and `/delete` take only the method they are named after.
async fn anything_by_method(
    Path(name): Path<String>,
    method: Method,
    from: ConnectInfo<SocketAddr>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !["post", "put", "patch", "delete"].contains(&name.as_str()) {
        return StatusCode::NOT_FOUND.into_response();
    }
    if !method.as_str().eq_ignore_ascii_case(&name) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    anything(method, from, uri, headers, body).await.into_response()
}

/// Everything about the request.
async fn anything(
    method: Method,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Json<Value> {
    let host = headers.get("host").map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    let host = host.or_else(|| uri.authority().map(|a| a.to_string())).unwrap_or_default();
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    Json(json!({
        "args": args(uri.query().unwrap_or_default()),
        "headers": listed(&headers),
        "method": method.as_str(),
        "origin": from.ip().to_canonical().to_string(),
        "url": format!("http://{host}{path}"),
        "data": String::from_utf8_lossy(&body),
        "json": serde_json::from_slice::<Value>(&body).unwrap_or(Value::Null),
    }))
}

fn args(query: &str) -> Value {
    let mut map = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let values = map.entry(name).or_insert_with(|| json!([]));
        if let Some(values) = values.as_array_mut() {
            values.push(value.into());
        }
    }
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_drawn_by_weight() {
        assert_eq!(draw_status("404", 0.7), Some(StatusCode::NOT_FOUND));
        assert_eq!(draw_status("200:3,500:1", 0.74), Some(StatusCode::OK));
        assert_eq!(draw_status("200:3,500:1", 0.76), Some(StatusCode::INTERNAL_SERVER_ERROR));
        assert_eq!(draw_status("200:x", 0.0), None);
        assert_eq!(draw_status("teapot", 0.0), None);
        assert_eq!(draw_status("20000", 0.0), None);
    }

    #[test]
    fn header_names_are_spelt_as_go_spells_them() {
        assert_eq!(canonical("x-forwarded-for"), "X-Forwarded-For");
    }
}
