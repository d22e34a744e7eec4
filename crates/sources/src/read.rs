//! One file's bytes, under a limit and without ever blocking on what only looks like a file.

use crate::tree::describe;
use ostro_api::{Complaint, Severity};
use ostro_names::limits::FILE_BYTES;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Signature {
    /// Of a file, symlinks followed.
    pub fn of(path: &Path) -> io::Result<Signature> {
        std::fs::metadata(path).map(|meta| Signature::from(&meta))
    }
}

impl From<&Metadata> for Signature {
    fn from(meta: &Metadata) -> Signature {
        Signature {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// What reading a path came to.
#[derive(Debug)]
pub enum Content {
    /// The bytes of a regular file.
    Bytes(Vec<u8>),
    /// Nothing there.
    Gone,
    /// Something there that cannot be used.
    Unusable(Complaint),
}

/// Reads a file of at most [`FILE_BYTES`].
pub fn read(path: &Path) -> Content {
    match open_and_read(path) {
        Ok(Ok(bytes)) => Content::Bytes(bytes),
        Ok(Err((found, allowed))) => Content::Unusable(about_file(path, found, allowed)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Content::Gone,
        Err(error) => Content::Unusable(about_file(path, describe(&error), "a file that can be read".into())),
    }
}

type Refusal = (String, String);

fn open_and_read(path: &Path) -> io::Result<Result<Vec<u8>, Refusal>> {
    // Not blocking: a FIFO put in a file's place between listing and opening would hold us for good.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Ok(Err(("not a regular file".into(), "a regular file".into())));
    }
    if meta.len() > FILE_BYTES as u64 {
        return Ok(Err(too_large(meta.len())));
    }
    read_bounded(file, meta.len())
}

fn read_bounded(file: File, expected: u64) -> io::Result<Result<Vec<u8>, Refusal>> {
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
    file.take(FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(if bytes.len() > FILE_BYTES { Err(too_large(bytes.len() as u64)) } else { Ok(bytes) })
}

fn too_large(bytes: u64) -> Refusal {
    (format!("a file of {bytes} bytes"), format!("at most {FILE_BYTES} bytes; split it"))
}

/// A complaint about a file as a whole.
pub fn about_file(path: &Path, found: String, allowed: String) -> Complaint {
    Complaint {
        file: path.to_string_lossy().into(),
        line: 0,
        column: 0,
        object: None,
        path: String::new(),
        found,
        allowed,
        severity: Severity::Error,
    }
}
