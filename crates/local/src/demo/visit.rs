//! The demo to look around in: Bookinfo with a little traffic of its own, and three things to try.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::traffic::{Ask, Client};
use super::{BASE, DemoError, write};

/// The demo's own visitors ask this often, one at a time: enough to see, not enough to hear a fan.
const VISIT_EVERY: Duration = Duration::from_millis(150);
const VISIT: Ask = Ask { path: "/productpage", host: "bookinfo.example", user: None };

const CANARY: (&str, &str) =
    ("reviews-90-10.yaml", include_str!("../../../../samples/demo/reviews-90-10.yaml"));
const ABORT: (&str, &str) =
    ("ratings-abort.yaml", include_str!("../../../../samples/demo/ratings-abort.yaml"));

/// Something to try: what it does, and the line that does it.
#[derive(Clone, Debug)]
pub struct Try {
    /// What will be seen.
    pub what: &'static str,
    /// To be typed as it is, in a shell.
    pub command: String,
}

/// Writes the demo's files below `state`; returns the directory that the mesh is to follow.
pub fn lay(state: &Path) -> Result<PathBuf, DemoError> {
    let (yaml, aside) = (state.join("yaml"), state.join("try"));
    for dir in [&yaml, &aside] {
        fs::create_dir_all(dir).map_err(|source| DemoError::File { path: dir.clone(), source })?;
    }
    for (name, text) in BASE {
        write(&yaml, name, text)?;
    }
    for (name, text) in [CANARY, ABORT] {
        write(&aside, name, text)?;
    }
    Ok(yaml)
}

/// Three things to try on the mesh `name` whose files are below `state`; `ostro` is how the program was called.
pub fn tries(ostro: &str, name: &str, state: &Path) -> [Try; 3] {
    let apply = |(file, _): (&str, &str)| {
        format!("{ostro} apply --name {name} -f {}", state.join("try").join(file).display())
    };
    [
        Try { what: "one review in ten from v3, the others from v1", command: apply(CANARY) },
        Try { what: "three in ten calls of ratings fail", command: apply(ABORT) },
        Try {
            what: "two more pods of reviews-v1",
            command: format!("{ostro} scale --name {name} reviews-v1 --replicas 3"),
        },
    ]
}

/// Visits the page behind `ingress` for ever; what it answers is seen in the proxies' statistics.
pub async fn visitors(ingress: SocketAddr) {
    let client = Client::new(ingress);
    let mut tick = tokio::time::interval(VISIT_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        client.ask(VISIT, 1).await;
    }
}
