//! Three meshes at once do not meet, though they give the same names and addresses to what is in them.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, ChildStdout, Stdio};

use ostro_testkit::call::{Said, Speaks, call};
use ostro_testkit::ordinary::Ordinary;
use ostro_testkit::running::Running;
use ostro_testkit::{census, load};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const NAMES: [&str; 3] = ["red", "green", "blue"];
/// Who has, beside the same pod as everybody, two more.
const LARGEST: usize = 2;

/// A service `web` that a Deployment of the mesh's own name serves, and a service of that name.
fn yaml(name: &str, replicas: usize) -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{clusterIP: 10.96.0.77, selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}-web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
      - {{name: echo, image: ostro/sample, args: [echo, --http, "8080"], ports: [{{containerPort: 8080}}]}}
"#
    )
}

fn replicas(mesh: usize) -> usize {
    if mesh == LARGEST { 3 } else { 1 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_called_in_one_is_in_that_one() {
    let mut meshes = Vec::new();
    for (number, name) in NAMES.iter().enumerate() {
        meshes.push(Running::start(&[("web.yaml", &yaml(name, replicas(number)))], &[]).await);
    }
    let addresses = |mesh: &Running| -> Vec<String> {
        let pods = mesh.mesh.status().pods.into_iter();
        pods.filter(|pod| pod.workload.ends_with("-web")).map(|pod| pod.ip.to_string()).collect()
    };
    let of_all = addresses(&meshes[LARGEST]);
    for (mesh, name) in meshes.iter().zip(NAMES) {
        let own = addresses(mesh);
        assert!(own.iter().all(|address| of_all.contains(address)), "{own:?} are not among {of_all:?}");
        let caller = mesh.pod(&format!("{name}-web"));
        let said = async |host: &str, port| {
            caller.run(call(host.to_owned(), port, Speaks::Http)).await.unwrap().said
        };
        for host in ["web", "10.96.0.77", name] {
            for _ in 0..10 {
                let Said::By(who) = said(host, 80).await else { panic!("{name}: {host} does not answer") };
                assert!(who.starts_with(&format!("{name}-web-")), "{name}: {host} was answered by {who}");
            }
        }
        for other in NAMES.iter().filter(|other| **other != name) {
            assert_eq!(said(other, 80).await, Said::NoName, "{name}: {other}");
        }
        for address in of_all.iter().filter(|address| !own.contains(address)) {
            let said = said(address, 8080).await;
            assert!(!matches!(said, Said::By(_)), "{name}: {address} is no pod of this mesh: {said:?}");
        }
    }
    for mesh in meshes {
        mesh.end().await;
    }
}

/// `ostro up --name NAME`, which runs.
struct Up {
    child: Child,
    exposed: SocketAddr,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Up {
    /// Brings a mesh up and waits until it is.
    fn start(user: &Ordinary, mesh: &str, yaml: &str, word: &str) -> Up {
        let file = user.path(&format!("{mesh}.yaml"));
        fs::write(&file, yaml).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let mut child = user
            .command("ostro")
            // Where nothing is said, a mesh with a name of its own takes ports that are free.
            .args(["up", "--plain", "--name", mesh, "--expose", "0:web:80", "-f"])
            .arg(&file)
            .env(census::VARIABLE, word)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut up = Up { child, exposed: SocketAddr::from(([0, 0, 0, 0], 0)), lines };
        up.wait(mesh);
        up
    }

    fn wait(&mut self, mesh: &str) {
        // The lines end with the mesh, should that not come up.
        for line in self.lines.by_ref().map_while(Result::ok) {
            if let Some(rest) = line.strip_prefix("expose ") {
                self.exposed = rest.split(' ').next().and_then(|address| address.parse().ok()).unwrap();
            } else if line.starts_with(&format!("mesh {mesh} ready ")) {
                return;
            }
        }
        panic!("mesh {mesh} did not come up");
    }

    /// Who answers for `web` there.
    async fn answered_by(&self) -> String {
        let answer = load::get(self.exposed, "/", &[("host", "web")]).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let account: Value = serde_json::from_slice(&answer.body).unwrap();
        account["hostname"].as_str().unwrap().to_owned()
    }
}

/// As processes, each with its name, of one ordinary user.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_reach_the_mesh_that_they_name() {
    let user = Ordinary::new();
    let word = user.dir().file_name().unwrap().to_string_lossy().into_owned();
    let before = census::Host::look(user.dir());
    let name = |mesh: &str| format!("{mesh}-{}", std::process::id());
    let mut ups: Vec<Up> = NAMES
        .iter()
        .enumerate()
        .map(|(number, mesh)| Up::start(&user, &name(mesh), &yaml(mesh, replicas(number)), &word))
        .collect();
    let ostro = |args: &[&str]| {
        let output = user.command("ostro").args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let pods = |mesh: &str| -> Vec<String> {
        let said: Value = serde_json::from_slice(&ostro(&["ps", "--json", "--name", &name(mesh)])).unwrap();
        let pods = said["pods"].as_array().unwrap().iter();
        pods.map(|pod| pod["workload"]["name"].as_str().unwrap().to_owned())
            .filter(|workload| workload.ends_with("-web"))
            .collect()
    };
    for (number, (mesh, up)) in NAMES.iter().zip(&ups).enumerate() {
        assert_eq!(pods(mesh), vec![format!("{mesh}-web"); replicas(number)]);
        assert!(up.answered_by().await.starts_with(&format!("{mesh}-web-")));
    }
    let all: Value = serde_json::from_slice(&ostro(&["ps", "--all", "--json"])).unwrap();
    for mesh in NAMES {
        assert!(all["meshes"].to_string().contains(&name(mesh)), "{all:#}");
    }

    // One ends, the others do not hear of it.
    ostro(&["down", "--name", &name(NAMES[0])]);
    let mut first = ups.remove(0);
    assert!(first.child.wait().unwrap().success());
    assert!(first.lines.map_while(Result::ok).any(|line| line == format!("mesh {} ended", name(NAMES[0]))));
    for (mesh, up) in NAMES.iter().skip(1).zip(&ups) {
        assert!(up.answered_by().await.starts_with(&format!("{mesh}-web-")));
    }
    for mut up in ups {
        kill_process(Pid::from_child(&up.child), Signal::INT).unwrap();
        assert!(up.child.wait().unwrap().success());
    }
    assert_eq!(census::processes(&word).len(), 0, "processes");
    assert_eq!(census::Host::look(user.dir()), before, "mounts, links, rules, sockets");
    assert_eq!(fs::read_dir(user.tmp()).unwrap().count(), 0, "files");
}
