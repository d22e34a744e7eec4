//! What `ostro up` shows of a mesh: in a terminal, as lines, as JSON. A real mesh, one echo server behind an
//! ingress; what differs from run to run is masked, the rest is compared as it stands.
#![allow(clippy::unwrap_used, reason = "in a test, what is not there must stop it where it stands")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ostro_testkit::envoy;
use ostro_testkit::load::get;
use ostro_testkit::running::program;
use ostro_testkit::terminal::Session;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long the mesh may take, on a machine that does other things too.
const UP_MAX: Duration = Duration::from_secs(120);
/// How long a key may take to show.
const KEY_MAX: Duration = Duration::from_secs(20);

const ECHO: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports: [{name: http, port: 8080}]
---
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
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo}
spec:
  hosts: ["*"]
  gateways: [edge]
  http:
  - route:
    - destination: {host: echo}
"#;

/// A program that does not know what it is told, and ends at once.
const CRASHING: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: crashing}
spec:
  containers:
  - name: main
    image: ostro/sample
    args: [no-such-sample]
"#;

/// An image that nothing stands in for.
const BROKEN: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: broken}
spec:
  containers:
  - name: main
    image: example.com/nobody/knows:1
"#;

/// A name that no mesh of another test has, in this process or another.
fn name_in(directory: &Path) -> String {
    let unique = directory.file_name().unwrap().to_str().unwrap().to_ascii_lowercase();
    unique.trim_start_matches("ostro-").replace('_', "-")
}

fn up(directory: &Path, more: &[&str]) -> Command {
    let config = directory.join("config");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("echo.yaml"), ECHO).unwrap();
    let mut command = Command::new(program("ostro"));
    command
        .args(["up", "--ingress", "127.0.0.1:0", "--control-http", "127.0.0.1:0", "--drain", "0"])
        .args(["--name", &name_in(directory)])
        .arg("--state-dir")
        .arg(directory.join("state"))
        .args(more)
        .arg("-f")
        .arg(&config)
        .env("OSTRO_ENVOY", envoy::binary())
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .env_remove("OSTRO_LOG");
    command
}

fn directory() -> TempDir {
    // A mesh's name is made of it: no letters that a name may not have.
    tempfile::Builder::new().prefix("ostro-view-").suffix("-t").rand_bytes(8).tempdir().unwrap()
}

/// Numbers, and the hash in a pod's name, as `#`; runs of blanks as one, since columns are as wide as what is
/// masked.
fn masked(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let words: Vec<String> = line.split_whitespace().map(mask).collect();
        lines.push(words.join(" "));
    }
    lines.join("\n").trim_end().to_owned()
}

fn mask(word: &str) -> String {
    let hashed = |part: &str| part.len() == 8 && part.chars().all(|c| c.is_ascii_hexdigit());
    let parts: Vec<&str> = word.split('-').map(|part| if hashed(part) { "#" } else { part }).collect();
    let mut masked = String::new();
    for c in parts.join("-").chars() {
        match c {
            // `10.244.0.2` and `99.5` are one number each.
            c if c.is_ascii_digit() && masked.ends_with('#') => {}
            '.' if masked.ends_with('#') => {}
            c if c.is_ascii_digit() => masked.push('#'),
            c => masked.push(c),
        }
    }
    masked
}

#[test]
fn masks_hide_what_differs_and_nothing_else() {
    assert_eq!(masked("echo-1a2b3c4d-0  10.244.0.3   99.5 %\n\n"), "echo-#-# # # %");
    assert_eq!(masked("http://127.0.0.1:8080 is v1"), "http://#:# is v#");
}

/// The `n`-th word after `label` on the screen.
fn word_after(screen: &str, label: &str) -> String {
    let line =
        screen.lines().find(|line| line.contains(label)).unwrap_or_else(|| panic!("{label}:\n{screen}"));
    let mut words = line.split_whitespace().skip_while(|word| *word != label).skip(1);
    words.next().unwrap().to_owned()
}

/// Requests to the ingress gateway until `done` says that it is enough.
fn load(address: &str, done: std::sync::mpsc::Receiver<()>) {
    let target = address.trim_start_matches("http://").parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        while matches!(done.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty)) {
            // One that fails shows on the screen.
            let _ = get(target, "/", &[("host", "echo.example")]).await;
        }
    });
}

#[test]
fn a_terminal_shows_progress_then_pods_and_edges_and_obeys_keys() {
    let directory = directory();
    let mut session = Session::start(up(directory.path(), &[]), 100, 20);
    let before = session.modes();
    let live = session.until("the live view", UP_MAX, |screen| screen.contains("no proxy has sent"));
    let (done, asked) = std::sync::mpsc::sync_channel(1);
    let ingress = word_after(&live, "ingress");
    let loading = std::thread::spawn(move || load(&ingress, asked));
    let with_rate = |screen: &str| {
        let edge = screen.lines().find(|line| line.contains("echo.default:8080"));
        edge.is_some_and(|line| !line.contains(" 0.0 ") && !line.contains("  -  "))
    };
    let live = session.until("an edge with its rate", UP_MAX, with_rate);
    let expected = "\
ostro default # of # pods ready p pods e edges ? help q quit
ingress http://#:#
control http://#:#

POD NAMESPACE PROXY ADDRESS RESTARTS STATE
echo-#-# default sidecar # # ready
istio-ingressgateway-#-# istio-system gateway # # ready

FROM TO REQ/S SUCCESS P# P# MTLS
istio-system/istio-ingressgateway echo.default:# # # % # ms # ms no";
    assert_eq!(masked(&live.replace(&name_in(directory.path()), "default")), expected);
    let success = live.lines().find(|line| line.contains("echo.default:8080")).unwrap();
    assert!(success.contains("100.0 %"), "{live}");

    session.type_keys("p");
    let pods = session.until("pods alone", KEY_MAX, |screen| !screen.contains("FROM"));
    assert!(pods.contains("POD ") && pods.contains("istio-ingressgateway-"), "{pods}");
    session.type_keys("e");
    let edges =
        session.until("edges alone", KEY_MAX, |screen| screen.contains("FROM") && !screen.contains("POD "));
    assert!(edges.contains("echo.default:8080"), "{edges}");
    session.type_keys("?");
    session.until("help", KEY_MAX, |screen| screen.contains("q        end the mesh, as Ctrl-C does"));
    session.type_keys("?");
    session.until("both again", KEY_MAX, |screen| screen.contains("FROM") && screen.contains("POD "));

    session.resize(60, 9);
    let small = session.until("a small screen", KEY_MAX, |screen| screen.contains("more (p shows all)"));
    assert!(small.lines().count() <= 9 && small.contains("FROM "), "{small}");
    // Whoever waits for the load to be told to end must not be waited for by it.
    done.send(()).unwrap();
    loading.join().unwrap();

    assert!(session.is_taken());
    session.type_keys("q");
    assert!(session.ended().success());
    given_back(&session, &before);
    let raw = String::from_utf8_lossy(&session.raw()).into_owned();
    assert!(raw.contains("\x1b[32m"), "there are colours");
    // How much of the way up was to be seen depends on how quick it was; that it began was.
    for progress in ["reading files, starting the control plane", " is coming up: 0 of ", " pods ready, "] {
        assert!(raw.contains(progress), "{progress}");
    }
}

fn given_back(session: &Session, before: &rustix::termios::Termios) {
    session.until("the first screen", KEY_MAX, |screen| screen.contains("is coming up: 2 of 2 pods ready"));
    assert!(!session.is_taken(), "the screen and the cursor are back");
    let now = session.modes();
    assert_eq!((now.local_modes, now.input_modes), (before.local_modes, before.input_modes));
}

#[test]
fn the_terminal_is_given_back_however_the_mesh_ends() {
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        let directory = directory();
        let mut command = up(directory.path(), &[]);
        command.env("NO_COLOR", "1");
        let mut session = Session::start(command, 100, 20);
        let before = session.modes();
        session.until("the live view", UP_MAX, |screen| screen.contains("REQ/S"));
        // Killed, nobody is left in that process to tidy up: it is the mesh itself then, not who waits for it.
        let whom = if signal == Signal::KILL { mesh_of(session.id()) } else { session.id() };
        kill_process(Pid::from_raw(whom as i32).unwrap(), signal).unwrap();
        session.ended();
        given_back(&session, &before);
        let raw = String::from_utf8_lossy(&session.raw()).into_owned();
        assert!(!raw.contains("\x1b[32m") && !raw.contains("\x1b[1m"), "NO_COLOR is set");
    }
}

/// The mesh's own process: the child of the child of the one that was called.
fn mesh_of(called: u32) -> u32 {
    let child = |of: u32| {
        let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap();
        children.split_whitespace().next().unwrap().parse::<u32>().unwrap()
    };
    child(child(called))
}

/// Runs a mesh until it is ready, ends it, and returns what it wrote to a pipe.
fn piped(more: &[&str]) -> String {
    let directory = directory();
    let mut child = up(directory.path(), more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    let name = name_in(directory.path());
    while !text.contains(&format!("mesh {name} ready")) && !text.contains(r#""state":"ready","pods":"#) {
        assert!(out.read_line(&mut text).unwrap() > 0, "ended before it was ready:\n{text}");
    }
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), Signal::INT).unwrap();
    out.read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "", "nothing worth a log line has happened");
    text.replace(&name, "default")
}

/// Pods come up in any order; what is said of each, and of the mesh, is in order.
fn by_subject(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = masked(text).lines().map(str::to_owned).collect();
    lines.sort_by_key(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
    lines
}

#[test]
fn a_pipe_gets_the_same_plain_lines_every_time() {
    let expected = [
        "control http://#:#",
        "ingress http://#:#",
        "mesh default starting",
        "mesh default ready #",
        "mesh default ended",
        "pod default/echo-#-# starting #",
        "pod default/echo-#-# ready",
        "pod istio-system/istio-ingressgateway-#-# starting #",
        "pod istio-system/istio-ingressgateway-#-# ready",
    ];
    for _ in 0..2 {
        let text = piped(&[]);
        assert!(!text.contains('\x1b'), "{text}");
        assert_eq!(by_subject(&text), expected, "{text}");
    }
}

#[test]
fn a_script_gets_json() {
    let text = piped(&["--json"]);
    let events: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
        .collect();
    let states = |kind: &str, name: &str| -> Vec<String> {
        let of = events.iter().filter(|event| event["event"] == kind);
        let of = of.filter(|event| event["name"].as_str().unwrap_or_default().starts_with(name));
        of.map(|event| event["state"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(states("pod", "echo-"), ["starting", "ready"]);
    assert_eq!(states("pod", "istio-ingressgateway-"), ["starting", "ready"]);
    assert_eq!(states("mesh", ""), ["starting", "ready", "ended"]);
    let addresses: Vec<_> = events.iter().filter(|event| event["event"] == "address").collect();
    assert_eq!(addresses.len(), 2, "{text}");
    assert!(addresses.iter().all(|event| event["url"].as_str().unwrap().starts_with("http://127.0.0.1:")));
}

#[test]
fn progress_names_what_it_waits_for_and_what_cannot_be_run() {
    let directory = directory();
    let config = directory.path().join("config");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("broken.yaml"), BROKEN).unwrap();
    std::fs::write(config.join("crashing.yaml"), CRASHING).unwrap();
    let mut session = Session::start(up(directory.path(), &[]), 200, 30);
    session.until("the problem, whole", UP_MAX, |screen| screen.contains("`example.com/nobody/knows:1`"));
    session.until("what keeps the pod", UP_MAX, |screen| {
        // In progress as in the table of pods: it may have been ready for a moment.
        screen
            .lines()
            .any(|line| line.contains("crashing") && line.contains("container main: CrashLoopBackOff"))
    });
    session.type_keys("q");
    assert!(session.ended().success());
}
