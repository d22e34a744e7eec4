//! The loop that makes the pods that run equal to the pods that are asked for.
//!
//! Five things move it: files change, a pod was started (or was not), a pod tells of its readiness, a pod has
//! ended, a pod that could not be started is due again. After each the same
//! three steps follow: pods missing are started, pods too many are ended, and what everybody else needs to
//! know (files for the control plane, names, backends of exposed ports, status) is told anew, where it
//! differs. Pods are started beside each other, a few at a time, and only once everybody was told of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use ostro_api::{Object, ObjectKey};
use ostro_sources::{Follower, Update};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::{self, ClusterDir};
use crate::dns::{self, Zone};
use crate::images::Images;
use crate::ingress;
use crate::link::{self, POD_NETWORK};
use crate::place::Place;
use crate::plan::{self, PlanError, PodName, PodPlan, Proxy};
use crate::pod::{Pod, PodError, Report, Settings};
use crate::services::{self, Live};
use crate::status::{Phase, PodStatus, Status, now};
use crate::wishes::Wishes;

/// Addresses 0 and 1 are the network's and the bridge's.
const FIRST_HOST: u32 = 2;
/// Hosts of a /16, without its broadcast address.
const HOSTS_END: u32 = (1 << 16) - 1;
/// Reports of pods that the loop has not read yet.
const REPORTS_MAX: usize = 256;
/// Pods that are being made at a time: enough to keep every core busy, and few enough that the first are ready
/// early.
const STARTS_MAX: usize = 8;
/// How long after a pod could not be started it is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// A pod that runs.
struct Running {
    plan: PodPlan,
    ip: Ipv4Addr,
    /// Differs from that of every other living pod.
    serial: u32,
    ready: bool,
    stage: Stage,
    /// Seconds since the Unix epoch.
    started_at: u64,
}

/// What is done about a pod.
enum Stage {
    /// It has an address, and everybody is told of it next.
    New,
    /// It is being made.
    Starting,
    /// It lives.
    Up(Pod),
    /// It is on its way out.
    Ending,
}

impl Running {
    fn pod(&self) -> Option<&Pod> {
        match &self.stage {
            Stage::Up(pod) => Some(pod),
            _ => None,
        }
    }

    fn terminating(&self) -> bool {
        matches!(self.stage, Stage::Ending)
    }
}

enum Event {
    Files(Update),
    Started(PodName, Result<Pod, PodError>),
    Report(Report),
    Gone(PodName),
    Scaled,
    Retry,
}

/// Everything the loop holds.
pub struct Runner {
    mesh: Arc<Place>,
    settings: Arc<Settings>,
    images: Images,
    cluster: ClusterDir,
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    own: Vec<Arc<Object>>,
    running: BTreeMap<PodName, Running>,
    told: BTreeSet<PlanError>,
    complete: bool,
    /// When pods that could not be started are due again.
    retry: Option<Instant>,
    starts: Arc<Semaphore>,
    starting: JoinSet<(PodName, Result<Pod, PodError>)>,
    serial: u32,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    gone: (mpsc::Sender<PodName>, mpsc::Receiver<PodName>),
    ingress: watch::Sender<Vec<(Ipv4Addr, u16)>>,
    names: watch::Sender<Arc<Zone>>,
    wishes: Wishes,
    status: watch::Sender<Status>,
}

impl Runner {
    /// A runner without pods.
    pub fn new(
        mesh: Place,
        settings: Settings,
        images: Images,
        cluster: ClusterDir,
        ingress: watch::Sender<Vec<(Ipv4Addr, u16)>>,
        names: watch::Sender<Arc<Zone>>,
        wishes: Wishes,
        status: watch::Sender<Status>,
    ) -> Self {
        Self {
            mesh: Arc::new(mesh),
            settings: Arc::new(settings),
            images,
            cluster,
            objects: BTreeMap::new(),
            own: ingress::objects().into_iter().map(Arc::new).collect(),
            running: BTreeMap::new(),
            told: BTreeSet::new(),
            complete: false,
            retry: None,
            starts: Arc::new(Semaphore::new(STARTS_MAX)),
            starting: JoinSet::new(),
            serial: 0,
            reports: mpsc::channel(REPORTS_MAX),
            gone: mpsc::channel(REPORTS_MAX),
            ingress,
            names,
            wishes,
            status,
        }
    }

    /// Runs until `stop`, or until files can no longer be followed. All pods end with it, at once.
    pub async fn run(mut self, mut follower: Follower, stop: CancellationToken) {
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => break,
                update = follower.next() => match update {
                    Some(update) => Event::Files(update),
                    None => {
                        tracing::error!("files are no longer followed");
                        break;
                    }
                },
                Some(started) = self.starting.join_next() => match started {
                    Ok((name, result)) => Event::Started(name, result),
                    Err(error) => {
                        // A panic, which was reported where it happened: the pod stays as it is.
                        tracing::error!(%error, "a pod's start failed");
                        continue;
                    }
                },
                Some(report) = self.reports.1.recv() => Event::Report(report),
                Some(name) = self.gone.1.recv() => Event::Gone(name),
                () = self.wishes.changed() => Event::Scaled,
                () = due(self.retry) => Event::Retry,
            };
            let mut changed = self.note(event);
            // What has happened meanwhile is answered together: with many pods it is much.
            while let Ok(report) = self.reports.1.try_recv() {
                changed |= self.note(Event::Report(report));
            }
            if changed {
                self.reconcile();
            }
            self.tell();
            // Only now: the control plane should know a pod before its proxy calls.
            self.start_new();
        }
        self.end().await;
    }

    /// Ends everything at once.
    async fn end(self) {
        let Self { running, mut starting, .. } = self;
        let mut ending = JoinSet::new();
        for running in running.into_values() {
            // Dropping a pod waits for its thread.
            ending.spawn_blocking(move || drop(running));
        }
        // One that is just being made is dropped when it is there.
        while starting.join_next().await.is_some() {}
        while ending.join_next().await.is_some() {}
    }

    /// Takes an event in; true if the pods may have to change for it.
    fn note(&mut self, event: Event) -> bool {
        match event {
            Event::Files(update) => {
                self.complete |= update.initial;
                for key in &update.deletes {
                    self.objects.remove(key);
                }
                self.objects.extend(update.upserts.into_iter().map(|object| (object.key(), object)));
                self.wishes.note(&self.objects);
                self.complete
            }
            Event::Started(name, Ok(pod)) => {
                if let Some(running) = self.running.get_mut(&name) {
                    running.stage = Stage::Up(pod);
                }
                true
            }
            Event::Started(name, Err(error)) => {
                tracing::error!(pod = %name, %error, "pod was not started, and is tried again");
                self.running.remove(&name);
                self.retry = Some(Instant::now() + RETRY);
                false
            }
            Event::Report(Report { pod, ready }) => {
                if let Some(running) = self.running.get_mut(&pod) {
                    tracing::info!(%pod, ip = %running.ip, ready, "pod");
                    running.ready = ready;
                }
                true
            }
            Event::Gone(name) => {
                tracing::info!(pod = %name, "pod has ended");
                self.running.remove(&name);
                true
            }
            Event::Scaled => self.complete,
            Event::Retry => {
                self.retry = None;
                true
            }
        }
    }

    /// The objects in force, our own ingress gateway among them unless the user brings one.
    fn all_objects(&self) -> Vec<Arc<Object>> {
        let mut all: Vec<Arc<Object>> = self.objects.values().map(|object| self.wishes.of(object)).collect();
        if self.needs_ingress() {
            all.extend(self.own.iter().cloned());
        }
        all
    }

    fn needs_ingress(&self) -> bool {
        let (pods, _) = plan::plan(self.objects.values().map(AsRef::as_ref), &self.images);
        !pods.values().any(|pod| pod.proxy == Proxy::Gateway)
    }

    /// Starts what is missing and ends what is too many.
    fn reconcile(&mut self) {
        let objects = self.all_objects();
        let (wanted, errors) = plan::plan(objects.iter().map(AsRef::as_ref), &self.images);
        let errors: BTreeSet<PlanError> = errors.into_iter().collect();
        for error in errors.difference(&self.told) {
            tracing::error!("{error}");
        }
        self.told = errors;
        let missing: Vec<PodPlan> =
            wanted.values().filter(|plan| !self.running.contains_key(&plan.name)).cloned().collect();
        for plan in missing {
            self.admit(plan);
        }
        self.end_surplus(&wanted);
    }

    /// Gives a pod that is missing its address.
    fn admit(&mut self, plan: PodPlan) {
        let Some((serial, ip)) = self.free_address() else {
            tracing::error!(pod = %plan.name, "no pod address is free");
            return;
        };
        let running = Running { ip, serial, ready: false, stage: Stage::New, started_at: now(), plan };
        self.running.insert(running.plan.name.clone(), running);
    }

    /// Begins to make the pods that were admitted.
    fn start_new(&mut self) {
        let new = |(_, running): &(&PodName, &Running)| matches!(running.stage, Stage::New);
        let new: Vec<PodName> = self.running.iter().filter(new).map(|(name, _)| name.clone()).collect();
        if new.is_empty() {
            return;
        }
        for name in new {
            let Some(running) = self.running.get(&name) else { continue };
            let (plan, at) = (running.plan.clone(), (running.serial, running.ip));
            let (settings, mesh) = (self.settings.clone(), self.mesh.clone());
            let (starts, reports) = (self.starts.clone(), self.reports.0.clone());
            self.starting.spawn(async move {
                // The semaphore is never closed; were it, pods would only be started less orderly.
                let _slot = starts.acquire_owned().await;
                let result = Pod::start(&settings, &plan, at, &mesh, reports).await;
                (plan.name, result)
            });
            if let Some(running) = self.running.get_mut(&name) {
                running.stage = Stage::Starting;
            }
        }
    }

    /// Ends pods nobody wants any more. One whose workload lives on stays until its successors are ready.
    fn end_surplus(&mut self, wanted: &BTreeMap<PodName, PodPlan>) {
        let ready = |plan: &PodPlan| {
            self.running.get(&plan.name).is_some_and(|r| r.ready && r.pod().is_some() && r.plan == *plan)
        };
        let key = |plan: &PodPlan| (plan.name.namespace.clone(), plan.workload.clone());
        let unready: BTreeSet<_> = wanted.values().filter(|plan| !ready(plan)).map(key).collect();
        let surplus: Vec<PodName> = self
            .running
            .iter()
            .filter(|(_, running)| running.pod().is_some())
            .filter(|(name, running)| match wanted.get(*name) {
                // Of the same name but not the same pod: it has to go first.
                Some(plan) => *plan != running.plan,
                None => !unready.contains(&key(&running.plan)),
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in surplus {
            let Some(running) = self.running.get_mut(&name) else { continue };
            let Stage::Up(pod) = std::mem::replace(&mut running.stage, Stage::Ending) else { continue };
            tracing::info!(pod = %name, "pod is ended");
            let gone = self.gone.0.clone();
            tokio::spawn(async move {
                pod.end().await;
                // The loop is gone only if everything is.
                let _ = gone.send(name).await;
            });
        }
    }

    /// The next address in turn that no pod has: one just given up is not given out again at once.
    fn free_address(&mut self) -> Option<(u32, Ipv4Addr)> {
        let taken: BTreeSet<Ipv4Addr> = self.running.values().map(|running| running.ip).collect();
        let span = HOSTS_END - FIRST_HOST;
        (0..span).find_map(|_| {
            let ip = Ipv4Addr::from(u32::from(POD_NETWORK) + FIRST_HOST + self.serial % span);
            self.serial = self.serial.wrapping_add(1);
            (!taken.contains(&ip)).then_some((self.serial, ip))
        })
    }

    fn live(&self) -> Vec<Live<'_>> {
        let live = |running: &'_ Running| (running.ip, running.ready, running.terminating());
        self.running
            .values()
            .map(|running| {
                let (ip, ready, terminating) = live(running);
                Live { plan: &running.plan, ip, ready, terminating }
            })
            .collect()
    }

    /// Tells everybody what they need to know.
    fn tell(&mut self) {
        let objects = self.all_objects();
        let known = services::services(objects.iter().map(AsRef::as_ref));
        let live = self.live();
        let mut files = services::endpoint_slices(&known, &live);
        files.extend(live.iter().map(cluster::pod_object));
        if self.needs_ingress() {
            files.extend(ingress::files());
        }
        let backends = services::ingress_backends(&known, &live);
        self.ingress.send_if_modified(|old| {
            let differs = *old != backends;
            *old = backends;
            differs
        });
        let zone = dns::zone(objects.iter().map(AsRef::as_ref), &live, link::has_ipv6());
        self.names.send_if_modified(|old| {
            let differs = **old != zone;
            if differs {
                *old = Arc::new(zone);
            }
            differs
        });
        self.wishes.tell(&known, &live);
        if let Err(error) = self.cluster.sync(&files) {
            tracing::error!(%error, "the control plane could not be told of pods");
        }
        self.tell_status(&objects);
    }

    fn tell_status(&self, objects: &[Arc<Object>]) {
        let (wanted, _) = plan::plan(objects.iter().map(AsRef::as_ref), &self.images);
        let pods = self.running.values().map(|running| PodStatus {
            name: running.plan.name.clone(),
            workload: running.plan.workload.1.clone(),
            kind: running.plan.workload.0.as_str().to_owned(),
            ip: running.ip,
            ip6: None,
            proxy: running.plan.proxy,
            ready: running.ready && running.pod().is_some(),
            terminating: running.terminating(),
            phase: if running.ready { Phase::Running } else { Phase::Pending },
            held: None,
            restarts: 0,
            containers: Vec::new(),
            started_at: running.started_at,
            place: running.pod().map(|pod| pod.place().handle()),
            plan: Some(Arc::new(running.plan.clone())),
        });
        let status = Status {
            complete: self.complete && wanted.keys().all(|name| self.running.contains_key(name)),
            pods: pods.collect(),
            problems: self.told.iter().map(ToString::to_string).collect(),
        };
        self.status.send_replace(status);
    }
}

/// Waits until then; for ever if there is nothing to wait for.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
