//! Metadata of listeners, routes and clusters: what others have noted there, for logs and telemetry.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Metadata as Proto;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};

/// Values by namespace (`istio`, `envoy.lb`) and key. Most things have none; copies share it.
#[derive(Clone, Debug, Default)]
pub struct Metadata(Option<Arc<[Namespace]>>);

/// A namespace and what is in it. They are few, in order, and there is one set for every endpoint: no map, which would have
/// room for many.
type Namespace = (Box<str>, Struct);

impl Metadata {
    /// Keeps what is written; typed metadata, which only filters of a kind we do not have could read, is let go.
    pub(crate) fn compile(proto: Option<Proto>) -> Metadata {
        let namespaces = proto.map(|proto| proto.filter_metadata).unwrap_or_default();
        let of = |(name, mut fields): (String, Struct)| {
            fields.fields.shrink_to_fit();
            (name.into_boxed_str(), fields)
        };
        let mut namespaces: Vec<Namespace> = namespaces.into_iter().map(of).collect();
        namespaces.sort_by(|(one, _), (other, _)| one.cmp(other));
        Metadata((!namespaces.is_empty()).then(|| namespaces.into()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it is the very same, not only equal.
    pub fn is_same(&self, other: &Metadata) -> bool {
        match (&self.0, &other.0) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (own, other) => own.is_none() && other.is_none(),
        }
    }

    /// The value that a path of keys leads to within a namespace.
    pub fn get(&self, namespace: &str, path: &[impl AsRef<str>]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let (_, fields) = self.0.as_ref()?.iter().find(|(name, _)| **name == *namespace)?;
        let mut value = fields.fields.get(first.as_ref())?;
        for key in rest {
            let Some(Kind::StructValue(inner)) = &value.kind else { return None };
            value = inner.fields.get(key.as_ref())?;
        }
        Some(value)
    }

    /// Namespaces and what is in them, in order of their names.
    pub fn namespaces(&self) -> impl Iterator<Item = (&str, &Struct)> {
        self.0.iter().flat_map(|all| all.iter().map(|(name, value)| (&**name, value)))
    }
}
