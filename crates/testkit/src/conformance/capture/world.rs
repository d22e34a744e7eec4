//! A pod and what is outside of it: two namespaces tied together, with somebody behind every door who says which
//! door it was.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use ostro_capture::{Config, Dns, Interception, Ports, Ranges};
use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, UdpSocket};

use super::case::Subject;
use crate::netns::{Address, Netns};

/// Ports that rules treat in some way, and two that they do not.
const PORTS: [u16; 11] = [22, 53, 80, 9999, 15001, 15006, 15008, 15020, 15021, 15053, 15090];
/// The same for UDP.
const UDP_PORTS: [u16; 3] = [53, 9999, 15053];
/// Connections that wait for an answer of the same listener.
const BACKLOG: i32 = 512;

/// Everything about a place that follows from a configuration; the same for everybody's rules.
#[derive(Clone, Debug)]
pub(super) struct Map {
    /// Interfaces of the pod; the first leads outside.
    pub interfaces: Vec<Interface>,
    /// Addresses that only the pod's loopback has.
    pub pod_loopback: Vec<IpAddr>,
    /// Addresses outside, beside those of the interfaces.
    pub outside: Vec<IpAddr>,
    /// Nobody's addresses; what goes there from outside is routed by the pod's interface of that number.
    pub transit: Vec<(usize, IpAddr)>,
    /// TCP ports.
    pub tcp: BTreeSet<u16>,
    /// UDP ports.
    pub udp: BTreeSet<u16>,
}

/// One interface of the pod, and what is at its other end.
#[derive(Clone, Debug)]
pub(super) struct Interface {
    pub name: String,
    pub pod: Vec<Address>,
    pub outside: Vec<Address>,
}

impl Map {
    pub fn new(config: &Config) -> Map {
        let named = config.exclude_interfaces.iter().chain(&config.virtual_interfaces);
        let named = named.map(|interface| match interface.prefix() {
            Some(prefix) => format!("{prefix}7"),
            None => interface.as_str().to_owned(),
        });
        let mut names = vec!["eth0".to_owned()];
        for name in named.filter(|name| name != "lo") {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let ranges = match &config.outbound {
            Ranges::All => &[][..],
            Ranges::Only(ranges) => ranges,
        };
        let mut map = Map {
            interfaces: (0_u8..).zip(&names).map(|(n, name)| interface(n, name, config.ipv6)).collect(),
            pod_loopback: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            outside: vec![IpAddr::from([203, 0, 113, 9]), ip("fd99::9")],
            transit: Vec::new(),
            tcp: PORTS.into(),
            udp: UDP_PORTS.into(),
        };
        let servers = if let Dns::Servers(servers) = &config.dns { servers.as_slice() } else { &[] };
        let within = ranges.iter().chain(&config.exclude_outbound).map(|range| nth(range, 9));
        for address in within.chain(servers.iter().copied()) {
            let addresses = if address.is_loopback() { &mut map.pod_loopback } else { &mut map.outside };
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let everywhere = ["198.51.100.0/24", "2001:db8:ffff::/64"].map(|range| range.parse::<IpNet>());
        for range in everywhere.iter().flatten().chain(ranges).filter(|range| !range.addr().is_loopback()) {
            map.transit.extend((0..names.len()).map(|n| (n, nth(range, 77 + n))));
        }
        map.transit.retain(|(_, address)| !map.outside.contains(address));
        let all = |address: &IpAddr| config.ipv6 || address.is_ipv4();
        map.outside.retain(all);
        map.transit.retain(|(_, address)| all(address));
        if let Ports::Only(ports) = &config.inbound {
            map.tcp.extend(ports);
        }
        map.tcp.extend(&config.exclude_inbound);
        map.tcp.extend(config.include_outbound_ports.iter().chain(&config.exclude_outbound_ports));
        map.tcp.extend([config.outbound_port, config.inbound_port, config.tunnel_port]);
        map.udp.extend(&config.exclude_outbound_ports);
        map
    }

    /// The pod's addresses on its interfaces.
    pub fn pod(&self) -> impl Iterator<Item = IpAddr> {
        self.interfaces.iter().flat_map(|interface| interface.pod.iter().map(|(address, _)| *address))
    }

    /// The addresses at the other ends.
    pub fn neighbours(&self) -> impl Iterator<Item = IpAddr> {
        self.interfaces.iter().flat_map(|interface| interface.outside.iter().map(|(address, _)| *address))
    }
}

fn interface(n: u8, name: &str, ipv6: bool) -> Interface {
    let at = |host: u8| {
        let v6 = ipv6.then(|| (IpAddr::from([0xfd77, 0, 0, u16::from(n), 0, 0, 0, u16::from(host)]), 64));
        [(IpAddr::from([192, 168, 100 + n, host]), 24)].into_iter().chain(v6).collect()
    };
    Interface { name: name.to_owned(), pod: at(2), outside: at(1) }
}

/// The n-th address of a range, or its only one.
fn nth(range: &IpNet, n: usize) -> IpAddr {
    let alone = range.prefix_len() == range.max_prefix_len();
    let base = range.network();
    let n = if alone { 0 } else { n };
    match base {
        IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits() + n as u32).into(),
        IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits() + n as u128).into(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// The two namespaces.
pub(super) struct World {
    pub pod: Netns,
    pub outside: Netns,
}

impl World {
    /// Makes them, with somebody behind every door, and `load`s rules into the pod.
    pub fn new(
        map: &Map,
        subject: &Subject,
        load: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> Result<World, String> {
        let failed = |error: io::Error| format!("making namespaces: {error}");
        let groups = group_file(subject).map_err(failed)?;
        let world = World {
            pod: Netns::open(Some(groups.path())).map_err(failed)?,
            outside: Netns::open(None).map_err(failed)?,
        };
        world.furnish(map).map_err(failed)?;
        world.pod.thread(load).map_err(failed)??;
        world.open_doors(map, &subject.config).map_err(failed)?;
        Ok(world)
    }

    fn furnish(&self, map: &Map) -> io::Result<()> {
        for (n, interface) in map.interfaces.iter().enumerate() {
            let (name, other) = (&interface.name, format!("outside{n}"));
            self.pod.link(name, &interface.pod, &self.outside, &other, &interface.outside)?;
        }
        for address in &map.outside {
            self.outside.address("lo", alone(*address))?;
        }
        if let Some(first) = map.interfaces.first() {
            for (gateway, _) in &first.outside {
                self.pod.route(None, *gateway)?;
            }
        }
        for (n, address) in &map.transit {
            let ways = map.interfaces.get(*n).into_iter().flat_map(|interface| &interface.pod);
            for (gateway, _) in ways.filter(|(gateway, _)| gateway.is_ipv4() == address.is_ipv4()) {
                self.outside.route(Some(*address), *gateway)?;
            }
        }
        Ok(())
    }

    fn open_doors(&self, map: &Map, config: &Config) -> io::Result<()> {
        let transparent = matches!(config.interception, Interception::Tproxy { .. });
        for (place, netns) in [("pod", &self.pod), ("outside", &self.outside)] {
            for port in map.tcp.iter().copied() {
                for any in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
                    let at = SocketAddr::new(any, port);
                    let transparent = transparent && place == "pod" && port == config.inbound_port;
                    netns.task(async move { listen(place, at, transparent) })??;
                }
            }
        }
        let pod =
            map.pod().chain(map.pod_loopback.iter().copied()).map(|address| ("pod", &self.pod, address));
        let outside = map.neighbours().chain(map.outside.iter().copied());
        for (place, netns, address) in pod.chain(outside.map(|address| ("outside", &self.outside, address))) {
            for port in map.udp.iter().copied() {
                netns.task(async move { answer(place, SocketAddr::new(address, port)).await })??;
            }
        }
        Ok(())
    }
}

/// `/etc/group` with the names that the case uses.
fn group_file(subject: &Subject) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    writeln!(file, "root:x:0:")?;
    for (name, id) in &subject.groups {
        writeln!(file, "{name}:x:{id}:")?;
    }
    Ok(file)
}

fn alone(address: IpAddr) -> Address {
    (address, if address.is_ipv4() { 32 } else { 128 })
}

/// Tells everybody who connects where they arrived, and where the kernel says they wanted to go.
fn listen(place: &'static str, at: SocketAddr, transparent: bool) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if transparent {
        match at {
            SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
            SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
        }
    }
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from_std(socket.into())?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let Ok(local) = stream.local_addr() else { continue };
            // Connections that nobody rewrote have no other.
            let wanted = match local {
                SocketAddr::V4(_) => ip_original_dst(&stream).map(SocketAddr::V4).unwrap_or(local),
                SocketAddr::V6(_) => ipv6_original_dst(&stream).map(SocketAddr::V6).unwrap_or(local),
            };
            let text = format!("{place} at {local} (listener {}), sent to {wanted}", at.port());
            // Whoever asked may be gone.
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    Ok(())
}

/// The same over UDP.
async fn answer(place: &'static str, at: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(at).await?;
    tokio::spawn(async move {
        let mut buffer = [0; 16];
        let text = format!("{place} at {at}");
        while let Ok((_, peer)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(text.as_bytes(), peer).await;
        }
    });
    Ok(())
}
