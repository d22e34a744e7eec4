//! The loop that makes the pods that run equal to the pods that are asked for.
//!
//! Five things move it: files change, a pod was started (or was not), a pod tells of its readiness, a pod has
//! ended, a pod that could not be started is due again. After each the same
//! three steps follow: pods missing are started, pods too many are ended, and what everybody else needs to
//! know (files for the control plane, names, backends of exposed ports, status) is told anew, where it
//! differs. Of pods that only tell what their containers do, the status alone is told. Pods are started beside each other, a few at a time, and only once everybody was told of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ostro_api::{Object, ObjectKey};
use ostro_capture::services::Destinations;
use ostro_sources::{Follower, Update};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::{self, ClusterDir};
use crate::container::PodState;
use crate::dns::{self, Zone};
use crate::env::Around;
use crate::expose::Backends;
use crate::images::Images;
use crate::link::{self, POD_NETWORK};
use crate::place::Place;
use crate::plan::{self, PlanError, PodName, PodPlan};
use crate::pod::{Outfit, Pod, PodError, Report, Settings};
use crate::services::{self, Live};
use crate::status::{Phase, PodStatus, Status, now};
use crate::vips;
use crate::wishes::Wishes;
use crate::{ingress, jobs};

/// Addresses 0 and 1 are the network's and the bridge's.
const FIRST_HOST: u32 = 2;
/// Hosts of a /16, without its broadcast address.
const HOSTS_END: u32 = (1 << 16) - 1;
/// Reports of pods that the loop has not read yet.
const REPORTS_MAX: usize = 256;
/// Pods that are being made at a time: enough to keep every core busy, and few enough that the first are ready
/// early.
const STARTS_MAX: usize = 8;
/// Pods that are gone whose directories are kept, for a look at their logs.
const GONE_KEPT: usize = 16;
/// How long after a pod could not be started it is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// A pod that runs.
struct Running {
    plan: PodPlan,
    ip: Ipv4Addr,
    /// Differs from that of every other living pod.
    serial: u32,
    state: PodState,
    stage: Stage,
    /// Seconds since the Unix epoch.
    started_at: u64,
}

/// What is done about a pod.
enum Stage {
    /// It has an address, and everybody is told of it next.
    New,
    /// What it refers to is not there; why, for people.
    Held(String),
    /// It is being made.
    Starting,
    /// It lives.
    Up(Pod),
    /// It is on its way out.
    Ending,
    /// It has done what it had to, or has failed for good. Nothing of it runs.
    Finished,
}

impl Running {
    fn pod(&self) -> Option<&Pod> {
        match &self.stage {
            Stage::Up(pod) => Some(pod),
            _ => None,
        }
    }

    /// It takes requests.
    fn ready(&self) -> bool {
        self.state.is_ready() && !matches!(self.stage, Stage::Finished)
    }

    fn terminating(&self) -> bool {
        matches!(self.stage, Stage::Ending)
    }
}

enum Event {
    Files(Update),
    Started(PodName, Result<Pod, PodError>),
    Report(Report),
    Ended(Ended),
    Scaled,
    Retry,
}

/// What has become of a pod that was ended.
enum Ended {
    /// Nobody wanted it any more.
    Gone(PodName),
    /// It was finished, and stays listed as it was at last.
    Finished(PodName, PodState),
}

/// What has to be done about an event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    /// The status differs.
    Tell,
    /// Pods may have to change, and everybody may have to know.
    Reconcile,
}

/// What the objects in force ask for.
#[derive(Default)]
struct Asked {
    /// The objects, our own ingress gateway among them unless the user brings one.
    objects: Vec<Arc<Object>>,
    /// Our own ingress gateway is among them.
    ingress: bool,
    /// Their pods.
    pods: BTreeMap<PodName, PodPlan>,
    /// What could not be planned.
    errors: BTreeSet<PlanError>,
}

/// Who hears what the loop finds out.
pub struct Audience {
    /// The way in: where the ingress gateway's pods are.
    pub ingress: watch::Sender<Backends>,
    /// The name server.
    pub names: watch::Sender<Arc<Zone>>,
    /// Whoever looks at the mesh.
    pub status: watch::Sender<Status>,
}

/// Everything the loop holds.
pub struct Runner {
    mesh: Arc<Place>,
    settings: Arc<Settings>,
    images: Images,
    cluster: ClusterDir,
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    own: Vec<Arc<Object>>,
    /// What the objects ask for: a function of them.
    asked: Asked,
    running: BTreeMap<PodName, Running>,
    told: BTreeSet<PlanError>,
    complete: bool,
    /// When pods that could not be started are due again.
    retry: Option<Instant>,
    starts: Arc<Semaphore>,
    starting: JoinSet<(PodName, Result<Pod, PodError>)>,
    serial: u32,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    /// Pods on their way out.
    ending: JoinSet<Ended>,
    /// Directories of pods that are gone, the oldest first.
    gone: VecDeque<PathBuf>,
    ingress: watch::Sender<Backends>,
    names: watch::Sender<Arc<Zone>>,
    destinations: watch::Sender<Destinations>,
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
        wishes: Wishes,
        audience: Audience,
    ) -> Self {
        let Audience { ingress, names, status } = audience;
        Self {
            destinations: vips::keep(&mesh),
            mesh: Arc::new(mesh),
            settings: Arc::new(settings),
            images,
            cluster,
            objects: BTreeMap::new(),
            own: ingress::objects().into_iter().map(Arc::new).collect(),
            running: BTreeMap::new(),
            asked: Asked::default(),
            told: BTreeSet::new(),
            complete: false,
            retry: None,
            starts: Arc::new(Semaphore::new(STARTS_MAX)),
            starting: JoinSet::new(),
            serial: 0,
            reports: mpsc::channel(REPORTS_MAX),
            ending: JoinSet::new(),
            gone: VecDeque::new(),
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
                () = self.wishes.changed() => Event::Scaled,
                Some(ended) = self.ending.join_next() => match ended {
                    Ok(ended) => Event::Ended(ended),
                    Err(error) => {
                        // A panic, which was reported where it happened: the pod stays as it is.
                        tracing::error!(%error, "a pod's end failed");
                        continue;
                    }
                },
                () = due(self.retry) => Event::Retry,
            };
            let mut answer = self.note(event);
            // What has happened meanwhile is answered together: with many pods it is much.
            while let Ok(report) = self.reports.1.try_recv() {
                answer = answer.max(self.note(Event::Report(report)));
            }
            if answer == Answer::Reconcile {
                self.reconcile();
                self.tell();
                // Only now: the control plane should know a pod before its proxy calls.
                self.start_new();
            }
            self.tell_status();
        }
        self.end().await;
    }

    /// Ends everything at once.
    async fn end(self) {
        let Self { running, mut starting, mut ending, starts, .. } = self;
        starts.close();
        // They are dropped with their tasks, whose proxies then do not drain.
        ending.abort_all();
        let mut dropping = JoinSet::new();
        for running in running.into_values() {
            // Dropping a pod waits for its thread.
            dropping.spawn_blocking(move || drop(running));
        }
        // One that is just being made is dropped when it is there.
        while starting.join_next().await.is_some() {}
        while ending.join_next().await.is_some() {}
        while dropping.join_next().await.is_some() {}
    }

    /// Takes an event in.
    fn note(&mut self, event: Event) -> Answer {
        match event {
            Event::Files(update) => {
                self.complete |= update.initial;
                for key in &update.deletes {
                    self.objects.remove(key);
                }
                self.objects.extend(update.upserts.into_iter().map(|object| (object.key(), object)));
                self.wishes.note(&self.objects);
                self.ask();
                if self.complete { Answer::Reconcile } else { Answer::Tell }
            }
            Event::Started(name, Ok(pod)) => {
                if let Some(running) = self.running.get_mut(&name) {
                    running.stage = Stage::Up(pod);
                }
                // What it reported before it was up is looked at again: it may have ended already.
                self.finish(&name);
                Answer::Reconcile
            }
            Event::Started(name, Err(error)) => {
                tracing::error!(pod = %name, %error, "pod was not started, and is tried again");
                self.running.remove(&name);
                self.retry = Some(Instant::now() + RETRY);
                Answer::Tell
            }
            Event::Report(report) => self.note_report(report),
            Event::Ended(Ended::Gone(name)) => {
                tracing::info!(pod = %name, "pod has ended");
                self.forget(&name);
                Answer::Reconcile
            }
            Event::Ended(Ended::Finished(name, state)) => {
                if let Some(running) = self.running.get_mut(&name) {
                    running.state = state;
                }
                Answer::Tell
            }
            Event::Scaled => {
                self.ask();
                if self.complete { Answer::Reconcile } else { Answer::Tell }
            }
            Event::Retry => {
                self.retry = None;
                Answer::Reconcile
            }
        }
    }

    fn note_report(&mut self, Report { pod, state }: Report) -> Answer {
        // One that is finished, or gone, has nothing more to say.
        let Some(running) = self.running.get_mut(&pod) else { return Answer::Tell };
        if matches!(running.stage, Stage::Finished) {
            return Answer::Tell;
        }
        let (was, phase) = (running.ready(), running.state.phase);
        running.state = state;
        let ready = running.ready();
        if ready == was && phase == running.state.phase {
            return Answer::Tell;
        }
        tracing::info!(%pod, ip = %running.ip, ready, phase = ?running.state.phase, "pod");
        self.finish(&pod);
        Answer::Reconcile
    }

    /// Ends what is left of a pod whose containers have ended for good.
    fn finish(&mut self, name: &PodName) {
        let Some(running) = self.running.get_mut(name) else { return };
        if !matches!(running.state.phase, Phase::Succeeded | Phase::Failed) {
            return;
        }
        match std::mem::replace(&mut running.stage, Stage::Finished) {
            Stage::Up(pod) => {
                let name = name.clone();
                self.ending.spawn(async move { Ended::Finished(name, pod.end().await) });
            }
            other => running.stage = other,
        }
    }

    /// Takes a pod that is gone off the list.
    fn forget(&mut self, name: &PodName) {
        self.running.remove(name);
        self.gone.push_back(self.settings.dir(name));
        while self.gone.len() > GONE_KEPT {
            let Some(dir) = self.gone.pop_front() else { return };
            if let Err(error) = std::fs::remove_dir_all(&dir) {
                tracing::warn!(dir = %dir.display(), %error, "a pod's directory was not removed");
            }
        }
    }

    /// Finds out what the objects ask for.
    fn ask(&mut self) {
        let mut objects: Vec<Arc<Object>> =
            self.objects.values().map(|object| self.wishes.of(object)).collect();
        let plan = |objects: &[Arc<Object>]| {
            plan::plan(objects.iter().map(AsRef::as_ref), &self.images, self.settings.proxies.usual)
        };
        let (mut pods, mut errors) = plan(&objects);
        let ingress = !pods.values().any(|pod| pod.proxy.is_gateway());
        if ingress {
            objects.extend(self.own.iter().cloned());
            (pods, errors) = plan(&objects);
        }
        self.asked = Asked { objects, ingress, pods, errors: errors.into_iter().collect() };
    }

    /// The pods that should be there now.
    fn wanted(&self) -> BTreeMap<PodName, PodPlan> {
        let phase = |name: &PodName| self.running.get(name).map(|running| running.state.phase);
        jobs::due(self.asked.pods.clone(), phase)
    }

    /// Starts what is missing and ends what is too many.
    fn reconcile(&mut self) {
        for error in self.asked.errors.difference(&self.told) {
            tracing::error!("{error}");
        }
        self.told.clone_from(&self.asked.errors);
        let wanted = self.wanted();
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
        let dir = self.settings.dir(&plan.name);
        self.gone.retain(|gone| *gone != dir);
        let state = PodState::default();
        let running = Running { ip, serial, state, stage: Stage::New, started_at: now(), plan };
        self.running.insert(running.plan.name.clone(), running);
    }

    /// Begins to make the pods that were admitted, and those that were held, as far as they can be now.
    fn start_new(&mut self) {
        let new = |(_, running): &(&PodName, &Running)| matches!(running.stage, Stage::New | Stage::Held(_));
        let new: Vec<PodName> = self.running.iter().filter(new).map(|(name, _)| name.clone()).collect();
        let mut arounds: BTreeMap<String, Around> = BTreeMap::new();
        for name in new {
            let around =
                arounds.entry(name.namespace.clone()).or_insert_with(|| self.around(&name.namespace));
            let Some(running) = self.running.get_mut(&name) else { continue };
            let uid = uid(&name, running.serial, running.started_at);
            match Outfit::of(&self.settings, &running.plan, around, running.ip, &uid) {
                Ok(outfit) => {
                    running.state = outfit.state();
                    running.stage = Stage::Starting;
                    let at = (running.serial, running.ip);
                    let plan = running.plan.clone();
                    self.start(plan, outfit, at);
                }
                Err(error) => {
                    let why = error.to_string();
                    if !matches!(&running.stage, Stage::Held(known) if *known == why) {
                        tracing::error!(pod = %name, "pod is not started: {why}");
                    }
                    running.stage = Stage::Held(why);
                    if error.may_pass() {
                        self.retry = Some(Instant::now() + RETRY);
                    }
                }
            }
        }
    }

    fn start(&mut self, plan: PodPlan, outfit: Outfit, at: (u32, Ipv4Addr)) {
        let (settings, mesh) = (self.settings.clone(), self.mesh.clone());
        let (starts, reports) = (self.starts.clone(), self.reports.0.clone());
        self.starting.spawn(async move {
            let Ok(_slot) = starts.acquire_owned().await else { return (plan.name, Err(PodError::Ending)) };
            let result = Pod::start(&settings, &plan, outfit, at, &mesh, reports).await;
            (plan.name, result)
        });
    }

    /// What a pod of `namespace` finds around it.
    fn around(&self, namespace: &str) -> Around {
        let objects = || self.asked.objects.iter().map(AsRef::as_ref);
        let known = services::services(objects());
        let addresses = services::addresses(&known);
        Around::of(namespace, objects(), |namespace, name| addresses.get(&(namespace, name)).copied())
    }

    /// Ends pods nobody wants any more. One whose workload lives on stays until its successors are ready.
    fn end_surplus(&mut self, wanted: &BTreeMap<PodName, PodPlan>) {
        let ready = |plan: &PodPlan| {
            self.running.get(&plan.name).is_some_and(|r| r.ready() && r.pod().is_some() && r.plan == *plan)
        };
        let key = |plan: &PodPlan| (plan.name.namespace.clone(), plan.workload.clone());
        let unready: BTreeSet<_> = wanted.values().filter(|plan| !ready(plan)).map(key).collect();
        let surplus: Vec<PodName> = self
            .running
            .iter()
            .filter(|(_, running)| {
                matches!(running.stage, Stage::Up(_) | Stage::Finished | Stage::New | Stage::Held(_))
            })
            .filter(|(name, running)| match wanted.get(*name) {
                // Of the same name but not the same pod: it has to go first.
                Some(plan) => *plan != running.plan,
                None => !unready.contains(&key(&running.plan)),
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in surplus {
            let Some(running) = self.running.get_mut(&name) else { continue };
            match std::mem::replace(&mut running.stage, Stage::Ending) {
                Stage::Up(pod) => {
                    tracing::info!(pod = %name, "pod is ended");
                    self.ending.spawn(async move {
                        pod.end().await;
                        Ended::Gone(name)
                    });
                }
                // Nothing of it runs.
                _ => {
                    self.ending.spawn(async move { Ended::Gone(name) });
                }
            }
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
        let live = |running: &'_ Running| (running.ip, running.ready(), running.terminating());
        self.running
            .values()
            // One that has ended for good is nobody's peer.
            .filter(|running| !matches!(running.stage, Stage::Finished))
            .map(|running| {
                let (ip, ready, terminating) = live(running);
                Live { plan: &running.plan, ip, ready, terminating }
            })
            .collect()
    }

    /// Tells everybody what they need to know.
    fn tell(&mut self) {
        let objects = &self.asked.objects;
        let known = services::services(objects.iter().map(AsRef::as_ref));
        let live = self.live();
        let mut files = services::endpoint_slices(&known, &live);
        files.extend(live.iter().map(cluster::pod_object));
        if self.asked.ingress {
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
        let destinations = services::destinations(&known, &live);
        self.destinations.send_if_modified(|old| {
            let differs = *old != destinations;
            *old = destinations;
            differs
        });
        self.wishes.tell(&known, &live);
        if let Err(error) = self.cluster.sync(&files) {
            tracing::error!(%error, "the control plane could not be told of pods");
        }
    }

    fn tell_status(&self) {
        let pods = self.running.values().map(|running| PodStatus {
            name: running.plan.name.clone(),
            workload: running.plan.workload.1.clone(),
            kind: running.plan.workload.0.as_str().to_owned(),
            ip: running.ip,
            ip6: link::has_ipv6().then(|| link::v6(running.ip)),
            proxy: running.plan.proxy,
            ready: running.ready() && running.pod().is_some(),
            terminating: running.terminating(),
            phase: running.state.phase,
            held: match &running.stage {
                Stage::Held(why) => Some(why.clone()),
                _ => None,
            },
            restarts: running.state.restarts(),
            containers: running.state.containers.clone(),
            started_at: running.started_at,
            place: running.pod().map(|pod| pod.place().handle()),
            env: running.pod().map(|pod| pod.env()).unwrap_or_default(),
        });
        let status = Status {
            complete: self.complete && self.wanted().keys().all(|name| self.running.contains_key(name)),
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

/// What no two pods share, in the form of a UUID; derived, for a mesh has one runner.
fn uid(name: &PodName, serial: u32, started_at: u64) -> String {
    let text = format!("{name}/{serial}/{started_at}");
    // FNV-1a.
    let hash = text.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b)
    });
    let digits = format!("{hash:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| digits.get(range).unwrap_or_default());
    parts.join("-")
}
