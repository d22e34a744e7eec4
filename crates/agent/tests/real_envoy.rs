//! The bootstrap, judged by a real Envoy.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ostro_agent::{Admin, Bootstrap, DataPlane, Kind, Locality, ProxyProgram};
use tokio_util::sync::CancellationToken;

fn envoy() -> PathBuf {
    let path = std::env::var_os("OSTRO_ENVOY").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/envoy-1.40.0/envoy")),
        PathBuf::from,
    );
    assert!(path.exists(), "no Envoy at {}; `cargo xtask tools` installs it", path.display());
    path
}

fn bootstrap() -> Bootstrap {
    Bootstrap {
        kind: Kind::Sidecar,
        ip: "10.244.0.7".parse().unwrap(),
        pod: "reviews-v1-0".into(),
        namespace: "default".into(),
        domain: "cluster.local".into(),
        service_cluster: "reviews.default".into(),
        locality: Locality { region: "r".into(), zone: "z".into(), sub_zone: "s".into() },
        metadata: serde_json::json!({"LABELS": {"app": "reviews"}, "ISTIO_VERSION": "1.32.0"})
            .as_object()
            .unwrap()
            .clone(),
        // Nobody listens there: discard, on the loopback.
        xds: "127.0.0.1:9".parse().unwrap(),
        mark: Some(1337),
    }
}

#[test]
fn envoy_accepts_the_bootstrap_without_a_word() {
    for kind in [Kind::Sidecar, Kind::Router] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("envoy.json");
        std::fs::write(&path, Bootstrap { kind, ..bootstrap() }.to_json().to_string()).unwrap();
        let output = std::process::Command::new(envoy())
            .args(["--mode", "validate", "--log-level", "info", "-c"])
            .arg(&path)
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{log}");
        for level in ["[warning]", "[error]", "[critical]"] {
            assert!(!log.contains(level), "{log}");
        }
    }
}

/// The ports of the bootstrap are those that Istio's tools and probes know, so a test that runs it moves them to free ones.
fn on_free_ports(mut json: serde_json::Value) -> serde_json::Value {
    json["admin"]["address"]["socket_address"]["port_value"] = 0.into();
    for listener in json["static_resources"]["listeners"].as_array_mut().unwrap() {
        listener["address"]["socket_address"]["port_value"] = 0.into();
    }
    json
}

#[tokio::test]
async fn an_envoy_that_dies_is_started_again_and_none_is_left_after_stop() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("envoy.json");
    let json = on_free_ports(bootstrap().to_json());
    let admin_file = dir.path().join("admin");

    std::fs::write(&config, json.to_string()).unwrap();
    let wrapper = dir.path().join("envoy.sh");
    let script = format!(
        "#!/bin/sh\necho $$ >> {pids}\nexec {envoy} \"$@\" --admin-address-path {admin}\n",
        pids = dir.path().join("pids").display(),
        envoy = envoy().display(),
        admin = admin_file.display(),
    );
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();

    let run = ProxyProgram {
        data_plane: DataPlane::Envoy,
        binary: wrapper,
        config,
        log: dir.path().join("envoy.log"),
        user: None,
        drain: Duration::ZERO,
        admin: Admin::local(),
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(run.run(stop.clone()));

    let pids = || -> Vec<i32> {
        let text = std::fs::read_to_string(dir.path().join("pids")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    let first = wait_for(|| pids().first().copied()).await;
    wait_for(|| admin_file.exists().then_some(())).await;
    let pid = rustix::process::Pid::from_raw(first).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let second = wait_for(|| pids().get(1).copied()).await;
    assert_ne!(first, second);

    stop.cancel();
    running.await.unwrap().unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{second}")).exists());
}

/// The control plane is not there, so there are requests to it that failed.
#[tokio::test]
async fn prometheus_is_told_clusters_and_response_codes_apart() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("envoy.json");
    std::fs::write(&config, on_free_ports(bootstrap().to_json()).to_string()).unwrap();
    let address = dir.path().join("admin");
    let mut envoy = tokio::process::Command::new(envoy());
    envoy.args([
        "--concurrency",
        "1",
        "--use-dynamic-base-id",
        "--disable-hot-restart",
        "--log-level",
        "off",
    ]);
    envoy.arg("-c").arg(&config).arg("--admin-address-path").arg(&address).kill_on_drop(true);
    let _envoy = envoy.spawn().unwrap();
    let address = wait_for(|| std::fs::read_to_string(&address).ok()?.trim().parse().ok()).await;
    let admin = Admin::at(address);
    let deadline = Instant::now() + Duration::from_secs(20);
    let wanted = [
        r#"envoy_cluster_upstream_rq{envoy_response_code="503",cluster_name="xds-grpc"}"#,
        r#"envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",cluster_name="xds-grpc"}"#,
        r#"envoy_cluster_upstream_cx_total{cluster_name="prometheus_stats"}"#,
    ];
    loop {
        let (_, body) = admin.call(http::Method::GET, "/stats/prometheus").await.unwrap();
        let text = String::from_utf8_lossy(&body);
        if wanted.iter().all(|line| text.contains(line)) {
            return;
        }
        let codes: Vec<&str> = text.lines().filter(|line| line.contains("response_code")).collect();
        assert!(Instant::now() < deadline, "{codes:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "nothing happened in 20 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
