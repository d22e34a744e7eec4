//! `GET /ratings/{id}`: stars by reviewer; `POST` sets them. `--fail-percent` makes it unreliable, for
//! trying retries.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::flaky::Draws;
use crate::serve;

/// Books whose posted ratings are remembered; further ones are refused.
const BOOKS_MAX: usize = 1_000;

#[derive(clap::Args)]
pub struct Options {
    /// Port to listen on
    #[arg(long, env = "PORT", default_value_t = super::PORT)]
    port: u16,
    /// Share of requests, in percent, that are answered with 500
    #[arg(long, env = "FAIL_PERCENT", default_value_t = 0)]
    fail_percent: u8,
}

struct Ratings {
    fail_share: f64,
    draws: Draws,
    posted: Mutex<BTreeMap<u64, Value>>,
}

pub async fn run(options: Options) -> io::Result<()> {
    serve::http(router(options.fail_percent), options.port).await
}

fn router(fail_percent: u8) -> Router {
    let state = Arc::new(Ratings {
        fail_share: f64::from(fail_percent) / 100.0,
        draws: Draws::default(),
        posted: Mutex::default(),
    });
    Router::new()
        .route("/health", get(|| async { super::healthy("Ratings") }))
        .route("/ratings/{id}", get(read).post(write))
        .with_state(state)
}

type Answer = (StatusCode, Json<Value>);

fn complaint(status: StatusCode, text: &str) -> Answer {
    (status, Json(json!({ "error": text })))
}

async fn read(State(ratings): State<Arc<Ratings>>, Path(id): Path<String>) -> Answer {
    let Ok(id) = id.parse::<u64>() else {
        return complaint(StatusCode::BAD_REQUEST, "please provide numeric product ID");
    };
    if ratings.draws.hit(ratings.fail_share) {
        return complaint(StatusCode::INTERNAL_SERVER_ERROR, "ratings fail on purpose");
    }
    let posted = ratings.posted.lock().unwrap_or_else(PoisonError::into_inner);
    let stars = posted.get(&id).cloned().unwrap_or_else(|| json!({"Reviewer1": 5, "Reviewer2": 4}));
    (StatusCode::OK, Json(json!({ "id": id, "ratings": stars })))
}

async fn write(
    State(ratings): State<Arc<Ratings>>,
    Path(id): Path<String>,
    Json(stars): Json<BTreeMap<String, u8>>,
) -> Answer {
    let Ok(id) = id.parse::<u64>() else {
        return complaint(StatusCode::BAD_REQUEST, "please provide numeric product ID");
    };
    let mut posted = ratings.posted.lock().unwrap_or_else(PoisonError::into_inner);
    if posted.len() >= BOOKS_MAX && !posted.contains_key(&id) {
        return complaint(StatusCode::INSUFFICIENT_STORAGE, "too many books");
    }
    let stars = json!(stars);
    posted.insert(id, stars.clone());
    (StatusCode::OK, Json(json!({ "id": id, "ratings": stars })))
}
