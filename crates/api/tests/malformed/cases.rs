//! The table: bad documents, and where and what the complaint about each must be.

/// A bad document.
pub struct Case {
    pub name: &'static str,
    pub document: String,
    /// Line and column in the document.
    pub place: (u32, u32),
    /// Parts of the complaint's one line of text.
    pub says: &'static [&'static str],
}

fn case(name: &'static str, place: (u32, u32), says: &'static [&'static str], document: &str) -> Case {
    Case { name, document: document.to_owned(), place, says }
}

/// An object whose `spec` begins in line 5 with the given lines.
fn object(api_version: &str, kind: &str, lines: &str) -> String {
    let spec: String = lines.lines().map(|line| format!("  {line}\n")).collect();
    format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: bad}}\nspec:\n{spec}")
}

fn istio(kind: &str, lines: &str) -> String {
    object("networking.istio.io/v1", kind, lines)
}

fn service(lines: &str) -> String {
    object("v1", "Service", lines)
}

/// A VirtualService with one HTTP rule, which begins in line 7 with the given lines.
pub fn rule(lines: &str) -> String {
    let rule: String = lines.lines().map(|line| format!("  {line}\n")).collect();
    istio("VirtualService", &format!("hosts: [x]\nhttp:\n{}", rule.replacen("  ", "- ", 1)))
}

const PORTS: &str = "spec: {ports: [{port: 80}]}";
const ROUTE: &str = "route: [{destination: {host: x}}]";
const HTTP: &str = "http: [{route: [{destination: {host: x}}]}]";

/// All of them.
pub fn all() -> Vec<Case> {
    [text(), kubernetes(), virtual_service(), others()].into_iter().flatten().collect()
}

/// Broken text.
fn text() -> Vec<Case> {
    let levels: String = (1..10)
        .map(|level| format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", ")))
        .collect();
    let bomb = format!("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n{levels}");
    let deep = format!("a: {}{}\n", "[".repeat(100), "]".repeat(100));
    let aliases = format!("a: &a x\nb: [{}]\n", vec!["*a"; 2_000].join(", "));
    vec![
        case("truncated in a quoted scalar", (2, 7), &["broken YAML"], "apiVersion: v1\nkind: \"Serv"),
        case(
            "truncated in a flow list",
            (5, 1),
            &["broken YAML"],
            "apiVersion: v1\nkind: Service\nspec: {ports: [{port: 80}\n",
        ),
        case(
            "truncated before the metadata",
            (1, 1),
            &["metadata: nothing", "a name"],
            "apiVersion: v1\nkind: Service\n",
        ),
        case(
            "truncated before the spec",
            (1, 1),
            &["Service default/bad", "spec: nothing"],
            "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\n",
        ),
        case(
            "a tab as indentation",
            (4, 2),
            &["broken YAML", "tab"],
            "apiVersion: v1\nkind: Service\nmetadata:\n\tname: bad\n",
        ),
        case(
            "indentation that fits nothing",
            (5, 2),
            &["broken YAML"],
            "apiVersion: v1\nkind: Service\nmetadata:\n   name: bad\n namespace: x\n",
        ),
        case("two colons in a line", (2, 14), &["broken YAML"], "apiVersion: v1\nkind: Service: x\n"),
        case("an unknown anchor", (2, 7), &["broken YAML", "anchor"], "apiVersion: v1\nkind: *nowhere\n"),
        case(
            "an alias inside its anchor",
            (3, 5),
            &["an alias inside the value it stands for"],
            "kind: &k\n  a:\n  - *k\n",
        ),
        case("an alias bomb", (6, 0), &["more values than the budget", "aliases expanded"], &bomb),
        case("too many aliases", (2, 0), &["more than 1000 aliases"], &aliases),
        case("too deep", (1, 0), &["more than 64 levels"], &deep),
        case(
            "a duplicate key",
            (4, 1),
            &["Service default/bad", "kind", "for the second time", "line 9"],
            &format!("apiVersion: v1\nkind: Service\nmetadata: {{name: bad}}\nkind: Service\n{PORTS}\n"),
        ),
        case("a list as a key", (1, 0), &["a list or mapping as a key"], "? [a, b]\n: c\n"),
        case(
            "an application tag",
            (3, 0),
            &["metadata.name", "tag", "!!str"],
            &format!("apiVersion: v1\nkind: Service\nmetadata: {{name: !python/object bad}}\n{PORTS}\n"),
        ),
        case(
            "an unprintable character",
            (2, 0),
            &["\"Ser\\u{1}vice\"", "letters and digits"],
            "apiVersion: v1\nkind: Ser\u{1}vice\nmetadata: {name: bad}\n",
        ),
        case("text alone", (1, 1), &["\"just text\"", "a mapping"], "just text\n"),
        case("a list alone", (1, 1), &["a list", "a mapping"], "- apiVersion: v1\n"),
        case("broken JSON", (1, 0), &["broken YAML"], "{\"kind\": \"Service\" \"apiVersion\": \"v1\"}\n"),
    ]
}

/// Broken headers, and Kubernetes' kinds.
fn kubernetes() -> Vec<Case> {
    let with = |metadata: &str| format!("apiVersion: v1\nkind: Service\nmetadata: {metadata}\n{PORTS}\n");
    vec![
        case(
            "no kind",
            (1, 1),
            &["kind: nothing", "VirtualService"],
            "apiVersion: v1\nmetadata: {name: bad}\n",
        ),
        case("no apiVersion", (1, 1), &["apiVersion: nothing"], "kind: Service\nmetadata: {name: bad}\n"),
        case(
            "a version that is not served",
            (1, 13),
            &["apiVersion", "networking.istio.io/v2", "networking.istio.io/v1beta1"],
            &istio("Gateway", "servers: []").replace("istio.io/v1", "istio.io/v2"),
        ),
        case("no name", (3, 11), &["metadata.name: nothing"], &with("{namespace: x}")),
        case(
            "a name that is none",
            (3, 18),
            &["metadata.name", "\"Bad_Name\"", "DNS label"],
            &with("{name: Bad_Name}"),
        ),
        case(
            "a namespace that is none",
            (3, 34),
            &["metadata.namespace", "\"a.b\""],
            &with("{name: bad, namespace: a.b}"),
        ),
        case(
            "a misspelt field of the metadata",
            (3, 23),
            &["metadata.lables", "unknown field", "did you mean labels?"],
            &with("{name: bad, lables: {a: b}}"),
        ),
        case(
            "a label that is none",
            (3, 35),
            &["metadata.labels[a]", "\"b c\""],
            &with("{name: bad, labels: {a: b c}}"),
        ),
        case(
            "yes where text belongs",
            (3, 40),
            &["metadata.annotations[a]", "the boolean yes", "in quotes it is text: \"yes\""],
            &with("{name: bad, annotations: {a: yes}}"),
        ),
        case(
            "a time that is none",
            (3, 42),
            &["metadata.creationTimestamp", "\"today\""],
            &with("{name: bad, creationTimestamp: today}"),
        ),
        case(
            "an object of the file for the second time",
            (3, 18),
            &["Service default/before", "a second Service default/before", "the first is in line 1"],
            &with("{name: before}"),
        ),
        case(
            "on where a number belongs",
            (5, 0),
            &["spec.ports[0].port", "the boolean on"],
            &service("ports: [{port: on}]"),
        ),
        case(
            "a number where text belongs",
            (5, 0),
            &["spec.selector[version]", "the number 1", "in quotes"],
            &service("selector: {version: 1}\nports: [{port: 80}]"),
        ),
        case(
            "a Service without ports",
            (5, 3),
            &["spec.ports: nothing", "at least one"],
            &service("selector: {app: x}"),
        ),
        case(
            "several ports, one without a name",
            (7, 5),
            &["spec.ports[1].name: nothing"],
            &service("ports:\n- {port: 80, name: http}\n- {port: 81}"),
        ),
        case(
            "a port beyond 65535",
            (5, 0),
            &["spec.ports[0].port", "the number 70000", "1 to 65535"],
            &service("ports: [{port: 70000}]"),
        ),
        case(
            "a port in quotes",
            (5, 0),
            &["spec.ports[0].port", "\"80\""],
            &service("ports: [{port: \"80\"}]"),
        ),
        case(
            "ports as a mapping",
            (5, 10),
            &["spec.ports", "a mapping", "a list"],
            &service("ports: {port: 80}"),
        ),
        case(
            "a protocol in lower case",
            (5, 0),
            &["spec.ports[0].protocol", "\"tcp\"", "TCP, UDP, SCTP"],
            &service("ports: [{port: 1, protocol: tcp}]"),
        ),
        case(
            "an address that is none",
            (5, 14),
            &["spec.clusterIP", "\"10.0.0\""],
            &service("clusterIP: 10.0.0\nports: [{port: 80}]"),
        ),
        case(
            "a selector that misses its template",
            (5, 0),
            &["spec.selector.matchLabels[app]", "\"x\""],
            &object(
                "apps/v1",
                "Deployment",
                "selector: {matchLabels: {app: x}}\ntemplate: {metadata: {labels: {app: y}}}",
            ),
        ),
        case(
            "a bad item of a List",
            (4, 0),
            &["Service default/bad", "items[1].spec.ports: nothing"],
            "kind: List\nitems:\n- {apiVersion: v1, kind: ServiceAccount, metadata: {name: sa}}\n\
             - {apiVersion: v1, kind: Service, metadata: {name: bad}, spec: {selector: {a: b}}}\n",
        ),
        case(
            "a label selector's operator that nobody knows",
            (6, 0),
            &[
                "discoverySelectors[0].matchExpressions[0].operator",
                "Includes",
                "In, NotIn, Exists, DoesNotExist",
            ],
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
             data:\n  mesh: |\n    discoverySelectors: [{matchExpressions: [{key: mesh, operator: Includes}]}]\n",
        ),
        case(
            "a mesh setting that is unknown",
            (6, 0),
            &["ConfigMap istio-system/istio", "data.mesh.trustDomian", "did you mean trustDomain?"],
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
             data:\n  mesh: |\n    trustDomian: x\n",
        ),
        case(
            "mesh settings that are broken",
            (7, 0),
            &["data.mesh", "broken YAML"],
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
             data:\n  mesh: |\n    a: [\n    b: {\n",
        ),
    ]
}

/// VirtualServices.
fn virtual_service() -> Vec<Case> {
    let matching = |regex: &str| rule(&format!("match: [{{uri: {{regex: '{regex}'}}}}]\n{ROUTE}"));
    let with = |line: &str| rule(&format!("{line}\n{ROUTE}"));
    let headers: Vec<String> = (0..501).map(|number| format!("x-{number}: a")).collect();
    let headers = rule(&format!("headers: {{request: {{set: {{{}}}}}}}\n{ROUTE}", headers.join(", ")));
    vec![
        case(
            "a query parameter without a name",
            (7, 0),
            &["http[0].match[0].queryParams", "1 to 1024 bytes"],
            &rule(&format!("match: [{{queryParams: {{'': {{exact: a}}}}}}]\n{ROUTE}")),
        ),
        case(
            "a header to hash that has no name",
            (6, 67),
            &["consistentHash.httpHeaderName", "a name"],
            &istio(
                "DestinationRule",
                "host: x\ntrafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: ''}}}\n",
            ),
        ),
        Case {
            name: "more headers than a proxy takes",
            document: headers,
            place: (7, 24),
            says: &["http[0].headers.request", "501 headers", "500 at most"],
        },
        case(
            "weight -1",
            (7, 0),
            &["VirtualService default/bad", "spec.http[0].route[0].weight", "-1", "0 to"],
            &rule("route: [{destination: {host: x}, weight: -1}]"),
        ),
        case(
            "weights that are all 0",
            (7, 12),
            &["spec.http[0].route", "all 0"],
            &rule("route: [{destination: {host: x}}, {destination: {host: y}}]"),
        ),
        case(
            "duplicate hosts",
            (5, 0),
            &["spec.hosts[1]", "\"a.com\"", "duplicate", "\"*.com\""],
            &istio("VirtualService", &format!("hosts: ['*.com', a.com]\n{HTTP}")),
        ),
        case(
            "a host that is none",
            (5, 11),
            &["spec.hosts[0]", "\"a_b\""],
            &istio("VirtualService", &format!("hosts: [a_b]\n{HTTP}")),
        ),
        case(
            "every host of the mesh",
            (5, 11),
            &["spec.hosts[0]", "\"*\""],
            &istio("VirtualService", &format!("hosts: ['*']\n{HTTP}")),
        ),
        case(
            "no rule",
            (5, 3),
            &["spec: no rule", "http, tls or tcp"],
            &istio("VirtualService", "hosts: [x]"),
        ),
        case(
            "route beside redirect",
            (8, 12),
            &["spec.http[0].route", "route beside redirect"],
            &with("redirect: {uri: /x}"),
        ),
        case(
            "no destination",
            (7, 0),
            &["spec.http[0].route[0].destination: nothing"],
            &rule("route: [{weight: 1}]"),
        ),
        case("a misspelt field", (7, 5), &["spec.http[0].macth", "did you mean match?"], &with("macth: []")),
        case(
            "a regex bomb",
            (7, 0),
            &["match[0].uri.regex", "a regular expression"],
            &matching("(((a{100}){100}){100})"),
        ),
        case(
            "a regex that is too long",
            (7, 0),
            &["1025 bytes", "1024 bytes"],
            &matching(&"a".repeat(1_025)),
        ),
        case(
            "a regex that only Rust takes",
            (7, 0),
            &["match[0].uri.regex", "a{1001}"],
            &matching("a{1001}"),
        ),
        case("a regex with look-ahead", (7, 0), &["match[0].uri.regex", "RE2"], &matching("(?=a)")),
        case(
            "two kinds of match",
            (7, 0),
            &["match[0].uri", "several of exact, prefix, regex"],
            &with("match: [{uri: {exact: a, prefix: b}}]"),
        ),
        case(
            "a duration without a unit",
            (7, 14),
            &["spec.http[0].timeout", "the number 10", "10ms"],
            &with("timeout: 10"),
        ),
        case(
            "a duration too short",
            (7, 14),
            &["spec.http[0].timeout", "\"1us\"", "1ms"],
            &with("timeout: 1us"),
        ),
        case(
            "a percentage beyond 100",
            (7, 0),
            &["fault.abort.percentage.value", "the number 101"],
            &with("fault: {abort: {httpStatus: 500, percentage: {value: 101}}}"),
        ),
        case(
            "a status that is none",
            (7, 0),
            &["fault.abort.httpStatus", "200 to 599"],
            &with("fault: {abort: {httpStatus: 99}}"),
        ),
        case(
            "a retry on nothing known",
            (7, 0),
            &["retries.retryOn", "\"5xxx\""],
            &with("retries: {attempts: 1, retryOn: '5xx,5xxx'}"),
        ),
        case(
            "a header that may not change",
            (7, 0),
            &["headers.request.remove[0]", ":path"],
            &with("headers: {request: {remove: [':path']}}"),
        ),
        case(
            "a header with half an operator",
            (7, 0),
            &["headers.request.set[a]", "%%"],
            &with("headers: {request: {set: {a: '50%'}}}"),
        ),
        case(
            "an export to nobody",
            (5, 14),
            &["spec.exportTo[0]", "\"~\""],
            &istio("VirtualService", &format!("exportTo: ['~']\nhosts: [x]\n{HTTP}")),
        ),
        case(
            "a server name of no host",
            (6, 0),
            &["spec.tls[0].match[0].sniHosts[0]", "covers"],
            &istio(
                "VirtualService",
                "hosts: [a.com]\ntls: [{match: [{sniHosts: [b.com]}], route: [{destination: {host: x}}]}]",
            ),
        ),
    ]
}

/// Istio's other kinds.
fn others() -> Vec<Case> {
    let policy = |policy: &str| istio("DestinationRule", &format!("host: x\ntrafficPolicy: {policy}"));
    let server = |server: &str| istio("Gateway", &format!("servers:\n- {server}"));
    vec![
        case(
            "two subsets of one name",
            (6, 0),
            &["spec.subsets[1].name", "\"v1\" for the second time"],
            &istio("DestinationRule", "host: x\nsubsets: [{name: v1}, {name: v1}]"),
        ),
        case("an empty policy", (6, 18), &["spec.trafficPolicy: an empty policy"], &policy("{}")),
        case(
            "a load balancer that is none",
            (6, 0),
            &["loadBalancer.simple", "\"FASTEST\"", "ROUND_ROBIN"],
            &policy("{loadBalancer: {simple: FASTEST}}"),
        ),
        case(
            "a Maglev table that is not prime",
            (6, 0),
            &["maglev.tableSize", "the number 100", "prime"],
            &policy("{loadBalancer: {consistentHash: {maglev: {tableSize: 100}, useSourceIp: true}}}"),
        ),
        case(
            "MUTUAL without a certificate",
            (6, 0),
            &["tls.clientCertificate: nothing"],
            &policy("{tls: {mode: MUTUAL}}"),
        ),
        case(
            "a gateway without servers",
            (5, 3),
            &["spec.servers: nothing"],
            &istio("Gateway", "selector: {a: b}"),
        ),
        case(
            "HTTPS without tls",
            (6, 0),
            &["spec.servers[0].tls: nothing"],
            &server("{hosts: ['*'], port: {number: 443, name: https, protocol: HTTPS}}"),
        ),
        case(
            "a gateway for a short name",
            (6, 0),
            &["spec.servers[0].hosts[0]", "\"short\""],
            &server("{hosts: [short], port: {number: 80, name: http, protocol: HTTP}}"),
        ),
        case(
            "a protocol nobody speaks",
            (6, 0),
            &["port.protocol", "\"SPDY\"", "GRPC-WEB"],
            &server("{hosts: ['*'], port: {number: 80, name: http, protocol: SPDY}}"),
        ),
        case(
            "endpoints where none belong",
            (7, 14),
            &["spec.endpoints", "NONE"],
            &istio("ServiceEntry", "hosts: [a.com]\nresolution: NONE\nendpoints: [{address: 1.1.1.1}]"),
        ),
        case(
            "a ServiceEntry for every host",
            (5, 11),
            &["spec.hosts[0]", "\"*\""],
            &istio("ServiceEntry", "hosts: ['*']"),
        ),
        case(
            "a name where an address belongs",
            (7, 0),
            &["spec.endpoints[0].address", "an IP address"],
            &istio("ServiceEntry", "hosts: [a.com]\nresolution: STATIC\nendpoints: [{address: b.com}]"),
        ),
        case(
            "two ports of one number",
            (6, 0),
            &["spec.ports[1].number", "80 for the second time"],
            &istio("ServiceEntry", "hosts: [a.com]\nports: [{number: 80, name: a}, {number: 80, name: b}]"),
        ),
        case(
            "a workload without an address",
            (5, 3),
            &["spec.address: nothing", "network"],
            &istio("WorkloadEntry", "labels: {app: x}"),
        ),
    ]
}
