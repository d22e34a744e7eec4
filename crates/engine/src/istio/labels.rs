//! The labels of Istio's standard metrics, in Istio's order. Source of values and fallbacks: Istio's proxy.
//!
//! Labels are made once for each set that is new; whoever counts keeps what it made.

use std::borrow::Cow;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::Struct;
use envoy_types::pb::google::protobuf::value::Kind;

use super::{Destination, Peer};
use crate::ResponseFlags;

const UNKNOWN: &str = "unknown";
const LATEST: &str = "latest";

/// Who reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The client's proxy.
    Source,
    /// The server's proxy.
    Destination,
    /// A gateway before several servers.
    Waypoint,
}

impl Reporter {
    fn as_str(self) -> &'static str {
        match self {
            Reporter::Source => "source",
            Reporter::Destination => "destination",
            Reporter::Waypoint => "waypoint",
        }
    }
}

/// What a request or connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestProtocol {
    /// HTTP.
    Http,
    /// gRPC.
    Grpc,
    /// Bytes.
    Tcp,
}

impl RequestProtocol {
    fn as_str(self) -> &'static str {
        match self {
            RequestProtocol::Http => "http",
            RequestProtocol::Grpc => "grpc",
            RequestProtocol::Tcp => "tcp",
        }
    }
}

/// The proxy's own workload, as its labels are told. What its node does not say is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalWorkload {
    workload: Box<str>,
    namespace: Box<str>,
    canonical_name: Box<str>,
    canonical_revision: Box<str>,
    app: Box<str>,
    version: Box<str>,
    cluster: Box<str>,
    istio_version: Box<str>,
}

impl LocalWorkload {
    /// Of the proxy's node.
    pub fn of(node: &Node) -> LocalWorkload {
        let nothing = Struct::default();
        let metadata = node.metadata.as_ref().unwrap_or(&nothing);
        let labels = match metadata.fields.get("LABELS").and_then(|value| value.kind.as_ref()) {
            Some(Kind::StructValue(labels)) => labels,
            _ => &nothing,
        };
        let text = |of: &Struct, key: &str| match of.fields.get(key).and_then(|value| value.kind.as_ref()) {
            Some(Kind::StringValue(text)) => text.as_str().into(),
            _ => Box::default(),
        };
        LocalWorkload {
            workload: text(metadata, "WORKLOAD_NAME"),
            namespace: text(metadata, "NAMESPACE"),
            canonical_name: text(labels, "service.istio.io/canonical-name"),
            canonical_revision: text(labels, "service.istio.io/canonical-revision"),
            app: text(labels, "app"),
            version: text(labels, "version"),
            cluster: text(metadata, "CLUSTER_ID"),
            istio_version: text(metadata, "ISTIO_VERSION"),
        }
    }

    /// The labels of `istio_build`.
    pub fn build_labels(&self) -> Labels<'_> {
        vec![("component", "proxy".into()), ("tag", known(&self.istio_version).into())]
    }
}

/// Who is at both ends, and what the destination is.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    /// Whose report it is.
    pub reporter: Reporter,
    /// The proxy's own workload.
    pub local: &'a LocalWorkload,
    /// The other end: the client of a server's proxy or a waypoint, the server of a client's proxy.
    pub peer: Option<&'a Peer>,
    /// The server, of a waypoint.
    pub server: Option<&'a Peer>,
    /// What the destination is.
    pub destination: Destination<'a>,
    /// Identities, as certificates say them; empty where there are none.
    pub principals: Principals<'a>,
}

/// Identities of a connection: URIs of certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Principals<'a> {
    /// The other end's.
    pub peer: &'a str,
    /// The proxy's own.
    pub local: &'a str,
}

/// Labels with their values, in order.
pub type Labels<'a> = Vec<(&'static str, Cow<'a, str>)>;

/// What is known of a request when it is over.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// What it spoke.
    pub protocol: RequestProtocol,
    /// Status of the response; 0 if there was none.
    pub status: u16,
    /// gRPC's status, if it was gRPC and there was one.
    pub grpc_status: Option<u32>,
    /// What happened besides.
    pub flags: ResponseFlags,
}

impl<'a> Ends<'a> {
    /// Labels of who and whom: all that metrics of messages have.
    pub fn labels(&self) -> Labels<'a> {
        let mut labels = Vec::with_capacity(25);
        labels.push(("reporter", self.reporter.as_str().into()));
        match self.reporter {
            Reporter::Source => {
                self.local_source(&mut labels);
                self.peer_destination(&mut labels);
            }
            Reporter::Destination => {
                self.peer_source(&mut labels);
                self.local_destination(&mut labels);
            }
            Reporter::Waypoint => {
                self.peer_source(&mut labels);
                self.server_destination(&mut labels);
            }
        }
        labels
    }

    /// Labels of a request that is over.
    pub fn request_labels(&self, outcome: &Outcome) -> Labels<'a> {
        let mut labels = self.labels();
        labels.push(("request_protocol", outcome.protocol.as_str().into()));
        labels.push(("response_code", outcome.status.to_string().into()));
        let grpc = outcome.grpc_status.filter(|_| outcome.protocol == RequestProtocol::Grpc);
        labels.push(("grpc_response_status", grpc.map_or(String::new(), |status| status.to_string()).into()));
        self.security(&mut labels, outcome.flags);
        labels
    }

    /// Labels of a connection.
    pub fn connection_labels(&self, flags: ResponseFlags) -> Labels<'a> {
        let mut labels = self.labels();
        labels.push(("request_protocol", RequestProtocol::Tcp.as_str().into()));
        self.security(&mut labels, flags);
        labels
    }

    fn security(&self, labels: &mut Labels<'a>, flags: ResponseFlags) {
        labels.push(("response_flags", flags.short().to_string().into()));
        let Principals { peer, local } = self.principals;
        let policy = match self.reporter {
            Reporter::Source => UNKNOWN,
            _ if !peer.is_empty() && !local.is_empty() => "mutual_tls",
            _ => "none",
        };
        labels.push(("connection_security_policy", policy.into()));
    }

    fn local_source(&self, labels: &mut Labels<'a>) {
        let local = self.local;
        labels.extend([
            ("source_workload", (&*local.workload).into()),
            ("source_canonical_service", (&*local.canonical_name).into()),
            ("source_canonical_revision", (&*local.canonical_revision).into()),
            ("source_workload_namespace", (&*local.namespace).into()),
            ("source_principal", known(self.principals.local).into()),
            ("source_app", (&*local.app).into()),
            ("source_version", (&*local.version).into()),
            ("source_cluster", Cow::from(&*local.cluster)),
        ]);
    }

    fn peer_source(&self, labels: &mut Labels<'a>) {
        let of = |field: fn(&'a Peer) -> &'a str| known(self.peer.map(field).unwrap_or_default());
        labels.extend([
            ("source_workload", of(|peer| &peer.workload).into()),
            ("source_canonical_service", of(|peer| &peer.canonical_name).into()),
            ("source_canonical_revision", revision(self.peer).into()),
            ("source_workload_namespace", known(self.peer_namespace()).into()),
            ("source_principal", known(self.principals.peer).into()),
            ("source_app", of(|peer| &peer.app).into()),
            ("source_version", of(|peer| &peer.version).into()),
            ("source_cluster", Cow::from(of(|peer| &peer.cluster))),
        ]);
    }

    fn peer_destination(&self, labels: &mut Labels<'a>) {
        let of = |field: fn(&'a Peer) -> &'a str| known(self.peer.map(field).unwrap_or_default());
        let Destination { host, name, namespace } = self.destination;
        let namespace = if namespace.is_empty() { self.peer_namespace() } else { namespace };
        let principal = match self.principals.peer {
            "" => self.peer.map(|peer| &*peer.identity).unwrap_or_default(),
            principal => principal,
        };
        labels.extend([
            ("destination_workload", of(|peer| &peer.workload).into()),
            ("destination_workload_namespace", known(self.peer_namespace()).into()),
            ("destination_principal", known(principal).into()),
            ("destination_app", of(|peer| &peer.app).into()),
            ("destination_version", of(|peer| &peer.version).into()),
            ("destination_service", known(host).into()),
            ("destination_canonical_service", of(|peer| &peer.canonical_name).into()),
            ("destination_canonical_revision", revision(self.peer).into()),
            ("destination_service_name", known(name).into()),
            ("destination_service_namespace", known(namespace).into()),
            ("destination_cluster", Cow::from(of(|peer| &peer.cluster))),
        ]);
    }

    fn local_destination(&self, labels: &mut Labels<'a>) {
        let local = self.local;
        let Destination { host, name, .. } = self.destination;
        let or_own = |text: &'a str| if text.is_empty() { &*local.canonical_name } else { text };
        labels.extend([
            ("destination_workload", (&*local.workload).into()),
            ("destination_workload_namespace", (&*local.namespace).into()),
            ("destination_principal", known(self.principals.local).into()),
            ("destination_app", (&*local.app).into()),
            ("destination_version", (&*local.version).into()),
            ("destination_service", or_own(host).into()),
            ("destination_canonical_service", (&*local.canonical_name).into()),
            ("destination_canonical_revision", (&*local.canonical_revision).into()),
            ("destination_service_name", or_own(name).into()),
            ("destination_service_namespace", (&*local.namespace).into()),
            ("destination_cluster", Cow::from(&*local.cluster)),
        ]);
    }

    fn server_destination(&self, labels: &mut Labels<'a>) {
        let of = |field: fn(&'a Peer) -> &'a str| known(self.server.map(field).unwrap_or_default());
        let Destination { host, name, namespace } = self.destination;
        labels.extend([
            ("destination_workload", of(|peer| &peer.workload).into()),
            ("destination_workload_namespace", of(|peer| &peer.namespace).into()),
            ("destination_principal", of(|peer| &peer.identity).into()),
            ("destination_app", of(|peer| &peer.app).into()),
            ("destination_version", of(|peer| &peer.version).into()),
            ("destination_service", known(host).into()),
            ("destination_canonical_service", of(|peer| &peer.canonical_name).into()),
            ("destination_canonical_revision", of(|peer| &peer.canonical_revision).into()),
            ("destination_service_name", known(name).into()),
            ("destination_service_namespace", known(namespace).into()),
            ("destination_cluster", Cow::from(of(|peer| &peer.cluster))),
        ]);
    }

    /// The other end's namespace: of its identity, or as it says itself.
    fn peer_namespace(&self) -> &'a str {
        let own = self.peer.map(|peer| &*peer.identity).filter(|_| self.reporter == Reporter::Source);
        let principal = match self.principals.peer {
            "" => own.unwrap_or_default(),
            principal => principal,
        };
        match namespace_of(principal) {
            "" => self.peer.map(|peer| &*peer.namespace).unwrap_or_default(),
            namespace => namespace,
        }
    }
}

fn known(text: &str) -> &str {
    if text.is_empty() { UNKNOWN } else { text }
}

fn revision(peer: Option<&Peer>) -> &str {
    match peer.map(|peer| &*peer.canonical_revision).unwrap_or_default() {
        "" => LATEST,
        revision => revision,
    }
}

/// What stands behind `/ns/` in an identity.
fn namespace_of(principal: &str) -> &str {
    let rest = principal.split_once("/ns/").map_or("", |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> LocalWorkload {
        let node = serde_json::json!({"metadata": {
            "WORKLOAD_NAME": "w", "NAMESPACE": "n", "CLUSTER_ID": "c", "ISTIO_VERSION": "1.2.3",
            "LABELS": {
                "app": "a", "app.kubernetes.io/name": "not this", "version": "v",
                "service.istio.io/canonical-name": "cn", "service.istio.io/canonical-revision": "cr",
            },
        }});
        LocalWorkload::of(&ostro_envoy_json::from_value(&node, ostro_envoy_json::Unknown::Refuse).unwrap())
    }

    fn ends<'a>(reporter: Reporter, local: &'a LocalWorkload, peer: Option<&'a Peer>) -> Ends<'a> {
        let destination = Destination { host: "s.m.svc", name: "s", namespace: "m" };
        Ends { reporter, local, peer, server: None, destination, principals: Principals::default() }
    }

    fn line(labels: &Labels<'_>) -> String {
        labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_server_reports_in_istios_order() {
        let local = local();
        let outcome = Outcome {
            protocol: RequestProtocol::Grpc,
            status: 200,
            grpc_status: Some(7),
            flags: ResponseFlags::default(),
        };
        let labels = ends(Reporter::Destination, &local, None).request_labels(&outcome);
        assert_eq!(
            line(&labels),
            "reporter=destination source_workload=unknown source_canonical_service=unknown \
             source_canonical_revision=latest source_workload_namespace=unknown source_principal=unknown \
             source_app=unknown source_version=unknown source_cluster=unknown destination_workload=w \
             destination_workload_namespace=n destination_principal=unknown destination_app=a \
             destination_version=v destination_service=s.m.svc destination_canonical_service=cn \
             destination_canonical_revision=cr destination_service_name=s destination_service_namespace=n \
             destination_cluster=c request_protocol=grpc response_code=200 grpc_response_status=7 \
             response_flags=- connection_security_policy=none"
        );
    }

    #[test]
    fn a_client_reports_its_peer_and_falls_back_to_the_peers_namespace() {
        let local = local();
        let peer = Peer { workload: "pw".into(), namespace: "pn".into(), ..Peer::default() };
        let mut ends = ends(Reporter::Source, &local, Some(&peer));
        ends.destination = Destination { host: "", name: "PassthroughCluster", namespace: "" };
        let labels = ends.connection_labels(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
        assert_eq!(
            line(&labels),
            "reporter=source source_workload=w source_canonical_service=cn source_canonical_revision=cr \
             source_workload_namespace=n source_principal=unknown source_app=a source_version=v source_cluster=c \
             destination_workload=pw destination_workload_namespace=pn destination_principal=unknown \
             destination_app=unknown destination_version=unknown destination_service=unknown \
             destination_canonical_service=unknown destination_canonical_revision=latest \
             destination_service_name=PassthroughCluster destination_service_namespace=pn \
             destination_cluster=unknown request_protocol=tcp response_flags=UF \
             connection_security_policy=unknown"
        );
    }

    #[test]
    fn identities_say_the_namespace_and_that_it_was_mutual_tls() {
        let local = local();
        let peer = Peer { namespace: "pn".into(), ..Peer::default() };
        let mut ends = ends(Reporter::Destination, &local, Some(&peer));
        ends.principals = Principals { peer: "spiffe://td/ns/other/sa/x", local: "spiffe://td/ns/n/sa/y" };
        let labels = line(&ends.connection_labels(ResponseFlags::default()));
        assert!(
            labels.contains("source_workload_namespace=other source_principal=spiffe://td/ns/other/sa/x")
        );
        assert!(labels.contains("destination_principal=spiffe://td/ns/n/sa/y"));
        assert!(labels.ends_with("connection_security_policy=mutual_tls"));
        assert_eq!(line(&local.build_labels()), "component=proxy tag=1.2.3");
    }

    #[test]
    fn a_waypoint_reports_both_others() {
        let local = local();
        let client = Peer { workload: "client".into(), ..Peer::default() };
        let server = Peer { workload: "server".into(), namespace: "sn".into(), ..Peer::default() };
        let ends = Ends { server: Some(&server), ..ends(Reporter::Waypoint, &local, Some(&client)) };
        let labels = line(&ends.labels());
        assert!(labels.starts_with("reporter=waypoint source_workload=client "), "{labels}");
        assert!(labels.contains("destination_workload=server destination_workload_namespace=sn"), "{labels}");
    }
}
