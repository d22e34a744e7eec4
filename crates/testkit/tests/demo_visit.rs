//! `ostro demo`: the mesh to look around in, and that the three lines it suggests work as they stand.

#![allow(clippy::unwrap_used, reason = "in a test, what is not there must stop it where it stands")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use ostro_testkit::envoy;
use ostro_testkit::load::get;
use ostro_testkit::running::program;
use rustix::process::{Pid, Signal, kill_process};

/// How long a line may take to show its effect.
const EFFECT_MAX: Duration = Duration::from_secs(60);
/// Answers looked at, at a time.
const ANSWERS: usize = 60;

struct Demo {
    child: Child,
    lines: BufReader<ChildStdout>,
    page: String,
    tries: Vec<String>,
}

impl Demo {
    fn start() -> Demo {
        let mut child = Command::new(program("ostro"))
            .args(["demo", "--name", &format!("visit-{}", std::process::id())])
            .env("OSTRO_ENVOY", envoy::binary())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut demo = Demo { child, lines, page: String::new(), tries: Vec::new() };
        let ready = format!("mesh visit-{} ready 7", std::process::id());
        demo.until(&ready);
        demo
    }

    /// Reads until a line is as `wanted`, and remembers what is told on the way.
    fn until(&mut self, wanted: &str) {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "it ended without `{wanted}`");
            let line = line.trim_end();
            match line.split_once(' ') {
                Some(("page", url)) => self.page = url.to_owned(),
                Some(("try", command)) => self.tries.push(command.to_owned()),
                _ => {}
            }
            if line.contains(wanted) {
                return;
            }
        }
    }

    /// Which versions of reviews answer, how often; and how many reviews lack their stars.
    async fn reviews(&self) -> (BTreeMap<String, usize>, usize) {
        let address = self.page.trim_start_matches("http://").split('/').next().unwrap().parse().unwrap();
        let (mut versions, mut starless) = (BTreeMap::new(), 0);
        for _ in 0..ANSWERS {
            let Ok(answer) =
                get(address, "/api/v1/products/0/reviews", &[("host", "bookinfo.example")]).await
            else {
                continue;
            };
            let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let version = body["podname"].as_str().and_then(|name| name.get(8..10)).unwrap_or("none");
            *versions.entry(version.to_owned()).or_default() += 1;
            let stars = body["reviews"][0]["rating"]["stars"].is_u64();
            starless += usize::from(["v2", "v3"].contains(&version) && !stars);
        }
        (versions, starless)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn shell(line: &str) {
    let status = Command::new("sh").args(["-c", line]).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "`{line}` ended with {status}");
}

#[tokio::test]
async fn what_the_demo_suggests_works_as_it_stands() {
    let mut demo = Demo::start();
    let [canary, abort, scale] = demo.tries.clone().try_into().unwrap();
    let (versions, starless) = demo.reviews().await;
    assert!(
        versions.contains_key("v2") && starless == 0,
        "before anything was tried: {versions:?}, {starless}"
    );

    shell(&abort);
    let begun = Instant::now();
    while demo.reviews().await.1 == 0 {
        assert!(begun.elapsed() < EFFECT_MAX, "`{abort}` did nothing");
    }
    shell(&canary);
    let begun = Instant::now();
    loop {
        let (versions, _) = demo.reviews().await;
        let (v1, v3) = (versions.get("v1").copied().unwrap_or(0), versions.get("v3").copied().unwrap_or(0));
        if v1 + v3 == ANSWERS && v3 > 0 && v3 < ANSWERS / 3 {
            break;
        }
        assert!(begun.elapsed() < EFFECT_MAX, "`{canary}` did nothing: {versions:?}");
    }
    shell(&scale);
    demo.until("ready 9");

    kill_process(Pid::from_raw(demo.child.id() as i32).unwrap(), Signal::INT).unwrap();
    demo.until("ended");
    assert!(demo.child.wait().unwrap().success());
}
