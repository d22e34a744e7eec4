//! Questions as bytes, against a small mesh.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use ostro_api::{Object, parse_file};

use super::files::{ResolvConf, hosts, resolv_conf};
use super::wire::{Step, Transport, step};
use super::{Asker, Zone, zone};
use crate::images::Images;
use crate::plan::{PodPlan, plan};
use crate::services::Live;

const MESH: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.96.3.3
  selector: {app: db}
  ports: [{name: http, port: 80, targetPort: main}, {name: stats, port: 53, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: tcp, port: 1, targetPort: main}]}
---
apiVersion: v1
kind: Service
metadata: {name: peers, namespace: shop}
spec:
  clusterIP: None
  selector: {app: db}
  publishNotReadyAddresses: true
  ipFamilyPolicy: PreferDualStack
  ports: [{port: 7000}]
---
apiVersion: v1
kind: Service
metadata: {name: written, namespace: shop}
spec: {clusterIP: None, ports: [{name: tcp, port: 9}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: written-1, namespace: shop, labels: {kubernetes.io/service-name: written}}
addressType: IPv4
ports: [{name: tcp, port: 99}]
endpoints:
- {addresses: [192.0.2.1], hostname: one}
- {addresses: [192.0.2.2], conditions: {ready: false}}
---
apiVersion: v1
kind: Service
metadata: {name: inside, namespace: shop}
spec: {type: ExternalName, externalName: web.shop.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: outside, namespace: shop}
spec: {type: ExternalName, externalName: www.example.com}
---
apiVersion: v1
kind: Service
metadata: {name: ring, namespace: shop}
spec: {type: ExternalName, externalName: ring.shop.svc.cluster.local}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  replicas: 2
  serviceName: db
  template:
    metadata: {labels: {app: db}}
    spec:
      hostAliases: [{ip: 192.0.2.7, hostnames: [printer, printer.lan]}]
      containers: [{name: c, image: x, ports: [{name: main, containerPort: 5432}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: plain, namespace: other, labels: {sidecar.istio.io/inject: "false"}}
spec:
  dnsConfig: {nameservers: [192.0.2.53], searches: [corp.example], options: [{name: ndots, value: "2"}, {name: edns0}]}
  containers: [{name: c, image: x}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: stated, namespace: shop}
spec:
  hosts: [api.example.com]
  addresses: [192.0.2.10, 192.0.2.0/24]
  ports: [{number: 443, name: tls, protocol: TLS}]
  resolution: NONE
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: auto, namespace: default}
spec:
  hosts: [istio.io]
  ports: [{number: 443, name: tls, protocol: TLS}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild, namespace: shop}
spec:
  hosts: ["*.wild.example"]
  addresses: [192.0.2.20]
  exportTo: ["."]
  ports: [{number: 443, name: tls, protocol: TLS}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild, namespace: away}
spec:
  hosts: ["*.wild.example"]
  addresses: [192.0.2.30]
  ports: [{number: 443, name: tls, protocol: TLS}]
"#;

/// `db-0` is ready, `db-1` is not; `plain` has no sidecar.
const DB0: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
const DB1: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 3);
const PLAIN: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 4);

fn with_pods<T>(check: impl FnOnce(&[Object], &[Live<'_>]) -> T) -> T {
    let parsed = parse_file("mesh.yaml", MESH.as_bytes());
    assert!(parsed.complaints.is_empty(), "{:?}", parsed.complaints);
    let images = Images::from_value(serde_json::json!({"images": [{"match": "x", "program": "x"}]})).unwrap();
    let objects = parsed.objects;
    let (pods, errors) = plan(&objects, &images, ostro_agent::DataPlane::Ostro);
    assert!(errors.is_empty());
    let address = |plan: &PodPlan| match plan.name.name.as_str() {
        "db-0" => DB0,
        "db-1" => DB1,
        _ => PLAIN,
    };
    let live: Vec<Live<'_>> = pods.values().map(|plan| live(plan, address(plan))).collect();
    check(&objects, &live)
}

fn mesh() -> Zone {
    with_pods(|objects, pods| zone(objects, pods, true))
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// What the mesh answers a program in a pod; `None`: that others know.
fn ask_from(from: Ipv4Addr, name: &str, kind: RecordType) -> Option<Message> {
    let zone = mesh();
    let bytes = question(name, kind).to_vec().unwrap();
    match step(&zone, zone.asker(IpAddr::V4(from)), &bytes, Transport::Udp) {
        Step::Reply(reply) => Some(Message::from_vec(&reply).unwrap()),
        Step::Ask(_) => None,
        Step::Drop => panic!("no question?"),
    }
}

fn ask(name: &str, kind: RecordType) -> Message {
    ask_from(DB0, name, kind).unwrap_or_else(|| panic!("{name} is forwarded"))
}

/// Code and data of the answer, a record a line.
fn answer(name: &str, kind: RecordType) -> Vec<String> {
    let reply = ask(name, kind);
    assert!(reply.metadata.authoritative && reply.metadata.recursion_available);
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError, "{name}");
    assert!(reply.answers.iter().all(|record| record.ttl == 5));
    let mut lines: Vec<String> = reply.answers.iter().map(|record| record.data.to_string()).collect();
    lines.sort();
    lines
}

/// An empty answer, or none such name: with the SOA that says for how long that holds.
fn nothing(name: &str, kind: RecordType) -> ResponseCode {
    let reply = ask(name, kind);
    assert!(reply.answers.is_empty(), "{reply}");
    let [authority] = &reply.authorities[..] else { panic!("no SOA: {reply}") };
    let RData::SOA(soa) = &authority.data else { panic!("no SOA: {reply}") };
    assert_eq!((authority.ttl, soa.minimum), (5, 5));
    assert!(authority.name.zone_of(&Name::from_ascii(name).unwrap()), "{reply}");
    reply.metadata.response_code
}

#[test]
fn a_service_is_its_address_and_its_ports() {
    assert_eq!(answer("web.shop.svc.cluster.local.", RecordType::A), ["10.96.3.3"]);
    assert_eq!(answer("WEB.Shop.svc.cluster.LOCAL.", RecordType::A), ["10.96.3.3"]);
    let reply = ask("_http._tcp.web.shop.svc.cluster.local.", RecordType::SRV);
    assert_eq!(reply.answers[0].data.to_string(), "0 100 80 web.shop.svc.cluster.local.");
    assert_eq!(reply.additionals[0].data.to_string(), "10.96.3.3");
    assert_eq!(
        answer("_stats._udp.web.shop.svc.cluster.local.", RecordType::SRV),
        ["0 100 53 web.shop.svc.cluster.local."]
    );
    assert_eq!(answer("3.3.96.10.in-addr.arpa.", RecordType::PTR), ["web.shop.svc.cluster.local."]);
}

#[test]
fn what_exists_without_such_a_record_is_told_from_what_does_not_exist() {
    for (name, kind) in [
        ("web.shop.svc.cluster.local.", RecordType::AAAA),
        ("web.shop.svc.cluster.local.", RecordType::MX),
        // Above what exists.
        ("shop.svc.cluster.local.", RecordType::A),
        ("_tcp.web.shop.svc.cluster.local.", RecordType::A),
        ("cluster.local.", RecordType::A),
        ("3.3.96.10.in-addr.arpa.", RecordType::A),
    ] {
        assert_eq!(nothing(name, kind), ResponseCode::NoError, "{name} {kind}");
    }
    for name in [
        "nobody.shop.svc.cluster.local.",
        "web.nowhere.svc.cluster.local.",
        "x.web.shop.svc.cluster.local.",
        "_none._tcp.web.shop.svc.cluster.local.",
        // What the search path makes of other names.
        "www.example.com.shop.svc.cluster.local.",
        "db.cluster.local.",
    ] {
        assert_eq!(nothing(name, RecordType::A), ResponseCode::NXDomain, "{name}");
    }
    assert_eq!(nothing("9.9.244.10.in-addr.arpa.", RecordType::PTR), ResponseCode::NXDomain);
    assert_eq!(answer("dns-version.cluster.local.", RecordType::TXT), ["1.1.0"]);
    assert_eq!(ask("cluster.local.", RecordType::SOA).answers.len(), 1);
}

#[test]
fn a_headless_service_is_its_ready_pods() {
    assert_eq!(answer("db.shop.svc.cluster.local.", RecordType::A), ["10.244.0.2"]);
    assert_eq!(answer("db-0.db.shop.svc.cluster.local.", RecordType::A), ["10.244.0.2"]);
    assert_eq!(nothing("db-1.db.shop.svc.cluster.local.", RecordType::A), ResponseCode::NXDomain);
    let reply = ask("_tcp._tcp.db.shop.svc.cluster.local.", RecordType::SRV);
    assert_eq!(reply.answers[0].data.to_string(), "0 100 5432 db-0.db.shop.svc.cluster.local.");
    assert_eq!(reply.additionals[0].data.to_string(), "10.244.0.2");
    // Of the services that have it, this one gave it a name; the other calls it by its address.
    let names = answer("2.0.244.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(names, ["10-244-0-2.peers.shop.svc.cluster.local.", "db-0.db.shop.svc.cluster.local."]);
}

#[test]
fn unready_pods_and_ipv6_are_told_if_the_service_says_so() {
    assert_eq!(answer("peers.shop.svc.cluster.local.", RecordType::A), ["10.244.0.2", "10.244.0.3"]);
    let six = answer("peers.shop.svc.cluster.local.", RecordType::AAAA);
    assert_eq!(six, ["fd00:10:244::2", "fd00:10:244::3"]);
    assert_eq!(nothing("db.shop.svc.cluster.local.", RecordType::AAAA), ResponseCode::NoError);
    let reverse = "3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.4.4.2.0.0.1.0.0.0.0.d.f.ip6.arpa.";
    assert_eq!(answer(reverse, RecordType::PTR), ["10-244-0-3.peers.shop.svc.cluster.local."]);
}

#[test]
fn endpoints_that_were_written_are_told_too() {
    assert_eq!(answer("written.shop.svc.cluster.local.", RecordType::A), ["192.0.2.1"]);
    assert_eq!(answer("one.written.shop.svc.cluster.local.", RecordType::A), ["192.0.2.1"]);
    assert_eq!(
        answer("_tcp._tcp.written.shop.svc.cluster.local.", RecordType::SRV),
        ["0 100 99 one.written.shop.svc.cluster.local."]
    );
    assert_eq!(answer("1.2.0.192.in-addr.arpa.", RecordType::PTR), ["one.written.shop.svc.cluster.local."]);
}

#[test]
fn pods_have_names_of_their_addresses() {
    assert_eq!(answer("10-244-0-4.other.pod.cluster.local.", RecordType::A), ["10.244.0.4"]);
    assert_eq!(answer("fd00-10-244--4.other.pod.cluster.local.", RecordType::AAAA), ["fd00:10:244::4"]);
    assert_eq!(nothing("10-244-0-4.shop.pod.cluster.local.", RecordType::A), ResponseCode::NXDomain);
    let names = answer("4.0.244.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(names, ["10-244-0-4.other.pod.cluster.local."]);
}

#[test]
fn aliases_are_followed_within_the_mesh() {
    let found = answer("inside.shop.svc.cluster.local.", RecordType::A);
    assert_eq!(found, ["10.96.3.3", "web.shop.svc.cluster.local."]);
    let six = ask("inside.shop.svc.cluster.local.", RecordType::AAAA);
    assert_eq!((six.answers.len(), six.authorities.len()), (1, 1), "the alias, and that there is no more");
    let alias = answer("inside.shop.svc.cluster.local.", RecordType::CNAME);
    assert_eq!(alias, ["web.shop.svc.cluster.local."]);
    let ring = ask("ring.shop.svc.cluster.local.", RecordType::A);
    assert_eq!(ring.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn an_alias_of_a_foreign_name_is_completed_by_others() {
    let zone = mesh();
    let request = question("outside.shop.svc.cluster.local.", RecordType::A);
    let Step::Ask(pending) = step(&zone, Asker::default(), &request.to_vec().unwrap(), Transport::Udp) else {
        panic!("others know")
    };
    let asked = Message::from_vec(pending.question()).unwrap();
    assert_eq!(asked.queries[0].name.to_ascii(), "www.example.com.");
    assert!(asked.metadata.recursion_desired);

    let mut reply = asked.clone().into_response();
    let address = RData::A(hickory_proto::rr::rdata::A(Ipv4Addr::new(192, 0, 2, 80)));
    reply.add_answer(hickory_proto::rr::Record::from_rdata(asked.queries[0].name.clone(), 60, address));
    let answer = Message::from_vec(&pending.answered(Some(reply.to_vec().unwrap()))).unwrap();
    assert_eq!(answer.metadata.id, request.metadata.id);
    assert_eq!(answer.queries, request.queries);
    let data: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    assert_eq!(data, ["www.example.com.", "192.0.2.80"]);

    let nobody = Message::from_vec(&pending.answered(None)).unwrap();
    assert_eq!(nobody.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(nobody.metadata.id, request.metadata.id);
}

#[test]
fn programs_beside_a_sidecar_find_hosts_of_service_entries() {
    assert_eq!(answer("api.example.com.", RecordType::A), ["192.0.2.10"], "not the block");
    assert_eq!(nothing("api.example.com.", RecordType::AAAA), ResponseCode::NoError);
    assert_eq!(answer("istio.io.", RecordType::A), ["240.240.122.168"], "Istio's own automatic address");
    // One's own namespace first, and what it exports to itself alone.
    assert_eq!(answer("a.b.wild.example.", RecordType::A), ["192.0.2.20"]);
    for (name, kind) in [
        ("api.example.com.", RecordType::MX),
        ("wild.example.", RecordType::A),
        ("example.com.", RecordType::A),
    ] {
        assert_eq!(ask_from(DB0, name, kind), None, "{name} {kind}");
    }
}

#[test]
fn anybody_else_is_told_where_the_host_really_is() {
    assert_eq!(ask_from(PLAIN, "api.example.com.", RecordType::A), None);
    let zone = mesh();
    let bytes = question("istio.io.", RecordType::A).to_vec().unwrap();
    assert!(matches!(step(&zone, Asker::default(), &bytes, Transport::Udp), Step::Ask(_)));
    assert!(ask_from(PLAIN, "web.shop.svc.cluster.local.", RecordType::A).is_some());
}

#[test]
fn an_answer_that_does_not_fit_is_cut_and_says_so() {
    let (objects, images) = many_pods();
    let (pods, _) = plan(&objects, &images, ostro_agent::DataPlane::Ostro);
    let live: Vec<Live<'_>> =
        (2..).zip(pods.values()).map(|(n, plan)| live(plan, Ipv4Addr::new(10, 244, 0, n))).collect();
    let zone = zone(&objects, &live, false);
    let size = |edns: Option<u16>, transport| {
        let mut message = question("db.shop.svc.cluster.local.", RecordType::A);
        if let Some(size) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(size);
            message.set_edns(edns);
        }
        let Step::Reply(reply) = step(&zone, Asker::default(), &message.to_vec().unwrap(), transport) else {
            panic!("an answer")
        };
        let answer = Message::from_vec(&reply).unwrap();
        assert_eq!(answer.edns.is_some(), edns.is_some());
        (reply.len(), answer.answers.len(), answer.metadata.truncation)
    };
    let (length, records, cut) = size(None, Transport::Udp);
    assert!(length <= 512 && records > 10 && cut, "{length} {records} {cut}");
    assert!(size(Some(100), Transport::Udp).0 <= 512, "less than 512 counts as 512");
    assert_eq!(size(Some(4096), Transport::Udp).1, 100);
    assert!(!size(Some(4096), Transport::Udp).2);
    assert_eq!(size(None, Transport::Tcp).1, 100);
}

fn many_pods() -> (Vec<Object>, Images) {
    let yaml = "apiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: shop}\nspec: {clusterIP: None, selector: {app: db}}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: db, namespace: shop}\nspec: {replicas: 100, template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, image: x}]}}}\n";
    let parsed = parse_file("many.yaml", yaml.as_bytes());
    let images = Images::from_value(serde_json::json!({"images": [{"match": "x", "program": "x"}]})).unwrap();
    (parsed.objects, images)
}

fn live(plan: &PodPlan, ip: Ipv4Addr) -> Live<'_> {
    Live { plan, ip, ready: plan.name.name != "db-1", terminating: false }
}

#[test]
fn what_is_no_sound_question_is_refused_or_dropped() {
    let zone = mesh();
    let code = |bytes: &[u8]| match step(&zone, Asker::default(), bytes, Transport::Udp) {
        Step::Reply(reply) => Some(Message::from_vec(&reply).unwrap().metadata.response_code),
        _ => None,
    };
    let sound = question("web.shop.svc.cluster.local.", RecordType::A).to_vec().unwrap();
    assert_eq!(code(&sound), Some(ResponseCode::NoError));
    assert_eq!(code(&sound[..11]), None, "no header");
    assert_eq!(code(&sound[..20]), Some(ResponseCode::FormErr), "cut");
    let with = |at: usize, byte: u8| {
        let mut bytes = sound.clone();
        bytes[at] = byte;
        code(&bytes)
    };
    assert_eq!(with(2, 0x80), None, "an answer");
    assert_eq!(with(2, 0x28), Some(ResponseCode::NotImp), "an update");
    assert_eq!(with(5, 2), Some(ResponseCode::FormErr), "two questions");
    assert_eq!(with(12, 0xff), Some(ResponseCode::FormErr), "a pointer to nowhere");
    assert_eq!(with(sound.len() - 1, 3), Some(ResponseCode::Refused), "another class");
    assert_eq!(ask("cluster.local.", RecordType::AXFR).metadata.response_code, ResponseCode::Refused);
    let mut message = question("web.shop.svc.cluster.local.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    message.set_edns(edns);
    // By its number: another use of the same has another name.
    assert_eq!(code(&message.to_vec().unwrap()).map(u16::from), Some(ResponseCode::BADVERS.into()));
}

#[test]
fn pods_read_what_kubelet_writes() {
    let host = ResolvConf::parse(
        "# x\ndomain old\nsearch lan example.net ; y\nnameserver 127.0.0.53\noptions trust-ad ndots:1\n",
    );
    with_pods(|_, pods| {
        let text = |name: &str| {
            let pod = pods.iter().find(|pod| pod.plan.name.name == name).unwrap();
            let server = Ipv4Addr::new(10, 244, 0, 1);
            (resolv_conf(pod.plan, server, &host), hosts(pod.plan, &[pod.ip.into()]))
        };
        let (resolv, hosts) = text("db-1");
        assert_eq!(
            resolv,
            "nameserver 10.244.0.1\nsearch shop.svc.cluster.local svc.cluster.local cluster.local lan example.net\noptions ndots:5\n"
        );
        assert!(hosts.contains("10.244.0.3\tdb-1.db.shop.svc.cluster.local\tdb-1\n"), "{hosts}");
        assert!(
            hosts.contains("127.0.0.1\tlocalhost\n") && hosts.contains("192.0.2.7\tprinter\tprinter.lan\n")
        );
        let (resolv, hosts) = text("plain");
        assert_eq!(
            resolv,
            "nameserver 10.244.0.1\nnameserver 192.0.2.53\nsearch other.svc.cluster.local svc.cluster.local cluster.local lan example.net corp.example\noptions ndots:2 edns0\n"
        );
        assert!(hosts.ends_with("10.244.0.4\tplain\n"), "{hosts}");
    });
}

#[test]
fn no_wrong_byte_makes_an_answer_longer_than_asked_for_or_none_at_all() {
    let zone = mesh();
    let asked = question("outside.shop.svc.cluster.local.", RecordType::A);
    let mut questions = vec![asked.clone()];
    let mut with_edns = question("_http._tcp.web.shop.svc.cluster.local.", RecordType::SRV);
    with_edns.set_edns(Edns::new());
    questions.push(with_edns);
    for question in questions {
        for bytes in spoilt(&question.to_vec().unwrap()) {
            match step(&zone, Asker::default(), &bytes, Transport::Udp) {
                Step::Drop => assert!(bytes.len() < 12 || bytes[2] & 0x80 != 0),
                Step::Reply(reply) => assert!((12..=4096).contains(&reply.len())),
                Step::Ask(pending) => assert!(Message::from_vec(pending.question()).is_ok()),
            }
        }
    }
    let Step::Ask(pending) = step(&zone, Asker::default(), &asked.to_vec().unwrap(), Transport::Udp) else {
        panic!("others know")
    };
    for reply in spoilt(&Message::from_vec(pending.question()).unwrap().into_response().to_vec().unwrap()) {
        assert!((12..=512).contains(&pending.answered(Some(reply)).len()));
    }
}

/// The bytes cut at every place, and with every byte replaced by every other.
fn spoilt(bytes: &[u8]) -> Vec<Vec<u8>> {
    let cut = (0..bytes.len()).map(|length| bytes[..length].to_vec());
    let replaced = (0..bytes.len()).flat_map(|at| {
        (0..=u8::MAX).map(move |byte| {
            let mut spoilt = bytes.to_vec();
            spoilt[at] = byte;
            spoilt
        })
    });
    cut.chain(replaced).collect()
}
