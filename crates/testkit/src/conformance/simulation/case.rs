//! The format of a case. A field that is not known here is an error, not something to pass over.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value};

use ostro_engine::Action;

use super::world::World;

/// A mesh, a proxy in it, and what the proxy does.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Simulation {
    pub(super) name: String,
    pub(super) proxy: ProxySpec,
    /// MeshConfig, over the default.
    #[serde(default)]
    pub(super) mesh_config: Map<String, Value>,
    #[serde(default)]
    pub(super) config: String,
    #[serde(default)]
    pub(super) kube: String,
    /// Environment of the control plane. Every one that cases use so far describes how we always are.
    #[serde(default, rename = "featureFlags")]
    pub(super) _feature_flags: Map<String, Value>,
    #[serde(default)]
    pub(super) calls: Vec<CallCase>,
    pub(super) routes: Option<RoutesCase>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ProxySpec {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) namespace: String,
    /// What its node metadata says, where that differs.
    pub(super) metadata_namespace: Option<String>,
    #[serde(default)]
    pub(super) ip: Vec<IpAddr>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallCase {
    #[serde(default)]
    pub(super) name: String,
    pub(super) call: Call,
    pub(super) expect: Expect,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Call {
    #[serde(default = "any_address")]
    pub(super) address: IpAddr,
    pub(super) port: u16,
    #[serde(default = "root")]
    pub(super) path: String,
    #[serde(default)]
    pub(super) protocol: Protocol,
    #[serde(default)]
    pub(super) tls: Tls,
    pub(super) alpn: Option<String>,
    pub(super) sni: Option<String>,
    #[serde(default)]
    pub(super) host_header: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) mode: Mode,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    #[default]
    Http,
    Http2,
    Tcp,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Tls {
    #[default]
    Plaintext,
    #[serde(rename = "tls")]
    Simple,
    Mtls,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    #[default]
    Outbound,
    Inbound,
}

fn any_address() -> IpAddr {
    IpAddr::from([1, 3, 3, 7])
}

fn root() -> String {
    "/".to_owned()
}

/// What is expected; empty where the case does not say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Expect {
    pub(super) error: String,
    pub(super) cluster: String,
    pub(super) listener: String,
    pub(super) filter_chain: String,
    pub(super) route_config: String,
    pub(super) virtual_host: String,
    pub(super) route: String,
    pub(super) strict: bool,
}

impl Expect {
    /// The fields that an outcome has too, by name.
    pub(super) fn fields(&self) -> [(&'static str, &String); 7] {
        [
            ("error", &self.error),
            ("cluster", &self.cluster),
            ("listener", &self.listener),
            ("filterChain", &self.filter_chain),
            ("routeConfig", &self.route_config),
            ("virtualHost", &self.virtual_host),
            ("route", &self.route),
        ]
    }
}

/// What became of a call: how far it got, by the names that expectations use. In order.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome(Vec<(&'static str, String)>);

impl Outcome {
    /// Notes how far the call got.
    pub(super) fn note(&mut self, field: &'static str, value: impl Into<String>) {
        self.0.push((field, value.into()));
    }

    /// What was noted, empty if nothing was.
    pub(super) fn field(&self, field: &str) -> &str {
        self.0.iter().find(|(f, _)| *f == field).map_or("", |(_, value)| value)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all: Vec<String> = self.0.iter().map(|(field, value)| format!("{field} {value:?}")).collect();
        f.write_str(&all.join(", "))
    }
}

/// Which clusters the domains of a route configuration lead to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RoutesCase {
    route_config: String,
    /// By domain: clusters in the order of the routes, or none at all if there must be no virtual host. Without
    /// the map the route configuration may be missing.
    virtual_hosts: Option<BTreeMap<String, Option<Vec<String>>>>,
}

impl RoutesCase {
    /// Where the generated route configuration says something else.
    pub(super) fn differences(&self, world: &World) -> Vec<String> {
        let Some(expected) = &self.virtual_hosts else { return Vec::new() };
        let table = match world.routes(&self.route_config) {
            Ok(table) => table,
            Err(error) => return vec![error],
        };
        let of_domain = |domain: &str| {
            let has = |d: &String| d.eq_ignore_ascii_case(domain);
            let host = table.hosts().iter().find(|h| h.domains.iter().any(has))?;
            let clusters = host.routes.iter().flat_map(|r| match &r.action {
                Action::Forward(forward) => {
                    forward.clusters().into_iter().map(|(c, _)| c.to_owned()).collect::<Vec<_>>()
                }
                Action::Redirect(_) | Action::Direct(_) => vec![String::new()],
            });
            Some(clusters.collect::<Vec<String>>())
        };
        expected
            .iter()
            .map(|(domain, expected)| (domain, expected, of_domain(domain)))
            .filter(|(_, expected, got)| *expected != got)
            .map(|(domain, expected, got)| format!("domain {domain}: expected {expected:?}, got {got:?}"))
            .collect()
    }
}
