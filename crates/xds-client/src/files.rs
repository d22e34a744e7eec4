//! Files with resources, read again when they change.
//!
//! A file holds a `DiscoveryResponse`; what is in it is the state of the world. As Envoy advises, whoever writes one moves it
//! into place: its directory is watched for what is moved in or has been written to its end, or, with a
//! `watched_directory`, that one for what is moved in.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use crate::consumer::PathSource;
use crate::kind::Kind;
use crate::limits;

/// What makes a message of a file's bytes (JSON, YAML, binary: by its name); the error is shown as it is.
pub type Decode = fn(&Path, Vec<u8>) -> Result<DiscoveryResponse, String>;

/// Which resources of a file are wanted.
#[derive(Debug, Default, Clone)]
pub(crate) struct Uses {
    /// By kind: all of them (none), or these names.
    pub by_kind: BTreeMap<Kind, Option<HashSet<Arc<str>>>>,
}

/// The files that are wanted, and those of them that are to be read.
pub(crate) struct Files {
    decode: Decode,
    inotify: AsyncFd<OwnedFd>,
    wanted: HashMap<PathSource, Uses>,
    watches: HashMap<i32, Watch>,
    unread: HashSet<PathSource>,
}

struct Watch {
    directory: PathBuf,
    files: HashSet<PathSource>,
}

impl Files {
    /// Watches nothing yet. Must be called on a runtime.
    pub(crate) fn new(decode: Decode) -> io::Result<Files> {
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "an `OwnedFd` is one descriptor for life, which is all that the unsafe one asks"
        )]
        let inotify = AsyncFd::new(inotify)?;
        Ok(Files { decode, inotify, wanted: HashMap::new(), watches: HashMap::new(), unread: HashSet::new() })
    }

    /// All of a kind is wanted of a file (no name), or a resource by name. The error is that the file cannot be watched.
    pub(crate) fn want(
        &mut self,
        source: &PathSource,
        kind: Kind,
        name: Option<&Arc<str>>,
    ) -> Result<(), String> {
        if self.wanted.len() >= limits::FILES && !self.wanted.contains_key(source) {
            return Err(format!("more than {} files are not watched", limits::FILES));
        }
        let is_new = !self.wanted.contains_key(source);
        let uses = self.wanted.entry(source.clone()).or_default();
        match (uses.by_kind.get_mut(&kind), name) {
            (Some(Some(names)), Some(name)) => drop(names.insert(name.clone())),
            (Some(_), None) => drop(uses.by_kind.insert(kind, None)),
            (Some(None), Some(_)) => {}
            (None, name) => {
                let names = name.map(|name| HashSet::from([name.clone()]));
                uses.by_kind.insert(kind, names);
            }
        }
        self.unread.insert(source.clone());
        if is_new { self.watch(source) } else { Ok(()) }
    }

    /// A resource by name is no longer wanted of a file.
    pub(crate) fn unwant(&mut self, source: &PathSource, kind: Kind, name: &Arc<str>) {
        let Some(uses) = self.wanted.get_mut(source) else { return };
        if let Some(Some(names)) = uses.by_kind.get_mut(&kind) {
            names.remove(name);
            if names.is_empty() {
                uses.by_kind.remove(&kind);
            }
        }
        if uses.by_kind.is_empty() {
            self.wanted.remove(source);
            self.unread.remove(source);
            self.unwatch(source);
        }
    }

    /// Files to be read now, and what is wanted of each.
    pub(crate) fn take_unread(&mut self) -> Vec<(PathSource, Uses)> {
        let unread = std::mem::take(&mut self.unread);
        unread
            .into_iter()
            .filter_map(|source| Some((source.clone(), self.wanted.get(&source)?.clone())))
            .collect()
    }

    /// What a file says now.
    pub(crate) fn read(&self, source: &PathSource) -> Result<DiscoveryResponse, String> {
        let failed = |error: io::Error| format!("{}: {error}", source.path.display());
        let mut bytes = Vec::new();
        let file = File::open(&source.path).map_err(failed)?;
        file.take(limits::FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > limits::FILE_BYTES {
            return Err(format!("{}: longer than {} bytes", source.path.display(), limits::FILE_BYTES));
        }
        (self.decode)(&source.path, bytes).map_err(|error| format!("{}: {error}", source.path.display()))
    }

    /// Resolves when a file may have changed: [`Files::take_unread`] then knows which.
    pub(crate) async fn changed(&mut self) -> io::Result<()> {
        while self.unread.is_empty() {
            let mut ready = self.inotify.readable().await?;
            let heard = hear(ready.get_inner());
            ready.clear_ready();
            for (watch, name) in heard? {
                self.note(watch, name.as_deref());
            }
        }
        Ok(())
    }

    /// Something happened in a directory; no watch: too much happened to be told.
    fn note(&mut self, watch: Option<i32>, name: Option<&[u8]>) {
        let Some(watch) = watch else {
            self.unread.extend(self.wanted.keys().cloned());
            return;
        };
        let Some(watch) = self.watches.get(&watch) else { return };
        let concerns = |source: &&PathSource| {
            let own = source.path.file_name().map(|own| own.as_encoded_bytes());
            source.watched_directory.is_some() || name.is_none() || own == name
        };
        self.unread.extend(watch.files.iter().filter(concerns).cloned());
    }

    fn watch(&mut self, source: &PathSource) -> Result<(), String> {
        let (directory, events) = match &source.watched_directory {
            Some(directory) => (directory.clone(), WatchFlags::MOVED_TO),
            None => (parent(&source.path), WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE),
        };
        let watch = add_watch(
            self.inotify.get_ref(),
            &directory,
            events | WatchFlags::ONLYDIR | WatchFlags::MASK_ADD,
        )
        .map_err(|error| format!("{} cannot be watched: {error}", directory.display()))?;
        let watch = self.watches.entry(watch).or_insert_with(|| Watch { directory, files: HashSet::new() });
        watch.files.insert(source.clone());
        Ok(())
    }

    fn unwatch(&mut self, source: &PathSource) {
        let Some((id, watch)) = self.watches.iter_mut().find(|(_, watch)| watch.files.contains(source))
        else {
            return;
        };
        watch.files.remove(source);
        if watch.files.is_empty() {
            let id = *id;
            if let Err(error) = remove_watch(self.inotify.get_ref(), id) {
                tracing::debug!(directory = %watch.directory.display(), %error, "was not watched any more");
            }
            self.watches.remove(&id);
        }
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Which watch, and which name in its directory; no watch: the kernel's queue has overflowed.
type Heard = (Option<i32>, Option<Vec<u8>>);

fn hear(inotify: &OwnedFd) -> io::Result<Vec<Heard>> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(inotify, &mut buffer);
    let mut heard = Vec::new();
    loop {
        match reader.next() {
            Ok(event) => {
                let overflow = event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                let name = event.file_name().map(|name| name.to_bytes().to_vec());
                heard.push(((!overflow).then(|| event.wd()), name));
            }
            Err(Errno::AGAIN) => return Ok(heard),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
