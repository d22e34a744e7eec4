//! Whichever way `ostro up` ends, nothing of the mesh is left: a census before and after.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "processes end without telling us, and a moment to kill at is a time"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ostro_testkit::census::{self, Host};
use ostro_testkit::envoy;
use ostro_testkit::running::program;
use rustix::process::{Pid, Signal, kill_process};

const YAML: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      containers:
      - name: echo
        image: ostro/sample
        args: [echo, --http, "8080"]
        ports: [{containerPort: 8080}]
"#;

/// Programs of the mesh and how often each runs: those who wait, reap and run the mesh, and the control plane; the
/// workload; its proxy and the ingress gateway's.
const PROGRAMS: [(&str, usize); 3] = [("ostro", 4), ("program-0", 1), ("envoy", 2)];
const LIMIT: Duration = Duration::from_secs(120);
const KILLS: u32 = 20;

/// Looks until it is so.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A directory for all that meshes write, and a look at the host before any.
struct Site {
    dir: tempfile::TempDir,
    word: String,
    before: Host,
}

/// A mesh that runs or comes up.
struct Up {
    child: Child,
    started: Instant,
}

impl Site {
    fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("yaml")).unwrap();
        fs::write(dir.path().join("yaml/echo.yaml"), YAML).unwrap();
        fs::create_dir(dir.path().join("tmp")).unwrap();
        let word = dir.path().file_name().unwrap().to_string_lossy().into_owned();
        let before = Host::look(dir.path());
        Site { dir, word, before }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn name(&self) -> String {
        format!("t-{}", self.word.trim_start_matches('.').to_lowercase())
    }

    /// The mesh's own directory; the tests are root.
    fn state(&self) -> PathBuf {
        Path::new("/run/ostro").join(self.name())
    }

    fn ostro(&self, subcommand: &str) -> Command {
        let mut command = Command::new(program("ostro"));
        command
            .args([subcommand, "--name", &self.name()])
            .env(census::VARIABLE, &self.word)
            .env("TMPDIR", self.path("tmp"))
            .stdin(Stdio::null());
        command
    }

    fn up(&self) -> Up {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let child = self
            .ostro("up")
            .args(["--ingress", "127.0.0.1:0", "--control-http", "127.0.0.1:0", "--envoy"])
            .arg(envoy::binary())
            .arg("-f")
            .arg(self.path("yaml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Up { child, started: Instant::now() }
    }

    /// Waits until every process of the mesh runs.
    fn complete(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        wait_for("the mesh's processes run", || {
            found = census::processes(&self.word);
            let programs: Vec<String> = found.iter().map(|pid| census::program(*pid)).collect();
            PROGRAMS.iter().all(|(name, count)| programs.iter().filter(|p| p == name).count() == *count)
        });
        found
    }

    /// Fails if anything but files is left of a mesh that had these namespaces.
    fn assert_files_left_at_most(&self, namespaces: &BTreeSet<PathBuf>) {
        wait_for("its processes are gone", || census::processes(&self.word).is_empty());
        wait_for("nobody is in its namespaces", || census::inhabited(namespaces).is_empty());
        assert_eq!(Host::look(self.dir.path()), self.before, "mounts, links, rules, sockets");
        assert_eq!(below(&self.path("tmp")), [""; 0], "temporary files");
    }

    /// Fails if anything is left of a mesh that had these namespaces.
    fn assert_nothing_left(&self, namespaces: &BTreeSet<PathBuf>) {
        self.assert_files_left_at_most(namespaces);
        assert!(fs::symlink_metadata(self.state()).is_err(), "{}", self.state().display());
    }
}

fn below(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn nothing_is_left_of_a_mesh_that_was_asked_to_end() {
    for signal in [Signal::TERM, Signal::INT] {
        let site = Site::new();
        let mut up = site.up();
        let namespaces = census::namespaces(&site.complete());
        assert!(namespaces.len() > PROGRAMS.len(), "namespaces of its own: {namespaces:?}");
        kill_process(Pid::from_child(&up.child), signal).unwrap();
        assert!(up.child.wait().unwrap().success());
        site.assert_nothing_left(&namespaces);
    }
}

#[test]
fn nothing_is_left_of_a_mesh_that_was_killed_at_any_moment() {
    let site = Site::new();
    let mut up = site.up();
    let complete = site.complete();
    let full = up.started.elapsed();
    let mut namespaces = census::namespaces(&complete);
    for round in 0..KILLS {
        up.child.kill().unwrap();
        up.child.wait().unwrap();
        site.assert_files_left_at_most(&namespaces);
        if round % 2 == 0 {
            // Nothing to end where it was killed before it began.
            site.ostro("down").output().unwrap();
            site.assert_nothing_left(&namespaces);
        }
        // The next one comes up where this one was, and is killed somewhere on its way.
        up = site.up();
        let moment = full * round / KILLS;
        std::thread::sleep(moment.saturating_sub(up.started.elapsed()));
        namespaces = census::namespaces(&census::processes(&site.word));
    }
    namespaces = census::namespaces(&site.complete());
    kill_process(Pid::from_child(&up.child), Signal::TERM).unwrap();
    assert!(up.child.wait().unwrap().success());
    site.assert_nothing_left(&namespaces);
}

/// Each of its processes, killed in turn: the mesh mends itself, or ends and leaves nothing.
#[test]
fn nothing_is_left_of_a_mesh_whose_processes_crash() {
    let site = Site::new();
    let mut up = site.up();
    let mut namespaces = BTreeSet::new();
    for (name, count) in PROGRAMS.into_iter().rev() {
        for number in 0..count {
            let running = site.complete();
            namespaces.extend(census::namespaces(&running));
            let of_that_name = running.iter().filter(|pid| census::program(**pid) == name);
            let Some(pid) = of_that_name.copied().nth(number) else { panic!("no {name} number {number}") };
            kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
            wait_for("it is gone", || census::is_over(pid));
            // One of those that hold the mesh: it is over with all of it.
            let held = pid == up.child.id() || {
                let mut ended = None;
                wait_for("the mesh ends or mends itself", || {
                    ended = up.child.try_wait().unwrap();
                    let mended = || {
                        let now = census::processes(&site.word);
                        !now.contains(&pid) && now.len() >= running.len()
                    };
                    ended.is_some() || mended()
                });
                ended.is_some()
            };
            if held {
                up.child.wait().unwrap();
                site.assert_files_left_at_most(&namespaces);
                up = site.up();
            }
        }
    }
    namespaces.extend(census::namespaces(&site.complete()));
    kill_process(Pid::from_child(&up.child), Signal::TERM).unwrap();
    assert!(up.child.wait().unwrap().success());
    site.assert_nothing_left(&namespaces);
}
