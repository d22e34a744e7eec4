//! Route configurations of sidecars: which authority meets which routes.

mod common;

use std::collections::BTreeSet;

use common::{assert_consistent, encoded, mesh, names, reads, resource, sidecar, unpack};
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{ClusterSpecifier, HostRewriteSpecifier};
use envoy_types::pb::envoy::config::route::v3::{Route, RouteAction, RouteConfiguration, VirtualHost};
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use envoy_types::pb::google::protobuf::value::Kind;
use ostro_mesh::{Attr, Key, Proxy, Snapshot};
use ostro_names::{Host, Namespace};
use ostro_translate::ResourceType;

/// Two services of `default`, one of `other`, each with two HTTP ports and one of TCP.
const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  clusterIP: 10.96.1.1
  ports: [{name: http, port: 80}, {name: http-alt, port: 8080}, {name: tcp-db, port: 5432}]
---
apiVersion: v1
kind: Service
metadata: {name: next, namespace: default}
spec:
  clusterIP: 10.96.1.2
  ports: [{name: http, port: 80}, {name: http-alt, port: 8080}, {name: tcp-db, port: 5432}]
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: other}
spec:
  clusterIP: 10.96.1.3
  ports: [{name: http, port: 80}, {name: http-alt, port: 8080}, {name: tcp-db, port: 5432}]
---
";

fn with(yaml: &str) -> Snapshot {
    mesh(&format!("{SERVICES}{yaml}"))
}

fn in_namespace(namespace: &str) -> Proxy {
    Proxy {
        namespace: Namespace::new(namespace),
        dns_domain: format!("{namespace}.svc.cluster.local"),
        ..sidecar(&["10.1.0.1"])
    }
}

fn routes(snapshot: &Snapshot, proxy: &Proxy, name: &str) -> RouteConfiguration {
    resource(snapshot, proxy, ResourceType::Route, name)
}

fn host_of<'c>(config: &'c RouteConfiguration, domain: &str) -> Option<&'c VirtualHost> {
    config.virtual_hosts.iter().find(|host| host.domains.iter().any(|own| own == domain))
}

fn named<'c>(config: &'c RouteConfiguration, name: &str) -> &'c VirtualHost {
    config
        .virtual_hosts
        .iter()
        .find(|host| host.name == name)
        .unwrap_or_else(|| panic!("no {name}: {config:#?}"))
}

fn action(route: &Route) -> &RouteAction {
    match &route.action {
        Some(Action::Route(action)) => action,
        other => panic!("does not forward: {other:?}"),
    }
}

fn clusters(host: &VirtualHost) -> Vec<&str> {
    let cluster = |route| match &action(route).cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => name.as_str(),
        other => panic!("not one cluster: {other:?}"),
    };
    host.routes.iter().map(cluster).collect()
}

#[test]
fn a_service_is_known_by_the_names_that_resolve_where_the_proxy_is() {
    let snapshot = with("");
    let near = routes(&snapshot, &in_namespace("default"), "80");
    assert_eq!(
        named(&near, "web.default.svc.cluster.local:80").domains,
        [
            "web.default.svc.cluster.local",
            "web.default.svc.cluster.local.",
            "web",
            "web.default",
            "web.default.svc",
            "10.96.1.1"
        ]
    );
    let far = routes(&snapshot, &in_namespace("other"), "80");
    assert!(host_of(&far, "web").is_none() && host_of(&far, "web.default").is_some());
    assert!(host_of(&far, "far").is_some());
}

#[test]
fn virtual_hosts_are_sorted_and_the_unknown_comes_last() {
    let config = routes(&with(""), &in_namespace("default"), "80");
    let names: Vec<&str> = config.virtual_hosts.iter().map(|host| host.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "far.other.svc.cluster.local:80",
            "next.default.svc.cluster.local:80",
            "web.default.svc.cluster.local:80",
            "allow_any"
        ]
    );
    assert!(
        config.ignore_port_in_host_matching
            && config.virtual_hosts.iter().all(|h| h.include_request_attempt_count)
    );
    assert_eq!(clusters(config.virtual_hosts.last().unwrap()), ["PassthroughCluster"]);
    let default = &config.virtual_hosts[2].routes[0];
    assert_eq!(default.name, "default");
    assert_eq!(action(default).timeout.as_ref().unwrap().seconds, 0);
    assert_eq!(action(default).retry_policy.as_ref().unwrap().num_retries.as_ref().unwrap().value, 2);
    assert_eq!(default.decorator.as_ref().unwrap().operation, "web.default.svc.cluster.local:80/*");
}

#[test]
fn unknown_hosts_are_refused_where_only_the_registry_counts() {
    let snapshot = with(
        "apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'outboundTrafficPolicy: {mode: REGISTRY_ONLY}'}",
    );
    let config = routes(&snapshot, &in_namespace("default"), "80");
    let last = config.virtual_hosts.last().unwrap();
    assert_eq!(last.name, "block_all");
    let Some(Action::DirectResponse(answer)) = &last.routes[0].action else { panic!("{last:?}") };
    assert_eq!(answer.status, 502);
}

#[test]
fn a_port_that_speaks_no_http_has_no_virtual_hosts() {
    let config = routes(&with(""), &in_namespace("default"), "5432");
    let names: Vec<&str> = config.virtual_hosts.iter().map(|host| host.name.as_str()).collect();
    assert_eq!(names, ["allow_any"]);
}

#[test]
fn a_sniffed_service_answers_to_every_name_alone() {
    let config = routes(&with(""), &in_namespace("other"), "web.default.svc.cluster.local:8080");
    assert_eq!(config.virtual_hosts.len(), 1);
    assert_eq!(config.virtual_hosts[0].domains, ["*"]);
    assert_eq!(clusters(&config.virtual_hosts[0]), ["outbound|8080||web.default.svc.cluster.local"]);
}

#[test]
fn names_of_nothing_have_an_empty_configuration() {
    let snapshot = with("");
    for name in ["web.default.svc.cluster.local:81", "never.seen.example:80", "inbound|80||", "http.80"] {
        let config = routes(&snapshot, &in_namespace("default"), name);
        assert_eq!((config.name.as_str(), config.virtual_hosts.len()), (name, 0));
    }
    // The absence is noted, so that the service's arrival makes the routes.
    let read = reads(&snapshot, &in_namespace("default"), ResourceType::Route, "to.come.example:80");
    assert!(read.keys.contains(&Key::Services(Host::new("to.come.example")).id()));
}

#[test]
fn headless_services_are_known_by_their_pods_names_too() {
    let snapshot = mesh(
        "apiVersion: v1
kind: Service
metadata: {name: db, namespace: default}
spec: {clusterIP: None, ports: [{name: http, port: 80}]}",
    );
    let config = routes(&snapshot, &in_namespace("default"), "80");
    let domains = &named(&config, "db.default.svc.cluster.local:80").domains;
    assert!(domains.contains(&"*.db.default.svc.cluster.local".to_owned()), "{domains:?}");
    assert!(domains.contains(&"*.db".to_owned()), "{domains:?}");
}

#[test]
fn an_external_name_is_another_name_of_its_target() {
    let snapshot = with(
        "apiVersion: v1
kind: Service
metadata: {name: shop, namespace: default}
spec: {type: ExternalName, externalName: web.default.svc.cluster.local}",
    );
    let config = routes(&snapshot, &in_namespace("default"), "8080");
    let host = host_of(&config, "shop").unwrap();
    assert_eq!(host.name, "web.default.svc.cluster.local:8080");
    assert!(host.domains.contains(&"shop.default.svc.cluster.local".to_owned()));
}

/// A VirtualService of `default` for these hosts, with this `http`.
fn rules(name: &str, created: &str, hosts: &str, http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: default, creationTimestamp: '{created}'}}
spec:
  hosts: [{hosts}]
  http: {http}
---
"
    )
}

#[test]
fn a_virtual_service_takes_the_place_of_a_services_default() {
    let snapshot =
        with(&rules("vs", "2020-01-01T00:00:00Z", "web", "[{route: [{destination: {host: next}}]}]"));
    for namespace in ["default", "other"] {
        for port in ["80", "8080"] {
            let config = routes(&snapshot, &in_namespace(namespace), port);
            let host = host_of(&config, "web.default.svc.cluster.local").unwrap();
            assert_eq!(clusters(host), [format!("outbound|{port}||next.default.svc.cluster.local")]);
        }
    }
}

#[test]
fn a_host_that_is_no_service_is_known_on_port_80() {
    let snapshot = with(&rules(
        "vs",
        "2020-01-01T00:00:00Z",
        "outside.example",
        "[{route: [{destination: {host: web}}]}]",
    ));
    let proxy = in_namespace("default");
    let config = routes(&snapshot, &proxy, "80");
    assert_eq!(named(&config, "outside.example:80").domains, ["outside.example"]);
    assert!(host_of(&routes(&snapshot, &proxy, "8080"), "outside.example").is_none());
}

#[test]
fn a_host_that_is_no_service_follows_one_of_the_same_virtual_service() {
    let http = "[{route: [{destination: {host: web}}]}]";
    let snapshot = with(&rules("vs", "2020-01-01T00:00:00Z", "web, outside.example", http));
    let config = routes(&snapshot, &in_namespace("default"), "8080");
    assert_eq!(
        clusters(named(&config, "outside.example:8080")),
        ["outbound|8080||web.default.svc.cluster.local"]
    );
    let other = routes(&snapshot, &in_namespace("default"), "9999");
    assert!(host_of(&other, "outside.example").is_none());
}

#[test]
fn of_two_virtual_services_for_a_host_the_older_counts() {
    let to = |host: &str| format!("[{{route: [{{destination: {{host: {host}}}}}]}}]");
    let newer = rules("a", "2021-01-01T00:00:00Z", "web", &to("new.example"));
    let older = rules("b", "2019-01-01T00:00:00Z", "web", &to("old.example"));
    let config = routes(&with(&format!("{newer}{older}")), &in_namespace("default"), "80");
    assert_eq!(clusters(host_of(&config, "web").unwrap()), ["outbound|80||old.example"]);
}

#[test]
fn wildcards_apply_to_services_that_have_nothing_closer() {
    let to = |host: &str| format!("[{{route: [{{destination: {{host: {host}}}}}]}}]");
    let wide = rules("wide", "2018-01-01T00:00:00Z", "'*.cluster.local'", &to("wide.example"));
    let close = rules("close", "2021-01-01T00:00:00Z", "'*.default.svc.cluster.local'", &to("close.example"));
    let exact = rules("exact", "2022-01-01T00:00:00Z", "next", &to("exact.example"));
    let config = routes(&with(&format!("{wide}{close}{exact}")), &in_namespace("default"), "80");
    assert_eq!(clusters(host_of(&config, "far.other").unwrap()), ["outbound|80||wide.example"]);
    assert_eq!(clusters(host_of(&config, "web").unwrap()), ["outbound|80||close.example"]);
    assert_eq!(clusters(host_of(&config, "next").unwrap()), ["outbound|80||exact.example"]);
    // The wildcards have no virtual hosts of their own where services answer to them.
    assert!(host_of(&config, "*.cluster.local").is_none());
}

#[test]
fn no_domain_is_given_out_twice() {
    // A ServiceEntry that is called like a short name, and one that shares an address.
    let snapshot = with(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: clash, namespace: default}
spec:
  hosts: [web.default]
  addresses: [10.96.1.2]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
",
    );
    let config = routes(&snapshot, &in_namespace("default"), "80");
    let mut seen = BTreeSet::new();
    for domain in config.virtual_hosts.iter().flat_map(|host| &host.domains) {
        assert!(seen.insert(domain), "{domain} is given out twice");
    }
    // The full name wins over the shortened one.
    assert_eq!(host_of(&config, "web.default").unwrap().name, "web.default:80");
}

#[test]
fn rules_that_do_not_concern_the_proxy_leave_the_default() {
    let snapshot = with(&rules(
        "vs",
        "2020-01-01T00:00:00Z",
        "web",
        "[{match: [{sourceNamespace: other}], route: [{destination: {host: next}}]},
          {match: [{sourceLabels: {app: batch}}], route: [{destination: {host: far.other.svc.cluster.local}}]}]",
    ));
    let web = "outbound|80||web.default.svc.cluster.local";
    let seen = |proxy: &Proxy| {
        let config = routes(&snapshot, proxy, "80");
        clusters(host_of(&config, "web.default").unwrap()).join(" ")
    };
    assert_eq!(seen(&in_namespace("default")), web);
    assert_eq!(seen(&in_namespace("other")), "outbound|80||next.default.svc.cluster.local");
    let labels = [("app".to_owned(), "batch".to_owned())].into();
    let batch = Proxy { labels, ..in_namespace("default") };
    assert_eq!(seen(&batch), "outbound|80||far.other.svc.cluster.local");
}

#[test]
fn a_port_of_few_hosts_is_shared_by_all_namespaces_that_have_none_of_them() {
    let snapshot = with("");
    let read = |namespace: &str| reads(&snapshot, &in_namespace(namespace), ResourceType::Route, "80").attrs;
    assert_eq!(read("third"), read("fourth"));
    assert_ne!(read("third"), read("default"));
    assert!(!read("third").iter().any(|(attr, _)| *attr == Attr::Namespace));
}

#[test]
fn a_port_of_many_hosts_is_read_by_few_questions() {
    let service = |index: usize| {
        format!(
            "apiVersion: v1
kind: Service
metadata: {{name: s{index}, namespace: n{index}}}
spec: {{clusterIP: 10.96.2.{index}, ports: [{{name: http, port: 80}}]}}
---
"
        )
    };
    let snapshot = with(&(1..=20).map(service).collect::<String>());
    let read = reads(&snapshot, &in_namespace("default"), ResourceType::Route, "80");
    let asked: Vec<&Attr> = read.attrs.iter().map(|(attr, _)| attr).collect();
    assert_eq!(asked, [&Attr::Kind, &Attr::Namespace, &Attr::Families]);
}

#[test]
fn who_is_told_to_use_a_proxy_finds_one_on_its_loopback_address() {
    let snapshot = with("");
    let proxy = Proxy {
        metadata: [("HTTP_PROXY_PORT".to_owned(), "15002".to_owned())].into(),
        ..in_namespace("default")
    };
    let listed = |proxy| {
        names(&snapshot, proxy, ResourceType::Listener).into_iter().any(|name| name == "127.0.0.1_15002")
    };
    assert!(listed(&proxy) && !listed(&in_namespace("default")));
    assert_consistent(&snapshot, &proxy);
    let listener: Listener = resource(&snapshot, &proxy, ResourceType::Listener, "127.0.0.1_15002");
    assert!(listener.use_original_dst.is_none() && listener.bind_to_port.is_none());
    let other = encoded(&snapshot, &proxy, ResourceType::Listener, "127.0.0.1_15003");
    assert_eq!(other, None);
}

#[test]
fn the_http_proxy_tells_services_apart_by_port() {
    let config = routes(&with(""), &in_namespace("default"), "http_proxy");
    assert!(!config.ignore_port_in_host_matching);
    assert_eq!(
        clusters(host_of(&config, "web:8080").unwrap()),
        ["outbound|8080||web.default.svc.cluster.local"]
    );
    assert_eq!(host_of(&config, "web").unwrap().name, "web.default.svc.cluster.local:80");
    assert!(host_of(&config, "web:5432").is_none());
}

#[test]
fn delegates_stand_in_their_roots_place() {
    let root = rules(
        "root",
        "2020-01-01T00:00:00Z",
        "web",
        "[{name: root, match: [{uri: {prefix: /shop}}], delegate: {name: leaf, namespace: other}, timeout: 5s},
          {match: [{uri: {prefix: /gone}}], delegate: {name: nowhere}},
          {route: [{destination: {host: web}}]}]",
    );
    let leaf = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: leaf, namespace: other}
spec:
  http:
  - {name: cart, match: [{uri: {prefix: /shop/cart}}], route: [{destination: {host: far}}]}
  - {match: [{uri: {prefix: /elsewhere}}], route: [{destination: {host: far}}]}
  - {match: [{uri: {exact: /shop/pay}}], route: [{destination: {host: web.default.svc.cluster.local}}], timeout: 1s}
";
    let config = routes(&with(&format!("{root}{leaf}")), &in_namespace("default"), "80");
    let host = host_of(&config, "web").unwrap();
    // Short names in the delegate are of the delegate's namespace.
    assert_eq!(
        clusters(host),
        [
            "outbound|80||far.other.svc.cluster.local",
            "outbound|80||web.default.svc.cluster.local",
            "outbound|80||web.default.svc.cluster.local"
        ]
    );
    let timeouts: Vec<i64> =
        host.routes.iter().map(|route| action(route).timeout.as_ref().unwrap().seconds).collect();
    assert_eq!(timeouts, [5, 1, 0]);
    assert_eq!(host.routes[0].name, "root-cart");
}

#[test]
fn weights_subsets_and_ports_of_destinations() {
    let snapshot = with(&rules(
        "vs",
        "2020-01-01T00:00:00Z",
        "web",
        "[{match: [{uri: {prefix: /none}}], route: [{destination: {host: web, subset: v9}, weight: 0}]},
          {route: [{destination: {host: web, subset: v1}, weight: 90},
                   {destination: {host: next, port: {number: 8080}}, weight: 10},
                   {destination: {host: far.other.svc.cluster.local}, weight: 0}]}]",
    ));
    let config = routes(&snapshot, &in_namespace("default"), "80");
    let host = host_of(&config, "web").unwrap();
    assert!(matches!(&action(&host.routes[0]).cluster_specifier, Some(ClusterSpecifier::Cluster(name))
        if name == "outbound|80|v9|web.default.svc.cluster.local"));
    let Some(ClusterSpecifier::WeightedClusters(weighted)) = &action(&host.routes[1]).cluster_specifier
    else {
        panic!("not weighted")
    };
    let shares: Vec<(&str, u32)> = weighted
        .clusters
        .iter()
        .map(|cluster| (cluster.name.as_str(), cluster.weight.unwrap().value))
        .collect();
    assert_eq!(
        shares,
        [
            ("outbound|80|v1|web.default.svc.cluster.local", 90),
            ("outbound|8080||next.default.svc.cluster.local", 10)
        ]
    );
}

#[test]
fn endpoints_by_hash_need_a_policy_on_the_route_and_no_flight_from_a_host() {
    let snapshot = with(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: sticky, namespace: default}
spec:
  host: web
  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}",
    );
    let config = routes(&snapshot, &in_namespace("default"), "80");
    let hashed = action(&host_of(&config, "web").unwrap().routes[0]);
    assert_eq!(hashed.hash_policy.len(), 1);
    assert!(hashed.retry_policy.as_ref().unwrap().retry_host_predicate.is_empty());
    let plain = action(&host_of(&config, "next").unwrap().routes[0]);
    assert!(
        plain.hash_policy.is_empty() && plain.retry_policy.as_ref().unwrap().retry_host_predicate.len() == 1
    );
}

/// The routes of `web` on port 80 under these rules.
fn of_rules(http: &str) -> Vec<Route> {
    let snapshot = with(&rules("vs", "2020-01-01T00:00:00Z", "web", http));
    named(&routes(&snapshot, &in_namespace("default"), "80"), "web.default.svc.cluster.local:80")
        .routes
        .clone()
}

#[test]
fn each_match_is_a_route_and_nothing_follows_one_that_takes_everything() {
    let routes = of_rules(
        "[{name: some, match: [{name: a, uri: {exact: /a}}, {uri: {prefix: /b}}], route: [{destination: {host: web}}]},
          {name: all, match: [{uri: {prefix: /}}, {uri: {exact: /never}}], route: [{destination: {host: next}}]},
          {name: never, route: [{destination: {host: web}}]}]",
    );
    let names: Vec<&str> = routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["some.a", "some", "all"]);
    let config = &routes[0].metadata.as_ref().unwrap().filter_metadata["istio"].fields["config"];
    let path = "/apis/networking.istio.io/v1/namespaces/default/virtual-service/vs";
    assert_eq!(config.kind, Some(Kind::StringValue(path.to_owned())));
}

#[test]
fn faults_and_cross_origin_policies_go_to_their_filters() {
    let routes = of_rules(
        "[{fault: {abort: {httpStatus: 503, percentage: {value: 12.5}}}, corsPolicy: {allowOrigins: [{exact: a.example}]},
           route: [{destination: {host: web}}]}]",
    );
    let filters = &routes[0].typed_per_filter_config;
    let fault: HttpFault = unpack(&filters["envoy.filters.http.fault"]);
    let percentage = fault.abort.unwrap().percentage.unwrap();
    assert_eq!((percentage.numerator, percentage.denominator), (125_000, DenominatorType::Million as i32));
    let cors: CorsPolicy = unpack(&filters["envoy.filters.http.cors"]);
    assert_eq!(cors.allow_origin_string_match.len(), 1);
}

#[test]
fn mirrors_get_their_share_under_the_clients_host() {
    let routes = of_rules(
        "[{route: [{destination: {host: web}}], mirror: {host: next}, mirrorPercentage: {value: 50}}]",
    );
    let policy = &action(&routes[0]).request_mirror_policies;
    assert_eq!(policy.len(), 1);
    assert_eq!(policy[0].cluster, "outbound|80||next.default.svc.cluster.local");
    assert!(policy[0].disable_shadow_host_suffix_append);
    let share = policy[0].runtime_fraction.as_ref().unwrap().default_value.unwrap();
    assert_eq!(share.numerator, 500_000);
    // What takes no request is no mirror.
    let several = of_rules(
        "[{route: [{destination: {host: web}}], mirrors: [{destination: {host: far.other.svc.cluster.local}},
           {destination: {host: next}, percentage: {value: 0}}]}]",
    );
    let clusters: Vec<&str> =
        action(&several[0]).request_mirror_policies.iter().map(|mirror| mirror.cluster.as_str()).collect();
    assert_eq!(clusters, ["outbound|80||far.other.svc.cluster.local"]);
}

#[test]
fn the_authority_is_rewritten_once_and_by_the_most_general_word() {
    let rewritten = |http: &str| match &action(&of_rules(http)[0]).host_rewrite_specifier {
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => Some(host.clone()),
        _ => None,
    };
    let to_web = "destination: {host: web}";
    assert_eq!(rewritten(&format!("[{{route: [{{{to_web}}}]}}]")), None);
    let by_destination = format!("[{{route: [{{{to_web}, headers: {{request: {{set: {{Host: d}}}}}}}}]}}]");
    assert_eq!(rewritten(&by_destination).as_deref(), Some("d"));
    let by_both = format!(
        "[{{rewrite: {{authority: r}}, route: [{{{to_web}, headers: {{request: {{set: {{Host: d}}}}}}}}]}}]"
    );
    assert_eq!(rewritten(&by_both).as_deref(), Some("r"));
}

#[test]
fn a_timeout_bounds_grpcs_own_and_silence_is_none() {
    let routes = of_rules(
        "[{match: [{uri: {exact: /a}}], timeout: 7s, route: [{destination: {host: web}}]},
          {route: [{destination: {host: web}}]}]",
    );
    for (route, seconds) in routes.iter().zip([7, 0]) {
        let action = action(route);
        assert_eq!(action.timeout.as_ref().unwrap().seconds, seconds);
        let grpc = action.max_stream_duration.as_ref().unwrap().grpc_timeout_header_max.as_ref();
        assert_eq!(grpc.unwrap().seconds, seconds);
    }
}

#[test]
fn equal_meshes_give_equal_bytes() {
    let http = "[{fault: {delay: {fixedDelay: 1s}}, corsPolicy: {allowOrigins: [{exact: a.example}]},
                  route: [{destination: {host: web}}]}]";
    let yaml = rules("vs", "2020-01-01T00:00:00Z", "web", http);
    let bytes = || encoded(&with(&yaml), &in_namespace("default"), ResourceType::Route, "80").unwrap();
    let first = bytes();
    assert!((0..20).all(|_| bytes() == first));
}
