//! The life of pods with real programs (shells) in real namespaces. Needs root, like the runner itself outside its
//! sandbox. Pods here have no proxies, so that neither an Envoy nor a control plane is needed: what stands in their
//! places are programs that end at once.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::path::PathBuf;
use std::time::Duration;

use ostro_agent::DataPlane;
use ostro_local::images::Images;
use ostro_local::logs::{self, Instance, Log};
use ostro_local::status::{ContainerState, Phase, PodStatus, Status, Waiting};
use ostro_local::tools::Proxies;
use ostro_local::up::{Mesh, Options};
use tempfile::TempDir;

/// How long anything may take on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(60);

struct Running {
    mesh: Mesh,
    dir: TempDir,
}

impl Running {
    async fn start(yaml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config");
        std::fs::create_dir(&config).unwrap();
        std::fs::write(config.join("pods.yaml"), yaml).unwrap();
        let images = serde_json::json!({"images": [
            {"match": "sh", "program": "/bin/sh", "args": ["-c"], "containerArgs": true},
        ]});
        let any = "127.0.0.1:0".parse().unwrap();
        let mesh = Mesh::start(Options {
            name: "test".to_owned(),
            paths: vec![config],
            state: dir.path().join("state"),
            images: Images::from_value(images).unwrap().then(Images::built_in().unwrap()),
            ostro: "/bin/false".into(),
            proxies: Proxies {
                usual: DataPlane::default(),
                ostro: "/bin/false".into(),
                envoy: Ok("/bin/false".into()),
            },
            programs: "/bin".into(),
            ingress: any,
            control_http: any,
            expose: Vec::new(),
            drain: Duration::ZERO,
        });
        Self { mesh: mesh.await.unwrap(), dir }
    }

    /// Waits until a pod is as it should be; it then.
    async fn until(&self, pod: &str, wanted: impl Fn(&PodStatus) -> bool) -> PodStatus {
        let found =
            |status: &Status| status.pods.iter().find(|p| p.name.name.starts_with(pod) && wanted(p)).cloned();
        let mut status = self.mesh.watch();
        let reached = tokio::time::timeout(PATIENCE, status.wait_for(|status| found(status).is_some())).await;
        match reached {
            Ok(Ok(status)) => found(&status).unwrap(),
            _ => panic!("{pod}: {:#?}", self.mesh.status()),
        }
    }

    fn log(&self, pod: &PodStatus, container: &str) -> Log {
        Log::new(&logs::directory(&self.dir.path().join("state/pods"), &pod.name), container)
    }

    fn said(&self, pod: &PodStatus, container: &str) -> String {
        let text = self.log(pod, container).tail(Instance::Present, None).unwrap().unwrap_or_default();
        String::from_utf8(text).unwrap()
    }

    fn write(&self, yaml: &str) {
        let config: PathBuf = self.dir.path().join("config");
        std::fs::write(config.join(".new"), yaml).unwrap();
        std::fs::rename(config.join(".new"), config.join("pods.yaml")).unwrap();
    }
}

/// A pod without a proxy.
fn pod(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}, annotations: {{sidecar.istio.io/inject: \"false\"}}}}\nspec:\n{spec}\n"
    )
}

const RUNS: &str = "exec sleep 1000";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_lives_as_it_would_in_kubernetes() {
    let init = pod(
        "init",
        &format!(
            r#"  initContainers:
  - {{name: first, image: sh, args: ["echo $COLOR from $(NAME); id -u; grep CapEff /proc/self/status"], env: [{{name: NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}, {{name: COLOR, valueFrom: {{configMapKeyRef: {{name: settings, key: color}}}}}}]}}
  - {{name: stays, image: sh, restartPolicy: Always, args: ["{RUNS}"]}}
  containers:
  - {{name: main, image: sh, args: ["{RUNS}"]}}"#
        ),
    );
    let crash = pod(
        "crash",
        r#"  containers: [{name: main, image: sh, args: ["echo before; echo the end >&2; exit 7"]}]"#,
    );
    let probed = pod(
        "probed",
        r#"  containers:
  - name: main
    image: sh
    workingDir: /run/pod
    args: ["pwd; sleep 1000 & wait"]
    readinessProbe: {exec: {command: [sh, -c, "test $HOSTNAME = probed"]}, periodSeconds: 1}
    livenessProbe: {exec: {command: [sh, -c, "echo ill; exit 5"]}, periodSeconds: 1, failureThreshold: 2}"#,
    );
    let map = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {color: blue}\n";
    let without = [init.clone(), crash, probed].concat();
    let running = Running::start(&without).await;

    let held = running.until("init", |pod| pod.held.is_some()).await;
    assert_eq!(held.held.as_deref(), Some("container first: ConfigMap settings is not there"));
    assert_eq!(held.summary(), "CreateContainerConfigError");

    running.write(&format!("{without}{map}"));
    let up = running.until("init", |pod| pod.ready).await;
    let first = running.said(&up, "first");
    let lines: Vec<&str> = first.lines().collect();
    assert_eq!(lines, ["blue from init", "65534", "CapEff:\t0000000000000400"]);
    assert_eq!((up.ready_count(), up.restarts, up.phase), ((2, 2), 0, Phase::Running));

    let crashing = running
        .until("crash", |pod| {
            pod.restarts >= 2
                && matches!(
                    pod.containers[0].state,
                    ContainerState::Waiting { reason: Waiting::CrashLoopBackOff, .. }
                )
        })
        .await;
    let last = crashing.containers[0].last.as_ref().unwrap();
    assert_eq!(
        (last.exit_code, last.last_lines.as_slice()),
        (7, ["before".into(), "the end".into()].as_slice())
    );
    let previous = running.log(&crashing, "main").tail(Instance::Previous, Some(1)).unwrap().unwrap();
    assert_eq!(previous, b"the end\n");

    let ill = running.until("probed", |pod| pod.restarts >= 1).await;
    let last = ill.containers[0].last.as_ref().unwrap();
    assert_eq!(last.reason.as_deref(), Some("liveness probe failed: exit code 5: ill"));
    running.until("probed", |pod| pod.ready).await;
    assert_eq!(running.said(&ill, "main"), "/run/pod\n");
    running.mesh.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_end_and_are_tried_as_often_as_they_may() {
    let job = |name: &str, spec: &str, policy: &str, script: &str| {
        format!(
            "---\napiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  {spec}\n  template:\n    metadata: {{annotations: {{sidecar.istio.io/inject: \"false\"}}}}\n    spec:\n      restartPolicy: {policy}\n      containers: [{{name: c, image: sh, args: [\"{script}\"]}}]\n"
        )
    };
    let running = Running::start(
        &[
            job("well", "completions: 3", "Never", "echo done"),
            job("again", "backoffLimit: 3", "OnFailure", "exec 2>/dev/null; exit 1"),
            job("never", "backoffLimit: 1", "Never", "exit 4"),
        ]
        .concat(),
    )
    .await;
    for index in 0..3 {
        let name = |pod: &PodStatus| pod.name.name.ends_with(&format!("-{index}"));
        let done = running.until("well", |pod| name(pod) && pod.phase == Phase::Succeeded).await;
        assert_eq!((running.said(&done, "c").as_str(), done.summary().as_str()), ("done\n", "Completed"));
    }
    let failed = running.until("again", |pod| pod.phase == Phase::Failed).await;
    assert_eq!(failed.restarts, 3);
    running.until("never", |pod| pod.name.name.ends_with("-0-r1") && pod.phase == Phase::Failed).await;
    let tries = running.mesh.status().pods.into_iter().filter(|pod| pod.workload == "never").count();
    assert_eq!(tries, 2);
    running.mesh.end().await;
}

/// What a shell leaves running when it is told to end goes with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_pod_stays() {
    let spec = r#"  containers: [{name: c, image: sh, args: ["sleep 1000 & echo $!; exec sleep 1000"]}]"#;
    let running = Running::start(&pod("leaves", spec)).await;
    let up = running.until("leaves", |pod| pod.ready).await;
    let logged = async {
        let mut follow = running.log(&up, "c").follow(None).unwrap();
        String::from_utf8(follow.next().await.unwrap().unwrap()).unwrap()
    };
    let child: u32 = tokio::time::timeout(PATIENCE, logged).await.unwrap().trim().parse().unwrap();
    assert!(std::path::Path::new(&format!("/proc/{child}")).exists());
    running.write("");
    let mut status = running.mesh.watch();
    let gone = status.wait_for(|status| status.pods.iter().all(|pod| pod.workload != "leaves"));
    tokio::time::timeout(PATIENCE, gone).await.unwrap().unwrap();
    let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
    running.mesh.end().await;
}

/// At paths that the machine has and at such as it has not, without a trace on the machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_are_where_they_are_wanted() {
    let data = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {color: blue}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {password: hunter2}\n";
    let spec = format!(
        r#"  volumes:
  - {{name: settings, configMap: {{name: settings}}}}
  - {{name: login, secret: {{secretName: login}}}}
  - {{name: work, emptyDir: {{}}}}
  - {{name: about, downwardAPI: {{items: [{{path: labels, fieldRef: {{fieldPath: metadata.labels}}}}]}}}}
  initContainers:
  - {{name: fill, image: sh, args: ["echo filled > /ostro-test-work/file"], volumeMounts: [{{name: work, mountPath: /ostro-test-work}}]}}
  containers:
  - name: main
    image: sh
    args: ["cat /ostro-test-work/file /etc/ostro-test/deep/color /opt/ostro-test/password; grep app= /ostro-test-about/labels; test -r /etc/passwd && test -d /proc/self && test -w /dev/null && echo there; echo x 2>/dev/null > /etc/ostro-test/deep/color || echo kept; cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo; tr . '\n' < /var/run/secrets/kubernetes.io/serviceaccount/token | wc -l; {RUNS}"]
    volumeMounts:
    - {{name: work, mountPath: /ostro-test-work}}
    - {{name: settings, mountPath: /etc/ostro-test/deep}}
    - {{name: login, mountPath: /opt/ostro-test/password, subPath: password}}
    - {{name: about, mountPath: /ostro-test-about}}
  - {{name: other, image: sh, args: ["exec 2>&1; cat /ostro-test-work/file; {RUNS}"], volumeMounts: [{{name: work, mountPath: /ostro-test-work}}]}}"#
    );
    let running = Running::start(&[pod("files", &spec), data.to_owned()].concat()).await;
    let up = running.until("files", |pod| pod.ready).await;
    let lines = async {
        let mut follow = running.log(&up, "main").follow(None).unwrap();
        let mut text = String::new();
        while text.lines().count() < 6 {
            text.push_str(&String::from_utf8(follow.next().await.unwrap().unwrap()).unwrap());
        }
        text
    };
    let text = tokio::time::timeout(PATIENCE, lines).await.unwrap_or_else(|_| running.said(&up, "main"));
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    // A ConfigMap's value has no end of line of its own.
    assert_eq!(lines, ["filled", "bluehunter2app=\"files\"", "there", "kept", "default", "2"], "{text}");
    assert_eq!(running.said(&up, "other"), "filled\n");
    for path in ["/ostro-test-work", "/etc/ostro-test", "/opt/ostro-test", "/ostro-test-about"] {
        assert!(!std::path::Path::new(path).exists(), "{path}");
    }
    running.mesh.end().await;
}
