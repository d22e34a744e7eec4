//! A worker's thread: what it is told from outside, and what it does of itself.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::{AbortHandle, LocalSet};
use tokio::time::{Instant, MissedTickBehavior};

use super::Worker;
use super::connections::Scope;
use crate::config::{LiveChain, LiveListeners, Shared};
use crate::downstream;
use crate::stats::Thread;

/// How often pools are looked after.
const TICK: Duration = Duration::from_secs(1);
/// How long accepting rests after it failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Orders that wait for a worker.
const ORDERS_MAX: usize = 1024;
/// How often, and after which pause, an order is tried again that finds the queue full.
const FULL_TRIES_MAX: u32 = 5_000;
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// What a worker is told.
pub(crate) enum Order {
    /// These listeners are in force from now on.
    Listeners(Arc<LiveListeners>),
    /// Connections are to be accepted.
    Open(Port),
    /// No connections are to be accepted at this listener's sockets any more.
    Close(Arc<str>),
    /// Connections are to end after what they are doing.
    Drain(Scope),
    /// Connections are to end after what they are doing as long as this says so.
    Fail(bool),
    /// The connections of these chains are.
    DrainChains(Arc<Vec<Arc<LiveChain>>>),
    /// They are to end now.
    CutChains(Arc<Vec<Arc<LiveChain>>>),
    /// The thread is to end; connections are cut.
    Stop,
}

/// A socket at which connections are accepted.
pub(crate) struct Port {
    /// Name of its listener.
    pub listener: Arc<str>,
    /// The socket.
    pub socket: std::net::TcpListener,
}

/// A worker from outside.
pub(crate) struct Handle {
    orders: mpsc::Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Tells the worker something; waits a moment if it has not heard of much else yet. A worker that is gone, or stuck,
    /// hears nothing.
    pub fn tell(&self, mut order: Order) {
        for _ in 0..FULL_TRIES_MAX {
            match self.orders.try_send(order) {
                Ok(()) | Err(TrySendError::Closed(_)) => return,
                Err(TrySendError::Full(back)) => order = back,
            }
            std::thread::park_timeout(FULL_PAUSE);
        }
        tracing::error!("a worker does not hear");
    }

    /// What orders are sent through.
    pub fn sender(&self) -> mpsc::Sender<Order> {
        self.orders.clone()
    }

    /// Waits for the thread's end.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a worker has panicked");
        }
    }
}

/// Starts a worker. `flush`: how often access logs go out.
///
/// # Errors
/// The system gives no thread.
pub(crate) fn start(index: u32, shared: Arc<Shared>, flush: Duration) -> io::Result<Handle> {
    let (orders, heard) = mpsc::channel(ORDERS_MAX);
    let body = move || match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => LocalSet::new().block_on(&runtime, run(index, shared, flush, heard)),
        Err(error) => tracing::error!(%error, "a worker cannot start"),
    };
    let thread = std::thread::Builder::new().name(format!("wrk:worker_{index}")).spawn(body)?;
    Ok(Handle { orders, thread: Some(thread) })
}

async fn run(index: u32, shared: Arc<Shared>, flush: Duration, mut orders: mpsc::Receiver<Order>) {
    let writer = shared.stats.writer(Thread::Worker(index));
    let worker = Rc::new(Worker::new(shared, writer));
    let mut ports: HashMap<Arc<str>, Vec<AbortHandle>> = HashMap::new();
    let mut ticks = tokio::time::interval(flush.min(TICK));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticked = Instant::now();
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                None | Some(Order::Stop) => break,
                Some(order) => obey(&worker, &mut ports, order),
            },
            now = ticks.tick() => {
                worker.flush_logs();
                if now.duration_since(ticked) >= TICK {
                    ticked = now;
                    worker.tick();
                }
            }
        }
    }
    worker.connections.cut(|_| true);
    worker.flush_logs();
}

fn obey(worker: &Rc<Worker>, ports: &mut HashMap<Arc<str>, Vec<AbortHandle>>, order: Order) {
    match order {
        Order::Listeners(listeners) => *worker.listeners.borrow_mut() = listeners,
        Order::Open(port) => {
            let name = Arc::clone(&port.listener);
            let task = tokio::task::spawn_local(accept(Rc::clone(worker), port));
            ports.entry(name).or_default().push(task.abort_handle());
        }
        Order::Close(name) => ports.remove(&name).into_iter().flatten().for_each(|task| task.abort()),
        Order::Drain(scope) => worker.connections.drain(scope),
        Order::Fail(is_failing) => worker.connections.fail(is_failing),
        Order::DrainChains(chains) => {
            worker.connections.drain_chains(|chain| chains.iter().any(|gone| Arc::ptr_eq(gone, chain)));
        }
        Order::CutChains(chains) => {
            worker.connections.cut(|chain| chains.iter().any(|gone| Arc::ptr_eq(gone, chain)));
        }
        Order::Stop => {}
    }
}

async fn accept(worker: Rc<Worker>, port: Port) {
    let socket = match TcpListener::from_std(port.socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(listener = %port.listener, %error, "cannot listen"),
    };
    let mut accepted = 0_u32;
    loop {
        match socket.accept().await {
            Ok((stream, remote)) => {
                let listener = worker.listeners.borrow().get(&port.listener).cloned();
                let Some(listener) = listener else { continue };
                accepted = accepted.wrapping_add(1);
                let at_once = listener.engine.accepts_per_event.unwrap_or(u32::MAX).max(1);
                tokio::task::spawn_local(downstream::serve(Rc::clone(&worker), listener, stream, remote));
                if accepted >= at_once {
                    // What has been accepted comes first.
                    accepted = 0;
                    tokio::task::yield_now().await;
                }
            }
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                tracing::warn!(listener = %port.listener, %error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether accepting failed because the connection did, not the socket.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | WouldBlock)
}
