//! The loop that makes the pods that run equal to the pods that are asked for.
//!
//! Four things move it: files change, a pod tells of its readiness, a pod has ended, a pod that could not be
//! started is due again. After each the same
//! three steps follow: pods missing are started, pods too many are ended, and what everybody else needs to
//! know (files for the control plane, host names, backends of exposed ports, status) is told anew, where it
//! differs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use ostro_api::{Object, ObjectKey, Spec};
use ostro_sources::{Follower, Update};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::cluster::{self, ClusterDir};
use crate::images::Images;
use crate::ingress;
use crate::link::POD_NETWORK;
use crate::place::Place;
use crate::plan::{self, PlanError, PodName, PodPlan, Proxy};
use crate::pod::{Pod, Report, Settings};
use crate::services::{self, Live};
use crate::status::{PodStatus, Status};

/// Addresses 0 and 1 are the network's and the bridge's.
const FIRST_HOST: u32 = 2;
/// Hosts of a /16, without its broadcast address.
const HOSTS_END: u32 = (1 << 16) - 1;
/// Reports of pods that the loop has not read yet.
const REPORTS_MAX: usize = 256;
/// How long after a pod could not be started it is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// A pod that runs.
struct Running {
    plan: PodPlan,
    ip: Ipv4Addr,
    ready: bool,
    /// `None` once it is on its way out.
    pod: Option<Pod>,
}

enum Event {
    Files(Update),
    Report(Report),
    Gone(PodName),
    Retry,
}

/// Everything the loop holds.
pub struct Runner {
    mesh: Place,
    settings: Settings,
    images: Images,
    cluster: ClusterDir,
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    own: Vec<Arc<Object>>,
    running: BTreeMap<PodName, Running>,
    told: BTreeSet<PlanError>,
    complete: bool,
    failing: bool,
    serial: u32,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    gone: (mpsc::Sender<PodName>, mpsc::Receiver<PodName>),
    ingress: watch::Sender<Vec<(Ipv4Addr, u16)>>,
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
        status: watch::Sender<Status>,
    ) -> Self {
        Self {
            mesh,
            settings,
            images,
            cluster,
            objects: BTreeMap::new(),
            own: ingress::objects().into_iter().map(Arc::new).collect(),
            running: BTreeMap::new(),
            told: BTreeSet::new(),
            complete: false,
            failing: false,
            serial: 0,
            reports: mpsc::channel(REPORTS_MAX),
            gone: mpsc::channel(REPORTS_MAX),
            ingress,
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
                Some(report) = self.reports.1.recv() => Event::Report(report),
                Some(name) = self.gone.1.recv() => Event::Gone(name),
                () = tokio::time::sleep(RETRY), if self.failing => Event::Retry,
            };
            if self.note(event) {
                self.reconcile().await;
            }
            self.tell();
        }
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
                self.complete
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
            Event::Retry => true,
        }
    }

    /// The objects in force, our own ingress gateway among them unless the user brings one.
    fn all_objects(&self) -> Vec<Arc<Object>> {
        let mut all: Vec<Arc<Object>> = self.objects.values().cloned().collect();
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
    async fn reconcile(&mut self) {
        let objects = self.all_objects();
        let (wanted, errors) = plan::plan(objects.iter().map(AsRef::as_ref), &self.images);
        let errors: BTreeSet<PlanError> = errors.into_iter().collect();
        for error in errors.difference(&self.told) {
            tracing::error!("{error}");
        }
        self.told = errors;
        let missing: Vec<PodPlan> =
            wanted.values().filter(|plan| !self.running.contains_key(&plan.name)).cloned().collect();
        self.failing = false;
        for plan in missing {
            self.start(plan, &objects).await;
        }
        self.end_surplus(&wanted);
    }

    async fn start(&mut self, plan: PodPlan, objects: &[Arc<Object>]) {
        let Some((serial, ip)) = self.free_address() else {
            tracing::error!(pod = %plan.name, "no pod address is free");
            return;
        };
        let hosts = self.hosts(&plan, ip, objects);
        let reports = self.reports.0.clone();
        match Pod::start(&self.settings, &plan, (serial, ip), hosts, &self.mesh, reports).await {
            Ok(pod) => {
                self.running.insert(plan.name.clone(), Running { plan, ip, ready: false, pod: Some(pod) });
                // Told at once: the control plane should know a pod before its proxy calls.
                self.tell();
            }
            Err(error) => {
                tracing::error!(pod = %plan.name, %error, "pod was not started, and is tried again");
                self.failing = true;
            }
        }
    }

    /// Ends pods nobody wants any more. One whose workload lives on stays until its successors are ready.
    fn end_surplus(&mut self, wanted: &BTreeMap<PodName, PodPlan>) {
        let ready = |plan: &PodPlan| {
            self.running.get(&plan.name).is_some_and(|r| r.ready && r.pod.is_some() && r.plan == *plan)
        };
        let key = |plan: &PodPlan| (plan.name.namespace.clone(), plan.workload.clone());
        let unready: BTreeSet<_> = wanted.values().filter(|plan| !ready(plan)).map(key).collect();
        let surplus: Vec<PodName> = self
            .running
            .iter()
            .filter(|(_, running)| running.pod.is_some())
            .filter(|(name, running)| match wanted.get(*name) {
                // Of the same name but not the same pod: it has to go first.
                Some(plan) => *plan != running.plan,
                None => !unready.contains(&key(&running.plan)),
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in surplus {
            let Some(pod) = self.running.get_mut(&name).and_then(|running| running.pod.take()) else {
                continue;
            };
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
        let live = |running: &'_ Running| (running.ip, running.ready, running.pod.is_none());
        self.running
            .values()
            .map(|running| {
                let (ip, ready, terminating) = live(running);
                Live { plan: &running.plan, ip, ready, terminating }
            })
            .collect()
    }

    fn hosts(&self, plan: &PodPlan, ip: Ipv4Addr, objects: &[Arc<Object>]) -> String {
        let known = services::services(objects.iter().map(AsRef::as_ref));
        let entries = entries(objects);
        services::hosts(&known, &entries, &self.live(), (&plan.name.name, ip, &plan.name.namespace))
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
        if let Err(error) = self.cluster.sync(&files) {
            tracing::error!(%error, "the control plane could not be told of pods");
        }
        self.tell_hosts(&objects);
        self.tell_status(&objects);
    }

    fn tell_hosts(&mut self, objects: &[Arc<Object>]) {
        let texts: Vec<(PodName, String)> = self
            .running
            .iter()
            .map(|(name, running)| (name.clone(), self.hosts(&running.plan, running.ip, objects)))
            .collect();
        for (name, text) in texts {
            if let Some(pod) = self.running.get_mut(&name).and_then(|running| running.pod.as_mut())
                && let Err(error) = pod.set_hosts(text)
            {
                tracing::error!(pod = %name, %error, "host names were not renewed");
            }
        }
    }

    fn tell_status(&self, objects: &[Arc<Object>]) {
        let (wanted, _) = plan::plan(objects.iter().map(AsRef::as_ref), &self.images);
        let pods = self.running.values().map(|running| PodStatus {
            name: running.plan.name.clone(),
            workload: running.plan.workload.1.clone(),
            ip: running.ip,
            proxy: running.plan.proxy,
            ready: running.ready && running.pod.is_some(),
            place: running.pod.as_ref().map(|pod| pod.place().handle()),
        });
        let status = Status {
            complete: self.complete && wanted.keys().all(|name| self.running.contains_key(name)),
            pods: pods.collect(),
            problems: self.told.iter().map(ToString::to_string).collect(),
        };
        self.status.send_replace(status);
    }
}

fn entries(objects: &[Arc<Object>]) -> Vec<&ostro_api::service_entry::ServiceEntry> {
    objects
        .iter()
        .filter_map(|object| match &object.spec {
            Spec::ServiceEntry(entry) => Some(entry.as_ref()),
            _ => None,
        })
        .collect()
}
