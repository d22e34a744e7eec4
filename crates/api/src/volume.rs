//! Volumes of pods, and the kinds whose entries they hold: ConfigMap and Secret.

use std::collections::BTreeMap;

use crate::schema::schema;
use crate::workload::{ObjectFieldSelector, ResourceFieldSelector};

schema! {
    /// What containers of a pod may mount: a name, and one source of several.
    slim struct Volume {
        /// Unique in the pod.
        name: String,
        /// Empty at first, gone with the pod.
        empty_dir: Option<EmptyDir>,
        /// A ConfigMap's entries as files.
        config_map: Option<ConfigMapVolume>,
        /// A Secret's entries as files.
        secret: Option<SecretVolume>,
        /// Fields of the pod as files.
        downward_api as "downwardAPI": Option<DownwardApiVolume>,
        /// Several of these in one directory.
        projected: Option<ProjectedVolume>,
        /// A directory of the machine.
        host_path: Option<HostPath>,
        /// Storage that outlives the pod.
        persistent_volume_claim: Option<PersistentVolumeClaim>,
    }

    /// An empty directory.
    slim struct EmptyDir {
        /// `Memory` or empty.
        medium: String,
    }

    /// A directory of the machine.
    slim struct HostPath {
        /// Where.
        path: String,
    }

    /// Storage that outlives the pod.
    slim struct PersistentVolumeClaim {
        /// Its claim.
        claim_name: String,
    }

    /// A ConfigMap's entries as files.
    slim struct ConfigMapVolume {
        /// The ConfigMap's name.
        name: String,
        /// Which entries, and where; none means all, by their keys.
        items: Vec<KeyToPath>,
        /// It may be missing.
        optional: bool,
    }

    /// A Secret's entries as files.
    slim struct SecretVolume {
        /// The Secret's name; in projected volumes it is `name`.
        secret_name: String,
        /// Of a projected volume's source: the Secret's name.
        name: String,
        /// Which entries, and where; none means all, by their keys.
        items: Vec<KeyToPath>,
        /// It may be missing.
        optional: bool,
    }

    /// An entry and the file it becomes.
    slim struct KeyToPath {
        /// The entry.
        key: String,
        /// Relative to the volume.
        path: String,
    }

    /// Fields of the pod as files.
    slim struct DownwardApiVolume {
        /// One by one.
        items: Vec<DownwardApiFile>,
    }

    /// A field of the pod as a file.
    slim struct DownwardApiFile {
        /// Relative to the volume.
        path: String,
        /// Which field.
        field_ref: Option<ObjectFieldSelector>,
        /// Or which resource.
        resource_field_ref: Option<ResourceFieldSelector>,
    }

    /// Several sources in one directory.
    slim struct ProjectedVolume {
        /// Later ones win.
        sources: Vec<VolumeProjection>,
    }

    /// One source of a projected volume.
    slim struct VolumeProjection {
        /// A ConfigMap's entries.
        config_map: Option<ConfigMapVolume>,
        /// A Secret's entries.
        secret: Option<SecretVolume>,
        /// Fields of the pod.
        downward_api as "downwardAPI": Option<DownwardApiVolume>,
        /// A token of the pod's service account.
        service_account_token: Option<ServiceAccountToken>,
    }

    /// A token of the pod's service account.
    slim struct ServiceAccountToken {
        /// Whom it is for; empty means the API server.
        audience: String,
        /// Seconds it is good for; unset means 3600.
        expiration_seconds: Option<u32>,
        /// Relative to the volume.
        path: String,
    }

    /// Where a container finds a volume.
    slim struct VolumeMount {
        /// The volume's name.
        name: String,
        /// An absolute path.
        mount_path: String,
        /// A file or directory of the volume; empty means all of it.
        sub_path: String,
        /// It cannot be written.
        read_only: bool,
    }

    /// v1 ConfigMap.
    slim struct ConfigMap {
        /// Text by key.
        data: BTreeMap<String, String>,
        /// Bytes by key.
        binary_data: BTreeMap<String, Base64>,
    }

    /// v1 Secret.
    slim struct Secret {
        /// Bytes by key.
        data: BTreeMap<String, Base64>,
        /// Text by key; wins over `data`.
        string_data: BTreeMap<String, String>,
        /// What it is for.
        r#type: String,
    }
}

/// Bytes, written in base 64.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Base64(pub Vec<u8>);

/// Their number only: what is written so is often secret.
impl std::fmt::Debug for Base64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl ConfigMap {
    /// All entries as bytes.
    pub fn entries(&self) -> BTreeMap<&str, &[u8]> {
        entries(&self.binary_data, &self.data)
    }
}

impl Secret {
    /// All entries as bytes.
    pub fn entries(&self) -> BTreeMap<&str, &[u8]> {
        entries(&self.data, &self.string_data)
    }
}

fn entries<'a>(
    bytes: &'a BTreeMap<String, Base64>,
    text: &'a BTreeMap<String, String>,
) -> BTreeMap<&'a str, &'a [u8]> {
    let mut all: BTreeMap<&str, &[u8]> =
        bytes.iter().map(|(key, value)| (key.as_str(), value.0.as_slice())).collect();
    all.extend(text.iter().map(|(key, value)| (key.as_str(), value.as_bytes())));
    all
}
