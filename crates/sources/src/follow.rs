//! The follower: a thread that waits for hints, reads what they point at, and sends what that changes.

use crate::Update;
use crate::ledger::{Ledger, Reading};
use crate::notice::{Notice, Notices};
use crate::read::{self, Content, Signature};
use crate::schedule::{Hint, Schedule, Work};
use crate::store::{Kept, Store, StoreError};
use crate::tree::{self, PathProblem, Tree};
use crate::watch::{Interest, Signal, Watches, Weight};
use ostro_api::{Object, Severity};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_64;

/// How often everything is looked at (by `stat`) although no event asked for it.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The same where something cannot be watched.
pub const LOOK_EVERY_UNWATCHED: Duration = Duration::from_millis(500);
/// Times the tree is walked again because watching it found new directories.
const MAX_WALKS: usize = 4;

/// What to follow.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Files and directories. One that is not there yet is waited for.
    pub paths: Vec<PathBuf>,
    /// The state directory; without one a restart starts from the files alone.
    pub state: Option<PathBuf>,
}

/// A running follower. Dropping it ends it.
#[derive(Debug)]
pub struct Follower {
    updates: mpsc::Receiver<Update>,
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Starts following. Fails only if no thread can be started; everything about files is told in updates.
    pub fn start(options: Options) -> io::Result<Follower> {
        // One update at a time: while the receiver is busy, further changes gather in the schedule.
        let (sender, updates) = mpsc::channel(1);
        let inbox = Arc::new(Inbox::default());
        let handler = inbox.clone();
        let watches = Watches::new(move |event| handler.event(event));
        let work = Follow::new(options, inbox.clone(), watches);
        let thread =
            std::thread::Builder::new().name("ostro-sources".into()).spawn(move || work.run(&sender))?;
        Ok(Follower { updates, inbox, thread: Some(thread) })
    }

    /// The next update; the first one is initial. `None` only if the follower's thread has died.
    pub async fn next(&mut self) -> Option<Update> {
        self.updates.recv().await
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.updates.close();
        self.inbox.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Where the watcher's thread leaves hints and the follower's thread takes them.
#[derive(Debug, Default)]
struct Inbox {
    state: Mutex<InboxState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct InboxState {
    schedule: Schedule,
    interest: Interest,
    /// Directories whose watch an event said to be gone: at most those watched.
    lost: BTreeSet<PathBuf>,
    stopped: bool,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, InboxState> {
        // The state is whole between any two statements: a panic elsewhere has not spoilt it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    fn event(&self, event: notify::Result<notify::Event>) {
        let mut state = self.lock();
        let now = Instant::now();
        let signals = match &event {
            Ok(event) => {
                state.note_lost(event);
                state.interest.signals(event)
            }
            Err(_) => vec![Signal::Tree(Hint::Writing)],
        };
        for signal in &signals {
            match signal {
                Signal::File(path, hint, Weight::News) => state.schedule.note(path, *hint, now),
                Signal::File(path, hint, Weight::Rumour) => state.schedule.note_found(path, *hint, now),
                Signal::Tree(hint) => state.schedule.note_scan(*hint, now),
            }
        }
        if !signals.is_empty() {
            self.changed.notify_all();
        }
    }

    /// Waits for work until `look`, when looking at everything is the work. `None`: stop.
    fn wait(&self, look: Instant) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            let now = Instant::now();
            let mut work = state.schedule.take_due(now);
            if now >= look {
                work.scan.get_or_insert(Hint::Writing);
            }
            if work != Work::default() {
                return Some(work);
            }
            let until = state.schedule.next().map_or(look, |due| due.min(look));
            let rest = until.saturating_duration_since(now);
            (state, _) = self.changed.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl InboxState {
    /// A directory that moved or went has lost its watch, whatever has its name by now.
    fn note_lost(&mut self, event: &notify::Event) {
        use notify::event::{EventKind, ModifyKind, RenameMode};
        if matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)))
        {
            let watched = |path: &&PathBuf| {
                let interest = &self.interest;
                interest.directories.contains(*path)
                    || interest.behind_links.contains(*path)
                    || interest.roots.iter().any(|root| root.starts_with(path))
            };
            let lost: Vec<PathBuf> = event.paths.iter().filter(watched).cloned().collect();
            self.lost.extend(lost);
        }
    }
}

/// What is known of a file without reading it again.
#[derive(Clone, Copy, Debug)]
struct Known {
    signature: Option<Signature>,
    /// Of the text that the ledger has; `None` if the ledger has none.
    text: Option<u64>,
    /// Of a text that lacks objects and has been seen once.
    doubted: Option<u64>,
}

/// The follower's thread.
struct Follow {
    roots: Vec<PathBuf>,
    inbox: Arc<Inbox>,
    watches: Watches,
    tree: Tree,
    known: BTreeMap<PathBuf, Known>,
    ledger: Ledger,
    store: Option<Store>,
    /// The last thing said about the state directory: a full disk is not said at every change.
    store_trouble: Option<String>,
    notices: Notices,
}

impl Follow {
    fn new(options: Options, inbox: Arc<Inbox>, watches: Watches) -> Follow {
        let roots: Vec<PathBuf> = options
            .paths
            .iter()
            .map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()))
            .collect();
        let mut follow = Follow {
            roots,
            inbox,
            watches,
            tree: Tree::default(),
            known: BTreeMap::new(),
            ledger: Ledger::default(),
            store: None,
            store_trouble: None,
            notices: Notices::default(),
        };
        if let Some(dir) = &options.state {
            let opened = Store::open(dir);
            follow.store = follow.said(opened);
        }
        follow
    }

    fn run(mut self, sender: &mpsc::Sender<Update>) {
        let mut update = self.initial();
        loop {
            self.log(&update);
            if !update.is_empty() && sender.blocking_send(update).is_err() {
                return;
            }
            let period = if self.watches.complete() { LOOK_EVERY } else { LOOK_EVERY_UNWATCHED };
            let Some(work) = self.inbox.wait(Instant::now() + period) else { return };
            update = self.work(work);
        }
    }

    /// Everything that is there, at once.
    fn initial(&mut self) -> Update {
        self.scan(Hint::Whole);
        if let Some(store) = &self.store {
            // Where part of the tree could not be seen, its records may still be wanted.
            let complete = self.tree.problems.iter().all(|problem| problem.absent);
            let cleaned =
                if complete { store.retain(self.tree.files.iter().map(PathBuf::as_path)) } else { Ok(()) };
            self.said(cleaned);
        }
        Update { initial: true, ..self.ledger.settle() }
    }

    fn work(&mut self, work: Work) -> Update {
        for (path, hint) in work.paths {
            self.look(&path, hint);
        }
        if let Some(hint) = work.scan {
            self.scan(hint);
        }
        self.ledger.settle()
    }

    /// Walks the tree and reads, or schedules to be read, what differs from what is known.
    fn scan(&mut self, hint: Hint) {
        let tree = self.walk();
        for problem in
            tree.problems.iter().filter(|problem| self.tree.problems.binary_search(problem).is_err())
        {
            self.ledger.complain(complaint_about(problem));
        }
        for path in &tree.files {
            let now = Signature::of(path).ok();
            if self.known.get(path).is_none_or(|known| known.signature != now) {
                self.changed(path, hint);
            }
        }
        let present: BTreeSet<&PathBuf> = tree.files.iter().collect();
        let missing: Vec<PathBuf> =
            self.known.keys().filter(|path| !present.contains(path)).cloned().collect();
        for path in missing.iter().filter(|path| !tree.may_hide(path)) {
            self.changed(path, if hint == Hint::Whole { Hint::Left } else { Hint::Gone });
        }
        self.tree = tree;
    }

    /// Acts on a difference found by looking, unless an event has said more about the file.
    fn changed(&mut self, path: &Path, hint: Hint) {
        let mut inbox = self.inbox.lock();
        if hint.is_certain() && !inbox.schedule.is_pending(path) {
            drop(inbox);
            self.look(path, hint);
        } else {
            inbox.schedule.note_found(path, hint, Instant::now());
        }
    }

    /// Walks the tree and watches what it finds, until nothing new is found to watch: what happened in a
    /// directory before it was watched is found by the next walk.
    fn walk(&mut self) -> Tree {
        let lost = std::mem::take(&mut self.inbox.lock().lost);
        lost.iter().for_each(|path| self.watches.lost(path));
        let mut tree = tree::walk(&self.roots);
        for _ in 0..MAX_WALKS {
            let interest = self.interest(&tree);
            let mut wanted = ancestors(&self.roots);
            wanted.extend(interest.directories.iter().cloned());
            wanted.extend(interest.behind_links.iter().cloned());
            // First the interest, then the watch: no event comes that nobody understands.
            self.inbox.lock().interest = interest;
            if !self.watches.follow(&wanted) {
                break;
            }
            tree = tree::walk(&self.roots);
        }
        tree
    }

    fn interest(&self, tree: &Tree) -> Interest {
        let links = tree.files.iter().filter(|path| path.is_symlink());
        let behind = links.filter_map(|path| Some(path.canonicalize().ok()?.parent()?.to_path_buf()));
        Interest {
            roots: self.roots.iter().cloned().collect(),
            directories: tree.directories.iter().cloned().collect(),
            behind_links: behind.collect(),
        }
    }

    /// Reads one path and tells the ledger.
    fn look(&mut self, path: &Path, hint: Hint) {
        let meta = std::fs::metadata(path);
        if meta.as_ref().is_ok_and(std::fs::Metadata::is_dir) {
            return self.inbox.lock().schedule.note_scan(Hint::Whole, Instant::now());
        }
        let signature = meta.as_ref().ok().map(Signature::from);
        if meta.is_ok_and(|meta| !meta.is_file()) {
            // A FIFO or socket in a file's place: no file is there.
            return self.gone(path, hint);
        }
        match read::read(path) {
            Content::Gone => self.gone(path, hint),
            Content::Bytes(bytes) => self.text(path, signature, bytes),
            Content::Unusable(complaint) => {
                let file = name_of(path);
                self.recall_once(path, &file);
                self.known.insert(path.to_path_buf(), Known { signature, text: None, doubted: None });
                let claims = self.ledger.fold(&file, Reading::Unreadable(complaint));
                self.remember(path, None, &claims);
            }
        }
    }

    fn text(&mut self, path: &Path, signature: Option<Signature>, bytes: Vec<u8>) {
        let hash = xxh3_64(&bytes);
        if let Some(known) = self.known.get_mut(path).filter(|known| known.text == Some(hash)) {
            *known = Known { signature, text: Some(hash), doubted: None };
            return;
        }
        let file = name_of(path);
        let parsed = ostro_api::parse_file(file.clone(), &bytes);
        if self.ledger.would_lose(&file, &parsed.objects, &parsed.complaints) && !self.seen_twice(path, hash)
        {
            return;
        }
        if parsed.complaints.iter().any(|complaint| complaint.severity == Severity::Error) {
            self.recall_once(path, &file);
        }
        self.known.insert(path.to_path_buf(), Known { signature, text: Some(hash), doubted: None });
        let reading = Reading::Text { objects: parsed.objects, complaints: parsed.complaints };
        let claims = self.ledger.fold(&file, reading);
        self.remember(path, String::from_utf8(bytes).ok().as_deref(), &claims);
    }

    /// A text that takes objects away counts only when it is still there a moment later: an editor may have been
    /// caught halfway, whatever the events said before.
    fn seen_twice(&mut self, path: &Path, text: u64) -> bool {
        let Some(known) = self.known.get_mut(path).filter(|known| known.doubted != Some(text)) else {
            return true;
        };
        known.doubted = Some(text);
        self.inbox.lock().schedule.note_found(path, Hint::Gone, Instant::now());
        false
    }

    fn gone(&mut self, path: &Path, hint: Hint) {
        if matches!(hint, Hint::Whole | Hint::Writing) {
            // It was there a moment ago, so it may be on its way back.
            return self.inbox.lock().schedule.note(path, Hint::Gone, Instant::now());
        }
        if self.known.remove(path).is_none() {
            return;
        }
        self.ledger.fold(&name_of(path), Reading::Gone);
        if let Some(store) = &self.store {
            let removed = store.remove(path);
            self.said(removed);
        }
    }

    /// Before the first reading of a file that cannot be accepted as a whole: what an earlier process had
    /// accepted from it.
    fn recall_once(&mut self, path: &Path, file: &Arc<str>) {
        if self.known.contains_key(path) {
            return;
        }
        let Some(store) = &self.store else { return };
        let loaded = store.load(path);
        for kept in self.said(loaded).unwrap_or_default() {
            self.ledger.recall(file, reparse(file, &kept));
        }
    }

    fn remember(&mut self, path: &Path, text: Option<&str>, claims: &crate::ledger::Claims) {
        if let Some(store) = &self.store {
            let saved = store.save(path, text, claims);
            self.said(saved);
        }
    }

    /// Takes an error of the state directory off a result, saying it once.
    fn said<T>(&mut self, result: Result<T, StoreError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                let text = error.to_string();
                if self.store_trouble.as_ref() != Some(&text) {
                    tracing::warn!("state directory: {text}");
                    self.store_trouble = Some(text);
                }
                None
            }
        }
    }

    fn log(&mut self, update: &Update) {
        for complaint in &update.complaints {
            match complaint.severity {
                Severity::Error => tracing::error!("{complaint}"),
                Severity::Warning => tracing::warn!("{complaint}"),
            }
        }
        for object in &update.upserts {
            match self.notices.about(object) {
                Some(notice @ Notice::Kind(_)) => tracing::info!("{notice}"),
                Some(notice @ (Notice::Slip(_) | Notice::Unenforced(..) | Notice::Unavailable(_))) => {
                    tracing::warn!("{notice}")
                }
                None => {}
            }
        }
    }
}

/// The objects that a remembered text stands for.
fn reparse(file: &Arc<str>, kept: &Kept) -> Vec<Object> {
    let parsed = ostro_api::parse_file(file.clone(), kept.text.as_bytes());
    let wanted: BTreeSet<&str> = kept.objects.iter().map(String::as_str).collect();
    parsed.objects.into_iter().filter(|object| wanted.contains(object.key().to_string().as_str())).collect()
}

/// Of each root the directory that would hold it, or the nearest that exists.
fn ancestors(roots: &[PathBuf]) -> BTreeSet<PathBuf> {
    let nearest = |root: &PathBuf| root.ancestors().skip(1).find(|dir| dir.is_dir()).map(Path::to_path_buf);
    roots.iter().filter_map(nearest).collect()
}

/// A path as complaints and origins name it. Only UTF-8 paths are followed, so nothing is lost.
fn name_of(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}

pub(crate) fn complaint_about(problem: &PathProblem) -> ostro_api::Complaint {
    read::about_file(&problem.path, problem.found.clone(), problem.allowed.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network file system, or a kernel out of watches: no event ever comes.
    #[test]
    fn without_any_event_changes_are_found_by_looking() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        let options = Options { paths: vec![dir.path().to_path_buf()], state: None };
        let inbox = Arc::new(Inbox::default());
        let follow = Follow::new(options, inbox.clone(), Watches::blind());
        let (sender, mut updates) = mpsc::channel(1);
        let thread = std::thread::spawn(move || follow.run(&sender));
        let mut next = || updates.blocking_recv().unwrap();
        assert!(next().initial);
        std::fs::write(&file, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a}\n").unwrap();
        assert_eq!(next().upserts.len(), 1);
        std::fs::write(&file, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: b}\n").unwrap();
        let update = next();
        assert_eq!((update.upserts.len(), update.deletes.len()), (1, 1));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(next().deletes.len(), 1);
        inbox.stop();
        thread.join().unwrap();
    }
}
