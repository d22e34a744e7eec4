//! Real files, real events: everything that editors, deployments and failing disks do to configuration.
//! Nothing sleeps: each test awaits the update that must come, and what must not come is shown by a marker
//! file that is written after it and whose update is the next one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test by panicking")]

use ostro_sources::schedule::{GRACE, SETTLE};
use ostro_sources::{Follower, Options, Update};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longer than anything takes, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// A document of a kind without fields of its own, so that these tests are about files only.
fn account(name: &str, version: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: {name}\n  labels: {{version: \"{version}\"}}\n"
    )
}

/// The same, present but not valid: labels have to be strings to strings.
fn invalid(name: &str) -> String {
    format!("apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: {name}\n  labels: [1, 2]\n")
}

const GARBLED: &str = "apiVersion: v1\nkind: {ServiceAccount\nmetadata: ]\n";

fn documents(documents: &[String]) -> String {
    documents.join("---\n")
}

/// A follower and what its updates add up to.
struct Scene {
    dir: tempfile::TempDir,
    follower: Follower,
    /// Name to version of every object in force.
    state: BTreeMap<String, String>,
}

impl Scene {
    async fn new(files: &[(&str, String)]) -> Scene {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("conf")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join("conf").join(name), text).unwrap();
        }
        Scene::start(dir, None).await.0
    }

    async fn start(dir: tempfile::TempDir, paths: Option<Vec<PathBuf>>) -> (Scene, Update) {
        let paths = paths.unwrap_or_else(|| vec![dir.path().join("conf")]);
        let state = Some(dir.path().join("state"));
        let follower = Follower::start(Options { paths, state }).unwrap();
        let mut scene = Scene { dir, follower, state: BTreeMap::new() };
        let update = scene.next().await;
        assert!(update.initial);
        (scene, update)
    }

    /// Ends the follower, as a killed control plane would, and starts another on the same directories.
    async fn restart(self, meanwhile: impl FnOnce(&Path)) -> (Scene, Update) {
        drop(self.follower);
        meanwhile(&self.dir.path().join("conf"));
        Scene::start(self.dir, None).await
    }

    fn conf(&self, name: &str) -> PathBuf {
        self.dir.path().join("conf").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.conf(name), text).unwrap();
    }

    async fn next(&mut self) -> Update {
        let update = tokio::time::timeout(DEADLINE, self.follower.next()).await;
        let update = update.expect("no update within the deadline").expect("the follower ended");
        for key in &update.deletes {
            assert!(self.state.remove(key.name.as_str()).is_some(), "{key} deleted twice");
        }
        for object in &update.upserts {
            let version = object.meta.labels.get("version").cloned().unwrap_or_default();
            self.state.insert(object.meta.name.as_str().to_string(), version);
        }
        update
    }

    /// Awaits updates until the state is as wanted.
    async fn until(&mut self, wanted: &[(&str, &str)]) {
        let wanted: BTreeMap<String, String> =
            wanted.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        while self.state != wanted {
            self.next().await;
        }
    }

    /// Shows that nothing more is coming: a marker written now is in the very next update.
    async fn quiet(&mut self) {
        self.write("zz-marker.yaml", &account("marker", "1"));
        let update = self.next().await;
        assert_eq!(update.upserts.len(), 1, "{update:?}");
        assert_eq!((update.upserts[0].meta.name.as_str(), update.deletes), ("marker", vec![]));
        fs::remove_file(self.conf("zz-marker.yaml")).unwrap();
        assert_eq!(self.next().await.deletes.len(), 1);
    }
}

#[tokio::test]
async fn the_first_update_is_everything_and_says_so() {
    let (mut scene, update) = {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("conf/sub")).unwrap();
        fs::write(dir.path().join("conf/a.yaml"), documents(&[account("a", "1"), account("b", "1")]))
            .unwrap();
        fs::write(
            dir.path().join("conf/sub/c.json"),
            r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"c"}}"#,
        )
        .unwrap();
        fs::write(dir.path().join("conf/.hidden.yaml"), GARBLED).unwrap();
        Scene::start(dir, None).await
    };
    assert_eq!(update.upserts.iter().map(|o| o.meta.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(update.complaints, []);
    scene.quiet().await;
}

#[tokio::test]
async fn nothing_there_is_an_initial_update_too_and_what_comes_later_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("not/yet/there");
    let (mut scene, update) = Scene::start(dir, Some(vec![path.clone()])).await;
    assert_eq!((update.upserts.len(), update.complaints.len()), (0, 1), "{update:?}");
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("a.yaml"), account("a", "1")).unwrap();
    scene.until(&[("a", "1")]).await;
}

#[tokio::test]
async fn an_edit_in_place_is_an_update_and_never_a_deletion() {
    let mut scene = Scene::new(&[("a.yaml", account("a", "0"))]).await;
    for version in ["1", "2", "3"] {
        // Truncates, then writes: a reader in between sees an empty file.
        scene.write("a.yaml", &account("a", version));
        let update = scene.next().await;
        assert_eq!((update.upserts.len(), update.deletes.len()), (1, 0));
        assert_eq!(scene.state["a"], version);
    }
}

#[tokio::test]
async fn a_change_in_a_quiet_mesh_takes_effect_at_once() {
    let mut scene = Scene::new(&[("a.yaml", account("a", "0"))]).await;
    let start = Instant::now();
    scene.write("a.yaml", &account("a", "1"));
    scene.until(&[("a", "1")]).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_slow_writer_is_read_when_done() {
    use std::io::Write;
    let mut scene = Scene::new(&[("a.yaml", documents(&[account("a", "0"), account("b", "0")]))]).await;
    let mut file = fs::File::create(scene.conf("a.yaml")).unwrap();
    file.write_all(account("a", "1").as_bytes()).unwrap();
    file.write_all(format!("---\n{}", account("b", "1")).as_bytes()).unwrap();
    drop(file);
    let update = scene.next().await;
    assert_eq!((update.upserts.len(), update.deletes.len()), (2, 0), "half of it was read: {update:?}");
}

#[tokio::test]
async fn a_file_caught_empty_between_two_writes_loses_nothing() {
    let mut scene = Scene::new(&[("a.yaml", documents(&[account("a", "x"), account("b", "x")]))]).await;
    for i in 0..20 {
        let version = i.to_string();
        let emptied = Instant::now();
        scene.write("a.yaml", "");
        // As long as the follower needs to come and look.
        while emptied.elapsed() < 2 * SETTLE {
            tokio::task::yield_now().await;
        }
        scene.write("a.yaml", &documents(&[account("a", &version), account("b", &version)]));
        let in_time = emptied.elapsed() < GRACE / 2;
        let update = scene.next().await;
        assert!(!in_time || update.deletes.is_empty(), "{update:?}");
        scene.until(&[("a", &version), ("b", &version)]).await;
    }
}

#[tokio::test]
async fn replacing_by_rename_and_by_removing_first_deletes_nothing() {
    let mut scene = Scene::new(&[("a.yaml", account("a", "0"))]).await;
    fs::write(scene.conf(".a.yaml.new"), account("a", "1")).unwrap();
    fs::rename(scene.conf(".a.yaml.new"), scene.conf("a.yaml")).unwrap();
    assert_eq!(scene.next().await.deletes, []);
    assert_eq!(scene.state["a"], "1");
    // As vim does: the old file becomes a backup, a new one is written.
    fs::rename(scene.conf("a.yaml"), scene.conf("a.yaml~")).unwrap();
    scene.write("a.yaml", &account("a", "2"));
    assert_eq!(scene.next().await.deletes, []);
    assert_eq!(scene.state["a"], "2");
    fs::remove_file(scene.conf("a.yaml")).unwrap();
    scene.write("a.yaml", &account("a", "3"));
    assert_eq!(scene.next().await.deletes, []);
    assert_eq!(scene.state["a"], "3");
    scene.quiet().await;
}

#[tokio::test]
async fn a_renamed_file_moves_its_objects_in_one_step() {
    let mut scene = Scene::new(&[("a.yaml", account("a", "0"))]).await;
    fs::rename(scene.conf("a.yaml"), scene.conf("b.yaml")).unwrap();
    let update = scene.next().await;
    assert_eq!(
        (update.upserts.len(), update.deletes.len(), update.complaints.len()),
        (1, 0, 0),
        "{update:?}"
    );
    assert!(update.upserts[0].origin.file.ends_with("/b.yaml"));
    scene.quiet().await;
}

#[tokio::test]
async fn deleted_files_and_documents_take_their_objects_away() {
    let both = documents(&[account("a", "0"), account("b", "0")]);
    let mut scene = Scene::new(&[("a.yaml", both), ("c.yaml", account("c", "0"))]).await;
    scene.write("a.yaml", &account("a", "0"));
    scene.until(&[("a", "0"), ("c", "0")]).await;
    fs::remove_file(scene.conf("c.yaml")).unwrap();
    scene.until(&[("a", "0")]).await;
    scene.quiet().await;
}

#[tokio::test]
async fn a_touch_says_nothing() {
    let mut scene = Scene::new(&[("a.yaml", account("a", "0"))]).await;
    scene.write("a.yaml", &account("a", "0"));
    let file = fs::File::open(scene.conf("a.yaml")).unwrap();
    file.set_modified(std::time::SystemTime::now()).unwrap();
    scene.quiet().await;
}

#[tokio::test]
async fn what_is_invalid_leaves_the_last_good_version_in_force() {
    let both = documents(&[account("a", "0"), account("b", "0")]);
    let mut scene = Scene::new(&[("a.yaml", both)]).await;
    scene.write("a.yaml", &documents(&[account("a", "1"), invalid("b")]));
    let update = scene.next().await;
    assert_eq!((update.upserts.len(), update.deletes.len()), (1, 0), "{update:?}");
    let complaint = update.complaints.first().unwrap();
    assert_eq!(complaint.object.map(|key| key.name.as_str()), Some("b"), "{complaint}");
    assert!(complaint.line > 6 && complaint.file.ends_with("a.yaml"), "{complaint}");

    scene.write("a.yaml", GARBLED);
    let update = scene.next().await;
    assert_eq!((update.upserts.len(), update.deletes.len()), (0, 0), "{update:?}");
    assert!(!update.complaints.is_empty());

    scene.write("a.yaml", &documents(&[account("a", "2"), account("b", "2")]));
    scene.until(&[("a", "2"), ("b", "2")]).await;
}

#[tokio::test]
async fn the_last_good_version_survives_a_restart() {
    let scene = Scene::new(&[
        ("a.yaml", documents(&[account("a", "0"), account("b", "0")])),
        ("c.yaml", account("c", "0")),
        ("d.yaml", account("d", "0")),
    ])
    .await;
    let (scene, update) = scene
        .restart(|conf| {
            fs::write(conf.join("a.yaml"), documents(&[account("a", "1"), invalid("b")])).unwrap();
            fs::write(conf.join("c.yaml"), GARBLED).unwrap();
            fs::remove_file(conf.join("d.yaml")).unwrap();
        })
        .await;
    let expected = [("a", "1"), ("b", "0"), ("c", "0")].map(|(n, v)| (n.to_string(), v.to_string()));
    assert_eq!(scene.state, BTreeMap::from(expected.clone()), "{update:?}");
    assert_eq!(update.deletes, []);
    // Again, with nothing but the remembered versions to go by; and d comes back broken: it is forgotten.
    let (mut scene, _) = scene.restart(|conf| fs::write(conf.join("d.yaml"), invalid("d")).unwrap()).await;
    assert_eq!(scene.state, BTreeMap::from(expected));
    scene.write("a.yaml", &account("a", "2"));
    scene.until(&[("a", "2"), ("c", "0")]).await;
    let (scene, _) = scene.restart(|_| {}).await;
    assert_eq!(scene.state.get("b"), None);
}

#[tokio::test]
async fn a_damaged_state_directory_is_survived() {
    let scene = Scene::new(&[("a.yaml", account("a", "0")), ("b.yaml", account("b", "0"))]).await;
    let state = scene.dir.path().join("state");
    let (mut scene, update) = scene
        .restart(|conf| {
            for entry in fs::read_dir(state).unwrap() {
                fs::write(entry.unwrap().path(), [0xff; 7]).unwrap();
            }
            fs::write(conf.join("a.yaml"), invalid("a")).unwrap();
        })
        .await;
    assert_eq!(scene.state.keys().collect::<Vec<_>>(), ["b"], "{update:?}");
    scene.write("a.yaml", &account("a", "1"));
    scene.until(&[("a", "1"), ("b", "0")]).await;
    let (scene, _) = scene.restart(|conf| fs::write(conf.join("a.yaml"), invalid("a")).unwrap()).await;
    assert_eq!(scene.state["a"], "1");
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_made_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("state"), "a file").unwrap();
    fs::create_dir(dir.path().join("conf")).unwrap();
    fs::write(dir.path().join("conf/a.yaml"), account("a", "0")).unwrap();
    let (scene, _) = Scene::start(dir, None).await;
    assert_eq!(scene.state["a"], "0");
}

/// Lays out a generation as kubelet does and swaps it in by renaming `..data`.
fn mount(conf: &Path, generation: &str, files: &[(&str, String)]) {
    fs::create_dir(conf.join(generation)).unwrap();
    for (name, text) in files {
        fs::write(conf.join(generation).join(name), text).unwrap();
    }
    let old = fs::read_link(conf.join("..data")).ok();
    symlink(generation, conf.join("..data_tmp")).unwrap();
    fs::rename(conf.join("..data_tmp"), conf.join("..data")).unwrap();
    for (name, _) in files {
        let _ = symlink(format!("..data/{name}"), conf.join(name));
    }
    if let Some(old) = old {
        fs::remove_dir_all(conf.join(old)).unwrap();
    }
}

#[tokio::test]
async fn a_mounted_config_map_is_followed_through_its_swaps() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("conf");
    fs::create_dir(&conf).unwrap();
    mount(&conf, "..1", &[("a.yaml", account("a", "1")), ("b.yaml", account("b", "1"))]);
    let (mut scene, update) = Scene::start(dir, None).await;
    assert_eq!(update.upserts.len(), 2);
    for generation in ["2", "3", "4"] {
        let files = [("a.yaml", account("a", generation)), ("b.yaml", account("b", generation))];
        mount(&conf, &format!("..{generation}"), &files);
        let update = scene.next().await;
        assert_eq!(
            (update.upserts.len(), update.deletes.len()),
            (2, 0),
            "one swap is one update: {update:?}"
        );
    }
    // A key that leaves the ConfigMap leaves a link that leads nowhere.
    mount(&conf, "..5", &[("a.yaml", account("a", "5"))]);
    scene.until(&[("a", "5")]).await;
}

#[tokio::test]
async fn what_a_link_leads_to_is_followed_too() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("conf")).unwrap();
    fs::create_dir_all(dir.path().join("elsewhere")).unwrap();
    let real = dir.path().join("elsewhere/real.yaml");
    fs::write(&real, account("a", "0")).unwrap();
    symlink(&real, dir.path().join("conf/a.yaml")).unwrap();
    let (mut scene, _) = Scene::start(dir, None).await;
    fs::write(&real, account("a", "1")).unwrap();
    scene.until(&[("a", "1")]).await;
}

#[tokio::test]
async fn the_directory_itself_may_go_and_come_back() {
    let mut scene = Scene::new(&[("a.yaml", account("a", "0"))]).await;
    for version in ["1", "2"] {
        fs::remove_dir_all(scene.conf("")).unwrap();
        scene.until(&[]).await;
        fs::create_dir(scene.conf("")).unwrap();
        scene.write("a.yaml", &account("a", version));
        scene.until(&[("a", version)]).await;
    }
    // Swapped for another in two renames, nothing of it goes away in between.
    let other = scene.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("a.yaml"), account("a", "3")).unwrap();
    fs::rename(scene.conf(""), scene.dir.path().join("old")).unwrap();
    fs::rename(&other, scene.conf("")).unwrap();
    let update = scene.next().await;
    assert_eq!((scene.state["a"].as_str(), update.deletes), ("3", vec![]));
    scene.write("a.yaml", &account("a", "4"));
    scene.until(&[("a", "4")]).await;
}

#[tokio::test]
async fn directories_below_are_followed_as_they_come_and_go() {
    let mut scene = Scene::new(&[]).await;
    fs::create_dir_all(scene.conf("one/two")).unwrap();
    scene.write("one/two/a.yaml", &account("a", "1"));
    scene.until(&[("a", "1")]).await;
    scene.write("one/two/a.yaml", &account("a", "2"));
    scene.until(&[("a", "2")]).await;
    fs::remove_dir_all(scene.conf("one")).unwrap();
    scene.until(&[]).await;
}

#[tokio::test]
async fn a_file_named_outright_is_followed_whatever_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mesh.conf");
    fs::write(&file, account("a", "0")).unwrap();
    let (mut scene, _) = Scene::start(dir, Some(vec![file.clone()])).await;
    fs::write(&file, account("a", "1")).unwrap();
    scene.until(&[("a", "1")]).await;
    fs::remove_file(&file).unwrap();
    scene.until(&[]).await;
    fs::write(&file, account("a", "2")).unwrap();
    scene.until(&[("a", "2")]).await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_and_take_nothing_away() {
    let mut scene = Scene::new(&[("a.yaml", account("a", "0")), ("b.yaml", account("b", "0"))]).await;
    let large = fs::File::create(scene.conf("a.yaml")).unwrap();
    large.set_len(50 << 20).unwrap();
    drop(large);
    let update = scene.next().await;
    assert!(update.complaints[0].to_string().contains("a file of 52428800 bytes"), "{update:?}");
    fs::remove_file(scene.conf("b.yaml")).unwrap();
    symlink("b.yaml", scene.conf("b.yaml")).unwrap();
    let update = scene.next().await;
    assert_eq!((update.complaints.len(), update.deletes.len()), (1, 0), "{update:?}");
    scene.until(&[("a", "0"), ("b", "0")]).await;
    // Put right again.
    fs::remove_file(scene.conf("b.yaml")).unwrap();
    scene.write("b.yaml", &account("b", "1"));
    scene.write("a.yaml", &account("a", "1"));
    scene.until(&[("a", "1"), ("b", "1")]).await;
}

#[tokio::test]
async fn what_only_looks_like_a_file_never_blocks() {
    let mut scene = Scene::new(&[("a.yaml", account("a", "0"))]).await;
    let fifo = std::process::Command::new("mkfifo").arg(scene.conf("fifo.yaml")).status().unwrap();
    assert!(fifo.success());
    let _socket = std::os::unix::net::UnixListener::bind(scene.conf("socket.yaml")).unwrap();
    scene.quiet().await;
}

#[tokio::test]
async fn of_two_objects_of_one_name_the_first_path_holds() {
    let mut scene = Scene::new(&[("b.yaml", account("a", "in-b"))]).await;
    scene.write("c.yaml", &account("a", "in-c"));
    let update = scene.next().await;
    assert_eq!((update.upserts.len(), update.complaints.len()), (0, 1), "{update:?}");
    let text = update.complaints[0].to_string();
    assert!(text.contains("c.yaml:1") && text.contains("b.yaml:1"), "{text}");
    fs::remove_file(scene.conf("b.yaml")).unwrap();
    scene.until(&[("a", "in-c")]).await;
    // In one file it is the first line that holds.
    scene.write("c.yaml", &documents(&[account("a", "first"), account("a", "second")]));
    let update = scene.next().await;
    assert_eq!((scene.state["a"].as_str(), update.complaints.len()), ("first", 1), "{update:?}");
}

#[tokio::test]
async fn many_files_at_once_come_as_few_updates() {
    let mut scene = Scene::new(&[]).await;
    for i in 0..500 {
        scene.write(&format!("f{i:03}.yaml"), &account(&format!("o{i:03}"), "1"));
    }
    let mut updates = 0;
    while scene.state.len() < 500 {
        scene.next().await;
        updates += 1;
    }
    assert!(updates < 250, "{updates} updates for 500 files");
    scene.quiet().await;
}
