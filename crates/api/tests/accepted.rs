//! Documents that are good, and what becomes of them.

use std::time::Duration;

use ostro_api::{Kind, Object, Severity, Spec, parse_file, parse_mesh_config, unenforced};

/// The objects of a text without errors.
fn objects(text: &str) -> Vec<Object> {
    let parsed = parse_file("good.yaml", text.as_bytes());
    let errors: Vec<String> =
        parsed.complaints.iter().filter(|c| c.severity == Severity::Error).map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    parsed.objects
}

fn one(text: &str) -> Object {
    let mut all = objects(text);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

const VIRTUAL_SERVICE: &str = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: full, namespace: shop, creationTimestamp: "2026-01-31T12:00:00Z"}
spec:
  hosts: [reviews, "*.example.com"]
  gateways: [mesh, edge/public]
  exportTo: ["."]
  http:
  - name: canary
    match:
    - name: by-user
      uri: {prefix: /api/}
      scheme: {exact: https}
      method: {regex: GET|HEAD}
      authority: {exact: reviews}
      headers: {end-user: {exact: jason}, x-any: {}}
      withoutHeaders: {x-skip: {prefix: "1"}, x-gone: {regex: "*"}}
      queryParams: {q: {regex: "a+"}}
      ignoreUriCase: true
      port: 80
      sourceLabels: {app: web}
      sourceNamespace: shop
      gateways: [mesh]
      statPrefix: canary
    route:
    - destination: {host: reviews, subset: v2, port: {number: 9080}}
      weight: 10
      headers:
        request: {set: {host: other, x-time: "%START_TIME(%s.%3f)%"}, remove: [cookie]}
        response: {add: {x-percent: "100%%"}}
    - destination: {host: reviews}
      weight: 90
    rewrite: {uri: /v2/}
    timeout: 1m30s
    retries: {attempts: 3, perTryTimeout: 500ms, retryOn: "5xx, 503,reset", retryRemoteLocalities: true, backoff: 10ms}
    fault:
      delay: {fixedDelay: 2s, percentage: {value: 0.1}}
      abort: {grpcStatus: UNAVAILABLE, percentage: {value: 5}}
    mirrors:
    - {destination: {host: shadow}, percentage: {value: 50}}
    corsPolicy:
      allowOrigins: [{exact: https://example.com}]
      allowMethods: [GET, "*"]
      maxAge: 24h
      allowCredentials: true
      unmatchedPreflights: IGNORE
    headers: {request: {add: {x-request-id: "%REQ(x-id):8%"}}}
  - match: [{uri: {exact: /old}}]
    redirect: {prefixRewrite: /new, derivePort: FROM_REQUEST_PORT, redirectCode: 308}
  - match: [{uri: {exact: /health}}]
    directResponse: {status: 200, body: {string: ok}}
  - delegate: {name: rest, namespace: shop}
  tls:
  - match: [{sniHosts: [a.example.com], destinationSubnets: [10.0.0.0/8], port: 443}]
    route: [{destination: {host: a.example.com}}]
  tcp:
  - match: [{port: 27017}]
    route: [{destination: {host: mongo, port: {number: 27017}}, weight: 1}]
"#;

#[test]
fn every_field_of_a_virtual_service_is_read() {
    let object = one(VIRTUAL_SERVICE);
    assert_eq!(object.key().to_string(), "VirtualService shop/full");
    assert_eq!(object.origin.to_string(), "good.yaml:2");
    assert_eq!(object.meta.creation_timestamp.unwrap().0, 1_769_860_800);
    let Spec::VirtualService(service) = object.spec else { panic!() };
    let rule = &service.http[0];
    assert_eq!(rule.timeout, Some(Duration::from_secs(90)));
    assert_eq!(rule.route.iter().map(|target| target.weight).collect::<Vec<_>>(), [10, 90]);
    assert_eq!(rule.r#match[0].headers.len(), 2);
    assert_eq!(rule.r#match[0].port, Some(80));
    assert_eq!(rule.retries.as_ref().unwrap().per_try_timeout, Some(Duration::from_millis(500)));
    assert_eq!(service.http[1].redirect.as_ref().unwrap().prefix_rewrite, "/new");
    assert_eq!(service.http[2].direct_response.as_ref().unwrap().status, 200);
    assert_eq!(service.tls[0].r#match[0].destination_subnets, ["10.0.0.0/8"]);
    assert_eq!(service.tcp[0].r#match[0].port, Some(27017));
    // No field was left at its default by a name that is spelt wrongly in the type.
    let shown = format!("{rule:?}");
    for unread in ["source_namespace: \"\"", "stat_prefix: \"\"", "ignore_uri_case: false", "Unspecified"] {
        assert!(!shown.contains(unread), "{unread} in {shown}");
    }
}

#[test]
fn every_field_of_a_destination_rule_is_read() {
    let object = one(r#"
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: full}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer:
      simple: ROUND_ROBIN
      localityLbSetting: {enabled: true, distribute: [{from: r1/*, to: {r1/z1/*: 80, r2: 20}}]}
      warmup: {duration: 30s, minimumPercent: 5, aggression: 1.5}
    connectionPool:
      tcp: {maxConnections: 1, connectTimeout: 3s, maxConnectionDuration: 1h, idleTimeout: 0s, tcpKeepalive: {probes: 3, time: 10s, interval: 5s}}
      http: {http1MaxPendingRequests: 1, http2MaxRequests: 2, maxRequestsPerConnection: 3, maxRetries: 4, idleTimeout: 5s, h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 6, http2KeepAlive: {interval: 15s, timeout: 5s}}
    outlierDetection: {consecutive5xxErrors: 1, consecutiveGatewayErrors: 2, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 3, interval: 1s, baseEjectionTime: 2s, maxEjectionPercent: 100, minHealthPercent: 50}
    portLevelSettings:
    - port: {number: 80}
      loadBalancer: {consistentHash: {httpCookie: {name: user, ttl: 0s}, maglev: {tableSize: 65537}}}
  subsets:
  - {name: v1, labels: {version: v1}}
  - name: v2
    labels: {version: v2}
    trafficPolicy: {proxyProtocol: {version: V2}, retryBudget: {percent: 10, minRetryConcurrency: 2}}
  exportTo: ["*"]
"#);
    let Spec::DestinationRule(rule) = object.spec else { panic!() };
    let policy = rule.traffic_policy.as_ref().unwrap();
    let pool = policy.connection_pool.as_ref().unwrap();
    let (tcp, http) = (pool.tcp.as_ref().unwrap(), pool.http.as_ref().unwrap());
    assert_eq!((tcp.max_connections, tcp.idle_timeout), (1, Some(Duration::ZERO)));
    let counts = [http.http1_max_pending_requests, http.http2_max_requests, http.max_requests_per_connection];
    assert_eq!(counts, [1, 2, 3]);
    assert_eq!((http.max_retries, http.max_concurrent_streams), (4, 6));
    let outlier = policy.outlier_detection.as_ref().unwrap();
    assert_eq!(outlier.consecutive_5xx_errors, Some(1));
    assert_eq!(outlier.consecutive_local_origin_failures, Some(3));
    let port = policy.port_level_settings[0].load_balancer.as_ref().unwrap();
    assert_eq!(port.consistent_hash.as_ref().unwrap().maglev.as_ref().unwrap().table_size, 65537);
    assert_eq!(rule.subsets[1].labels["version"], "v2");
}

#[test]
fn regular_expressions_are_those_of_re2() {
    for regex in ["/users/{id}", r"\pL+", "[é]", r"\Qa.b\E", r"\C", "a{,5}"] {
        one(&format!(
            "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: a}}, spec: {{hosts: [a], \
             http: [{{match: [{{uri: {{regex: '{regex}'}}}}], route: [{{destination: {{host: a}}}}]}}]}}}}"
        ));
    }
}

#[test]
fn every_served_version_is_the_same_object() {
    let text = |version: &str| VIRTUAL_SERVICE.replace("istio.io/v1", &format!("istio.io/{version}"));
    let v1 = one(&text("v1"));
    assert_eq!(one(&text("v1beta1")), v1);
    assert_eq!(one(&text("v1alpha3")), v1);
}

#[test]
fn json_is_the_same_as_yaml() {
    let yaml = one(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {x: \"y\"}}\nspec: {ports: [{port: 80, targetPort: http}]}\n",
    );
    let json = one(
        "\n{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"a\",\"labels\":{\"x\":\"y\"}},\"spec\":{\"ports\":[{\"port\":80,\"targetPort\":\"http\"}]}}",
    );
    assert_eq!((yaml.meta, yaml.spec), (json.meta, json.spec));
}

#[test]
fn lists_are_expanded_and_namespaces_have_none() {
    let all = objects(
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: a, namespace: odd}}\n\
         - {apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 1.1.1.1}]}}\n\
         - {apiVersion: v1, kind: ServiceAccount, metadata: {name: sa}}\n",
    );
    let keys: Vec<String> = all.iter().map(|object| object.key().to_string()).collect();
    assert_eq!(keys, ["Namespace a", "Node n1", "ServiceAccount default/sa"]);
    assert_eq!(all[2].origin.line, 6);
}

#[test]
fn what_kubernetes_has_and_we_do_not_read_is_passed_over() {
    let object = one(r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}, annotations: {sidecar.istio.io/inject: "false"}}
    spec:
      securityContext: {runAsUser: 1}
      containers:
      - name: db
        image: mysql:8
        resources: {limits: {cpu: 1}}
        env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
        ports: [{containerPort: 3306, name: mysql}]
        readinessProbe: {tcpSocket: {port: mysql}, periodSeconds: 5}
"#);
    assert_eq!(object.meta.kind, Kind::StatefulSet);
    let Spec::Workload(workload) = object.spec else { panic!() };
    assert_eq!((workload.replicas, workload.service_name.as_str()), (Some(2), "db"));
    let container = &workload.template.spec.containers[0];
    assert_eq!(container.ports[0].container_port, 3306);
    assert!(container.env[0].value_from.is_some());
}

#[test]
fn kinds_we_do_not_act_on_are_named_with_their_group() {
    let all = objects(
        "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g}, spec: {anything: [1]}}\n---\n\
         {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: r}}\n---\n\
         {apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: c}, spec: {}}\n",
    );
    let keys: Vec<String> = all.iter().map(|object| object.key().to_string()).collect();
    let expected = [
        "Gateway.gateway.networking.k8s.io default/g",
        "ClusterRole.rbac.authorization.k8s.io r",
        "PersistentVolumeClaim default/c",
    ];
    assert_eq!(keys, expected);
    assert!(all.iter().all(|object| matches!(object.spec, Spec::Other(_))));
}

#[test]
fn a_mesh_config_is_read_over_the_defaults() {
    let object = one(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  meshNetworks: 'networks: {}'\n  \
         mesh: |-\n    outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n    defaultConfig: {concurrency: 2}\n    trustDomain: td\n",
    );
    let Spec::MeshConfig(config) = object.spec else { panic!() };
    assert_eq!(config.outbound_traffic_policy.mode.as_str(), "REGISTRY_ONLY");
    assert_eq!((config.trust_domain.as_str(), config.root_namespace.as_str()), ("td", "istio-system"));
    assert_eq!((config.proxy_listen_port, config.connect_timeout), (15001, Duration::from_secs(10)));
    let (bare, complaints) = parse_mesh_config("mesh", b"{\"trustDomain\": \"td\", \"rootNamespac\": \"x\"}");
    assert_eq!(bare.trust_domain, "td");
    assert_eq!(complaints.len(), 1);
    assert!(parse_mesh_config("mesh", b"").1.is_empty());
}

#[test]
fn warnings_do_not_refuse() {
    let text = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: a}, spec: {hosts: ['*x']}}";
    let parsed = parse_file("a.yaml", text.as_bytes());
    assert_eq!((parsed.objects.len(), parsed.complaints.len()), (1, 1));
    assert_eq!(parsed.complaints[0].severity, Severity::Warning);
}

#[test]
fn security_that_is_not_enforced_is_named() {
    let named = |text: &str| -> Vec<String> {
        objects(text).iter().flat_map(unenforced).map(|complaint| complaint.to_string()).collect()
    };
    assert_eq!(
        named("{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: strict}}"),
        [
            "good.yaml:1: PeerAuthentication.security.istio.io default/strict: PeerAuthentication, which is not enforced yet; allowed: none until it is"
        ]
    );
    let rule = "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: a}, spec: {host: a, \
                trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}, subsets: [{name: b, trafficPolicy: {tls: {mode: DISABLE}}}, {name: c, trafficPolicy: {tls: {mode: SIMPLE}}}]}}";
    assert_eq!(named(rule).len(), 1);
    assert!(named(rule)[0].contains("spec.trafficPolicy.tls.mode: TLS of mode ISTIO_MUTUAL"));
    let gateway = |mode: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{name: a}}, spec: {{servers: [{{hosts: ['*'], \
             port: {{number: 443, name: https, protocol: HTTPS}}, tls: {{mode: {mode}, credentialName: c}}}}]}}}}"
        )
    };
    assert!(named(&gateway("SIMPLE"))[0].contains("spec.servers[0].tls.mode"));
    assert!(named(&gateway("PASSTHROUGH")).is_empty());
    let entry = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: a}, spec: {hosts: ['*.example.com'], \
                 resolution: DYNAMIC_DNS, location: MESH_EXTERNAL, ports: [{number: 443, name: tls, protocol: TLS}]}}";
    assert!(named(entry)[0].contains("spec.resolution: DYNAMIC_DNS"));
    assert!(named(VIRTUAL_SERVICE).is_empty());
}

#[test]
fn config_maps_and_secrets_are_data() {
    let all = objects(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {a: one}, binaryData: {b: AAE=}}\n---\n\
         {apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: b25l, b: dHdv}, stringData: {b: three}}\n",
    );
    let Spec::ConfigMap(map) = &all[0].spec else { panic!("{:?}", all[0].spec) };
    assert_eq!(map.entries(), [("a", b"one".as_slice()), ("b", &[0, 1])].into());
    let Spec::Secret(secret) = &all[1].spec else { panic!("{:?}", all[1].spec) };
    assert_eq!(secret.entries(), [("a", b"one".as_slice()), ("b", b"three")].into());
    assert!(!format!("{:?}", secret.data).contains("111"), "bytes are not shown");
}

#[test]
fn a_job_has_its_own_fields() {
    let object = one(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec:\n  completions: 3\n  parallelism: 2\n  backoffLimit: 1\n  \
         template:\n    spec:\n      restartPolicy: Never\n      containers:\n      - name: c\n        image: x\n        \
         resources: {limits: {cpu: 0.5, memory: 1Gi}}\n        volumeMounts: [{name: v, mountPath: /data}]\n      \
         volumes: [{name: v, emptyDir: {}}]\n",
    );
    let Spec::Workload(workload) = object.spec else { panic!() };
    let job = &workload.job;
    assert_eq!((job.completions, job.parallelism, job.backoff_limit), (Some(3), Some(2), Some(1)));
    let spec = &workload.template.spec;
    assert_eq!(spec.restart_policy.map(|p| p.as_str()), Some("Never"));
    assert!(spec.volumes[0].empty_dir.is_some() && spec.volumes[0].secret.is_none());
    let limits = &spec.containers[0].resources.limits;
    assert_eq!((limits["cpu"].0.as_str(), limits["memory"].0.as_str()), ("0.5", "1Gi"));
}
