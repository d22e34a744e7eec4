//! The HTTP side: any method, any path, answered with a JSON account of the request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use super::{Me, grpc};
use crate::httpbin;

const DELAY_MAX: Duration = Duration::from_secs(30);

pub fn router(me: Arc<Me>, port: u16) -> Router {
    Router::new().route(grpc::PATH, post(grpc::serve)).fallback(echo).with_state(Port { me, port })
}

/// Who answers, and on which port.
#[derive(Clone)]
pub struct Port {
    pub me: Arc<Me>,
    pub port: u16,
}

async fn echo(
    State(port): State<Port>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Query(steer): Query<Vec<(String, String)>>,
    request: Request,
) -> Response {
    let account = account(&port, from, &request);
    let asked = |name: &str| steer.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    if let Some(delay) = asked("delay").and_then(|d| d.parse().ok()) {
        let delay = Duration::try_from_secs_f64(delay).unwrap_or(DELAY_MAX);
        tokio::time::sleep(delay.min(DELAY_MAX)).await;
    }
    let status = match asked("codes") {
        None => StatusCode::OK,
        Some(codes) => match httpbin::draw_status(codes, port.me.draws.next()) {
            Some(status) => status,
            None => return (StatusCode::BAD_REQUEST, "codes: want CODE:WEIGHT,...\n").into_response(),
        },
    };
    let mut response = (status, Json(account)).into_response();
    add_headers(response.headers_mut(), asked("headers").unwrap_or_default());
    response
}

fn add_headers(headers: &mut HeaderMap, pairs: &str) {
    for (name, value) in pairs.split(',').filter_map(|pair| pair.split_once(':')) {
        if let (Ok(name), Ok(value)) =
            (name.trim().parse::<HeaderName>(), HeaderValue::from_str(value.trim()))
        {
            headers.append(name, value);
        }
    }
}

/// What was seen of a request. Header names are lower case, each with all its values.
pub fn account(port: &Port, from: SocketAddr, request: &Request) -> Value {
    let uri = request.uri();
    let host = request.headers().get("host").and_then(|v| v.to_str().ok()).map(str::to_owned);
    json!({
        "hostname": port.me.hostname,
        "method": request.method().as_str(),
        "path": uri.path(),
        "url": uri.path_and_query().map_or("/", |p| p.as_str()),
        "host": host.or_else(|| uri.authority().map(|a| a.to_string())),
        "protocol": protocol(request.version()),
        "port": port.port,
        "source": from.ip().to_canonical().to_string(),
        "headers": headers(request.headers()),
    })
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

fn headers(headers: &HeaderMap) -> Value {
    let mut names: Vec<&HeaderName> = headers.keys().collect();
    names.sort_by_key(|name| name.as_str());
    let entry = |name: &HeaderName| {
        let values = headers.get_all(name).iter().map(|v| Value::from(String::from_utf8_lossy(v.as_bytes())));
        (name.as_str().to_owned(), values.collect::<Value>())
    };
    Value::Object(names.into_iter().map(entry).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flaky::Draws;
    use axum::body::Body;

    #[test]
    fn an_account_has_what_routing_changes() {
        let port = Port { me: Arc::new(Me { hostname: "a-0".into(), draws: Draws::default() }), port: 80 };
        let request = Request::builder()
            .method("PUT")
            .uri("/x/y?q=1")
            .header("host", "a.b")
            .header("x-k", "1")
            .header("x-k", "2")
            .body(Body::empty())
            .unwrap();
        let seen = account(&port, "10.0.0.1:5".parse().unwrap(), &request);
        assert_eq!(seen["hostname"], "a-0");
        assert_eq!(seen["url"], "/x/y?q=1");
        assert_eq!(seen["path"], "/x/y");
        assert_eq!(seen["host"], "a.b");
        assert_eq!(seen["headers"]["x-k"], json!(["1", "2"]));
    }

    #[test]
    fn response_headers_are_taken_from_the_query() {
        let mut answer = HeaderMap::new();
        add_headers(&mut answer, "x-a: 1,x-b:2,bad name:3,none");
        assert_eq!(answer["x-a"], "1");
        assert_eq!(answer["x-b"], "2");
        assert_eq!(answer.len(), 2);
    }
}
