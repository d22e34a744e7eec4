//! Rules that several kinds share.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use ostro_names::limits;

use crate::decode::At;
use crate::hosts::{HOST, is_host, is_label, is_mixed_label, is_wildcard_host};
use crate::object::Meta;
use crate::virtual_service::StringMatch;

/// A duration that proxies can keep: at least a millisecond, in whole milliseconds.
pub(super) fn duration(at: &At<'_>, duration: Option<Duration>) {
    let Some(duration) = duration else { return };
    if duration < Duration::from_millis(1) || duration.subsec_nanos() % 1_000_000 != 0 {
        at.refuse("whole milliseconds, at least 1ms");
    }
}

/// A share of requests: 0, or what a proxy can still tell from 0.
pub(super) fn percentage(at: &At<'_>, value: f64) {
    if !(value == 0.0 || (0.0001..=100.0).contains(&value)) {
        at.refuse("0, or 0.0001 to 100");
    }
}

/// A whole percentage.
pub(super) fn percent(at: &At<'_>, value: u32) {
    if value > 100 {
        at.refuse("0 to 100");
    }
}

/// A port that must be there.
pub(super) fn port(at: &At<'_>, port: u16) {
    if port == 0 {
        at.refuse("a port, 1 to 65535");
    }
}

pub(super) fn wildcard_host(at: &At<'_>, host: &str) {
    if !is_wildcard_host(host) {
        at.refuse(format!("{HOST}; a * in front"));
    }
}

pub(super) fn address(at: &At<'_>, address: &str) {
    if address.parse::<IpAddr>().is_err() {
        at.refuse("an IP address");
    }
}

/// An address or a block of them.
pub(super) fn subnet(at: &At<'_>, subnet: &str) {
    if subnet.parse::<IpAddr>().is_err() && subnet.parse::<IpNet>().is_err() {
        at.refuse("an IP address, or a block such as 10.0.0.0/8");
    }
}

/// The path of a Unix socket, without `unix://`.
pub(super) fn unix_path(at: &At<'_>, path: &str) {
    let abstract_name = path.starts_with('@') && path.len() > 1;
    if !abstract_name && (!path.starts_with('/') || path.ends_with('/')) {
        at.refuse("unix:// and an absolute path of a file, or unix://@ and a name");
    }
}

/// The name of a subset.
pub(super) fn subset_name(at: &At<'_>, name: &str) {
    if !is_mixed_label(name) {
        at.refuse("a name: letters, digits and -, 63 at most");
    }
}

/// The name of a port.
pub(super) fn port_name(at: &At<'_>, name: &str) {
    if !is_mixed_label(name) {
        at.refuse("a name: letters, digits and -, 63 at most");
    }
}

/// A regular expression that Envoy takes, within Istio's bound of length.
pub(super) fn pattern(at: &At<'_>, pattern: &str) {
    if pattern.is_empty() {
        at.refuse("a regular expression (RE2) that is not empty");
        return;
    }
    if pattern.len() > limits::REGEX_BYTES {
        let found = format!("a regular expression of {} bytes", pattern.len());
        at.complain(found, format!("{} bytes", limits::REGEX_BYTES));
        return;
    }
    if let Err(error) = ostro_re2::check(pattern) {
        at.refuse(format!("a regular expression (RE2): {error}"));
    }
}

/// A string match; `empty_prefix` is allowed for paths only.
pub(super) fn string_match(at: &At<'_>, matcher: &StringMatch, empty_prefix: bool) {
    match matcher {
        StringMatch::Prefix(prefix) if prefix.is_empty() && !empty_prefix => {
            at.field("prefix").refuse("a prefix that is not empty");
        }
        StringMatch::Regex(regex) => pattern(&at.field("regex"), regex),
        StringMatch::Any | StringMatch::Exact(_) | StringMatch::Prefix(_) => {}
    }
}

/// Names of gateways: `mesh`, `name` or `namespace/name`.
pub(super) fn gateways(at: &At<'_>, names: &[String]) {
    for (index, name) in names.iter().enumerate() {
        let good = match name.split_once('/') {
            Some((namespace, name)) => is_label(namespace) && is_mixed_label(name),
            None => is_host(name),
        };
        if !good {
            at.item(index).refuse("mesh, a gateway's name, or namespace/name");
        }
    }
}

/// What an object may be exported to.
pub(super) struct Export {
    /// `~` (nobody) is allowed.
    pub nobody: bool,
    /// Only the own namespace is allowed, and only alone.
    pub own_only: bool,
}

pub(super) fn export_to(at: &At<'_>, meta: &Meta, names: &[String], export: &Export) {
    let own = meta.namespace.as_str();
    let resolve = |name: &str| if name == "." { own.to_owned() } else { name.to_owned() };
    let mut seen = std::collections::BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let item = at.item(index);
        let good = matches!(name.as_str(), "." | "*") || (export.nobody && name == "~") || is_label(name);
        if !good {
            let nobody = if export.nobody { ", ~ (nobody)" } else { "" };
            item.refuse(format!(". (this namespace), * (all){nobody}, or a namespace"));
        }
        if !seen.insert(resolve(name)) {
            item.complain(format!("{name} for the second time"), "each namespace once");
        }
    }
    for alone in ["*", "~"] {
        if names.len() > 1 && seen.contains(alone) {
            at.complain(format!("{alone} among others"), format!("{alone} alone, or namespaces"));
        }
    }
    if export.own_only && !names.is_empty() && (names.len() > 1 || !seen.contains(own)) {
        at.complain("namespaces beside this one", "only . where a workloadSelector is set");
    }
}

/// A protocol as Istio names them, in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP, HTTP2, HTTP_PROXY, GRPC, GRPC-WEB.
    Http,
    /// HTTPS, TLS.
    Tls,
    /// TCP, MONGO, REDIS, MYSQL.
    Tcp,
    /// UDP.
    Udp,
}

pub(super) const PROTOCOLS: &str =
    "HTTP, HTTP2, HTTP_PROXY, GRPC, GRPC-WEB, HTTPS, TLS, TCP, MONGO, REDIS, MYSQL";

pub(super) fn protocol(text: &str) -> Option<Protocol> {
    match text.to_ascii_lowercase().as_str() {
        "http" | "http2" | "http_proxy" | "grpc" | "grpc-web" => Some(Protocol::Http),
        "https" | "tls" => Some(Protocol::Tls),
        "tcp" | "mongo" | "redis" | "mysql" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    }
}
