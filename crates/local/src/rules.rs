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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use ostro_capture::{INBOUND_PORT, OUTBOUND_PORT, Plan, redirect};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::link;

    const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
    const PEER: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 3);

    async fn listen(place: &Place, port: u16) -> TcpListener {
        place.spawn(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))).await.unwrap().unwrap()
    }

    /// Connects from `from` to `to`; true if `at` takes the connection.
    async fn arrives(from: &Place, to: SocketAddr, at: &TcpListener) -> bool {
        let connecting = from.spawn(TcpStream::connect(to));
        let (_, peer) = at.accept().await.unwrap();
        let stream = connecting.await.unwrap().unwrap();
        stream.local_addr().unwrap() == peer
    }

    #[tokio::test]
    async fn connections_are_turned_to_the_proxy_both_ways() {
        let mesh = Place::open("mesh", || Ok(())).unwrap();
        link::ground(&mesh).await.unwrap();
        let pod = Place::open("pod", || Ok(())).unwrap();
        link::attach(&mesh, &pod, 1, POD).await.unwrap();
        let peer = Place::open("peer", || Ok(())).unwrap();
        link::attach(&mesh, &peer, 2, PEER).await.unwrap();
        load(&pod, &redirect(&Plan::sidecar())).await.unwrap();

        let outbound = listen(&pod, OUTBOUND_PORT).await;
        let inbound = listen(&pod, INBOUND_PORT).await;
        let status = listen(&pod, 15020).await;
        let program = listen(&pod, 9080).await;
        assert!(arrives(&peer, (POD, 9080).into(), &inbound).await, "from outside: to the proxy");
        assert!(arrives(&peer, (POD, 15020).into(), &status).await, "the proxy's own ports: as they are");
        assert!(arrives(&pod, (POD, 9080).into(), &program).await, "within the pod: as it is");
        let service = (Ipv4Addr::new(10, 96, 1, 1), 80);
        assert!(arrives(&pod, service.into(), &outbound).await, "to a service: to the proxy");
    }

    #[tokio::test]
    async fn rules_that_make_no_sense_are_refused_in_iptables_own_words() {
        let pod = Place::open("pod", || Ok(())).unwrap();
        let error = load(&pod, "*nat\n-A NOWHERE -j RETURN\nCOMMIT\n").await.unwrap_err();
        assert!(matches!(&error, RulesError::Refused(text) if text.contains("line 2")), "{error}");
    }
}
