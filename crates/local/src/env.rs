//! What a container's program is started with: its environment and its arguments, as Kubernetes makes them.
//!
//! In order, later entries win: what every container has (`PATH`, `HOME`, `HOSTNAME`), services of the pod's
//! namespace, what the image would bring (`images.yaml`), `envFrom`, `env`. `$(NAME)` in a value, in `command` and
//! in `args` stands for what came before it. Pure; where something is missing, the pod waits for it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ostro_api::kubernetes::Service;
use ostro_api::workload::{Container, EnvVar, KeySelector, Quantity, ResourceFieldSelector, SourceRef};
use ostro_api::{Object, Spec};

use crate::plan::{PodPlan, Run};

/// Where programs are looked for, unless the runner itself has a `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const MI: u64 = 1 << 20;

/// What a pod needs to start and is not there. The user's to mend; it is looked for again at every change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// A ConfigMap or Secret.
    #[error("container {container}: {kind} {name} is not there")]
    Object {
        /// Who needs it.
        container: String,
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Its name, in the pod's namespace.
        name: String,
    },
    /// An entry of one.
    #[error("container {container}: {kind} {name} has no entry {key}")]
    Key {
        /// Who needs it.
        container: String,
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Its name, in the pod's namespace.
        name: String,
        /// The entry.
        key: String,
    },
    /// A field or resource that a pod does not have.
    #[error("container {container}: {what} is not known here")]
    Field {
        /// Who asks for it.
        container: String,
        /// As written.
        what: String,
    },
}

/// Data by key, by the name of the ConfigMap or Secret that holds it.
type Data = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// What a pod finds around it when it starts.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// Variables that tell of services.
    pub services: Vec<(String, String)>,
    /// ConfigMaps of its namespace.
    pub config_maps: Data,
    /// Secrets of its namespace.
    pub secrets: Data,
}

impl Around {
    /// What `namespace` has, of `objects`; services by the addresses that were given out.
    pub fn of<'a>(
        namespace: &str,
        objects: impl IntoIterator<Item = &'a Object>,
        address: impl Fn(&str, &str) -> Option<Ipv4Addr>,
    ) -> Self {
        let mut around = Self::default();
        let own = |(key, value): (&str, &[u8])| (key.to_owned(), value.to_owned());
        let mut services: BTreeMap<&str, (&Service, Ipv4Addr)> = BTreeMap::new();
        for object in objects.into_iter().filter(|object| object.meta.namespace.as_str() == namespace) {
            let name = object.meta.name.as_str();
            match &object.spec {
                Spec::ConfigMap(map) => {
                    let data = map.entries().into_iter().map(own).collect();
                    around.config_maps.insert(name.to_owned(), data);
                }
                Spec::Secret(secret) => {
                    let data = secret.entries().into_iter().map(own).collect();
                    around.secrets.insert(name.to_owned(), data);
                }
                Spec::Service(service) => {
                    if let Some(address) = address(namespace, name) {
                        services.insert(name, (service, address));
                    }
                }
                _ => {}
            }
        }
        for (name, (service, address)) in services {
            service_variables(name, service, address, &mut around.services);
        }
        around
    }
}

/// `WEB_SERVICE_HOST` and its kin, and those of Docker's links.
fn service_variables(name: &str, service: &Service, address: Ipv4Addr, to: &mut Vec<(String, String)>) {
    let Some(first) = service.ports.first() else { return };
    let name = variable(name);
    let mut say = |key: String, value: String| to.push((key, value));
    say(format!("{name}_SERVICE_HOST"), address.to_string());
    say(format!("{name}_SERVICE_PORT"), first.port.to_string());
    for port in service.ports.iter().filter(|port| !port.name.is_empty()) {
        say(format!("{name}_SERVICE_PORT_{}", variable(&port.name)), port.port.to_string());
    }
    let url = |port: u16, protocol: &str| format!("{}://{address}:{port}", protocol.to_ascii_lowercase());
    say(format!("{name}_PORT"), url(first.port, first.protocol.as_str()));
    for port in &service.ports {
        let protocol = port.protocol.as_str();
        let prefix = format!("{name}_PORT_{}_{protocol}", port.port);
        say(prefix.clone(), url(port.port, protocol));
        say(format!("{prefix}_PROTO"), protocol.to_ascii_lowercase());
        say(format!("{prefix}_PORT"), port.port.to_string());
        say(format!("{prefix}_ADDR"), address.to_string());
    }
}

fn variable(name: &str) -> String {
    name.to_ascii_uppercase().replace(['-', '.'], "_")
}

/// What is known of a pod once it has an address.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What it is.
    pub plan: &'a PodPlan,
    /// What it finds.
    pub around: &'a Around,
    /// Its addresses, the first before the others.
    pub ips: &'a [IpAddr],
    /// Its node's address.
    pub host_ip: IpAddr,
    /// No two pods have the same.
    pub uid: &'a str,
}

/// What a program is started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Its environment, in the order in which it was made.
    pub env: Vec<(String, String)>,
    /// Its arguments.
    pub args: Vec<String>,
}

/// What the program of `run` is started with.
pub fn start(facts: &Facts<'_>, run: &Run) -> Result<Start, Missing> {
    let plan = facts.plan;
    let mut env = Env::default();
    env.set("PATH", std::env::var("PATH").unwrap_or_else(|_| PATH.to_owned()));
    env.set("HOME", "/".to_owned());
    env.set("HOSTNAME", plan.host_name().to_owned());
    if plan.spec.enable_service_links != Some(false) {
        for (name, value) in &facts.around.services {
            env.set(name, value.clone());
        }
    }
    env.set("POD_NAME", plan.name.name.clone());
    env.set("POD_NAMESPACE", plan.name.namespace.clone());
    for (name, value) in &run.program.env {
        env.set(name, value.clone());
    }
    let container = &run.container;
    for source in &container.env_from {
        let sources = [
            (&source.config_map_ref, "ConfigMap", &facts.around.config_maps),
            (&source.secret_ref, "Secret", &facts.around.secrets),
        ];
        for (reference, kind, data) in sources {
            let Some(reference) = reference else { continue };
            for (key, value) in whole(container, reference, kind, data)? {
                env.set(&format!("{}{key}", source.prefix), String::from_utf8_lossy(value).into_owned());
            }
        }
    }
    for var in &container.env {
        if let Some(value) = value(facts, container, var, &env)? {
            env.set(&var.name, value);
        }
    }
    let args = arguments(run).iter().map(|arg| expand(arg, |name| env.get(name))).collect();
    Ok(Start { env: env.all, args })
}

/// The program stands for the image's entry point, its arguments for the image's own. Where the manifest's count
/// (`containerArgs`), the first word of `command` is the entry point, and the rest of it and `args` follow.
fn arguments(run: &Run) -> Vec<String> {
    let mut args = run.program.args.clone();
    if run.program.container_args {
        args.extend(run.container.command.iter().skip(1).cloned());
        args.extend(run.container.args.iter().cloned());
    }
    args
}

/// Variables in the order of their first mention.
#[derive(Default)]
struct Env {
    all: Vec<(String, String)>,
}

impl Env {
    fn set(&mut self, name: &str, value: String) {
        match self.all.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.all.push((name.to_owned(), value)),
        }
    }

    fn get(&self, name: &str) -> Option<String> {
        self.all.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }
}

fn whole<'a>(
    container: &Container,
    reference: &SourceRef,
    kind: &'static str,
    data: &'a Data,
) -> Result<impl Iterator<Item = (&'a String, &'a Vec<u8>)> + use<'a>, Missing> {
    let found = data.get(&reference.name);
    if found.is_none() && !reference.optional {
        let (container, name) = (container.name.clone(), reference.name.clone());
        return Err(Missing::Object { container, kind, name });
    }
    Ok(found.into_iter().flatten())
}

fn value(
    facts: &Facts<'_>,
    container: &Container,
    var: &EnvVar,
    env: &Env,
) -> Result<Option<String>, Missing> {
    let Some(source) = &var.value_from else {
        return Ok(Some(expand(&var.value, |name| env.get(name))));
    };
    let unknown = |what: &str| Missing::Field { container: container.name.clone(), what: what.to_owned() };
    if let Some(field) = &source.field_ref {
        return field_value(facts, &field.field_path).map(Some).ok_or_else(|| unknown(&field.field_path));
    }
    if let Some(resource) = &source.resource_field_ref {
        let value = resource_value(facts.plan, container, resource);
        return value.map(Some).ok_or_else(|| unknown(&resource.resource));
    }
    if let Some(key) = &source.config_map_key_ref {
        return entry(container, key, "ConfigMap", &facts.around.config_maps);
    }
    if let Some(key) = &source.secret_key_ref {
        return entry(container, key, "Secret", &facts.around.secrets);
    }
    Ok(Some(String::new()))
}

fn entry(
    container: &Container,
    selector: &KeySelector,
    kind: &'static str,
    data: &Data,
) -> Result<Option<String>, Missing> {
    let object = data.get(&selector.name);
    if let Some(value) = object.and_then(|object| object.get(&selector.key)) {
        return Ok(Some(String::from_utf8_lossy(value).into_owned()));
    }
    if selector.optional {
        return Ok(None);
    }
    let (container, name) = (container.name.clone(), selector.name.clone());
    Err(match object {
        None => Missing::Object { container, kind, name },
        Some(_) => Missing::Key { container, kind, name, key: selector.key.clone() },
    })
}

/// A field of the pod, of those that the downward API knows.
pub fn field_value(facts: &Facts<'_>, path: &str) -> Option<String> {
    let plan = facts.plan;
    let all = |map: &BTreeMap<String, String>| {
        let lines: Vec<String> = map.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        lines.join("\n")
    };
    let ips = || facts.ips.iter().map(ToString::to_string).collect::<Vec<_>>();
    Some(match path {
        "metadata.name" => plan.name.name.clone(),
        "metadata.namespace" => plan.name.namespace.clone(),
        "metadata.uid" => facts.uid.to_owned(),
        "metadata.labels" => all(&plan.labels),
        "metadata.annotations" => all(&plan.annotations),
        "spec.nodeName" => crate::cluster::NODE.to_owned(),
        "spec.serviceAccountName" => plan.service_account.clone(),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.to_string(),
        "status.podIP" => ips().into_iter().next()?,
        "status.podIPs" => ips().join(","),
        _ => {
            let (map, key) = match path.strip_suffix("']")?.split_once("['")? {
                ("metadata.labels", key) => (&plan.labels, key),
                ("metadata.annotations", key) => (&plan.annotations, key),
                _ => return None,
            };
            // One that is not there is empty, as in Kubernetes.
            map.get(key).cloned().unwrap_or_default()
        }
    })
}

/// What a container may use of a resource, in whole divisors, rounded up. Without a limit it may use the machine.
pub fn resource_value(
    plan: &PodPlan,
    asking: &Container,
    selector: &ResourceFieldSelector,
) -> Option<String> {
    let named = |container: &&Container| container.name == selector.container_name;
    let container = match selector.container_name.as_str() {
        "" => asking,
        _ => plan.spec.containers.iter().chain(&plan.spec.init_containers).find(named)?,
    };
    let (side, resource) = selector.resource.split_once('.')?;
    let limits = &container.resources.limits;
    let quantity = match side {
        "limits" => limits.get(resource),
        // As in Kubernetes, who states only a limit requests that.
        "requests" => container.resources.requests.get(resource).or_else(|| limits.get(resource)),
        _ => return None,
    };
    let amount = match (quantity, side) {
        (Some(quantity), _) => milli(quantity)?,
        (None, "requests") => 0,
        (None, _) => machine(resource)?,
    };
    let divisor = selector.divisor.as_ref().and_then(milli).filter(|divisor| *divisor > 0).unwrap_or(1_000);
    Some(amount.div_ceil(divisor).to_string())
}

/// A quantity in thousandths.
fn milli(quantity: &Quantity) -> Option<u128> {
    let text = quantity.0.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(split)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() > 18 || !(fraction.is_ascii() && whole.len() + fraction.len() > 0) {
        return None;
    }
    let thousandths: String = fraction.chars().chain("000".chars()).take(3).collect();
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let milli = whole * 1_000 + thousandths.parse::<u128>().ok()?;
    let factor = match unit {
        "m" => return Some(milli.div_ceil(1_000)),
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    milli.checked_mul(factor)
}

/// What the machine has of a resource, in thousandths.
fn machine(resource: &str) -> Option<u128> {
    match resource {
        "cpu" => Some(std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u128 * 1_000),
        "memory" => Some(u128::from(memory()) * 1_000),
        _ => None,
    }
}

/// The machine's memory in bytes.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.map_or(512 * MI, |kilobytes| kilobytes * 1_024)
}

/// Replaces `$(NAME)` by the variable's value, if there is such a variable; `$$` stands for `$`.
pub fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            match variable(name) {
                Some(value) => expanded.push_str(&value),
                None => {
                    expanded.push_str("$(");
                    expanded.push_str(name);
                    expanded.push(')');
                }
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::Images;
    use crate::plan::plan;
    use ostro_api::parse_file;

    const YAML: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: my-db, namespace: shop}
spec: {clusterIP: 10.96.0.9, ports: [{name: sql, port: 5432}, {name: dns-udp, port: 53, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: other}
spec: {clusterIP: 10.96.0.10, ports: [{port: 1}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {COLOR: blue, size: "3"}
---
apiVersion: v1
kind: Secret
metadata: {name: login, namespace: shop}
data: {password: aHVudGVyMg==}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {note: "say \"hi\""}}
    spec:
      serviceAccountName: clerk
      containers:
      - name: c
        image: x
        command: [serve, --name, $(NAME)]
        args: ["--on=$(IP)", "$$(NAME)", "$(NOBODY)", "5$"]
        resources: {limits: {cpu: 1500m, memory: 1Gi}}
        envFrom:
        - {prefix: S_, configMapRef: {name: settings}}
        - {configMapRef: {name: nowhere, optional: true}}
        env:
        - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}
        - {name: HOST, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
        - {name: APP, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}
        - {name: NOTE, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['note']"}}}
        - {name: ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
        - {name: CPUS, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
        - {name: MILLI, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
        - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}}
        - {name: SIZE, valueFrom: {configMapKeyRef: {name: settings, key: size}}}
        - {name: PASSWORD, valueFrom: {secretKeyRef: {name: login, key: password}}}
        - {name: PERHAPS, valueFrom: {secretKeyRef: {name: login, key: nothing, optional: true}}}
        - {name: BOTH, value: "$(APP)-$(SIZE)"}
"#;

    fn started(yaml: &str) -> Result<Start, Missing> {
        let parsed = parse_file("shop.yaml", yaml.as_bytes());
        assert!(parsed.complaints.is_empty(), "{:?}", parsed.complaints);
        let map = serde_json::json!({"images": [
            {"match": "x", "program": "x", "args": ["first"], "env": {"A": "image", "S_size": "image"}, "containerArgs": true},
        ]});
        let (pods, errors) =
            plan(&parsed.objects, &Images::from_value(map).unwrap(), ostro_agent::DataPlane::Ostro);
        assert_eq!(errors, []);
        let plan = pods.values().next().unwrap();
        let around = Around::of("shop", &parsed.objects, |_, name| {
            Some(if name == "my-db" { Ipv4Addr::new(10, 96, 0, 9) } else { Ipv4Addr::new(10, 96, 0, 10) })
        });
        let ips = ["10.244.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let host_ip = "10.244.0.1".parse().unwrap();
        start(&Facts { plan, around: &around, ips: &ips, host_ip, uid: "u" }, &plan.runs[0])
    }

    #[test]
    fn a_container_finds_what_kubernetes_gives_it() {
        let Start { env, args } = started(YAML).unwrap();
        let env: BTreeMap<String, String> = env.into_iter().collect();
        let name = env["NAME"].clone();
        assert!(name.starts_with("web-"));
        assert_eq!(args, ["first", "--name", &name, "--on=10.244.0.2", "$(NAME)", "$(NOBODY)", "5$"]);
        for (key, value) in [
            ("HOSTNAME", name.as_str()),
            ("MY_DB_SERVICE_HOST", "10.96.0.9"),
            ("MY_DB_SERVICE_PORT", "5432"),
            ("MY_DB_SERVICE_PORT_SQL", "5432"),
            ("MY_DB_SERVICE_PORT_DNS_UDP", "53"),
            ("MY_DB_PORT", "tcp://10.96.0.9:5432"),
            ("MY_DB_PORT_5432_TCP", "tcp://10.96.0.9:5432"),
            ("MY_DB_PORT_5432_TCP_PROTO", "tcp"),
            ("MY_DB_PORT_53_UDP_PORT", "53"),
            ("MY_DB_PORT_53_UDP_ADDR", "10.96.0.9"),
            ("A", "image"),
            ("S_COLOR", "blue"),
            ("S_size", "3"),
            ("IP", "10.244.0.2"),
            ("IPS", "10.244.0.2,fd00::2"),
            ("HOST", "10.244.0.1"),
            ("APP", "web"),
            ("NOTE", "say \"hi\""),
            ("ACCOUNT", "clerk"),
            ("CPUS", "2"),
            ("MILLI", "1500"),
            ("MEMORY", "1024"),
            ("SIZE", "3"),
            ("PASSWORD", "hunter2"),
            ("BOTH", "web-3"),
        ] {
            assert_eq!(env.get(key).map(String::as_str), Some(value), "{key}");
        }
        assert!(!env.contains_key("PERHAPS"));
        assert!(!env.contains_key("ELSEWHERE_SERVICE_HOST"), "another namespace's");
    }

    #[test]
    fn services_can_be_left_out() {
        let yaml = YAML.replace("serviceAccountName: clerk", "enableServiceLinks: false");
        assert!(started(&yaml).unwrap().env.iter().all(|(name, _)| !name.contains("MY_DB")));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (from, to, says) in [
            ("metadata: {name: login,", "metadata: {name: logout,", "container c: Secret login is not there"),
            ("key: size", "key: weight", "container c: ConfigMap settings has no entry weight"),
            ("nowhere, optional: true", "nowhere", "container c: ConfigMap nowhere is not there"),
            ("spec.serviceAccountName", "spec.hostname", "container c: spec.hostname is not known here"),
        ] {
            assert_eq!(started(&YAML.replace(from, to)).unwrap_err().to_string(), says);
        }
    }

    #[test]
    fn amounts_are_counted_as_kubernetes_counts() {
        let milli = |text: &str| milli(&Quantity(text.to_owned()));
        assert_eq!(milli("0.5"), Some(500));
        assert_eq!(milli("100m"), Some(100));
        assert_eq!(milli("1.5Gi"), Some(1_610_612_736_000));
        assert_eq!(milli("2k"), Some(2_000_000));
        for wrong in ["", "x", "1X", "-1", "1e3"] {
            assert_eq!(milli(wrong), None, "{wrong}");
        }
    }
}
