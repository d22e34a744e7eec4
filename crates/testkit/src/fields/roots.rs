//! Where a walk begins: the resources, and who is asked about them.

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap as BootstrapProto;
use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterProto;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener as ListenerProto;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use ostro_engine::cluster::Assignment;
use ostro_engine::{Bootstrap, Cluster, Listener, RouteTable};
use ostro_envoy_json::{Unknown, from_value};
use prost::{Message, Name};
use serde_json::Value;

/// What the engine makes of a resource, as text that is the same for what is the same; or why it makes nothing.
pub type Opinion = Result<String, String>;

/// A resource.
#[derive(Clone, Copy)]
pub struct Root {
    /// Full name of its message.
    pub message: &'static str,
    /// Asks the engine.
    pub ask: fn(&Value) -> Opinion,
}

/// Everything that a proxy is configured with.
pub const ROOTS: [Root; 5] = [
    Root { message: "envoy.config.listener.v3.Listener", ask: listener },
    Root { message: "envoy.config.route.v3.RouteConfiguration", ask: routes },
    Root { message: "envoy.config.cluster.v3.Cluster", ask: cluster },
    Root { message: "envoy.config.endpoint.v3.ClusterLoadAssignment", ask: endpoints },
    Root { message: "envoy.config.bootstrap.v3.Bootstrap", ask: bootstrap },
];

fn listener(value: &Value) -> Opinion {
    shown(Listener::compile(read::<ListenerProto>(value)))
}

fn routes(value: &Value) -> Opinion {
    shown(RouteTable::compile(read::<RouteConfiguration>(value)))
}

fn cluster(value: &Value) -> Opinion {
    shown(Cluster::compile(read::<ClusterProto>(value)))
}

fn endpoints(value: &Value) -> Opinion {
    shown(Assignment::compile_eds(read::<ClusterLoadAssignment>(value)))
}

fn bootstrap(value: &Value) -> Opinion {
    shown(Bootstrap::compile(read::<BootstrapProto>(value)))
}

fn read<M: Message + Name + Default>(value: &Value) -> M {
    from_value(value, Unknown::Refuse)
        .unwrap_or_else(|error| panic!("an example that is none: {error}\n{value:#}"))
}

fn shown<T: std::fmt::Debug>(compiled: Result<T, ostro_engine::Refusal>) -> Opinion {
    let compiled = compiled.map_err(|refusal| refusal.to_string())?;
    // Sets have no order, so lines are compared without theirs.
    let text = format!("{compiled:#?}");
    let mut lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.sort_unstable();
    Ok(lines.join("\n"))
}
