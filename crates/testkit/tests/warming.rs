//! Stock Envoy while its configuration changes and changes: nothing stays warming, nothing is refused, nothing is
//! complained of. Over both transports; a real control plane follows real files.
//!
//! Each Envoy has a network namespace of its own, since sidecars listen on fixed ports. Needs root.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use ostro_agent::{Bootstrap, Kind, Locality};
use ostro_control::{ControlPlane, Options, Settings, Timing};
use ostro_local::link;
use ostro_local::place::Place;
use ostro_testkit::envoy::{self, Envoy};
use ostro_testkit::{envoy_log, universe};

/// How long a cluster may warm.
const WARM_MAX: Duration = Duration::from_secs(1);
/// How long a burst of edits may take to arrive. Generous: tests share two cores.
const ARRIVE_MAX: Duration = Duration::from_secs(30);
const BURSTS: usize = 120;
const EDITS_MAX: usize = 12;

/// Numbers that look random and are the same each time.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

fn put(dir: &Path, name: &str, text: &str) {
    let partial = dir.join(format!(".{name}.partial"));
    std::fs::write(&partial, text).unwrap();
    std::fs::rename(partial, dir.join(name)).unwrap();
}

fn edit(dir: &Path, draw: &mut Draw) {
    let object = draw.below(universe::versions().len());
    let versions = &universe::versions()[object];
    let name = format!("object-{object}.yaml");
    if draw.below(5) == 0 {
        // It need not be there.
        let _ = std::fs::remove_file(dir.join(name));
    } else {
        put(dir, &name, &versions[draw.below(versions.len())].text);
    }
}

fn bootstrap(xds: SocketAddr, api_type: &str) -> serde_json::Value {
    let mut json = Bootstrap {
        kind: Kind::Sidecar,
        ip: IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1)),
        pod: "p1".into(),
        namespace: "a".into(),
        domain: "cluster.local".into(),
        service_cluster: "web.a".into(),
        locality: Locality::default(),
        metadata: serde_json::json!({"LABELS": {"app": "web"}}).as_object().unwrap().clone(),
        xds,
        mark: None,
    }
    .to_json();
    json["dynamic_resources"]["ads_config"]["api_type"] = api_type.into();
    json
}

/// When a log line was written, since midnight.
fn time(line: &str) -> Option<Duration> {
    let clock = line.strip_prefix('[')?.split_once(']')?.0.split_once(' ')?.1;
    let mut parts = clock.split([':', '.']).map(|part| part.parse::<u64>().ok());
    let mut next = || parts.next().flatten();
    Some(Duration::from_millis((next()? * 3_600 + next()? * 60 + next()?) * 1_000 + next()?))
}

/// How long each cluster warmed, and which still do.
fn warming(log: &str) -> (Vec<(String, Duration)>, Vec<String>) {
    let mut begun: HashMap<&str, Duration> = HashMap::new();
    let mut ended = Vec::new();
    for line in log.lines() {
        let Some(now) = time(line) else { continue };
        let named = |before: &str, after: &str| Some(line.split_once(before)?.1.split_once(after)?.0);
        if let Some(cluster) = named("] add/update cluster ", " starting warming") {
            begun.insert(cluster, now);
        } else if let Some(cluster) = named("] warming cluster ", " complete")
            && let Some(then) = begun.remove(cluster)
        {
            // Around midnight the clock starts over.
            ended.push((cluster.to_owned(), now.checked_sub(then).unwrap_or_default()));
        } else if let Some(cluster) =
            line.split_once("] removing warming cluster ").map(|(_, cluster)| cluster)
        {
            begun.remove(cluster.trim());
        }
    }
    (ended, begun.into_keys().map(str::to_owned).collect())
}

/// Edits in bursts, without waiting for one another but for a marker after each burst.
fn harass(envoy: &Envoy, dir: &Path) {
    let mut draw = Draw(20_261_121);
    for burst in 0..BURSTS {
        for _ in 0..=draw.below(EDITS_MAX) {
            edit(dir, &mut draw);
        }
        let port = 20_000 + burst;
        let marker = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: marker, namespace: a}}\nspec: {{clusterIP: 10.9.9.9, ports: [{{name: tcp, port: {port}}}]}}\n"
        );
        put(dir, "marker.yaml", &marker);
        let arrived = format!("warming cluster outbound|{port}||marker.a.svc.cluster.local complete");
        assert!(
            envoy.wait_for_log(ARRIVE_MAX, |line| line.contains(&arrived)).is_some(),
            "burst {burst} never came"
        );
    }
}

async fn judge(api_type: &'static str) {
    let config = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let plane = ControlPlane::start(Options {
        paths: vec![config.path().to_owned()],
        state: Some(state.path().to_owned()),
        xds: any,
        http: vec![],
        settings: Settings::default(),
        timing: Timing::default(),
        version: "test",
    })
    .await
    .unwrap();
    let xds = plane.xds();
    tokio::task::spawn_blocking(move || {
        let options =
            envoy::Options { component_log_level: "upstream:debug".to_owned(), ..envoy::Options::default() };
        let envoy = Envoy::start(&bootstrap(xds, api_type), &options);
        envoy.wait_ready(envoy::START_LIMIT);
        harass(&envoy, config.path());
        let log = envoy.log();
        let (ended, open) = warming(&log);
        let longest = ended.iter().max_by_key(|(_, took)| *took).unwrap();
        println!("{api_type}: {} clusters warmed, the longest {longest:?}", ended.len());
        assert!(longest.1 < WARM_MAX, "{longest:?}");
        assert_eq!(open, [""; 0], "still warming");
        let rejected = envoy.stats("update_rejected$");
        assert!(rejected.values().all(|count| *count == 0), "{rejected:?}");
        assert_eq!(envoy_log::complaints(&log), [""; 0]);
    })
    .await
    .unwrap();
    plane.stop().await;
}

#[tokio::test]
async fn nothing_stays_warming_and_nothing_is_refused() {
    for api_type in ["DELTA_GRPC", "GRPC"] {
        let place = Place::open("warming", || Ok(())).unwrap();
        // Brings up the loopback too.
        link::ground(&place).await.unwrap();
        place.spawn(judge(api_type)).await.unwrap();
    }
}
