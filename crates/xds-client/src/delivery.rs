//! A response, whatever dialect it came in: resources by name, and what is wrong with it as a message.
//!
//! Invariant: whatever the bytes of a response, taking it apart does not panic, and nothing of it is dropped silently:
//! what is not a resource is a [`Fault`].

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryResponse, DiscoveryResponse, Resource, ResourceName,
};
use envoy_types::pb::google::protobuf::{Any, Duration as WireDuration};
use prost::{Message, Name as _};

use crate::{Kind, limits};

/// A response.
#[derive(Debug, Default)]
pub struct Delivery {
    /// The version of the whole.
    pub version: Arc<str>,
    /// What an answer names it by.
    pub nonce: String,
    /// In a kind that is subscribed to as a whole, what is missing is gone.
    pub whole: bool,
    /// The resources, each name once.
    pub items: Vec<Item>,
    /// Names that are taken away.
    pub removed: Vec<String>,
    /// What is wrong with it.
    pub faults: Vec<Fault>,
    /// What the control plane calls itself.
    pub control_plane: Option<String>,
}

/// A resource of a response.
#[derive(Debug)]
pub struct Item {
    /// Its name.
    pub name: Arc<str>,
    /// Its version; in the state of the world that of the whole.
    pub version: Arc<str>,
    /// The message; none: it is as it was, and lives on.
    pub bytes: Option<Bytes>,
    /// How long it lives, unless the control plane says so again.
    pub ttl: Option<Duration>,
}

/// Something in a response that cannot be taken. The control plane is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Of which resource; none if that cannot be told.
    pub name: Option<Arc<str>>,
    /// What about it.
    pub reason: String,
}

/// The beginning that every kind of resource has: its name is field 1.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

/// The name inside an encoded resource, if its kind has it there.
pub(crate) fn inner_name(kind: Kind, bytes: &[u8]) -> Result<Option<String>, String> {
    if !kind.spec().names_itself {
        return Ok(None);
    }
    let named = Named::decode(bytes).map_err(|error| format!("cannot be decoded: {error}"))?;
    Ok(Some(named.name))
}

impl Delivery {
    /// Takes a response of the state of the world apart.
    pub fn of_world(kind: Kind, response: DiscoveryResponse) -> Delivery {
        let DiscoveryResponse {
            version_info,
            resources,
            canary: _,
            type_url: _,
            nonce,
            control_plane,
            resource_errors: _,
        } = response;
        let version: Arc<str> = version_info.into();
        let mut delivery = Delivery {
            version: version.clone(),
            nonce,
            whole: true,
            control_plane: control_plane.map(|plane| plane.identifier),
            ..Delivery::default()
        };
        let mut seen = HashSet::new();
        for any in resources {
            let item = world_item(kind, any, &version);
            delivery.take(kind, item, &mut seen);
        }
        delivery
    }

    /// Takes a delta apart.
    pub fn of_delta(kind: Kind, response: DeltaDiscoveryResponse) -> Delivery {
        let DeltaDiscoveryResponse {
            system_version_info,
            resources,
            type_url: _,
            removed_resources,
            removed_resource_names,
            nonce,
            control_plane,
            resource_errors: _,
        } = response;
        let mut delivery = Delivery {
            version: system_version_info.into(),
            nonce,
            control_plane: control_plane.map(|plane| plane.identifier),
            ..Delivery::default()
        };
        let mut seen = HashSet::new();
        for resource in resources {
            let item = delta_item(kind, resource);
            delivery.take(kind, item, &mut seen);
        }
        let located = removed_resource_names.into_iter().map(|ResourceName { name, .. }| name);
        for name in removed_resources.into_iter().chain(located) {
            if seen.contains(name.as_str()) {
                let reason = "is both updated and removed".to_owned();
                delivery.faults.push(Fault { name: Some(name.into()), reason });
            } else {
                delivery.removed.push(name);
            }
        }
        delivery
    }

    fn take(&mut self, kind: Kind, item: Result<Item, Fault>, seen: &mut HashSet<Arc<str>>) {
        match item {
            Ok(item) if seen.insert(item.name.clone()) => self.items.push(item),
            Ok(Item { name, .. }) => {
                let what = kind.spec().plural.trim_end_matches("(s)");
                let reason = format!("duplicate {what} {name} found");
                self.faults.push(Fault { name: Some(name), reason });
            }
            Err(fault) => self.faults.push(fault),
        }
    }
}

fn world_item(kind: Kind, any: Any, version: &Arc<str>) -> Result<Item, Fault> {
    let nameless = |reason| Fault { name: None, reason };
    if any.type_url == Resource::type_url() {
        // A resource that lives for a time only.
        let resource = Resource::decode(any.value.as_slice())
            .map_err(|error| nameless(format!("cannot be decoded: {error}")))?;
        let mut item = delta_item(kind, resource)?;
        item.version = version.clone();
        return Ok(item);
    }
    let bytes = message(kind, any).map_err(nameless)?;
    let name = inner_name(kind, &bytes).map_err(nameless)?.unwrap_or_default();
    named(name, |name| Ok(Item { name, version: version.clone(), bytes: Some(bytes), ttl: None }))
}

fn delta_item(kind: Kind, resource: Resource) -> Result<Item, Fault> {
    let Resource {
        name,
        resource_name,
        aliases: _,
        version,
        resource: body,
        ttl,
        cache_control: _,
        metadata: _,
    } = resource;
    let outer = resource_name.map_or(name, |located| located.name);
    let bytes = body.map(|any| message(kind, any)).transpose();
    // In the state of the world the wrapper may leave its name to the message.
    let name = match &bytes {
        Ok(Some(body)) if outer.is_empty() => {
            inner_name(kind, body).map_err(|reason| Fault { name: None, reason })?.unwrap_or_default()
        }
        _ => outer,
    };
    named(name, |name| {
        let bytes = bytes?;
        let ttl = ttl.map(lifetime).transpose()?;
        match &bytes {
            None if ttl.is_none() => return Err("has no body".to_owned()),
            None => {}
            Some(body) => {
                if let Some(inside) = inner_name(kind, body)?.filter(|inside| **inside != *name) {
                    return Err(format!("is named {inside:?} inside"));
                }
            }
        }
        Ok(Item { name, version: version.into(), bytes, ttl })
    })
}

/// Says whose fault it is if something is wrong with a resource whose name is known.
fn named(name: String, rest: impl FnOnce(Arc<str>) -> Result<Item, String>) -> Result<Item, Fault> {
    if name.is_empty() {
        return Err(Fault { name: None, reason: "has no name".to_owned() });
    }
    let name: Arc<str> = name.into();
    rest(name.clone()).map_err(|reason| Fault { name: Some(name), reason })
}

fn message(kind: Kind, any: Any) -> Result<Bytes, String> {
    if any.type_url != kind.url() {
        return Err(format!("is of type {:?} in a response of type {:?}", any.type_url, kind.url()));
    }
    Ok(Bytes::from(any.value))
}

fn lifetime(ttl: WireDuration) -> Result<Duration, String> {
    let WireDuration { seconds, nanos } = ttl;
    let whole = u64::try_from(seconds).ok().map(Duration::from_secs);
    let rest = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000).map(u64::from);
    match whole.zip(rest.map(Duration::from_nanos)) {
        Some((whole, rest)) if whole <= limits::TTL_MAX => Ok(whole + rest),
        _ => Err(format!("lives {seconds} s and {nanos} ns, which is no time to live")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::config::cluster::v3::Cluster;

    fn packed<M: Message + prost::Name>(message: &M) -> Any {
        Any { type_url: M::type_url(), value: message.encode_to_vec() }
    }

    fn cluster(name: &str) -> Any {
        packed(&Cluster { name: name.into(), ..Cluster::default() })
    }

    fn faults(delivery: &Delivery) -> Vec<(Option<&str>, &str)> {
        delivery.faults.iter().map(|fault| (fault.name.as_deref(), fault.reason.as_str())).collect()
    }

    fn names(delivery: &Delivery) -> Vec<&str> {
        delivery.items.iter().map(|item| &*item.name).collect()
    }

    #[test]
    fn the_state_of_the_world() {
        let wrapped = Resource {
            name: "c".into(),
            resource: Some(cluster("c")),
            ttl: Some(WireDuration { seconds: 3, nanos: 500_000_000 }),
            ..Resource::default()
        };
        let other = Any { type_url: Kind::LISTENER.url().into(), value: Vec::new() };
        let garbage = Any { type_url: Kind::CLUSTER.url().into(), value: vec![0xff; 9] };
        let delivery = Delivery::of_world(
            Kind::CLUSTER,
            DiscoveryResponse {
                version_info: "7".into(),
                resources: vec![
                    cluster("a"),
                    cluster("a"),
                    cluster(""),
                    other,
                    garbage,
                    packed(&wrapped),
                    Any { type_url: Resource::type_url(), value: vec![0xff] },
                ],
                ..DiscoveryResponse::default()
            },
        );
        assert_eq!(names(&delivery), ["a", "c"]);
        assert_eq!(delivery.items[1].ttl, Some(Duration::from_millis(3_500)));
        assert!(delivery.items.iter().all(|item| &*item.version == "7") && delivery.whole);
        let faults = faults(&delivery);
        assert_eq!(faults[0], (Some("a"), "duplicate cluster a found"));
        assert_eq!(faults[1], (None, "has no name"));
        assert!(
            faults[2].1.starts_with("is of type \"type.googleapis.com/envoy.config.listener.v3.Listener\"")
        );
        assert!(
            faults[3].1.starts_with("cannot be decoded: ") && faults[4].1.starts_with("cannot be decoded: ")
        );
    }

    #[test]
    fn a_delta() {
        let resource = |name: &str, inside: Option<&str>, seconds: Option<i64>| Resource {
            name: name.into(),
            version: "1".into(),
            resource: inside.map(cluster),
            ttl: seconds.map(|seconds| WireDuration { seconds, nanos: 0 }),
            ..Resource::default()
        };
        let delivery = Delivery::of_delta(
            Kind::CLUSTER,
            DeltaDiscoveryResponse {
                resources: vec![
                    resource("a", Some("a"), None),
                    resource("b", Some("other"), None),
                    resource("c", None, None),
                    resource("d", None, Some(3)),
                    resource("e", Some("e"), Some(-1)),
                ],
                removed_resources: vec!["x".into(), "a".into()],
                ..DeltaDiscoveryResponse::default()
            },
        );
        assert_eq!(names(&delivery), ["a", "d"]);
        assert!(delivery.items[1].bytes.is_none() && !delivery.whole);
        assert_eq!(delivery.removed, ["x"]);
        assert_eq!(
            faults(&delivery),
            [
                (Some("b"), "is named \"other\" inside"),
                (Some("c"), "has no body"),
                (Some("e"), "lives -1 s and 0 ns, which is no time to live"),
                (Some("a"), "is both updated and removed"),
            ]
        );
    }
}
