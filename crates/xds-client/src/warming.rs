//! Who waits for what: a resource comes into force when all that it needs has come.
//!
//! What it is: a state machine. Resources that need others (*roots*: clusters, listeners) are offered to it; it is told
//! which needed ones (*targets*: endpoints, routes) have been answered; it says which roots come into force, which
//! targets are wanted, and how far the start has come. Time is an argument. What it is not: it holds no resource and knows
//! none's content.
//!
//! Invariants:
//! * A root comes into force only if every target that it needs has been answered since something began to need it: it
//!   came, was refused, does not exist, or took longer than its time.
//! * Until the next version of a root is in force, the one before stays.
//! * A target is wanted exactly while a root, in force or waiting, or an explicit interest needs it.
//! * No root of [`Role::Second`] comes into force, nor is its kind asked for, before the initial ones of [`Role::First`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::consumer::Phase;
use crate::kind::{Kind, Role};

/// Kind and name.
pub type Key = (Kind, Arc<str>);

/// What follows from what was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The next version of this root is in force.
    Activate(Key),
    /// This target is wanted.
    Want(Key),
    /// This target is no longer wanted.
    Unwant(Key),
    /// This target took too long; what waited for it goes on without.
    TimedOut(Key),
    /// This kind is to be asked for as a whole.
    Begin(Kind),
    /// The first answer to this kind took too long; the start goes on without.
    Late(Kind),
    /// The start has come so far.
    Phase(Phase),
}

/// The state. See the module.
#[derive(Debug)]
pub struct Warming {
    roots: HashMap<Key, Root>,
    targets: HashMap<Key, Target>,
    /// Targets that may have lost their last user since effects were taken.
    idle: BTreeSet<Key>,
    /// Roots that have all they need, and wait for the phase.
    gated: BTreeSet<Key>,
    /// Kinds that are asked for as a whole, and whether the first answer is still to come.
    wholes: BTreeMap<Kind, Whole>,
    /// Roots whose next version waits, of the first and second role.
    cold: [usize; 2],
    /// None before the start.
    phase: Option<Phase>,
    /// A response is being taken, and only half of what it says is known.
    is_amid: bool,
    deadlines: BTreeSet<(Instant, Deadline)>,
    effects: Vec<Effect>,
}

#[derive(Debug, Default)]
struct Root {
    active: Option<Vec<Key>>,
    next: Option<Next>,
}

#[derive(Debug)]
struct Next {
    needs: Vec<Key>,
    /// Of these, how many are not answered.
    unmet: usize,
}

#[derive(Debug, Default)]
struct Target {
    /// Versions of roots that need it, and explicit interests.
    users: usize,
    /// It is there for good, and need not be asked for.
    given: bool,
    answered: bool,
    deadline: Option<Instant>,
    /// Roots whose next version waits for it.
    waiters: HashSet<Key>,
}

#[derive(Debug)]
struct Whole {
    fetch_timeout: Option<Duration>,
    begun: bool,
    answered: bool,
    deadline: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deadline {
    Target(Key),
    Whole(Kind),
}

impl Warming {
    /// Nothing is known; `wholes` are the kinds that will be asked for as a whole, and how long a first answer to each is
    /// waited for (none: for ever).
    pub fn new(wholes: impl IntoIterator<Item = (Kind, Option<Duration>)>) -> Warming {
        let whole = |fetch_timeout| Whole { fetch_timeout, begun: false, answered: false, deadline: None };
        Warming {
            roots: HashMap::new(),
            targets: HashMap::new(),
            idle: BTreeSet::new(),
            gated: BTreeSet::new(),
            wholes: wholes.into_iter().map(|(kind, timeout)| (kind, whole(timeout))).collect(),
            cold: [0; 2],
            phase: None,
            is_amid: false,
            deadlines: BTreeSet::new(),
            effects: Vec::new(),
        }
    }

    /// The static resources have been offered: the start begins.
    pub fn begin(&mut self, now: Instant) {
        if self.phase.is_some() {
            return;
        }
        self.phase = Some(Phase::Clusters);
        self.begin_wholes(|role| role != Role::Second, now);
        self.open_gate();
        self.progress(now);
    }

    fn begin_wholes(&mut self, whose: impl Fn(Role) -> bool, now: Instant) {
        for (kind, whole) in &mut self.wholes {
            if whose(kind.spec().role) && !whole.begun {
                whole.begun = true;
                whole.deadline = whole.fetch_timeout.and_then(|timeout| now.checked_add(timeout));
                self.deadlines.extend(whole.deadline.map(|at| (at, Deadline::Whole(*kind))));
                self.effects.push(Effect::Begin(*kind));
            }
        }
    }

    /// A version of a root is understood: it takes the place of the one in force as soon as it has what it needs, and at
    /// once that of one that waits.
    pub fn offer(&mut self, root: &Key, needs: Vec<(Key, Option<Duration>)>, now: Instant) {
        let mut unique = BTreeMap::new();
        for (key, timeout) in needs {
            unique.entry(key).or_insert(timeout);
        }
        for (key, timeout) in &unique {
            self.use_target(key, *timeout, now);
        }
        self.cancel(root);
        let needs: Vec<Key> = unique.into_keys().collect();
        let mut unmet = 0;
        for need in &needs {
            if let Some(target) = self.targets.get_mut(need).filter(|target| !target.answered) {
                target.waiters.insert(root.clone());
                unmet += 1;
            }
        }
        self.roots.entry(root.clone()).or_default().next = Some(Next { needs, unmet });
        self.count_cold(root.0, 1);
        if unmet == 0 {
            self.ready(root);
        }
        self.progress(now);
    }

    /// The version that waits is no longer wanted; the one in force stays.
    pub fn withdraw(&mut self, root: &Key, now: Instant) {
        self.cancel(root);
        if self.roots.get(root).is_some_and(|root| root.active.is_none()) {
            self.roots.remove(root);
        }
        self.progress(now);
    }

    /// A root is gone, in force and waiting. Says whether it was in force.
    pub fn remove(&mut self, root: &Key, now: Instant) -> bool {
        self.cancel(root);
        let active = self.roots.remove(root).and_then(|root| root.active);
        let was_active = active.is_some();
        self.release(active.unwrap_or_default());
        self.progress(now);
        was_active
    }

    /// A target has come, was refused, or does not exist: who waits for it goes on.
    pub fn answered(&mut self, target: &Key, now: Instant) {
        self.answer(target);
        self.progress(now);
    }

    /// A response begins; the start goes on when [it has been taken](Self::response_ends), not between what it removes and
    /// what it brings.
    pub fn response_begins(&mut self) {
        self.is_amid = true;
    }

    /// All of a response is known.
    pub fn response_ends(&mut self, now: Instant) {
        self.is_amid = false;
        self.progress(now);
    }

    /// A kind that is asked for as a whole has been answered for the first time.
    pub fn whole_answered(&mut self, kind: Kind, now: Instant) {
        let Some(whole) = self.wholes.get_mut(&kind).filter(|whole| whole.begun) else { return };
        whole.answered = true;
        if let Some(at) = whole.deadline.take() {
            self.deadlines.remove(&(at, Deadline::Whole(kind)));
        }
        self.progress(now);
    }

    /// A target is there for good and is not asked for.
    pub fn given(&mut self, target: &Key, now: Instant) {
        self.targets.entry(target.clone()).or_default().given = true;
        self.answered(target, now);
    }

    /// A target is wanted beyond what roots need.
    pub fn interest(&mut self, target: &Key, now: Instant) {
        self.use_target(target, None, now);
    }

    /// The opposite of [`Warming::interest`], of which there was one more.
    pub fn disinterest(&mut self, target: &Key) {
        self.release(vec![target.clone()]);
    }

    /// Time has come so far.
    pub fn tick(&mut self, now: Instant) {
        while let Some((at, _)) = self.deadlines.first() {
            if *at > now {
                break;
            }
            match self.deadlines.pop_first() {
                Some((_, Deadline::Target(key))) => {
                    self.effects.push(Effect::TimedOut(key.clone()));
                    self.answer(&key);
                }
                Some((_, Deadline::Whole(kind))) => {
                    self.effects.push(Effect::Late(kind));
                    self.whole_answered(kind, now);
                }
                None => break,
            }
        }
        self.progress(now);
    }

    /// When [`Warming::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// What follows from all that was told since the last time, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        for key in std::mem::take(&mut self.idle) {
            let unused = |target: &Target| target.users == 0 && !target.given;
            if self.targets.get(&key).is_some_and(unused) {
                if let Some(at) = self.targets.remove(&key).and_then(|target| target.deadline) {
                    self.deadlines.remove(&(at, Deadline::Target(key.clone())));
                }
                self.effects.push(Effect::Unwant(key));
            }
        }
        std::mem::take(&mut self.effects)
    }

    /// Is it a target that something needs?
    pub fn is_wanted(&self, target: &Key) -> bool {
        self.targets.get(target).is_some_and(|target| target.users > 0)
    }

    /// Is the kind asked for as a whole by now?
    pub fn is_begun(&self, kind: Kind) -> bool {
        self.wholes.get(&kind).is_some_and(|whole| whole.begun)
    }

    /// How far the start has come.
    pub fn phase(&self) -> Phase {
        self.phase.unwrap_or(Phase::Clusters)
    }

    /// Should the control plane believe that what it sent last of this kind is not in force yet? As in Envoy: after the
    /// initial clusters, while a cluster waits for its endpoints.
    pub fn holds(&self, kind: Kind) -> bool {
        kind.spec().role == Role::First && self.phase() > Phase::Clusters && self.cold[0] > 0
    }

    fn use_target(&mut self, key: &Key, timeout: Option<Duration>, now: Instant) {
        let target = self.targets.entry(key.clone()).or_default();
        let is_new = target.users == 0 && !target.given && !self.idle.contains(key);
        target.users += 1;
        if is_new {
            target.deadline = timeout.and_then(|timeout| now.checked_add(timeout));
            self.deadlines.extend(target.deadline.map(|at| (at, Deadline::Target(key.clone()))));
            self.effects.push(Effect::Want(key.clone()));
        }
    }

    fn release(&mut self, needs: Vec<Key>) {
        for key in needs {
            let Some(target) = self.targets.get_mut(&key) else { continue };
            target.users = target.users.saturating_sub(1);
            if target.users == 0 {
                self.idle.insert(key);
            }
        }
    }

    fn cancel(&mut self, root: &Key) {
        let Some(next) = self.roots.get_mut(root).and_then(|root| root.next.take()) else { return };
        for need in &next.needs {
            if let Some(target) = self.targets.get_mut(need) {
                target.waiters.remove(root);
            }
        }
        self.gated.remove(root);
        self.count_cold(root.0, -1);
        self.release(next.needs);
    }

    fn answer(&mut self, key: &Key) {
        let Some(target) = self.targets.get_mut(key).filter(|target| !target.answered) else { return };
        target.answered = true;
        if let Some(at) = target.deadline.take() {
            self.deadlines.remove(&(at, Deadline::Target(key.clone())));
        }
        let mut waiters: Vec<Key> = std::mem::take(&mut target.waiters).into_iter().collect();
        waiters.sort();
        for root in waiters {
            let Some(next) = self.roots.get_mut(&root).and_then(|root| root.next.as_mut()) else { continue };
            next.unmet -= 1;
            if next.unmet == 0 {
                self.ready(&root);
            }
        }
    }

    /// A root has all that it needs.
    fn ready(&mut self, root: &Key) {
        let waits = root.0.spec().role == Role::Second && self.phase() < Phase::Listeners;
        if self.phase.is_none() || waits {
            self.gated.insert(root.clone());
        } else {
            self.activate(root);
        }
    }

    fn activate(&mut self, key: &Key) {
        let Some(root) = self.roots.get_mut(key) else { return };
        let Some(next) = root.next.take() else { return };
        let before = root.active.replace(next.needs);
        self.count_cold(key.0, -1);
        self.release(before.unwrap_or_default());
        self.effects.push(Effect::Activate(key.clone()));
    }

    fn count_cold(&mut self, kind: Kind, by: isize) {
        let count = usize::from(kind.spec().role == Role::Second);
        self.cold[count] = self.cold[count].saturating_add_signed(by);
    }

    /// Goes on with the start as far as it can.
    fn progress(&mut self, now: Instant) {
        while let Some(phase) = self.phase.filter(|_| !self.is_amid) {
            let (role, next) = match phase {
                Phase::Clusters => (Role::First, Phase::Listeners),
                Phase::Listeners => (Role::Second, Phase::Live),
                Phase::Live => return,
            };
            let awaited = |(kind, whole): (&Kind, &Whole)| kind.spec().role == role && !whole.answered;
            if self.cold[usize::from(role == Role::Second)] > 0 || self.wholes.iter().any(awaited) {
                return;
            }
            self.phase = Some(next);
            self.effects.push(Effect::Phase(next));
            self.begin_wholes(|_| true, now);
            self.open_gate();
        }
    }

    /// Those that waited for the phase alone, and those that wait on.
    fn open_gate(&mut self) {
        for root in std::mem::take(&mut self.gated) {
            self.ready(&root);
        }
    }
}
