//! Kubernetes' core kinds, as far as a mesh reads them: a field that is not here is passed over.

use std::collections::BTreeMap;

use crate::schema::{choice, schema};

schema! {
    /// v1 Node. Its locality is in its labels.
    slim struct Node {
        /// `status.addresses`.
        addresses: Vec<NodeAddress>,
    }

    /// An address of a node.
    slim struct NodeAddress {
        /// InternalIP, ExternalIP, Hostname, ...
        r#type: String,
        /// The address.
        address: String,
    }

    /// v1 Service: its `spec`.
    slim struct Service {
        /// May be empty for a headless service only.
        ports: Vec<ServicePort>,
        /// Labels of its pods; empty means endpoints come from elsewhere.
        selector: BTreeMap<String, String>,
        /// `None` for headless, empty for ExternalName (and where no cluster gave one yet).
        cluster_ip as "clusterIP": String,
        /// One of each family; the first is `cluster_ip`.
        cluster_ips as "clusterIPs": Vec<String>,
        /// Which kind.
        r#type: ServiceType,
        /// Of an ExternalName service.
        external_name: String,
        /// Addresses outside the cluster that lead here.
        external_ips as "externalIPs": Vec<String>,
        /// Endpoints count even before they are ready.
        publish_not_ready_addresses: bool,
        /// IPv4, IPv6 or both, in order of preference.
        ip_families: Vec<String>,
        /// SingleStack, PreferDualStack or RequireDualStack.
        ip_family_policy: String,
        /// Cluster or Local.
        internal_traffic_policy: String,
        /// Preference by place: PreferClose, PreferSameZone, PreferSameNode.
        traffic_distribution: String,
    }

    /// A port of a service.
    slim struct ServicePort {
        /// Unique in the service; may be empty if it is the only one.
        name: String,
        /// 1 to 65535.
        port: u16,
        /// At the pod; unset means `port`.
        target_port: Option<IntOrString>,
        /// Transport.
        protocol: TransportProtocol,
        /// Application protocol; empty means by the port's name.
        app_protocol: String,
        /// On every node; 0 means none.
        node_port: u16,
    }

    /// discovery.k8s.io EndpointSlice.
    slim struct EndpointSlice {
        /// IPv4, IPv6 or FQDN.
        address_type: String,
        /// Its endpoints.
        endpoints: Vec<Endpoint>,
        /// Ports of each.
        ports: Vec<EndpointPort>,
    }

    /// An endpoint of a slice.
    slim struct Endpoint {
        /// Interchangeable; consumers use the first.
        addresses: Vec<String>,
        /// Its state.
        conditions: EndpointConditions,
        /// Of the pod.
        hostname: String,
        /// Where it runs.
        node_name: String,
        /// Where its node is.
        zone: String,
        /// The pod, usually.
        target_ref: Option<ObjectReference>,
    }

    /// State of an endpoint.
    slim struct EndpointConditions {
        /// Unset means ready.
        ready: Option<bool>,
        /// Ready, terminating or not; unset means as `ready`.
        serving: Option<bool>,
        /// Unset means no.
        terminating: Option<bool>,
    }

    /// A port of endpoints.
    slim struct EndpointPort {
        /// The service port's name.
        name: String,
        /// At the endpoint; unset means any.
        port: Option<u16>,
        /// Transport.
        protocol: TransportProtocol,
        /// Application protocol.
        app_protocol: String,
    }

    /// A reference to another object.
    slim struct ObjectReference {
        /// Of the object.
        kind: String,
        /// Of the object.
        name: String,
        /// Empty means the referrer's.
        namespace: String,
    }

    /// v1 Endpoints: EndpointSlice's predecessor.
    slim struct Endpoints {
        /// Addresses crossed with ports.
        subsets: Vec<EndpointSubset>,
    }

    /// Addresses crossed with ports.
    slim struct EndpointSubset {
        /// Ready.
        addresses: Vec<EndpointAddress>,
        /// Not ready.
        not_ready_addresses: Vec<EndpointAddress>,
        /// Ports of each.
        ports: Vec<EndpointPort>,
    }

    /// An address of Endpoints.
    slim struct EndpointAddress {
        /// Its address.
        ip: String,
        /// Of the pod.
        hostname: String,
        /// Where it runs.
        node_name: String,
        /// The pod, usually.
        target_ref: Option<ObjectReference>,
    }
}

choice! {
    /// Kind of a service.
    enum ServiceType {
        /// With an address inside the cluster, or headless.
        ClusterIp = "ClusterIP",
        /// And a port on every node.
        NodePort = "NodePort",
        /// And an address outside.
        LoadBalancer = "LoadBalancer",
        /// An alias of a DNS name.
        ExternalName = "ExternalName",
    }

    /// Transport protocol.
    enum TransportProtocol {
        /// TCP.
        Tcp = "TCP",
        /// UDP.
        Udp = "UDP",
        /// SCTP.
        Sctp = "SCTP",
    }
}

/// A port by number, or by its name at the container.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum IntOrString {
    /// 1 to 65535.
    Int(u16),
    /// A container port's name.
    String(String),
}
