//! The kernel's word on what happens to files: directories watched, events turned into hints.
//!
//! An event is never trusted further than "look here": every hint ends in reading the file or walking the tree.
//! A watch that cannot be had (the kernel's limit, a file system without inotify) is said once, and the
//! follower's regular look at everything is then all there is.

use crate::schedule::Hint;
use crate::tree::is_config_name;
use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RemoveKind, RenameMode};
use notify::{RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where to look because of an event, and how soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// At one file. The flag: an event that looking around must not override (see `Schedule::note_found`).
    File(PathBuf, Hint, Weight),
    /// At everything.
    Tree(Hint),
}

/// Whether an event replaces what earlier ones said of the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// The latest word.
    News,
    /// Counts only if nothing else is known (attributes changed: says nothing about the content).
    Rumour,
}

/// Which events matter: everything in the directories of the tree, and of other directories (a root's
/// ancestors, the real places of symlinked files) only what may bring a root into being.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    /// The paths a user named.
    pub roots: BTreeSet<PathBuf>,
    /// Directories whose entries are configuration.
    pub directories: BTreeSet<PathBuf>,
    /// Directories that hold what symlinks in the tree lead to.
    pub behind_links: BTreeSet<PathBuf>,
}

impl Interest {
    /// What an event means for us.
    pub fn signals(&self, event: &notify::Event) -> Vec<Signal> {
        if event.need_rescan() {
            return vec![Signal::Tree(Hint::Writing)];
        }
        if let (EventKind::Modify(ModifyKind::Name(RenameMode::Both)), [from, to]) =
            (event.kind, &event.paths[..])
        {
            return self.renamed(from, to);
        }
        event.paths.iter().filter_map(|path| self.signal(event.kind, path)).collect()
    }

    /// True for a file that is read when an event names it: others are found by walking.
    pub fn is_followed_file(&self, path: &Path) -> bool {
        self.roots.contains(path) || (self.in_tree(path) && is_config_file_name(path))
    }

    fn in_tree(&self, path: &Path) -> bool {
        path.parent().is_some_and(|parent| self.directories.contains(parent))
    }

    /// From one of our names to another in one step: the old one is gone for certain. Otherwise the two halves,
    /// which the kernel told separately, say all (an editor moves the old file to a backup's name first).
    fn renamed(&self, from: &Path, to: &Path) -> Vec<Signal> {
        if self.is_followed_file(from) && self.is_followed_file(to) {
            vec![Signal::File(from.to_path_buf(), Hint::Left, Weight::News)]
        } else {
            Vec::new()
        }
    }

    fn signal(&self, kind: EventKind, path: &Path) -> Option<Signal> {
        let file = |hint, weight| Some(Signal::File(path.to_path_buf(), hint, weight));
        let tree = |hint| Some(Signal::Tree(hint));
        let ours = self.is_followed_file(path);
        let behind_link = path.parent().is_some_and(|parent| self.behind_links.contains(parent));
        let leads_to_root = self.roots.iter().any(|root| root.starts_with(path));
        if !(ours || self.in_tree(path) || behind_link || leads_to_root) {
            return None;
        }
        match kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) if ours => {
                file(Hint::Whole, Weight::News)
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write)) if behind_link => tree(Hint::Whole),
            EventKind::Modify(ModifyKind::Data(_)) | EventKind::Create(CreateKind::File) if ours => {
                file(Hint::Writing, Weight::News)
            }
            EventKind::Modify(ModifyKind::Metadata(_)) if ours => file(Hint::Writing, Weight::Rumour),
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) if ours => file(Hint::Whole, Weight::News),
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(RemoveKind::File)
                if ours =>
            {
                file(Hint::Gone, Weight::News)
            }
            // `..data` of a mounted ConfigMap, or a directory put in place: all that is below is complete.
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => tree(Hint::Whole),
            EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => tree(Hint::Writing),
            EventKind::Create(CreateKind::Folder) => tree(Hint::Writing),
            EventKind::Modify(ModifyKind::Metadata(_)) if self.directories.contains(path) => {
                tree(Hint::Writing)
            }
            _ => None,
        }
    }
}

fn is_config_file_name(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(is_config_name)
}

/// A directory as the kernel knows it, whatever its path.
type Inode = (u64, u64);

/// The directories being watched.
pub struct Watches {
    /// `None` where the kernel gave us no inotify at all.
    watcher: Option<notify::RecommendedWatcher>,
    active: BTreeMap<Inode, PathBuf>,
    /// Directories that should be watched and cannot be.
    failed: BTreeSet<PathBuf>,
}

impl Watches {
    /// Starts with nothing watched; events go to the handler on a thread of its own.
    pub fn new(handler: impl FnMut(notify::Result<notify::Event>) + Send + 'static) -> Watches {
        let watcher = notify::recommended_watcher(handler);
        if let Err(error) = &watcher {
            tracing::warn!(%error, "files cannot be watched, looking at them regularly instead");
        }
        Watches { watcher: watcher.ok(), active: BTreeMap::new(), failed: BTreeSet::new() }
    }

    /// As where there is no inotify.
    #[cfg(test)]
    pub fn blind() -> Watches {
        Watches { watcher: None, active: BTreeMap::new(), failed: BTreeSet::new() }
    }

    /// True if every directory asked for is watched.
    pub fn complete(&self) -> bool {
        self.watcher.is_some() && self.failed.is_empty()
    }

    /// Forgets that a directory is watched: an event said that it moved or went, and what has its name now is
    /// another one.
    pub fn lost(&mut self, path: &Path) {
        self.active.retain(|_, active| active != path);
    }

    /// Watches these directories and no others. True if one was added, so that what happened in it before
    /// has to be looked for.
    pub fn follow(&mut self, wanted: &BTreeSet<PathBuf>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let mut inodes: BTreeMap<Inode, PathBuf> = BTreeMap::new();
        for path in wanted {
            if let Ok(meta) = std::fs::metadata(path) {
                inodes.entry((meta.dev(), meta.ino())).or_insert_with(|| path.clone());
            }
        }
        self.active.retain(|inode, path| {
            let keep = inodes.get(inode) == Some(path);
            if !keep {
                // A directory that is gone has taken its watch with it.
                let _ = watcher.unwatch(path);
            }
            keep
        });
        let mut added = false;
        let mut failed = BTreeSet::new();
        for (inode, path) in inodes {
            if self.active.contains_key(&inode) {
                continue;
            }
            match watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.active.insert(inode, path);
                    added = true;
                }
                Err(error) => {
                    if path.is_dir() && !self.failed.contains(&path) {
                        tracing::warn!(path = %path.display(), %error, "cannot be watched, looking at it regularly instead");
                    }
                    failed.insert(path);
                }
            }
        }
        self.failed = failed;
        added
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::Event;
    use notify::event::{DataChange, MetadataKind};

    fn interest() -> Interest {
        Interest {
            roots: BTreeSet::from(["/etc/mesh".into(), "/etc/one.conf".into()]),
            directories: BTreeSet::from(["/etc/mesh".into(), "/etc/mesh/sub".into()]),
            behind_links: BTreeSet::from(["/srv/real".into()]),
        }
    }

    fn on(kind: EventKind, path: &str) -> Option<Signal> {
        interest().signals(&Event::new(kind).add_path(path.into())).pop()
    }

    fn file(path: &str, hint: Hint) -> Option<Signal> {
        Some(Signal::File(path.into(), hint, Weight::News))
    }

    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const MOVED_IN: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));

    #[test]
    fn a_closed_file_is_whole_and_an_open_one_is_not() {
        assert_eq!(on(WRITTEN, "/etc/mesh/a.yaml"), file("/etc/mesh/a.yaml", Hint::Writing));
        assert_eq!(on(CLOSED, "/etc/mesh/sub/a.json"), file("/etc/mesh/sub/a.json", Hint::Whole));
        assert_eq!(on(CLOSED, "/etc/one.conf"), file("/etc/one.conf", Hint::Whole));
        let touched = on(EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), "/etc/mesh/a.yaml");
        assert_eq!(touched, Some(Signal::File("/etc/mesh/a.yaml".into(), Hint::Writing, Weight::Rumour)));
    }

    #[test]
    fn what_others_do_nearby_is_not_our_business() {
        for path in
            ["/etc/mesh/.a.yaml.swp", "/etc/mesh/a.yaml~", "/etc/other.conf", "/etc/meshes/a.yaml", "/tmp/x"]
        {
            assert_eq!(on(CLOSED, path), None, "{path}");
            assert_eq!(on(WRITTEN, path), None, "{path}");
        }
        assert_eq!(on(EventKind::Access(AccessKind::Open(AccessMode::Any)), "/etc/mesh/a.yaml"), None);
        assert_eq!(on(MOVED_IN, "/etc/other"), None);
    }

    #[test]
    fn a_swapped_link_or_directory_is_looked_at_as_a_whole() {
        assert_eq!(on(MOVED_IN, "/etc/mesh/..data"), Some(Signal::Tree(Hint::Whole)));
        assert_eq!(on(MOVED_IN, "/etc"), Some(Signal::Tree(Hint::Whole)));
        assert_eq!(on(EventKind::Remove(RemoveKind::Folder), "/etc/mesh"), Some(Signal::Tree(Hint::Writing)));
        assert_eq!(
            on(EventKind::Create(CreateKind::Folder), "/etc/mesh/new"),
            Some(Signal::Tree(Hint::Writing))
        );
        assert_eq!(on(CLOSED, "/srv/real/anything"), Some(Signal::Tree(Hint::Whole)));
    }

    #[test]
    fn a_rename_between_our_names_leaves_no_doubt_and_one_to_a_backup_does() {
        let both = EventKind::Modify(ModifyKind::Name(RenameMode::Both));
        let renamed = |from: &str, to: &str| {
            interest().signals(&Event::new(both).add_path(from.into()).add_path(to.into()))
        };
        let left = Signal::File("/etc/mesh/a.yaml".into(), Hint::Left, Weight::News);
        assert_eq!(renamed("/etc/mesh/a.yaml", "/etc/mesh/b.yaml"), [left]);
        assert_eq!(renamed("/etc/mesh/a.yaml", "/etc/mesh/a.yaml~"), []);
    }

    #[test]
    fn a_lost_event_means_looking_at_everything() {
        let overflow = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        assert_eq!(interest().signals(&overflow), [Signal::Tree(Hint::Writing)]);
    }
}
