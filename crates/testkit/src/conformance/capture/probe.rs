//! Packets that are sent through rules, and where they arrive.

use std::fmt;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ostro_capture::rules::Protocol;
use ostro_capture::{Config, Groups, Interception};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_uid};
use socket2::{Domain, Socket, Type};

use super::world::{Map, World};

/// Nobody that rules know.
const STRANGER: u32 = 1000;
/// Probes under way at once.
const WORKERS: usize = 24;
/// How long one waits. What is dropped is not answered ever; what is answered is at once.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How long one waits that went differently under two sets of rules, before that counts.
pub(super) const MORE_PATIENCE: Duration = Duration::from_secs(5);

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// A process of the pod.
    Pod { uid: u32, gid: u32 },
    /// Somebody outside.
    Outside,
}

/// One connection, or one datagram and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub from: From,
    pub protocol: Protocol,
    /// Its source, if not the kernel's choice.
    pub source: Option<IpAddr>,
    /// The mark of its socket, which is then transparent: its source may be somebody else's.
    pub mark: Option<u32>,
    pub to: SocketAddr,
    /// Whether the zone of its connection is part of the outcome.
    pub zone: bool,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        };
        write!(f, "{protocol} to {}", self.to)?;
        match self.from {
            From::Pod { uid, gid } => write!(f, " from user {uid} group {gid} of the pod")?,
            From::Outside => write!(f, " from outside")?,
        }
        if let Some(source) = self.source {
            write!(f, " at {source}")?;
        }
        self.mark.map_or(Ok(()), |mark| write!(f, " marked {mark}"))
    }
}

/// The table of probes of a configuration.
pub(super) fn table(config: &Config, map: &Map) -> Vec<Probe> {
    let mut table = Vec::new();
    outbound(&mut table, config, map);
    from_proxies_inbound_side(&mut table, config, map);
    if let Interception::Tproxy { mark, .. } = config.interception {
        on_behalf_of_clients(&mut table, mark, map);
    }
    inbound(&mut table, map);
    table
}

/// Connections of a transparent proxy to its application, from its clients' own addresses: they are told by their mark,
/// and the application's answers, addressed to the client, have to find back to the proxy.
fn on_behalf_of_clients(table: &mut Vec<Probe>, mark: u32, map: &Map) {
    // As such a proxy runs: it may mark its sockets.
    let from = From::Pod { uid: 0, gid: 1337 };
    for to in map.pod() {
        for client in map.outside.iter().chain(map.neighbours().collect::<Vec<_>>().iter()) {
            if client.is_ipv4() == to.is_ipv4() {
                let (source, to) = (Some(*client), SocketAddr::new(to, 80));
                table.push(Probe {
                    from,
                    protocol: Protocol::Tcp,
                    source,
                    mark: Some(mark),
                    to,
                    zone: false,
                });
            }
        }
    }
}

/// Who may be treated differently.
fn senders(config: &Config) -> Vec<From> {
    let of = |uid, gid| From::Pod { uid, gid };
    let mut senders = vec![of(STRANGER, STRANGER), of(0, 0)];
    senders.extend(config.proxy_uids.iter().map(|uid| of(*uid, STRANGER)));
    senders.extend(config.proxy_gids.iter().map(|gid| of(STRANGER, *gid)));
    senders.extend(config.proxy_uids.iter().zip(&config.proxy_gids).map(|(uid, gid)| of(*uid, *gid)));
    let (Groups::Except(groups) | Groups::Only(groups)) = &config.owner_groups;
    senders.extend(groups.iter().map(|gid| of(STRANGER, *gid)));
    senders
}

fn outbound(table: &mut Vec<Probe>, config: &Config, map: &Map) {
    let places =
        map.outside.iter().chain(&map.pod_loopback).copied().chain(map.pod()).chain(map.neighbours());
    let places: Vec<IpAddr> = places.collect();
    let mut ports = vec![53, 80, 9999, config.tunnel_port];
    ports.extend(config.include_outbound_ports.iter().chain(&config.exclude_outbound_ports));
    for from in senders(config) {
        for place in &places {
            for port in &ports {
                let to = SocketAddr::new(*place, *port);
                table.push(Probe {
                    from,
                    protocol: Protocol::Tcp,
                    source: None,
                    mark: None,
                    to,
                    zone: false,
                });
            }
            for port in &map.udp {
                let to = SocketAddr::new(*place, *port);
                let zone = *port == 53;
                table.push(Probe { from, protocol: Protocol::Udp, source: None, mark: None, to, zone });
            }
        }
    }
}

/// Connections of a proxy to its application, from the addresses that proxies use for that.
fn from_proxies_inbound_side(table: &mut Vec<Probe>, config: &Config, map: &Map) {
    for from in senders(config) {
        for to in map.pod().chain(map.pod_loopback.iter().copied()) {
            let source = match to {
                IpAddr::V4(_) => IpAddr::from([127, 0, 0, 6]),
                IpAddr::V6(_) if config.ipv6 => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 6]),
                IpAddr::V6(_) => continue,
            };
            for port in [80, config.tunnel_port] {
                let to = SocketAddr::new(to, port);
                table.push(Probe {
                    from,
                    protocol: Protocol::Tcp,
                    source: Some(source),
                    mark: None,
                    to,
                    zone: false,
                });
            }
        }
    }
}

fn inbound(table: &mut Vec<Probe>, map: &Map) {
    let from = From::Outside;
    for place in map.pod() {
        for port in &map.tcp {
            let to = SocketAddr::new(place, *port);
            table.push(Probe { from, protocol: Protocol::Tcp, source: None, mark: None, to, zone: false });
        }
        for port in &map.udp {
            let to = SocketAddr::new(place, *port);
            table.push(Probe { from, protocol: Protocol::Udp, source: None, mark: None, to, zone: false });
        }
        // From somebody who is not at the other end of the cable.
        let far = map.outside.iter().find(|far| far.is_ipv4() == place.is_ipv4()).copied();
        let to = SocketAddr::new(place, 80);
        table.push(Probe { from, protocol: Protocol::Tcp, source: far, mark: None, to, zone: false });
    }
    // What a guest behind an interface sends past the pod.
    for (_, place) in &map.transit {
        for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Tcp, 53), (Protocol::Udp, 53)] {
            let to = SocketAddr::new(*place, port);
            table.push(Probe { from, protocol, source: None, mark: None, to, zone: false });
        }
    }
}

/// Runs probes, several at once; outcomes are in their order.
pub(super) fn run(world: &World, probes: &[Probe]) -> Result<Vec<String>, String> {
    let outcomes = Mutex::new(vec![Ok(String::new()); probes.len()]);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((n, probe)) =
                    probes.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed))
                {
                    let outcome = run_one(world, *probe, PATIENCE);
                    outcomes.lock().unwrap()[n] = outcome;
                }
            });
        }
    });
    outcomes.into_inner().unwrap().into_iter().collect()
}

/// Runs one. Its outcome in words; an error is that it could not be run.
pub(super) fn run_one(world: &World, probe: Probe, patience: Duration) -> Result<String, String> {
    let netns = if probe.from == From::Outside { &world.outside } else { &world.pod };
    let failed = |error: io::Error| format!("{probe}: {error}");
    let (outcome, port) = netns.thread(move || send(probe, patience)).map_err(failed)?.map_err(failed)?;
    if !probe.zone {
        return Ok(outcome);
    }
    let zones = world.pod.thread(move || zones(port)).map_err(failed)?.map_err(failed)?;
    Ok(if zones.is_empty() { outcome } else { format!("{outcome}, in zones {}", zones.join(" ")) })
}

/// Sends a probe from the calling thread; also says from which port.
fn send(probe: Probe, patience: Duration) -> io::Result<(String, u16)> {
    if let From::Pod { uid, gid } = probe.from {
        // Of this thread only, which ends with the probe.
        set_thread_gid(Gid::from_raw(gid))?;
        set_thread_uid(Uid::from_raw(uid))?;
    }
    let kind = if probe.protocol == Protocol::Tcp { Type::STREAM } else { Type::DGRAM };
    let mut socket = Socket::new(Domain::for_address(probe.to), kind, None)?;
    if let Some(mark) = probe.mark {
        socket.set_mark(mark)?;
        match probe.to {
            SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
            SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
        }
    }
    if let Some(source) = probe.source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.set_read_timeout(Some(patience))?;
    let sent = match probe.protocol {
        Protocol::Tcp => socket.connect_timeout(&probe.to.into(), patience),
        Protocol::Udp => socket.connect(&probe.to.into()).and_then(|()| socket.send(b"?").map(drop)),
    };
    let port = socket.local_addr()?.as_socket().map_or(0, |local| local.port());
    let mut heard = [0; 256];
    Ok((outcome(sent.and_then(|()| socket.read(&mut heard)).map(|length| &heard[..length])), port))
}

fn outcome(heard: io::Result<&[u8]>) -> String {
    match heard {
        Ok(text) => String::from_utf8_lossy(text).into_owned(),
        Err(error) => match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer".to_owned(),
            io::ErrorKind::ConnectionRefused => "refused".to_owned(),
            kind => format!("{kind}"),
        },
    }
}

/// The zones that rules gave to the UDP connections from a port. Without any there is nothing to tell: whether the
/// kernel looks a connection up at all is not what rules are about.
fn zones(port: u16) -> io::Result<Vec<String>> {
    let known = std::fs::read_to_string("/proc/thread-self/net/nf_conntrack")?;
    let from = format!("sport={port}");
    let connections =
        known.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>()).filter(|words| {
            words.contains(&"udp")
                && words.iter().find(|word| word.starts_with("sport=")) == Some(&from.as_str())
        });
    let zone = |words: Vec<&str>| words.iter().find_map(|word| word.strip_prefix("zone=").map(str::to_owned));
    let mut zones: Vec<String> = connections.filter_map(zone).filter(|zone| zone != "0").collect();
    zones.sort();
    Ok(zones)
}

#[cfg(test)]
mod tests {
    use ostro_capture::Ports;

    use super::*;

    #[test]
    fn what_a_configuration_names_is_probed() {
        let config = Config {
            inbound: Ports::Only(vec![4001]),
            exclude_inbound: vec![4002],
            include_outbound_ports: vec![4003],
            exclude_outbound_ports: vec![4004],
            proxy_uids: vec![3],
            owner_groups: Groups::Only(vec![7]),
            exclude_interfaces: vec!["nic1".parse().unwrap()],
            ..Config::nothing()
        };
        let map = Map::new(&config);
        let table = table(&config, &map);
        for port in 4001..=4004 {
            assert!(table.iter().any(|probe| probe.to.port() == port), "{port}");
        }
        for (uid, gid) in [(3, STRANGER), (STRANGER, 7), (0, 0)] {
            assert!(table.iter().any(|probe| probe.from == From::Pod { uid, gid }));
        }
        assert_eq!(map.interfaces.len(), 2);
    }
}
