//! Services: what Kubernetes Services and ServiceEntries declare, under which hosts, visible to whom.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use ostro_api::kubernetes::{self, ServiceType};
use ostro_api::service_entry::{self, Location, ServiceEntry};
use ostro_api::{Kind, Meta, Object, ObjectKey, Spec};
use ostro_names::{Host, Name};

use crate::addresses::Addresses;
use crate::changes::Touched;
use crate::key::Key;
use crate::model::{Age, Protocol, Registry, Resolution, Service, ServicePort};
use crate::objects::Objects;
use crate::protocol;
use crate::scope::{service_host, visibility};
use crate::sets::{Audience, enter};
use crate::settings::Context;
use crate::snapshot::Snapshot;
use crate::vip;

/// Who sees a Kubernetes Service.
const EXPORT_TO_ANNOTATION: &str = "networking.istio.io/exportTo";

/// What each object declares.
pub(crate) struct Services {
    declared: HashMap<ObjectKey, Vec<Arc<Service>>>,
    addresses: Addresses,
}

impl Services {
    pub(crate) fn new(cluster_ip_range: Option<IpNet>) -> Self {
        Services { declared: HashMap::new(), addresses: Addresses::new(cluster_ip_range) }
    }

    /// The services that an object declares, one per host.
    pub(crate) fn declared(&self, key: &ObjectKey) -> &[Arc<Service>] {
        self.declared.get(key).map_or(&[], Vec::as_slice)
    }

    /// Recomputes what the dirty objects declare, and adds to them the objects whose addresses had to give way.
    /// Returns the hosts whose services changed.
    pub(crate) fn update(
        &mut self,
        dirty: &mut BTreeSet<ObjectKey>,
        objects: &Objects,
        context: &Context<'_>,
        snapshot: &mut Snapshot,
        touched: &mut Touched,
    ) -> BTreeSet<Host> {
        self.addresses.settle(dirty, objects);
        let mut hosts = BTreeSet::new();
        for key in dirty.iter() {
            let new = objects.get(key).map(|object| self.declare(object, context)).unwrap_or_default();
            let old = if new.is_empty() {
                self.declared.remove(key).unwrap_or_default()
            } else {
                self.declared.insert(*key, new.clone()).unwrap_or_default()
            };
            if old == new {
                continue;
            }
            for host in old.iter().chain(&new).map(|service| service.host).collect::<BTreeSet<Host>>() {
                relist(host, key, &new, snapshot, touched);
                hosts.insert(host);
            }
        }
        hosts
    }

    fn declare(&self, object: &Arc<Object>, context: &Context<'_>) -> Vec<Arc<Service>> {
        match &object.spec {
            Spec::Service(service) => {
                self.kubernetes_service(&object.meta, service, context).map(Arc::new).into_iter().collect()
            }
            Spec::ServiceEntry(entry) => self.service_entry(object, entry, context),
            _ => Vec::new(),
        }
    }

    fn kubernetes_service(
        &self,
        meta: &Meta,
        spec: &kubernetes::Service,
        context: &Context<'_>,
    ) -> Option<Service> {
        let headless = is_headless(spec);
        let resolution = match spec.r#type {
            ServiceType::ExternalName => {
                let name = spec.external_name.trim_end_matches('.').to_ascii_lowercase();
                Resolution::Alias(Host::try_new(&name).ok()?)
            }
            _ if headless => Resolution::Passthrough,
            _ => Resolution::ClientSide,
        };
        let mut addresses = written_addresses(spec);
        if addresses.is_empty() {
            let given = self.addresses.cluster_ip(meta.namespace, meta.name);
            addresses.extend(given.into_iter().flat_map(|address| vip::of_families(spec, address)));
        }
        let exported = meta.annotations.get(EXPORT_TO_ANNOTATION).map_or("", String::as_str);
        Some(Service {
            host: service_host(meta.name.as_str(), meta.namespace, context.domain)?,
            namespace: meta.namespace,
            name: meta.name,
            object: meta.name,
            registry: Registry::Kubernetes,
            age: Age::of(meta),
            addresses: addresses.into_iter().map(IpNet::from).collect(),
            auto_address: None,
            ports: spec.ports.iter().map(service_port).collect::<Option<_>>()?,
            resolution,
            headless,
            external: false,
            visibility: visibility(exported.split(','), context.service_export_to(), meta.namespace),
            subject_alt_names: Vec::new(),
            publish_not_ready: spec.publish_not_ready_addresses,
        })
    }

    fn service_entry(
        &self,
        object: &Object,
        spec: &ServiceEntry,
        context: &Context<'_>,
    ) -> Vec<Arc<Service>> {
        let meta = &object.meta;
        let export_to = spec.export_to.iter().map(String::as_str);
        let visibility = visibility(export_to, context.service_export_to(), meta.namespace);
        let Some(ports) = spec.ports.iter().map(entry_port).collect::<Option<Vec<ServicePort>>>() else {
            return Vec::new();
        };
        let service = |host: Host| Service {
            host,
            namespace: meta.namespace,
            name: Name::new(host.as_str()),
            object: meta.name,
            registry: Registry::ServiceEntry,
            age: Age::of(meta),
            addresses: spec.addresses.iter().filter_map(|text| address(text)).collect(),
            auto_address: self.addresses.automatic(&object.key(), host),
            ports: ports.clone(),
            resolution: resolution(spec.resolution),
            headless: false,
            external: spec.location == Location::MeshExternal,
            visibility: visibility.clone(),
            subject_alt_names: spec.subject_alt_names.clone(),
            publish_not_ready: false,
        };
        hosts_of(spec).into_iter().map(service).map(Arc::new).collect()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.declared.is_empty() && self.addresses.is_empty()
    }
}

/// Puts what an object now declares in the host's list, and moves the host between the indexes.
fn relist(
    host: Host,
    object: &ObjectKey,
    declared: &[Arc<Service>],
    snapshot: &mut Snapshot,
    touched: &mut Touched,
) {
    let registry = if object.kind == Kind::Service { Registry::Kubernetes } else { Registry::ServiceEntry };
    let old = snapshot.services(host);
    let others = old.iter().filter(|service| {
        (service.registry, service.namespace, service.object) != (registry, object.namespace, object.name)
    });
    let mut new: Vec<Arc<Service>> =
        others.chain(declared.iter().filter(|service| service.host == host)).cloned().collect();
    new.sort_by_key(|service| (service.age, service.registry));
    touched.note(Key::Services(host));
    project(host, &old, &new, snapshot, touched);
    if new.is_empty() {
        snapshot.services.remove(&host);
    } else {
        snapshot.services.insert(host, Arc::from(new));
    }
}

fn project(
    host: Host,
    old: &[Arc<Service>],
    new: &[Arc<Service>],
    snapshot: &mut Snapshot,
    touched: &mut Touched,
) {
    let audience =
        |services: &[Arc<Service>]| Audience::of(services.iter().map(|service| &service.visibility));
    audience(old).replace(
        &audience(new),
        host,
        (&mut snapshot.public_hosts, Key::PublicHosts),
        (&mut snapshot.namespace_hosts, Key::NamespaceHosts),
        touched,
    );
    enter(&mut snapshot.hosts_on_port, host, (ports(old), ports(new)), Key::HostsOnPort, touched);
    let targets = (alias_targets(old), alias_targets(new));
    let moved: BTreeSet<Host> = targets.0.symmetric_difference(&targets.1).copied().collect();
    enter(&mut snapshot.aliases, host, targets, Key::Aliases, touched);
    for target in moved {
        touched.note(Key::AliasTargets);
        if snapshot.aliases.contains_key(&target) {
            snapshot.alias_targets.insert(target);
        } else {
            snapshot.alias_targets.remove(&target);
        }
    }
    enter(&mut snapshot.hosts_at, host, (addresses(old), addresses(new)), Key::HostsAt, touched);
}

fn ports(services: &[Arc<Service>]) -> BTreeSet<u16> {
    let ports = services.iter().flat_map(|service| &service.ports);
    ports.filter(|port| port.protocol != Protocol::Udp).map(|port| port.number).collect()
}

/// What a host is only another name of.
fn alias_targets(services: &[Arc<Service>]) -> BTreeSet<Host> {
    let target = |service: &Arc<Service>| match service.resolution {
        Resolution::Alias(target) => Some(target),
        _ => None,
    };
    services.iter().filter_map(target).collect()
}

fn addresses(services: &[Arc<Service>]) -> BTreeSet<IpAddr> {
    let written = services.iter().flat_map(|service| &service.addresses);
    let exact = written.filter(|address| address.prefix_len() == address.max_prefix_len()).map(IpNet::addr);
    exact.chain(services.iter().filter_map(|service| service.auto_address)).collect()
}

pub(crate) fn is_headless(spec: &kubernetes::Service) -> bool {
    spec.r#type != ServiceType::ExternalName && spec.cluster_ip == "None"
}

pub(crate) fn written_addresses(spec: &kubernetes::Service) -> Vec<IpAddr> {
    if spec.r#type == ServiceType::ExternalName {
        return Vec::new();
    }
    let first = std::iter::once(&spec.cluster_ip);
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in first.chain(&spec.cluster_ips).filter_map(|text| text.parse().ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// The hosts of a ServiceEntry, each once. They are always fully qualified.
pub(crate) fn hosts_of(spec: &ServiceEntry) -> BTreeSet<Host> {
    spec.hosts.iter().filter_map(|host| Host::try_new(&host.to_ascii_lowercase()).ok()).collect()
}

/// An address or CIDR block.
fn address(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn service_port(port: &kubernetes::ServicePort) -> Option<ServicePort> {
    Some(ServicePort {
        number: port.port,
        name: Name::try_new(&port.name).ok()?,
        protocol: protocol::of_service_port(port),
    })
}

fn entry_port(port: &service_entry::ServiceEntryPort) -> Option<ServicePort> {
    Some(ServicePort {
        number: port.number,
        name: Name::try_new(&port.name).ok()?,
        protocol: protocol::named(&port.protocol),
    })
}

fn resolution(written: service_entry::Resolution) -> Resolution {
    match written {
        service_entry::Resolution::None => Resolution::Passthrough,
        service_entry::Resolution::Static => Resolution::ClientSide,
        service_entry::Resolution::Dns => Resolution::Dns,
        service_entry::Resolution::DnsRoundRobin => Resolution::DnsRoundRobin,
        service_entry::Resolution::DynamicDns => Resolution::DynamicDns,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ostro_api::Kind;
    use ostro_names::{Name, Namespace};

    use crate::key::Key;
    use crate::mesh::{Change, Mesh};
    use crate::model::{Protocol, Registry, Resolution, Visibility};
    use crate::settings::Settings;
    use crate::testing::{delete, host, keys, mesh, objects, service, upsert};

    const WEB: &str = "web.shop.svc.cluster.local";

    fn web(spec: &str) -> String {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\nspec: {{{spec}}}\n")
    }

    #[test]
    fn kinds_of_kubernetes_services() {
        let ports = "ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]";
        let plain = service(&mesh(&web(&format!("clusterIP: 10.0.0.1, {ports}"))), WEB);
        assert_eq!((plain.resolution, plain.headless), (Resolution::ClientSide, false));
        assert_eq!(plain.addresses, ["10.0.0.1/32".parse().unwrap()]);
        assert_eq!(plain.port(80).unwrap().protocol, Protocol::Http);
        assert_eq!(plain.port(53), None, "UDP has no listener");

        let dual = service(
            &mesh(&web(&format!("clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, 'fd00::1'], {ports}"))),
            WEB,
        );
        assert_eq!(dual.addresses, ["10.0.0.1/32".parse().unwrap(), "fd00::1/128".parse().unwrap()]);

        let headless = service(&mesh(&web(&format!("clusterIP: None, {ports}"))), WEB);
        assert_eq!((headless.resolution, headless.headless), (Resolution::Passthrough, true));
        assert!(headless.addresses.is_empty());

        let alias = service(&mesh(&web("type: ExternalName, externalName: Else.Example.com")), WEB);
        assert_eq!(alias.resolution, Resolution::Alias(host("else.example.com")));
    }

    #[test]
    fn services_without_address_get_one_of_the_range_and_give_it_back() {
        let range = "10.0.0.0/30";
        let mut mesh = Mesh::new(Settings { cluster_ip_range: range.parse().ok(), ..Settings::default() });
        upsert(&mut mesh, &web("ports: [{port: 80}]"));
        let first = service(&mesh, WEB).addresses[0];
        // A service that claims this very address by writing makes the other move.
        let other = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: db, namespace: shop}}\nspec: {{clusterIP: {}, ports: [{{port: 80}}]}}",
            first.addr()
        );
        let (_, changes) = upsert(&mut mesh, &other);
        assert!(changes.contains(Key::Services(host(WEB)).id()));
        assert_ne!(service(&mesh, WEB).addresses[0], first);
        delete(&mut mesh, Kind::Service, "shop", "db");
        assert_eq!(service(&mesh, WEB).addresses[0], first);
    }

    #[test]
    fn a_local_mesh_and_assign_agree() {
        let mut mesh =
            Mesh::new(Settings { cluster_ip_range: Some(crate::vip::LOCAL_RANGE), ..Settings::default() });
        upsert(&mut mesh, &web("ports: [{port: 80}]"));
        let assigned = crate::vip::assign([("shop", "web")], &BTreeSet::new());
        assert_eq!(service(&mesh, WEB).addresses[0].addr(), assigned[&("shop", "web")]);
    }

    #[test]
    fn a_local_mesh_gives_addresses_of_the_families_asked_for() {
        let mut mesh =
            Mesh::new(Settings { cluster_ip_range: Some(crate::vip::LOCAL_RANGE), ..Settings::default() });
        let mut families = |spec: &str| -> Vec<bool> {
            upsert(&mut mesh, &web(&format!("ports: [{{port: 80}}], {spec}")));
            service(&mesh, WEB).addresses.iter().map(|net| net.addr().is_ipv6()).collect()
        };
        assert_eq!(families("ipFamilies: [IPv4]"), [false]);
        assert_eq!(families("ipFamilies: [IPv6]"), [true]);
        assert_eq!(families("ipFamilyPolicy: PreferDualStack"), [false, true]);
        assert_eq!(families("ipFamilies: [IPv6, IPv4], ipFamilyPolicy: RequireDualStack"), [true, false]);
        assert!(crate::vip::LOCAL_RANGE6.contains(&service(&mesh, WEB).addresses[0].addr()));
    }

    #[test]
    fn the_annotation_and_the_default_say_who_sees_a_service() {
        let only =
            |names: &[&str]| Visibility::Namespaces(names.iter().map(|name| Namespace::new(name)).collect());
        let mut mesh = mesh(&web("ports: [{port: 80}]"));
        assert_eq!(service(&mesh, WEB).visibility, Visibility::Public);
        assert!(mesh.snapshot().public_hosts.contains(&host(WEB)));

        let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'defaultServiceExportTo: [\".\"]'}\n";
        let (snapshot, changes) = upsert(&mut mesh, config);
        let expected = [
            Key::MeshConfig,
            Key::Services(host(WEB)),
            Key::PublicHosts,
            Key::NamespaceHosts(Namespace::new("shop")),
        ];
        assert_eq!(keys(&changes), BTreeSet::from(expected));
        assert_eq!(service(&mesh, WEB).visibility, only(&["shop"]));
        assert!(!snapshot.public_hosts.contains(&host(WEB)));
        assert!(snapshot.namespace_hosts(Namespace::new("shop")).contains(&host(WEB)));

        let exported = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop, annotations: {networking.istio.io/exportTo: 'a, b'}}\nspec: {ports: [{port: 80}]}\n";
        upsert(&mut mesh, exported);
        assert_eq!(service(&mesh, WEB).visibility, only(&["a", "b"]));
    }

    #[test]
    fn what_nothing_reads_changes_nothing() {
        let mut mesh = mesh(&web("ports: [{port: 80}]"));
        let annotated = web("ports: [{port: 80}]")
            .replace("namespace: shop", "namespace: shop, annotations: {note: me}, labels: {a: b}");
        let (_, changes) = upsert(&mut mesh, &annotated);
        assert!(changes.is_empty(), "{:?}", keys(&changes));
    }

    fn entry(name: &str, spec: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: default}}\nspec: {{{spec}}}\n---\n"
        )
    }

    #[test]
    fn service_entries_declare_each_of_their_hosts() {
        let mesh = mesh(&entry(
            "ext",
            "hosts: [a.example.com, '*.b.example.com'], addresses: [10.0.0.1, 10.2.0.0/16], resolution: NONE, ports: [{number: 443, name: tls, protocol: TLS}], subjectAltNames: [x]",
        ));
        let service = service(&mesh, "a.example.com");
        assert_eq!(service.registry, Registry::ServiceEntry);
        assert_eq!((service.name, service.object), (Name::new("a.example.com"), Name::new("ext")));
        assert_eq!(service.resolution, Resolution::Passthrough);
        assert!(service.external);
        assert_eq!(service.ports[0].protocol, Protocol::Tls);
        assert_eq!(service.subject_alt_names, ["x"]);
        let snapshot = mesh.snapshot();
        assert_eq!(snapshot.hosts_at("10.0.0.1".parse().unwrap()).len(), 2);
        assert!(snapshot.hosts_at("10.2.0.0".parse().unwrap()).is_empty(), "prefixes are not addresses");
        assert_eq!(snapshot.hosts_on_port(443).len(), 2);
    }

    #[test]
    fn entries_of_one_host_share_one_automatic_address() {
        let spec = |port: u16, name: &str| {
            format!(
                "hosts: [istio.io], resolution: DNS, ports: [{{number: {port}, name: {name}, protocol: HTTP}}]"
            )
        };
        let mut mesh = mesh(&(entry("one", &spec(80, "http")) + &entry("two", &spec(443, "https"))));
        let automatic = |mesh: &Mesh| {
            let services = mesh.snapshot().services(host("istio.io"));
            services
                .iter()
                .map(|service| service.auto_address.unwrap().to_string())
                .collect::<BTreeSet<String>>()
        };
        assert_eq!(automatic(&mesh), BTreeSet::from(["240.240.91.120".to_owned()]));
        assert!(mesh.snapshot().hosts_at("240.240.91.120".parse().unwrap()).contains(&host("istio.io")));
        delete(&mut mesh, Kind::ServiceEntry, "default", "two");
        assert_eq!(automatic(&mesh), BTreeSet::from(["240.240.122.168".to_owned()]));
    }

    #[test]
    fn who_needs_no_automatic_address_gets_none() {
        for spec in [
            "hosts: [x.example.com], resolution: NONE, ports: [{number: 80, name: http}]",
            "hosts: ['*.example.com'], resolution: NONE, ports: [{number: 80, name: http}]",
            "hosts: [x.example.com], resolution: DNS, addresses: [10.0.0.1], ports: [{number: 80, name: http}]",
        ] {
            let mesh = mesh(&entry("ext", spec));
            let snapshot = mesh.snapshot();
            assert!(
                snapshot
                    .services
                    .values()
                    .flat_map(|list| list.iter())
                    .all(|service| service.auto_address.is_none())
            );
        }
        let declined =
            entry("ext", "hosts: [x.example.com], resolution: DNS, ports: [{number: 80, name: http}]")
                .replace(
                    "namespace: default",
                    "namespace: default, labels: {networking.istio.io/enable-autoallocate-ip: 'false'}",
                );
        assert_eq!(service(&mesh(&declined), "x.example.com").auto_address, None);
    }

    #[test]
    fn nothing_is_kept_of_what_is_gone() {
        let mut mesh =
            Mesh::new(Settings { cluster_ip_range: "10.0.0.0/24".parse().ok(), ..Settings::default() });
        let yaml = web("ports: [{port: 80}]")
            + "---\n"
            + &entry("ext", "hosts: [x.example.com], resolution: DNS, ports: [{number: 80, name: http}]");
        upsert(&mut mesh, &yaml);
        mesh.apply(objects(&yaml).into_iter().map(|object| Change::Delete(object.key())).collect());
        assert!(mesh.holds_nothing());
    }
}
