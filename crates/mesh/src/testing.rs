//! Objects for the unit tests of this crate, written shortly.

use std::collections::BTreeMap;
use std::sync::Arc;

use ostro_api::{Kind, Meta, Object, Origin, Spec};
use ostro_names::{Name, Namespace};

pub(crate) fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

pub(crate) fn meta(kind: Kind, namespace: &str, name: &str) -> Meta {
    Meta {
        kind,
        name: Name::new(name),
        namespace: Namespace::new(namespace),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        creation_timestamp: None,
        uid: String::new(),
        deletion_timestamp: None,
    }
}

pub(crate) fn object(meta: Meta, spec: Spec) -> Arc<Object> {
    Arc::new(Object { meta, origin: Origin { file: "test.yaml".into(), line: 1 }, spec })
}
