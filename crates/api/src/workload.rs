//! Pods, and the Kubernetes kinds that make pods from a template, as far as a mesh reads them.

use std::collections::BTreeMap;

use crate::kubernetes::TransportProtocol;
use crate::schema::{choice, schema};
use crate::volume::{Volume, VolumeMount};

schema! {
    /// v1 Pod.
    slim struct Pod {
        /// What should run.
        spec: PodSpec,
        /// What does.
        status: PodStatus,
    }

    /// What a pod should run.
    slim struct PodSpec {
        /// In order.
        containers: Vec<Container>,
        /// Run before, or beside if their `restart_policy` is `Always`.
        init_containers: Vec<Container>,
        /// Its identity; empty means `default`.
        service_account_name: String,
        /// Where it runs; empty while unscheduled.
        node_name: String,
        /// Shares the node's network.
        host_network: bool,
        /// Its host name; empty means the pod's name.
        hostname: String,
        /// Domain under its headless service.
        subdomain: String,
        /// Whose names it resolves: ClusterFirst (also when empty), ClusterFirstWithHostNet, Default, None.
        dns_policy: String,
        /// Added to what `dns_policy` says.
        dns_config: Option<PodDnsConfig>,
        /// Lines of its `/etc/hosts`.
        host_aliases: Vec<HostAlias>,
        /// Seconds between the stop signal and the kill; unset means 30.
        termination_grace_period_seconds: Option<u32>,
        /// When its containers are started again; unset means always.
        restart_policy: Option<RestartPolicy>,
        /// What its containers may mount.
        volumes: Vec<Volume>,
        /// Environment variables tell of services; unset means yes.
        enable_service_links: Option<bool>,
        /// A token of its service account is mounted; unset means yes.
        automount_service_account_token: Option<bool>,
    }

    /// What a pod adds to its resolver's configuration.
    slim struct PodDnsConfig {
        /// Addresses of name servers.
        nameservers: Vec<String>,
        /// Domains to try names in.
        searches: Vec<String>,
        /// Options of the resolver.
        options: Vec<PodDnsConfigOption>,
    }

    /// An option of a resolver.
    slim struct PodDnsConfigOption {
        /// Such as `ndots`.
        name: String,
        /// Unset or empty: it has none.
        value: String,
    }

    /// A line of `/etc/hosts`.
    slim struct HostAlias {
        /// An address.
        ip: String,
        /// Its names.
        hostnames: Vec<String>,
    }

    /// A container.
    slim struct Container {
        /// Unique in the pod.
        name: String,
        /// What to run.
        image: String,
        /// Replaces the image's entry point.
        command: Vec<String>,
        /// Replaces the image's arguments.
        args: Vec<String>,
        /// Environment.
        env: Vec<EnvVar>,
        /// Ports it tells of.
        ports: Vec<ContainerPort>,
        /// When it takes traffic.
        readiness_probe: Option<Probe>,
        /// When it must be restarted.
        liveness_probe: Option<Probe>,
        /// When it has started.
        startup_probe: Option<Probe>,
        /// Of an init container: `Always` makes it a sidecar.
        restart_policy: String,
        /// Where it starts; empty means the image's.
        working_dir: String,
        /// Environment from whole ConfigMaps and Secrets; `env` wins.
        env_from: Vec<EnvFromSource>,
        /// What it finds where.
        volume_mounts: Vec<VolumeMount>,
        /// What it may use.
        resources: ResourceRequirements,
    }

    /// Environment from a whole ConfigMap or Secret.
    slim struct EnvFromSource {
        /// Precedes each name.
        prefix: String,
        /// Of a ConfigMap.
        config_map_ref: Option<SourceRef>,
        /// Of a Secret.
        secret_ref: Option<SourceRef>,
    }

    /// A ConfigMap or Secret of the pod's namespace.
    slim struct SourceRef {
        /// Its name.
        name: String,
        /// It may be missing.
        optional: bool,
    }

    /// One entry of a ConfigMap or Secret of the pod's namespace.
    slim struct KeySelector {
        /// The object's name.
        name: String,
        /// The entry's.
        key: String,
        /// Either may be missing.
        optional: bool,
    }

    /// What a container may use, by resource.
    slim struct ResourceRequirements {
        /// At most.
        limits: BTreeMap<String, Quantity>,
        /// At least.
        requests: BTreeMap<String, Quantity>,
    }

    /// What a container may use of one resource.
    slim struct ResourceFieldSelector {
        /// Empty means the one that asks.
        container_name: String,
        /// Such as `limits.cpu`.
        resource: String,
        /// Unit to count in, rounded up; unset means 1.
        divisor: Option<Quantity>,
    }

    /// An environment variable.
    slim struct EnvVar {
        /// Its name.
        name: String,
        /// Its value, when given.
        value: String,
        /// Where its value comes from, when not.
        value_from: Option<EnvVarSource>,
    }

    /// Where a variable's value comes from.
    slim struct EnvVarSource {
        /// A field of the pod.
        field_ref: Option<ObjectFieldSelector>,
        /// What a container may use.
        resource_field_ref: Option<ResourceFieldSelector>,
        /// An entry of a ConfigMap.
        config_map_key_ref: Option<KeySelector>,
        /// An entry of a Secret.
        secret_key_ref: Option<KeySelector>,
    }

    /// A field of the pod.
    slim struct ObjectFieldSelector {
        /// Such as `metadata.name` or `status.podIP`.
        field_path: String,
    }

    /// A port a container tells of.
    slim struct ContainerPort {
        /// Services may refer to it.
        name: String,
        /// 1 to 65535.
        container_port: u16,
        /// Transport.
        protocol: TransportProtocol,
    }

    /// A probe: one action of four.
    slim struct Probe {
        /// By HTTP GET.
        http_get: Option<HttpGetAction>,
        /// By connecting.
        tcp_socket: Option<TcpSocketAction>,
        /// By running a program.
        exec: Option<ExecAction>,
        /// By gRPC health check.
        grpc: Option<GrpcAction>,
        /// Seconds; unset means 0.
        initial_delay_seconds: Option<u32>,
        /// Seconds; unset means 1.
        timeout_seconds: Option<u32>,
        /// Seconds; unset means 10.
        period_seconds: Option<u32>,
        /// In a row; unset means 1.
        success_threshold: Option<u32>,
        /// In a row; unset means 3.
        failure_threshold: Option<u32>,
        /// Seconds between the stop signal and the kill when it fails; unset means the pod's.
        termination_grace_period_seconds: Option<u32>,
    }

    /// An HTTP GET.
    slim struct HttpGetAction {
        /// Empty means `/`.
        path: String,
        /// By number or name.
        port: Option<crate::kubernetes::IntOrString>,
        /// Empty means the pod's address.
        host: String,
        /// HTTP (also when empty) or HTTPS.
        scheme: String,
        /// Sent along.
        http_headers: Vec<HttpHeader>,
    }

    /// A header of a probe.
    slim struct HttpHeader {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    }

    /// A connection.
    slim struct TcpSocketAction {
        /// By number or name.
        port: Option<crate::kubernetes::IntOrString>,
        /// Empty means the pod's address.
        host: String,
    }

    /// A program.
    slim struct ExecAction {
        /// With its arguments, without a shell.
        command: Vec<String>,
    }

    /// A gRPC health check.
    slim struct GrpcAction {
        /// By number.
        port: u16,
        /// Which service to ask about.
        service: String,
    }

    /// What a pod does.
    slim struct PodStatus {
        /// Pending, Running, Succeeded or Failed.
        phase: String,
        /// Its address; empty while it has none.
        pod_ip as "podIP": String,
        /// One of each family; the first is `pod_ip`.
        pod_ips as "podIPs": Vec<PodIp>,
        /// Its node's address.
        host_ip as "hostIP": String,
        /// `Ready` among others.
        conditions: Vec<PodCondition>,
    }

    /// An address of a pod.
    slim struct PodIp {
        /// The address.
        ip: String,
    }

    /// A condition of a pod.
    slim struct PodCondition {
        /// Which.
        r#type: String,
        /// `True`, `False` or `Unknown`.
        status: String,
    }

    /// A kind that makes pods from a template: Deployment, StatefulSet, DaemonSet, ReplicaSet, Job.
    /// Which one is the object's kind.
    slim struct Workload {
        /// How many pods; unset means 1 (Jobs: `parallelism`).
        replicas: Option<u32>,
        /// Of a StatefulSet: the headless service its pods are named under.
        service_name: String,
        /// Which pods are its own.
        selector: LabelSelector,
        /// What to make.
        template: PodTemplate,
        /// Of a Job.
        job: JobSpec,
    }

    /// What only Jobs have.
    slim struct JobSpec {
        /// Pods that must succeed; unset means one, or, with `parallelism`, any of them.
        completions: Option<u32>,
        /// Pods that run at a time; unset means 1.
        parallelism: Option<u32>,
        /// Failures before the Job gives up; unset means 6.
        backoff_limit: Option<u32>,
    }

    /// A template of pods.
    slim struct PodTemplate {
        /// Labels and annotations of each pod.
        metadata: TemplateMeta,
        /// What each runs.
        spec: PodSpec,
    }

    /// Metadata of a template.
    slim struct TemplateMeta {
        /// Of each pod.
        labels: BTreeMap<String, String>,
        /// Of each pod.
        annotations: BTreeMap<String, String>,
    }

    /// Selects by labels, all conditions at once.
    slim struct LabelSelector {
        /// Equal.
        match_labels: BTreeMap<String, String>,
        /// By set.
        match_expressions: Vec<LabelSelectorRequirement>,
    }

    /// A condition on one label.
    slim struct LabelSelectorRequirement {
        /// The label.
        key: String,
        /// In, NotIn, Exists or DoesNotExist.
        operator: String,
        /// For In and NotIn.
        values: Vec<String>,
    }
}

choice! {
    /// When containers are started again.
    enum RestartPolicy {
        /// However they ended.
        Always = "Always",
        /// Unless they ended with success.
        OnFailure = "OnFailure",
        /// Never.
        Never = "Never",
    }
}

/// An amount as it was written: `100m`, `1Gi`, `0.5`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Quantity(pub String);
