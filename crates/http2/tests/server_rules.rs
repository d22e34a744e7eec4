//! What a server does about everything that a client may not do: the cases of h2spec, written down as frames and the
//! error that each must have, and those of RFC 9113 that h2spec does not know.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use ostro_http2::{Config, ErrorCode, Event, FloodLimits, OnMalformed};
use support::*;

/// What must come of some frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The connection fails, with GOAWAY.
    Connection(ErrorCode),
    /// The stream is reset.
    Stream(u32, ErrorCode),
    /// Nothing happens: a PING behind is answered, nothing is reset.
    Nothing,
}
use Fate::{Connection, Nothing, Stream};

const PROTOCOL: ErrorCode = ErrorCode::PROTOCOL_ERROR;
const CLOSED: ErrorCode = ErrorCode::STREAM_CLOSED;
const SIZE: ErrorCode = ErrorCode::FRAME_SIZE_ERROR;
const FLOW: ErrorCode = ErrorCode::FLOW_CONTROL_ERROR;
const COMPRESSION: ErrorCode = ErrorCode::COMPRESSION_ERROR;
const REFUSED: ErrorCode = ErrorCode::REFUSED_STREAM;

type Case = (&'static str, Vec<Vec<u8>>, Fate);

fn small() -> Config {
    Config {
        max_concurrent_streams: 3,
        stream_window: 65_535,
        connection_window: 100_000,
        limits: FloodLimits { consecutive_empty_frames: 10, ..FloodLimits::default() },
        ..Config::default()
    }
}

/// What becomes of a server that is sent these frames. Every request that it hears of is answered at once.
fn fate(frames: &[Vec<u8>]) -> Fate {
    let mut side = Side::server(small());
    let mut reset = None;
    let all = [frames.concat(), ping(7)].concat();
    side.input.extend_from_slice(&all);
    let error = loop {
        match side.connection.receive(&mut side.input) {
            Ok(None) => break None,
            Ok(Some(Event::Request { stream, head, .. })) => {
                if head.request.path != "/wait" {
                    let headers = Default::default();
                    side.connection.send_response(stream, http::StatusCode::OK, &headers, true).unwrap();
                }
            }
            Ok(Some(Event::Reset { stream, code, origin: ostro_http2::Origin::Us, .. })) => {
                reset = Some((stream.number(), code));
            }
            Ok(Some(_)) => {}
            Err(error) => break Some(error),
        }
    };
    let sent = side.sent();
    if let Some(error) = error {
        let last = sent.last().unwrap();
        assert_eq!((last.kind, last.number(4)), (GOAWAY, error.code.0));
        assert!(side.feed(ping(8)).is_err(), "it stays so");
        return Connection(error.code);
    }
    assert!(sent.iter().any(|f| f.kind == PING && f.flags == ACK && f.payload == 7_u64.to_be_bytes()));
    match sent.iter().find(|f| f.kind == RST_STREAM) {
        Some(f) => {
            let found = (f.stream, ErrorCode(f.number(0)));
            assert!(reset.is_none_or(|reset| reset == found), "the event says the same");
            Stream(found.0, found.1)
        }
        None => Nothing,
    }
}

fn check(cases: Vec<Case>) {
    for (name, frames, expected) in cases {
        assert_eq!(fate(&frames), expected, "{name}");
    }
}

fn data(stream: u32, flags: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(DATA, flags, stream, payload)
}

fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags, stream, block(fields))
}

/// A request that is not answered.
fn waiting(stream: u32, flags: u8) -> Vec<u8> {
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", "/wait"), (":authority", "a")];
    headers(stream, END_HEADERS | flags, &fields)
}

#[test]
fn section_3_4_preface() {
    let mut side = Side::raw_server(small());
    assert_eq!(side.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r").unwrap().len(), 0);
    assert_eq!(side.feed(b"\r").unwrap_err().code, PROTOCOL);
    assert_eq!(Side::raw_server(small()).feed(b"GET / HTTP/1.1\r\n").unwrap_err().code, PROTOCOL);
    for first in [ping(1), get(1), frame(SETTINGS, ACK, 0, []), window_update(0, 1), frame(0xee, 0, 0, [])] {
        let mut side = Side::raw_server(small());
        side.feed(ostro_http2::PREFACE).unwrap();
        assert_eq!(side.feed(&first).unwrap_err().code, PROTOCOL, "{first:?}");
    }
}

#[test]
fn section_4_frames() {
    let begun = frame(HEADERS, END_STREAM, 1, block(GET));
    check(vec![
        ("an unknown type", vec![frame(0x16, 0, 0, [0; 8])], Nothing),
        ("unknown flags", vec![frame(PING, 0x16, 0, [0; 8])], Nothing),
        ("the reserved bit", vec![frame(PING, 0, 1 << 31, [0; 8])], Nothing),
        ("the largest frame", vec![waiting(1, 0), data(1, END_STREAM, [0; 16_384])], Nothing),
        ("a larger DATA", vec![waiting(1, 0), data(1, 0, [0; 16_385])], Connection(SIZE)),
        ("a larger HEADERS", vec![frame(HEADERS, 5, 1, [0; 16_385])], Connection(SIZE)),
        ("a larger unknown frame", vec![frame(0xee, 0, 0, [0; 16_385])], Connection(SIZE)),
        ("a block that does not decode", vec![frame(HEADERS, 5, 1, b"\x40")], Connection(COMPRESSION)),
        ("PRIORITY within a block", vec![begun.clone(), frame(PRIORITY, 0, 1, [0; 5])], Connection(PROTOCOL)),
        ("another stream's HEADERS within a block", vec![begun.clone(), get(3)], Connection(PROTOCOL)),
        (
            "an unknown frame within a block",
            vec![begun.clone(), frame(0x16, 0, 1, [0; 8])],
            Connection(PROTOCOL),
        ),
        (
            "another stream's CONTINUATION",
            vec![begun, frame(CONTINUATION, END_HEADERS, 3, [])],
            Connection(PROTOCOL),
        ),
    ]);
}

#[test]
fn section_5_1_states() {
    let continuation = frame(CONTINUATION, END_HEADERS, 1, block(GET));
    let again = headers(1, 5, &[("x", "y")]);
    check(vec![
        ("idle: DATA", vec![data(1, END_STREAM, b"x")], Connection(PROTOCOL)),
        ("idle: RST_STREAM", vec![rst(1, 8)], Connection(PROTOCOL)),
        ("idle: WINDOW_UPDATE", vec![window_update(1, 100)], Connection(PROTOCOL)),
        ("idle: CONTINUATION", vec![continuation.clone()], Connection(PROTOCOL)),
        ("idle: PRIORITY", vec![frame(PRIORITY, 0, 1, [0, 0, 0, 3, 1])], Nothing),
        ("half closed: DATA", vec![waiting(1, END_STREAM), data(1, 1, b"x")], Stream(1, CLOSED)),
        ("half closed: HEADERS", vec![waiting(1, END_STREAM), again.clone()], Stream(1, CLOSED)),
        (
            "half closed: CONTINUATION",
            vec![waiting(1, END_STREAM), continuation.clone()],
            Connection(PROTOCOL),
        ),
        (
            "half closed: the rest",
            vec![waiting(1, 1), window_update(1, 1), frame(PRIORITY, 0, 1, [0; 5])],
            Nothing,
        ),
        ("reset: DATA", vec![waiting(1, 0), rst(1, 8), data(1, 1, b"x")], Stream(1, CLOSED)),
        ("reset: HEADERS", vec![waiting(1, 0), rst(1, 8), again.clone()], Stream(1, CLOSED)),
        ("reset: CONTINUATION", vec![waiting(1, 0), rst(1, 8), continuation.clone()], Connection(PROTOCOL)),
        ("reset: the rest", vec![waiting(1, 0), rst(1, 8), rst(1, 8), window_update(1, 1)], Nothing),
        ("ended: DATA", vec![get(1), data(1, 1, b"x")], Connection(CLOSED)),
        ("ended: HEADERS", vec![get(1), get(1)], Connection(CLOSED)),
        ("ended: CONTINUATION", vec![get(1), continuation], Connection(PROTOCOL)),
        ("ended: the rest", vec![get(1), window_update(1, 1), rst(1, 8)], Nothing),
        ("an even number", vec![get(2)], Connection(PROTOCOL)),
        ("a lower number", vec![get(5), get(3)], Connection(PROTOCOL)),
        ("a lower number's DATA", vec![get(5), data(3, 0, b"x")], Connection(PROTOCOL)),
        ("too many", [1, 3, 5, 7].map(|stream| waiting(stream, 0)).to_vec(), Stream(7, REFUSED)),
        (
            "too many, and go on",
            vec![waiting(1, 1), waiting(3, 1), waiting(5, 1), get(7), data(7, 1, b"x")],
            Stream(7, REFUSED),
        ),
        (
            "HEADERS of itself",
            vec![frame(HEADERS, 0x25, 1, [&[0, 0, 0, 1, 9][..], &block(GET)].concat())],
            Stream(1, PROTOCOL),
        ),
        (
            "PRIORITY of itself, open",
            vec![waiting(1, 0), frame(PRIORITY, 0, 1, [0, 0, 0, 1, 9])],
            Stream(1, PROTOCOL),
        ),
        ("PRIORITY of itself, idle", vec![frame(PRIORITY, 0, 1, [0, 0, 0, 1, 9])], Connection(PROTOCOL)),
    ]);
}

#[test]
fn section_6_frames_of_streams() {
    let padded = |kind, payload: &[u8]| frame(kind, 5 | PADDED, 1, payload);
    check(vec![
        ("DATA for stream 0", vec![waiting(1, 0), data(0, 1, b"x")], Connection(PROTOCOL)),
        ("DATA's padding", vec![waiting(1, 0), data(1, PADDED, [5, b'x', 0, 0, 0, 0, 0])], Nothing),
        ("DATA of padding", vec![waiting(1, 0), data(1, PADDED | 1, [2, 0, 0])], Nothing),
        ("too much of it", vec![waiting(1, 0), data(1, PADDED, [6, b'x', 0, 0, 0, 0])], Connection(PROTOCOL)),
        ("padding of nothing", vec![waiting(1, 0), data(1, PADDED, [])], Connection(PROTOCOL)),
        ("HEADERS for stream 0", vec![get(0)], Connection(PROTOCOL)),
        ("HEADERS' padding", vec![padded(HEADERS, &[&[1][..], &block(GET), &[0]].concat())], Nothing),
        (
            "too much of it",
            vec![padded(HEADERS, &[&[255][..], &block(GET), &[0]].concat())],
            Connection(PROTOCOL),
        ),
        (
            "HEADERS with priority",
            vec![frame(HEADERS, 0x25, 1, [&[0x80, 0, 0, 3, 9][..], &block(GET)].concat())],
            Nothing,
        ),
        ("with half of one", vec![frame(HEADERS, 0x25, 1, [0, 0, 0])], Connection(SIZE)),
        ("PRIORITY for stream 0", vec![frame(PRIORITY, 0, 0, [0; 5])], Connection(PROTOCOL)),
        ("PRIORITY of 4 bytes", vec![waiting(1, 0), frame(PRIORITY, 0, 1, [0; 4])], Stream(1, SIZE)),
        ("PRIORITY of 6 bytes", vec![frame(PRIORITY, 0, 1, [0; 6])], Connection(SIZE)),
        ("RST_STREAM for stream 0", vec![rst(0, 8)], Connection(PROTOCOL)),
        ("RST_STREAM of 3 bytes", vec![waiting(1, 0), frame(RST_STREAM, 0, 1, [0; 3])], Connection(SIZE)),
        ("RST_STREAM of 5 bytes", vec![waiting(1, 0), frame(RST_STREAM, 0, 1, [0; 5])], Connection(SIZE)),
        ("an unknown code", vec![waiting(1, 0), rst(1, 0xff)], Nothing),
        ("PUSH_PROMISE", vec![frame(PUSH_PROMISE, 4, 1, [0, 0, 0, 2])], Connection(PROTOCOL)),
    ]);
}

#[test]
fn section_6_frames_of_the_connection() {
    check(vec![
        ("SETTINGS for a stream", vec![frame(SETTINGS, 0, 1, [])], Connection(PROTOCOL)),
        ("SETTINGS of 3 bytes", vec![frame(SETTINGS, 0, 0, [0; 3])], Connection(SIZE)),
        ("an acknowledgement with some", vec![frame(SETTINGS, ACK, 0, [0; 6])], Connection(SIZE)),
        ("ENABLE_PUSH 2", vec![settings(&[(2, 2)])], Connection(PROTOCOL)),
        ("ENABLE_PUSH", vec![settings(&[(2, 0)]), settings(&[(2, 1)])], Nothing),
        ("INITIAL_WINDOW_SIZE 2^31", vec![settings(&[(4, 1 << 31)])], Connection(FLOW)),
        ("MAX_FRAME_SIZE 16,383", vec![settings(&[(5, 16_383)])], Connection(PROTOCOL)),
        ("MAX_FRAME_SIZE 2^24", vec![settings(&[(5, 1 << 24)])], Connection(PROTOCOL)),
        ("MAX_FRAME_SIZE", vec![settings(&[(5, 16_384), (5, (1 << 24) - 1)])], Nothing),
        ("ENABLE_CONNECT_PROTOCOL 2", vec![settings(&[(8, 2)])], Connection(PROTOCOL)),
        (
            "ENABLE_CONNECT_PROTOCOL taken back",
            vec![settings(&[(8, 1)]), settings(&[(8, 0)])],
            Connection(PROTOCOL),
        ),
        ("unknown SETTINGS", vec![settings(&[(0xff, 7), (0, 1), (3, 0), (6, 1)])], Nothing),
        (
            "a window too wide",
            vec![waiting(1, 0), window_update(1, 0x7fff_0000), settings(&[(4, 0x7fff_ffff)])],
            Connection(FLOW),
        ),
        ("PING for a stream", vec![frame(PING, 0, 1, [0; 8])], Connection(PROTOCOL)),
        ("PING of 6 bytes", vec![frame(PING, 0, 0, [0; 6])], Connection(SIZE)),
        ("an answer to no PING", vec![frame(PING, ACK, 0, b"whatever")], Nothing),
        ("GOAWAY for a stream", vec![frame(GOAWAY, 0, 1, [0; 8])], Connection(PROTOCOL)),
        ("GOAWAY of 7 bytes", vec![frame(GOAWAY, 0, 0, [0; 7])], Connection(SIZE)),
        ("GOAWAY", vec![frame(GOAWAY, 0, 0, [0; 12]), get(1)], Nothing),
        ("WINDOW_UPDATE of 0", vec![window_update(0, 0)], Connection(PROTOCOL)),
        ("a stream's of 0", vec![waiting(1, 0), window_update(1, 0)], Stream(1, PROTOCOL)),
        ("WINDOW_UPDATE of 3 bytes", vec![frame(WINDOW_UPDATE, 0, 0, [0; 3])], Connection(SIZE)),
        ("the connection's too wide", vec![window_update(0, 0x7fff_ffff)], Connection(FLOW)),
        ("a stream's too wide", vec![waiting(1, 0), window_update(1, 0x7fff_ffff)], Stream(1, FLOW)),
        (
            "just wide enough",
            vec![waiting(1, 0), window_update(1, 0x7fff_0000), window_update(0, 0x7fff_0000)],
            Nothing,
        ),
    ]);
}

#[test]
fn section_6_10_continuation() {
    let (first, rest) = (&block(GET)[..7], &block(GET)[7..]);
    let begun = frame(HEADERS, END_STREAM, 1, first);
    let go_on = |flags, payload: &[u8]| frame(CONTINUATION, flags, 1, payload);
    check(vec![
        ("several", vec![begun.clone(), go_on(0, &rest[..3]), go_on(0, &[]), go_on(4, &rest[3..])], Nothing),
        ("then another frame", vec![begun.clone(), go_on(0, rest), ping(1)], Connection(PROTOCOL)),
        ("for stream 0", vec![begun.clone(), frame(CONTINUATION, 4, 0, rest)], Connection(PROTOCOL)),
        ("behind whole HEADERS", vec![waiting(1, 0), go_on(4, rest)], Connection(PROTOCOL)),
        ("behind the last one", vec![begun.clone(), go_on(4, rest), go_on(4, rest)], Connection(PROTOCOL)),
        ("behind DATA", vec![waiting(1, 0), data(1, 0, b"x"), go_on(4, rest)], Connection(PROTOCOL)),
        (
            "without end",
            std::iter::once(begun).chain((0..20).map(|_| go_on(0, &[0; 16_384]))).collect(),
            Connection(ErrorCode::ENHANCE_YOUR_CALM),
        ),
    ]);
}

#[test]
fn section_6_9_windows_of_the_receiver() {
    let full = vec![0; 16_384];
    let with = |frames: usize| {
        let mut all = vec![waiting(1, 0)];
        all.extend((0..frames).map(|_| data(1, 0, &full)));
        all
    };
    check(vec![
        ("almost a stream's window", with(3), Nothing),
        ("more than a stream's window", with(4), Stream(1, FLOW)),
        (
            "more than the connection's window",
            [with(3), vec![waiting(3, 0)], (0..4).map(|_| data(3, 0, &full)).collect()].concat(),
            Connection(FLOW),
        ),
        (
            "padding counts",
            [with(3), vec![data(1, PADDED, [&[255][..], &[0; 16_300]].concat())], vec![data(1, 0, [0; 300])]]
                .concat(),
            Stream(1, FLOW),
        ),
    ]);
}

#[test]
fn section_6_9_windows_of_the_sender() {
    let mut side = Side::server(small());
    side.feed(settings(&[(4, 1)])).unwrap();
    let events = side.feed(waiting(1, END_STREAM)).unwrap();
    let Event::Request { stream, .. } = events[0] else { panic!("{events:?}") };
    side.connection.send_response(stream, http::StatusCode::OK, &Default::default(), false).unwrap();
    side.connection.send_data(stream, bytes::Bytes::from_static(b"abcdefghij"), true).unwrap();
    let data = |side: &mut Side| {
        let sent = side.sent().into_iter().filter(|frame| frame.kind == DATA);
        sent.map(|frame| (String::from_utf8(frame.payload).unwrap(), frame.flags)).collect::<Vec<_>>()
    };
    assert_eq!(data(&mut side), [("a".to_string(), 0)]);
    side.feed(settings(&[(4, 1)])).unwrap();
    assert_eq!(data(&mut side), []);
    side.feed(settings(&[(4, 3)])).unwrap();
    assert_eq!(data(&mut side), [("bc".to_string(), 0)], "wider by two");
    side.feed(settings(&[(4, 1)])).unwrap();
    side.feed(window_update(1, 2)).unwrap();
    assert_eq!(data(&mut side), [], "it was negative");
    side.feed(window_update(1, 3)).unwrap();
    assert_eq!(data(&mut side), [("def".to_string(), 0)]);
    side.feed(window_update(1, 100)).unwrap();
    assert_eq!(data(&mut side), [("ghij".to_string(), END_STREAM)]);
    assert_eq!(side.connection.active_streams(), 0);
}

#[test]
fn section_8_messages() {
    let without = |name: &str| {
        let left: Vec<_> = GET.iter().copied().filter(|(other, _)| *other != name).collect();
        vec![headers(1, 5, &left)]
    };
    let with = |more: &[(&str, &str)]| vec![get_with(1, more)];
    let wrong = Stream(1, PROTOCOL);
    let other = |name: &str, value: &str| {
        let changed: Vec<_> = GET.iter().map(|(n, v)| (*n, if *n == name { value } else { v })).collect();
        vec![headers(1, 5, &changed)]
    };
    let posted = |length: &str, pieces: &[&str]| {
        let fields = [
            &[(":method", "POST"), (":scheme", "http"), (":path", "/wait")][..],
            &[("content-length", length)],
        ];
        let mut all = vec![headers(1, if pieces.is_empty() { 5 } else { 4 }, &fields.concat())];
        let last = pieces.len().saturating_sub(1);
        all.extend(pieces.iter().enumerate().map(|(n, piece)| data(1, u8::from(n == last), piece)));
        all
    };
    check(vec![
        ("two HEADERS that do not end", vec![waiting(1, 0), headers(1, 4, &[("x", "y")])], wrong),
        ("trailers", vec![waiting(1, 0), headers(1, 5, &[("x", "y")])], Nothing),
        ("upper case", with(&[("X-Test", "ok")]), wrong),
        ("an empty name", with(&[("", "ok")]), wrong),
        ("a name with a blank", with(&[("x y", "ok")]), wrong),
        ("a name with a colon", with(&[("x:y", "ok")]), wrong),
        ("a name of a byte", with(&[("\u{e4}", "ok")]), wrong),
        ("an unknown pseudo-header", with(&[(":test", "ok")]), wrong),
        ("a response's pseudo-header", with(&[(":status", "200")]), wrong),
        ("a pseudo-header in trailers", vec![waiting(1, 0), headers(1, 5, &[(":method", "GET")])], wrong),
        ("content-length in trailers", vec![waiting(1, 0), headers(1, 5, &[("content-length", "0")])], wrong),
        ("host in trailers", vec![waiting(1, 0), headers(1, 5, &[("host", "a")])], wrong),
        ("a pseudo-header behind a field", vec![headers(1, 5, &[&[("x", "y")], GET].concat())], wrong),
        ("connection", with(&[("connection", "keep-alive")]), wrong),
        ("keep-alive", with(&[("keep-alive", "timeout=5")]), wrong),
        ("proxy-connection", with(&[("proxy-connection", "close")]), wrong),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")]), wrong),
        ("upgrade", with(&[("upgrade", "h2c")]), wrong),
        ("te: trailers", with(&[("te", "trailers")]), Nothing),
        ("te: else", with(&[("te", "trailers, deflate")]), wrong),
        ("an empty :path", other(":path", ""), wrong),
        ("no :method", without(":method"), wrong),
        ("no :scheme", without(":scheme"), wrong),
        ("no :path", without(":path"), wrong),
        ("no :authority", without(":authority"), Nothing),
        (":method twice", with(&[(":method", "GET")]), wrong),
        (":path twice", with(&[(":path", "/")]), wrong),
        (":scheme twice", with(&[(":scheme", "http")]), wrong),
        (":authority twice", with(&[(":authority", "a")]), wrong),
        ("a blank in :path", other(":path", "/a b"), wrong),
        ("a line end in :path", other(":path", "/ HTTP/1.1\r\nx: y"), wrong),
        ("a fragment in :path", other(":path", "/#a"), wrong),
        (":path without /", other(":path", "a"), wrong),
        (":path * of GET", other(":path", "*"), wrong),
        ("a blank in :authority", other(":authority", "a b"), wrong),
        ("a user in :authority", other(":authority", "u@a"), wrong),
        ("a line end in :authority", other(":authority", "a\r\nx: y"), wrong),
        ("a blank in :method", other(":method", "GET /x"), wrong),
        ("another :scheme", other(":scheme", "ftp"), wrong),
        ("a line end in a value", with(&[("x", "a\r\nb: c")]), wrong),
        ("a bare line feed in a value", with(&[("x", "a\nb")]), wrong),
        ("a NUL in a value", with(&[("x", "a\0b")]), wrong),
        ("host and :authority", with(&[("host", "b")]), Nothing),
        ("two hosts", with(&[("host", "b"), ("host", "b")]), wrong),
        ("a host that is none", with(&[("host", "a\tb")]), wrong),
        ("content-length", posted("3", &["ab", "c"]), Nothing),
        ("more than announced", posted("2", &["ab", "c"]), wrong),
        ("less than announced", posted("4", &["ab", "c"]), wrong),
        ("nothing of what was announced", posted("1", &[]), wrong),
        ("content-length is no number", posted("+1", &["a"]), wrong),
        ("content-length is a list", posted("1, 1", &["a"]), wrong),
        ("content-length twice", with(&[("content-length", "0"), ("content-length", "0")]), wrong),
        (
            "less, then trailers",
            [posted("2", &["a", ""])[..2].to_vec(), vec![headers(1, 5, &[("x", "y")])]].concat(),
            wrong,
        ),
        ("CONNECT", vec![headers(1, 5, &[(":method", "CONNECT"), (":authority", "a:1")])], Nothing),
        (
            "CONNECT with :path",
            vec![headers(1, 5, &[(":method", "CONNECT"), (":authority", "a:1"), (":path", "/")])],
            wrong,
        ),
        ("CONNECT without :authority", vec![headers(1, 5, &[(":method", "CONNECT")])], wrong),
        (
            "extended CONNECT that is not allowed",
            vec![headers(1, 5, &[&[(":method", "CONNECT"), (":protocol", "websocket")], &GET[1..]].concat())],
            wrong,
        ),
        (":protocol of GET", vec![headers(1, 5, &[&[(":protocol", "x")], GET].concat())], wrong),
    ]);
}

#[test]
fn hpack() {
    let of = |bytes: &[u8]| vec![frame(HEADERS, 5, 1, [bytes, &block(GET)].concat())];
    let behind = |bytes: &[u8]| vec![frame(HEADERS, 5, 1, [&block(GET), bytes].concat())];
    let wrong = Connection(COMPRESSION);
    check(vec![
        ("2.3.3: an index beyond the table", behind(b"\xc6"), wrong),
        ("2.3.3: a name's index beyond it", behind(b"\x7f\x07\x05empty"), wrong),
        ("4.2: an update at the end", behind(b"\x20"), wrong),
        ("5.2: padding of more than 7 bits", behind(b"\x00\x01x\x87\xff\xff\xff\xff\xff\xff\xff"), wrong),
        ("5.2: padding of zeros", behind(b"\x00\x01x\x81\x00"), wrong),
        ("5.2: the end of string", behind(b"\x00\x01x\x84\xff\xff\xff\xff"), wrong),
        ("6.1: index 0", behind(b"\x80"), wrong),
        ("6.3: an update beyond SETTINGS", of(b"\x3f\xe2\x1f"), wrong),
        ("6.3: an update within", of(b"\x3f\xe1\x1f"), Nothing),
    ]);
    let mut side = Side::server(small());
    let insert = frame(HEADERS, 5, 1, [&block(GET)[..], b"\x40\x03x-a\x01b"].concat());
    side.feed(insert).unwrap();
    let wrong = frame(HEADERS, 5, 3, [&block(&[("X", "y")])[..], b"\x40\x03x-c\x01d"].concat());
    side.feed(wrong).unwrap();
    let events = side.feed(frame(HEADERS, 5, 5, [&block(GET)[..], b"\xbe\xbf"].concat())).unwrap();
    let Event::Request { head, .. } = &events[0] else { panic!("{events:?}") };
    let fields: Vec<_> =
        head.request.headers.iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap())).collect();
    assert_eq!(fields, ["x-c=d", "x-a=b"], "a malformed message's fields are in the table");
}

#[test]
fn heads_beyond_the_limits_can_be_answered() {
    let mut side = Side::server(Config { head_bytes: 1000, head_fields: 10, ..small() });
    let long = "v".repeat(1000);
    for (stream, more) in [(1, vec![("x", long.as_str())]), (3, vec![("x", "y"); 7])] {
        let events = side.feed(get_with(stream, &more)).unwrap();
        let Event::TooLarge { stream, end: true } = events[0] else { panic!("{events:?}") };
        let status = http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        side.connection.send_response(stream, status, &Default::default(), true).unwrap();
    }
    assert!(matches!(side.feed(get_with(5, &[("x", "y"); 6])).unwrap()[0], Event::Request { .. }));
    side.feed(waiting(7, 0)).unwrap();
    let events = side.feed(headers(7, 5, &[("x", &long)])).unwrap();
    let calm = ErrorCode::ENHANCE_YOUR_CALM;
    assert!(matches!(events[0], Event::Reset { code, .. } if code == calm), "trailers are not answered");
    assert_eq!(side.connection.counts().too_large, 3);
}

#[test]
fn cookies_are_joined_and_host_becomes_the_authority() {
    let mut side = Side::server(small());
    let fields =
        [&GET[..3], &[("host", "h:1"), ("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]];
    let events = side.feed(headers(1, 5, &fields.concat())).unwrap();
    let Event::Request { head, end: true, .. } = &events[0] else { panic!("{events:?}") };
    assert_eq!(head.request.authority, "h:1");
    let fields: Vec<_> =
        head.request.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    assert_eq!(fields, [("cookie", "a=1; b=2; c=3"), ("x", "y")]);
}

#[test]
fn extended_connect_where_it_is_allowed() {
    let mut side = Side::server(Config { allow_connect: true, ..small() });
    let fields = [&[(":method", "CONNECT"), (":protocol", "websocket")], &GET[1..]].concat();
    let events = side.feed(headers(1, 4, &fields)).unwrap();
    let Event::Request { head, end: false, .. } = &events[0] else { panic!("{events:?}") };
    assert_eq!(head.protocol.as_ref().unwrap(), "websocket");
    assert_eq!(head.request.path, "/");
}

#[test]
fn malformed_messages_may_cost_the_connection() {
    let config = Config { on_malformed: OnMalformed::CloseConnection, ..small() };
    let error = Side::server(config).feed(get_with(1, &[("X", "y")])).unwrap_err();
    assert_eq!(error.code, PROTOCOL);
}

#[test]
fn settings_are_acknowledged_and_announced() {
    let mut side = Side::raw_server(Config { allow_connect: true, table_bytes: 8192, ..Config::default() });
    let first = side.sent();
    let settings = frames(&support::settings(&[(1, 8192), (3, 1024), (8, 1), (4, 16 << 20)]));
    assert_eq!(first[0], settings[0]);
    assert_eq!((first[1].kind, first[1].number(0)), (WINDOW_UPDATE, (24 << 20) - 65_535));
    side.feed(ostro_http2::PREFACE).unwrap();
    side.feed(support::settings(&[])).unwrap();
    let acknowledgement = side.sent();
    assert_eq!((acknowledgement[0].kind, acknowledgement[0].flags), (SETTINGS, ACK));
}
