//! `GET /details/{id}`: facts about a book.

use std::io;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::serve;

#[derive(clap::Args)]
pub struct Options {
    /// Port to listen on
    #[arg(long, env = "PORT", default_value_t = super::PORT)]
    port: u16,
}

pub async fn run(options: Options) -> io::Result<()> {
    serve::http(router(), options.port).await
}

fn router() -> Router {
    Router::new()
        .route("/health", get(|| async { super::healthy("Details") }))
        .route("/details/{id}", get(details))
}

async fn details(Path(id): Path<String>) -> Result<Json<Value>, (StatusCode, Json<Value>)> {
    let Ok(id) = id.parse::<u64>() else {
        let complaint = json!({"error": "please provide numeric product id"});
        return Err((StatusCode::BAD_REQUEST, Json(complaint)));
    };
    Ok(Json(json!({
        "id": id,
        "author": "William Shakespeare",
        "year": 1595,
        "type": "paperback",
        "pages": 200,
        "publisher": "PublisherA",
        "language": "English",
        "ISBN-10": "1234567890",
        "ISBN-13": "123-1234567890",
    })))
}
