//! Bringing capture rules into force in a pod's network namespace.

use ostro_capture::{ApplyError, Config, ConfigError, Plan};

use crate::place::Place;

/// Why the rules are not in force.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// They make no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The kernel refused them. The machine's fault: permission, or a kernel feature.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The pod is going.
    #[error("the pod went while its rules were loaded")]
    Gone,
}

/// Brings rules into force, in place of those of an earlier configuration.
pub async fn load(place: &Place, config: &Config) -> Result<(), RulesError> {
    let plan = Plan::new(config)?;
    // A few system calls on the pod's own thread, whose namespace they act on.
    let applied = place.spawn(async move { ostro_capture::apply(&plan) });
    Ok(applied.await.map_err(|_| RulesError::Gone)??)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use ostro_capture::{INBOUND_PORT, OUTBOUND_PORT};
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
        load(&pod, &Config::sidecar()).await.unwrap();

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
    async fn a_configuration_that_makes_no_sense_is_refused() {
        let pod = Place::open("pod", || Ok(())).unwrap();
        let nobody = Config { proxy_uids: vec![], proxy_gids: vec![], ..Config::sidecar() };
        assert!(matches!(load(&pod, &nobody).await, Err(RulesError::Config(_))));
    }
}
