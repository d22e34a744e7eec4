//! The front page: `/productpage` for people, `/api/v1/products` for programs.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Form, Path, State};
use axum::http::header::{COOKIE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::page;
use crate::upstream::{Failure, Upstream};
use crate::{propagate, serve};

/// Patience with details and with reviews, each attempt.
const TIMEOUT: Duration = Duration::from_secs(3);
const SESSION: &str = "session";
/// Longest user name taken from a login.
const USER_BYTES_MAX: usize = 64;

#[derive(clap::Args)]
pub struct Options {
    /// Port to listen on
    #[arg(long, env = "PORT", default_value_t = super::PORT)]
    port: u16,
    /// Where details are
    #[arg(long, env = "DETAILS_URL", default_value = "http://details:9080/details")]
    details: String,
    /// Where reviews are
    #[arg(long, env = "REVIEWS_URL", default_value = "http://reviews:9080/reviews")]
    reviews: String,
}

struct Front {
    details: String,
    reviews: String,
    upstream: Upstream,
}

pub async fn run(options: Options) -> io::Result<()> {
    let state = Front { details: options.details, reviews: options.reviews, upstream: Upstream::new() };
    let router = Router::new()
        .route("/", get(|| async { Redirect::to("/productpage") }))
        .route("/index.html", get(|| async { Redirect::to("/productpage") }))
        .route("/health", get(|| async { "Product page is healthy" }))
        .route("/productpage", get(front))
        .route("/login", post(login))
        .route("/logout", get(logout))
        .route("/api/v1/products", get(|| async { Json(json!([product()])) }))
        .route("/api/v1/products/{id}", get(details))
        .route("/api/v1/products/{id}/reviews", get(reviews))
        .route("/api/v1/products/{id}/ratings", get(ratings))
        .with_state(Arc::new(state));
    serve::http(router, options.port).await
}

fn product() -> Value {
    json!({
        "id": 0,
        "title": "The Comedy of Errors",
        "descriptionHtml": "One of Shakespeare's earliest and shortest plays: two pairs of identical \
            twins, parted at birth, meet in Ephesus without knowing it, and a single day goes wrong \
            for everybody.",
    })
}

impl Front {
    async fn details(&self, id: &str, headers: &HeaderMap) -> Result<Value, Failure> {
        self.upstream.json(&format!("{}/{id}", self.details), headers, TIMEOUT, 1).await
    }

    /// Reviews get a second chance, which is why a slow rating costs the page six seconds.
    async fn reviews(&self, id: &str, headers: &HeaderMap) -> Result<Value, Failure> {
        self.upstream.json(&format!("{}/{id}", self.reviews), headers, TIMEOUT, 2).await
    }
}

async fn front(State(front): State<Arc<Front>>, incoming: HeaderMap) -> Html<String> {
    let user = user(&incoming);
    let headers = upstream_headers(&incoming, user.as_deref());
    let (details, reviews) = tokio::join!(front.details("0", &headers), front.reviews("0", &headers));
    Html(page::render(&product(), details.ok().as_ref(), reviews.ok().as_ref(), user.as_deref()))
}

async fn details(State(front): State<Arc<Front>>, Path(id): Path<u64>, incoming: HeaderMap) -> Response {
    let headers = upstream_headers(&incoming, user(&incoming).as_deref());
    let what = "product details are";
    answer(front.details(&id.to_string(), &headers).await, what)
}

async fn reviews(State(front): State<Arc<Front>>, Path(id): Path<u64>, incoming: HeaderMap) -> Response {
    let headers = upstream_headers(&incoming, user(&incoming).as_deref());
    answer(front.reviews(&id.to_string(), &headers).await, "product reviews are")
}

/// The stars alone, out of the reviews.
async fn ratings(State(front): State<Arc<Front>>, Path(id): Path<u64>, incoming: HeaderMap) -> Response {
    let headers = upstream_headers(&incoming, user(&incoming).as_deref());
    let stars = front.reviews(&id.to_string(), &headers).await.map(|reviews| {
        let list = reviews["reviews"].as_array().cloned().unwrap_or_default();
        let pairs = list
            .iter()
            .filter_map(|r| Some((r["reviewer"].as_str()?.to_owned(), r["rating"]["stars"].clone())));
        json!({"id": id, "ratings": Value::Object(pairs.collect())})
    });
    answer(stars, "product ratings are")
}

/// What an upstream said, or its status with an apology; 500 if it said nothing.
fn answer(result: Result<Value, Failure>, what: &str) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(failure) => {
            let status = match failure {
                Failure::Status(status) => status,
                Failure::Unreachable => StatusCode::INTERNAL_SERVER_ERROR,
            };
            let text = format!("Sorry, {what} currently unavailable for this book.");
            (status, Json(json!({ "error": text }))).into_response()
        }
    }
}

/// The headers that go on, with the logged-in user as `end-user`, by which meshes route.
fn upstream_headers(incoming: &HeaderMap, user: Option<&str>) -> HeaderMap {
    let mut headers = propagate::passed_on(incoming);
    if let Some(value) = user.and_then(|user| HeaderValue::from_str(user).ok()) {
        headers.insert("end-user", value);
    }
    headers
}

/// The user in the session cookie.
fn user(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, value)| *name == SESSION && is_user(value))
        .map(|(_, value)| value.to_owned())
}

/// Names that can stand in a cookie and a header as they are.
fn is_user(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@');
    !name.is_empty() && name.len() <= USER_BYTES_MAX && name.bytes().all(fits)
}

#[derive(Deserialize)]
struct Login {
    username: String,
}

async fn login(Form(login): Form<Login>) -> Response {
    if !is_user(&login.username) {
        return (StatusCode::BAD_REQUEST, "user names are letters, digits and -_.@\n").into_response();
    }
    back_with_cookie(&format!("{SESSION}={}; Path=/; HttpOnly; SameSite=Lax", login.username))
}

async fn logout() -> Response {
    back_with_cookie(&format!("{SESSION}=; Path=/; Max-Age=0"))
}

fn back_with_cookie(cookie: &str) -> Response {
    (StatusCode::FOUND, [(LOCATION, "/productpage"), (SET_COOKIE, cookie)]).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(line: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, line.parse().unwrap());
        headers
    }

    #[test]
    fn the_user_comes_from_the_session_cookie() {
        assert_eq!(user(&cookies("a=b; session=jason")).as_deref(), Some("jason"));
        assert_eq!(user(&cookies("session=")), None);
        assert_eq!(user(&cookies("session=a b")), None);
        assert_eq!(user(&HeaderMap::new()), None);
        let headers = upstream_headers(&cookies("session=jason"), Some("jason"));
        assert_eq!(headers["end-user"], "jason");
    }
}
