//! The format of a case. A field that is not known here is an error, not something to pass over.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A port that every echo service has.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) protocol: String,
    pub(super) service_port: Option<u16>,
    pub(super) workload_port: u16,
    #[serde(default)]
    pub(super) server_first: bool,
    /// TLS of the program, an address it binds, PROXY protocol: what our echo program does not do.
    #[serde(default, rename = "tLS")]
    tls: bool,
    #[serde(default, rename = "mTLS")]
    mtls: bool,
    #[serde(default, rename = "instanceIP")]
    instance_ip: bool,
    #[serde(default, rename = "localhostIP")]
    localhost_ip: bool,
    #[serde(default)]
    proxy_protocol: bool,
}

impl Port {
    /// Can our echo program serve it?
    pub(super) fn is_served(&self) -> bool {
        !(self.tls || self.mtls || self.instance_ip || self.localhost_ip || self.proxy_protocol)
    }

    /// Does the program speak TCP of its own on it?
    pub(super) fn is_tcp(&self) -> bool {
        self.protocol == "TCP"
    }
}

/// Objects, and what then becomes of calls.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Routing {
    pub(super) name: String,
    pub(super) config: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) calls: Vec<CallCase>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallCase {
    #[serde(default)]
    pub(super) name: String,
    pub(super) call: Call,
    pub(super) expect: Expect,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Call {
    /// Name of a port of the service.
    pub(super) port: String,
    /// `http` or `grpc`; by the port's protocol if not said.
    pub(super) scheme: Option<String>,
    #[serde(default = "root")]
    pub(super) path: String,
    #[serde(default = "get")]
    pub(super) method: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) follow_redirects: bool,
    #[serde(default = "once")]
    pub(super) count: usize,
}

fn root() -> String {
    "/".to_owned()
}

fn get() -> String {
    "GET".to_owned()
}

fn once() -> usize {
    1
}

/// What is expected of every answer, and of all of them together.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Expect {
    pub(super) status: Option<u16>,
    #[serde(default)]
    pub(super) request_headers: BTreeMap<String, String>,
    pub(super) url_seen_by_server: Option<String>,
    pub(super) host_seen_by_server: Option<String>,
    /// An empty value: the header must not be there.
    #[serde(default)]
    pub(super) response_headers: BTreeMap<String, String>,
    /// A gRPC status by its name in Go: `Unavailable`.
    pub(super) grpc_status: Option<String>,
    /// By service, of `count` answers.
    #[serde(default)]
    pub(super) distribution: BTreeMap<String, usize>,
    #[serde(default)]
    pub(super) tolerance: usize,
    pub(super) mirror: Option<Mirror>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mirror {
    pub(super) to: String,
    /// Percent of the calls.
    pub(super) percent: f64,
    /// In percent too.
    pub(super) tolerance: f64,
}
