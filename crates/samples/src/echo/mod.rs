//! Tells what it saw: over HTTP/1, h2c and gRPC on the same ports, over TCP on others.
//!
//! A query parameter of an HTTP request steers the answer: `codes=200:9,500:1` draws the status by
//! weight, `headers=name:value,...` adds response headers, `delay=0.5` waits that many seconds.

mod grpc;
mod http;
mod tcp;

use std::io;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::flaky::Draws;
use crate::serve;

#[derive(clap::Args)]
pub struct Options {
    /// Ports that speak HTTP/1, h2c and gRPC
    #[arg(long, env = "HTTP_PORTS", value_delimiter = ',', default_value = "8080")]
    http: Vec<u16>,
    /// Ports that speak TCP: a greeting after the first bytes, then an echo
    #[arg(long, env = "TCP_PORTS", value_delimiter = ',')]
    tcp: Vec<u16>,
    /// Ports that speak TCP first: the greeting at once, then an echo
    #[arg(long, env = "SERVER_FIRST_PORTS", value_delimiter = ',')]
    server_first: Vec<u16>,
}

/// Who answers.
struct Me {
    hostname: String,
    draws: Draws,
}

pub async fn run(options: Options) -> io::Result<()> {
    let me = Arc::new(Me { hostname: serve::hostname(), draws: Draws::default() });
    let mut servers = JoinSet::new();
    // Bind them all before serving any: a port taken is an error at start, not half a server.
    for port in options.http {
        let listener = serve::bind(port).await?;
        servers.spawn(serve::serve(listener, http::router(me.clone(), port)));
    }
    for (ports, server_first) in [(options.tcp, false), (options.server_first, true)] {
        for port in ports {
            let listener = serve::bind(port).await?;
            servers.spawn(tcp::serve(listener, me.clone(), port, server_first));
        }
    }
    while let Some(ended) = servers.join_next().await {
        ended.map_err(io::Error::other)??;
    }
    Ok(())
}
