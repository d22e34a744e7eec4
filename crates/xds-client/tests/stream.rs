//! The client against a scripted control plane, in both dialects.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::ControlPlane;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::google::protobuf::Any;
use ostro_xds_client::{
    Ads, Dialects, Handle, Kind, Phase, Records, Status as ResourceStatus, Store, Target, run,
};
use support::*;
use tokio::net::TcpListener;
use tonic::{Code, Status};

/// A client under way; what a test does goes on beside it.
struct Client {
    told: Told,
    records: Records,
    handle: Handle,
    task: tokio::task::JoinHandle<()>,
}

impl Client {
    fn start(ads: Ads) -> Client {
        Client::with(ads, None)
    }

    fn with(ads: Ads, fetch_timeout: Option<Duration>) -> Client {
        let (mut teller, told) = Teller::new();
        teller.fetch_timeout = fetch_timeout;
        let mut store = Store::new(teller, wildcards());
        let (records, handle) = (store.records(), Handle::new());
        let own = handle.clone();
        let task = tokio::spawn(async move { match run(&mut store, Some(ads), None, &own).await {} });
        Client { told, records, handle, task }
    }

    fn count(&self, kind: Kind, name: &str) -> u64 {
        let mut found = None;
        self.records.counters(kind).each(&mut |of, value| {
            if of == name {
                found = Some(value);
            }
        });
        found.unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn is_ack(request: &DeltaDiscoveryRequest, kind: Kind, nonce: &str) -> bool {
    request.type_url == kind.url() && request.response_nonce == nonce && request.error_detail.is_none()
}

/// Reads requests until one acknowledges this.
async fn acked(stream: &mut DeltaStream, kind: Kind, nonce: &str) -> Vec<DeltaDiscoveryRequest> {
    let mut before = Vec::new();
    loop {
        let request = stream.request().await;
        if is_ack(&request, kind, nonce) {
            return before;
        }
        before.push(request);
    }
}

/// From the first request to listeners that are live: cluster a with endpoints x, listener l with routes r.
async fn come_up(stream: &mut DeltaStream, told: &mut Told) {
    let first = stream.request().await;
    assert_eq!((first.type_url.as_str(), first.resource_names_subscribe.len()), (Kind::CLUSTER.url(), 0));
    assert!(first.node.unwrap().id.starts_with("sidecar~"));
    stream.say(delta(Kind::CLUSTER, "c1", vec![cluster("a", "1", Some("x"))], &[])).await;
    assert!(is_ack(&stream.request().await, Kind::CLUSTER, "c1"));
    let eds = stream.request().await;
    assert_eq!(
        (eds.type_url.as_str(), eds.node, eds.resource_names_subscribe),
        (Kind::ENDPOINT.url(), None, vec!["x".into()])
    );
    stream.say(delta(Kind::ENDPOINT, "e1", vec![endpoints("x", "1")], &[])).await;
    assert!(is_ack(&stream.request().await, Kind::ENDPOINT, "e1"));
    assert_eq!(stream.request().await.type_url, Kind::LISTENER.url());
    stream.say(delta(Kind::LISTENER, "l1", vec![listener("l", "1", &["r"])], &[])).await;
    assert!(is_ack(&stream.request().await, Kind::LISTENER, "l1"));
    assert_eq!(stream.request().await.resource_names_subscribe, ["r"]);
    stream.say(delta(Kind::ROUTE, "r1", vec![routes("r", "1")], &[])).await;
    assert!(is_ack(&stream.request().await, Kind::ROUTE, "r1"));
    told.until(&["cds a=1", "eds x=1", "lds l=1", "rds r=1"]).await;
    told.until_phase(Phase::Live).await;
}

#[tokio::test]
async fn delta_from_start_to_end() {
    let mut server = Server::start().await;
    let mut client = Client::start(ads(server.at, Dialects::Delta));
    let mut stream = server.delta().await;
    come_up(&mut stream, &mut client.told).await;
    assert!(client.records.control_plane().is_connected());

    // A cluster that needs endpoints: the old ones are given up once the new ones came, and the acknowledgement waits.
    stream
        .say(delta(Kind::CLUSTER, "c2", vec![cluster("a", "2", Some("y")), cluster("b", "1", None)], &[]))
        .await;
    let eds = stream.request().await;
    assert_eq!(
        (eds.type_url.as_str(), eds.resource_names_subscribe),
        (Kind::ENDPOINT.url(), vec!["y".to_owned()])
    );
    client.told.until(&["cds a=1", "cds b=1", "eds x=1", "lds l=1", "rds r=1"]).await;
    stream.say(delta(Kind::ENDPOINT, "e2", vec![endpoints("y", "2")], &[])).await;
    let (mut acks, mut dropped) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let request = stream.request().await;
        acks.extend((!request.response_nonce.is_empty()).then_some(request.response_nonce));
        dropped.extend(request.resource_names_unsubscribe);
    }
    assert_eq!((acks, dropped), (vec!["c2".into(), "e2".into()], vec!["x".to_owned()]));
    client.told.until(&["cds a=2", "cds b=1", "eds y=2", "lds l=1", "rds r=1"]).await;

    // Away they go.
    stream.say(delta(Kind::LISTENER, "l2", vec![], &["l"])).await;
    let mut requests = acked(&mut stream, Kind::LISTENER, "l2").await;
    requests.push(stream.request().await);
    assert_eq!(requests.iter().map(|r| r.resource_names_unsubscribe.join("")).collect::<String>(), "r");
    client.told.until(&["cds a=2", "cds b=1", "eds y=2"]).await;
    assert_eq!(client.count(Kind::CLUSTER, "update_success"), 2);
    assert_eq!(client.records.version(Kind::CLUSTER), "s-c2");
}

#[tokio::test]
async fn a_refusal_names_each_resource_and_takes_the_others() {
    let mut server = Server::start().await;
    let mut client = Client::start(ads(server.at, Dialects::Delta));
    let mut stream = server.delta().await;
    come_up(&mut stream, &mut client.told).await;
    let resources =
        vec![listener("l", "!unsupported:x", &[]), listener("m", "1", &["r"]), listener("n", "!no", &[])];
    stream.say(delta(Kind::LISTENER, "l2", resources, &[])).await;
    let nack = stream.request().await;
    assert_eq!((nack.type_url.as_str(), nack.response_nonce.as_str()), (Kind::LISTENER.url(), "l2"));
    let detail = nack.error_detail.unwrap();
    assert_eq!(detail.message, "Error adding/updating listener(s) l: unsupported:x\nn: no\n");
    assert_eq!(detail.code, Code::Internal as i32);
    client.told.until(&["cds a=1", "eds x=1", "lds l=1", "lds m=1", "rds r=1"]).await;
    let record = client.records.get(Kind::LISTENER, "l").unwrap();
    assert_eq!((record.status, &*record.failure.as_ref().unwrap().version), (ResourceStatus::Nacked, "v-l2"));
    assert_eq!(&*record.active.as_ref().unwrap().version, "v-l1");

    // Garbage inside one resource, another type, no body, a name twice: refused alike.
    let mut response =
        delta(Kind::CLUSTER, "c2", vec![cluster("g", "1", None), cluster("g", "1", None)], &[]);
    response.resources[0].resource = Some(Any { type_url: Kind::CLUSTER.url().into(), value: vec![0xff; 5] });
    response.resources[1].name = "h".into();
    stream.say(response).await;
    let message = stream.request().await.error_detail.unwrap().message;
    assert!(message.starts_with("Error adding/updating cluster(s) g: cannot be decoded: "), "{message}");
    assert!(message.ends_with(", h: is named \"g\" inside"), "{message}");
    assert_eq!(client.count(Kind::CLUSTER, "update_rejected"), 1);
}

#[tokio::test]
async fn a_long_reason_is_cut() {
    let mut server = Server::start().await;
    let client = Client::start(ads(server.at, Dialects::Delta));
    let mut stream = server.delta().await;
    stream.request().await;
    let reason = format!("!{}", "ä".repeat(5_000));
    stream.say(delta(Kind::CLUSTER, "c1", vec![cluster("a", &reason, None)], &[])).await;
    let message = stream.request().await.error_detail.unwrap().message;
    assert!(message.ends_with("ä...(truncated)") && message.len() < 4_200, "{}", message.len());
    let details = client.records.get(Kind::CLUSTER, "a").unwrap().failure.clone().unwrap().details.len();
    assert!((4_090..4_200).contains(&details), "{details}");
}

#[tokio::test]
async fn held_state_stays_and_a_new_stream_says_what_it_is() {
    let mut server = Server::start().await;
    let mut client = Client::start(ads(server.at, Dialects::Delta));
    let mut stream = server.delta().await;
    come_up(&mut stream, &mut client.told).await;
    stream.say(delta(Kind::CLUSTER, "c2", vec![cluster("a", "!no", None)], &[])).await;
    assert!(stream.request().await.error_detail.is_some());
    stream.fail(Status::unavailable("moving on")).await;

    let mut stream = server.delta().await;
    client.told.until(&["cds a=1", "eds x=1", "lds l=1", "rds r=1"]).await;
    let mut held = Vec::new();
    for i in 0..4 {
        let request = stream.request().await;
        assert_eq!((request.node.is_some(), request.response_nonce.as_str()), (i == 0, ""));
        let versions =
            request.initial_resource_versions.into_iter().map(|(name, version)| format!("{name}={version}"));
        held.push((versions.collect::<String>(), request.resource_names_subscribe.join("")));
    }
    // What was refused is not said to be held.
    let expected = [("a=v-c1", ""), ("x=v-e1", "x"), ("l=v-l1", ""), ("r=v-r1", "r")];
    assert_eq!(held, expected.map(|(versions, names)| (versions.to_owned(), names.to_owned())));
    // The new control plane knows of no listener.
    stream.say(delta(Kind::LISTENER, "l9", vec![], &["l"])).await;
    client.told.until(&["cds a=1", "eds x=1"]).await;
    assert_eq!(client.count(Kind::CLUSTER, "update_failure"), 1);
}

#[tokio::test]
async fn a_control_plane_that_comes_and_goes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let client = Client::start(ads(at, Dialects::Delta));
    // Somebody who is no HTTP/2 server, and hangs up, often: it is tried again.
    for _ in 0..5 {
        drop(soon(listener.accept()).await.unwrap());
    }
    assert!(!client.records.control_plane().is_connected());
    drop(listener);
    let mut server = Server::start().await;
    drop(client);
    let mut client = Client::start(ads(server.at, Dialects::Delta));
    for nonce in 0..5 {
        let mut stream = server.delta().await;
        stream.request().await;
        let tag = nonce.to_string();
        stream.say(delta(Kind::CLUSTER, &tag, vec![cluster("a", &tag, None)], &[])).await;
        client.told.until(&[&format!("cds a={nonce}")]).await;
    }
}

#[tokio::test]
async fn the_state_of_the_world_from_start_to_end() {
    let mut server = Server::start().await;
    let mut client = Client::start(ads(server.at, Dialects::World));
    let mut stream = server.world().await;
    let first = stream.request().await;
    assert_eq!((first.type_url.as_str(), first.version_info.as_str()), (Kind::CLUSTER.url(), ""));
    assert!(first.node.is_some() && first.resource_names.is_empty());
    stream.say(world(Kind::CLUSTER, "c1", vec![cluster("a", "1", Some("x")), cluster("b", "1", None)])).await;
    let ack = stream.request().await;
    assert_eq!((ack.version_info.as_str(), ack.response_nonce.as_str()), ("s-c1", "c1"));
    assert_eq!(stream.request().await.resource_names, ["x"]);
    // More than was asked for is passed over.
    stream.say(world(Kind::ENDPOINT, "e1", vec![endpoints("x", "1"), endpoints("other", "1")])).await;
    let ack = stream.request().await;
    assert_eq!((ack.resource_names, ack.response_nonce.as_str(), ack.node), (vec!["x".into()], "e1", None));
    assert_eq!(stream.request().await.type_url, Kind::LISTENER.url());
    stream.say(world(Kind::LISTENER, "l1", vec![listener("l", "1", &["r"])])).await;
    stream.request().await;
    assert_eq!(stream.request().await.resource_names, ["r"]);
    stream.say(world(Kind::ROUTE, "r1", vec![routes("r", "1")])).await;
    assert_eq!(stream.request().await.response_nonce, "r1");
    client.told.until(&["cds a=1", "cds b=1", "eds x=1", "lds l=1", "rds r=1"]).await;

    // One is bad: its old version stays, what is missing goes, and the version is that of before.
    stream.say(world(Kind::CLUSTER, "c2", vec![cluster("a", "!bad", None), cluster("c", "1", None)])).await;
    let nack = stream.request().await;
    assert_eq!((nack.version_info.as_str(), nack.response_nonce.as_str()), ("s-c1", "c2"));
    assert_eq!(nack.error_detail.unwrap().message, "Error adding/updating cluster(s) a: bad");
    client.told.until(&["cds a=1", "cds c=1", "eds x=1", "lds l=1", "rds r=1"]).await;

    // Fewer endpoints and routes than before are no loss; fewer listeners are.
    stream.say(world(Kind::ENDPOINT, "e2", vec![])).await;
    assert_eq!(stream.request().await.response_nonce, "e2");
    stream.say(world(Kind::LISTENER, "l2", vec![])).await;
    client.told.until(&["cds a=1", "cds c=1", "eds x=1"]).await;
    let ack = stream.request().await;
    assert_eq!((ack.response_nonce.as_str(), ack.version_info.as_str()), ("l2", "s-l2"));
    let unsubscribed = stream.request().await;
    assert_eq!((unsubscribed.type_url.as_str(), unsubscribed.resource_names.len()), (Kind::ROUTE.url(), 0));

    stream.fail(Status::unavailable("moving on")).await;
    let mut stream = server.world().await;
    let again: Vec<(String, String, String)> = {
        let mut again = Vec::new();
        for _ in 0..3 {
            let request = stream.request().await;
            again.push((request.version_info, request.resource_names.join(""), request.response_nonce));
        }
        again
    };
    let expected = [("s-c1", "", ""), ("s-e2", "x", ""), ("s-l2", "", "")];
    assert_eq!(again, expected.map(|(version, names, nonce)| (version.into(), names.into(), nonce.into())));
}

#[tokio::test]
async fn a_control_plane_without_deltas() {
    let mut server = Server::with(false).await;
    let mut client = Client::start(ads(server.at, Dialects::DeltaOrWorld));
    let mut stream = server.world().await;
    stream.request().await;
    stream.say(world(Kind::CLUSTER, "c1", vec![cluster("a", "1", None)])).await;
    client.told.until(&["cds a=1"]).await;
    drop(stream);
    // It has been learnt.
    server.world().await.request().await;
}

#[tokio::test]
async fn interests_beyond_needs_are_counted_and_put_together() {
    let mut server = Server::start().await;
    let client = Client::start(ads(server.at, Dialects::Delta));
    let mut stream = server.delta().await;
    stream.request().await;
    let (mut told, handle) = (client.told.clone(), client.handle.clone());
    for name in ["k", "m", "k"] {
        handle.subscribe(Kind::SECRET, name).unwrap();
    }
    let mut names = Vec::new();
    while names.len() < 2 {
        let request = stream.request().await;
        assert_eq!(request.type_url, Kind::SECRET.url());
        names.extend(request.resource_names_subscribe);
    }
    assert_eq!(names, ["k", "m"]);
    let secret = Made {
        name: "k".into(),
        any: Any { type_url: Kind::SECRET.url().into(), value: b"\n\x01k".to_vec() },
    };
    stream.say(delta(Kind::SECRET, "s1", vec![secret], &[])).await;
    told.until(&["sds k="]).await;
    acked(&mut stream, Kind::SECRET, "s1").await;
    handle.unsubscribe(Kind::SECRET, "k");
    handle.unsubscribe(Kind::SECRET, "m");
    assert_eq!(stream.request().await.resource_names_unsubscribe, ["m"]);
    assert_eq!(told.now(), ["sds k="], "somebody wants it still");
    handle.unsubscribe(Kind::SECRET, "k");
    assert_eq!(stream.request().await.resource_names_unsubscribe, ["k"]);
    told.until(&[]).await;
}

#[tokio::test]
async fn what_takes_too_long_is_done_without() {
    let mut server = Server::start().await;
    let mut client = Client::with(ads(server.at, Dialects::Delta), Some(Duration::from_millis(50)));
    let mut stream = server.delta().await;
    stream.request().await;
    stream.say(delta(Kind::CLUSTER, "c1", vec![cluster("a", "1", Some("x"))], &[])).await;
    client.told.until(&["cds a=1"]).await;
    assert_eq!(client.records.get(Kind::ENDPOINT, "x").unwrap().status, ResourceStatus::TimedOut);
    assert_eq!(client.count(Kind::ENDPOINT, "init_fetch_timeout"), 1);
    stream.say(delta(Kind::ENDPOINT, "e1", vec![endpoints("x", "1")], &[])).await;
    client.told.until(&["cds a=1", "eds x=1"]).await;
}

#[tokio::test]
async fn strange_responses_change_nothing() {
    let mut server = Server::start().await;
    let mut client = Client::start(ads(server.at, Dialects::Delta));
    let mut stream = server.delta().await;
    come_up(&mut stream, &mut client.told).await;
    let everything = ["cds a=1", "eds x=1", "lds l=1", "rds r=1"];
    // Of types never asked for: not answered. Nonces that repeat or are empty: answered as they are.
    stream.say(delta(Kind::SECRET, "s1", vec![], &["a"])).await;
    stream.say(DeltaDiscoveryResponse { nonce: "q".into(), ..DeltaDiscoveryResponse::default() }).await;
    stream.say(delta(Kind::ENDPOINT, "e7", vec![endpoints("never asked for", "1")], &["nor this"])).await;
    stream.say(delta(Kind::CLUSTER, "c1", vec![], &["nobody"])).await;
    stream.say(delta(Kind::CLUSTER, "", vec![], &[])).await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        let request = stream.request().await;
        assert_eq!(request.error_detail, None);
        answers.push((request.type_url, request.response_nonce));
    }
    let expected = [(Kind::ENDPOINT, "e7"), (Kind::CLUSTER, "c1"), (Kind::CLUSTER, "")];
    assert_eq!(answers, expected.map(|(kind, nonce)| (kind.url().to_owned(), nonce.to_owned())));
    assert_eq!(client.told.now(), everything);
    let named = DeltaDiscoveryResponse {
        control_plane: Some(ControlPlane { identifier: "istiod-7".into() }),
        ..delta(Kind::ROUTE, "r2", vec![routes("r", "2")], &["r"])
    };
    stream.say(named).await;
    let nack = stream.request().await.error_detail.unwrap().message;
    assert_eq!(nack, "Error adding/updating route configuration(s) r: is both updated and removed");
    client.told.until(&["cds a=1", "eds x=1", "lds l=1", "rds r=2"]).await;
    assert_eq!(client.records.control_plane().identifier(), "istiod-7");
}

#[tokio::test]
async fn a_response_that_is_too_long_ends_the_stream_and_nothing_else() {
    let mut server = Server::start().await;
    let settings = Ads { response_bytes: 100_000, ..ads(server.at, Dialects::Delta) };
    let mut client = Client::start(settings);
    let mut stream = server.delta().await;
    stream.request().await;
    stream.say(delta(Kind::CLUSTER, "c1", vec![cluster("a", "1", None)], &[])).await;
    client.told.until(&["cds a=1"]).await;
    let long = "x".repeat(200_000);
    stream.say(delta(Kind::CLUSTER, "c2", vec![cluster("b", &long, None)], &[])).await;
    let mut stream = server.delta().await;
    assert_eq!(stream.request().await.initial_resource_versions.len(), 1);
    assert_eq!(client.told.now(), ["cds a=1"]);
}

#[tokio::test]
async fn many_resources_at_once() {
    let mut server = Server::start().await;
    let mut client = Client::start(ads(server.at, Dialects::Delta));
    let mut stream = server.delta().await;
    stream.request().await;
    let name = |i: usize| format!("outbound|80||s{i}.default.svc.cluster.local");
    let clusters = (0..5_000).map(|i| cluster(&name(i), "1", Some(&name(i)))).collect();
    stream.say(delta(Kind::CLUSTER, "c1", clusters, &[])).await;
    assert!(is_ack(&stream.request().await, Kind::CLUSTER, "c1"));
    let asked = stream.request().await;
    assert_eq!(asked.resource_names_subscribe.len(), 5_000, "in one request");
    let assignments = (0..5_000).map(|i| endpoints(&name(i), "1")).collect();
    stream.say(delta(Kind::ENDPOINT, "e1", assignments, &[])).await;
    client.told.until_phase(Phase::Listeners).await;
    assert_eq!(client.told.now().len(), 10_000);
}

#[tokio::test]
async fn the_first_target_that_answers_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("XDS");
    let listener = ostro_transport::listen_unix(&path, None).unwrap();
    let listener = tokio::net::UnixListener::from_std(listener).unwrap();
    let targets = vec![Target::Unix("/no/such/socket".into()), Target::Unix(path)];
    let mut settings = ads_to(targets, Dialects::Delta);
    settings.metadata = vec![("ClusterID".into(), "c".into()), ("no header".into(), "x".into())];
    let _client = Client::start(settings);
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    let mut preface = [0; 24];
    soon(tokio::io::AsyncReadExt::read_exact(&mut stream, &mut preface)).await.unwrap();
    assert!(preface.starts_with(b"PRI * HTTP/2.0"));
}

#[tokio::test]
async fn a_connection_that_is_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = Ads {
        keepalive: Some((Duration::from_millis(20), Duration::from_millis(20))),
        ..ads(listener.local_addr().unwrap(), Dialects::Delta)
    };
    let _client = Client::start(settings);
    let _silent = soon(listener.accept()).await.unwrap();
    soon(listener.accept()).await.unwrap();
}
