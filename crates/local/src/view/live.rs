//! A mesh shown as it runs: the model kept up to date, and what is new drawn or printed.

use std::future::Future;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::envoy_stats;
use super::events::{Event, Teller};
use super::log;
use super::model::{Model, Sample};
use super::render::{self, Frame, Tab};
use super::rows::row;
use super::terminal::{Terminal, usable};
use crate::plan::Proxy;
use crate::status::{PodStatus, Status};

/// Proxies are asked no more often than this.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Of its time, sampling takes no more than one part in so many: a large mesh is asked less often.
const SAMPLE_SHARE: u32 = 4;
/// Proxies asked at a time.
const SAMPLE_CONCURRENCY: usize = 8;
/// How often progress is drawn anew, for its clock's sake.
const DRAW_PROGRESS: Duration = Duration::from_millis(100);
/// How often the live view is.
const DRAW_LIVE: Duration = Duration::from_millis(500);
/// Log lines on a screen.
const LOG_SHOWN: usize = 3;

/// In which form a mesh shows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Drawn in a terminal.
    Terminal,
    /// A line for each change.
    Plain,
    /// A JSON object for each change, one a line.
    Json,
}

impl Form {
    /// What was asked for; else a terminal is drawn upon, and anything else gets lines.
    pub fn choose(plain: bool, json: bool) -> Self {
        match (json, plain || !usable()) {
            (true, _) => Form::Json,
            (false, true) => Form::Plain,
            (false, false) => Form::Terminal,
        }
    }
}

/// Why a mesh is no longer shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Somebody pressed `q`.
    Quit,
    /// The future that was waited for is done.
    Stopped,
}

/// Shows one mesh, from its start to its end. Dropped, it gives the terminal back.
#[derive(Debug)]
pub struct Show {
    mesh: String,
    notes: Vec<String>,
    begun: Instant,
    teller: Teller,
    model: Model,
    face: Face,
}

#[derive(Debug)]
enum Face {
    Terminal { terminal: Terminal, tab: Tab, offset: usize, ready: bool },
    Lines { json: bool },
}

impl Show {
    /// Begins to show the mesh of this name.
    pub fn begin(mesh: &str, form: Form) -> io::Result<Self> {
        let face = match form {
            Form::Terminal => {
                let terminal = Terminal::take()?;
                log::hold();
                Face::Terminal { terminal, tab: Tab::default(), offset: 0, ready: false }
            }
            Form::Plain => Face::Lines { json: false },
            Form::Json => Face::Lines { json: true },
        };
        let show = Self {
            mesh: mesh.to_owned(),
            notes: Vec::new(),
            begun: Instant::now(),
            teller: Teller::default(),
            model: Model::default(),
            face,
        };
        show.say(&[Event::Starting])?;
        Ok(show)
    }

    /// Shows progress until `task`, which brings the mesh up, is done.
    pub async fn during<T>(&mut self, task: impl Future<Output = T>) -> io::Result<T> {
        let mut tick = ticks(DRAW_PROGRESS);
        tokio::pin!(task);
        loop {
            tokio::select! {
                biased;
                result = &mut task => return Ok(result),
                _ = tick.tick() => self.draw()?,
            }
        }
    }

    /// Tells of an address of the host and what answers there.
    pub fn address(&mut self, what: &'static str, url: String) -> io::Result<()> {
        self.notes.push(format!("{what:<10} {url}"));
        self.say(&[Event::Address { what, url }])
    }

    /// Tells of something to try.
    pub fn suggest(&mut self, what: &'static str, command: String) -> io::Result<()> {
        self.notes.push(format!("try        {command}   # {what}"));
        self.say(&[Event::Try { what, command }])
    }

    /// Shows the mesh until `stop`, or until somebody has had enough.
    pub async fn hold(
        &mut self,
        mut status: watch::Receiver<Status>,
        stop: impl Future<Output = ()>,
    ) -> io::Result<Shown> {
        let (tell, mut samples) = mpsc::channel(1);
        let mut sampling = JoinSet::new();
        if let Face::Terminal { .. } = self.face {
            sampling.spawn(sample(status.clone(), self.begun, tell));
        }
        let mut resized = signal(SignalKind::window_change())?;
        let mut tick = ticks(DRAW_PROGRESS);
        let mut drawn = Instant::now();
        tokio::pin!(stop);
        self.status(&status.borrow_and_update().clone())?;
        loop {
            tokio::select! {
                () = &mut stop => return Ok(Shown::Stopped),
                changed = status.changed() => match changed {
                    Ok(()) => {
                        let now = status.borrow_and_update().clone();
                        self.status(&now)?;
                    }
                    // The runner is gone; whoever waits for that is told elsewhere.
                    Err(_) => { stop.await; return Ok(Shown::Stopped) }
                },
                Some((at, batch)) = samples.recv() => self.take_in(at, batch)?,
                typed = typed(&self.face) => {
                    if self.keys(&typed) {
                        return Ok(Shown::Quit);
                    }
                    self.draw()?;
                }
                Some(()) = next(&mut resized) => self.resized()?,
                _ = tick.tick() => {
                    self.waited()?;
                    if !self.is_live() || drawn.elapsed() >= DRAW_LIVE {
                        drawn = Instant::now();
                        self.draw()?;
                    }
                }
            }
        }
    }

    /// The mesh is gone; says so.
    pub fn end(self) -> io::Result<()> {
        self.say(&[Event::Ended])
    }

    fn is_live(&self) -> bool {
        matches!(self.face, Face::Terminal { ready: true, .. })
    }

    fn status(&mut self, status: &Status) -> io::Result<()> {
        let pods = status.pods.iter().map(row).collect();
        self.model.set_pods(pods, status.problems.clone(), status.complete);
        self.waited()?;
        let is_ready = self.model.is_ready();
        if let Face::Terminal { terminal, ready, .. } = &mut self.face
            && is_ready
            && !*ready
        {
            // Progress stays on the first screen, as the last thing it said.
            *ready = true;
            let (width, height) = terminal.size();
            let frame = frame(&self.mesh, &self.notes, Tab::Both, 0);
            terminal.draw_inline(&render::progress(
                &self.model,
                &frame,
                self.begun.elapsed(),
                width,
                height,
            ))?;
        }
        self.draw()
    }

    /// Tells what is new, the time that something takes included.
    fn waited(&mut self) -> io::Result<()> {
        let Face::Lines { .. } = self.face else { return Ok(()) };
        let (pods, problems) = (self.model.pods(), self.model.problems());
        let events = self.teller.tell(pods, problems, self.model.is_complete(), self.begun.elapsed());
        self.say(&events)
    }

    fn take_in(&mut self, at: Duration, batch: Vec<Sample>) -> io::Result<()> {
        for sample in batch {
            self.model.sample(at, sample);
        }
        self.draw()
    }

    fn say(&self, events: &[Event]) -> io::Result<()> {
        let Face::Lines { json } = self.face else { return Ok(()) };
        let mut out = io::stdout().lock();
        for event in events {
            match json {
                true => writeln!(out, "{}", event.json(&self.mesh))?,
                false => writeln!(out, "{}", event.plain(&self.mesh))?,
            }
        }
        out.flush()
    }

    fn draw(&mut self) -> io::Result<()> {
        let Face::Terminal { terminal, tab, offset, ready } = &mut self.face else { return Ok(()) };
        let (width, height) = terminal.size();
        let frame = frame(&self.mesh, &self.notes, *tab, *offset);
        let now = self.begun.elapsed();
        match *ready {
            true => terminal.draw(&render::live(&self.model, &frame, now, width, height)),
            // One line stays free for the cursor.
            false => {
                let height = height.saturating_sub(1);
                terminal.draw_inline(&render::progress(&self.model, &frame, now, width, height))
            }
        }
    }

    fn resized(&mut self) -> io::Result<()> {
        if let Face::Terminal { terminal, .. } = &mut self.face {
            terminal.resized()?;
        }
        self.draw()
    }

    /// Does what keys say; true if the mesh is to end.
    fn keys(&mut self, typed: &[u8]) -> bool {
        let Face::Terminal { tab, offset, .. } = &mut self.face else { return false };
        for key in Key::read(typed) {
            let other = |which: Tab, now: Tab| if now == which { Tab::Both } else { which };
            match key {
                Key::Quit => return true,
                Key::Pods => (*tab, *offset) = (other(Tab::Pods, *tab), 0),
                Key::Edges => (*tab, *offset) = (other(Tab::Edges, *tab), 0),
                Key::Help => (*tab, *offset) = (other(Tab::Help, *tab), 0),
                Key::Up => *offset = offset.saturating_sub(1),
                // Not further than there are lines, or as many presses would be needed to come back.
                Key::Down => *offset = (*offset + 1).min(self.model.longest(self.begun.elapsed())),
            }
        }
        false
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        if let Face::Terminal { .. } = self.face {
            // The terminal has to be given back before lines go there.
            self.face = Face::Lines { json: false };
            log::release();
        }
    }
}

/// What can be typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Quit,
    Pods,
    Edges,
    Help,
    Up,
    Down,
}

impl Key {
    /// The keys among what was typed; anything else is none.
    fn read(typed: &[u8]) -> Vec<Self> {
        let mut keys = Vec::new();
        let mut rest = typed;
        loop {
            let (key, after) = match rest {
                [] => return keys,
                [b'\x1b', b'[' | b'O', letter, after @ ..] => match letter {
                    b'A' => (Some(Key::Up), after),
                    b'B' => (Some(Key::Down), after),
                    _ => (None, after),
                },
                [byte, after @ ..] => match byte {
                    b'q' | b'Q' => (Some(Key::Quit), after),
                    b'p' => (Some(Key::Pods), after),
                    b'e' => (Some(Key::Edges), after),
                    b'?' | b'h' => (Some(Key::Help), after),
                    b'k' => (Some(Key::Up), after),
                    b'j' => (Some(Key::Down), after),
                    _ => (None, after),
                },
            };
            keys.extend(key);
            rest = after;
        }
    }
}

fn frame(mesh: &str, notes: &[String], tab: Tab, offset: usize) -> Frame {
    Frame { mesh: mesh.to_owned(), notes: notes.to_vec(), log: log::latest(LOG_SHOWN), tab, offset }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

async fn typed(face: &Face) -> Vec<u8> {
    match face {
        Face::Terminal { terminal, .. } => terminal.typed().await,
        Face::Lines { .. } => std::future::pending().await,
    }
}

async fn next(signal: &mut Signal) -> Option<()> {
    signal.recv().await
}

/// Asks every proxy again and again, for as long as anybody listens.
async fn sample(
    status: watch::Receiver<Status>,
    begun: Instant,
    tell: mpsc::Sender<(Duration, Vec<Sample>)>,
) {
    loop {
        let started = Instant::now();
        let pods = status.borrow().pods.clone();
        let batch = sweep(pods).await;
        let took = started.elapsed();
        if tell.send((begun.elapsed(), batch)).await.is_err() {
            return;
        }
        let every = SAMPLE_EVERY.max(took * SAMPLE_SHARE);
        tokio::time::sleep(every.saturating_sub(took)).await;
    }
}

/// One answer of every proxy that answers.
async fn sweep(pods: Vec<PodStatus>) -> Vec<Sample> {
    let slots = Arc::new(Semaphore::new(SAMPLE_CONCURRENCY));
    let mut asking = JoinSet::new();
    for pod in pods.into_iter().filter(|pod| pod.proxy != Proxy::None) {
        let slots = slots.clone();
        asking.spawn(async move {
            let _slot = slots.acquire().await.ok()?;
            // A proxy that does not answer is coming or going; its row says so.
            let (status, body) = pod.admin(envoy_stats::PATH).await?.ok()?;
            let counters = envoy_stats::read(&body).ok().filter(|_| status.is_success())?;
            let name = (pod.name.namespace.clone(), pod.name.name.clone());
            Some(Sample { pod: name, workload: pod.workload.clone(), counters })
        });
    }
    asking.join_all().await.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_alone_or_together_and_others_are_ignored() {
        assert_eq!(Key::read(b"pe?"), [Key::Pods, Key::Edges, Key::Help]);
        assert_eq!(Key::read(b"\x1b[A\x1bOBxj"), [Key::Up, Key::Down, Key::Down]);
        assert_eq!(Key::read(b"\x1b[Cq"), [Key::Quit]);
        assert!(Key::read(b"\x1b").is_empty());
    }

    #[test]
    fn what_is_asked_for_wins_over_what_is_there() {
        assert_eq!(Form::choose(true, true), Form::Json);
        assert_eq!(Form::choose(true, false), Form::Plain);
    }
}
