//! The name server between a pod and the host's name servers, in real namespaces. Needs root, as they do.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ostro_local::dns;
use ostro_local::link::{self, GATEWAY};
use ostro_local::place::Place;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: 10.96.3.3, ports: [{port: 80}]}\n";

/// A pod, the mesh with its name server, and a host whose `resolv.conf` is a file of ours.
struct Ground {
    pod: Place,
    _mesh: Place,
    host: Place,
    resolv_conf: tempfile::NamedTempFile,
}

impl Ground {
    async fn lay(resolv_conf: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), resolv_conf).unwrap();
        let host = Place::open("host", || Ok(())).unwrap();
        let mesh = Place::open("mesh", || Ok(())).unwrap();
        let pod = Place::open("pod", || Ok(())).unwrap();
        // For its loopback.
        link::ground(&host).await.unwrap();
        link::ground(&mesh).await.unwrap();
        link::attach(&mesh, &pod, 1, POD).await.unwrap();
        let parsed = ostro_api::parse_file("mesh.yaml", SERVICE.as_bytes());
        let (_, zone) = watch::channel(Arc::new(dns::zone(&parsed.objects, &[], false)));
        let addresses = vec![IpAddr::V4(GATEWAY)];
        dns::serve(&mesh, host.handle(), addresses, zone, file.path().to_owned()).await.unwrap();
        Self { pod, _mesh: mesh, host, resolv_conf: file }
    }

    fn set_resolv_conf(&self, text: &str) {
        // A new file, as editors and network managers make one.
        let new = tempfile::NamedTempFile::new_in(self.resolv_conf.path().parent().unwrap()).unwrap();
        std::fs::write(new.path(), text).unwrap();
        std::fs::rename(new.path(), self.resolv_conf.path()).unwrap();
    }

    /// Asks over UDP, from the pod.
    async fn ask(&self, question: Message) -> Message {
        let ask = async move {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
            socket.connect((GATEWAY, dns::PORT)).await?;
            socket.send(&question.to_vec().unwrap()).await?;
            let mut reply = vec![0; 65_536];
            let length = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut reply)).await??;
            let reply = Message::from_vec(&reply[..length]).unwrap();
            assert_eq!(reply.metadata.id, question.metadata.id);
            std::io::Result::Ok(reply)
        };
        self.pod.spawn(ask).await.unwrap().unwrap()
    }

    async fn name(&self, name: &str) -> (ResponseCode, Vec<String>) {
        let reply = self.ask(question(name, RecordType::A)).await;
        let data = reply.answers.iter().map(|record| record.data.to_string()).collect();
        (reply.metadata.response_code, data)
    }

    /// A name server of the host's.
    async fn server(&self, at: Ipv4Addr, answers: Answers) {
        let at = SocketAddr::from((at, dns::PORT));
        let serve = async move {
            let (udp, tcp) = (UdpSocket::bind(at).await.unwrap(), TcpListener::bind(at).await.unwrap());
            let by_tcp = answers.clone();
            tokio::spawn(async move {
                let mut bytes = vec![0; 4096];
                loop {
                    let (length, from) = udp.recv_from(&mut bytes).await.unwrap();
                    if let Some(reply) = reply(&answers, &bytes[..length], false) {
                        udp.send_to(&reply, from).await.unwrap();
                    }
                }
            });
            tokio::spawn(async move {
                loop {
                    let (mut stream, _) = tcp.accept().await.unwrap();
                    let question = read(&mut stream).await;
                    let reply = reply(&by_tcp, &question, true).unwrap();
                    stream.write_all(&framed(&reply)).await.unwrap();
                }
            });
        };
        self.host.spawn(serve).await.unwrap();
    }
}

/// What a server says of names; of others it says nothing at all.
type Answers = BTreeMap<&'static str, Said>;

#[derive(Clone, Copy)]
enum Said {
    Address(Ipv4Addr),
    /// 1,000 bytes: more than fits.
    Long,
    Fails,
    No,
}

fn reply(answers: &Answers, question: &[u8], tcp: bool) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).unwrap();
    let name = question.queries[0].name.clone();
    let said = answers.get(name.to_ascii().as_str())?;
    let mut reply = question.into_response();
    match said {
        Said::Address(address) => {
            reply.add_answer(Record::from_rdata(name, 60, RData::A(A(*address))));
        }
        Said::Long if tcp => {
            let text = vec!["x".repeat(250); 4];
            reply.add_answer(Record::from_rdata(name, 60, RData::TXT(TXT::new(text))));
        }
        Said::Long => reply.metadata.truncation = true,
        Said::Fails => reply.metadata.response_code = ResponseCode::ServFail,
        Said::No => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    Some(reply.to_vec().unwrap())
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap();
    [&length.to_be_bytes(), message].concat()
}

async fn read(stream: &mut TcpStream) -> Vec<u8> {
    let mut message = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut message).await.unwrap();
    message
}

#[tokio::test]
async fn names_of_others_are_asked_of_the_hosts_servers() {
    let ground = Ground::lay("nameserver 127.0.0.1\nnameserver 127.0.0.2\n").await;
    let outside = Ipv4Addr::new(192, 0, 2, 80);
    let first = Answers::from([
        ("www.example.com.", Said::Address(outside)),
        ("none.example.com.", Said::No),
        ("fails.example.com.", Said::Fails),
        ("hopeless.example.com.", Said::Fails),
    ]);
    ground.server(FIRST, first).await;
    let second = Answers::from([
        ("fails.example.com.", Said::Address(outside)),
        ("silent.example.com.", Said::Address(outside)),
        ("hopeless.example.com.", Said::Fails),
    ]);
    ground.server(SECOND, second).await;

    let found = (ResponseCode::NoError, vec![outside.to_string()]);
    assert_eq!(ground.name("web.shop.svc.cluster.local.").await.1, ["10.96.3.3"], "the mesh's own");
    assert_eq!(ground.name("www.example.com.").await, found);
    assert_eq!(ground.name("none.example.com.").await, (ResponseCode::NXDomain, vec![]));
    assert_eq!(ground.name("fails.example.com.").await, found, "the second knows");
    assert_eq!(ground.name("silent.example.com.").await, found, "the second knows");
    assert_eq!(ground.name("hopeless.example.com.").await, (ResponseCode::ServFail, vec![]));
}

#[tokio::test]
async fn without_a_server_that_answers_the_pod_is_told_so() {
    let ground = Ground::lay("search example.com\n").await;
    let failed = (ResponseCode::ServFail, vec![]);
    let begun = Instant::now();
    assert_eq!(ground.name("www.example.com.").await, failed, "no server is known");
    ground.set_resolv_conf("nameserver 127.0.0.2\n");
    assert_eq!(ground.name("www.example.com.").await, failed, "nobody listens");
    assert!(begun.elapsed() < Duration::from_secs(1), "both are known at once");
    ground.server(SECOND, Answers::new()).await;
    assert_eq!(ground.name("www.example.com.").await, failed, "the server is silent");
    assert!(begun.elapsed() < Duration::from_secs(5), "before the pod gives up");

    let known = Answers::from([("www.example.com.", Said::Address(POD))]);
    ground.server(FIRST, known).await;
    ground.set_resolv_conf("nameserver 127.0.0.1\n");
    assert_eq!(ground.name("www.example.com.").await.1, [POD.to_string()], "the file was read again");
}

#[tokio::test]
async fn long_answers_are_fetched_by_tcp_and_cut_for_who_asked_by_udp() {
    let ground = Ground::lay("nameserver 127.0.0.1\n").await;
    ground.server(FIRST, Answers::from([("long.example.com.", Said::Long)])).await;
    let asked = question("long.example.com.", RecordType::TXT);
    let cut = ground.ask(asked.clone()).await;
    assert!(cut.metadata.truncation && cut.answers.is_empty(), "{cut}");

    let mut takes_more = asked.clone();
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    takes_more.set_edns(edns);
    let whole = ground.ask(takes_more).await;
    assert!(!whole.metadata.truncation && whole.answers.len() == 1, "{whole}");

    let by_tcp = async move {
        let mut stream = TcpStream::connect((GATEWAY, dns::PORT)).await.unwrap();
        stream.write_all(&framed(&asked.to_vec().unwrap())).await.unwrap();
        Message::from_vec(&read(&mut stream).await).unwrap()
    };
    let whole = ground.pod.spawn(by_tcp).await.unwrap();
    assert!(!whole.metadata.truncation && whole.answers.len() == 1, "{whole}");
}

#[tokio::test]
async fn many_questions_of_one_connection_do_not_wait_for_each_other() {
    let ground = Ground::lay("nameserver 127.0.0.1\n").await;
    // It never answers.
    ground.server(FIRST, Answers::new()).await;
    let ask = async {
        let mut stream = TcpStream::connect((GATEWAY, dns::PORT)).await.unwrap();
        let slow = question("silent.example.com.", RecordType::A);
        let quick = question("web.shop.svc.cluster.local.", RecordType::A);
        let both = [framed(&slow.to_vec().unwrap()), framed(&quick.to_vec().unwrap())].concat();
        stream.write_all(&both).await.unwrap();
        let first = Message::from_vec(&read(&mut stream).await).unwrap();
        assert_eq!((first.metadata.id, first.answers.len()), (quick.metadata.id, 1));
        let second = Message::from_vec(&read(&mut stream).await).unwrap();
        assert_eq!(second.metadata.id, slow.metadata.id);
        assert_eq!(second.metadata.response_code, ResponseCode::ServFail);
        // What is no question ends the connection.
        stream.write_all(&framed(b"nonsense")).await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    };
    ground.pod.spawn(ask).await.unwrap();
}
