//! Which files are configuration: a walk over the paths that a user named.
//!
//! A file named outright is read whatever its name; inside a directory only `.yaml`, `.yml` and `.json`
//! count, hidden names and editors' temporary files do not, nor does anything that is not a regular file
//! once symlinks are followed (FIFOs, sockets and devices would block a reader). Mounted ConfigMaps show
//! each file as a symlink through `..data`, which is itself hidden: following the visible links and
//! skipping the hidden directories reads every file once, always from the current generation.
//!
//! Invariant: the result is sorted by path and holds each path once, whatever order the kernel lists.

use std::collections::BTreeMap;
use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};

/// Most files that one set of roots may hold; what lies beyond is reported, not read.
pub const MAX_FILES: usize = 100_000;
/// Deepest nesting of directories below a root. Bounds symlink loops too.
pub const MAX_DEPTH: usize = 16;

/// Something in the way of reading a path. It concerns that path alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathProblem {
    /// The path concerned.
    pub path: PathBuf,
    /// What is wrong with it, for people.
    pub found: String,
    /// What is asked for instead.
    pub allowed: String,
}

/// The files below a set of roots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Configuration files, sorted, each once.
    pub files: Vec<PathBuf>,
    /// Every directory visited (the ones to watch), sorted, each once.
    pub directories: Vec<PathBuf>,
    /// What could not be listed, sorted by path.
    pub problems: Vec<PathProblem>,
}

/// Walks the roots. Never fails as a whole: what cannot be read becomes a [`PathProblem`].
pub fn walk(roots: &[PathBuf]) -> Tree {
    let mut walker = Walker::default();
    for root in roots {
        walker.root(root);
    }
    walker.finish()
}

/// True for a file name that a directory walk reads.
pub fn is_config_name(name: &str) -> bool {
    let hidden = name.starts_with('.');
    // vim's backup (`x~`), Emacs' autosave (`#x#`): a copy of a file beside it would define everything twice.
    let temporary = name.ends_with('~') || name.starts_with('#');
    let known = [".yaml", ".yml", ".json"].iter().any(|ext| name.len() > ext.len() && name.ends_with(ext));
    known && !hidden && !temporary
}

#[derive(Default)]
struct Walker {
    /// Value: true for a directory.
    seen: BTreeMap<PathBuf, bool>,
    files: usize,
    over_limit: bool,
    problems: Vec<PathProblem>,
}

impl Walker {
    fn root(&mut self, root: &Path) {
        match fs::metadata(root) {
            Ok(meta) if meta.is_dir() => self.directory(root, 0),
            Ok(meta) if meta.is_file() => self.file(root.to_path_buf()),
            Ok(meta) => self.problem(root, kind_of(meta.file_type()), "a regular file or a directory"),
            Err(error) => self.problem(root, &describe(&error), "a file or directory that can be read"),
        }
    }

    fn directory(&mut self, path: &Path, depth: usize) {
        if self.seen.insert(path.to_path_buf(), true).is_some() {
            return;
        }
        if depth >= MAX_DEPTH {
            return self.problem(path, "nested too deeply", &format!("at most {MAX_DEPTH} levels"));
        }
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.problem(path, &describe(&error), "a directory that can be listed"),
        };
        for entry in entries {
            match entry {
                Ok(entry) => self.entry(&entry.path(), depth),
                Err(error) => self.problem(path, &describe(&error), "a directory that can be listed"),
            }
        }
    }

    fn entry(&mut self, path: &Path, depth: usize) {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        if name.starts_with('.') {
            return;
        }
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => self.directory(path, depth + 1),
            Ok(meta) if meta.is_file() && is_config_name(&name) => self.file(path.to_path_buf()),
            // Anything else in a directory is somebody else's: other files, sockets, FIFOs.
            Ok(_) => {}
            // Gone between listing and looking: the next look will tell.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.problem(path, &describe(&error), "a file that can be read"),
        }
    }

    fn file(&mut self, path: PathBuf) {
        if self.files >= MAX_FILES {
            self.over_limit = true;
            return;
        }
        if self.seen.insert(path, false).is_none() {
            self.files += 1;
        }
    }

    fn problem(&mut self, path: &Path, found: &str, allowed: &str) {
        self.problems.push(PathProblem {
            path: path.to_path_buf(),
            found: found.into(),
            allowed: allowed.into(),
        });
    }

    fn finish(mut self) -> Tree {
        if self.over_limit {
            let root = self.seen.keys().next().cloned().unwrap_or_default();
            self.problem(&root, "more files than can be followed", &format!("at most {MAX_FILES}"));
        }
        self.problems.sort_by(|a, b| a.path.cmp(&b.path));
        self.problems.dedup();
        let (directories, files): (Vec<_>, Vec<_>) =
            self.seen.into_iter().partition(|(_, directory)| *directory);
        Tree {
            files: files.into_iter().map(|(path, _)| path).collect(),
            directories: directories.into_iter().map(|(path, _)| path).collect(),
            problems: self.problems,
        }
    }
}

fn kind_of(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match () {
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () if kind.is_block_device() || kind.is_char_device() => "a device",
        () => "something that is neither file nor directory",
    }
}

/// An I/O error in few words, without the number that `Display` adds.
pub(crate) fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "nothing there".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}
