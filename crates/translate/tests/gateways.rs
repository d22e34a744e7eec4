//! Gateways: what a router listens to, and where it sends what it hears.

mod common;

use common::{assert_consistent, listed, mesh, reads, resource, router, unpack};
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::virtual_host::TlsRequirementType;
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use ostro_mesh::{Attr, Proxy, Snapshot};
use ostro_translate::ResourceType;
use prost::{Message, Name};

/// A Gateway of `edge` for the router, with these servers.
fn gateway(name: &str, servers: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: edge}}
spec:
  selector: {{istio: ingressgateway}}
  servers: {servers}
---
"
    )
}

/// A VirtualService of `apps`.
fn rules(name: &str, hosts: &str, gateways: &str, rest: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: apps}}
spec:
  hosts: [{hosts}]
  gateways: [{gateways}]
  {rest}
---
"
    )
}

fn to(host: &str) -> String {
    format!("[{{route: [{{destination: {{host: {host}, port: {{number: 80}}}}}}]}}]")
}

fn listeners(snapshot: &Snapshot) -> Vec<&'static str> {
    listed(snapshot, &router(), ResourceType::Listener)
}

fn listener(snapshot: &Snapshot, proxy: &Proxy, name: &str) -> Listener {
    resource(snapshot, proxy, ResourceType::Listener, name)
}

fn routes(snapshot: &Snapshot, name: &str) -> RouteConfiguration {
    resource(snapshot, &router(), ResourceType::Route, name)
}

fn only_filter<M: Message + Default + Name>(chain: &FilterChain) -> M {
    let [Filter { config_type: Some(filter::ConfigType::TypedConfig(any)), .. }] = chain.filters.as_slice()
    else {
        panic!("not one filter: {chain:#?}")
    };
    unpack(any)
}

fn route_name(chain: &FilterChain) -> String {
    match only_filter::<HttpConnectionManager>(chain).route_specifier {
        Some(RouteSpecifier::Rds(rds)) => rds.route_config_name,
        other => panic!("not RDS: {other:?}"),
    }
}

fn tcp_cluster(chain: &FilterChain) -> String {
    match only_filter::<TcpProxy>(chain).cluster_specifier {
        Some(tcp_proxy::ClusterSpecifier::Cluster(name)) => name,
        other => panic!("not one cluster: {other:?}"),
    }
}

fn server_names(chain: &FilterChain) -> &[String] {
    chain.filter_chain_match.as_ref().map_or(&[], |matched| &matched.server_names)
}

fn names(config: &RouteConfiguration) -> Vec<&str> {
    config.virtual_hosts.iter().map(|host| host.name.as_str()).collect()
}

fn clusters(host: &VirtualHost) -> Vec<&str> {
    let cluster = |route: &'_ envoy_types::pb::envoy::config::route::v3::Route| match &route.action {
        Some(Action::Route(action)) => match &action.cluster_specifier {
            Some(ClusterSpecifier::Cluster(name)) => name.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    host.routes.iter().map(cluster).map(|name| &*name.leak()).collect()
}

const HTTP: &str = "[{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com']}]";

#[test]
fn without_a_gateway_there_is_nothing() {
    let snapshot = mesh(&rules("vs", "a.example.com", "edge/gw", &format!("http: {}", to("a"))));
    assert!(listeners(&snapshot).is_empty());
    assert!(routes(&snapshot, "http.80").virtual_hosts.is_empty());
}

#[test]
fn a_gateway_without_virtual_services_answers_nothing() {
    let snapshot = mesh(&gateway("gw", HTTP));
    assert_eq!(listeners(&snapshot), ["0.0.0.0_80"]);
    let built = listener(&snapshot, &router(), "0.0.0.0_80");
    assert_eq!(route_name(&built.filter_chains[0]), "http.80");
    let config = routes(&snapshot, "http.80");
    assert_eq!(names(&config), ["blackhole:80"]);
    assert!(config.virtual_hosts[0].routes.is_empty());
    assert_consistent(&snapshot, &router());
}

#[test]
fn each_virtual_service_serves_what_it_shares_with_the_server() {
    let snapshot = mesh(
        &[
            gateway("gw", HTTP),
            rules("a", "a.example.com, other.org", "edge/gw", &format!("http: {}", to("a"))),
            rules("b", "'*'", "edge/gw", &format!("http: {}", to("b"))),
            rules("c", "c.example.com", "edge/unknown", &format!("http: {}", to("c"))),
            rules("m", "m.example.com", "mesh", &format!("http: {}", to("m"))),
        ]
        .concat(),
    );
    let config = routes(&snapshot, "http.80");
    assert_eq!(names(&config), ["*.example.com:80", "a.example.com:80"]);
    assert_eq!(config.virtual_hosts[1].domains, ["a.example.com"]);
    assert_eq!(clusters(&config.virtual_hosts[1]), ["outbound|80||a.apps.svc.cluster.local"]);
}

#[test]
fn rules_for_one_host_are_joined_and_what_takes_everything_comes_last() {
    let some =
        "http: [{match: [{uri: {prefix: /b}}], route: [{destination: {host: b, port: {number: 80}}}]}]";
    let snapshot = mesh(
        &[
            gateway("gw", HTTP),
            rules("a", "a.example.com", "edge/gw", &format!("http: {}", to("a"))),
            rules("b", "a.example.com", "edge/gw", some),
            rules("c", "a.example.com", "edge/gw", &format!("http: {}", to("c"))),
        ]
        .concat(),
    );
    let config = routes(&snapshot, "http.80");
    assert_eq!(
        clusters(&config.virtual_hosts[0]),
        ["outbound|80||b.apps.svc.cluster.local", "outbound|80||a.apps.svc.cluster.local"]
    );
}

#[test]
fn a_servers_host_may_be_one_namespaces_alone() {
    let one = |namespace: &str| {
        format!(
            "[{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['{namespace}/a.example.com']}}]"
        )
    };
    let vs = rules("a", "a.example.com", "edge/gw", &format!("http: {}", to("a")));
    for (namespace, expected) in [
        ("apps", "a.example.com:80"),
        ("*", "a.example.com:80"),
        (".", "blackhole:80"),
        ("other", "blackhole:80"),
    ] {
        let snapshot = mesh(&format!("{}{vs}", gateway("gw", &one(namespace))));
        assert_eq!(names(&routes(&snapshot, "http.80")), [expected], "{namespace}");
    }
}

#[test]
fn https_redirect_needs_no_routes() {
    let server = "[{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example.com, b.example.com],
                    tls: {httpsRedirect: true}}]";
    let plain = "[{port: {number: 80, name: http, protocol: HTTP}, hosts: [c.example.com]}]";
    let snapshot = mesh(
        &[
            gateway("gw", server),
            gateway("gw2", plain),
            rules("a", "a.example.com", "edge/gw", &format!("http: {}", to("a"))),
            rules("c", "c.example.com", "edge/gw2", &format!("http: {}", to("c"))),
        ]
        .concat(),
    );
    let config = routes(&snapshot, "http.80");
    let seen: Vec<(&str, i32, usize)> = config
        .virtual_hosts
        .iter()
        .map(|host| (host.name.as_str(), host.require_tls, host.routes.len()))
        .collect();
    let all = TlsRequirementType::All as i32;
    assert_eq!(
        seen,
        [("a.example.com:80", all, 1), ("b.example.com:80", all, 0), ("c.example.com:80", 0, 1)]
    );
}

#[test]
fn the_gateways_service_moves_the_listener() {
    let service = "apiVersion: v1
kind: Service
metadata: {name: ingress, namespace: edge}
spec:
  clusterIP: 10.96.7.7
  selector: {istio: ingressgateway}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ingress, namespace: edge, labels: {kubernetes.io/service-name: ingress}}
addressType: IPv4
endpoints: [{addresses: [10.1.9.9]}]
ports: [{name: http, port: 8080}]
---
";
    let vs = rules("a", "a.example.com", "edge/gw", &format!("http: {}", to("a")));
    let snapshot = mesh(&format!("{service}{}{vs}", gateway("gw", HTTP)));
    assert_eq!(listeners(&snapshot), ["0.0.0.0_8080"]);
    let built = listener(&snapshot, &router(), "0.0.0.0_8080");
    assert_eq!(route_name(&built.filter_chains[0]), "http.8080");
    // Another replica's address makes no other bytes: what is asked is where, not who.
    let asked = reads(&snapshot, &router(), ResourceType::Route, "http.8080");
    assert!(!asked.attrs.iter().any(|(attr, _)| *attr == Attr::Addresses), "{:?}", asked.attrs);
    // Virtual hosts keep the port that people wrote.
    assert_eq!(names(&routes(&snapshot, "http.8080")), ["a.example.com:80"]);
}

#[test]
fn opaque_servers_go_where_a_tcp_rule_says_and_otherwise_are_not() {
    let server = "[{port: {number: 3306, name: db, protocol: TCP}, hosts: ['*']},
                   {port: {number: 3307, name: db2, protocol: TCP}, hosts: ['*']}]";
    let tcp = "tcp: [{match: [{port: 3306}], route: [{destination: {host: db, port: {number: 3306}}}]}]";
    let snapshot = mesh(&format!("{}{}", gateway("gw", server), rules("db", "'*'", "edge/gw", tcp)));
    assert_eq!(listeners(&snapshot), ["0.0.0.0_3306"]);
    let built = listener(&snapshot, &router(), "0.0.0.0_3306");
    assert_eq!(tcp_cluster(&built.filter_chains[0]), "outbound|3306||db.apps.svc.cluster.local");
    assert_consistent(&snapshot, &router());
}

#[test]
fn of_two_opaque_servers_on_a_port_the_first_counts_even_without_routes() {
    let server = "[{port: {number: 80, name: tcp, protocol: TCP}, hosts: [a.example.com]}]";
    let tcp = "tcp: [{route: [{destination: {host: a, port: {number: 80}}}]}]";
    let both = format!("{}{}", gateway("first", server), gateway("second", server));
    let bound_to = |name: &str| mesh(&format!("{both}{}", rules("a", "'*'", &format!("edge/{name}"), tcp)));
    assert_eq!(listeners(&bound_to("first")), ["0.0.0.0_80"]);
    assert!(listeners(&bound_to("second")).is_empty());
}

#[test]
fn tls_is_passed_on_by_server_name() {
    let server = "[{port: {number: 443, name: tls, protocol: TLS}, hosts: ['*.example.com'],
                    tls: {mode: PASSTHROUGH}}]";
    let tls = "tls:
  - {match: [{sniHosts: [a.example.com]}], route: [{destination: {host: a, port: {number: 443}}}]}
  - {match: [{sniHosts: [a.example.com]}], route: [{destination: {host: late, port: {number: 443}}}]}
  - {match: [{port: 8443, sniHosts: [b.example.com]}], route: [{destination: {host: b, port: {number: 443}}}]}";
    let snapshot = mesh(&format!(
        "{}{}",
        gateway("gw", server),
        rules("a", "a.example.com, b.example.com", "edge/gw", tls)
    ));
    let built = listener(&snapshot, &router(), "0.0.0.0_443");
    assert_eq!(built.filter_chains.len(), 1, "one chain for one server name: {built:#?}");
    assert_eq!(server_names(&built.filter_chains[0]), ["a.example.com"]);
    assert_eq!(tcp_cluster(&built.filter_chains[0]), "outbound|443||a.apps.svc.cluster.local");
    assert_eq!(built.listener_filters[0].name, "envoy.filters.listener.tls_inspector");
}

#[test]
fn tls_ends_only_at_proxies_that_can_get_certificates() {
    let server = "[{port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example.com],
                    tls: {mode: SIMPLE, credentialName: shop}},
                   {port: {number: 443, name: https-any, protocol: HTTPS}, hosts: ['*'],
                    tls: {mode: MUTUAL, credentialName: any}}]";
    let vs = rules("a", "a.example.com", "edge/gw", &format!("http: {}", to("a")));
    let snapshot = mesh(&format!("{}{vs}", gateway("gw", server)));
    assert!(listeners(&snapshot).is_empty(), "a listener would wait for its secret for ever");
    let able = Proxy { metadata: [("SDS".to_owned(), "true".to_owned())].into(), ..router() };
    assert_eq!(listed(&snapshot, &able, ResourceType::Listener), ["0.0.0.0_443"]);
    let built = listener(&snapshot, &able, "0.0.0.0_443");
    let chains = &built.filter_chains;
    assert_eq!(server_names(&chains[0]), ["a.example.com"]);
    assert!(server_names(&chains[1]).is_empty());
    assert!(chains.iter().all(|chain| chain.transport_socket.is_some()));
    assert_eq!(route_name(&chains[0]), "https.443.https.gw.edge");
    assert_eq!(names(&routes(&snapshot, "https.443.https.gw.edge")), ["a.example.com:443"]);
    assert_consistent(&snapshot, &able);
}

#[test]
fn matches_say_at_which_gateway_they_hold() {
    let http = "http:
  - {match: [{gateways: [mesh]}], route: [{destination: {host: inside, port: {number: 80}}}]}
  - {match: [{gateways: [edge/gw], sourceLabels: {app: nobody}}], route: [{destination: {host: edge, port: {number: 80}}}]}
  - {match: [{sourceLabels: {app: nobody}}], route: [{destination: {host: nobody, port: {number: 80}}}]}
  - {match: [{port: 8080}], route: [{destination: {host: port, port: {number: 80}}}]}";
    let snapshot =
        mesh(&format!("{}{}", gateway("gw", HTTP), rules("a", "a.example.com", "mesh, edge/gw", http)));
    let config = routes(&snapshot, "http.80");
    assert_eq!(clusters(&config.virtual_hosts[0]), ["outbound|80||edge.apps.svc.cluster.local"]);
}
