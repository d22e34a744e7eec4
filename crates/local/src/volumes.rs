//! Volumes of a pod: what is in them, and where containers find them. Pure; [`crate::furnish`] mounts them.
//!
//! A pod's containers share one view of the file system: a volume that one of them mounts is there for all. Two that
//! want different things at one path cannot be had, and are refused by name; so is what leads out of the pod's own
//! directory (`hostPath`) or outlives it.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use ostro_api::volume::{
    ConfigMapVolume, DownwardApiVolume, KeyToPath, ProjectedVolume, SecretVolume, Volume, VolumeMount,
};
use ostro_api::workload::Container;

use crate::env::{self, Facts};
use crate::plan::Proxy;
use crate::token::Issuer;

/// Where a pod finds the token of its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Where a proxy finds the token by which it asks for certificates.
const PROXY_TOKEN: &str = "/var/run/secrets/tokens";
/// Whom that token is for.
const PROXY_AUDIENCE: &str = "istio-ca";
/// Names of the volumes that every pod has, which no manifest can spell.
const ACCOUNT_VOLUME: &str = "~account";
const PROXY_VOLUME: &str = "~proxy";
/// Seconds that tokens are good for unless a manifest says otherwise. Kubernetes renews them after an hour; these are
/// not renewed, and outlive any mesh that somebody tries things on.
const TOKEN_SECONDS: u64 = 365 * 24 * 3_600;

/// Why a volume cannot be had. The user's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// Of a kind that is not.
    #[error(
        "volume {volume}: {kind} is not to be had here; emptyDir, configMap, secret, projected and downwardAPI are"
    )]
    Kind {
        /// Its name.
        volume: String,
        /// As in the manifest.
        kind: &'static str,
    },
    /// Mounted and not there.
    #[error("container {container}: volume {volume} is not among the pod's")]
    Unknown {
        /// Who mounts it.
        container: String,
        /// Its name.
        volume: String,
    },
    /// Two containers.
    #[error(
        "containers of one pod share their files: {path} cannot be both volume {first} and volume {second}"
    )]
    Clash {
        /// Where.
        path: String,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// A path.
    #[error("volume {volume}: the path `{path}` {why}")]
    Path {
        /// The volume.
        volume: String,
        /// As written.
        path: String,
        /// What it should be.
        why: &'static str,
    },
    /// A ConfigMap or Secret, or an entry of one.
    #[error("volume {volume}: {what} is not there")]
    Missing {
        /// The volume.
        volume: String,
        /// What.
        what: String,
    },
    /// No token.
    #[error("volume {volume}: no token: {why}")]
    Token {
        /// The volume.
        volume: String,
        /// Why.
        why: String,
    },
}

/// What a volume holds at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing; anybody may write.
    Empty,
    /// Files, by their paths; nobody may write.
    Files(BTreeMap<PathBuf, Vec<u8>>),
}

/// A place where a volume, or a part of it, is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The volume's name.
    pub volume: String,
    /// A file or directory of it; empty means all of it.
    pub sub_path: PathBuf,
    /// An absolute path.
    pub target: PathBuf,
    /// It cannot be written.
    pub read_only: bool,
}

/// A pod's volumes that are mounted, and where they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volumes {
    /// By name.
    pub contents: BTreeMap<String, Content>,
    /// Shorter targets first: none hides one before it.
    pub mounts: Vec<Mount>,
}

/// The volumes of a pod that is about to start.
pub fn of(facts: &Facts<'_>, issuer: &Issuer) -> Result<Volumes, VolumeError> {
    let plan = facts.plan;
    let mut volumes = Volumes::default();
    for run in &plan.runs {
        for mount in &run.container.volume_mounts {
            volumes.add(facts, issuer, &run.container, mount)?;
        }
    }
    let taken = |volumes: &Volumes, path: &str| volumes.mounts.iter().any(|m| m.target == Path::new(path));
    if plan.spec.automount_service_account_token != Some(false)
        && !plan.runs.is_empty()
        && !taken(&volumes, ACCOUNT)
    {
        let token = token(facts, issuer, ACCOUNT_VOLUME, "", TOKEN_SECONDS)?;
        let files = [
            ("token", token),
            ("namespace", plan.name.namespace.clone().into_bytes()),
            // There is no API server whose certificate it could vouch for.
            ("ca.crt", Vec::new()),
        ];
        volumes.add_own(ACCOUNT_VOLUME, ACCOUNT, files.map(|(name, text)| (name.into(), text)).into());
    }
    if plan.proxy != Proxy::None && !taken(&volumes, PROXY_TOKEN) {
        let token = token(facts, issuer, PROXY_VOLUME, PROXY_AUDIENCE, TOKEN_SECONDS)?;
        volumes.add_own(PROXY_VOLUME, PROXY_TOKEN, [("istio-token".into(), token)].into());
    }
    volumes.mounts.sort_by_key(|mount| (mount.target.components().count(), mount.target.clone()));
    Ok(volumes)
}

impl Volumes {
    fn add(
        &mut self,
        facts: &Facts<'_>,
        issuer: &Issuer,
        container: &Container,
        mount: &VolumeMount,
    ) -> Result<(), VolumeError> {
        let bad =
            |path: &str, why| VolumeError::Path { volume: mount.name.clone(), path: path.to_owned(), why };
        let named = facts.plan.spec.volumes.iter().find(|volume| volume.name == mount.name);
        let volume = named.ok_or_else(|| VolumeError::Unknown {
            container: container.name.clone(),
            volume: mount.name.clone(),
        })?;
        let target = PathBuf::from(&mount.mount_path);
        if !target.is_absolute() || target.components().count() < 2 || !is_plain(&target) {
            return Err(bad(&mount.mount_path, "has to be absolute, below /, and without .."));
        }
        let sub_path = PathBuf::from(&mount.sub_path);
        if sub_path.is_absolute() || !is_plain(&sub_path) {
            return Err(bad(&mount.sub_path, "has to be relative and without .."));
        }
        if !self.contents.contains_key(&volume.name) {
            self.contents.insert(volume.name.clone(), content(facts, issuer, volume)?);
        }
        let is_files = matches!(self.contents.get(&volume.name), Some(Content::Files(_)));
        let new =
            Mount { volume: volume.name.clone(), sub_path, target, read_only: mount.read_only || is_files };
        match self.mounts.iter().find(|known| known.target == new.target) {
            Some(known) if (&known.volume, &known.sub_path) == (&new.volume, &new.sub_path) => Ok(()),
            Some(known) => Err(VolumeError::Clash {
                path: mount.mount_path.clone(),
                first: known.volume.clone(),
                second: new.volume,
            }),
            None => {
                self.mounts.push(new);
                Ok(())
            }
        }
    }

    fn add_own(&mut self, volume: &str, target: &str, files: BTreeMap<PathBuf, Vec<u8>>) {
        self.contents.insert(volume.to_owned(), Content::Files(files));
        self.mounts.push(Mount {
            volume: volume.to_owned(),
            sub_path: PathBuf::new(),
            target: target.into(),
            read_only: true,
        });
    }
}

/// It stays below where it begins.
fn is_plain(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_) | Component::RootDir | Component::CurDir))
}

fn content(facts: &Facts<'_>, issuer: &Issuer, volume: &Volume) -> Result<Content, VolumeError> {
    let refused = |kind| Err(VolumeError::Kind { volume: volume.name.clone(), kind });
    let mut files = BTreeMap::new();
    if volume.empty_dir.is_some() {
        return Ok(Content::Empty);
    } else if let Some(map) = &volume.config_map {
        config_map(facts, &volume.name, map, &mut files)?;
    } else if let Some(of) = &volume.secret {
        secret(facts, &volume.name, of, &of.secret_name, &mut files)?;
    } else if let Some(api) = &volume.downward_api {
        downward(facts, &volume.name, api, &mut files)?;
    } else if let Some(all) = &volume.projected {
        projected(facts, issuer, &volume.name, all, &mut files)?;
    } else if volume.host_path.is_some() {
        return refused("hostPath");
    } else if volume.persistent_volume_claim.is_some() {
        return refused("persistentVolumeClaim");
    } else {
        return refused("its kind");
    }
    Ok(Content::Files(files))
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn projected(
    facts: &Facts<'_>,
    issuer: &Issuer,
    volume: &str,
    all: &ProjectedVolume,
    files: &mut Files,
) -> Result<(), VolumeError> {
    for source in &all.sources {
        if let Some(map) = &source.config_map {
            config_map(facts, volume, map, files)?;
        }
        if let Some(of) = &source.secret {
            secret(facts, volume, of, &of.name, files)?;
        }
        if let Some(api) = &source.downward_api {
            downward(facts, volume, api, files)?;
        }
        if let Some(wanted) = &source.service_account_token {
            let seconds = wanted.expiration_seconds.map_or(TOKEN_SECONDS, u64::from);
            let token = token(facts, issuer, volume, &wanted.audience, seconds)?;
            put(volume, &wanted.path, token, files)?;
        }
    }
    Ok(())
}

fn config_map(
    facts: &Facts<'_>,
    volume: &str,
    of: &ConfigMapVolume,
    files: &mut Files,
) -> Result<(), VolumeError> {
    let data = facts.around.config_maps.get(&of.name);
    entries(volume, data, ("ConfigMap", &of.name, of.optional), &of.items, files)
}

fn secret(
    facts: &Facts<'_>,
    volume: &str,
    of: &SecretVolume,
    name: &str,
    files: &mut Files,
) -> Result<(), VolumeError> {
    let data = facts.around.secrets.get(name);
    entries(volume, data, ("Secret", name, of.optional), &of.items, files)
}

fn entries(
    volume: &str,
    data: Option<&BTreeMap<String, Vec<u8>>>,
    (kind, name, optional): (&str, &str, bool),
    items: &[KeyToPath],
    files: &mut Files,
) -> Result<(), VolumeError> {
    let missing = |what: String| match optional {
        true => Ok(()),
        false => Err(VolumeError::Missing { volume: volume.to_owned(), what }),
    };
    let Some(data) = data else { return missing(format!("{kind} {name}")) };
    if items.is_empty() {
        for (key, value) in data {
            put(volume, key, value.clone(), files)?;
        }
    }
    for item in items {
        match data.get(&item.key) {
            Some(value) => put(volume, &item.path, value.clone(), files)?,
            None => missing(format!("entry {} of {kind} {name}", item.key))?,
        }
    }
    Ok(())
}

fn downward(
    facts: &Facts<'_>,
    volume: &str,
    api: &DownwardApiVolume,
    files: &mut Files,
) -> Result<(), VolumeError> {
    for item in &api.items {
        let field = item.field_ref.as_ref().map(|field| &field.field_path);
        let of_field = field.and_then(|path| env::field_value(facts, path));
        let of_resource = || {
            let selector = item.resource_field_ref.as_ref()?;
            env::resource_value(facts.plan, &Container::default(), selector)
        };
        let value = of_field.or_else(of_resource).ok_or_else(|| VolumeError::Missing {
            volume: volume.to_owned(),
            what: field.cloned().unwrap_or_else(|| "what resourceFieldRef names".to_owned()),
        })?;
        put(volume, &item.path, value.into_bytes(), files)?;
    }
    Ok(())
}

fn put(volume: &str, path: &str, bytes: Vec<u8>, files: &mut Files) -> Result<(), VolumeError> {
    let relative = PathBuf::from(path);
    if path.is_empty() || relative.is_absolute() || !is_plain(&relative) {
        let why = "has to be relative and without ..";
        return Err(VolumeError::Path { volume: volume.to_owned(), path: path.to_owned(), why });
    }
    files.insert(relative, bytes);
    Ok(())
}

fn token(
    facts: &Facts<'_>,
    issuer: &Issuer,
    volume: &str,
    audience: &str,
    seconds: u64,
) -> Result<Vec<u8>, VolumeError> {
    let plan = facts.plan;
    let pod = (plan.name.name.as_str(), facts.uid);
    let token = issuer.token(&plan.name.namespace, &plan.service_account, pod, audience, seconds);
    let why = |why: crate::token::TokenError| VolumeError::Token {
        volume: volume.to_owned(),
        why: why.to_string(),
    };
    token.map(String::into_bytes).map_err(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Around;
    use crate::images::Images;
    use crate::plan::plan;
    use ostro_api::parse_file;
    use serde_json::json;

    const YAML: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a: "1", b: "2"}
---
apiVersion: v1
kind: Secret
metadata: {name: login}
stringData: {password: hunter2}
---
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: p}}
spec:
  serviceAccountName: clerk
  volumes:
  - {name: all, configMap: {name: settings}}
  - {name: one, projected: {sources: [{configMap: {name: settings, items: [{key: b, path: deep/b}]}}, {secret: {name: login}}, {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}, {serviceAccountToken: {audience: me, path: token}}]}}
  - {name: work, emptyDir: {}}
  containers:
  - {name: c, image: x, volumeMounts: [{name: all, mountPath: /etc/all}, {name: one, mountPath: /one}, {name: work, mountPath: /work}]}
  - {name: d, image: x, volumeMounts: [{name: work, mountPath: /work}]}
"#;

    fn volumes(yaml: &str) -> Result<Volumes, VolumeError> {
        let parsed = parse_file("pod.yaml", yaml.as_bytes());
        assert!(parsed.complaints.is_empty(), "{:?}", parsed.complaints);
        let map = json!({"images": [{"match": "x", "program": "x"}]});
        let (pods, _) =
            plan(&parsed.objects, &Images::from_value(map).unwrap(), ostro_agent::DataPlane::Ostro);
        let around = Around::of("default", &parsed.objects, |_, _| None);
        let ip = "10.244.0.2".parse().unwrap();
        let plan = pods.values().next().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let issuer = Issuer::open(dir.path()).unwrap();
        of(&Facts { plan, around: &around, ips: &[ip], host_ip: ip, uid: "u" }, &issuer)
    }

    #[test]
    fn a_pod_finds_what_its_volumes_say() {
        let volumes = volumes(YAML).unwrap();
        let files = |name: &str| match &volumes.contents[name] {
            Content::Files(files) => files.clone(),
            Content::Empty => panic!("{name} is empty"),
        };
        assert_eq!(files("all"), [("a".into(), b"1".to_vec()), ("b".into(), b"2".to_vec())].into());
        let one = files("one");
        assert_eq!(one[Path::new("deep/b")], b"2");
        assert_eq!(one[Path::new("password")], b"hunter2");
        assert!(String::from_utf8_lossy(&one[Path::new("labels")]).contains("app=\"p\""));
        assert_eq!(one[Path::new("token")].split(|byte| *byte == b'.').count(), 3);
        assert_eq!(volumes.contents["work"], Content::Empty);
        let targets: Vec<String> = volumes.mounts.iter().map(|m| m.target.display().to_string()).collect();
        assert_eq!(targets, ["/one", "/work", "/etc/all", PROXY_TOKEN, ACCOUNT]);
        let writable: Vec<bool> = volumes.mounts.iter().map(|mount| !mount.read_only).collect();
        assert_eq!(writable, [false, true, false, false, false]);
        assert_eq!(files(ACCOUNT_VOLUME)[Path::new("namespace")], b"default");
        assert_eq!(files(PROXY_VOLUME).keys().collect::<Vec<_>>(), [Path::new("istio-token")]);
    }

    #[test]
    fn what_cannot_be_had_is_refused_by_name() {
        for (from, to, says) in [
            (
                "emptyDir: {}",
                "hostPath: {path: /}",
                "volume work: hostPath is not to be had here; emptyDir, configMap, secret, projected and downwardAPI are",
            ),
            (
                "{name: all, configMap: {name: settings}}",
                "{name: all, configMap: {name: nowhere}}",
                "volume all: ConfigMap nowhere is not there",
            ),
            ("key: b", "key: c", "volume one: entry c of ConfigMap settings is not there"),
            ("path: deep/b", "path: ../b", "volume one: the path `../b` has to be relative and without .."),
            (
                "mountPath: /one",
                "mountPath: one",
                "volume one: the path `one` has to be absolute, below /, and without ..",
            ),
            (
                "d, image: x, volumeMounts: [{name: work",
                "d, image: x, volumeMounts: [{name: all",
                "containers of one pod share their files: /work cannot be both volume work and volume all",
            ),
            (
                "d, image: x, volumeMounts: [{name: work",
                "d, image: x, volumeMounts: [{name: none",
                "container d: volume none is not among the pod's",
            ),
        ] {
            assert!(YAML.contains(from), "{from}");
            assert_eq!(volumes(&YAML.replace(from, to)).unwrap_err().to_string(), says);
        }
    }
}
