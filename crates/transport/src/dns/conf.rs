//! `/etc/resolv.conf` and `/etc/hosts`: resolv.conf(5), hosts(5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use super::{Family, limits};

const PORT: u16 = 53;

/// Whom to ask, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Asked in this order.
    pub servers: Vec<SocketAddr>,
    /// Suffixes that are tried on names that are not whole.
    pub search: Vec<String>,
    /// A name with so many dots is tried as it is first.
    pub ndots: u8,
    /// How long one server is waited for.
    pub timeout: Duration,
    /// How often the servers are gone through.
    pub attempts: u8,
    /// Names that no server is asked about, in lower case, without the last dot.
    pub hosts: Vec<(IpAddr, String)>,
    /// `SO_MARK` of the sockets, so that capture lets them pass.
    pub mark: Option<u32>,
    /// Answers kept; 0 keeps none.
    pub cache: usize,
}

impl Default for Config {
    /// resolv.conf(5)'s defaults: this host's own name server.
    fn default() -> Self {
        Config {
            servers: vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT)],
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            hosts: Vec::new(),
            mark: None,
            cache: limits::ANSWERS,
        }
    }
}

impl Config {
    /// What the texts of the two files say. Lines that are not understood are passed over, as the C library does.
    pub fn from_files(resolv_conf: &str, hosts: &str) -> Config {
        let mut config = Config { servers: Vec::new(), ..Config::default() };
        for line in resolv_conf.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => config.servers.extend(words.next().and_then(server)),
                Some("domain") => config.search = words.take(1).filter_map(suffix).collect(),
                // The last one counts.
                Some("search") => config.search = words.filter_map(suffix).take(limits::SUFFIXES).collect(),
                Some("options") => words.for_each(|option| config.set(option)),
                _ => {}
            }
        }
        config.servers.truncate(limits::SERVERS);
        if config.servers.is_empty() {
            config.servers = Config::default().servers;
        }
        config.hosts = hosts.lines().flat_map(host).take(limits::HOSTS).collect();
        config
    }

    fn set(&mut self, option: &str) {
        let Some((name, value)) = option.split_once(':') else { return };
        let Ok(value) = value.parse::<u8>() else { return };
        match name {
            "ndots" => self.ndots = value.min(15),
            "timeout" => self.timeout = Duration::from_secs(value.clamp(1, 30).into()),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }

    /// Names to ask for, in order, whole and in lower case without the last dot.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(whole) = name.strip_suffix('.') {
            return vec![whole.to_ascii_lowercase()];
        }
        let name = name.to_ascii_lowercase();
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        let mut names: Vec<String> = self.search.iter().map(|suffix| format!("{name}.{suffix}")).collect();
        let place = if dots >= usize::from(self.ndots) { 0 } else { names.len() };
        names.insert(place, name);
        names
    }

    /// What the hosts file says of a name, or RFC 6761 of `localhost`. None: servers are to be asked.
    pub(super) fn known(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let known: Vec<IpAddr> =
            self.hosts.iter().filter(|(_, host)| *host == name).map(|(address, _)| *address).collect();
        if known.is_empty() && (name == "localhost" || name.ends_with(".localhost")) {
            return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        (!known.is_empty()).then_some(known)
    }
}

/// Those of the family; none if there are none.
pub(super) fn select(addresses: &[IpAddr], family: Family) -> Vec<IpAddr> {
    let of = |v4: bool| addresses.iter().copied().filter(move |address| address.is_ipv4() == v4);
    let first_of = |first: bool| {
        let some: Vec<IpAddr> = of(first).collect();
        if some.is_empty() { of(!first).collect() } else { some }
    };
    match family {
        Family::V4Only => of(true).collect(),
        Family::V6Only => of(false).collect(),
        Family::Auto => first_of(false),
        Family::V4Preferred => first_of(true),
        Family::All => of(false).chain(of(true)).collect(),
    }
}

/// An address, on a certain interface if it says so by number; or, which the C library does not take and c-ares does, an
/// address with a port: `10.96.0.10:15053`, `[fd00::1]:15053`.
fn server(text: &str) -> Option<SocketAddr> {
    if let Ok(with_port) = text.parse() {
        return Some(with_port);
    }
    let Some((address, zone)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse().ok()?, PORT));
    };
    let index = zone.parse().ok().or_else(|| interface(zone))?;
    Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, index).into())
}

fn interface(name: &str) -> Option<u32> {
    use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};
    name_to_index(socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?, name).ok()
}

fn suffix(text: &str) -> Option<String> {
    let text = text.trim_end_matches('.').to_ascii_lowercase();
    // `search .` means that there is none.
    (!text.is_empty()).then_some(text)
}

fn host(line: &str) -> impl Iterator<Item = (IpAddr, String)> + use<'_> {
    let line = line.split('#').next().unwrap_or_default();
    let mut words = line.split_ascii_whitespace();
    let address = words.next().and_then(|word| word.parse().ok());
    address.into_iter().flat_map(move |address: IpAddr| {
        words.clone().map(move |name| (address, name.trim_end_matches('.').to_ascii_lowercase()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_s_files() {
        let config = Config::from_files(
            "# made by kubelet\nnameserver 10.96.0.10:5353\nnameserver fe80::1%7\nnonsense\nnameserver x\n\
             search a.svc.cluster.local. svc.cluster.local\noptions ndots:5 timeout:2 attempts:9 edns0\n",
            "127.0.0.1 localhost # me\n10.0.0.9\tWeb web.a.svc. # \n::1 web\nbad line\n",
        );
        let servers: Vec<String> = config.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.96.0.10:5353", "[fe80::1%7]:53"]);
        assert_eq!((config.ndots, config.timeout, config.attempts), (5, Duration::from_secs(2), 5));
        assert_eq!(
            config.candidates("Web.a"),
            ["web.a.a.svc.cluster.local", "web.a.svc.cluster.local", "web.a"]
        );
        assert_eq!(config.candidates("a.b.c.d.e.f").first().unwrap(), "a.b.c.d.e.f");
        assert_eq!(config.candidates("web.a."), ["web.a"]);
        let known = |name: &str| config.known(name).map(|found| found.len());
        assert_eq!(
            (known("WEB"), known("web.a.svc"), known("web.a.svc."), known("other")),
            (Some(2), Some(1), Some(1), None)
        );
    }

    #[test]
    fn files_that_say_nothing() {
        let config = Config::from_files("", "");
        assert_eq!(config, Config::default());
        assert_eq!(config.known("x.localhost").unwrap().len(), 2);
        assert_eq!(config.candidates("web"), ["web"]);
        assert_eq!(Config::from_files("search .", "").candidates("web"), ["web"]);
    }

    #[test]
    fn families() {
        let both: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        let select = |addresses: &[IpAddr], family| {
            super::select(addresses, family).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(select(&both, Family::Auto), ["::1"]);
        assert_eq!(select(&both[..1], Family::Auto), ["10.0.0.1"]);
        assert_eq!(select(&both, Family::V4Preferred), ["10.0.0.1"]);
        assert_eq!(select(&both[1..], Family::V4Preferred), ["::1"]);
        assert_eq!(select(&both, Family::V4Only), ["10.0.0.1"]);
        assert!(select(&both[..1], Family::V6Only).is_empty());
        assert_eq!(select(&both, Family::All), ["::1", "10.0.0.1"]);
    }
}
