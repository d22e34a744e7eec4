//! HTTP/2 without sockets: whatever comes on a connection, in either role.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf as _, BytesMut};
use http::{HeaderValue, Method, StatusCode};
use ostro_engine::{Headers, Request};
use ostro_http2::{Config, Connection, Event, PREFACE};

use crate::cut::Cut;

/// Enough for a few streams, little enough for limits to be reached.
fn config() -> Arc<Config> {
    Arc::new(Config {
        stream_window: 65_535,
        connection_window: 65_535,
        max_concurrent_streams: 4,
        head_bytes: 4096,
        head_fields: 32,
        allow_connect: true,
        ..Config::default()
    })
}

fn server() -> Connection {
    Connection::server(config(), Instant::now())
}

fn client() -> Connection {
    let mut client = Connection::client(config(), Instant::now());
    for method in [Method::GET, Method::HEAD, Method::POST] {
        let request = Request::new(method, HeaderValue::from_static("a"), HeaderValue::from_static("/"));
        let _ = client.send_request(&request, None, false);
    }
    client
}

fn check(headers: &Headers) {
    for (name, value) in headers.iter() {
        assert!(!name.as_str().bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' ' || byte == b':'));
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        assert!(!matches!(name.as_str(), "connection" | "transfer-encoding" | "upgrade" | "keep-alive"));
    }
}

/// What the connection makes of bytes that come in such pieces.
fn drive(mut connection: Connection, bytes: &[u8], piece: usize) -> (Vec<String>, Vec<u8>) {
    let (mut input, mut said, mut kept, mut written) = (BytesMut::new(), Vec::new(), 0, Vec::new());
    for piece in bytes.chunks(piece) {
        input.extend_from_slice(piece);
        loop {
            let event = match connection.receive(&mut input) {
                Ok(None) => break,
                Ok(Some(event)) => event,
                Err(error) => {
                    said.push(error.to_string());
                    return (said, written);
                }
            };
            said.push(format!("{event:?}"));
            match event {
                Event::Request { stream, head, end } => {
                    check(&head.request.headers);
                    let target = [head.request.path.as_bytes(), head.request.authority.as_bytes()].concat();
                    assert!(target.iter().all(u8::is_ascii_graphic));
                    let _ = connection.send_response(stream, StatusCode::OK, &head.request.headers, end);
                }
                Event::Response { head, .. } | Event::Interim { head, .. } => check(&head.headers),
                Event::Trailers { trailers, .. } => check(&trailers),
                Event::Data { stream, data, end } => {
                    kept += data.len();
                    assert!(kept <= 65_535, "more than the window");
                    if data.len() % 3 == 0 {
                        kept -= data.len();
                        connection.consumed(stream, data.len());
                    }
                    let _ = connection.send_data(stream, data, end);
                }
                Event::TooLarge { stream, .. } => connection.reset(stream, ostro_http2::ErrorCode::CANCEL),
                _ => {}
            }
        }
        if input.len() > (1 << 14) + 9 {
            panic!("a frame that waits although it is whole");
        }
    }
    let output = connection.output();
    written.extend_from_slice(&output.copy_to_bytes(output.remaining()));
    (said, written)
}

/// No panic, the same events however it is cut, no more kept than the windows allow, and nothing handed out that HTTP/1
/// could misread.
pub(crate) fn run(input: &[u8]) {
    let mut cut = Cut::new(input);
    let (kind, piece) = (cut.byte(), usize::from(cut.byte()) + 1);
    let bytes = cut.rest();
    let (make, bytes): (fn() -> Connection, Vec<u8>) = match kind % 3 {
        0 => (server, bytes.to_vec()),
        1 => (server, [&hello()[..], bytes].concat()),
        _ => (client, [&hello()[PREFACE.len()..], bytes].concat()),
    };
    let whole = drive(make(), &bytes, usize::MAX);
    let pieces = drive(make(), &bytes, piece);
    assert_eq!(whole, pieces);
}

/// What every client begins with; and, without the preface, every server.
pub(crate) fn hello() -> Vec<u8> {
    [PREFACE.as_slice(), b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0"].concat()
}

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short seed").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET http://a/`, by HPACK's table, with a field of its own.
pub(crate) const GET: &[u8] = b"\x82\x86\x84\x41\x01a\x40\x03x-a\x01b";

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let post = [
        frame(1, 4, 1, b"\x83\x86\x84\x41\x01a"),
        frame(0, 8, 1, b"\x02hello\0\0"),
        frame(1, 5, 1, b"\0\x01t\x01v"),
    ];
    let many = [frame(1, 5, 1, GET), frame(1, 5, 3, b"\x82\x86\x84\xbe\xbf"), frame(3, 0, 3, &[0, 0, 0, 8])];
    let control = [
        frame(4, 0, 0, b"\0\x01\0\0\0\x10\0\x04\0\0\0\x10"),
        frame(6, 0, 0, b"ping1234"),
        frame(8, 0, 0, &[0, 0, 1, 0]),
        frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
    ];
    let split = [frame(1, 0, 1, &GET[..3]), frame(9, 4, 1, &GET[3..]), frame(0, 1, 1, b"")];
    let answer = [frame(1, 4, 1, b"\x88\x5c\x015"), frame(0, 1, 1, b"hello"), frame(1, 5, 3, b"\x88")];
    vec![
        [&[0, 7][..], &hello(), &post.concat()].concat(),
        [&[1, 3][..], &many.concat()].concat(),
        [&[1, 200][..], &control.concat()].concat(),
        [&[1, 0][..], &split.concat()].concat(),
        [&[2, 9][..], &answer.concat()].concat(),
    ]
}
