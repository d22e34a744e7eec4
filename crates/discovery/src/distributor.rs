//! The one task that owns the state, and the channels that lead to it.
//!
//! It has a thread of its own, since building resources is computation that would hold up other tasks. While it works,
//! requests wait in a bounded channel (their streams are not read meanwhile) and the mesh may change several times:
//! [`Handle::changes`] holds one change, and whoever applies changes merges the next ones until there is room. So a first
//! change in a quiet mesh goes out at once, and a storm is worked on in batches as large as the work takes long.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use ostro_mesh::{KeyId, Proxy};
use ostro_telemetry::Metrics;
use ostro_translate::ResourceType;
use tokio::sync::{mpsc, oneshot};

use crate::connection::{Outgoing, Transport};
use crate::generator::Generator;
use crate::limits;
use crate::order::Timing;
use crate::push::Distributor;
use crate::status::{Dump, ProxyStatus};
use crate::subscriptions::Request;

/// The next state of the world.
#[derive(Debug, Clone)]
pub struct Change<W> {
    /// The state.
    pub world: W,
    /// Keys whose values differ from the state before.
    pub keys: Vec<KeyId>,
    /// The objects that changed, for the log.
    pub why: String,
    /// Class of the change, for the metric: `config`, `service` or `endpoint`.
    pub trigger: &'static str,
    /// When the oldest of its causes was noticed.
    pub arrived: Instant,
}

#[derive(Debug)]
pub(crate) enum Event {
    Connected { id: u32, proxy: Arc<Proxy>, transport: Transport, outbound: mpsc::Sender<Outgoing> },
    Request { id: u32, kind: ResourceType, request: Request },
    Disconnected { id: u32 },
    Proxies(oneshot::Sender<Vec<ProxyStatus>>),
    Dump { proxy: String, reply: oneshot::Sender<Option<Dump>> },
}

/// The way to the distributor. It ends when all handles, streams included, are gone.
#[derive(Debug)]
pub struct Handle<W> {
    pub(crate) events: mpsc::Sender<Event>,
    /// Changes: at most one waits, so that a sender that finds no room merges what comes next.
    pub changes: mpsc::Sender<Change<W>>,
}

impl<W> Clone for Handle<W> {
    fn clone(&self) -> Self {
        Handle { events: self.events.clone(), changes: self.changes.clone() }
    }
}

impl<W> Handle<W> {
    /// What every connected proxy has; empty if the distributor has ended.
    pub async fn proxies(&self) -> Vec<ProxyStatus> {
        let (reply, answer) = oneshot::channel();
        if self.events.send(Event::Proxies(reply)).await.is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }

    /// Everything one proxy should have; `None` if there is no such proxy.
    pub async fn dump(&self, proxy: &str) -> Option<Dump> {
        let (reply, answer) = oneshot::channel();
        self.events.send(Event::Dump { proxy: proxy.to_owned(), reply }).await.ok()?;
        answer.await.ok().flatten()
    }
}

/// Starts distributing `world`.
pub fn start<G: Generator>(
    generator: G,
    world: G::World,
    timing: Timing,
    metrics: Metrics,
) -> io::Result<Handle<G::World>> {
    let (events, event_inbox) = mpsc::channel(limits::REQUESTS);
    let (changes, change_inbox) = mpsc::channel(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name("discovery".into()).spawn(move || {
        let distributor = Distributor::new(generator, world, timing, metrics);
        runtime.block_on(run(distributor, event_inbox, change_inbox));
    })?;
    Ok(Handle { events, changes })
}

async fn run<G: Generator>(
    mut distributor: Distributor<G>,
    mut events: mpsc::Receiver<Event>,
    mut changes: mpsc::Receiver<Change<G::World>>,
) {
    let mut changes_open = true;
    loop {
        let wake = distributor.next_wake();
        tokio::select! {
            // A change first: what is asked for is then answered with the newest.
            biased;
            change = changes.recv(), if changes_open => match change {
                Some(change) => {
                    distributor.change(change, Instant::now());
                    serve_waiting(&mut distributor, &mut events);
                }
                None => changes_open = false,
            },
            event = events.recv() => match event {
                Some(event) => take(&mut distributor, event),
                None => return,
            },
            () = sleep_until(wake) => distributor.wake(Instant::now()),
        }
    }
}

/// Between two changes, what waits already: in a storm the next change is always there, and without this nobody would be
/// heard, answered or told more until it is over. No more than was there at the start, so changes do not wait either.
fn serve_waiting<G: Generator>(distributor: &mut Distributor<G>, events: &mut mpsc::Receiver<Event>) {
    for _ in 0..events.len() {
        let Ok(event) = events.try_recv() else { break };
        take(distributor, event);
    }
    distributor.wake(Instant::now());
}

fn take<G: Generator>(distributor: &mut Distributor<G>, event: Event) {
    match event {
        Event::Connected { id, proxy, transport, outbound } => {
            distributor.connect(id, proxy, transport, outbound)
        }
        Event::Request { id, kind, request } => distributor.request(id, kind, request, Instant::now()),
        Event::Disconnected { id } => distributor.disconnect(id),
        // Who asked may be gone by now.
        Event::Proxies(reply) => drop(reply.send(distributor.connections().map(ProxyStatus::of).collect())),
        Event::Dump { proxy, reply } => {
            let found = distributor.connections().find(|connection| is_meant(&connection.proxy.id, &proxy));
            drop(reply.send(found.map(Dump::of)));
        }
    }
}

/// Whether a node id is the one that a person wrote: whole, or its `pod.namespace` part.
fn is_meant(id: &str, written: &str) -> bool {
    id == written || id.split('~').nth(2) == Some(written)
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tests::toy::{Toy, World};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_storm_of_changes_silences_nobody() {
        let handle = start(Toy, Arc::new(World::default()), Timing::default(), Metrics::new("test")).unwrap();
        // Many keys: the next change is there before the last one is worked off.
        let keys = vec![ostro_mesh::Key::HostsOnPort(1).id(); 1_000_000];
        let (taken, mut storm) = tokio::sync::watch::channel(0u32);
        let changes = handle.changes.clone();
        let sender = std::thread::spawn(move || {
            loop {
                let change = Change {
                    world: Arc::new(World::default()),
                    keys: keys.clone(),
                    why: String::new(),
                    trigger: "config",
                    arrived: Instant::now(),
                };
                // Ends with the test, which then watches no more.
                if taken.is_closed() || changes.blocking_send(change).is_err() {
                    break;
                }
                taken.send_modify(|taken| *taken += 1);
            }
        });
        for round in 1..=3 {
            storm.wait_for(|taken| *taken >= 10 * round).await.unwrap();
            let answer = tokio::time::timeout(Duration::from_secs(20), handle.proxies()).await;
            assert!(answer.is_ok(), "nobody is heard while changes keep coming");
        }
        drop(storm);
        sender.join().unwrap();
    }
}
