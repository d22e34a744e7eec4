//! Bookinfo: a front page (productpage) made of details and reviews; reviews in three versions, two of
//! which show star ratings. The canonical example of service meshes: every routing decision can be seen.

pub mod details;
mod page;
pub mod productpage;
pub mod ratings;
pub mod reviews;

/// The port every Bookinfo service listens on.
const PORT: u16 = 9080;

/// `{"status": "<who> is healthy"}`, what each service answers on `/health`.
fn healthy(who: &str) -> axum::Json<serde_json::Value> {
    axum::Json(serde_json::json!({ "status": format!("{who} is healthy") }))
}
