//! Whichever way `ostro up` ends, nothing of the mesh is left: a census before and after.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "processes end without telling us, and a moment to kill at is a time"
)]

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ostro_testkit::census::{self, Host};
use ostro_testkit::ordinary::{Ordinary, USER};
use ostro_testkit::running::program;
use ostro_testkit::terminal::Session;
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
const PROGRAMS: [(&str, usize); 3] = [("ostro", 4), ("program-0", 1), ("ostro-proxy", 2)];
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

/// Who brings a mesh up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Root,
    Ordinary,
}

/// A directory for all that meshes write, and a look at the host before any.
struct Site {
    user: Ordinary,
    who: Who,
    word: String,
    before: Host,
}

/// A mesh that runs or comes up.
struct Up {
    child: Child,
    started: Instant,
}

impl Site {
    fn new(who: Who) -> Site {
        let user = match who {
            Who::Root => Ordinary::with(&[]),
            Who::Ordinary => Ordinary::new(),
        };
        fs::create_dir(user.path("yaml")).unwrap();
        fs::write(user.path("yaml/echo.yaml"), YAML).unwrap();
        let word = user.dir().file_name().unwrap().to_string_lossy().into_owned();
        let before = Host::look(user.dir());
        Site { user, who, word, before }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.user.path(name)
    }

    fn name(&self) -> String {
        format!("t-{}", self.word.trim_start_matches("ostro-user-").to_lowercase())
    }

    /// The mesh's own directory.
    fn state(&self) -> PathBuf {
        match self.who {
            Who::Root => Path::new("/run/ostro").join(self.name()),
            Who::Ordinary => PathBuf::from(format!("/tmp/ostro-{USER}")).join(self.name()),
        }
    }

    fn ostro(&self, subcommand: &str) -> Command {
        let mut command = match self.who {
            Who::Root => Command::new(program("ostro")),
            Who::Ordinary => self.user.command("ostro"),
        };
        command
            .args([subcommand, "--name", &self.name()])
            .env(census::VARIABLE, &self.word)
            .env("TMPDIR", self.path("tmp"))
            .stdin(Stdio::null());
        command
    }

    /// `ostro up`, to be started.
    fn up_command(&self) -> Command {
        let mut command = self.ostro("up");
        command.args(["--ingress", "127.0.0.1:0", "--control-http", "127.0.0.1:0"]);
        command.arg("-f").arg(self.path("yaml"));
        command
    }

    fn up(&self) -> Up {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let child = self.up_command().stdout(Stdio::null()).stderr(log).spawn().unwrap();
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
        assert_eq!(Host::look(self.user.dir()), self.before, "mounts, links, rules, sockets");
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
    for (signal, who) in [(Signal::TERM, Who::Root), (Signal::INT, Who::Root), (Signal::INT, Who::Ordinary)] {
        let site = Site::new(who);
        let mut up = site.up();
        let namespaces = census::namespaces(&site.complete());
        assert!(namespaces.len() > PROGRAMS.len(), "namespaces of its own: {namespaces:?}");
        kill_process(Pid::from_child(&up.child), signal).unwrap();
        assert!(up.child.wait().unwrap().success());
        site.assert_nothing_left(&namespaces);
    }
}

/// The key goes to every process that has the terminal.
#[test]
fn nothing_is_left_after_ctrl_c_in_a_terminal() {
    let site = Site::new(Who::Ordinary);
    let mut session = Session::start(site.up_command(), 100, 30);
    let namespaces = census::namespaces(&site.complete());
    session.type_keys("\x03");
    assert!(session.ended().success());
    site.assert_nothing_left(&namespaces);
}

/// Which process of those that hold a mesh is killed: the one that was started and waits, the first one of the
/// process namespace, the mesh itself.
const HOLDERS: usize = 3;

fn killed_at_any_moment(who: Who) {
    let mut random = Random::new();
    let site = Site::new(who);
    let mut up = site.up();
    let complete = site.complete();
    let full = up.started.elapsed();
    let mut namespaces = census::namespaces(&complete);
    for round in 0..KILLS {
        let mut holders: Vec<u32> =
            census::processes(&site.word).into_iter().filter(|pid| is_holder(*pid)).collect();
        holders.sort_by_key(|pid| *pid != up.child.id());
        let victim = *holders.get(random.below(HOLDERS)).unwrap_or(&up.child.id());
        println!("round {round}: {victim} of {holders:?} after {:?}", up.started.elapsed());
        // It may just have gone by itself, which changes nothing.
        let _ = kill_process(Pid::from_raw(victim.cast_signed()).unwrap(), Signal::KILL);
        up.child.wait().unwrap();
        site.assert_files_left_at_most(&namespaces);
        if random.below(2) == 0 {
            // Nothing to end where it was killed before it began.
            site.ostro("down").output().unwrap();
            site.assert_nothing_left(&namespaces);
        }
        // The next one comes up where this one was, and is killed somewhere on its way, or when it is there.
        up = site.up();
        let moment = full.mul_f64(random.below(1_000) as f64 / 800.0);
        std::thread::sleep(moment.saturating_sub(up.started.elapsed()));
        namespaces = census::namespaces(&census::processes(&site.word));
    }
    namespaces = census::namespaces(&site.complete());
    kill_process(Pid::from_child(&up.child), Signal::TERM).unwrap();
    assert!(up.child.wait().unwrap().success());
    site.assert_nothing_left(&namespaces);
}

fn is_holder(pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).nth(1) == Some(b"up")
}

#[test]
fn nothing_is_left_of_a_mesh_that_was_killed_at_any_moment() {
    killed_at_any_moment(Who::Root);
}

#[test]
fn nothing_is_left_of_an_ordinary_users_mesh_that_was_killed_at_any_moment() {
    killed_at_any_moment(Who::Ordinary);
}

/// Numbers that differ from run to run (SplitMix64). Where it began is printed.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let seed = RandomState::new().build_hasher().finish();
        println!("random from {seed:#x}");
        Random(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}

/// Each of its processes, killed in turn: the mesh mends itself, or ends and leaves nothing.
#[test]
fn nothing_is_left_of_a_mesh_whose_processes_crash() {
    crash_each(Who::Root);
}

#[test]
fn nothing_is_left_of_an_ordinary_users_mesh_whose_processes_crash() {
    crash_each(Who::Ordinary);
}

fn crash_each(who: Who) {
    let site = Site::new(who);
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
