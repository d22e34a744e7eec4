//! One mesh: up, looked at, and gone.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use ostro_agent::DataPlane;
use ostro_testkit::footprint::{Footprint, by_program};
use ostro_testkit::ordinary::Ordinary;
use ostro_testkit::{census, envoy, load};
use rustix::process::{Pid, Signal, kill_process};

use crate::options::Options;

/// A mesh that takes longer does not come up.
const UP_MAX: Duration = Duration::from_secs(300);
/// One that takes longer to go does not.
const DOWN_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether it has gone.
const LOOK: Duration = Duration::from_millis(5);
/// Lines of output that nobody has read yet.
const LINES_MAX: usize = 1_024;

/// What came of one round.
pub struct Round {
    /// From the start of the program until every pod takes requests.
    pub up: Duration,
    /// Until the first one did.
    pub first: Duration,
    /// From the signal until no process is left.
    pub down: Duration,
    /// What the mesh takes when it is up, by sort of process.
    pub footprint: BTreeMap<String, Footprint>,
    /// Memory that the machine has less than before, bytes; what others do meanwhile is in it.
    pub less_available: i64,
    /// Load average of the last minute, before the round.
    pub load: f64,
}

/// Programs and files where the user can read them.
pub struct Site {
    user: Ordinary,
    as_root: bool,
    proxy: DataPlane,
}

impl Site {
    pub fn new(options: &Options) -> Site {
        let program = |name: &str| options.programs.join(name);
        let user = Ordinary::with(&[program("ostro"), program("ostro-sample"), envoy::binary()]);
        fs::write(user.path("mesh.yaml"), options.yaml()).unwrap();
        Site { user, as_root: options.as_root, proxy: options.proxy }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.user.path(name)
    }

    fn up(&self, name: &str, word: &str) -> Child {
        let mut command = self.user.command("ostro");
        if self.as_root {
            command.uid(0).gid(0);
        }
        command
            .args(["up", "--plain", "--name", name, "--ingress", "127.0.0.1:0", "--expose", "0:s0.bench:80"])
            .args(["--control-http", "127.0.0.1:0", "--proxy", self.proxy.as_str(), "--envoy"])
            .arg(self.path("envoy"))
            .arg("-f")
            .arg(self.path("mesh.yaml"))
            .env(census::VARIABLE, word)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::options().create(true).append(true).open(self.path("log")).unwrap())
            .spawn()
            .unwrap()
    }

    pub fn round(&self, number: usize) -> Round {
        let name = format!("bench-{}-{number}", std::process::id());
        let word = format!("bench-{name}");
        let (load, before) = (load_average(), available());
        let started = Instant::now();
        let mut child = self.up(&name, &word);
        let lines = lines(&mut child);
        let Up { first, up, exposed } = wait_until_up(&lines, started, &name).unwrap_or_else(|why| {
            // What it said is worth more than that it did not come up.
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            // It may have ended by itself.
            let _ = child.kill();
            panic!("{why}\n{log}");
        });
        let processes = census::processes(&word);
        let footprint = by_program(&processes);
        let less_available = before - available();
        assert_answers(&exposed);
        let told = Instant::now();
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        assert!(child.wait().unwrap().success());
        while !census::processes(&word).is_empty() {
            assert!(told.elapsed() < DOWN_MAX, "not gone within {DOWN_MAX:?}");
            #[expect(clippy::disallowed_methods, reason = "processes end without telling us")]
            std::thread::sleep(LOOK);
        }
        Round { up, first, down: told.elapsed(), footprint, less_available, load }
    }
}

struct Up {
    first: Duration,
    up: Duration,
    exposed: String,
}

/// What the mesh says, line by line.
fn lines(child: &mut Child) -> Receiver<String> {
    let (tell, told) = sync_channel(LINES_MAX);
    let output = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            // Nobody listens once it is up: its pipe must not fill for that.
            let _ = tell.try_send(line);
        }
    });
    told
}

fn wait_until_up(lines: &Receiver<String>, started: Instant, name: &str) -> Result<Up, String> {
    let (mut first, mut exposed) = (None, None);
    let ready = format!("mesh {name} ready");
    loop {
        let left = UP_MAX.saturating_sub(started.elapsed());
        let line = lines.recv_timeout(left).map_err(|_| "the mesh did not come up".to_owned())?;
        if line.starts_with("pod ") && line.ends_with(" ready") {
            first.get_or_insert(started.elapsed());
        } else if let Some(rest) = line.strip_prefix("expose ") {
            exposed = rest.split(' ').next().map(str::to_owned);
        } else if line.starts_with(&ready) {
            let up = started.elapsed();
            let missing = || format!("no pod and no exposed service before `{line}`");
            return first.zip(exposed).map(|(first, exposed)| Up { first, up, exposed }).ok_or_else(missing);
        }
    }
}

fn assert_answers(address: &str) {
    let address = address.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(load::get(address, "/", &[("host", "s0.bench")])).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default()
}

fn available() -> i64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<i64>().unwrap() << 10
}
