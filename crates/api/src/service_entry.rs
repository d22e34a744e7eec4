//! Istio's ServiceEntry and WorkloadEntry (networking.istio.io): services and workloads beyond
//! Kubernetes.

use std::collections::BTreeMap;

use crate::schema::{choice, schema};

schema! {
    /// A service that Kubernetes does not know.
    strict struct ServiceEntry {
        /// Its hosts, lower case, possibly with a `*` in front.
        hosts: Vec<String>,
        /// Addresses or CIDR blocks; empty means by port (and host) alone.
        addresses: Vec<String>,
        /// Its ports.
        ports: Vec<ServiceEntryPort>,
        /// Inside the mesh or not.
        location: Location,
        /// How endpoints are found.
        resolution: Resolution,
        /// Endpoints given here; excludes `workload_selector`.
        endpoints: Vec<WorkloadEntry>,
        /// Endpoints are the WorkloadEntries and Pods of its namespace with these labels.
        workload_selector: Option<LabelsSelector>,
        /// Namespaces that see this; empty means the mesh's default.
        export_to: Vec<String>,
        /// Names one of which the server must prove.
        subject_alt_names: Vec<String>,
    }

    /// A port of a ServiceEntry.
    strict struct ServiceEntryPort {
        /// 1 to 65535.
        number: u16,
        /// As in [`crate::gateway::GatewayPort`], and UDP; empty means detect.
        protocol: String,
        /// Unique in the ServiceEntry.
        name: String,
        /// At the endpoint; unset means `number`.
        target_port: Option<u16>,
    }

    /// Selects workloads of its namespace by labels.
    strict struct LabelsSelector {
        /// All of these.
        labels: BTreeMap<String, String>,
    }

    /// A workload outside Kubernetes.
    strict struct WorkloadEntry {
        /// IP address, DNS name, or `unix://` path; empty only where `network` is set.
        address: String,
        /// Port at the endpoint by name of the service's port.
        ports: BTreeMap<String, u16>,
        /// Labels of the workload (not of the object).
        labels: BTreeMap<String, String>,
        /// Workloads of one network reach each other directly.
        network: String,
        /// `region/zone/subzone`.
        locality: String,
        /// Share relative to its siblings; 0 means 1.
        weight: u32,
        /// Its identity.
        service_account: String,
    }
}

choice! {
    /// Inside the mesh or not.
    enum Location {
        /// Outside: no mutual TLS.
        MeshExternal = "MESH_EXTERNAL",
        /// Inside.
        MeshInternal = "MESH_INTERNAL",
    }

    /// How a ServiceEntry's endpoints are found.
    enum Resolution {
        /// To where the client already connected.
        None = "NONE",
        /// From the object.
        Static = "STATIC",
        /// By DNS, all answers.
        Dns = "DNS",
        /// By DNS, the first answer.
        DnsRoundRobin = "DNS_ROUND_ROBIN",
        /// By DNS, of the host the request names.
        DynamicDns = "DYNAMIC_DNS",
    }
}
