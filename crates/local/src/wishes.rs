//! What is asked of a running mesh beside its files: numbers of replicas, and services to be reached from the
//! host. And what the mesh tells in return: the objects in force.
//!
//! A scale is an override. It holds until the text of the workload asks for another number than it did when
//! the scale was made: whoever edits the file means it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use ostro_api::{Object, ObjectKey, Spec};
use tokio::sync::watch;

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

/// The runner's end of it all.
#[derive(Debug)]
pub struct Wishes {
    scales: watch::Sender<Scales>,
    changed: watch::Receiver<Scales>,
    in_force: watch::Sender<InForce>,
    exposed: Vec<(ServicePort, watch::Sender<Vec<(Ipv4Addr, u16)>>)>,
}

impl Wishes {
    /// Without any yet; `exposed` are told where their service's pods are.
    pub fn new(exposed: Vec<(ServicePort, watch::Sender<Vec<(Ipv4Addr, u16)>>)>) -> Self {
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
