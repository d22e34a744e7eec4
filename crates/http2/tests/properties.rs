//! What holds for all bytes and all interleavings.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::HashMap;

use bytes::{Buf as _, Bytes};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use ostro_engine::{Headers, Request};
use ostro_http2::{Config, Event, FloodLimits, PREFACE, StreamId};
use proptest::prelude::*;
use support::*;

fn config() -> Config {
    Config {
        stream_window: 65_535,
        connection_window: 100_000,
        max_concurrent_streams: 5,
        head_bytes: 2000,
        head_fields: 20,
        limits: FloodLimits { consecutive_empty_frames: 5, ..FloodLimits::default() },
        ..Config::default()
    }
}

/// A frame that is right more often than not, and about one of a few streams.
fn some_frame() -> impl Strategy<Value = Vec<u8>> {
    let stream = prop_oneof![4 => Just(1_u32), 4 => Just(3), 4 => Just(5), 1 => 0_u32..12];
    let payload = prop_oneof![
        3 => Just(block(GET)),
        3 => Just(block(POST)),
        2 => Just(block(OK)),
        2 => Just(block(&[("x-a", "b"), ("content-length", "3")])),
        2 => Just(b"\x82\x86\x84\x41\x01a\x40\x02ab\x01c\xbe".to_vec()),
        2 => prop::collection::vec(any::<u8>(), 0..40),
        2 => any::<u32>().prop_map(|number| number.to_be_bytes().to_vec()),
        1 => any::<[u8; 8]>().prop_map(|number| number.to_vec()),
        1 => (0_u16..10, 0_u32..100_000).prop_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()),
        1 => (1_usize..17_000).prop_map(|size| vec![0; size]),
    ];
    let kind = prop_oneof![6 => Just(HEADERS), 4 => Just(DATA), 4 => 0_u8..10, 1 => any::<u8>()];
    let flags = prop_oneof![6 => Just(4_u8), 6 => Just(5), 4 => Just(0), 4 => Just(1), 2 => any::<u8>()];
    (kind, flags, stream, payload)
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, payload))
}

/// Everything that comes out of a side that is fed in pieces: events, answers, and the error if there is one.
fn story(side: &mut Side, bytes: &[u8], cuts: &[usize]) -> (Vec<String>, Vec<u8>) {
    let (mut events, mut rest, mut cuts) = (Vec::new(), bytes, cuts.iter().cycle());
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
        rest = tail;
        side.input.extend_from_slice(piece);
        loop {
            match side.connection.receive(&mut side.input) {
                Ok(None) => break,
                Ok(Some(event)) => events.push(format!("{event:?}")),
                Err(error) => {
                    events.push(error.to_string());
                    return (events, side.bytes());
                }
            }
        }
    }
    (events, side.bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_same_bytes_mean_the_same_however_they_are_cut(
        frames in prop::collection::vec(some_frame(), 0..40),
        cuts in prop::collection::vec(prop_oneof![1_usize..20, 1_usize..20_000], 1..20),
        is_server in any::<bool>(),
    ) {
        let make = || if is_server { Side::server(config()) } else { client_with_streams() };
        let bytes = frames.concat();
        let whole = story(&mut make(), &bytes, &[usize::MAX]);
        let cut = story(&mut make(), &bytes, &cuts);
        prop_assert_eq!(whole, cut);
    }

    #[test]
    fn anything_at_all_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..400), begin in 0_usize..3) {
        let hello = [PREFACE.to_vec(), settings(&[])].concat();
        let mut side = Side::raw_server(config());
        let all = [&hello[..[0, PREFACE.len(), hello.len()][begin]], &bytes].concat();
        story(&mut side, &all, &[usize::MAX]);
    }
}

fn client_with_streams() -> Side {
    let mut side = Side::client(config());
    for method in [Method::GET, Method::HEAD, Method::POST] {
        let request = Request::new(method, HeaderValue::from_static("a"), HeaderValue::from_static("/"));
        side.connection.send_request(&request, None, false).unwrap();
    }
    side.sent();
    side
}

/// One step of a conversation.
#[derive(Clone, Debug)]
enum Step {
    Open,
    Client(usize, usize, bool),
    Server(usize, usize, bool),
    /// So many bytes travel to the server, or to the client.
    ToServer(usize),
    ToClient(usize),
    Consume(usize),
    Reset(usize),
}

fn some_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Open),
        6 => (0_usize..5, 0_usize..40_000, prop::bool::weighted(0.1)).prop_map(|(a, b, c)| Step::Client(a, b, c)),
        6 => (0_usize..5, 0_usize..40_000, prop::bool::weighted(0.1)).prop_map(|(a, b, c)| Step::Server(a, b, c)),
        6 => (1_usize..50_000).prop_map(Step::ToServer),
        6 => (1_usize..50_000).prop_map(Step::ToClient),
        3 => (0_usize..60_000).prop_map(Step::Consume),
        1 => (0_usize..5).prop_map(Step::Reset),
    ]
}

/// What one side knows of the streams: what it sent, what it received.
#[derive(Default)]
struct Ledger {
    streams: Vec<StreamId>,
    sent: HashMap<u32, Vec<u8>>,
    received: HashMap<u32, Vec<u8>>,
    ended: HashMap<u32, bool>,
    unconsumed: Vec<(StreamId, usize)>,
    reset: HashMap<u32, bool>,
}

impl Ledger {
    fn note(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Data { stream, data, end } => {
                    self.received.entry(stream.number()).or_default().extend_from_slice(&data);
                    self.ended.insert(stream.number(), end);
                    self.unconsumed.push((stream, data.len()));
                }
                Event::Reset { stream, .. } => {
                    self.reset.insert(stream.number(), true);
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, side: &mut Side, which: usize, size: usize, end: bool) {
        let Some(stream) = self.streams.get(which).copied() else { return };
        if side.connection.capacity(stream) == 0 {
            return;
        }
        let log = self.sent.entry(stream.number()).or_default();
        let data: Vec<u8> = (0..size).map(|place| (log.len() + place) as u8).collect();
        if side.connection.send_data(stream, Bytes::from(data.clone()), end).is_ok() {
            log.extend_from_slice(&data);
        }
    }
}

/// Moves at most so many bytes.
fn travel(from: &mut Side, to: &mut Side, most: usize) -> Vec<Event> {
    let output = from.connection.output();
    let bytes = output.copy_to_bytes(most.min(output.remaining()));
    to.feed(bytes).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Two sides of ours talk while bytes dawdle; neither ever takes the other to be at fault, whose windows would be
    /// the first to be hurt, and what arrives is what was sent, in order.
    #[test]
    fn windows_are_kept_and_data_arrives_whatever_the_order(steps in prop::collection::vec(some_step(), 0..150)) {
        let mut client = Side::client(config());
        let mut server = Side::server(config());
        server.feed(settings(&[(4, 65_535)])).unwrap();
        client.feed(settings(&[(4, 65_535)])).unwrap();
        let (mut ours, mut theirs) = (Ledger::default(), Ledger::default());
        for step in steps {
            match step {
                Step::Open if ours.streams.len() < 5 => {
                    let request = Request::new(Method::POST, HeaderValue::from_static("a"), HeaderValue::from_static("/"));
                    ours.streams.push(client.connection.send_request(&request, None, false).unwrap());
                }
                Step::Open => {}
                Step::Client(which, size, end) => ours.send(&mut client, which, size, end),
                Step::Server(which, size, end) => theirs.send(&mut server, which, size, end),
                Step::ToServer(most) => {
                    let events = travel(&mut client, &mut server, most);
                    for event in &events {
                        if let Event::Request { stream, .. } = event {
                            // It may have been reset by what came behind it.
                            let sent = server.connection.send_response(
                                *stream,
                                StatusCode::OK,
                                &Headers::default(),
                                false,
                            );
                            if sent.is_ok() {
                                theirs.streams.push(*stream);
                            }
                        }
                    }
                    theirs.note(events);
                }
                Step::ToClient(most) => ours.note(travel(&mut server, &mut client, most)),
                Step::Consume(bytes) => {
                    for (side, ledger) in [(&mut client, &mut ours), (&mut server, &mut theirs)] {
                        let mut left = bytes;
                        while let Some((stream, size)) = ledger.unconsumed.pop() {
                            let now = size.min(left);
                            side.connection.consumed(stream, now);
                            left -= now;
                            if size > now {
                                ledger.unconsumed.push((stream, size - now));
                                break;
                            }
                        }
                    }
                }
                Step::Reset(which) => {
                    if let Some(stream) = ours.streams.get(which) {
                        client.connection.reset(*stream, ostro_http2::ErrorCode::CANCEL);
                        ours.reset.insert(stream.number(), true);
                    }
                }
            }
        }
        for (sender, receiver) in [(&ours, &theirs), (&theirs, &ours)] {
            for (stream, received) in &receiver.received {
                prop_assert!(sender.sent[stream].starts_with(received));
                if receiver.ended[stream] {
                    prop_assert_eq!(received, &sender.sent[stream]);
                }
            }
        }
        finish(&mut client, &mut server, &mut ours, &mut theirs);
        for (sender, receiver) in [(&ours, &theirs), (&theirs, &ours)] {
            for (stream, sent) in &sender.sent {
                if !ours.reset.contains_key(stream) && !theirs.reset.contains_key(stream) {
                    prop_assert_eq!(sent.len(), receiver.received.get(stream).map_or(0, Vec::len), "nothing is stuck");
                }
            }
        }
    }
}

/// Everything is consumed and travels, until nothing moves any more.
fn finish(client: &mut Side, server: &mut Side, ours: &mut Ledger, theirs: &mut Ledger) {
    loop {
        for (side, ledger) in [(&mut *client, &mut *ours), (&mut *server, &mut *theirs)] {
            for (stream, size) in ledger.unconsumed.drain(..) {
                side.connection.consumed(stream, size);
            }
        }
        let idle = !client.connection.output().has_remaining() && !server.connection.output().has_remaining();
        if idle {
            return;
        }
        theirs.note(travel(client, server, usize::MAX));
        ours.note(travel(server, client, usize::MAX));
    }
}

proptest! {
    /// Heads of ours come out as they went in, whatever the tables hold by then.
    #[test]
    fn heads_come_out_as_they_went_in(
        heads in prop::collection::vec((
            "[A-Z]{1,8}",
            "/[!-\"$-~]{0,30}",
            "[a-z0-9.:-]{0,20}",
            prop::collection::vec(("x-[a-e]{1,2}|accept|user-agent|content-type", "[!-~]([ -~]{0,30}[!-~])?|"), 0..12),
        ), 1..10),
        huffman in any::<bool>(),
    ) {
        let config = Config { huffman, head_bytes: 60_000, head_fields: 100, ..config() };
        let mut client = Side::client(config.clone());
        let mut server = Side::server(config);
        for (method, path, authority, fields) in heads {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            prop_assume!(method != Method::CONNECT);
            let mut request = Request::new(method, authority.try_into().unwrap(), path.try_into().unwrap());
            for (name, value) in fields {
                request.headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
            }
            let stream = client.connection.send_request(&request, None, true).unwrap();
            let events = server.feed(client.bytes()).unwrap();
            let Event::Request { stream: theirs, head, .. } = &events[0] else { panic!("{events:?}") };
            prop_assert_eq!((&head.request.method, &head.request.path), (&request.method, &request.path));
            prop_assert_eq!((&head.request.authority, &head.request.headers), (&request.authority, &request.headers));
            server.connection.send_response(*theirs, StatusCode::CREATED, &request.headers, true).unwrap();
            let events = client.feed(server.bytes()).unwrap();
            let Event::Response { head, .. } = &events[0] else { panic!("{events:?}") };
            prop_assert_eq!((head.status, &head.headers), (StatusCode::CREATED, &request.headers));
            client.connection.reset(stream, ostro_http2::ErrorCode::CANCEL);
        }
    }
}
