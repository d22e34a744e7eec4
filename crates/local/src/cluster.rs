//! What the runner tells the control plane: the pods it made and the endpoints of services, as files in a
//! directory that the control plane follows like any other configuration. A control plane that was killed
//! finds them there when it comes back.
//!
//! Invariant: files appear, change and go whole, by rename; nobody sees half of one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::services::Live;

/// The one node of this mesh.
pub const NODE: &str = "local";

/// A directory of JSON files, kept equal to what was last asked for.
#[derive(Debug)]
pub struct ClusterDir {
    dir: PathBuf,
    written: BTreeMap<String, String>,
}

impl ClusterDir {
    /// An empty directory at `dir`: what an earlier run left there is of pods that are no more.
    pub fn empty(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ext| ext == "json" || ext == "tmp") {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { dir: dir.to_owned(), written: BTreeMap::new() })
    }

    /// Makes the directory hold `files`, by name. Only what differs is touched. Fails at the first file
    /// that cannot be written; the next call tries it again.
    pub fn sync(&mut self, files: &BTreeMap<String, Value>) -> io::Result<()> {
        for (name, value) in files {
            let text = format!("{value:#}\n");
            if self.written.get(name) != Some(&text) {
                // Not a name that directory walks read, so that nobody sees it before it is whole.
                let temporary = self.dir.join(format!(".{name}.tmp"));
                fs::write(&temporary, &text)?;
                fs::rename(&temporary, self.dir.join(name))?;
                self.written.insert(name.clone(), text);
            }
        }
        let gone: Vec<String> =
            self.written.keys().filter(|name| !files.contains_key(*name)).cloned().collect();
        for name in gone {
            match fs::remove_file(self.dir.join(&name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.written.remove(&name),
            };
        }
        Ok(())
    }
}

/// A pod as Kubernetes would show it.
pub fn pod_object(pod: &Live<'_>) -> (String, Value) {
    let plan = pod.plan;
    let ports: Vec<Value> = plan
        .ports
        .iter()
        .map(|port| json!({"name": port.name, "containerPort": port.port, "protocol": port.protocol}))
        .collect();
    let mut containers: Vec<Value> =
        plan.containers.iter().map(|(name, image)| json!({"name": name, "image": image})).collect();
    // Which container a port is of matters to nobody who reads this.
    if let Some(first) = containers.first_mut() {
        first["ports"] = json!(ports);
    }
    let mut metadata = json!({
        "name": plan.name.name,
        "namespace": plan.name.namespace,
        "labels": plan.labels,
        "annotations": plan.annotations,
    });
    if pod.terminating {
        // When it began does not matter, and a fixed time keeps the file from changing again.
        metadata["deletionTimestamp"] = json!("1970-01-01T00:00:01Z");
    }
    let object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "serviceAccountName": plan.service_account,
            "nodeName": NODE,
            "containers": containers,
        },
        "status": {
            "phase": "Running",
            "podIP": pod.ip.to_string(),
            "podIPs": [{"ip": pod.ip.to_string()}],
            "conditions": [{"type": "Ready", "status": if pod.ready { "True" } else { "False" }}],
        },
    });
    (format!("pod.{}.{}.json", plan.name.namespace, plan.name.name), object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_directory_follows_and_touches_only_what_differs() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("old.json"), "{}").unwrap();
        let mut cluster = ClusterDir::empty(dir.path()).unwrap();
        assert!(listed(dir.path()).is_empty());

        let mut files = BTreeMap::from([("a.json".to_owned(), json!(1)), ("b.json".to_owned(), json!(2))]);
        cluster.sync(&files).unwrap();
        let inode =
            |name: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(dir.path().join(name)).unwrap());
        let (a, b) = (inode("a.json"), inode("b.json"));

        files.insert("b.json".to_owned(), json!(3));
        cluster.sync(&files).unwrap();
        assert_eq!(inode("a.json"), a, "not written again");
        assert_ne!(inode("b.json"), b, "replaced, not overwritten");

        files.remove("a.json");
        cluster.sync(&files).unwrap();
        assert_eq!(listed(dir.path()), ["b.json"]);
    }
}
