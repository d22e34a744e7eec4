//! The resolver against a scripted name server on loopback.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ostro_transport::dns::message::{Kind, Question};
use ostro_transport::dns::{Config, Family, LookupError, Resolve, Resolver, limits};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

/// What was asked: name, type, over TCP?
type Asked = Arc<Mutex<Vec<(String, RecordType, bool)>>>;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn record(owner: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name(owner), ttl, data)
}

/// The replies: several to one question come one after the other.
fn replies(question: &Message, tcp: bool) -> Vec<Message> {
    let query = question.queries[0].clone();
    let text = query.name.to_ascii().to_ascii_lowercase();
    let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
    reply.add_query(query.clone());
    let v4 = query.query_type == RecordType::A;
    match text.as_str() {
        "web.example." if v4 => {
            reply.add_answer(record("web.example.", 60, RData::A(A("10.0.0.1".parse().unwrap()))));
            reply.add_answer(record("web.example.", 30, RData::A(A("10.0.0.2".parse().unwrap()))));
        }
        "both.example." if v4 => {
            reply.add_answer(record(&text, 60, RData::A(A("10.0.0.1".parse().unwrap()))));
        }
        "both.example." => {
            reply.add_answer(record(&text, 20, RData::AAAA(AAAA("fd00::1".parse().unwrap()))));
        }
        "web.example." | "none.example." => {}
        "alias.example." => {
            reply.add_answer(record("alias.example.", 7, RData::CNAME(CNAME(name("b.example.")))));
            reply.add_answer(record("b.example.", 60, RData::CNAME(CNAME(name("c.example.")))));
            if v4 {
                reply.add_answer(record("c.example.", 60, RData::A(A("10.0.0.3".parse().unwrap()))));
            }
        }
        "loop.example." => {
            reply.add_answer(record("loop.example.", 7, RData::CNAME(CNAME(name("loop.example.")))));
        }
        "long.example." if !tcp => reply.metadata.truncation = true,
        "long.example." => {
            for last in 0..100u8 {
                reply.add_answer(record(&text, 60, RData::A(A([10, 1, 0, last].into()))));
            }
        }
        "broken.example." => reply.metadata.response_code = ResponseCode::ServFail,
        "forged.example." => {
            // Of another id, of another name, a question: none of them counts.
            let mut forged = reply.clone();
            forged.add_answer(record(&text, 60, RData::A(A("6.6.6.6".parse().unwrap()))));
            let (mut id, mut question) = (forged.clone(), forged.clone());
            id.metadata.id = id.metadata.id.wrapping_add(1);
            question.metadata.message_type = MessageType::Query;
            forged.queries[0].name = name("other.example.");
            reply.add_answer(record(&text, 60, RData::A(A("10.0.0.4".parse().unwrap()))));
            return vec![id, forged, question, reply];
        }
        "silent.example." => return Vec::new(),
        _ => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            let soa = SOA::new(name("ns.example."), name("a.example."), 1, 1, 1, 1, 3);
            reply.add_authority(record("example.", 60, RData::SOA(soa)));
        }
    }
    vec![reply]
}

async fn server() -> (SocketAddr, Asked) {
    let asked = Asked::default();
    // The same port over UDP and TCP: another of the two may be taken by somebody else.
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let at = udp.local_addr().unwrap();
    let note = |asked: &Asked, message: &Message, tcp| {
        let query = &message.queries[0];
        asked.lock().unwrap().push((query.name.to_ascii(), query.query_type, tcp));
    };
    let by_udp = asked.clone();
    tokio::spawn(async move {
        let mut bytes = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut bytes).await {
            let question = Message::from_vec(&bytes[..length]).unwrap();
            note(&by_udp, &question, false);
            for reply in replies(&question, false) {
                udp.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
            }
        }
    });
    let by_tcp = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let mut bytes = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut bytes).await.unwrap();
            let question = Message::from_vec(&bytes).unwrap();
            note(&by_tcp, &question, true);
            for reply in replies(&question, true) {
                let bytes = reply.to_vec().unwrap();
                stream.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
            }
        }
    });
    (at, asked)
}

fn config(servers: Vec<SocketAddr>) -> Config {
    Config {
        servers,
        search: vec!["example".into(), "other".into()],
        hosts: vec![("10.9.9.9".parse().unwrap(), "known".into())],
        timeout: Duration::from_secs(5),
        attempts: 1,
        ..Config::default()
    }
}

async fn resolver() -> (Resolver, Asked) {
    let (at, asked) = server().await;
    (Resolver::new(config(vec![at])), asked)
}

fn shown(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_name_is_asked_for_once_while_its_answer_lives() {
    let (resolver, asked) = resolver().await;
    for _ in 0..3 {
        let answer = resolver.lookup("web.example", Family::V4Only).await.unwrap();
        assert_eq!(shown(&answer.addresses), ["10.0.0.1", "10.0.0.2"]);
        assert!(answer.ttl <= Duration::from_secs(30) && answer.ttl > Duration::from_secs(20));
        assert_eq!(resolver.lookup("nobody.example.", Family::V4Only).await, Err(LookupError::NoSuchName));
    }
    assert_eq!(
        *asked.lock().unwrap(),
        [
            ("web.example.".to_owned(), RecordType::A, false),
            ("nobody.example.".to_owned(), RecordType::A, false)
        ]
    );
}

#[tokio::test]
async fn families_are_asked_for_as_they_are_wanted() {
    let (resolver, asked) = resolver().await;
    let lookup =
        async |name: &'static str, family| resolver.lookup(name, family).await.map(|a| shown(&a.addresses));
    assert_eq!(lookup("both.example.", Family::Auto).await.unwrap(), ["fd00::1"]);
    assert_eq!(asked.lock().unwrap().len(), 1, "IPv4 was not asked for");
    assert_eq!(lookup("both.example.", Family::V4Preferred).await.unwrap(), ["10.0.0.1"]);
    assert_eq!(lookup("both.example.", Family::All).await.unwrap(), ["fd00::1", "10.0.0.1"]);
    assert_eq!(lookup("web.example.", Family::Auto).await.unwrap(), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(lookup("web.example.", Family::V6Only).await, Err(LookupError::NoAddress));
    assert_eq!(lookup("none.example.", Family::All).await, Err(LookupError::NoAddress));
}

#[tokio::test]
async fn suffixes_aliases_files_and_addresses() {
    let (resolver, asked) = resolver().await;
    let lookup = async |name: &'static str| resolver.lookup(name, Family::V4Only).await;
    assert_eq!(shown(&lookup("web").await.unwrap().addresses), ["10.0.0.1", "10.0.0.2"]);
    let alias = lookup("alias.example").await.unwrap();
    assert_eq!(shown(&alias.addresses), ["10.0.0.3"]);
    assert!(alias.ttl <= Duration::from_secs(7), "the alias lives 7 s");
    assert_eq!(lookup("loop.example.").await, Err(LookupError::NoAddress));
    let before = asked.lock().unwrap().len();
    assert_eq!(shown(&lookup("known").await.unwrap().addresses), ["10.9.9.9"]);
    assert_eq!(shown(&lookup("10.1.2.3").await.unwrap().addresses), ["10.1.2.3"]);
    assert_eq!(lookup("fd00::1").await, Err(LookupError::NoAddress));
    assert_eq!(shown(&lookup("localhost").await.unwrap().addresses), ["127.0.0.1"]);
    let long = "a.".repeat(150);
    assert_eq!(resolver.lookup(&long, Family::V4Only).await, Err(LookupError::BadName));
    assert_eq!(asked.lock().unwrap().len(), before, "no server was asked");
    assert_eq!(lookup("nowhere").await, Err(LookupError::NoSuchName));
    let names: Vec<String> = asked.lock().unwrap()[before..].iter().map(|(name, ..)| name.clone()).collect();
    assert_eq!(names, ["nowhere.example.", "nowhere.other.", "nowhere."]);
}

#[tokio::test]
async fn what_does_not_fit_comes_over_tcp_and_forged_replies_do_not_count() {
    let (resolver, asked) = resolver().await;
    let answer = resolver.lookup("long.example.", Family::V4Only).await.unwrap();
    assert_eq!(answer.addresses.len(), 100);
    let how: Vec<bool> = asked.lock().unwrap().iter().map(|(.., tcp)| *tcp).collect();
    assert_eq!(how, [false, true]);
    let answer = resolver.lookup("forged.example.", Family::V4Only).await.unwrap();
    assert_eq!(shown(&answer.addresses), ["10.0.0.4"]);
}

#[tokio::test]
async fn a_server_that_fails_is_passed_over_and_its_failure_not_remembered() {
    let (at, asked) = server().await;
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let resolver = Resolver::new(config(vec![nobody, at]));
    assert!(resolver.lookup("web.example.", Family::V4Only).await.is_ok());
    for _ in 0..2 {
        let error = resolver.lookup("broken.example.", Family::V4Only).await.unwrap_err();
        let LookupError::Unanswered(why) = &error else { panic!("{error:?}") };
        assert!(why.starts_with(&at.to_string()) && !error.is_answer(), "{why}");
    }
    assert_eq!(asked.lock().unwrap().len(), 3);
    let quick = Config { timeout: Duration::from_millis(20), ..config(vec![at]) };
    let error = Resolver::new(quick).lookup("silent.example.", Family::V4Only).await.unwrap_err();
    assert_eq!(error.to_string(), format!("no answer: {at}: silent for 20ms"));
}

#[tokio::test]
async fn no_more_lookups_are_under_way_than_allowed() {
    let (at, asked) = server().await;
    let resolver = Resolver::new(config(vec![at]));
    let under_way: Vec<_> = (0..limits::LOOKUPS)
        .map(|_| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.lookup("silent.example.", Family::V4Only).await })
        })
        .collect();
    while asked.lock().unwrap().len() < limits::LOOKUPS {
        tokio::task::yield_now().await;
    }
    assert_eq!(resolver.lookup("web.example.", Family::V4Only).await, Err(LookupError::Busy));
    for lookup in &under_way {
        lookup.abort();
    }
    for lookup in under_way {
        assert!(lookup.await.unwrap_err().is_cancelled());
    }
    assert!(resolver.lookup("web.example.", Family::V4Only).await.is_ok(), "room is given back");
}

#[tokio::test]
async fn this_host_s_own_files() {
    let resolver = Resolver::system(None).unwrap();
    assert!(!resolver.lookup("localhost", Family::V4Preferred).await.unwrap().addresses.is_empty());
}

proptest! {
    /// Any bytes as a reply, and any true reply with bytes changed: an answer, a failure or nothing, never a panic.
    #[test]
    fn replies_of_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600), cut in any::<usize>(), at in any::<usize>(), to in any::<u8>()) {
        let question = Question::new("alias.example", Kind::V4).unwrap();
        question.read(&bytes);
        let asked = Message::from_vec(&question.bytes).unwrap();
        let mut reply = replies(&asked, false)[0].to_vec().unwrap();
        let at = at % reply.len();
        reply[at] = to;
        question.read(&reply);
        question.read(&reply[..cut % reply.len()]);
    }
}
