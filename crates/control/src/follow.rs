//! From updates of the sources to changes for discovery.

use std::collections::BTreeMap;
use std::time::Instant;

use ostro_api::{Kind, ObjectKey};
use ostro_discovery::Change;
use ostro_mesh::{Changes, Mesh, Settings, Snapshot};
use ostro_sources::{Follower, Update};
use ostro_telemetry::{ConfigEvent, Metrics};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Objects that a log line names; of the others it gives the number.
const NAMED: usize = 8;

/// Follows the sources and keeps the mesh.
pub(crate) struct Follow {
    follower: Follower,
    mesh: Mesh,
    metrics: Metrics,
    counts: BTreeMap<Kind, i64>,
    waiting: Option<Waiting>,
}

/// A change that discovery has not taken yet.
struct Waiting {
    world: Snapshot,
    changes: Changes,
    objects: Vec<ObjectKey>,
    arrived: Instant,
}

impl Follow {
    pub fn new(follower: Follower, settings: Settings, metrics: Metrics) -> Self {
        Follow { follower, mesh: Mesh::new(settings), metrics, counts: BTreeMap::new(), waiting: None }
    }

    /// Everything that is there at the start; `None` if the follower has died.
    pub async fn first(&mut self) -> Option<Snapshot> {
        loop {
            let update = self.follower.next().await?;
            let initial = update.initial;
            let objects = update.upserts.len();
            self.apply(update);
            if initial {
                tracing::info!(objects, "configuration read");
                self.waiting = None;
                return Some(self.mesh.snapshot());
            }
        }
    }

    /// Hands on changes until `stop`, or until either end is gone.
    pub async fn run(mut self, changes: mpsc::Sender<Change<Snapshot>>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                update = self.follower.next() => match update {
                    Some(update) => self.apply(update),
                    None => {
                        tracing::error!("the files are followed no longer");
                        return stop.cancel();
                    }
                },
                room = changes.reserve(), if self.waiting.is_some() => {
                    let (Ok(room), Some(waiting)) = (room, self.waiting.take()) else { return stop.cancel() };
                    room.send(waiting.into_change());
                }
            }
        }
    }

    fn apply(&mut self, update: Update) {
        let arrived = Instant::now();
        let mut objects = Vec::new();
        let mut changes = Vec::new();
        for object in update.upserts {
            objects.push(object.key());
            self.count(object.key(), "update");
            changes.push(ostro_mesh::Change::Upsert(object));
        }
        for key in update.deletes {
            objects.push(key);
            self.count(key, "delete");
            changes.push(ostro_mesh::Change::Delete(key));
        }
        let refused = update.complaints.len();
        self.metrics.rejected_configs.add(i64::try_from(refused).unwrap_or(i64::MAX));
        if objects.is_empty() {
            return;
        }
        let (world, keys) = self.mesh.apply(changes);
        if keys.is_empty() {
            tracing::info!(why = describe(&objects), "nothing reads what changed");
            return;
        }
        self.waiting = Some(match self.waiting.take() {
            None => Waiting { world, changes: keys, objects, arrived },
            Some(earlier) => Waiting {
                world,
                changes: earlier.changes.then(&keys),
                objects: earlier.objects.into_iter().chain(objects).collect(),
                arrived: earlier.arrived,
            },
        });
    }

    /// Counts an object before it is applied.
    fn count(&mut self, key: ObjectKey, event: &'static str) {
        // Kinds that are not acted upon come from outside: one label for all of them.
        let kind = if matches!(key.kind, Kind::Other(_)) { "Other" } else { key.kind.as_str() };
        self.metrics.config_events.get_or_create(&ConfigEvent { r#type: kind, event }).inc();
        let before = i64::from(self.mesh.object(&key).is_some());
        let after = i64::from(event == "update");
        *self.counts.entry(key.kind).or_default() += after - before;
        let of = |kind| self.counts.get(&kind).copied().unwrap_or_default();
        self.metrics.services.set(of(Kind::Service) + of(Kind::ServiceEntry));
        self.metrics.virtual_services.set(of(Kind::VirtualService));
    }
}

impl Waiting {
    fn into_change(mut self) -> Change<Snapshot> {
        self.objects.sort_unstable();
        self.objects.dedup();
        Change {
            world: self.world,
            keys: self.changes.iter().collect(),
            why: describe(&self.objects),
            trigger: trigger(&self.objects),
            arrived: self.arrived,
        }
    }
}

/// The objects by name, as far as a log line goes.
fn describe(objects: &[ObjectKey]) -> String {
    let mut text: Vec<String> = objects.iter().take(NAMED).map(ToString::to_string).collect();
    if objects.len() > NAMED {
        text.push(format!("and {} more", objects.len() - NAMED));
    }
    text.join(", ")
}

/// Istio's class of a change: the heaviest of its objects.
fn trigger(objects: &[ObjectKey]) -> &'static str {
    let class = |key: &ObjectKey| match key.kind {
        Kind::EndpointSlice | Kind::Endpoints | Kind::Pod | Kind::Node | Kind::WorkloadEntry => {
            (0, "endpoint")
        }
        Kind::Service | Kind::ServiceEntry => (1, "service"),
        Kind::Namespace => (1, "namespace"),
        _ => (2, "config"),
    };
    objects.iter().map(class).max().map_or("config", |(_, name)| name)
}
