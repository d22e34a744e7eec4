//! What is asked of a running mesh beside its files: numbers of replicas, and services to be reached from the
//! host. And what the mesh tells in return: the objects in force.
//!
//! A scale is an override. It holds until the text of the workload asks for another number than it did when
//! the scale was made: whoever edits the file means it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use ostro_api::{Object, ObjectKey, Spec, similar};
use tokio::sync::watch;

use crate::expose::Backends;
use crate::ingress;
use crate::services::{self, Known, Live};

/// Objects in force, by key.
pub type InForce = Arc<BTreeMap<ObjectKey, Arc<Object>>>;

/// Numbers of replicas that were asked for; at most one for each workload that there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scales(BTreeMap<ObjectKey, Scale>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scale {
    /// What was asked for.
    replicas: u32,
    /// What the text asked for at that moment.
    written: u32,
}

/// How many replicas an object's text asks for; `None` if it is no workload.
pub fn written(object: &Object) -> Option<u32> {
    match &object.spec {
        Spec::Workload(workload) => Some(workload.replicas.unwrap_or(1)),
        _ => None,
    }
}

impl Scales {
    /// Asks for a number. `None` if the object is no workload; else what its text asks for.
    pub fn set(&mut self, object: &Object, replicas: u32) -> Option<u32> {
        let written = written(object)?;
        if replicas == written {
            self.0.remove(&object.key());
        } else {
            self.0.insert(object.key(), Scale { replicas, written });
        }
        Some(written)
    }

    /// Forgets what no longer holds. True if something was.
    pub fn settle(&mut self, objects: &BTreeMap<ObjectKey, Arc<Object>>) -> bool {
        let before = self.0.len();
        self.0
            .retain(|key, scale| objects.get(key).and_then(|object| written(object)) == Some(scale.written));
        before != self.0.len()
    }

    /// The object as it is to be run.
    pub fn of(&self, object: &Arc<Object>) -> Arc<Object> {
        let Some(scale) = self.0.get(&object.key()) else { return object.clone() };
        let mut scaled = Object::clone(object);
        if let Spec::Workload(workload) = &mut scaled.spec {
            workload.replicas = Some(scale.replicas);
        }
        Arc::new(scaled)
    }
}

/// A service's port, by names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    /// Of the service.
    pub namespace: String,
    /// Its name.
    pub service: String,
    /// The port it has there.
    pub port: u16,
}

/// What a user asks to be reached from the host: `[ADDRESS:]HOST_PORT:SERVICE[.NAMESPACE]:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expose {
    /// Where on the host; port 0 means one that is free.
    pub host: SocketAddr,
    /// Which service.
    pub service: String,
    /// Of the service; unsaid it is found by its name.
    pub namespace: Option<String>,
    /// The service's port.
    pub port: u16,
}

/// Why a service cannot be exposed. The user's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExposeError {
    /// Not of the form.
    #[error(
        "write HOST_PORT:SERVICE[.NAMESPACE]:PORT, such as 8080:istio-ingressgateway:80 or \
         127.0.0.1:0:reviews.shop:9080 (HOST_PORT 0: any that is free)"
    )]
    Form,
    /// No service of that name.
    #[error("no Service `{service}`{place}{hint}{listed}")]
    Service {
        /// As typed.
        service: String,
        /// ` in namespace X`, or nothing.
        place: String,
        /// `; did you mean X?`, or nothing.
        hint: String,
        /// What there is, if there is no hint.
        listed: String,
    },
    /// Several of that name.
    #[error("Service `{service}` is in several namespaces; write one of: {}", list.join(", "))]
    Several {
        /// As typed.
        service: String,
        /// With their namespaces.
        list: Vec<String>,
    },
    /// It has no such port.
    #[error("Service `{service}` has no port {port}; its ports: {}", ports.join(", "))]
    Port {
        /// As typed.
        service: String,
        /// As typed.
        port: u16,
        /// What it has.
        ports: Vec<String>,
    },
}

impl FromStr for Expose {
    type Err = ExposeError;

    fn from_str(text: &str) -> Result<Self, ExposeError> {
        let mut parts = text.rsplitn(3, ':');
        let (port, service, host) = (parts.next(), parts.next(), parts.next());
        let (Some(port), Some(service), Some(host)) = (port, service, host) else {
            return Err(ExposeError::Form);
        };
        let host = match host.parse::<u16>() {
            Ok(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            Err(_) => host.parse().map_err(|_| ExposeError::Form)?,
        };
        let (service, namespace) = match service.split_once('.') {
            Some((service, namespace)) => (service, Some(namespace.to_owned())),
            None => (service, None),
        };
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(ExposeError::Form)?;
        if service.is_empty() || namespace.as_deref() == Some("") {
            return Err(ExposeError::Form);
        }
        Ok(Self { host, service: service.to_owned(), namespace, port })
    }
}

impl Expose {
    /// The service's port that is meant, of the services that there will be: those of the files, and the ingress
    /// gateway that a mesh brings by itself.
    pub fn resolve(&self, objects: &[Arc<Object>]) -> Result<(SocketAddr, ServicePort), ExposeError> {
        let own: Vec<Object> = ingress::objects();
        let known = services::services(objects.iter().map(AsRef::as_ref).chain(&own));
        let near: Vec<&Known<'_>> = known
            .iter()
            .filter(|known| self.namespace.as_ref().is_none_or(|namespace| known.namespace() == namespace))
            .collect();
        let mut found: Vec<&Known<'_>> =
            near.iter().filter(|known| known.name() == self.service).copied().collect();
        found.dedup_by_key(|known| (known.namespace(), known.name()));
        let service = match found.as_slice() {
            [one] => one,
            [] => return Err(self.unknown(&near)),
            several => match several.iter().find(|known| known.namespace() == "default") {
                Some(one) => one,
                None => {
                    let list = several.iter().map(|known| format!("{}.{}", known.name(), known.namespace()));
                    return Err(ExposeError::Several { service: self.service.clone(), list: list.collect() });
                }
            },
        };
        let ports = service.tcp_ports();
        if !ports.contains(&self.port) {
            let ports = ports.iter().map(ToString::to_string).collect();
            return Err(ExposeError::Port { service: self.service.clone(), port: self.port, ports });
        }
        let namespace = service.namespace().to_owned();
        Ok((self.host, ServicePort { namespace, service: self.service.clone(), port: self.port }))
    }

    fn unknown(&self, near: &[&Known<'_>]) -> ExposeError {
        let hint = similar::did_you_mean(&self.service, near.iter().map(|known| known.name()));
        let names: Vec<String> =
            near.iter().map(|known| format!("\n  {}.{}", known.name(), known.namespace())).collect();
        ExposeError::Service {
            service: self.service.clone(),
            place: self.namespace.as_ref().map(|ns| format!(" in namespace {ns}")).unwrap_or_default(),
            listed: if hint.is_empty() { format!("; there are:{}", names.concat()) } else { String::new() },
            hint,
        }
    }
}

/// The runner's end of it all.
#[derive(Debug)]
pub struct Wishes {
    scales: watch::Sender<Scales>,
    changed: watch::Receiver<Scales>,
    in_force: watch::Sender<InForce>,
    exposed: Vec<(ServicePort, watch::Sender<Backends>)>,
}

impl Wishes {
    /// Without any yet; `exposed` are told where their service's pods are.
    pub fn new(exposed: Vec<(ServicePort, watch::Sender<Backends>)>) -> Self {
        let (scales, changed) = watch::channel(Scales::default());
        Self { scales, changed, in_force: watch::Sender::new(InForce::default()), exposed }
    }

    /// Where scales are asked for.
    pub fn scales(&self) -> watch::Sender<Scales> {
        self.scales.clone()
    }

    /// Where the objects in force are told of.
    pub fn in_force(&self) -> watch::Receiver<InForce> {
        self.in_force.subscribe()
    }

    /// Waits until somebody asks for another scale.
    pub async fn changed(&mut self) {
        // The sender is held beside it.
        let _ = self.changed.changed().await;
    }

    /// Hears of the objects of the files.
    pub fn note(&mut self, objects: &BTreeMap<ObjectKey, Arc<Object>>) {
        self.scales.send_if_modified(|scales| scales.settle(objects));
        self.in_force.send_replace(Arc::new(objects.clone()));
    }

    /// An object as it is to be run.
    pub fn of(&self, object: &Arc<Object>) -> Arc<Object> {
        self.scales.borrow().of(object)
    }

    /// Tells what is exposed where its pods are.
    pub fn tell(&self, services: &[Known<'_>], pods: &[Live<'_>]) {
        for (port, targets) in &self.exposed {
            let now = services::backends(services, pods, (&port.namespace, &port.service), port.port);
            targets.send_if_modified(|old| {
                let differs = *old != now;
                *old = now;
                differs
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(replicas: &str) -> Arc<Object> {
        let text = format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: a}}, spec: {{{replicas} selector: \
             {{matchLabels: {{app: a}}}}, template: {{metadata: {{labels: {{app: a}}}}, spec: {{containers: \
             [{{name: a, image: a}}]}}}}}}}}"
        );
        let parsed = ostro_api::parse_file("a.yaml", text.as_bytes());
        assert_eq!(parsed.complaints, []);
        Arc::new(parsed.objects.into_iter().next().unwrap())
    }

    #[test]
    fn what_is_exposed_is_written_so() {
        let expose = |text: &str| text.parse::<Expose>();
        let full = expose("127.0.0.2:0:web.shop:80").unwrap();
        assert_eq!(full.host, "127.0.0.2:0".parse().unwrap());
        assert_eq!((full.service.as_str(), full.namespace.as_deref(), full.port), ("web", Some("shop"), 80));
        assert_eq!(expose("[::1]:8080:web:80").unwrap().host, "[::1]:8080".parse().unwrap());
        for bad in [
            "8080",
            "web:80",
            "8080:web",
            "8080::80",
            "x:web:80",
            "8080:web:0",
            "8080:web.:80",
            "99999:web:80",
        ] {
            assert_eq!(expose(bad), Err(ExposeError::Form), "{bad}");
        }
    }

    #[test]
    fn what_is_exposed_has_to_be_there() {
        let text = "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{port: 80}]}}";
        let objects: Vec<Arc<Object>> =
            ostro_api::parse_file("a.yaml", text.as_bytes()).objects.into_iter().map(Arc::new).collect();
        let resolve = |text: &str| text.parse::<Expose>().unwrap().resolve(&objects);
        assert_eq!(resolve("0:web:80").unwrap().1.namespace, "shop");
        assert_eq!(resolve("0:istio-ingressgateway:80").unwrap().1.namespace, "istio-system");
        assert!(matches!(resolve("0:web:81"), Err(ExposeError::Port { .. })));
        assert!(matches!(resolve("0:web.other:80"), Err(ExposeError::Service { .. })));
        assert!(resolve("0:wep:80").unwrap_err().to_string().contains("did you mean `web`?"));
    }

    #[test]
    fn a_scale_holds_until_the_text_asks_for_another_number() {
        let one = deployment("");
        let mut wishes = Wishes::new(Vec::new());
        let objects = |object: &Arc<Object>| BTreeMap::from([(object.key(), object.clone())]);
        wishes.note(&objects(&one));
        wishes.scales().send_modify(|scales| assert_eq!(scales.set(&one, 3), Some(1)));
        assert_eq!(written(&wishes.of(&one)), Some(3));
        // Another edit of the same file.
        wishes.note(&objects(&deployment("minReadySeconds: 1,")));
        assert_eq!(written(&wishes.of(&one)), Some(3));
        let two = deployment("replicas: 2,");
        wishes.note(&objects(&two));
        assert_eq!(written(&wishes.of(&two)), Some(2));
        wishes.note(&objects(&one));
        assert_eq!(written(&wishes.of(&one)), Some(1), "it does not come back");
    }
}
