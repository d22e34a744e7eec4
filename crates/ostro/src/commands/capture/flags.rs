//! The flags and environment variables of Istio's init program, and what they come to.

use clap::ValueEnum;
use ipnet::{IpNet, Ipv4Net};
use ostro_capture::text::{self, Malformed};
use ostro_capture::{Config, Dns, Interception, Interface, PROXY_ID, Ports, Ranges};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// The user that the proxy runs as, where nobody says otherwise.
const PROXY_USER: &str = "istio-proxy";

/// What is captured. Short and long names, variables and defaults are those of Istio's `istio-iptables`.
#[derive(clap::Args, Debug)]
pub struct Flags {
    /// Port of the proxy's outbound listener.
    #[arg(short = 'p', long, env = "ENVOY_PORT", default_value_t = 15001, value_name = "PORT")]
    envoy_port: u16,
    /// Port of the proxy's inbound listener.
    #[arg(short = 'z', long, env = "INBOUND_CAPTURE_PORT", default_value_t = 15006, value_name = "PORT")]
    inbound_capture_port: u16,
    /// Port of the proxy's tunnel (HBONE) listener, which is never redirected.
    #[arg(short = 'e', long, env = "INBOUND_TUNNEL_PORT", default_value_t = 15008, value_name = "PORT")]
    inbound_tunnel_port: u16,
    /// Users whose traffic is the proxy's own, by number or name [default: istio-proxy's number, else 1337].
    #[arg(
        short = 'u',
        long,
        env = "PROXY_UID",
        default_value = "",
        hide_default_value = true,
        value_name = "IDS"
    )]
    proxy_uid: String,
    /// Groups whose traffic is the proxy's own [default: as --proxy-uid].
    #[arg(
        short = 'g',
        long,
        env = "PROXY_GID",
        default_value = "",
        hide_default_value = true,
        value_name = "IDS"
    )]
    proxy_gid: String,
    /// Socket marks (SO_MARK) of the proxy's own traffic, for places with one user. Replaces the defaults of -u and -g.
    #[arg(long, value_parser = marks, value_name = "MARKS")]
    proxy_mark: Option<List<u32>>,
    /// How inbound connections reach the proxy.
    #[arg(
        short = 'm',
        long,
        env = "ISTIO_INBOUND_INTERCEPTION_MODE",
        default_value = "REDIRECT",
        value_name = "MODE",
        ignore_case = true
    )]
    istio_inbound_interception_mode: Mode,
    /// Inbound ports to capture; `*` for all.
    #[arg(
        short = 'b',
        long,
        env = "ISTIO_INBOUND_PORTS",
        default_value = "",
        hide_default_value = true,
        value_name = "PORTS"
    )]
    istio_inbound_ports: Ports,
    /// Inbound ports to leave alone, when all are captured.
    #[arg(short = 'd', long, env = "ISTIO_LOCAL_EXCLUDE_PORTS", default_value = "", hide_default_value = true, value_parser = ports, value_name = "PORTS")]
    istio_local_exclude_ports: List<u16>,
    /// Outbound destinations to capture, as ranges of addresses; `*` for all.
    #[arg(
        short = 'i',
        long,
        env = "ISTIO_SERVICE_CIDR",
        default_value = "",
        hide_default_value = true,
        value_name = "RANGES"
    )]
    istio_service_cidr: Ranges,
    /// Outbound destinations to leave alone.
    #[arg(short = 'x', long, env = "ISTIO_SERVICE_EXCLUDE_CIDR", default_value = "", hide_default_value = true, value_parser = ranges, value_name = "RANGES")]
    istio_service_exclude_cidr: List<IpNet>,
    /// Outbound ports to capture whatever the destination.
    #[arg(short = 'q', long, env = "ISTIO_OUTBOUND_PORTS", default_value = "", hide_default_value = true, value_parser = ports, value_name = "PORTS")]
    istio_outbound_ports: List<u16>,
    /// Outbound ports to leave alone whatever the destination.
    #[arg(short = 'o', long, env = "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE", default_value = "", hide_default_value = true, value_parser = ports, value_name = "PORTS")]
    istio_local_outbound_ports_exclude: List<u16>,
    /// Interfaces to leave alone, in and out.
    #[arg(short = 'c', long, env = "ISTIO_EXCLUDE_INTERFACES", default_value = "", hide_default_value = true, value_parser = interfaces, value_name = "NAMES")]
    istio_exclude_interfaces: List<Interface>,
    /// Interfaces of virtual machines: what comes in by them is captured as outbound traffic.
    #[arg(short = 'k', long, env = "KUBE_VIRT_INTERFACES", default_value = "", hide_default_value = true, value_parser = interfaces, value_name = "NAMES")]
    kube_virt_interfaces: List<Interface>,
    /// Packet mark of inbound connections under TPROXY.
    #[arg(short = 't', long, env = "ISTIO_INBOUND_TPROXY_MARK", default_value_t = 1337, value_name = "MARK")]
    istio_inbound_tproxy_mark: u32,
    /// Routing table for them.
    #[arg(
        short = 'r',
        long,
        env = "ISTIO_INBOUND_TPROXY_ROUTE_TABLE",
        default_value_t = 133,
        value_name = "TABLE"
    )]
    istio_inbound_tproxy_route_table: u32,
    /// Groups whose outbound traffic is captured; `*` for everybody's.
    #[arg(long, env = "ISTIO_OUTBOUND_OWNER_GROUPS", default_value = "*", value_name = "IDS")]
    outbound_owner_groups: String,
    /// Groups whose outbound traffic is left alone.
    #[arg(
        long,
        env = "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE",
        default_value = "",
        hide_default_value = true,
        value_name = "IDS"
    )]
    outbound_owner_groups_exclude: String,
    /// What counts as IPv4 loopback and is left alone.
    #[arg(
        long,
        env = "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR",
        default_value = "127.0.0.1/32",
        value_name = "RANGE"
    )]
    host_ipv4_loopback_cidr: Ipv4Net,
    /// Capture DNS questions to the servers of /etc/resolv.conf (to port 15053).
    #[arg(long, env = "ISTIO_META_DNS_CAPTURE", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL")]
    redirect_dns: bool,
    /// With --redirect-dns: to any server.
    #[arg(long, env = "CAPTURE_ALL_DNS", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL")]
    capture_all_dns: bool,
    /// Drop packets that belong to no connection, instead of answering with a reset.
    #[arg(long, env = "INVALID_DROP", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL")]
    drop_invalid: bool,
    /// Capture IPv6.
    #[arg(long, value_enum, default_value_t = Ipv6::Auto, value_name = "WHETHER")]
    ipv6: Ipv6,
    /// The network namespace to act on [default: this one].
    #[arg(long, env = "NETWORK_NAMESPACE", value_name = "FILE")]
    pub network_namespace: Option<PathBuf>,
    #[command(flatten)]
    understood: Understood,
}

/// Flags of Istio's program that need no answer here: they are taken, and nothing follows from them.
#[derive(clap::Args, Debug)]
struct Understood {
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    dual_stack: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    cni_mode: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    reconcile: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    force_apply: Option<String>,
    #[arg(short = 'f', long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    restore_format: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    native_nftables: Option<String>,
    #[arg(long, hide = true)]
    iptables_probe_port: Option<String>,
    #[arg(long, hide = true)]
    probe_timeout: Option<String>,
    #[arg(long, hide = true)]
    force_iptables_binary: Option<String>,
    #[arg(long = "log_output_level", hide = true)]
    log_output_level: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Their destination is rewritten.
    #[value(name = "REDIRECT", alias = "")]
    Redirect,
    /// They arrive as they were sent (transparent proxying).
    #[value(name = "TPROXY")]
    Tproxy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Ipv6 {
    /// If an interface has an IPv6 address that is good beyond its own network.
    Auto,
    /// Yes.
    On,
    /// No: it is left alone.
    Off,
}

/// A list that is one argument.
#[derive(Clone, Debug)]
pub struct List<T>(Vec<T>);

fn ports(text: &str) -> Result<List<u16>, Malformed> {
    text::ports(text).map(List)
}

fn ranges(text: &str) -> Result<List<IpNet>, Malformed> {
    text::ranges(text).map(List)
}

fn interfaces(text: &str) -> Result<List<Interface>, Malformed> {
    text::interfaces(text).map(List)
}

fn marks(text: &str) -> Result<List<u32>, Malformed> {
    text::marks(text).map(List)
}

/// What flags mean depends on the system they are given on.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// `/etc/passwd`.
    pub users: String,
    /// `/etc/group`.
    pub groups: String,
    /// `/etc/resolv.conf`.
    pub resolvers: String,
    /// Is there an IPv6 address that is good beyond its own network?
    pub ipv6: bool,
}

/// A flag whose value makes no sense here.
#[derive(Debug)]
pub struct FlagError {
    flag: &'static str,
    cause: Malformed,
}

impl fmt::Display for FlagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.flag, self.cause)
    }
}

impl std::error::Error for FlagError {}

impl Flags {
    /// What the flags mean here. The second is what the user should know about it.
    pub fn config(self, here: &Surroundings) -> Result<(Config, Vec<String>), FlagError> {
        let mut notes = Vec::new();
        let dns = self.dns(here, &mut notes);
        let (proxy_uids, proxy_gids) = self.proxy_ids(here)?;
        let known = |name: &str| text::named_id(&here.groups, name);
        let owner_groups =
            text::groups(&self.outbound_owner_groups, &self.outbound_owner_groups_exclude, known)
                .map_err(|cause| FlagError { flag: "--outbound-owner-groups", cause })?;
        let interception = match self.istio_inbound_interception_mode {
            Mode::Redirect => Interception::Redirect,
            Mode::Tproxy => Interception::Tproxy {
                mark: self.istio_inbound_tproxy_mark,
                table: self.istio_inbound_tproxy_route_table,
            },
        };
        let config = Config {
            outbound_port: self.envoy_port,
            inbound_port: self.inbound_capture_port,
            tunnel_port: self.inbound_tunnel_port,
            proxy_uids,
            proxy_gids,
            proxy_marks: self.proxy_mark.map(|marks| marks.0).unwrap_or_default(),
            interception,
            inbound: self.istio_inbound_ports,
            exclude_inbound: self.istio_local_exclude_ports.0,
            outbound: self.istio_service_cidr,
            exclude_outbound: self.istio_service_exclude_cidr.0,
            include_outbound_ports: self.istio_outbound_ports.0,
            exclude_outbound_ports: self.istio_local_outbound_ports_exclude.0,
            owner_groups,
            exclude_interfaces: self.istio_exclude_interfaces.0,
            virtual_interfaces: self.kube_virt_interfaces.0,
            dns,
            drop_invalid: self.drop_invalid,
            ipv6: match self.ipv6 {
                Ipv6::Auto => here.ipv6,
                Ipv6::On => true,
                Ipv6::Off => false,
            },
            loopback: self.host_ipv4_loopback_cidr,
        };
        Ok((config, notes))
    }

    fn dns(&self, here: &Surroundings, notes: &mut Vec<String>) -> Dns {
        if !self.redirect_dns {
            return Dns::Off;
        }
        if self.capture_all_dns {
            return Dns::All;
        }
        let servers = name_servers(&here.resolvers);
        if servers.is_empty() {
            let why =
                "--redirect-dns does nothing: /etc/resolv.conf names no server (or add --capture-all-dns)";
            notes.push(why.to_owned());
        }
        Dns::Servers(servers)
    }

    /// Users and groups whose traffic is the proxy's own.
    fn proxy_ids(&self, here: &Surroundings) -> Result<(Vec<u32>, Vec<u32>), FlagError> {
        let user = |name: &str| text::named_id(&here.users, name);
        let mut uids =
            text::ids(&self.proxy_uid, user).map_err(|cause| FlagError { flag: "--proxy-uid", cause })?;
        let known = |name: &str| text::named_id(&here.groups, name);
        let mut gids =
            text::ids(&self.proxy_gid, known).map_err(|cause| FlagError { flag: "--proxy-gid", cause })?;
        if uids.is_empty() && self.proxy_mark.is_none() {
            uids.push(user(PROXY_USER).unwrap_or(PROXY_ID));
        }
        if gids.is_empty() && self.proxy_mark.is_none() {
            gids.clone_from(&uids);
        }
        Ok((uids, gids))
    }
}

/// The servers that `/etc/resolv.conf` names.
fn name_servers(resolvers: &str) -> Vec<IpAddr> {
    let lines = resolvers.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    // A scope (`%eth0`) says on which link; rules know no such thing.
    lines.filter_map(|rest| rest.trim().split('%').next()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{FromArgMatches as _, Parser};
    use ostro_capture::Groups;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        flags: Flags,
    }

    fn here() -> Surroundings {
        Surroundings {
            users: "root:x:0:0::/root:/bin/sh\nenvoy:x:101:101::/:/bin/false\n".to_owned(),
            groups: "root:x:0:\njava:x:2000:\n".to_owned(),
            resolvers: "search svc\nnameserver 10.96.0.10\nnameserver fe80::1%eth0\n".to_owned(),
            ipv6: true,
        }
    }

    /// Of arguments with one blank between; two blanks have an empty argument between them.
    fn config(arguments: &str) -> Config {
        let arguments = arguments.split(' ').skip(usize::from(arguments.is_empty()));
        let cli = Cli::try_parse_from(std::iter::once("x").chain(arguments)).unwrap();
        cli.flags.config(&here()).unwrap().0
    }

    #[test]
    fn what_istio_gives_its_init_container_is_a_sidecar() {
        let config = config(
            "-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x  -b * -d 15090,15021,15020 --log_output_level=default:info --native-nftables",
        );
        assert_eq!(config, Config { ipv6: true, ..Config::sidecar() });
    }

    #[test]
    fn nothing_given_is_nothing_captured_as_with_istio() {
        assert_eq!(config(""), Config { ipv6: true, ..Config::nothing() });
    }

    #[test]
    fn names_numbers_and_switches_are_understood() {
        let config = config(
            "-u envoy,5 -m tproxy -t 9 -r 9 -q 31000 -o 25 -c eth1 -k tap0 --redirect-dns=true --drop-invalid \
             --outbound-owner-groups java --ipv6 off --dual-stack",
        );
        assert_eq!((config.proxy_uids, config.proxy_gids), (vec![101, 5], vec![101, 5]));
        assert_eq!(config.interception, Interception::Tproxy { mark: 9, table: 9 });
        assert_eq!(config.owner_groups, Groups::Only(vec![2000]));
        assert_eq!(config.dns, Dns::Servers(vec!["10.96.0.10".parse().unwrap(), "fe80::1".parse().unwrap()]));
        assert!(config.drop_invalid && !config.ipv6);
        let marked = super::tests::config("--proxy-mark 0x10");
        assert_eq!((marked.proxy_uids, marked.proxy_gids, marked.proxy_marks), (vec![], vec![], vec![16]));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_flag() {
        let command = <Cli as clap::CommandFactory>::command();
        let error = command.try_get_matches_from(["x", "-b", "80,http"]).unwrap_err().to_string();
        assert!(
            error.contains("--istio-inbound-ports") && error.contains("ports from 1 to 65535"),
            "{error}"
        );
        let matches =
            <Cli as clap::CommandFactory>::command().try_get_matches_from(["x", "-u", "ghost"]).unwrap();
        let error = Cli::from_arg_matches(&matches).unwrap().flags.config(&here()).unwrap_err().to_string();
        assert_eq!(
            error,
            r#"--proxy-uid: found "ghost", allowed: numbers, or names that this system knows, separated by commas"#
        );
    }
}
