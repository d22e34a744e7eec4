//! `GET /hello`: says which version answered, and which instance of it.

use std::io;

use axum::Router;
use axum::routing::get;

use crate::serve;

#[derive(clap::Args)]
pub struct Options {
    /// Port to listen on
    #[arg(long, env = "PORT", default_value_t = 5000)]
    port: u16,
    /// The version it says it is
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    version: String,
}

pub async fn run(options: Options) -> io::Result<()> {
    let hello = format!("Hello version: {}, instance: {}\n", options.version, serve::hostname());
    let router = Router::new()
        .route("/hello", get(move || std::future::ready(hello.clone())))
        .route("/health", get(|| std::future::ready("Helloworld is healthy")));
    serve::http(router, options.port).await
}
