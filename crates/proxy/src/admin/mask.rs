//! `google.protobuf.FieldMask`, applied to JSON: which fields are shown.
//!
//! As in Envoy, a path goes through messages, and into an `Any` by the fields of what it holds, but not through lists.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Fields that are shown; those without fields of their own are shown whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask(BTreeMap<String, Mask>);

impl Mask {
    /// The mask, if all its paths are fields of this message: of a part of the document, whose lists may end a path.
    pub fn of(text: &str, type_url: &str) -> Option<Mask> {
        let mask = Mask::parse(text)?;
        mask.fits(type_url, false).then_some(mask)
    }

    /// The mask for elements of a list: paths may lead into what an `Any` of theirs holds.
    pub fn of_element(text: &str, type_url: &str) -> Option<Mask> {
        let mask = Mask::parse(text)?;
        mask.fits(type_url, true).then_some(mask)
    }

    fn parse(text: &str) -> Option<Mask> {
        let mut mask = Mask::default();
        for path in text.split(',').filter(|path| !path.is_empty()) {
            let mut at = &mut mask;
            for name in path.split('.') {
                if name.is_empty() {
                    return None;
                }
                at = at.0.entry(name.to_owned()).or_default();
            }
            // A path covers all beneath it.
            at.0.clear();
        }
        (!mask.0.is_empty()).then_some(mask)
    }

    fn fits(&self, type_url: &str, opens_any: bool) -> bool {
        self.0.iter().all(|(name, inner)| match ostro_envoy_json::field(type_url, name) {
            None => false,
            Some(_) if inner.0.is_empty() => true,
            Some(field) if field.is_list => false,
            Some(field) => match field.message {
                Some("google.protobuf.Any") => opens_any && inner.fits_content(name),
                Some(message) => inner.fits(message, opens_any),
                None => false,
            },
        })
    }

    /// Of what an Any of this name holds.
    fn fits_content(&self, name: &str) -> bool {
        let message = match name {
            "cluster" => "envoy.config.cluster.v3.Cluster",
            "listener" => "envoy.config.listener.v3.Listener",
            "route_config" => "envoy.config.route.v3.RouteConfiguration",
            "endpoint_config" => "envoy.config.endpoint.v3.ClusterLoadAssignment",
            "ecds_filter" => "envoy.config.core.v3.TypedExtensionConfig",
            _ => return false,
        };
        self.fits(message, false)
    }

    /// Is this field shown, or a part of it?
    pub fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    /// What is shown of a field; `None`: all of it.
    pub fn within(&self, field: &str) -> Option<&Mask> {
        self.0.get(field).filter(|mask| !mask.0.is_empty())
    }

    /// What is left of an object; the type of an `Any` is.
    pub fn apply(&self, members: Map<String, Value>) -> Map<String, Value> {
        let shown = members.into_iter().filter(|(key, _)| key == "@type" || self.has(key));
        shown
            .map(|(key, value)| match (self.within(&key), value) {
                (Some(mask), Value::Object(inner)) => (key, Value::Object(mask.apply(inner))),
                (_, value) => (key, value),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

    use super::*;
    use serde_json::json;

    const STATIC_CLUSTER: &str = "envoy.admin.v3.ClustersConfigDump.StaticCluster";

    #[test]
    fn a_mask_fits_or_does_not() {
        let dump = "envoy.admin.v3.ClustersConfigDump";
        assert!(Mask::of("static_clusters", dump).is_some());
        for bad in [
            "static_clusters.cluster.name",
            "static_listeners",
            "static_clusters,nonsense",
            "",
            "a..b",
            "version_info.x",
        ] {
            assert_eq!(Mask::of(bad, dump), None, "{bad}");
        }
        assert!(Mask::of_element("cluster.name,last_updated", STATIC_CLUSTER).is_some());
        assert!(Mask::of_element("cluster.load_assignment.endpoints", STATIC_CLUSTER).is_some());
        for bad in ["cluster.load_assignment.endpoints.locality", "cluster.nonsense", "nonsense"] {
            assert_eq!(Mask::of_element(bad, STATIC_CLUSTER), None, "{bad}");
        }
    }

    #[test]
    fn a_mask_leaves_what_it_names() {
        let mask = Mask::of_element("cluster.name,cluster.load_assignment.policy", STATIC_CLUSTER).unwrap();
        let element = json!({"cluster": {"@type": "x", "name": "c", "type": "EDS", "load_assignment": {"cluster_name": "c", "policy": {"a": 1}}}, "last_updated": "t"});
        let Value::Object(members) = element else { panic!() };
        assert_eq!(
            Value::Object(mask.apply(members)),
            json!({"cluster": {"@type": "x", "name": "c", "load_assignment": {"policy": {"a": 1}}}})
        );
    }
}
