//! A file to objects and complaints: the entry to this crate.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use ostro_names::limits;

use crate::chunk;
use crate::complaint::Complaint;
use crate::decode::{At, Sink};
use crate::document;
use crate::json;
use crate::mesh_config::MeshConfig;
use crate::object::{Object, ObjectKey, Origin};
use crate::tree::Mark;
use crate::validate;
use crate::yaml::{self, Document, Fault, Place};

/// What a file says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parsed {
    /// Objects without errors, in the order of the file.
    pub objects: Vec<Object>,
    /// Everything that is wrong, in the order of the file. An object with an error is not in
    /// `objects`; its key, if it could be read, is in the complaint.
    pub complaints: Vec<Complaint>,
}

/// Reads multi-document YAML or JSON. Never fails as a whole unless the file is larger than
/// [`limits::FILE_BYTES`]: what is wrong with one document does not touch the others.
///
/// `file` is how complaints and origins call it.
pub fn parse_file(file: impl Into<Arc<str>>, bytes: &[u8]) -> Parsed {
    let sink = Sink::new(file.into());
    let mut reader = Reader { sink: &sink, objects: Vec::new(), seen: HashMap::new(), read: 0 };
    reader.file(bytes);
    let objects = reader.objects;
    Parsed { objects, complaints: sink.finish() }
}

/// Reads a bare MeshConfig, as it stands under `mesh` in the ConfigMap `istio`. Complaints do not
/// make it unusable: what could not be read has its default.
pub fn parse_mesh_config(file: impl Into<Arc<str>>, bytes: &[u8]) -> (MeshConfig, Vec<Complaint>) {
    let sink = Sink::new(file.into());
    let mut config = MeshConfig::default();
    let mut nodes = limits::FILE_NODES;
    for chunk in chunk::split(bytes).into_iter().take(1) {
        for document in documents(chunk.bytes, chunk.lines_before, &mut nodes) {
            document.faults.into_iter().for_each(|fault| sink.fault(fault));
            if let Some(root) = &document.root {
                config = document::mesh_config(&At::root(&sink, root));
            }
        }
    }
    (config, sink.finish())
}

struct Reader<'a> {
    sink: &'a Sink,
    objects: Vec<Object>,
    /// Line of each object of the file so far, refused ones too.
    seen: HashMap<ObjectKey, u32>,
    read: usize,
}

impl Reader<'_> {
    fn file(&mut self, bytes: &[u8]) {
        // A byte order mark says nothing in UTF-8.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if bytes.len() > limits::FILE_BYTES {
            let line = bytes.iter().take(limits::FILE_BYTES).filter(|&&b| b == b'\n').count();
            let mark = Mark { line: u32::try_from(line + 1).unwrap_or(u32::MAX), column: 0 };
            let found = "a file beyond the limit of size; nothing of it is read";
            let allowed = format!("{} MiB, which end in this line: split it", limits::FILE_BYTES >> 20);
            self.sink.fault(Fault::error(mark, found, allowed));
            return;
        }
        let mut nodes = limits::FILE_NODES;
        for chunk in chunk::split(bytes) {
            for document in documents(chunk.bytes, chunk.lines_before, &mut nodes) {
                self.document(document);
            }
            if self.read > limits::FILE_DOCUMENTS {
                return;
            }
        }
    }

    /// One object, or a list of them.
    fn document(&mut self, document: Document) {
        let Document { root, mut faults } = document;
        self.sink.begin();
        let Some(root) = root else {
            faults.into_iter().for_each(|fault| self.sink.fault(fault));
            return;
        };
        let at = At::root(self.sink, &root);
        let items = at.field("items");
        let is_list = at.field("kind").text().is_some_and(|kind| kind.ends_with("List"));
        if !is_list || (items.is_set() && !items.is_list()) {
            self.object(&at, faults);
            return;
        }
        for index in 0..items.len() {
            let prefix = format!("items[{index}]");
            let its = faults.extract_if(.., |fault| fault.path.starts_with(&prefix)).collect();
            self.object(&items.item(index), its);
        }
        self.sink.begin();
        faults.into_iter().for_each(|fault| self.sink.fault(fault));
    }

    /// One object; `faults` are those of its text.
    fn object(&mut self, at: &At<'_>, faults: Vec<Fault>) {
        self.sink.begin();
        if !at.is_set() && faults.is_empty() {
            return;
        }
        let first = self.sink.len();
        self.read += 1;
        if self.read > limits::FILE_DOCUMENTS {
            if self.read == limits::FILE_DOCUMENTS + 1 {
                let found = format!("more than {} objects in one file", limits::FILE_DOCUMENTS);
                at.complain(found, "as many: split the file; the rest of it is not read");
            }
            return;
        }
        faults.into_iter().for_each(|fault| self.sink.fault(fault));
        let Some(header) = document::header(at) else { return };
        let key = header.meta.key();
        self.sink.name(key, first);
        let line = at.mark().line;
        match self.seen.entry(key) {
            Entry::Occupied(earlier) => {
                let allowed = format!("one (the first is in line {})", earlier.get());
                at.field("metadata").field("name").complain(format!("a second {key}"), allowed);
            }
            Entry::Vacant(free) => {
                free.insert(line);
            }
        }
        let spec = document::spec(at, &header);
        self.sink.judge(first);
        validate::object(at, &header.meta, &spec);
        if !self.sink.refused() {
            let origin = Origin { file: self.sink.file().clone(), line };
            self.objects.push(Object { meta: header.meta, origin, spec });
        }
    }
}

/// The documents of a part of a file; text that is not UTF-8 is one that could not be built.
pub(crate) fn documents(bytes: &[u8], lines_before: u32, nodes: &mut usize) -> Vec<Document> {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            let json = json::looks_like_json(text).then(|| json::parse(text, lines_before, nodes)).flatten();
            json.unwrap_or_else(|| yaml::parse(text, Place::Lines(lines_before), nodes))
        }
        Err(error) => {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let bad = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
            let line = good.iter().filter(|&&b| b == b'\n').count();
            let column = good.iter().rev().take_while(|&&b| b != b'\n').count();
            let mark = Mark {
                line: u32::try_from(line).unwrap_or(u32::MAX).saturating_add(lines_before + 1),
                column: u32::try_from(column + 1).unwrap_or(u32::MAX),
            };
            let fault = Fault::error(mark, format!("the byte 0x{bad:02x}, which is not UTF-8"), "UTF-8");
            vec![Document { root: None, faults: vec![fault] }]
        }
    }
}
