//! Which files are configuration: a walk over the paths that a user named.
//!
//! A file named outright is read whatever its name; inside a directory only `.yaml`, `.yml` and `.json`
//! count, hidden names and editors' temporary files do not, nor does anything that is not a regular file
//! once symlinks are followed (FIFOs, sockets and devices would block a reader). Mounted ConfigMaps show
//! each file as a symlink through `..data`, which is itself hidden: following the visible links and
//! skipping the hidden directories reads every file once, always from the current generation.
//!
//! Invariant: the result is sorted by path and holds each path once, whatever order the kernel lists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most files and directories that one set of roots may hold; what lies beyond is reported, not read.
pub const MAX_PATHS: usize = 100_000;
/// Deepest nesting of directories below a root.
pub const MAX_DEPTH: usize = 16;

/// What is found in a directory that has no file to read.
pub const NOTHING_TO_READ: &str = "no .yaml, .yml or .json file in this directory";
/// What is asked for instead.
pub const SOMETHING_TO_READ: &str = "a directory that has some; `ls` it: is it the right one?";

/// Something in the way of reading a path. It concerns that path alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathProblem {
    /// The path concerned.
    pub path: PathBuf,
    /// What is wrong with it, for people.
    pub found: String,
    /// What is asked for instead.
    pub allowed: String,
    /// True if what is wrong is that nothing is there.
    pub absent: bool,
}

/// The files below a set of roots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Configuration files, sorted, each once.
    pub files: Vec<PathBuf>,
    /// Every directory visited (the ones to watch), sorted, each once.
    pub directories: Vec<PathBuf>,
    /// What could not be listed or followed, sorted by path.
    pub problems: Vec<PathProblem>,
}

impl Tree {
    /// True for a path that may well be there, although the walk did not see it: it lies at or below one that
    /// could not be looked at. A root that is not there is no such case: what was below it is gone.
    pub fn may_hide(&self, path: &Path) -> bool {
        self.problems.iter().any(|problem| !problem.absent && path.starts_with(&problem.path))
    }
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
    inodes: BTreeSet<(u64, u64)>,
    over_limit: bool,
    problems: Vec<PathProblem>,
}

impl Walker {
    fn root(&mut self, root: &Path) {
        match fs::metadata(root) {
            Ok(meta) if meta.is_dir() => self.directory(root, &meta, 0),
            Ok(meta) if meta.is_file() => self.file(root),
            Ok(meta) => self.problem(root, kind_of(meta.file_type()), "a regular file or a directory"),
            Err(error) => self.problems.push(PathProblem {
                path: root.to_path_buf(),
                found: describe(&error),
                allowed: "a file or directory that can be read".into(),
                absent: error.kind() == io::ErrorKind::NotFound,
            }),
        }
    }

    fn directory(&mut self, path: &Path, meta: &Metadata, depth: usize) {
        // A directory reached twice (a link to a parent, two roots) is read under the name that came first.
        if !self.inodes.insert((meta.dev(), meta.ino())) || !self.admit(path, true) {
            return;
        }
        if depth >= MAX_DEPTH {
            return self.problem(path, "nested too deeply", &format!("at most {MAX_DEPTH} levels"));
        }
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.problem(path, &describe(&error), "a directory that can be listed"),
        };
        let mut children = Vec::new();
        for entry in entries {
            match entry {
                Ok(entry) => children.push(entry.path()),
                Err(error) => self.problem(path, &describe(&error), "a directory that can be listed"),
            }
        }
        children.sort();
        for child in children {
            self.entry(&child, depth);
        }
    }

    fn entry(&mut self, path: &Path, depth: usize) {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        if name.starts_with('.') {
            return;
        }
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => self.directory(path, &meta, depth + 1),
            Ok(meta) if meta.is_file() && is_config_name(&name) => self.file(path),
            // Anything else in a directory is somebody else's: other files, sockets, FIFOs.
            Ok(_) => {}
            // Gone between listing and looking: the next look will tell.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.problem(path, &describe(&error), "a file that can be read"),
        }
    }

    fn file(&mut self, path: &Path) {
        match path.to_str() {
            Some(_) => _ = self.admit(path, false),
            None => self.problem(path, "a name that is not UTF-8", "a file name in UTF-8"),
        }
    }

    /// Takes a path in, if there is room. False if not.
    fn admit(&mut self, path: &Path, directory: bool) -> bool {
        let room = self.seen.len() < MAX_PATHS;
        if room {
            self.seen.insert(path.to_path_buf(), directory);
        }
        self.over_limit |= !room;
        room
    }

    fn problem(&mut self, path: &Path, found: &str, allowed: &str) {
        self.problems.push(PathProblem {
            path: path.to_path_buf(),
            found: found.into(),
            allowed: allowed.into(),
            absent: false,
        });
    }

    fn finish(mut self) -> Tree {
        if self.over_limit {
            let root = self.seen.keys().next().cloned().unwrap_or_default();
            self.problem(
                &root,
                "more files and directories than can be followed",
                &format!("at most {MAX_PATHS}"),
            );
        }
        self.problems.sort();
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(dir: &Path, paths: &[PathBuf]) -> Vec<String> {
        paths.iter().map(|path| path.strip_prefix(dir).unwrap().display().to_string()).collect()
    }

    fn walked(dir: &tempfile::TempDir) -> (Vec<String>, Tree) {
        let tree = walk(&[dir.path().to_path_buf()]);
        (names(dir.path(), &tree.files), tree)
    }

    fn touch(dir: &tempfile::TempDir, name: &str) {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    #[test]
    fn only_configuration_is_read_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "sub/c.json", "notes.txt", ".hidden.yaml", ".git/d.yaml", "e.yaml~"] {
            touch(&dir, name);
        }
        for name in ["#f.yaml#", ".g.yaml.swp", ".yaml", "h.yaml.bak"] {
            touch(&dir, name);
        }
        let (files, tree) = walked(&dir);
        assert_eq!(files, ["a.yml", "b.yaml", "sub/c.json"]);
        assert_eq!(tree.problems, []);
        assert_eq!(names(dir.path(), &tree.directories), ["", "sub"]);
    }

    #[test]
    fn a_mounted_config_map_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        touch(&dir, "..2024_01_01/a.yaml");
        symlink("..2024_01_01", dir.path().join("..data")).unwrap();
        symlink("..data/a.yaml", dir.path().join("a.yaml")).unwrap();
        assert_eq!(walked(&dir).0, ["a.yaml"]);
    }

    #[test]
    fn what_is_not_a_file_is_passed_over_in_a_directory_and_named_as_a_root() {
        let dir = tempfile::tempdir().unwrap();
        touch(&dir, "a.yaml");
        let socket = dir.path().join("socket.yaml");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let (files, tree) = walked(&dir);
        assert_eq!((files, tree.problems), (vec!["a.yaml".to_string()], vec![]));
        let named = walk(&[socket, dir.path().join("none")]);
        let found: Vec<_> =
            named.problems.iter().map(|problem| (problem.found.as_str(), problem.absent)).collect();
        assert_eq!(found, [("nothing there", true), ("a socket", false)]);
    }

    #[test]
    fn links_in_a_circle_end() {
        let dir = tempfile::tempdir().unwrap();
        touch(&dir, "sub/a.yaml");
        symlink("..", dir.path().join("sub/up")).unwrap();
        symlink("loop.yaml", dir.path().join("loop.yaml")).unwrap();
        let (files, tree) = walked(&dir);
        assert_eq!(files, ["sub/a.yaml"]);
        assert_eq!(tree.problems.len(), 1, "{:?}", tree.problems);
        assert!(tree.may_hide(&dir.path().join("loop.yaml")) && !tree.may_hide(&dir.path().join("b.yaml")));
    }

    #[test]
    fn a_file_named_outright_is_read_whatever_its_name() {
        let dir = tempfile::tempdir().unwrap();
        touch(&dir, ".mesh.conf");
        let file = dir.path().join(".mesh.conf");
        assert_eq!(walk(&[file.clone(), file.clone()]).files, [file]);
    }
}
