//! What a mesh is told at its start, and what is derived from MeshConfig.

use ipnet::IpNet;
use ostro_api::mesh_config::MeshConfig;
use ostro_names::Namespace;

/// What does not change while a mesh lives.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Domain of Kubernetes Services.
    pub cluster_domain: String,
    /// Where Services that were written without a `clusterIP` get their addresses from; `None`: they have none.
    pub cluster_ip_range: Option<IpNet>,
    /// The control plane's own namespace. The ConfigMap `istio` counts here and nowhere else; it is also the root
    /// namespace where MeshConfig names none.
    pub system_namespace: Namespace,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            cluster_domain: "cluster.local".to_owned(),
            cluster_ip_range: None,
            system_namespace: Namespace::new("istio-system"),
        }
    }
}

/// What the meaning of an object depends on besides itself.
pub(crate) struct Context<'a> {
    pub(crate) domain: &'a str,
    pub(crate) config: &'a MeshConfig,
}

impl Context<'_> {
    pub(crate) fn service_export_to(&self) -> &[String] {
        &self.config.default_service_export_to
    }

    pub(crate) fn route_export_to(&self) -> &[String] {
        &self.config.default_virtual_service_export_to
    }

    pub(crate) fn rule_export_to(&self) -> &[String] {
        &self.config.default_destination_rule_export_to
    }
}
