//! The state directory: what was last accepted from each file, so that a restart accepts it again.
//!
//! One record per followed file: the texts that the file's objects in force were read from, newest first, and
//! which objects each text stands for. Usually that is the present text alone; a text stays as long as one of
//! its objects is kept because the file's newer text of it is not valid. Records hold text and not parsed
//! objects, so they outlive changes of our types, and reading one back is parsing it like any file.
//!
//! What it is not: a cache. A record is used only for a file that is there and in part cannot be accepted; a
//! file that is gone takes its record with it.
//!
//! Invariants:
//! * records appear by rename, whole or not at all, and carry a checksum; a damaged one is reported and
//!   ignored;
//! * nothing that goes wrong here keeps configuration from being followed;
//! * only files named `*.record` are ever removed.
//!
//! Not synced to disk one by one: a machine that loses power may lose the last records, never read half of one.

use crate::ledger::Claims;
use ostro_api::ObjectKey;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// Most texts in one record; past it the oldest text goes, and with it what only a restart would need it for.
pub const MAX_TEXTS: usize = 16;
/// Largest record read back. A record of [`MAX_TEXTS`] texts of ordinary size is far below.
const MAX_RECORD_BYTES: u64 = 256 << 20;
const FORMAT: u64 = 1;
const SUFFIX: &str = ".record";

/// What is wrong with the state directory. Nobody's configuration is at fault; the operator can mend it.
#[derive(Debug)]
pub enum StoreError {
    /// Could not be read or written. Worth trying again at the next change.
    Io(PathBuf, io::Error),
    /// Not what was written there. It is ignored, and replaced at the next change.
    Damaged(PathBuf, &'static str),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            StoreError::Damaged(path, why) => write!(f, "{}: damaged ({why}), ignored", path.display()),
        }
    }
}

impl std::error::Error for StoreError {}

/// A text and the objects it stands for, each as its key is displayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The whole file as it was when these objects were accepted.
    pub text: String,
    /// `Kind namespace/name`.
    pub objects: Vec<String>,
}

/// A state directory.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens a directory, making it if it is not there.
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        fs::create_dir_all(dir).map_err(|error| StoreError::Io(dir.to_path_buf(), error))?;
        Ok(Store { dir: dir.to_path_buf() })
    }

    /// What was last accepted from a file; empty if nothing is remembered.
    pub fn load(&self, file: &Path) -> Result<Vec<Kept>, StoreError> {
        let path = self.record(file);
        let damaged = |why| StoreError::Damaged(path.clone(), why);
        let bytes = match fs::metadata(&path)
            .and_then(|meta| if meta.len() > MAX_RECORD_BYTES { Ok(None) } else { fs::read(&path).map(Some) })
        {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(damaged("too large")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::Io(path, error)),
        };
        decode(&bytes).map_err(damaged)
    }

    /// Remembers what a file claims now: `accepted` from `text`, `kept` from what is remembered already.
    pub fn save(&self, file: &Path, text: Option<&str>, claims: &Claims) -> Result<(), StoreError> {
        let mut texts = Vec::new();
        if let Some(text) = text.filter(|_| !claims.accepted.is_empty()) {
            texts.push(Kept { text: text.to_string(), objects: shown(&claims.accepted) });
        }
        let mut trouble = None;
        if !claims.kept.is_empty() {
            match self.load(file) {
                Ok(older) => texts.extend(still_wanted(older, &claims.kept)),
                Err(error) => trouble = Some(error),
            }
        }
        texts.truncate(MAX_TEXTS);
        let written = if texts.is_empty() { self.remove(file) } else { self.write(file, &texts) };
        written.and(trouble.map_or(Ok(()), Err))
    }

    /// Forgets a file.
    pub fn remove(&self, file: &Path) -> Result<(), StoreError> {
        let path = self.record(file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::Io(path, error)),
            _ => Ok(()),
        }
    }

    /// Forgets every file for which `present` has no path.
    pub fn retain<'a>(&self, present: impl Iterator<Item = &'a Path>) -> Result<(), StoreError> {
        let wanted: BTreeSet<PathBuf> = present.map(|file| self.record(file)).collect();
        let failed = |error| StoreError::Io(self.dir.clone(), error);
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let ours = path.to_string_lossy().ends_with(SUFFIX);
            if ours && !wanted.contains(&path) {
                fs::remove_file(&path).map_err(|error| StoreError::Io(path, error))?;
            }
        }
        Ok(())
    }

    fn write(&self, file: &Path, texts: &[Kept]) -> Result<(), StoreError> {
        let path = self.record(file);
        let bytes = encode(file, texts);
        if fs::read(&path).is_ok_and(|present| present == bytes) {
            return Ok(());
        }
        let partial = path.with_extension("partial");
        let written = fs::write(&partial, &bytes).and_then(|()| fs::rename(&partial, &path));
        written.map_err(|error| StoreError::Io(path, error))
    }

    /// A record is found by its file's absolute path, so that a restart from elsewhere finds it too.
    fn record(&self, file: &Path) -> PathBuf {
        let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
        let name = xxh3_128(absolute.as_os_str().as_encoded_bytes());
        self.dir.join(format!("{name:032x}{SUFFIX}"))
    }
}

fn shown(keys: &[ObjectKey]) -> Vec<String> {
    keys.iter().map(ObjectKey::to_string).collect()
}

/// Of the remembered texts those that some kept object needs: each object from the newest text that has it.
fn still_wanted(older: Vec<Kept>, kept: &[ObjectKey]) -> Vec<Kept> {
    let mut wanted: BTreeSet<String> = shown(kept).into_iter().collect();
    let texts = older.into_iter().map(|old| {
        let objects = old.objects.into_iter().filter(|object| wanted.remove(object)).collect();
        Kept { text: old.text, objects }
    });
    texts.filter(|text| !text.objects.is_empty()).collect()
}

fn encode(file: &Path, texts: &[Kept]) -> Vec<u8> {
    let texts: Vec<Value> =
        texts.iter().map(|kept| json!({ "objects": kept.objects, "text": kept.text })).collect();
    // The file's name is for people who look into the directory.
    let body = json!({ "format": FORMAT, "file": file.to_string_lossy(), "texts": texts }).to_string();
    format!("{:016x}\n{body}\n", xxh3_64(body.as_bytes())).into_bytes()
}

fn decode(bytes: &[u8]) -> Result<Vec<Kept>, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8")?;
    let (sum, body) = text.split_once('\n').ok_or("no checksum")?;
    let body = body.strip_suffix('\n').ok_or("cut short")?;
    if sum != format!("{:016x}", xxh3_64(body.as_bytes())) {
        return Err("checksum does not fit");
    }
    let record: Value = serde_json::from_str(body).map_err(|_| "not JSON")?;
    if record.get("format").and_then(Value::as_u64) != Some(FORMAT) {
        return Err("another format");
    }
    let texts = record.get("texts").and_then(Value::as_array).ok_or("no texts")?;
    texts.iter().map(|kept| decode_text(kept).ok_or("a text without its objects")).collect()
}

fn decode_text(kept: &Value) -> Option<Kept> {
    let text = kept.get("text")?.as_str()?.to_string();
    let objects = kept.get("objects")?.as_array()?.iter().map(|object| object.as_str().map(String::from));
    Some(Kept { text, objects: objects.collect::<Option<_>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostro_api::Kind;
    use ostro_names::{Name, Namespace};

    fn key(name: &str) -> ObjectKey {
        ObjectKey { kind: Kind::Service, namespace: Namespace::new("ns"), name: Name::new(name) }
    }

    fn claims(accepted: &[&str], kept: &[&str]) -> Claims {
        let keys = |names: &[&str]| names.iter().map(|name| key(name)).collect();
        Claims { accepted: keys(accepted), kept: keys(kept) }
    }

    fn texts(store: &Store, file: &Path) -> Vec<(String, Vec<String>)> {
        store.load(file).unwrap().into_iter().map(|kept| (kept.text, kept.objects)).collect()
    }

    fn open() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("made/on/demand")).unwrap();
        (dir, store)
    }

    #[test]
    fn an_older_text_stays_as_long_as_an_object_needs_it() {
        let (_dir, store) = open();
        let file = Path::new("/etc/mesh/a.yaml");
        store.save(file, Some("one"), &claims(&["a", "b"], &[])).unwrap();
        store.save(file, Some("two"), &claims(&["a"], &["b"])).unwrap();
        let a = key("a").to_string();
        let b = key("b").to_string();
        assert_eq!(texts(&store, file), [("two".into(), vec![a.clone()]), ("one".into(), vec![b.clone()])]);
        store.save(file, None, &claims(&[], &["a", "b"])).unwrap();
        assert_eq!(texts(&store, file), [("two".into(), vec![a.clone()]), ("one".into(), vec![b.clone()])]);
        store.save(file, Some("three"), &claims(&["a", "b"], &[])).unwrap();
        assert_eq!(texts(&store, file), [("three".into(), vec![a, b])]);
    }

    #[test]
    fn a_file_without_objects_leaves_no_record() {
        let (_dir, store) = open();
        let file = Path::new("/etc/mesh/a.yaml");
        store.save(file, Some("one"), &claims(&["a"], &[])).unwrap();
        store.save(file, Some("two"), &claims(&[], &[])).unwrap();
        assert_eq!(fs::read_dir(&store.dir).unwrap().count(), 0);
    }

    #[test]
    fn only_records_of_absent_files_go() {
        let (_dir, store) = open();
        let (a, b) = (Path::new("/a.yaml"), Path::new("/b.yaml"));
        store.save(a, Some("a"), &claims(&["a"], &[])).unwrap();
        store.save(b, Some("b"), &claims(&["b"], &[])).unwrap();
        let foreign = store.dir.join("notes.txt");
        fs::write(&foreign, "mine").unwrap();
        store.retain([b].into_iter()).unwrap();
        assert!(texts(&store, a).is_empty() && !texts(&store, b).is_empty() && foreign.exists());
    }

    #[test]
    fn damage_of_any_one_byte_is_noticed() {
        let (_dir, store) = open();
        let file = Path::new("/a.yaml");
        store.save(file, Some("kind: Service"), &claims(&["a"], &[])).unwrap();
        let whole = fs::read(store.record(file)).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x20;
            assert!(decode(&bytes).is_err(), "byte {at} of {}", String::from_utf8_lossy(&whole));
            assert!(decode(&whole[..at]).is_err(), "cut at {at}");
        }
        assert!(decode(&whole).is_ok());
    }

    #[test]
    fn a_record_keeps_a_bounded_number_of_texts() {
        let (_dir, store) = open();
        let file = Path::new("/a.yaml");
        let names: Vec<String> = (0..MAX_TEXTS + 5).map(|i| format!("o{i:02}")).collect();
        for (i, name) in names.iter().enumerate() {
            let kept: Vec<&str> = names[..i].iter().map(String::as_str).collect();
            store.save(file, Some(name), &claims(&[name], &kept)).unwrap();
        }
        assert_eq!(texts(&store, file).len(), MAX_TEXTS);
    }
}
