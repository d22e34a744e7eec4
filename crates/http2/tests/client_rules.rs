//! What a client does about everything that a server may not do.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use bytes::Bytes;
use http::{HeaderValue, Method};
use ostro_engine::Request;
use ostro_http2::{Config, ErrorCode, Event, OpenError, Origin, StreamId};
use support::*;

const PROTOCOL: ErrorCode = ErrorCode::PROTOCOL_ERROR;

fn request(method: Method) -> Request {
    Request::new(method, HeaderValue::from_static("a"), HeaderValue::from_static("/"))
}

fn open(side: &mut Side, method: Method, end: bool) -> StreamId {
    side.connection.send_request(&request(method), None, end).unwrap()
}

fn response(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, block(fields))
}

/// What a server's frames for stream 1, which is open, make of the connection, and of the stream.
fn fate(method: Method, frames: &[Vec<u8>]) -> Result<Option<ErrorCode>, ErrorCode> {
    let mut side = Side::client(Config::default());
    let stream = open(&mut side, method, false);
    let events = side.feed(frames.concat()).map_err(|error| error.code)?;
    let sent = side.sent();
    let reset = events.iter().find_map(|event| match event {
        Event::Reset { stream: found, code, origin: Origin::Us, .. } if *found == stream => Some(*code),
        _ => None,
    });
    let told = sent.iter().find(|frame| frame.kind == RST_STREAM).map(|frame| ErrorCode(frame.number(0)));
    assert_eq!(reset, told, "the server is told the same");
    Ok(reset)
}

#[test]
fn streams_and_frames_that_no_server_sends() {
    for (name, frames) in [
        (
            "PUSH_PROMISE",
            vec![frame(PUSH_PROMISE, END_HEADERS, 1, [&[0, 0, 0, 2][..], &block(GET)].concat())],
        ),
        ("HEADERS of an idle stream", vec![response(3, 0, OK)]),
        ("DATA of an idle stream", vec![frame(DATA, 0, 3, b"x")]),
        ("HEADERS of a stream of its own", vec![response(2, 0, OK)]),
        ("RST_STREAM of an idle stream", vec![rst(3, 8)]),
        ("WINDOW_UPDATE of an idle stream", vec![window_update(3, 8)]),
        ("ENABLE_PUSH", vec![settings(&[(2, 1)])]),
    ] {
        assert_eq!(fate(Method::GET, &frames), Err(PROTOCOL), "{name}");
    }
    let mut side = Side::client(Config::default());
    side.connection.announce_drain();
    assert_eq!(side.sent()[0].kind, GOAWAY);
}

#[test]
fn something_before_settings() {
    let connection = ostro_http2::Connection::client(Default::default(), std::time::Instant::now());
    let mut side = Side { connection, input: Default::default() };
    assert_eq!(side.feed(ping(1)).unwrap_err().code, PROTOCOL);
    let first = side.bytes();
    assert!(first.starts_with(ostro_http2::PREFACE));
    let frames = frames(&first);
    let kinds: Vec<_> = frames.iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [SETTINGS, WINDOW_UPDATE, GOAWAY]);
    assert_eq!(frames[0].payload[..6], [0, 2, 0, 0, 0, 0], "no push");
}

#[test]
fn malformed_responses() {
    let with = |fields: &[(&str, &str)]| vec![response(1, END_STREAM, &[OK, fields].concat())];
    for (name, frames) in [
        ("no :status", vec![response(1, 0, &[("x", "y")])]),
        (":status twice", with(&[(":status", "200")])),
        (":status of two digits", vec![response(1, 0, &[(":status", "20")])]),
        (":status that is none", vec![response(1, 0, &[(":status", "2x0")])]),
        ("a request's pseudo-header", with(&[(":path", "/")])),
        ("an unknown pseudo-header", with(&[(":x", "/")])),
        (":status behind a field", vec![response(1, 0, &[("x", "y"), (":status", "200")])]),
        ("status 101", vec![response(1, 0, &[(":status", "101")])]),
        ("an interim response that ends", vec![response(1, END_STREAM, &[(":status", "100")])]),
        ("connection", with(&[("connection", "close")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("upper case", with(&[("X", "y")])),
        ("a line end in a value", with(&[("x", "a\r\nset-cookie: b")])),
        ("DATA before the head", vec![frame(DATA, 0, 1, b"x")]),
        ("DATA behind an interim head", vec![response(1, 0, &[(":status", "103")]), frame(DATA, 0, 1, b"x")]),
        ("a second head", vec![response(1, 0, OK), response(1, 0, OK)]),
        ("trailers with :status", vec![response(1, 0, OK), response(1, END_STREAM, OK)]),
        ("less than announced", with(&[("content-length", "1")])),
        (
            "more than announced",
            vec![response(1, 0, &[(":status", "200"), ("content-length", "1")]), frame(DATA, 0, 1, b"xy")],
        ),
        (
            "DATA of 304",
            vec![response(1, 0, &[(":status", "304"), ("content-length", "1")]), frame(DATA, 1, 1, b"x")],
        ),
        ("DATA of 204", vec![response(1, 0, &[(":status", "204")]), frame(DATA, 1, 1, b"x")]),
    ] {
        assert_eq!(fate(Method::GET, &frames), Ok(Some(PROTOCOL)), "{name}");
    }
    let closed = [vec![response(1, END_STREAM, OK)], vec![frame(DATA, 0, 1, b"x")]].concat();
    assert_eq!(fate(Method::GET, &closed), Ok(Some(ErrorCode::STREAM_CLOSED)));
    let head_with_body =
        [response(1, 0, &[(":status", "200"), ("content-length", "5")]), frame(DATA, 1, 1, b"hello")];
    assert_eq!(fate(Method::HEAD, &head_with_body), Ok(Some(PROTOCOL)));
}

#[test]
fn responses_that_are_fine() {
    let length = &[(":status", "200"), ("content-length", "5")][..];
    for (method, frames) in [
        (Method::HEAD, vec![response(1, END_STREAM, length)]),
        (Method::HEAD, vec![response(1, 0, length), frame(DATA, END_STREAM, 1, b"")]),
        (Method::GET, vec![response(1, 0, length), frame(DATA, END_STREAM, 1, b"hello")]),
        (Method::GET, vec![response(1, END_STREAM, &[(":status", "304"), ("content-length", "5")])]),
        (
            Method::GET,
            vec![
                response(1, 0, &[(":status", "103")]),
                response(1, 0, &[(":status", "100")]),
                response(1, 1, OK),
            ],
        ),
        (
            Method::GET,
            vec![
                response(1, 0, OK),
                frame(DATA, 0, 1, b"x"),
                response(1, END_STREAM, &[("grpc-status", "0")]),
            ],
        ),
    ] {
        assert_eq!(fate(method, &frames), Ok(None), "{frames:?}");
    }
}

#[test]
fn interim_responses_come_as_such_and_not_without_end() {
    let mut side = Side::client(Config::default());
    open(&mut side, Method::GET, true);
    let early = response(1, 0, &[(":status", "103"), ("link", "</a>")]);
    let events = side.feed(&early).unwrap();
    assert!(
        matches!(&events[0], Event::Interim { head, .. } if head.status == 103 && head.headers.len() == 1)
    );
    let events = side.feed(early.repeat(100)).unwrap();
    let calm = ErrorCode::ENHANCE_YOUR_CALM;
    assert!(matches!(events.last().unwrap(), Event::Reset { code, origin: Origin::Us, .. } if *code == calm));
}

#[test]
fn what_comes_late_for_a_reset_stream_is_ignored_and_given_back() {
    let mut side = Side::client(Config { connection_window: 65_535, ..Config::default() });
    let stream = open(&mut side, Method::GET, true);
    side.connection.reset(stream, ErrorCode::CANCEL);
    let insert = [&[0x88][..], b"\x40\x03x-a\x01b"].concat();
    let late = [
        frame(HEADERS, END_HEADERS, 1, insert),
        frame(DATA, 0, 1, [0; 16_384]),
        frame(DATA, 0, 1, [0; 16_384]),
        frame(DATA, END_STREAM, 1, [0; 1]),
        rst(1, 0),
    ];
    assert!(side.feed(late.concat()).unwrap().is_empty());
    let sent = side.sent();
    let updates: Vec<_> = sent.iter().filter(|frame| frame.kind == WINDOW_UPDATE).collect();
    assert_eq!((updates.len(), updates[0].stream, updates[0].number(0)), (1, 0, 32_768));
    open(&mut side, Method::GET, true);
    let events = side.feed(frame(HEADERS, END_HEADERS | END_STREAM, 3, b"\x88\xbe")).unwrap();
    assert!(
        matches!(&events[0], Event::Response { head, .. } if head.headers.len() == 1),
        "the table went on"
    );
}

#[test]
fn streams_are_opened_up_to_the_limit_of_either_side() {
    let config = Config { max_concurrent_streams: 200, ..Config::default() };
    let connection = ostro_http2::Connection::client(config.into(), std::time::Instant::now());
    let mut side = Side { connection, input: Default::default() };
    assert_eq!(side.connection.open_slots(), 100, "until it is known");
    let events = side.feed(settings(&[(3, 2)])).unwrap();
    assert!(matches!(events[..], [Event::Settings]));
    let first = open(&mut side, Method::GET, true);
    open(&mut side, Method::GET, true);
    assert_eq!(side.connection.open_slots(), 0);
    assert_eq!(side.connection.send_request(&request(Method::GET), None, true), Err(OpenError::Full));
    side.feed(response(first.number(), END_STREAM, OK)).unwrap();
    assert_eq!(side.connection.open_slots(), 1);
    side.feed(settings(&[])).unwrap();
    assert_eq!(side.connection.open_slots(), 1, "what is not said stays");
    side.feed(settings(&[(3, 1000)])).unwrap();
    assert_eq!((side.connection.open_slots(), side.connection.max_streams()), (199, 200));
}

#[test]
fn goaway_says_which_requests_may_be_sent_again() {
    let mut side = Side::client(Config::default());
    let streams: Vec<_> = (0..4).map(|_| open(&mut side, Method::GET, true)).collect();
    let goaway = |last: u32| frame(GOAWAY, 0, 0, [&last.to_be_bytes()[..], &[0, 0, 0, 0], b"bye"].concat());
    let events = side.feed(goaway(u32::MAX >> 1)).unwrap();
    assert!(matches!(&events[..], [Event::GoAway { debug, .. }] if debug == "bye"));
    assert_eq!(side.connection.send_request(&request(Method::GET), None, true), Err(OpenError::GoingAway));
    assert!(!side.connection.is_over());
    let events = side.feed(goaway(streams[1].number())).unwrap();
    let again: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Reset { stream, unprocessed: true, origin: Origin::Peer, .. } => Some(*stream),
            _ => None,
        })
        .collect();
    assert_eq!(again, streams[2..]);
    side.feed([response(1, END_STREAM, OK), response(3, END_STREAM, OK)].concat()).unwrap();
    assert!(side.connection.is_over());
}

#[test]
fn a_refused_stream_may_be_sent_again_and_another_not() {
    let mut side = Side::client(Config::default());
    open(&mut side, Method::GET, true);
    open(&mut side, Method::GET, true);
    let events =
        side.feed([rst(1, ErrorCode::REFUSED_STREAM.0), rst(3, ErrorCode::CANCEL.0)].concat()).unwrap();
    let again: Vec<_> =
        events.iter().map(|event| matches!(event, Event::Reset { unprocessed: true, .. })).collect();
    assert_eq!(again, [true, false]);
}

#[test]
fn what_http2_does_not_have_is_not_sent() {
    let mut side = Side::client(Config::default());
    let mut request = request(Method::POST);
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "a"),
        ("proxy-connection", "a"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "a"),
        ("host", "a"),
        ("te", "gzip"),
        ("te", "trailers"),
        ("x-a", "b"),
    ] {
        request.headers.append(http::HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let stream = side.connection.send_request(&request, None, false).unwrap();
    side.connection.send_data(stream, Bytes::from_static(b"x"), false).unwrap();
    let mut server = Side::server(Config::default());
    let events = server.feed(side.bytes()).unwrap();
    let Event::Request { head, .. } = &events[0] else { panic!("{events:?}") };
    let fields: Vec<_> =
        head.request.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    assert_eq!(fields, [("te", "trailers"), ("x-a", "b")]);
    assert_eq!((head.request.method.as_str(), head.request.authority.as_bytes()), ("POST", &b"a"[..]));
}
