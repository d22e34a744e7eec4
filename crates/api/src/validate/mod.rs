//! What a document may say: Istio's own rules (its webhook's and its schemas'), object by object.
//!
//! One file per kind. A rule complains at the place it is about; where Istio only warns, we warn.
//! What needs more than one object to be seen is not here.

mod destination_rule;
mod gateway;
mod http_route;
mod kubernetes;
mod load_balancer;
mod mesh_config;
mod rules;
mod service_entry;
mod virtual_service;

use crate::decode::At;
use crate::object::{Meta, Spec};

/// Complains about everything in a document that is well-typed and still wrong.
pub(crate) fn object(at: &At<'_>, meta: &Meta, spec: &Spec) {
    let inside = at.field("spec");
    match spec {
        Spec::Service(service) => kubernetes::service(&inside, service),
        Spec::EndpointSlice(slice) => kubernetes::endpoint_slice(at, slice),
        Spec::Endpoints(endpoints) => kubernetes::endpoints(at, endpoints),
        Spec::Pod(pod) => kubernetes::pod(at, pod),
        Spec::Workload(workload) => kubernetes::workload(&inside, workload),
        Spec::VirtualService(service) => virtual_service::check(&inside, meta, service),
        Spec::DestinationRule(rule) => destination_rule::check(&inside, meta, rule),
        Spec::Gateway(gateway) => gateway::check(&inside, gateway),
        Spec::ServiceEntry(entry) => service_entry::check(&inside, meta, entry),
        Spec::WorkloadEntry(entry) => service_entry::workload_entry(&inside, entry),
        Spec::MeshConfig(_)
        | Spec::ConfigMap(_)
        | Spec::Secret(_)
        | Spec::Namespace
        | Spec::Node(_)
        | Spec::ServiceAccount
        | Spec::Other(_) => {}
    }
}

pub(crate) use mesh_config::check as mesh_config;
