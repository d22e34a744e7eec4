//! The only way a generator sees the mesh and the proxy it works for: every read is noted.
//!
//! Invariants: no method returns anything that is not noted; what a method returns is a function of the snapshot's
//! values under the noted keys and of the answers under the noted attributes, and of nothing else. So a resource
//! need be rebuilt only when one of its keys changed, and serves every proxy that gives the same answers.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use ostro_api::mesh_config::MeshConfig;
use ostro_names::{Host, Name, Namespace, Spreading};

use crate::attr;
use crate::key::{Key, KeyId};
use crate::model::{Endpoint, GatewayRules, Instance, Labels, Resolution, RouteRules, Service, TrafficRule};
use crate::proxy::{Answer, Attr, Proxy, ProxyKind};
use crate::snapshot::{Hosts, Snapshot};

/// What a generator has read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reads {
    /// Distinct keys, sorted.
    pub keys: Vec<KeyId>,
    /// Distinct questions in the order first asked, with the answers. Since generators are deterministic, two
    /// proxies that give the same answers so far are asked the same next question.
    pub attrs: Vec<(Attr, Answer)>,
}

#[derive(Default)]
struct Recorder {
    keys: HashSet<KeyId, Spreading>,
    /// The namespace itself was asked.
    namespace: bool,
    asked: HashMap<Attr, Answer>,
    attrs: Vec<(Attr, Answer)>,
}

/// A snapshot and a proxy, read through a recorder.
pub struct View<'a> {
    snapshot: &'a Snapshot,
    proxy: &'a Proxy,
    recorder: RefCell<Recorder>,
}

impl<'a> View<'a> {
    /// A view that has noted nothing yet.
    pub fn new(snapshot: &'a Snapshot, proxy: &'a Proxy) -> Self {
        View { snapshot, proxy, recorder: RefCell::default() }
    }

    /// What has been read.
    pub fn into_reads(self) -> Reads {
        let recorder = self.recorder.into_inner();
        let mut keys: Vec<KeyId> = recorder.keys.into_iter().collect();
        keys.sort_unstable();
        Reads { keys, attrs: recorder.attrs }
    }

    fn note(&self, key: Key) {
        self.recorder.borrow_mut().keys.insert(key.id());
    }

    /// Asks the proxy. The question is noted with its answer; the keys on which the answer depends are the concern of
    /// whoever looks up by answers, who has to put the question again when they change.
    ///
    /// Once the namespace itself is known, questions about it tell proxies apart no further: then the keys are noted
    /// instead.
    pub fn ask(&self, question: Attr) -> Answer {
        let mut recorder = self.recorder.borrow_mut();
        if recorder.namespace && question.is_of_namespace() {
            // As quickly answered as remembered.
            let mut note = |key: Key| {
                recorder.keys.insert(key.id());
            };
            return attr::answer(self.snapshot, self.proxy, &question, &mut note);
        }
        if let Some(answer) = recorder.asked.get(&question) {
            return *answer;
        }
        let answer = attr::answer(self.snapshot, self.proxy, &question, &mut |_| {});
        recorder.namespace |= question == Attr::Namespace;
        recorder.asked.insert(question.clone(), answer);
        recorder.attrs.push((question, answer));
        answer
    }

    /// Asks for the sake of who looks up by answers: as [`ask`](Self::ask), without an answer.
    pub fn put(&self, question: &Attr) {
        let mut recorder = self.recorder.borrow_mut();
        if recorder.namespace && question.is_of_namespace() {
            attr::keys(self.proxy, question, &mut |key| {
                recorder.keys.insert(key.id());
            });
            return;
        }
        drop(recorder);
        self.ask(question.clone());
    }

    fn ask_bool(&self, question: Attr) -> bool {
        self.ask(question) == attr::yes()
    }

    // The proxy.

    /// Sidecar or router.
    pub fn kind(&self) -> ProxyKind {
        if self.ask(Attr::Kind).as_str() == "router" { ProxyKind::Router } else { ProxyKind::Sidecar }
    }

    /// The proxy's namespace, in full: splits variants by namespace. Prefer the narrower questions below.
    pub fn namespace(&self) -> Namespace {
        Namespace::new(self.ask(Attr::Namespace).as_str())
    }

    /// DNS domain of the proxy's namespace.
    pub fn dns_domain(&self) -> &'static str {
        self.ask(Attr::DnsDomain).as_str()
    }

    /// The workload's addresses. For what is the proxy's alone: inbound resources and membership.
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        self.ask(Attr::Addresses).as_str().split(',').filter_map(|text| text.parse().ok()).collect()
    }

    /// Whether the proxy has IPv4 and IPv6 addresses.
    pub fn families(&self) -> (bool, bool) {
        let families = self.ask(Attr::Families).as_str();
        (families.contains('4'), families.contains('6'))
    }

    /// `(region, zone, subzone)` of the proxy.
    pub fn locality(&self) -> (&'static str, &'static str, &'static str) {
        let mut parts = self.ask(Attr::Locality).as_str().splitn(3, '/');
        (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next().unwrap_or(""))
    }

    /// Whether the proxy's labels contain all of `labels`. An empty selector is true without asking.
    pub fn labels_contain(&self, labels: &Labels) -> bool {
        labels.is_empty() || self.ask_bool(Attr::LabelsContain(labels.clone()))
    }

    /// The value of a label of the proxy; empty when absent. Splits variants by value: prefer
    /// [`labels_contain`](Self::labels_contain) where a yes or no will do.
    pub fn label(&self, key: &str) -> &'static str {
        self.ask(Attr::Label(key.to_owned())).as_str()
    }

    /// Whether the proxy carries this extension (`node.extensions`).
    pub fn has_extension(&self, name: &'static str) -> bool {
        self.ask_bool(Attr::Extension(name))
    }

    /// Whether the proxy said what it carries, and this is not among it. Many clients do not say (tests, old
    /// proxies); they get what every Envoy has.
    pub fn lacks_extension(&self, name: &'static str) -> bool {
        self.ask_bool(Attr::Lacks(name))
    }

    /// The proxy's own addresses among the endpoints of `host`. Proxies that serve something else, nearly all,
    /// answer alike.
    pub fn own_addresses_behind(&self, host: Host) -> Vec<IpAddr> {
        self.ask(Attr::Behind(host)).as_str().split(',').filter_map(|text| text.parse().ok()).collect()
    }

    /// Which ports of services the proxy listens for, and at which of its own: (port, own port), sorted. Replicas of
    /// one workload answer alike.
    pub fn served_ports(&self) -> Vec<(u16, u16)> {
        let ports = |text: &'static str| {
            let (port, target) = text.split_once('=')?;
            Some((port.parse().ok()?, target.parse().ok()?))
        };
        self.ask(Attr::ServedPorts).as_str().split(',').filter_map(ports).collect()
    }

    /// A string of the node's metadata; empty when absent.
    pub fn metadata(&self, key: &'static str) -> &'static str {
        self.ask(Attr::Metadata(key)).as_str()
    }

    /// Whether the proxy's namespace is admitted by `visibility`; public is true without asking.
    pub fn sees(&self, visibility: &crate::model::Visibility) -> bool {
        match visibility {
            crate::model::Visibility::Public => true,
            crate::model::Visibility::Namespaces(list) => self.ask_bool(Attr::In(list.clone())),
        }
    }

    // The mesh.

    /// Mesh-wide settings.
    pub fn mesh_config(&self) -> &'a MeshConfig {
        self.note(Key::MeshConfig);
        &self.snapshot.mesh_config
    }

    /// Domain of Kubernetes Services (`cluster.local`): a setting, so nothing is noted.
    pub fn domain(&self) -> &'static str {
        self.snapshot.domain()
    }

    /// The addresses of a service for this proxy: those that it has, else the automatic one if the proxy answers
    /// DNS itself and asks for it.
    pub fn addresses(&self, service: &Service) -> Vec<IpNet> {
        match service.auto_address {
            Some(address) if service.addresses.is_empty() => {
                let wanted = |key| self.metadata(key) == "true";
                let own = wanted("DNS_CAPTURE") && wanted("DNS_AUTO_ALLOCATE");
                own.then(|| IpNet::from(address)).into_iter().collect()
            }
            _ => service.addresses.clone(),
        }
    }

    /// The hosts the proxy's namespace sees: those everybody sees, and those of its own (disjoint sets).
    pub fn visible_hosts(&self) -> (Hosts, Hosts) {
        self.note(Key::PublicHosts);
        let scope = self.ask(Attr::HostScope);
        let own = match scope.as_str() {
            "" => Hosts::default(),
            namespace => {
                let namespace = Namespace::new(namespace);
                self.note(Key::NamespaceHosts(namespace));
                self.snapshot.namespace_hosts(namespace)
            }
        };
        (self.snapshot.public_hosts.clone(), own)
    }

    /// All visible services declared under `host`, preferred one first: of the proxy's own namespace, Kubernetes
    /// before ServiceEntry, oldest. So Istio chooses when a hostname exists in several namespaces.
    pub fn services(&self, host: Host) -> Vec<Arc<Service>> {
        self.note(Key::Services(host));
        let all = self.snapshot.services(host);
        let mut seen: Vec<Arc<Service>> =
            all.iter().filter(|service| self.sees(&service.visibility)).cloned().collect();
        let first = seen.first().map(|service| service.namespace);
        let several = seen.iter().any(|service| Some(service.namespace) != first);
        let own = if several { self.ask(Attr::ServiceScope(host)) } else { Answer::default() };
        seen.sort_by_key(|service| {
            (service.namespace.as_str() != own.as_str(), service.registry, service.age)
        });
        seen
    }

    /// The service meant by `host` for this proxy.
    pub fn service(&self, host: Host) -> Option<Arc<Service>> {
        self.services(host).into_iter().next()
    }

    /// Hosts with a service on this port, whoever sees them; [`services`](Self::services) tells which are visible.
    pub fn hosts_on_port(&self, port: u16) -> Hosts {
        self.note(Key::HostsOnPort(port));
        self.snapshot.hosts_on_port(port)
    }

    /// Hosts that have this very address, or an automatic one: [`addresses`](Self::addresses) tells whether it
    /// applies to the proxy.
    pub fn hosts_at(&self, address: IpAddr) -> Hosts {
        self.note(Key::HostsAt(address));
        self.snapshot.hosts_at(address)
    }

    /// The other names of `host` that the proxy's namespace sees.
    pub fn aliases(&self, host: Host) -> Vec<Host> {
        self.note(Key::AliasTargets);
        if !self.snapshot.alias_targets.contains(&host) {
            return Vec::new();
        }
        self.note(Key::Aliases(host));
        let stands_for_host = |alias: &Host| {
            let services = self.services(*alias);
            services.iter().any(|service| service.resolution == Resolution::Alias(host))
        };
        self.snapshot.aliases(host).into_iter().filter(stands_for_host).collect()
    }

    /// The endpoints behind `service`, all ports, in a fixed order.
    pub fn endpoints(&self, service: &Service) -> Vec<Endpoint> {
        self.note(Key::Endpoints(service.host));
        self.snapshot
            .endpoints(service.host)
            .iter()
            .filter(|endpoint| {
                (endpoint.service_registry, endpoint.service_namespace, endpoint.service_object)
                    == (service.registry, service.namespace, service.object)
            })
            .cloned()
            .collect()
    }

    /// What listens at the proxy's own addresses.
    pub fn own_instances(&self) -> Vec<Instance> {
        let mut instances: Vec<Instance> = Vec::new();
        for address in self.own_addresses() {
            self.note(Key::InstancesAt(address));
            for instance in self.snapshot.instances_at(address).iter() {
                // A workload with an address of each family serves the same ports at both.
                if !instances.contains(instance) {
                    instances.push(instance.clone());
                }
            }
        }
        instances
    }

    /// What listens at this address, whoever asks.
    pub fn instances_at(&self, address: IpAddr) -> Vec<Instance> {
        self.note(Key::InstancesAt(address));
        self.snapshot.instances_at(address).to_vec()
    }

    /// The mesh VirtualServices written for exactly `host` (which may be a wildcard) that the proxy's namespace
    /// sees, oldest first.
    pub fn mesh_routes(&self, host: Host) -> Vec<Arc<RouteRules>> {
        self.note(Key::MeshRoutes(host));
        let all = self.snapshot.mesh_routes(host);
        all.iter().filter(|rules| self.sees(&rules.visibility)).cloned().collect()
    }

    /// The hosts, wildcards included, of the mesh VirtualServices that the proxy's namespace may see.
    pub fn mesh_route_hosts(&self) -> (Hosts, Hosts) {
        self.note(Key::PublicRouteHosts);
        let scope = self.ask(Attr::RouteScope);
        let own = match scope.as_str() {
            "" => Hosts::default(),
            namespace => {
                let namespace = Namespace::new(namespace);
                self.note(Key::NamespaceRouteHosts(namespace));
                self.snapshot.namespace_route_hosts(namespace)
            }
        };
        (self.snapshot.public_route_hosts.clone(), own)
    }

    /// The VirtualServices bound to a gateway (`namespace/name`), oldest first.
    pub fn gateway_routes(&self, gateway: Name) -> Vec<Arc<RouteRules>> {
        self.note(Key::GatewayRoutes(gateway));
        let all = self.snapshot.gateway_routes(gateway);
        all.iter().filter(|rules| self.sees(&rules.visibility)).cloned().collect()
    }

    /// One VirtualService by name: a delegate.
    pub fn virtual_service(&self, namespace: Namespace, name: Name) -> Option<Arc<RouteRules>> {
        self.note(Key::VirtualService(namespace, name));
        self.snapshot.virtual_service(namespace, name)
    }

    /// The DestinationRule in force for `service` and this proxy: client namespace, service namespace, root
    /// namespace; within one the most specific host. This is the lookup path that Istio documents.
    pub fn traffic_rule(&self, service: &Service) -> Option<Arc<TrafficRule>> {
        self.traffic_rule_for(service.host, service.namespace)
    }

    /// As [`traffic_rule`](Self::traffic_rule), for a host that need not be a known service.
    pub fn traffic_rule_for(&self, host: Host, service_namespace: Namespace) -> Option<Arc<TrafficRule>> {
        self.note(Key::MeshConfig);
        let root = Namespace::new(self.snapshot.root_namespace());
        let own = match self.ask(Attr::RuleScope(host)).as_str() {
            "" => None,
            client => {
                let client = Namespace::new(client);
                // What the root namespace exports is the last resort, for its own clients too; what it keeps to
                // itself can only be meant for them.
                self.rule_in(client, host, |rule| client != root || rule.visibility.is_only(root))
            }
        };
        own.or_else(|| self.rule_in(service_namespace, host, |_| true))
            .or_else(|| self.rule_in(root, host, |_| true))
    }

    fn rule_in(
        &self,
        namespace: Namespace,
        host: Host,
        counts: impl Fn(&TrafficRule) -> bool,
    ) -> Option<Arc<TrafficRule>> {
        self.note(Key::RuleHosts(namespace));
        let hosts = self.snapshot.rule_hosts(namespace);
        for candidate in attr::matching_hosts(&hosts, host) {
            self.note(Key::Rules(namespace, candidate));
            let rules = self.snapshot.rules(namespace, candidate);
            // A rule for selected pods is preferred to one for all.
            let mut visible = rules.iter().filter(|rule| counts(rule) && self.sees(&rule.visibility));
            let chosen = visible
                .clone()
                .find(|rule| rule.selector.as_ref().is_some_and(|labels| self.labels_contain(labels)))
                .or_else(|| visible.find(|rule| rule.selector.is_none()));
            if let Some(rule) = chosen {
                return Some(rule.clone());
            }
        }
        None
    }

    /// The Gateways that select the proxy, oldest first. A Gateway without selector selects every router.
    pub fn gateways(&self) -> Vec<Arc<GatewayRules>> {
        self.note(Key::Gateways);
        self.snapshot
            .gateways
            .iter()
            .filter(|gateway| self.labels_contain(&gateway.spec.selector))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::mesh::Mesh;
    use crate::model::Registry;
    use crate::testing::{host, labels, mesh, sidecar};

    const WEB: &str = "web.shop.svc.cluster.local";

    fn noted(reads: &Reads) -> BTreeSet<Key> {
        reads.keys.iter().map(|id| id.key()).collect()
    }

    fn rule(namespace: &str, name: &str, spec: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n"
        )
    }

    fn rule_for(mesh: &Mesh, client: &str) -> Option<&'static str> {
        let snapshot = mesh.snapshot();
        let proxy = sidecar(client);
        let view = View::new(&snapshot, &proxy);
        let rule = view.traffic_rule_for(host(WEB), Namespace::new("shop"))?;
        Some(rule.age.name.as_str())
    }

    #[test]
    fn rules_of_the_client_come_before_the_services_and_those_before_the_roots() {
        let host = format!("host: {WEB}");
        let rules = rule("client", "of-client", &host)
            + &rule("shop", "of-service", &host)
            + &rule("istio-system", "of-root", "host: '*.local'")
            + &rule("istio-system", "roots-own", "host: '*.svc.cluster.local', exportTo: ['.']");
        let mesh = mesh(&rules);
        assert_eq!(rule_for(&mesh, "client"), Some("of-client"));
        assert_eq!(rule_for(&mesh, "other"), Some("of-service"));
        assert_eq!(rule_for(&mesh, "istio-system"), Some("roots-own"));
    }

    #[test]
    fn what_the_root_exports_is_the_last_resort_for_its_own_clients_too() {
        let rules = rule("shop", "of-service", &format!("host: {WEB}"))
            + &rule("istio-system", "of-root", "host: '*.local'");
        assert_eq!(rule_for(&mesh(&rules), "istio-system"), Some("of-service"));
        assert_eq!(
            rule_for(&mesh(&rule("istio-system", "of-root", "host: '*.local'")), "istio-system"),
            Some("of-root")
        );
        let private = rule("shop", "private", &format!("host: {WEB}, exportTo: ['.']"));
        assert_eq!(rule_for(&mesh(&private), "other"), None);
    }

    #[test]
    fn a_selector_that_fits_wins_within_its_namespace() {
        let rules = rule("client", "all", &format!("host: {WEB}"))
            + &rule(
                "client",
                "some",
                &format!("host: {WEB}, workloadSelector: {{matchLabels: {{app: web}}}}"),
            )
            + &rule(
                "client",
                "others",
                &format!("host: {WEB}, workloadSelector: {{matchLabels: {{app: other}}}}"),
            );
        assert_eq!(rule_for(&mesh(&rules), "client"), Some("some"));
    }

    #[test]
    fn absences_are_read_too() {
        let snapshot = mesh("").snapshot();
        let proxy = sidecar("client");
        let view = View::new(&snapshot, &proxy);
        assert!(view.service(host(WEB)).is_none());
        assert!(view.traffic_rule_for(host(WEB), Namespace::new("shop")).is_none());
        let reads = view.into_reads();
        let expected = [
            Key::Services(host(WEB)),
            Key::MeshConfig,
            // Not the client's own: that is what the question's answer depends on, and the question is noted.
            Key::RuleHosts(Namespace::new("shop")),
            Key::RuleHosts(Namespace::new("istio-system")),
        ];
        assert_eq!(noted(&reads), BTreeSet::from(expected));
        assert_eq!(reads.attrs, [(Attr::RuleScope(host(WEB)), Answer::default())]);
        assert!(reads.keys.is_sorted());
    }

    #[test]
    fn a_question_is_asked_once() {
        let snapshot = mesh("").snapshot();
        let proxy = sidecar("client");
        let view = View::new(&snapshot, &proxy);
        for _ in 0..3 {
            assert_eq!(view.namespace().as_str(), "client");
            assert!(view.labels_contain(&labels(&[("app", "web")])));
            assert!(view.labels_contain(&labels(&[])), "without asking");
        }
        assert_eq!(view.into_reads().attrs.len(), 2);
    }

    #[test]
    fn of_several_services_of_one_host_the_clients_own_is_meant() {
        let entry = |namespace: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a, namespace: {namespace}}}\nspec: {{hosts: [{WEB}], resolution: DNS, ports: [{{number: 80, name: http}}]}}\n---\n"
            )
        };
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80}]}\n---\n";
        let snapshot = mesh(&(entry("client") + &entry("shop") + service)).snapshot();
        let meant = |client: &str| {
            let proxy = sidecar(client);
            let service = View::new(&snapshot, &proxy).service(host(WEB)).unwrap();
            (service.namespace.as_str(), service.registry)
        };
        assert_eq!(meant("client"), ("client", Registry::ServiceEntry));
        assert_eq!(meant("shop"), ("shop", Registry::Kubernetes));
        assert_eq!(meant("other"), ("shop", Registry::Kubernetes));
    }

    #[test]
    fn automatic_addresses_are_for_those_who_ask() {
        let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a, namespace: shop}\nspec: {hosts: [x.example.com], resolution: DNS, ports: [{number: 80, name: http}]}\n";
        let snapshot = mesh(entry).snapshot();
        let mut proxy = sidecar("client");
        let addresses = |proxy: &Proxy| {
            let view = View::new(&snapshot, proxy);
            let service = view.service(host("x.example.com")).unwrap();
            view.addresses(&service).len()
        };
        assert_eq!(addresses(&proxy), 0);
        proxy.metadata.insert("DNS_CAPTURE".into(), "true".into());
        assert_eq!(addresses(&proxy), 0);
        proxy.metadata.insert("DNS_AUTO_ALLOCATE".into(), "true".into());
        assert_eq!(addresses(&proxy), 1);
    }
}
