//! The objects that a mesh was given by `ostro apply`: one file each in a directory that the mesh follows like
//! any of the user's.
//!
//! Invariants:
//! * All or nothing: every text is read and judged before the first file is touched.
//! * What the user wrote in files of his own is never hidden or taken away by what is applied: those objects
//!   are refused here, and the file is named.
//! * A file appears, changes and goes whole.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use http::StatusCode;
use ostro_api::{Object, ObjectKey, Parsed, Severity, similar};
use ostro_sources::notice::Notices;
use serde_json::Value;

use super::body::Refused;
use super::view::{Applied, Apply, Change, Delete, Key, Refusal, Text, Verb};
use crate::wishes::InForce;

/// Objects kept; as many as one file of the user's may hold.
const OBJECTS_MAX: usize = 20_000;
/// Objects that a message lists.
const LISTED_MAX: usize = 10;
/// Longest file name that names its object; a longer one is cut and numbered.
const FILE_NAME_MAX: usize = 200;

/// The directory and what is in it.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    texts: BTreeMap<ObjectKey, (PathBuf, String)>,
}

/// An object about to be put in force.
struct Wanted {
    key: ObjectKey,
    text: String,
}

impl Store {
    /// The store in `dir`, with what an earlier mesh of this directory has kept there.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut texts = BTreeMap::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let Ok(text) = fs::read_to_string(&path) else { continue };
            for object in ostro_api::parse_file(path.to_string_lossy().as_ref(), text.as_bytes()).objects {
                texts.insert(object.key(), (path.clone(), text.clone()));
            }
        }
        Ok(Self { dir: dir.to_owned(), texts })
    }

    /// Puts objects in force.
    pub fn apply(&mut self, apply: &Apply, in_force: &InForce) -> Result<Applied, Refused> {
        let mut read = Read::default();
        for file in &apply.files {
            read.file(file, apply.namespace.as_deref());
        }
        for wanted in &read.wanted {
            if apply.create && self.texts.contains_key(&wanted.key) {
                read.errors.push(taken(wanted.key));
            }
            if let Some(own) = self.written_elsewhere(wanted.key, in_force) {
                let instead = match apply.create {
                    true => "choose another name, or edit that file",
                    false => "edit that file, or take it out of it before you apply it",
                };
                let (origin, key) = (&own.origin, wanted.key);
                read.errors
                    .push(format!("{origin}: {key} is written there, which the mesh follows: {instead}"));
            }
        }
        let new = read.wanted.iter().filter(|wanted| !self.texts.contains_key(&wanted.key)).count();
        if self.texts.len() + new > OBJECTS_MAX {
            read.errors
                .push(format!("more than {OBJECTS_MAX} objects applied; keep them in files and use -f"));
        }
        if read.wanted.is_empty() && read.errors.is_empty() {
            let names: Vec<&str> = apply.files.iter().map(|file| file.name.as_str()).collect();
            return Err(refuse(format!("no objects in {}", names.join(", ")), Vec::new()));
        }
        if !read.errors.is_empty() {
            return Err(refuse("nothing was applied:".to_owned(), read.errors));
        }
        let mut objects = Vec::new();
        for Wanted { key, text } in read.wanted {
            let change = self.put(key, text).map_err(|error| failed(&self.dir, &error))?;
            objects.push(Change { object: key_of(key), change });
        }
        Ok(Applied { objects, notes: read.notes })
    }

    /// Takes objects out of force.
    pub fn delete(&mut self, delete: &Delete, in_force: &InForce) -> Result<Applied, Refused> {
        let mut read = Read::default();
        for file in &delete.files {
            read.file(file, delete.namespace.as_deref());
        }
        let mut errors = read.errors;
        let mut keys: Vec<ObjectKey> = Vec::new();
        for key in read.wanted.iter().map(|wanted| key_of(wanted.key)).chain(delete.objects.iter().cloned()) {
            match self.find(&key) {
                Some(found) => keys.push(found),
                None if delete.ignore_missing => {}
                None => errors.push(self.missing(&key, in_force)),
            }
        }
        if !errors.is_empty() {
            return Err(refuse("nothing was deleted:".to_owned(), errors));
        }
        let mut objects = Vec::new();
        for key in keys {
            if let Some((path, _)) = self.texts.get(&key) {
                remove(path).map_err(|error| failed(path, &error))?;
            }
            self.texts.remove(&key);
            objects.push(Change { object: key_of(key), change: Verb::Deleted });
        }
        Ok(Applied { objects, notes: Vec::new() })
    }

    /// True if what was done with an object has been read from its file. Objects that are not acted upon count as read.
    pub fn is_read(&self, change: &Change, in_force: &InForce) -> bool {
        let Some((key, path, text)) = self
            .texts
            .iter()
            .find_map(|(key, (path, text))| matches(key, &change.object).then_some((key, path, text)))
        else {
            let mut known = in_force.iter().filter(|(known, _)| matches(known, &change.object));
            return !known.any(|(_, object)| Path::new(object.origin.file.as_ref()).starts_with(&self.dir));
        };
        let parsed = ostro_api::parse_file(path.to_string_lossy().as_ref(), text.as_bytes());
        parsed.objects.iter().filter(|wanted| wanted.key() == *key).all(|wanted| {
            in_force.get(key).is_some_and(|found| (&found.meta, &found.spec) == (&wanted.meta, &wanted.spec))
        })
    }

    /// The applied object of that name; a kind may be said without its group.
    fn find(&self, key: &Key) -> Option<ObjectKey> {
        self.texts.keys().find(|known| matches(known, key)).copied()
    }

    /// Why an object cannot be deleted.
    fn missing(&self, key: &Key, in_force: &InForce) -> String {
        let said = match key.namespace.is_empty() {
            true => format!("{} {}", key.kind, key.name),
            false => format!("{} {}/{}", key.kind, key.namespace, key.name),
        };
        if let Some((_, object)) = in_force.iter().find(|(known, _)| matches(known, key)) {
            return format!(
                "{said} was not applied: it is written in {}, which the mesh follows: take it out of that file",
                object.origin
            );
        }
        let names = self.texts.keys().filter(|known| kind_of(known) == key.kind);
        let hint = similar::did_you_mean(&key.name, names.map(|known| known.name.as_str()));
        match hint.is_empty() {
            true => format!("{said} is not there; {}", self.listed()),
            false => format!("{said} is not there{hint}"),
        }
    }

    /// What could be deleted.
    fn listed(&self) -> String {
        let name = |key: &ObjectKey| {
            let Key { kind, namespace, name } = key_of(*key);
            let place = if namespace.is_empty() { String::new() } else { format!(" -n {namespace}") };
            format!("{}/{name}{place}", kind.to_lowercase())
        };
        let mut names: Vec<String> = self.texts.keys().take(LISTED_MAX).map(name).collect();
        if self.texts.len() > LISTED_MAX {
            names.push("...".to_owned());
        }
        match names.is_empty() {
            true => "nothing is applied".to_owned(),
            false => format!("applied: {}", names.join(", ")),
        }
    }

    /// The object in force, if it comes from a file of the user's.
    fn written_elsewhere<'a>(&self, key: ObjectKey, in_force: &'a InForce) -> Option<&'a Object> {
        let object = in_force.get(&key)?;
        let own = !Path::new(object.origin.file.as_ref()).starts_with(&self.dir);
        (own && !self.texts.contains_key(&key)).then_some(object)
    }

    fn put(&mut self, key: ObjectKey, text: String) -> io::Result<Verb> {
        let (path, verb) = match self.texts.get(&key) {
            Some((_, old)) if *old == text => return Ok(Verb::Unchanged),
            Some((path, _)) => (path.clone(), Verb::Configured),
            None => (self.free_path(key), Verb::Created),
        };
        // Not a name that directory walks read, so that nobody sees it before it is whole.
        let aside = self.dir.join(".new");
        fs::write(&aside, &text)?;
        fs::rename(&aside, &path)?;
        self.texts.insert(key, (path, text));
        Ok(verb)
    }

    fn free_path(&self, key: ObjectKey) -> PathBuf {
        let parts = [key.kind.as_str(), key.namespace.as_str(), key.name.as_str()];
        let whole: String = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
        let name = whole.to_lowercase();
        let cut: String = name.chars().take(FILE_NAME_MAX).collect();
        let taken = |path: &PathBuf| self.texts.values().any(|(taken, _)| taken == path);
        let numbered = (2..).map(|number: u32| self.dir.join(format!("{cut}.{number}.json")));
        std::iter::once(self.dir.join(format!("{cut}.json")))
            .chain(numbered)
            .find(|path| !taken(path))
            .unwrap_or_else(|| self.dir.join("object.json"))
    }
}

/// Why what is to be new cannot be put in force.
fn taken(key: ObjectKey) -> String {
    let Key { kind, namespace, name } = key_of(key);
    let place = match namespace.as_str() {
        "" | "default" => String::new(),
        namespace => format!(" -n {namespace}"),
    };
    format!(
        "{kind} `{name}` is there already: choose another name, or take it out first (ostro delete {}/{name}{place})",
        kind.to_lowercase()
    )
}

fn matches(known: &ObjectKey, key: &Key) -> bool {
    let kind = known.kind.as_str();
    let is_kind = kind == key.kind || kind_of(known) == key.kind;
    let is_there = known.namespace.is_empty() || known.namespace.as_str() == key.namespace;
    is_kind && is_there && known.name.as_str() == key.name
}

/// The kind without its group.
fn kind_of(key: &ObjectKey) -> &'static str {
    let kind = key.kind.as_str();
    kind.split_once('.').map_or(kind, |(kind, _)| kind)
}

/// As it is said over the socket.
pub fn key_of(key: ObjectKey) -> Key {
    Key {
        kind: key.kind.as_str().to_owned(),
        namespace: key.namespace.as_str().to_owned(),
        name: key.name.as_str().to_owned(),
    }
}

fn refuse(error: String, details: Vec<String>) -> Refused {
    Refused { status: StatusCode::UNPROCESSABLE_ENTITY, refusal: Refusal { error, details } }
}

fn failed(path: &Path, error: &io::Error) -> Refused {
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{}: {error}", path.display()))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Texts read and judged.
#[derive(Default)]
struct Read {
    wanted: Vec<Wanted>,
    errors: Vec<String>,
    notes: Vec<String>,
    notices: Notices,
}

impl Read {
    fn file(&mut self, file: &Text, namespace: Option<&str>) {
        let Parsed { objects, complaints } = ostro_api::parse_file(file.name.as_str(), file.text.as_bytes());
        for complaint in complaints {
            match complaint.severity {
                Severity::Error => self.errors.push(complaint.to_string()),
                Severity::Warning => self.notes.push(format!("warning: {complaint}")),
            }
        }
        for object in &objects {
            if let Some(slip) = similar::about_kind(object) {
                self.errors.push(slip.to_string());
            } else if let Some(notice) = self.notices.about(object) {
                self.notes.push(format!("note: {notice}"));
            }
        }
        for mut value in ostro_api::parse_objects(file.text.as_bytes()) {
            if let Some(namespace) = namespace {
                set_namespace(&mut value, namespace);
            }
            self.value(file, &value);
        }
    }

    fn value(&mut self, file: &Text, value: &Value) {
        let text = format!("{value:#}\n");
        // One with an error was complained about, with its line, above.
        for object in ostro_api::parse_file(file.name.as_str(), text.as_bytes()).objects {
            let key = object.key();
            if self.wanted.iter().any(|wanted| wanted.key == key) {
                self.errors.push(format!("{}: a second {key}; allowed: one", file.name));
                continue;
            }
            self.wanted.push(Wanted { key, text: text.clone() });
        }
    }
}

/// Where an object does not say its namespace.
fn set_namespace(value: &mut Value, namespace: &str) {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        let unsaid = metadata.get("namespace").is_none_or(|said| said.is_null() || said == "");
        if unsaid {
            metadata.insert("namespace".to_owned(), namespace.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const SERVICE: &str =
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n";

    fn apply(files: &[(&str, &str)]) -> Apply {
        let text = |(name, text): &(&str, &str)| Text { name: (*name).into(), text: (*text).into() };
        Apply { files: files.iter().map(text).collect(), namespace: None, create: false }
    }

    fn verbs(result: Result<Applied, Refused>) -> Vec<(String, Verb)> {
        result.unwrap().objects.into_iter().map(|change| (change.object.name, change.change)).collect()
    }

    fn delete(kind: &str, name: &str) -> Delete {
        let key = Key { kind: kind.into(), namespace: "default".into(), name: name.into() };
        Delete { files: Vec::new(), objects: vec![key], namespace: None, ignore_missing: false }
    }

    #[test]
    fn created_configured_unchanged_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let none = InForce::default();
        let web = || "web".to_owned();
        assert_eq!(verbs(store.apply(&apply(&[("a", SERVICE)]), &none)), [(web(), Verb::Created)]);
        assert!(dir.path().join("service.default.web.json").exists());
        assert_eq!(verbs(store.apply(&apply(&[("b", SERVICE)]), &none)), [(web(), Verb::Unchanged)]);
        let other = SERVICE.replace("80", "81");
        assert_eq!(verbs(store.apply(&apply(&[("a", &other)]), &none)), [(web(), Verb::Configured)]);
        // Another process, the same directory.
        let mut store = Store::open(dir.path()).unwrap();
        assert_eq!(verbs(store.apply(&apply(&[("a", &other)]), &none)), [(web(), Verb::Unchanged)]);
        assert_eq!(verbs(store.delete(&delete("Service", "web"), &none)), [(web(), Verb::Deleted)]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(store.delete(&delete("Service", "web"), &none).is_err());
    }

    #[test]
    fn what_is_to_be_new_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let none = InForce::default();
        let new = |text: &str| Apply { create: true, ..apply(&[("a", text)]) };
        assert_eq!(verbs(store.apply(&new(SERVICE), &none))[0].1, Verb::Created);
        let refused = store.apply(&new(&SERVICE.replace("80", "81")), &none).unwrap_err();
        assert!(refused.refusal.details[0].contains("ostro delete service/web"), "{:?}", refused.refusal);
        assert_eq!(verbs(store.apply(&apply(&[("a", SERVICE)]), &none))[0].1, Verb::Unchanged);
    }

    #[test]
    fn all_complaints_at_once_and_nothing_applied() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let bad = SERVICE.replace("80", "many");
        let slip = SERVICE.replace("Service", "Servise");
        let files = [("good.yaml", SERVICE), ("bad.yaml", bad.as_str()), ("slip.yaml", slip.as_str())];
        let refused = store.apply(&apply(&files), &InForce::default()).unwrap_err();
        assert_eq!(refused.refusal.details.len(), 2, "{:?}", refused.refusal);
        assert!(refused.refusal.details[0].starts_with("bad.yaml:4:"), "{:?}", refused.refusal);
        assert_eq!(refused.refusal.details[1], "slip.yaml:1: no kind `Servise`; did you mean `Service`?");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_files_of_the_users_say_is_left_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let own = ostro_api::parse_file("/home/me/shop.yaml", SERVICE.as_bytes()).objects;
        let in_force: InForce = Arc::new(own.into_iter().map(|o| (o.key(), Arc::new(o))).collect());
        for refused in [
            store.apply(&apply(&[("a", SERVICE)]), &in_force).unwrap_err(),
            store.delete(&delete("Service", "web"), &in_force).unwrap_err(),
        ] {
            assert!(refused.refusal.details[0].contains("/home/me/shop.yaml:1"), "{:?}", refused.refusal);
        }
    }

    #[test]
    fn the_namespace_is_for_those_that_do_not_say() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let said = SERVICE.replace("{name: web}", "{name: web, namespace: own}");
        let apply = Apply { namespace: Some("shop".into()), ..apply(&[("a", SERVICE), ("b", &said)]) };
        let objects = store.apply(&apply, &InForce::default()).unwrap().objects;
        let namespaces: Vec<&str> = objects.iter().map(|change| change.object.namespace.as_str()).collect();
        assert_eq!(namespaces, ["shop", "own"]);
    }
}
