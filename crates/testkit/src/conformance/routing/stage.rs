//! The mesh that cases are played on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ostro_agent::DataPlane;
use ostro_local::images::Images;
use ostro_local::status::PodStatus;
use ostro_local::tools::{Proxies, Tools};
use ostro_local::up::{Mesh, Options};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::mix::Mix;

use super::case::{Call, CallCase, Mirror, Port, Routing};
use super::client::{Ask, call};
use super::judge;

/// The echo services.
const SERVICES: [&str; 4] = ["a", "b", "c", "d"];
/// How long all pods may take to be ready.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long objects may take to show in a proxy's configuration and a call to come out as it should.
const EFFECT_MAX: Duration = Duration::from_secs(10);
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// The echo services and what runs them, as documents.
pub(super) fn services(ports: &[Port], mix: Mix) -> String {
    let services = SERVICES.iter().enumerate();
    let objects = services.flat_map(|(number, name)| echo(name, ports, mix.of(number)));
    objects.map(|object| object.to_string()).collect::<Vec<_>>().join("\n---\n")
}

/// A mesh of echo services, and the directory that it follows.
pub(super) struct Stage {
    mesh: Mesh,
    ports: Vec<Port>,
    dir: TempDir,
}

impl Stage {
    /// Brings the mesh up.
    pub(super) async fn open(ports: Vec<Port>, mix: Mix) -> Result<Stage, String> {
        let ports: Vec<Port> = ports.into_iter().filter(Port::is_served).collect();
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let followed = dir.path().join("objects");
        std::fs::create_dir(&followed).map_err(|e| e.to_string())?;
        std::fs::write(followed.join("echo.yaml"), services(&ports, mix)).map_err(|e| e.to_string())?;
        let tools = Tools::find(DataPlane::Envoy, None).map_err(|e| e.to_string())?;
        let any_port = ([127, 0, 0, 1], 0).into();
        // The runner takes the running binary for `ostro`, which stands beside this one.
        let ostro = tools.programs.join("ostro");
        let proxies = Proxies { usual: mix.usual(), ostro: ostro.clone(), ..tools.proxies };
        let mesh = Mesh::start(Options {
            name: "test".to_owned(),
            paths: vec![followed],
            state: dir.path().join("state"),
            images: Images::built_in().map_err(|e| e.to_string())?,
            ostro,
            proxies,
            programs: tools.programs,
            ingress: any_port,
            control_http: any_port,
            expose: Vec::new(),
            drain: Duration::from_secs(1),
        })
        .await
        .map_err(|e| e.to_string())?;
        let status = mesh.ready(READY_MAX).await;
        if !status.is_ready() {
            let unready: Vec<String> =
                status.pods.iter().filter(|p| !p.ready).map(|p| p.name.to_string()).collect();
            mesh.end().await;
            return Err(format!("not ready: {}", [status.problems, unready].concat().join(", ")));
        }
        Ok(Stage { mesh, ports, dir })
    }

    /// Ends the mesh.
    pub(super) async fn close(self) {
        self.mesh.end().await;
    }

    /// Plays a case; what is wrong, a line each.
    pub(super) async fn play(&self, case: &Routing) -> Vec<String> {
        match self.try_play(case).await {
            Ok(wrong) => wrong,
            Err(error) => vec![error],
        }
    }

    async fn try_play(&self, case: &Routing) -> Result<Vec<String>, String> {
        let before = self.configuration(&case.from).await?;
        let file = self.file();
        let staged = file.with_extension("new");
        std::fs::write(&staged, &case.config).map_err(|e| e.to_string())?;
        std::fs::rename(&staged, &file).map_err(|e| e.to_string())?;
        let took_effect = self.wait_for_configuration(&case.from, |now| *now != before).await;
        let mut wrong = Vec::new();
        for one in &case.calls {
            if took_effect {
                wrong.extend(
                    self.call_until_right(case, one)
                        .await
                        .into_iter()
                        .map(|w| format!("call {:?}: {w}", one.name)),
                );
            }
        }
        std::fs::remove_file(&file).map_err(|e| e.to_string())?;
        if !took_effect {
            return Err(format!("no effect on {} within {EFFECT_MAX:?}", case.from));
        }
        if !self.wait_for_configuration(&case.from, |now| *now == before).await {
            wrong.push(format!("still in effect on {} {EFFECT_MAX:?} after it was taken away", case.from));
        }
        Ok(wrong)
    }

    /// Makes a call again and again until it comes out right; at the end of patience, what is wrong with it.
    async fn call_until_right(&self, case: &Routing, one: &CallCase) -> Vec<String> {
        let deadline = Instant::now() + EFFECT_MAX;
        loop {
            let wrong = self.judge(case, one).await.unwrap_or_else(|error| vec![error]);
            if wrong.is_empty() || Instant::now() > deadline {
                return wrong;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Makes the call as often as it says; what is wrong.
    async fn judge(&self, case: &Routing, one: &CallCase) -> Result<Vec<String>, String> {
        let ask = self.ask(&case.to, &one.call)?;
        let mirror = one.expect.mirror.as_ref();
        let mirrored_before = match mirror {
            Some(mirror) => self.requests(&mirror.to, &one.call.port).await?,
            None => 0,
        };
        let mut wrong = BTreeSet::new();
        let mut answered_by = BTreeMap::new();
        for _ in 0..one.call.count {
            let answer = self.pod(&case.from)?.run(call(ask.clone())).await.ok_or("the pod is gone")??;
            wrong.extend(judge::answer(&one.expect, &case.to, &answer));
            let hostname = answer.seen["hostname"].as_str().unwrap_or_default();
            *answered_by.entry(self.service_of(hostname)).or_insert(0) += 1;
        }
        wrong.extend(judge::distribution(&one.expect, &answered_by));
        if let Some(mirror) = mirror {
            wrong.extend(self.judge_mirror(mirror, one, mirrored_before).await?);
        }
        Ok(wrong.into_iter().collect())
    }

    /// Copies arrive when they do: waits for as many as are expected, then counts whatever there is.
    async fn judge_mirror(
        &self,
        mirror: &Mirror,
        one: &CallCase,
        before: u64,
    ) -> Result<Option<String>, String> {
        let deadline = Instant::now() + EFFECT_MAX / 5;
        loop {
            let copies = self.requests(&mirror.to, &one.call.port).await?.saturating_sub(before);
            let percent = copies as f64 * 100.0 / one.call.count as f64;
            let is_right = (percent - mirror.percent).abs() <= mirror.tolerance;
            if is_right || Instant::now() > deadline {
                let Mirror { to, percent: expected, tolerance } = mirror;
                return Ok((!is_right).then(|| {
                    format!("copies to {to}: expected {expected} % +- {tolerance}, got {percent} %")
                }));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn ask(&self, to: &str, call: &Call) -> Result<Ask, String> {
        let port = self.port(&call.port)?;
        Ok(Ask {
            host: to.to_owned(),
            port: port.service_port.ok_or_else(|| format!("no service has port {}", call.port))?,
            grpc: match &call.scheme {
                Some(scheme) => scheme == "grpc",
                None => port.protocol == "GRPC",
            },
            method: call.method.clone(),
            path: call.path.clone(),
            headers: call.headers.clone(),
            follow_redirects: call.follow_redirects,
        })
    }

    fn port(&self, name: &str) -> Result<&Port, String> {
        self.ports
            .iter()
            .find(|p| p.name == name)
            .ok_or_else(|| format!("the echo services have no port {name}"))
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("objects").join("case.yaml")
    }

    fn pod(&self, workload: &str) -> Result<PodStatus, String> {
        let pods = self.mesh.status().pods;
        pods.into_iter().find(|p| p.workload == workload).ok_or_else(|| format!("no pod of {workload}"))
    }

    fn service_of(&self, hostname: &str) -> String {
        let pods = self.mesh.status().pods;
        pods.into_iter().find(|p| p.name.name == hostname).map(|p| p.workload).unwrap_or_default()
    }

    async fn admin(&self, workload: &str, path: &str) -> Result<String, String> {
        let answer = self.pod(workload)?.admin(path).await.ok_or("the pod is gone")?;
        let (_, body) = answer.map_err(|e| format!("proxy of {workload}: {e}"))?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Requests that a workload's proxy has passed on to its program's port so far.
    async fn requests(&self, workload: &str, port: &str) -> Result<u64, String> {
        let port = self.port(port)?.workload_port;
        // `inbound|<port>|...` as a regular expression, percent-encoded.
        let filter = format!("inbound%5C%7C{port}%5C%7C.*upstream_rq_total$");
        let stats = self.admin(workload, &format!("/stats?filter={filter}")).await?;
        Ok(stats.lines().filter_map(|l| l.rsplit(": ").next()?.parse::<u64>().ok()).sum())
    }

    /// Versions of all resources that a workload's proxy has.
    async fn configuration(&self, workload: &str) -> Result<BTreeSet<String>, String> {
        let dump: Value =
            serde_json::from_str(&self.admin(workload, "/config_dump").await?).map_err(|e| e.to_string())?;
        let mut versions = BTreeSet::new();
        collect_versions(&dump, &mut versions);
        Ok(versions)
    }

    async fn wait_for_configuration(
        &self,
        workload: &str,
        right: impl Fn(&BTreeSet<String>) -> bool,
    ) -> bool {
        let deadline = Instant::now() + EFFECT_MAX;
        while Instant::now() < deadline {
            if self.configuration(workload).await.is_ok_and(|now| right(&now)) {
                return true;
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    }
}

/// `name@version` of every dynamic resource, however deep in the dump.
fn collect_versions(dump: &Value, into: &mut BTreeSet<String>) {
    match dump {
        Value::Object(fields) => {
            if let Some(version) = fields.get("version_info").and_then(Value::as_str) {
                let resource = ["cluster", "listener", "route_config"].iter().find_map(|f| fields.get(*f));
                let name = resource.and_then(|r| r["name"].as_str()).unwrap_or_default();
                into.insert(format!("{name}@{version}"));
            }
            fields.values().for_each(|field| collect_versions(field, into));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_versions(item, into)),
        _ => {}
    }
}

/// A Service and a Deployment of the echo program.
fn echo(name: &str, ports: &[Port], proxy: DataPlane) -> [Value; 2] {
    let service_ports: Vec<Value> = ports
        .iter()
        .filter_map(|p| Some(json!({"name": p.name, "port": p.service_port?, "targetPort": p.workload_port})))
        .collect();
    let list = |wanted: &dyn Fn(&&Port) -> bool| {
        ports.iter().filter(wanted).map(|p| p.workload_port.to_string()).collect::<Vec<_>>().join(",")
    };
    let http = list(&|p| !p.is_tcp());
    let tcp = list(&|p| p.is_tcp() && !p.server_first);
    let server_first = list(&|p| p.is_tcp() && p.server_first);
    let labels = json!({"app": name, "version": "v1"});
    let container = json!({
        "name": "app",
        "image": "ostro/sample",
        "args": ["echo", "--http", http, "--tcp", tcp, "--server-first", server_first],
        "ports": ports.iter().map(|p| json!({"containerPort": p.workload_port})).collect::<Vec<_>>(),
    });
    [
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"selector": {"app": name}, "ports": service_ports},
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": labels, "annotations": {"ostro.dev/proxy": proxy.as_str()}}, "spec": {"containers": [container]}},
            },
        }),
    ]
}
