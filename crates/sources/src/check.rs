//! One look at files, without following them: what a control plane would accept of them, and what it would say.

use crate::ledger::{Ledger, Reading};
use crate::notice::{Notice, Notices};
use crate::read::{self, Content};
use crate::{follow, tree};
use ostro_api::{Complaint, Object, Severity};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What one look came to.
#[derive(Debug, Default)]
pub struct Checked {
    /// Files read, or tried.
    pub files: usize,
    /// What would be in force, sorted by key.
    pub objects: Vec<Arc<Object>>,
    /// Everything wrong, by file and line.
    pub complaints: Vec<Complaint>,
    /// Accepted, and not acted upon.
    pub notices: Vec<Notice>,
}

impl Checked {
    /// How many complaints are errors: each costs an object, or a file, its place in the mesh.
    pub fn errors(&self) -> usize {
        self.complaints.iter().filter(|complaint| complaint.severity == Severity::Error).count()
    }
}

/// A directory without anything to read is not what somebody meant who asks about it.
fn empty(path: &Path) -> Option<Complaint> {
    let tree = tree::walk(&[path.to_owned()]);
    let (found, allowed) = (tree::NOTHING_TO_READ, tree::SOMETHING_TO_READ);
    (tree.files.is_empty() && tree.problems.is_empty())
        .then(|| read::about_file(path, found.to_owned(), allowed.to_owned()))
}

/// Reads everything below the paths once. A path that is not there, or holds nothing, is an error: nobody is
/// going to wait for it.
pub fn check(paths: &[PathBuf]) -> Checked {
    let tree = tree::walk(paths);
    let mut ledger = Ledger::default();
    for problem in &tree.problems {
        ledger.complain(follow::complaint_about(problem));
    }
    for path in &tree.files {
        let file: Arc<str> = path.to_string_lossy().into();
        let reading = match read::read(path) {
            Content::Gone => Reading::Gone,
            Content::Unusable(complaint) => Reading::Unreadable(complaint),
            Content::Bytes(bytes) => {
                let parsed = ostro_api::parse_file(file.clone(), &bytes);
                Reading::Text { objects: parsed.objects, complaints: parsed.complaints }
            }
        };
        ledger.fold(&file, reading);
    }
    let update = ledger.settle();
    let (mut checked, mut notices) =
        (Checked { files: tree.files.len(), ..Checked::default() }, Notices::default());
    checked.complaints = update.complaints;
    for object in update.upserts {
        match notices.about(&object) {
            // To somebody who asks, it is an error.
            Some(Notice::Slip(complaint)) => {
                checked.complaints.push(*complaint);
                continue;
            }
            notice => checked.notices.extend(notice),
        }
        checked.objects.push(object);
    }
    checked.complaints.extend(paths.iter().filter_map(|path| empty(path)));
    checked
}
