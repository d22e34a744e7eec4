//! One look at files, without following them: what a control plane would accept of them, and what it would say.

use crate::ledger::{Ledger, Reading};
use crate::notice::{Notice, Notices};
use crate::read::{self, Content};
use crate::{follow, tree};
use ostro_api::{Complaint, Object, Severity};
use std::path::PathBuf;
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

/// Reads everything below the paths once. A path that is not there is an error: nobody is going to wait for it.
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
    let mut notices = Notices::default();
    Checked {
        files: tree.files.len(),
        notices: update.upserts.iter().filter_map(|object| notices.about(object)).collect(),
        objects: update.upserts,
        complaints: update.complaints,
    }
}
