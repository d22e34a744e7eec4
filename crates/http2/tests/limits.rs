//! Bounds: each limit of [`FloodLimits`] is reached and not passed, and what is kept stays within its windows.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode};
use ostro_engine::{Headers, Request};
use ostro_http2::{Config, Connection, ErrorCode, Event, FloodLimits, StreamId};
use support::*;

fn with(limits: FloodLimits) -> Side {
    Side::server(Config { limits, ..Config::default() })
}

/// Sends the same frame until the connection has enough of it, without reading what it answers; how many it took.
fn taken(side: &mut Side, mut frame: impl FnMut(usize) -> Vec<u8>) -> usize {
    for number in 0..100_000 {
        match side.feed(frame(number)) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.code, ErrorCode::ENHANCE_YOUR_CALM, "{error}");
                return number;
            }
        }
    }
    panic!("there is no limit");
}

fn accept(events: &[Event]) -> StreamId {
    match events {
        [Event::Request { stream, .. }] => *stream,
        other => panic!("{other:?}"),
    }
}

#[test]
fn control_frames_that_nobody_reads() {
    let limits = FloodLimits { outbound_control_frames: 50, ..FloodLimits::default() };
    assert_eq!(taken(&mut with(limits.clone()), |n| ping(n as u64)), 50);
    assert_eq!(taken(&mut with(limits.clone()), |_| settings(&[])), 50);
    let refused = |n: usize| get_with(2 * n as u32 + 1, &[("X", "y")]);
    assert_eq!(taken(&mut with(limits.clone()), refused), 50);
    let mut side = with(FloodLimits { answers: 2000, ..limits });
    for number in 0..1000 {
        side.feed(ping(number)).unwrap();
        assert_eq!(side.sent().len(), 1, "whoever reads may go on");
    }
}

#[test]
fn frames_that_ask_for_an_answer_though_it_is_read() {
    let limits = FloodLimits { answers: 50, ..FloodLimits::default() };
    let mut side = with(limits.clone());
    let read = |side: &mut Side, number: u64| side.feed(ping(number)).map(|_| side.sent());
    let taken = (0..1000).find(|number| read(&mut side, *number).is_err());
    assert_eq!(taken, Some(49), "in no time; the client's first SETTINGS asked too");
    let mut side = with(limits);
    for number in 0..1000 {
        read(&mut side, number).unwrap();
        side.feed(get(2 * number as u32 + 1)).unwrap();
    }
}

#[test]
fn frames_of_all_kinds_that_nobody_reads() {
    let limits = FloodLimits { outbound_frames: 50, ..FloodLimits::default() };
    let mut side = with(limits);
    for number in 0..60 {
        match side.feed(get(2 * number + 1)) {
            Ok(events) => {
                let stream = accept(&events);
                side.connection.send_response(stream, StatusCode::OK, &Headers::default(), true).unwrap();
            }
            Err(error) => {
                assert_eq!((error.code, number), (ErrorCode::ENHANCE_YOUR_CALM, 51));
                return;
            }
        }
    }
    panic!("there is no limit");
}

#[test]
fn frames_without_content() {
    let empties = FloodLimits { consecutive_empty_frames: 3, ..FloodLimits::default() };
    let mut side = with(empties.clone());
    side.feed(post(1)).unwrap();
    assert_eq!(taken(&mut side, |_| frame(DATA, 0, 1, [])), 3);
    let mut side = with(empties.clone());
    side.feed(frame(HEADERS, 0, 1, [])).unwrap();
    assert_eq!(taken(&mut side, |_| frame(CONTINUATION, 0, 1, [])), 2);
    let mut side = with(empties);
    side.feed(post(1)).unwrap();
    for _ in 0..100 {
        side.feed([frame(DATA, 0, 1, []), frame(DATA, 0, 1, b"x")].concat()).unwrap();
    }
}

#[test]
fn priorities_and_window_updates() {
    let limits = FloodLimits {
        priority_frames_per_stream: 7,
        window_updates_per_data_frame: 3,
        ..FloodLimits::default()
    };
    assert_eq!(taken(&mut with(limits.clone()), |_| frame(PRIORITY, 0, 1, [0; 5])), 7);
    assert_eq!(taken(&mut with(limits.clone()), |_| window_update(0, 1)), 5);
    let mut side = with(limits);
    let stream = accept(&side.feed(get(1)).unwrap());
    side.connection.send_response(stream, StatusCode::OK, &Headers::default(), false).unwrap();
    for _ in 0..2 {
        side.connection.send_data(stream, Bytes::from_static(b"x"), false).unwrap();
    }
    assert_eq!(taken(&mut side, |_| window_update(1, 1)), 5 + 2 * (1 + 3 * 2));
}

#[test]
fn streams_that_are_opened_and_reset() {
    let limits = FloodLimits { premature_resets: 100, ..FloodLimits::default() };
    let twice = |n: usize| [post(2 * n as u32 + 1), rst(2 * n as u32 + 1, 8)].concat();
    let mut side = with(limits.clone());
    assert_eq!(taken(&mut side, twice), 49);

    let mut side = with(limits.clone());
    let now = Instant::now();
    for number in 0..1000 {
        side.connection.set_now(now + Duration::from_secs(2 * number));
        side.feed(post(2 * number as u32 + 1)).unwrap();
        side.connection.set_now(now + Duration::from_secs(2 * number + 1));
        side.feed(rst(2 * number as u32 + 1, 8)).unwrap();
    }

    let mut side = with(limits);
    for number in 0..1000 {
        let stream = accept(&side.feed(post(2 * number + 1)).unwrap());
        side.connection.send_response(stream, StatusCode::OK, &Headers::default(), false).unwrap();
        side.feed(rst(2 * number + 1, 8)).unwrap();
        side.sent();
    }
}

#[test]
fn a_stream_takes_little_while_its_window_is_closed() {
    let mut side = Side::server(Config::default());
    side.feed(settings(&[(4, 0)])).unwrap();
    let stream = accept(&side.feed(get(1)).unwrap());
    side.connection.send_response(stream, StatusCode::OK, &Headers::default(), false).unwrap();
    let mut given = 0;
    while side.connection.capacity(stream) > 0 {
        side.connection.send_data(stream, Bytes::from(vec![0; 1000]), false).unwrap();
        given += 1000;
        assert!(given <= 17_000);
    }
    assert!(side.sent().iter().all(|frame| frame.kind != DATA));
    assert!(side.connection.take_writable().is_none());
    side.feed(window_update(1, 1 << 20)).unwrap();
    let sent = side.sent();
    assert_eq!(sent.iter().filter(|f| f.kind == DATA).map(|f| f.payload.len()).sum::<usize>(), given);
    assert_eq!(side.connection.take_writable(), Some(stream));
}

#[test]
fn a_window_is_given_back_only_as_data_is_consumed() {
    let config = Config { stream_window: 65_535, connection_window: 65_535, ..Config::default() };
    let mut side = Side::server(config);
    let stream = accept(&side.feed(post(1)).unwrap());
    for _ in 0..3 {
        side.feed(frame(DATA, 0, 1, [0; 16_384])).unwrap();
    }
    assert!(side.sent().is_empty());
    side.connection.consumed(stream, 32_000);
    assert!(side.sent().is_empty(), "less than half");
    side.connection.consumed(stream, 17_152);
    let updates: Vec<_> =
        side.sent().iter().map(|frame| (frame.kind, frame.stream, frame.number(0))).collect();
    assert_eq!(updates, [(WINDOW_UPDATE, 0, 49_152), (WINDOW_UPDATE, 1, 49_152)]);
    side.connection.consumed(stream, 1 << 20);
    assert!(side.sent().is_empty(), "no more than came");
}

#[test]
fn data_of_several_streams_takes_turns() {
    let mut side = Side::server(Config::default());
    side.feed([settings(&[(4, 1 << 20)]), window_update(0, 1 << 20)].concat()).unwrap();
    let streams: Vec<_> = [1, 3, 5].map(|number| accept(&side.feed(get(number)).unwrap())).to_vec();
    for (stream, size) in streams.iter().zip([100_000, 100_000, 10]) {
        side.connection.send_response(*stream, StatusCode::OK, &Headers::default(), false).unwrap();
        side.connection.send_data(*stream, Bytes::from(vec![0; size]), true).unwrap();
    }
    let turns: Vec<_> = side.sent().iter().filter(|f| f.kind == DATA).map(|f| f.stream).collect();
    assert_eq!(turns, [1, 3, 5, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3]);
    assert_eq!(side.connection.active_streams(), 0);
}

#[test]
fn what_was_sent_before_a_reset_without_error_is_sent() {
    let mut side = Side::server(Config::default());
    let stream = accept(&side.feed(post(1)).unwrap());
    side.connection.send_response(stream, StatusCode::OK, &Headers::default(), false).unwrap();
    side.connection.send_data(stream, Bytes::from(vec![0; 40_000]), true).unwrap();
    assert!(!side.connection.is_flushed(stream));
    side.connection.reset(stream, ErrorCode::NO_ERROR);
    let sent = side.sent();
    assert_eq!(sent.iter().filter(|f| f.kind == DATA).map(|f| f.payload.len()).sum::<usize>(), 40_000);
    let last = sent.last().unwrap();
    assert_eq!((last.kind, last.number(0)), (RST_STREAM, 0));
    assert_eq!(side.connection.take_writable(), Some(stream));
    assert!(side.connection.is_flushed(stream));
    assert!(side.feed(frame(DATA, END_STREAM, 1, b"late")).unwrap().is_empty());
}

#[test]
fn draining_takes_two_steps() {
    let mut side = Side::server(Config::default());
    let first = accept(&side.feed(get(1)).unwrap());
    side.connection.announce_drain();
    let notice = side.sent();
    assert_eq!((notice[0].kind, notice[0].number(0), notice[0].number(4)), (GOAWAY, u32::MAX >> 1, 0));
    let second = accept(&side.feed(get(3)).unwrap());
    side.connection.go_away(ErrorCode::NO_ERROR);
    assert_eq!(side.sent()[0].number(0), 3);
    let beyond = [frame(HEADERS, END_HEADERS, 5, block(POST)), frame(DATA, END_STREAM, 5, b"x"), rst(5, 8)];
    assert!(side.feed(beyond.concat()).unwrap().is_empty());
    assert!(!side.connection.is_over());
    for stream in [first, second] {
        side.connection.send_response(stream, StatusCode::OK, &Headers::default(), true).unwrap();
    }
    assert!(side.connection.is_over());
}

#[test]
fn heads_larger_than_a_frame() {
    let mut client = Connection::client(Default::default(), Instant::now());
    let mut request = Request::new(Method::GET, "a".try_into().unwrap(), "/".try_into().unwrap());
    let long = "v".repeat(40_000);
    request.headers.append("x-long".try_into().unwrap(), long.as_str().try_into().unwrap());
    client.send_request(&request, None, true).unwrap();
    let mut side = Side { connection: client, input: Default::default() };
    let bytes = side.bytes();
    let kinds: Vec<_> = frames(&bytes).iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [SETTINGS, WINDOW_UPDATE, HEADERS, CONTINUATION, CONTINUATION]);
    let events = Side::raw_server(Config::default()).feed(&bytes).unwrap();
    assert!(matches!(&events[1], Event::Request { head, .. } if head.request.headers.wire_bytes() > 40_000));
}
