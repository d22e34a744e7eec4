//! A small universe of objects for tests that make random histories: names are few, so that objects meet.
//!
//! Each object comes in several versions, as text and parsed; what each kind can say is there at least once, as far as
//! resources are made of it.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use ostro_api::{Object, ObjectKey};

/// One version of an object.
#[derive(Debug, Clone)]
pub struct Version {
    /// The document.
    pub text: String,
    /// What it says.
    pub object: Arc<Object>,
}

/// All versions of each object, by key.
pub fn versions() -> &'static [Vec<Version>] {
    static VERSIONS: LazyLock<Vec<Vec<Version>>> = LazyLock::new(parsed);
    &VERSIONS
}

fn parsed() -> Vec<Vec<Version>> {
    let mut documents = mesh_wide();
    for namespace in ["a", "b"] {
        documents.extend(services(namespace));
        documents.extend(workloads(namespace));
        documents.extend(entries(namespace));
        documents.extend(routes(namespace));
        documents.extend(rules(namespace));
        documents.extend(gateways(namespace));
    }
    let mut by_key: BTreeMap<ObjectKey, Vec<Version>> = BTreeMap::new();
    for text in documents {
        let parsed = ostro_api::parse_file("universe.yaml", text.as_bytes());
        assert!(parsed.complaints.is_empty(), "{text}\n{:?}", parsed.complaints);
        let [object] = <[Object; 1]>::try_from(parsed.objects).expect("one object");
        by_key.entry(object.key()).or_default().push(Version { text, object: Arc::new(object) });
    }
    by_key.into_values().collect()
}

fn document(api: &str, kind: &str, namespace: &str, name: &str, extra: &str, body: &str) -> String {
    format!(
        "apiVersion: {api}\nkind: {kind}\nmetadata: {{namespace: {namespace}, name: {name}{extra}}}\n{body}\n"
    )
}

fn istio(kind: &str, namespace: &str, name: &str, extra: &str, spec: &str) -> String {
    document("networking.istio.io/v1", kind, namespace, name, extra, &format!("spec: {{{spec}}}"))
}

const OLD: &str = ", creationTimestamp: '2020-01-01T00:00:00Z'";

fn mesh_wide() -> Vec<String> {
    let config = |mesh: &str| {
        document("v1", "ConfigMap", "istio-system", "istio", "", &format!("data: {{mesh: '{{{mesh}}}'}}"))
    };
    let node = |zone: &str| {
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: n1, labels: {{topology.kubernetes.io/region: r, topology.kubernetes.io/zone: {zone}}}}}\n"
        )
    };
    let local = "trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}";
    vec![
        config("rootNamespace: b"),
        config("defaultServiceExportTo: [\".\"], defaultVirtualServiceExportTo: [b]"),
        config(
            "outboundTrafficPolicy: {mode: REGISTRY_ONLY}, connectTimeout: 3s, accessLogFile: /dev/stdout",
        ),
        node("z1"),
        node("z2"),
        istio("DestinationRule", "istio-system", "all", "", &format!("host: \"*.local\", {local}")),
        istio("DestinationRule", "istio-system", "all", "", &format!("host: \"*\", exportTo: [a], {local}")),
    ]
}

fn services(namespace: &str) -> Vec<String> {
    let service = |name: &str, extra: &str, spec: &str| {
        document("v1", "Service", namespace, name, extra, &format!("spec: {{{spec}}}"))
    };
    let last = if namespace == "a" { 1 } else { 2 };
    let ports = "ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 9000}]";
    let address = format!("clusterIP: 10.9.0.{last}");
    vec![
        service("s1", "", &format!("{address}, {ports}")),
        service("s1", ", annotations: {networking.istio.io/exportTo: '.'}", &format!("{address}, {ports}")),
        service("s1", ", annotations: {note: unread}", &format!("{address}, {ports}")),
        service(
            "s1",
            "",
            &format!("{address}, ports: [{{name: grpc, port: 80}}, {{name: plain, port: 81}}]"),
        ),
        service(
            "s2",
            "",
            &format!("clusterIP: 10.9.1.{last}, ports: [{{name: http, port: 80}}, {{name: x, port: 9000}}]"),
        ),
        service("s2", "", "clusterIP: None, ports: [{name: tcp, port: 9000}, {name: http, port: 80}]"),
        service(
            "s2",
            "",
            &format!(
                "clusterIP: 10.9.0.{}, ports: [{{name: tls, port: 443}}, {{name: tcp, port: 9000}}]",
                3 - last
            ),
        ),
        service("s3", "", "type: ExternalName, externalName: s1.a.svc.cluster.local"),
        service("s3", "", "type: ExternalName, externalName: ext.example.com"),
    ]
}

fn workloads(namespace: &str) -> Vec<String> {
    let slice = |name: &str, service: &str, endpoints: &str| {
        let extra = format!(", labels: {{kubernetes.io/service-name: {service}}}");
        let ports = "ports: [{name: http, port: 8080}, {name: tcp, port: 9000}, {name: grpc, port: 8081}]";
        let body = format!("addressType: IPv4\nendpoints: [{endpoints}]\n{ports}");
        document("discovery.k8s.io/v1", "EndpointSlice", namespace, name, &extra, &body)
    };
    let pod = |name: &str, labels: &str, body: &str| {
        document("v1", "Pod", namespace, name, &format!(", labels: {{{labels}}}"), body)
    };
    let one = "{addresses: [10.1.0.1], nodeName: n1, targetRef: {kind: Pod, name: p1}}";
    vec![
        slice("e1", "s1", one),
        slice("e1", "s1", &format!("{one}, {{addresses: [10.1.0.2]}}")),
        slice("e1", "s1", "{addresses: [10.1.0.1], conditions: {ready: false}}"),
        slice("e2", "s2", "{addresses: [10.1.0.2]}, {addresses: [10.1.0.3], nodeName: n1}"),
        slice("e2", "s2", one),
        pod("p1", "app: web, version: v1", "spec: {nodeName: n1}\nstatus: {podIP: 10.1.0.1}"),
        pod(
            "p1",
            "app: web, version: v2, security.istio.io/tlsMode: istio",
            "spec: {serviceAccountName: z}\nstatus: {podIP: 10.1.0.1}",
        ),
        pod("p2", "app: web, version: v2", "status: {podIP: 10.1.0.2}"),
        istio(
            "WorkloadEntry",
            namespace,
            "w1",
            "",
            "address: 10.1.0.3, labels: {app: web}, locality: r/z2, weight: 3",
        ),
    ]
}

fn entries(namespace: &str) -> Vec<String> {
    let entry = |name: &str, spec: &str| istio("ServiceEntry", namespace, name, "", spec);
    let http = "ports: [{number: 80, name: http, protocol: HTTP}]";
    vec![
        entry("x1", &format!("hosts: [ext.example.com], resolution: DNS, {http}")),
        entry(
            "x1",
            &format!(
                "hosts: [ext.example.com, '*.wild.example.com'], resolution: NONE, exportTo: ['.'], {http}"
            ),
        ),
        entry(
            "x1",
            "hosts: [ext.example.com], addresses: [10.9.0.9, 10.8.0.0/16], resolution: STATIC, endpoints: [{address: 10.1.0.9}], ports: [{number: 9000, name: tcp, protocol: TCP}, {number: 443, name: tls, protocol: TLS}]",
        ),
        entry(
            "x2",
            &format!(
                "hosts: [ext.example.com], location: MESH_INTERNAL, resolution: STATIC, workloadSelector: {{labels: {{app: web}}}}, {http}"
            ),
        ),
        entry(
            "x2",
            &format!(
                "hosts: [s1.a.svc.cluster.local], resolution: DNS_ROUND_ROBIN, endpoints: [{{address: one.example.com}}], {http}"
            ),
        ),
    ]
}

fn routes(namespace: &str) -> Vec<String> {
    let route = |name: &str, extra: &str, spec: &str| istio("VirtualService", namespace, name, extra, spec);
    let to = |host: &str, subset: &str, weight: u32| {
        format!("{{destination: {{host: {host}, subset: {subset}}}, weight: {weight}}}")
    };
    let own = format!("s1.{namespace}.svc.cluster.local");
    let split = format!("http: [{{route: [{}, {}]}}]", to("s1", "v1", 80), to("s1", "v2", 20));
    vec![
        route("v1", "", &format!("hosts: [s1], {split}")),
        route("v1", OLD, &format!("hosts: [s1, '*.example.com'], gateways: [mesh, g1], {split}")),
        route(
            "v1",
            "",
            "hosts: [s1], http: [{match: [{sourceNamespace: a, uri: {prefix: /x}}, {sourceLabels: {app: web}, headers: {h: {exact: v}}}], fault: {delay: {fixedDelay: 1s}}, route: [{destination: {host: s2}}]}, {route: [{destination: {host: s1}}]}]",
        ),
        route(
            "v1",
            "",
            &format!(
                "hosts: [{own}], tcp: [{{match: [{{port: 9000}}], route: [{{destination: {{host: s2, port: {{number: 9000}}}}}}]}}], tls: [{{match: [{{port: 443, sniHosts: [{own}]}}], route: [{{destination: {{host: s2}}}}]}}]"
            ),
        ),
        route("v2", "", &format!("hosts: [s1.a.svc.cluster.local], exportTo: ['.'], {split}")),
        route("v2", "", "http: [{timeout: 3s, route: [{destination: {host: s2}}]}]"),
        route(
            "v3",
            "",
            "hosts: ['*'], gateways: [g1, b/g1], http: [{match: [{uri: {prefix: /d}}], delegate: {name: v2}}, {route: [{destination: {host: s1, port: {number: 80}}}]}]",
        ),
        route("v3", "", "hosts: [s2], http: [{redirect: {uri: /else}}]"),
    ]
}

fn rules(namespace: &str) -> Vec<String> {
    let rule = |name: &str, extra: &str, spec: &str| istio("DestinationRule", namespace, name, extra, spec);
    let subset = |name: &str| format!("{{name: {name}, labels: {{version: {name}}}}}");
    let both = format!("subsets: [{}, {}]", subset("v1"), subset("v2"));
    vec![
        rule("d1", "", &format!("host: s1, {both}")),
        rule(
            "d1",
            "",
            &format!(
                "host: s1, trafficPolicy: {{loadBalancer: {{consistentHash: {{httpHeaderName: x}}}}}}, {both}"
            ),
        ),
        rule(
            "d1",
            "",
            "host: '*.example.com', trafficPolicy: {connectionPool: {http: {http1MaxPendingRequests: 1}}, tls: {mode: SIMPLE}}",
        ),
        rule("d2", "", &format!("host: s1, exportTo: ['.'], subsets: [{}]", subset("v2"))),
        rule(
            "d2",
            OLD,
            &format!("host: s1.a.svc.cluster.local, workloadSelector: {{matchLabels: {{app: web}}}}, {both}"),
        ),
    ]
}

fn gateways(namespace: &str) -> Vec<String> {
    let gateway = |spec: &str| istio("Gateway", namespace, "g1", "", spec);
    vec![
        gateway(
            "selector: {istio: ingress}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]",
        ),
        gateway(
            "selector: {istio: ingress}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['./*.example.com']}, {port: {number: 9000, name: tcp, protocol: TCP}, hosts: ['*']}]",
        ),
        gateway(
            "selector: {istio: other}, servers: [{port: {number: 81, name: http, protocol: HTTP}, hosts: ['*']}]",
        ),
    ]
}
