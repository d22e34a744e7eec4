//! `GET /reviews/{id}`: two reviews. v1 has no stars; v2 shows black ones and v3 red ones, asked from
//! ratings.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::upstream::Upstream;
use crate::{propagate, serve};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Version {
    V1,
    V2,
    V3,
}

impl Version {
    fn color(self) -> Option<&'static str> {
        match self {
            Version::V1 => None,
            Version::V2 => Some("black"),
            Version::V3 => Some("red"),
        }
    }

    /// How long it waits for ratings. v2's patience is longer than productpage's: the flaw that the
    /// well-known fault-injection exercise is there to find.
    fn patience(self) -> Duration {
        match self {
            Version::V2 => Duration::from_secs(10),
            Version::V1 | Version::V3 => Duration::from_millis(2_500),
        }
    }
}

#[derive(clap::Args)]
pub struct Options {
    /// Port to listen on
    #[arg(long, env = "PORT", default_value_t = super::PORT)]
    port: u16,
    /// Which version to be
    #[arg(long, env = "SERVICE_VERSION", value_enum, default_value_t = Version::V1)]
    version: Version,
    /// Where ratings are
    #[arg(long, env = "RATINGS_URL", default_value = "http://ratings:9080/ratings")]
    ratings: String,
}

struct Reviews {
    version: Version,
    ratings: String,
    upstream: Upstream,
    pod: String,
}

pub async fn run(options: Options) -> io::Result<()> {
    let state = Arc::new(Reviews {
        version: options.version,
        ratings: options.ratings,
        upstream: Upstream::new(),
        pod: serve::hostname(),
    });
    let router = Router::new()
        .route("/health", get(|| async { super::healthy("Reviews") }))
        .route("/reviews/{id}", get(reviews))
        .with_state(state);
    serve::http(router, options.port).await
}

const TEXTS: [(&str, &str); 2] = [
    ("Reviewer1", "Two pairs of twins, one day, one town: I laughed until my neighbour knocked."),
    ("Reviewer2", "Short and quick, and everyone is mistaken for somebody else. Read it aloud."),
];

async fn reviews(
    State(state): State<Arc<Reviews>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> (StatusCode, Json<Value>) {
    if id.parse::<u64>().is_err() {
        let complaint = json!({"error": "please provide numeric product ID"});
        return (StatusCode::BAD_REQUEST, Json(complaint));
    }
    let stars = match state.version.color() {
        None => None,
        Some(color) => {
            let url = format!("{}/{id}", state.ratings);
            let headers = propagate::passed_on(&headers);
            let answer = state.upstream.json(&url, &headers, state.version.patience(), 1).await;
            Some((color, answer.ok()))
        }
    };
    let list: Vec<Value> =
        TEXTS.iter().map(|(reviewer, text)| review(reviewer, text, stars.as_ref())).collect();
    let body = json!({"id": id, "podname": state.pod, "clustername": "null", "reviews": list});
    (StatusCode::OK, Json(body))
}

/// One review; `stars` is the colour and, if ratings answered, what they said.
fn review(reviewer: &str, text: &str, stars: Option<&(&str, Option<Value>)>) -> Value {
    let mut review = json!({"reviewer": reviewer, "text": text});
    let Some((color, answer)) = stars else { return review };
    let count = answer.as_ref().and_then(|answer| answer["ratings"][reviewer].as_u64());
    review["rating"] = match count {
        Some(count) => json!({"stars": count, "color": color}),
        None => json!({"error": "Ratings service is currently unavailable"}),
    };
    review
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_take_the_versions_colour_and_say_when_they_are_missing() {
        let answer = json!({"id": 0, "ratings": {"Reviewer1": 5}});
        let stars = ("red", Some(answer));
        assert_eq!(review("Reviewer1", "", Some(&stars))["rating"], json!({"stars": 5, "color": "red"}));
        assert!(review("Reviewer2", "", Some(&stars))["rating"]["error"].is_string());
        assert!(review("Reviewer1", "", Some(&("red", None)))["rating"]["error"].is_string());
        assert_eq!(review("Reviewer1", "", None).get("rating"), None);
    }
}
