//! The cases of folder `capture`: configurations by their JSON names, and golden rules.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ostro_capture::{Config, Dns, Interception, text};
use serde_json::Value;

use super::super::value;

/// Group ids that names in the cases are given.
const FIRST_NAMED_GROUP: u32 = 60_001;

/// Names that say nothing about rules: how the foreign program runs.
const NO_RULES: [&str; 16] = [
    "IPTABLES_PROBE_PORT",
    "PROBE_TIMEOUT",
    "DRY_RUN",
    "SKIP_RULE_APPLY",
    "RUN_VALIDATION",
    "DUAL_STACK",
    "HOST_IP",
    "NETWORK_NAMESPACE",
    "CNI_MODE",
    "RECONCILE",
    "CLEANUP_ONLY",
    "FORCE_APPLY",
    "NATIVE_NFTABLES",
    "FORCE_IPTABLES_BINARY",
    "IPTABLES_TRACE_LOGGING",
    "PROBE_PORT",
];

/// One case.
#[derive(Debug)]
pub(super) struct RuleCase {
    /// `section/name`.
    pub name: String,
    /// The file with the golden rules.
    pub golden: PathBuf,
    /// How those are written.
    pub form: Form,
    /// What both are about, or what of it is not read.
    pub subject: Result<Subject, String>,
}

/// How golden rules are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Input of `iptables-restore`, for IPv4 and then for IPv6.
    Iptables,
    /// Input of `nft`.
    Nft,
}

/// A configuration, and what its names stand for.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub config: Config,
    /// Groups that the case calls by name.
    pub groups: BTreeMap<String, u32>,
}

/// The cases of a directory: those of its `context.yaml`, whose golden files are exactly the files there are.
pub(super) fn read(dir: &Path) -> Result<Vec<RuleCase>, String> {
    let context = value(&dir.join("context.yaml"))?;
    let sections = context.as_object().ok_or("context.yaml: not a map")?;
    let mut cases = Vec::new();
    for (section, content) in sections.iter().filter(|(section, _)| *section != "flags") {
        let listed = content["cases"].as_array().ok_or(format!("{section}: no cases"))?;
        for case in listed {
            cases.push(read_case(dir, section, &content["defaults"], case)?);
        }
    }
    let mut files = goldens(dir)?;
    for case in &cases {
        let place = files.iter().position(|file| *file == case.golden);
        let place =
            place.ok_or(format!("{}: {} is missing, or of two cases", case.name, case.golden.display()))?;
        files.swap_remove(place);
    }
    match files.first() {
        None => Ok(cases),
        Some(file) => Err(format!("{} is of no case", file.display())),
    }
}

fn goldens(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))? {
            let path = entry.map_err(|e| format!("{}: {e}", dir.display()))?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "golden") {
                found.push(path);
            }
        }
    }
    Ok(found)
}

fn read_case(dir: &Path, section: &str, defaults: &Value, case: &Value) -> Result<RuleCase, String> {
    let name = case["name"].as_str().ok_or(format!("{section}: a case without name"))?;
    let golden = case["expected"].as_str().ok_or(format!("{section}/{name}: no golden file"))?;
    let mut settings: BTreeMap<&str, &Value> = BTreeMap::new();
    for values in [defaults, &case["config"]] {
        settings.extend(values.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value)));
    }
    let subject = match section.starts_with("sidecar-") {
        true => subject(&settings),
        false => Err("a section that is not about sidecars".to_owned()),
    };
    let form = if section.ends_with("nftables") { Form::Nft } else { Form::Iptables };
    Ok(RuleCase { name: format!("{section}/{name}"), golden: dir.join(golden), form, subject })
}

fn subject(settings: &BTreeMap<&str, &Value>) -> Result<Subject, String> {
    let mut config = Config::nothing();
    let mut groups = BTreeMap::new();
    let mut dns = DnsSettings::default();
    let (mut tproxy, mut mark, mut table) = (false, 1337, 133);
    let [mut include, mut exclude] = ["*", ""];
    for (key, value) in settings {
        let text = value.as_str().unwrap_or_default();
        let is = value.as_bool().unwrap_or(text == "true");
        let bad = |error: &dyn std::fmt::Display| format!("{key}: {error}");
        match *key {
            "PROXY_PORT" => config.outbound_port = number(key, value)?,
            "INBOUND_CAPTURE_PORT" => config.inbound_port = number(key, value)?,
            "INBOUND_TUNNEL_PORT" => config.tunnel_port = number(key, value)?,
            "PROXY_UID" => config.proxy_uids = text::ids(text, |_| None).map_err(|e| bad(&e))?,
            "PROXY_GID" => config.proxy_gids = text::ids(text, |_| None).map_err(|e| bad(&e))?,
            "INBOUND_INTERCEPTION_MODE" => tproxy = text == "TPROXY",
            "INBOUND_TPROXY_MARK" => mark = number(key, value)?,
            "INBOUND_TPROXY_ROUTE_TABLE" => table = number(key, value)?,
            "INBOUND_PORTS_INCLUDE" => config.inbound = text.parse().map_err(|e| bad(&e))?,
            "INBOUND_PORTS_EXCLUDE" => config.exclude_inbound = text::ports(text).map_err(|e| bad(&e))?,
            "OUTBOUND_PORTS_INCLUDE" => {
                config.include_outbound_ports = text::ports(text).map_err(|e| bad(&e))?;
            }
            "OUTBOUND_PORTS_EXCLUDE" => {
                config.exclude_outbound_ports = text::ports(text).map_err(|e| bad(&e))?;
            }
            "OUTBOUND_IPRANGES_INCLUDE" => config.outbound = text.parse().map_err(|e| bad(&e))?,
            "OUTBOUND_IPRANGES_EXCLUDE" => {
                config.exclude_outbound = text::ranges(text).map_err(|e| bad(&e))?;
            }
            "OUTBOUND_OWNER_GROUPS_INCLUDE" => include = text,
            "OUTBOUND_OWNER_GROUPS_EXCLUDE" => exclude = text,
            "KUBE_VIRT_INTERFACES" => {
                config.virtual_interfaces = text::interfaces(text).map_err(|e| bad(&e))?;
            }
            "EXCLUDE_INTERFACES" => {
                config.exclude_interfaces = text::interfaces(text).map_err(|e| bad(&e))?;
            }
            "REDIRECT_DNS" => dns.redirect = is,
            "CAPTURE_ALL_DNS" => dns.all = is,
            "DNS_SERVERS_V4" | "DNS_SERVERS_V6" => dns.servers.extend(addresses(key, value)?),
            "DROP_INVALID" => config.drop_invalid = is,
            "ENABLE_INBOUND_IPV6" => config.ipv6 = is,
            "HOST_IPV4_LOOPBACK_CIDR" => config.loopback = text.parse().map_err(|e| bad(&e))?,
            key if NO_RULES.contains(&key) => {}
            key => return Err(format!("setting {key}")),
        }
    }
    if tproxy {
        config.interception = Interception::Tproxy { mark, table };
    }
    config.dns = dns.read();
    for name in include
        .split(',')
        .chain(exclude.split(','))
        .filter(|n| n.parse::<u32>().is_err() && *n != "*" && !n.is_empty())
    {
        let next = FIRST_NAMED_GROUP + u32::try_from(groups.len()).unwrap_or_default();
        groups.entry(name.to_owned()).or_insert(next);
    }
    let known = |name: &str| groups.get(name).copied();
    config.owner_groups = text::groups(include, exclude, known).map_err(|e| format!("owner groups: {e}"))?;
    Ok(Subject { config, groups })
}

#[derive(Default)]
struct DnsSettings {
    redirect: bool,
    all: bool,
    servers: Vec<IpAddr>,
}

impl DnsSettings {
    fn read(self) -> Dns {
        match (self.redirect, self.all) {
            (false, _) => Dns::Off,
            (true, true) => Dns::All,
            (true, false) => Dns::Servers(self.servers),
        }
    }
}

fn number<T: std::str::FromStr>(key: &str, value: &Value) -> Result<T, String> {
    let text = value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string());
    text.parse().map_err(|_| format!("{key}: {text} is not a number that fits"))
}

fn addresses(key: &str, value: &Value) -> Result<Vec<IpAddr>, String> {
    let listed = value.as_array().ok_or(format!("{key}: not a list"))?;
    let parse = |item: &Value| item.as_str().and_then(|text| text.parse().ok());
    listed.iter().map(|item| parse(item).ok_or(format!("{key}: {item} is not an address"))).collect()
}
