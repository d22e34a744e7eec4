//! A host of the test's own, in namespaces, with a server and a name server that stand for the outside.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use ostro_local::place::Place;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::process::Command;

/// The server outside, by both of its addresses.
pub const SERVER: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 80), Ipv4Addr::new(192, 0, 2, 99)];
/// What the server says of itself.
pub const NAME: &str = "outside";
/// Names that it has.
const NAMES: [&str; 2] = ["www.outside.test.", "raw.outside.test."];
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);

/// A host with these servers; the mesh is to be brought up by tasks of it.
pub async fn host(resolv_conf: &Path) -> Place {
    std::fs::write(resolv_conf, format!("nameserver {NAME_SERVER}\n")).unwrap();
    let file = resolv_conf.to_owned();
    let install = move || Ok(rustix::mount::mount_bind(&file, Path::new("/etc/resolv.conf"))?);
    let host = Place::open("host", install).unwrap();
    host.spawn(async {
        ip("link set lo up").await;
        for address in SERVER {
            ip(&format!("address add {address}/32 dev lo")).await;
            tokio::spawn(http(TcpListener::bind((address, 80)).await.unwrap()));
            tokio::spawn(hello(TcpListener::bind((address, 9001)).await.unwrap()));
        }
        let names = UdpSocket::bind((NAME_SERVER, 53)).await.unwrap();
        tokio::spawn(answer_names(names));
    })
    .await
    .unwrap();
    host
}

async fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().await.unwrap();
    assert!(status.success(), "ip {arguments}");
}

async fn http(listener: TcpListener) -> io::Result<()> {
    loop {
        let (mut stream, from) = listener.accept().await?;
        tokio::spawn(async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await?);
            }
            let body = greeting(from);
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await
        });
    }
}

async fn hello(listener: TcpListener) -> io::Result<()> {
    loop {
        let (mut stream, from) = listener.accept().await?;
        stream.write_all(greeting(from).as_bytes()).await?;
    }
}

/// As the mesh's own echo server greets.
fn greeting(from: SocketAddr) -> String {
    format!("{{\"hostname\":\"{NAME}\",\"source\":\"{}\"}}\n", from.ip())
}

async fn answer_names(socket: UdpSocket) -> io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut bytes).await?;
        let question = Message::from_vec(&bytes[..length]).unwrap();
        let query = question.queries[0].clone();
        let mut reply = question.into_response();
        match NAMES.contains(&query.name.to_ascii().to_ascii_lowercase().as_str()) {
            true if query.query_type == RecordType::A => {
                reply.add_answer(Record::from_rdata(query.name, 60, RData::A(A(SERVER[0]))));
            }
            true => {}
            false => reply.metadata.response_code = ResponseCode::NXDomain,
        }
        socket.send_to(&reply.to_vec().unwrap(), from).await?;
    }
}
