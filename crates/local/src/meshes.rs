//! The meshes of one user on this machine, by name: where each keeps its state, which of them run, and what
//! a killed one left behind.
//!
//! A mesh's directory is `BASE/NAME`; `BASE` is `/run/ostro` for root, else `$XDG_RUNTIME_DIR/ostro`, else
//! `/tmp/ostro-UID`. It goes with the mesh, unless the user chose it (`--state-dir`): then `BASE/NAME` is a
//! link to it, and only the link goes.
//!
//! Invariants:
//! * A mesh runs if and only if somebody holds the lock of its directory; the kernel lets go of it with the
//!   last process that has it, however that ended.
//! * Nothing is removed without holding that lock.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{FlockOperation, flock};

/// The mesh that commands mean unless told another.
pub const DEFAULT_NAME: &str = "default";
/// Held while the mesh runs.
pub const LOCK: &str = "lock";
/// Where commands reach the mesh.
pub const SOCKET: &str = "api.sock";
/// Longest name: with it the path of the socket fits into what the kernel takes (107 bytes).
const NAME_MAX: usize = 32;

/// A mesh's name: lower case letters, digits and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MeshName(String);

impl MeshName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for the mesh that commands mean unless told another.
    pub fn is_default(&self) -> bool {
        self.0 == DEFAULT_NAME
    }
}

impl fmt::Display for MeshName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Not a name for a mesh. The user's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a mesh's name has lower case letters, digits and -, {NAME_MAX} at most, and begins with a letter")]
pub struct NameError;

impl FromStr for MeshName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let letters = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
        match letters && begins && text.len() <= NAME_MAX {
            true => Ok(Self(text.to_owned())),
            false => Err(NameError),
        }
    }
}

/// Why a mesh's directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MeshesError {
    /// A file or directory. The machine's, or a wrong `--state-dir`.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A mesh of this name runs. The user's to mend, by another name or by ending it.
    #[error(
        "a mesh named `{0}` runs already\n  use it:           ostro ps{name}\n  end it:           ostro \
         down{name}\n  start another:    ostro up --name OTHER ...",
        name = name_option(.0)
    )]
    Runs(MeshName),
    /// The directory that was chosen is in use by a mesh of another name. The user's to mend.
    #[error("{0} is in use by another mesh; choose another directory with --state-dir")]
    InUse(PathBuf),
    /// The directory of meshes belongs to somebody else. A matter of safety, never of chance.
    #[error("{path} belongs to uid {owner}, not to you; remove it, or set XDG_RUNTIME_DIR")]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
}

/// ` --name NAME`, where it has to be said.
pub fn name_option(name: &MeshName) -> String {
    if name.is_default() { String::new() } else { format!(" --name {name}") }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> MeshesError {
    let path = path.to_owned();
    move |source| MeshesError::File { path, source }
}

/// How it stands with a mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Somebody holds its lock.
    Held,
    /// It is over, and left its directory: it was killed.
    Left,
    /// There is none.
    None,
    /// There is one of this name, but it is another user's.
    Foreign {
        /// Whose.
        owner: u32,
    },
}

/// The meshes of this user.
#[derive(Clone, Debug)]
pub struct Meshes {
    base: PathBuf,
    uid: u32,
}

impl Meshes {
    /// Of the user that runs this process. To be called before any user namespace is entered: in one,
    /// everybody is root.
    pub fn of_this_user() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let own = |dir: &PathBuf| fs::metadata(dir).is_ok_and(|meta| meta.is_dir() && meta.uid() == uid);
        let runtime = || std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(own);
        let base = match uid {
            0 => PathBuf::from("/run/ostro"),
            _ => runtime().map_or_else(|| format!("/tmp/ostro-{uid}").into(), |dir| dir.join("ostro")),
        };
        Self { base, uid }
    }

    /// True if they are root's.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Where the mesh's state is found.
    pub fn dir(&self, name: &MeshName) -> PathBuf {
        self.base.join(name.as_str())
    }

    /// The names of meshes that run, or left something, in order.
    pub fn names(&self) -> Result<Vec<MeshName>, MeshesError> {
        let entries = match fs::read_dir(&self.base) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(at(&self.base))?,
        };
        let mut names: Vec<MeshName> =
            entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// How it stands with the mesh.
    pub fn standing(&self, name: &MeshName) -> Standing {
        let dir = self.dir(name);
        match fs::symlink_metadata(&dir) {
            Ok(_) => match try_lock(&dir.join(LOCK), false) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Standing::Held,
                _ => Standing::Left,
            },
            Err(_) => self.of_others(name).map_or(Standing::None, |owner| Standing::Foreign { owner }),
        }
    }

    /// The owner of another user's mesh of this name, as far as it can be seen.
    fn of_others(&self, name: &MeshName) -> Option<u32> {
        let users = fs::read_dir("/run/user").into_iter().flatten().flatten();
        let temporary = fs::read_dir("/tmp").into_iter().flatten().flatten();
        let bases = users.map(|entry| entry.path().join("ostro")).chain(
            temporary
                .map(|entry| entry.path())
                .filter(|path| path.to_string_lossy().starts_with("/tmp/ostro-")),
        );
        let mut owners: Vec<u32> = std::iter::once(PathBuf::from("/run/ostro"))
            .chain(bases)
            .filter_map(|base| fs::symlink_metadata(base.join(name.as_str())).ok())
            .map(|meta| meta.uid())
            .filter(|owner| *owner != self.uid)
            .collect();
        owners.sort_unstable();
        owners.first().copied()
    }

    /// Makes the directory of a mesh that is about to start; what a killed one of its name left is removed.
    /// `chosen` is kept when the mesh ends.
    pub fn lay(&self, name: &MeshName, chosen: Option<&Path>) -> Result<Ground, MeshesError> {
        self.make_base()?;
        let known = self.dir(name);
        self.clean(name)?;
        let Some(chosen) = chosen else {
            make_private(&known).map_err(at(&known))?;
            return Ok(Ground { name: name.clone(), meshes: self.clone(), dir: known });
        };
        make_private(chosen).map_err(at(chosen))?;
        let dir = chosen.canonicalize().map_err(at(chosen))?;
        if try_lock(&dir.join(LOCK), true).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock) {
            return Err(MeshesError::InUse(dir));
        }
        symlink(&dir, &known).map_err(at(&known))?;
        Ok(Ground { name: name.clone(), meshes: self.clone(), dir })
    }

    /// Removes what a mesh that is over has left. True if there was something.
    pub fn clean(&self, name: &MeshName) -> Result<bool, MeshesError> {
        let known = self.dir(name);
        let Ok(meta) = fs::symlink_metadata(&known) else { return Ok(false) };
        let lock = match try_lock(&known.join(LOCK), false) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(MeshesError::Runs(name.clone()));
            }
            // A directory without a lock is of a mesh that never came to run.
            lock => lock.ok(),
        };
        if meta.is_symlink() {
            // What the user chose to keep is kept, but nobody answers there.
            remove(&known.join(SOCKET)).map_err(at(&known))?;
            fs::remove_file(&known).map_err(at(&known))?;
        } else {
            fs::remove_dir_all(&known).map_err(at(&known))?;
        }
        drop(lock);
        // The last one; with others in it, it stays.
        let _ = fs::remove_dir(&self.base);
        Ok(true)
    }

    /// Names of root's meshes may be seen by everybody, so that commands can tell whose a mesh is.
    fn make_base(&self) -> Result<(), MeshesError> {
        fs::create_dir_all(&self.base).map_err(at(&self.base))?;
        let meta = fs::symlink_metadata(&self.base).map_err(at(&self.base))?;
        if meta.uid() != self.uid || !meta.is_dir() {
            return Err(MeshesError::Foreign { path: self.base.clone(), owner: meta.uid() });
        }
        fs::set_permissions(&self.base, Permissions::from_mode(0o755)).map_err(at(&self.base))
    }
}

/// The directory of a mesh that starts or runs.
#[derive(Clone, Debug)]
pub struct Ground {
    name: MeshName,
    meshes: Meshes,
    /// Where the mesh writes.
    pub dir: PathBuf,
}

impl Ground {
    /// Removes what is not to be kept. To be called when the mesh is over; while it runs nothing happens.
    pub fn release(self) {
        match self.meshes.clean(&self.name) {
            Ok(_) | Err(MeshesError::Runs(_)) => {}
            Err(error) => tracing::warn!(%error, "the mesh's directory was not removed"),
        }
    }
}

fn make_private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The lock, if nobody holds it; `WouldBlock` if somebody does.
pub fn try_lock(path: &Path, create: bool) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meshes(dir: &tempfile::TempDir) -> Meshes {
        Meshes { base: dir.path().join("base"), uid: rustix::process::geteuid().as_raw() }
    }

    fn name(text: &str) -> MeshName {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_labels() {
        for good in ["default", "a", "mesh-2"] {
            assert!(good.parse::<MeshName>().is_ok(), "{good}");
        }
        for bad in ["", "2a", "-a", "A", "a/b", "..", "a.b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
            assert!(bad.parse::<MeshName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_directory_of_its_own_goes_with_the_mesh() {
        let dir = tempfile::tempdir().unwrap();
        let meshes = meshes(&dir);
        assert_eq!(meshes.standing(&name("a")), Standing::None);
        let ground = meshes.lay(&name("a"), None).unwrap();
        assert_eq!(fs::metadata(&ground.dir).unwrap().permissions().mode() & 0o777, 0o700);
        let lock = try_lock(&ground.dir.join(LOCK), true).unwrap();
        assert_eq!(meshes.standing(&name("a")), Standing::Held);
        assert!(matches!(meshes.lay(&name("a"), None), Err(MeshesError::Runs(_))));
        assert!(meshes.lay(&name("b"), None).is_ok(), "another name");
        drop(lock);
        assert_eq!(meshes.standing(&name("a")), Standing::Left);
        ground.release();
        assert_eq!(meshes.standing(&name("a")), Standing::None);
        assert_eq!(meshes.names().unwrap(), [name("b")]);
    }

    #[test]
    fn a_chosen_directory_is_kept_and_found_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let meshes = meshes(&dir);
        let chosen = dir.path().join("chosen");
        let ground = meshes.lay(&name("a"), Some(&chosen)).unwrap();
        let lock = try_lock(&chosen.join(LOCK), true).unwrap();
        assert_eq!(meshes.standing(&name("a")), Standing::Held);
        assert!(matches!(meshes.lay(&name("b"), Some(&chosen)), Err(MeshesError::InUse(_))));
        drop(lock);
        fs::write(chosen.join("control.log"), "kept").unwrap();
        ground.release();
        assert_eq!(meshes.standing(&name("a")), Standing::None);
        assert!(chosen.join("control.log").exists());
    }

    #[test]
    fn what_a_killed_mesh_left_is_gone_when_the_next_starts() {
        let dir = tempfile::tempdir().unwrap();
        let meshes = meshes(&dir);
        let killed = meshes.lay(&name("a"), None).unwrap();
        drop(try_lock(&killed.dir.join(LOCK), true).unwrap());
        fs::create_dir_all(killed.dir.join("applied")).unwrap();
        fs::write(killed.dir.join("applied/x.json"), "{}").unwrap();
        let next = meshes.lay(&name("a"), None).unwrap();
        assert!(!next.dir.join("applied").exists());
    }
}
