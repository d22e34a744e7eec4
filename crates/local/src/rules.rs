//! Loading capture rules into a pod's network namespace, by the system's `iptables-restore`.

use std::io;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::place::Place;

const PROGRAM: &str = "iptables-restore";

/// Why the rules are not in force. The machine's fault: a missing package or kernel feature.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// It could not be run.
    #[error("cannot run {PROGRAM} (Debian package iptables): {0}")]
    Run(#[source] io::Error),
    /// It refused the rules.
    #[error("{PROGRAM} refused the capture rules: {0}")]
    Refused(String),
}

/// Loads rules, replacing those of the tables they name.
pub async fn load(place: &Place, rules: &str) -> Result<(), RulesError> {
    let rules = rules.to_owned();
    let loaded = place.spawn(async move { run(&rules).await });
    loaded.await.map_err(|e| RulesError::Run(io::Error::other(e)))?
}

async fn run(rules: &str) -> Result<(), RulesError> {
    let mut child = Command::new(PROGRAM)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(RulesError::Run)?;
    if let Some(mut input) = child.stdin.take() {
        // If it ends early, its own words say more than the broken pipe.
        let _ = input.write_all(rules.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(RulesError::Run)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(RulesError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}
