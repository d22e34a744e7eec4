//! Against the `h2` crate, in both roles: what we say it understands, and the other way round.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::HashMap;
use std::time::Instant;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode};
use ostro_engine::{Headers, Request};
use ostro_http2::{Config, Connection, Event, StreamId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

const BODY_BYTES: usize = 3 << 20;
const STREAMS: usize = 200;

fn config() -> Config {
    Config { max_concurrent_streams: 300, huffman: true, ..Config::default() }
}

/// A connection of ours on a pipe.
struct Driver {
    connection: Connection,
    pipe: DuplexStream,
    input: BytesMut,
}

impl Driver {
    fn new(connection: Connection, pipe: DuplexStream) -> Driver {
        Driver { connection, pipe, input: BytesMut::new() }
    }

    /// Writes all there is, then waits for events, or until a stream takes data again. `None`: the peer is gone.
    async fn events(&mut self) -> Option<Vec<Event>> {
        loop {
            let mut events = Vec::new();
            while let Some(event) = self.connection.receive(&mut self.input).unwrap() {
                events.push(event);
            }
            if !events.is_empty() {
                return Some(events);
            }
            self.flush().await;
            if std::iter::from_fn(|| self.connection.take_writable()).count() > 0 {
                return Some(events);
            }
            if self.pipe.read_buf(&mut self.input).await.unwrap() == 0 {
                return None;
            }
        }
    }

    async fn flush(&mut self) {
        while self.connection.output().has_remaining() {
            // The peer may be waiting for us to read while we write.
            let (mut reader, mut writer) = tokio::io::split(&mut self.pipe);
            let output = self.connection.output();
            tokio::select! {
                written = writer.write(output.chunk()) => {
                    output.advance(written.unwrap());
                }
                read = reader.read_buf(&mut self.input) => {
                    assert!(read.unwrap() > 0);
                }
            }
        }
    }
}

/// What every exchange says, so that each side can tell that it heard well.
fn fields(number: usize) -> Vec<(String, String)> {
    vec![
        ("x-number".to_string(), number.to_string()),
        ("x-same".to_string(), "always the same value".to_string()),
        ("x-empty".to_string(), String::new()),
        ("content-type".to_string(), "application/octet-stream".to_string()),
        (format!("x-name-{number}"), "a name of its own".repeat(number % 7)),
    ]
}

fn headers(number: usize) -> Headers {
    let fields = fields(number).into_iter();
    fields.map(|(name, value)| (name.try_into().unwrap(), value.try_into().unwrap())).collect()
}

fn check(number: usize, map: &http::HeaderMap) {
    for (name, value) in fields(number) {
        assert_eq!(map[&name], value);
    }
}

fn body(bytes: usize) -> Bytes {
    (0..bytes).map(|place| (place / 7) as u8).collect::<Vec<_>>().into()
}

/// An h2 server that sends every body back, with trailers.
async fn h2_echo(pipe: DuplexStream) {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(300).initial_window_size(100_000).initial_connection_window_size(200_000);
    let mut connection = builder.handshake::<_, Bytes>(pipe).await.unwrap();
    while let Some(accepted) = connection.accept().await {
        let (request, mut respond) = accepted.unwrap();
        tokio::spawn(async move {
            let number: usize = request.uri().path()[1..].parse().unwrap();
            check(number, request.headers());
            let mut response = http::Response::new(());
            for (name, value) in fields(number) {
                let name: http::HeaderName = name.try_into().unwrap();
                response.headers_mut().insert(name, value.try_into().unwrap());
            }
            let mut send = respond.send_response(response, false).unwrap();
            let mut body = request.into_body();
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                send.send_data(data, false).unwrap();
            }
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-trailer", HeaderValue::from_static("end"));
            send.send_trailers(trailers).unwrap();
        });
    }
}

#[tokio::test]
async fn our_client_and_an_h2_server() {
    let (pipe, theirs) = tokio::io::duplex(32 << 10);
    let server = tokio::spawn(h2_echo(theirs));
    let mut ours = Driver::new(Connection::client(config().into(), Instant::now()), pipe);
    let mut numbers = HashMap::new();
    let (mut got, mut done, mut next) = (HashMap::<StreamId, Vec<u8>>::new(), 0, 0);
    let (large, small) = (body(BODY_BYTES), body(1000));
    let mut waiting: Vec<(StreamId, Bytes)> = Vec::new();
    while done < STREAMS {
        while next < STREAMS && ours.connection.open_slots() > 0 {
            let path = format!("/{next}");
            let mut request =
                Request::new(Method::POST, HeaderValue::from_static("a"), path.try_into().unwrap());
            request.headers = headers(next);
            let stream = ours.connection.send_request(&request, None, false).unwrap();
            numbers.insert(stream, next);
            waiting.push((stream, if next == 7 { large.clone() } else { small.clone() }));
            next += 1;
        }
        waiting.retain_mut(|(stream, left)| {
            while ours.connection.capacity(*stream) > 0 {
                let piece = left.split_to(left.len().min(50_000));
                ours.connection.send_data(*stream, piece, left.is_empty()).unwrap();
                if left.is_empty() {
                    return false;
                }
            }
            true
        });
        for event in ours.events().await.unwrap() {
            match event {
                Event::Response { stream, head, end: false } => {
                    assert_eq!(head.status, StatusCode::OK);
                    let map = head.headers.into_iter().collect();
                    check(numbers[&stream], &map);
                }
                Event::Data { stream, data, end: false } => {
                    ours.connection.consumed(stream, data.len());
                    got.entry(stream).or_default().extend_from_slice(&data);
                }
                Event::Trailers { stream, trailers } => {
                    assert_eq!(trailers.get(&"x-trailer".try_into().unwrap()).unwrap(), "end");
                    let expected = if numbers[&stream] == 7 { &large } else { &small };
                    assert!(got.remove(&stream).unwrap() == *expected);
                    done += 1;
                }
                Event::Settings => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(ours.connection.active_streams(), 0);
    drop(ours);
    server.await.unwrap();
}

/// A server of ours that sends every body back, with trailers.
async fn our_echo(pipe: DuplexStream) {
    let config = Config { stream_window: 65_535, connection_window: 100_000, ..config() };
    let mut ours = Driver::new(Connection::server(config.into(), Instant::now()), pipe);
    let mut queues: HashMap<StreamId, (Vec<Bytes>, bool)> = HashMap::new();
    let trailers: Headers =
        [("x-trailer".try_into().unwrap(), HeaderValue::from_static("end"))].into_iter().collect();
    while let Some(events) = ours.events().await {
        for event in events {
            match event {
                Event::Request { stream, head, end: false } => {
                    let number: usize = head.request.path.to_str().unwrap()[1..].parse().unwrap();
                    check(number, &head.request.headers.into_iter().collect());
                    ours.connection
                        .send_interim(stream, StatusCode::from_u16(103).unwrap(), &headers(number))
                        .unwrap();
                    ours.connection.send_response(stream, StatusCode::OK, &headers(number), false).unwrap();
                    queues.insert(stream, Default::default());
                }
                Event::Data { stream, data, end } => {
                    let queue = queues.get_mut(&stream).unwrap();
                    queue.0.push(data);
                    queue.1 = end;
                }
                Event::Settings | Event::GoAway { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        queues.retain(|stream, (pieces, ended)| {
            while !pieces.is_empty() && ours.connection.capacity(*stream) > 0 {
                let piece = pieces.remove(0);
                ours.connection.consumed(*stream, piece.len());
                ours.connection.send_data(*stream, piece, false).unwrap();
            }
            if pieces.is_empty() && *ended {
                ours.connection.send_trailers(*stream, &trailers).unwrap();
            }
            !(pieces.is_empty() && *ended)
        });
    }
    assert_eq!(ours.connection.active_streams(), 0);
}

#[tokio::test]
async fn an_h2_client_and_our_server() {
    let (pipe, theirs) = tokio::io::duplex(32 << 10);
    let server = tokio::spawn(our_echo(pipe));
    let (send, connection) = h2::client::handshake(theirs).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut tasks = Vec::new();
    for number in 0..STREAMS {
        let mut send = send.clone().ready().await.unwrap();
        tasks.push(tokio::spawn(async move {
            let mut request = http::Request::post(format!("http://a/{number}")).body(()).unwrap();
            for (name, value) in fields(number) {
                let name: http::HeaderName = name.try_into().unwrap();
                request.headers_mut().insert(name, value.try_into().unwrap());
            }
            let sent = body(if number == 7 { BODY_BYTES } else { 1000 });
            let (response, mut stream) = send.send_request(request, false).unwrap();
            stream.send_data(sent.clone(), true).unwrap();
            let response = response.await.unwrap();
            check(number, response.headers());
            let mut body = response.into_body();
            let mut got = Vec::new();
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                got.extend_from_slice(&data);
            }
            assert!(got == sent);
            assert_eq!(body.trailers().await.unwrap().unwrap()["x-trailer"], "end");
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    drop(send);
    connection.await.unwrap().unwrap();
    server.await.unwrap();
}
