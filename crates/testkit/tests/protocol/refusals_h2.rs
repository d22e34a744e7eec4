//! HTTP/2 as no client may speak it: the cases that h2spec asks, in words of our own, and floods.
//!
//! Each row says which error RFC 9113 (or 7541) asks for. A stream error may be answered as a connection error, a
//! connection error only so. Envoy often closes without GOAWAY; ours says why.

use crate::harness::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENABLE_PUSH, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE, PADDED, PING, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame,
    frame_of_length, settings,
};
use crate::harness::{Case, Done, Event, Family, H2, Stage, case};

pub fn family() -> Family {
    let all = [
        preface(), framing(), streams(), data_and_headers(), resets_and_priorities(), settings_frames(), windows(),
        others(), requests(), compression(), floods(), good(),
    ];
    Family::new("refusals_h2", all.into_iter().flatten().collect())
}

crate::tests!();

/// What the RFC asks for.
#[derive(Clone, Copy)]
enum Rule {
    /// A connection error of this code.
    Connection(&'static str),
    /// A stream error of this code, or a connection error.
    Stream(&'static str),
    /// The same, or nothing at all.
    May(&'static str),
    /// The connection ends before it costs much; what is said of it may be lost with what is unread.
    Flood,
}
use Rule::{Connection, Flood, May, Stream};

/// A request that is not finished, so that its stream stays open.
fn open(client: &mut H2) -> Done<u32> {
    client.request("POST", "/", &[], false)
}

/// What becomes of the client: the end of stream 1, or of the connection.
fn fate(x: &mut Stage<'_>, client: &mut H2) -> Done {
    let mut goaway = String::new();
    loop {
        match client.next()? {
            Event::GoAway { code, .. } if goaway.is_empty() => goaway = format!("GOAWAY {}", crate::harness::frames::error(code)),
            Event::End(_) => {
                x.see(format!("{goaway} closed").trim());
                return Ok(());
            }
            Event::Reset { code, .. } => {
                x.see(format!("reset {}", crate::harness::frames::error(code)));
                return Ok(());
            }
            Event::Headers { fields, .. } => {
                x.see(format!("answered {}", fields[0].1));
                return Ok(());
            }
            // Of a flood of PING, each has its answer.
            Event::Pong(payload) if payload == b"the end!" => {
                x.see("went on");
                return Ok(());
            }
            _ => {}
        }
    }
}

/// A row: what the client does after the connection is made, what the RFC asks for, what Envoy does.
fn row(name: &str, rule: Rule, script: impl Fn(&mut H2) -> Done + Send + Sync + 'static, envoy: &str) -> Case {
    let made = case(
        name,
        |s| {
            s.http2_upstream();
        },
        move |x| {
            let mut client = x.h2_client()?;
            // What is sent from here on may meet a closed door.
            let sent = script(&mut client);
            drop(sent);
            client.wire.offer(frame(PING, 0, 0, b"the end!"));
            fate(x, &mut client)
        },
        envoy,
    );
    let (accepted, reason) = match rule {
        Connection(code) => (vec![format!("GOAWAY {code} closed")], format!("the RFC asks for a connection error of {code}")),
        Stream(code) => (
            vec![format!("reset {code}"), format!("GOAWAY {code} closed")],
            format!("the RFC asks for a stream error of {code}, or a connection error"),
        ),
        May(code) => (
            vec![format!("reset {code}"), format!("GOAWAY {code} closed"), "went on".to_owned()],
            format!("the RFC allows a stream error of {code}, or going on"),
        ),
        Flood => (
            vec!["GOAWAY ENHANCE_YOUR_CALM closed".to_owned(), "closed".to_owned()],
            "a flood ends the connection, with a reason if it still gets through".to_owned(),
        ),
    };
    let accepted: Vec<&str> = accepted.iter().map(String::as_str).collect();
    made.ours_any(&accepted, &reason)
}

fn preface() -> Vec<Case> {
    let raw = |name: &str, bytes: Vec<u8>, expected: &str| {
        case(
            name,
            |s| {
                s.hcm("codec_type", serde_json::json!("HTTP2"));
            },
            move |x| {
                let mut client = x.client()?;
                client.offer(&bytes);
                let mut saw_goaway = false;
                while let Ok(Some(frame)) = client.frame() {
                    saw_goaway |= frame.kind == GOAWAY;
                }
                x.see(if saw_goaway { "GOAWAY" } else { "no GOAWAY" });
                x.see("closed");
                Ok(())
            },
            expected,
        )
        .or("GOAWAY, closed")
        .or("no GOAWAY, closed")
    };
    vec![
        raw("a preface that is none", b"INVALID CONNECTION PREFACE\r\n\r\n".to_vec(), "no GOAWAY, closed"),
        raw("HTTP/1 where HTTP/2 is spoken", b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n".to_vec(), "no GOAWAY, closed"),
        raw(
            "a preface not followed by SETTINGS",
            [crate::harness::frames::PREFACE, &frame(PING, 0, 0, b"12345678")].concat(),
            "GOAWAY, closed",
        ),
    ]
}

fn framing() -> Vec<Case> {
    vec![
        row("DATA beyond the largest frame", Stream("FRAME_SIZE_ERROR"), |c| { let s = open(c)?; c.send(DATA, END_STREAM, s, &[0; 16_385]) }, "GOAWAY FRAME_SIZE_ERROR closed"),
        row("HEADERS beyond the largest frame", Connection("FRAME_SIZE_ERROR"), |c| { let s = c.stream(); c.send(HEADERS, END_HEADERS | END_STREAM, s, &[0; 16_385]) }, "GOAWAY FRAME_SIZE_ERROR closed"),
        row("padding longer than the payload of DATA", Connection("PROTOCOL_ERROR"), |c| { let s = open(c)?; c.send(DATA, END_STREAM | PADDED, s, &[9, 1, 2]) }, "GOAWAY PROTOCOL_ERROR closed"),
        row("padding longer than the payload of HEADERS", Connection("PROTOCOL_ERROR"), |c| { let s = c.stream(); c.send(HEADERS, END_STREAM | END_HEADERS | PADDED, s, &[9, 1, 2]) }, "GOAWAY PROTOCOL_ERROR closed"),
        row("HEADERS cut by DATA before its CONTINUATION", Connection("PROTOCOL_ERROR"), |c| { let s = c.stream(); c.send(HEADERS, 0, s, &head())?; c.send(DATA, END_STREAM, s, b"x") }, "GOAWAY PROTOCOL_ERROR closed"),
        row("HEADERS cut by another stream's HEADERS", Connection("PROTOCOL_ERROR"), |c| { c.send(HEADERS, 0, 1, &head())?; c.send(HEADERS, END_HEADERS | END_STREAM, 3, &head()) }, "GOAWAY PROTOCOL_ERROR closed"),
        row("HEADERS cut by PRIORITY", Connection("PROTOCOL_ERROR"), |c| { c.send(HEADERS, 0, 1, &head())?; c.send(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]) }, "GOAWAY PROTOCOL_ERROR closed"),
        row("HEADERS cut by an unknown frame", Connection("PROTOCOL_ERROR"), |c| { c.send(HEADERS, 0, 1, &head())?; c.send(0x77, 0, 1, b"x") }, "GOAWAY PROTOCOL_ERROR closed"),
        row("a CONTINUATION of another stream", Connection("PROTOCOL_ERROR"), |c| { c.send(HEADERS, 0, 1, &head())?; c.send(CONTINUATION, END_HEADERS, 3, &[]) }, "GOAWAY PROTOCOL_ERROR closed"),
        row("a CONTINUATION of stream 0", Connection("PROTOCOL_ERROR"), |c| { c.send(HEADERS, 0, 1, &head())?; c.send(CONTINUATION, END_HEADERS, 0, &[]) }, "GOAWAY PROTOCOL_ERROR closed"),
        row("a CONTINUATION after END_HEADERS", Connection("PROTOCOL_ERROR"), |c| { c.send(HEADERS, END_HEADERS, 1, &head())?; c.send(CONTINUATION, END_HEADERS, 1, &head()) }, "GOAWAY PROTOCOL_ERROR closed"),
        row("a CONTINUATION with nothing before it", Connection("PROTOCOL_ERROR"), |c| c.send(CONTINUATION, END_HEADERS, 1, &head()), "GOAWAY PROTOCOL_ERROR closed"),
        row("a CONTINUATION after DATA", Connection("PROTOCOL_ERROR"), |c| { let s = open(c)?; c.send(DATA, 0, s, b"x")?; c.send(CONTINUATION, END_HEADERS, s, &[]) }, "GOAWAY PROTOCOL_ERROR closed"),
    ]
}

/// The block of a good request.
fn head() -> Vec<u8> {
    block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.test")])
}

fn streams() -> Vec<Case> {
    vec![
        row("DATA on an idle stream", Connection("PROTOCOL_ERROR"), |c| c.send(DATA, END_STREAM, 1, b"x"), "GOAWAY PROTOCOL_ERROR closed"),
        row("RST_STREAM on an idle stream", Connection("PROTOCOL_ERROR"), |c| c.reset(1, 8), "closed"),
        row("WINDOW_UPDATE on an idle stream", Connection("PROTOCOL_ERROR"), |c| c.send(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), "closed"),
        row("DATA on a stream that the client has ended", Stream("STREAM_CLOSED"), |c| { let s = c.get("/")?; c.send(DATA, END_STREAM, s, b"x") }, "GOAWAY STREAM_CLOSED closed"),
        row("HEADERS on a stream that the client has ended", Stream("STREAM_CLOSED"), |c| { let s = c.get("/")?; c.send(HEADERS, END_HEADERS | END_STREAM, s, &head()) }, "closed"),
        row("CONTINUATION on a stream that the client has ended", Connection("PROTOCOL_ERROR"), |c| { let s = c.get("/")?; c.send(CONTINUATION, END_HEADERS, s, &[]) }, "GOAWAY PROTOCOL_ERROR closed"),
        row("DATA on a stream that the client has reset", May("STREAM_CLOSED"), |c| { let s = open(c)?; c.reset(s, 8)?; c.send(DATA, END_STREAM, s, b"x") }, "went on"),
        row("HEADERS on a stream that the client has reset", May("STREAM_CLOSED"), |c| { let s = open(c)?; c.reset(s, 8)?; c.send(HEADERS, END_HEADERS | END_STREAM, s, &head()) }, "went on"),
        row("a stream of an even number", Connection("PROTOCOL_ERROR"), |c| c.send(HEADERS, END_HEADERS | END_STREAM, 2, &head()), "closed"),
        row("a stream of a lower number than before", Connection("PROTOCOL_ERROR"), |c| { c.send(HEADERS, END_HEADERS, 5, &head())?; c.send(HEADERS, END_HEADERS | END_STREAM, 3, &head()) }, "went on").ours_any(&["GOAWAY PROTOCOL_ERROR closed", "GOAWAY STREAM_CLOSED closed"], "RFC 9113 5.1.1 asks for a connection error; the stream counts as closed, too"),
        row("HEADERS on stream 0", Connection("PROTOCOL_ERROR"), |c| c.send(HEADERS, END_HEADERS | END_STREAM, 0, &head()), "closed"),
        row("DATA on stream 0", Connection("PROTOCOL_ERROR"), |c| c.send(DATA, END_STREAM, 0, b"x"), "GOAWAY PROTOCOL_ERROR closed"),
    ]
}

fn data_and_headers() -> Vec<Case> {
    let length = |name: &str, length: &'static str, body: &'static [u8], envoy: &str| {
        row(name, Stream("PROTOCOL_ERROR"), move |c| { let s = c.request("POST", "/", &[("content-length", length)], false)?; c.send(DATA, END_STREAM, s, body) }, envoy)
    };
    vec![
        length("less data than content-length", "5", b"abc", "went on"),
        length("more data than content-length", "2", b"abc", "went on"),
        length("a content-length that is a word", "two", b"ab", "closed"),
        length("a negative content-length", "-2", b"ab", "closed"),
        row("two lengths that differ", Stream("PROTOCOL_ERROR"), |c| { let s = c.request("POST", "/", &[("content-length", "2"), ("content-length", "3")], false)?; c.send(DATA, END_STREAM, s, b"ab") }, "closed"),
        row("a length of more than nothing with END_STREAM", Stream("PROTOCOL_ERROR"), |c| c.request("POST", "/", &[("content-length", "2")], true).map(drop), "closed"),
        row("a HEADERS frame that depends on itself", May("PROTOCOL_ERROR"), |c| { let s = c.stream(); let payload = [&[0, 0, 0, 1, 9][..], &head()].concat(); c.send(HEADERS, END_STREAM | END_HEADERS | 0x20, s, &payload) }, "closed"),
    ]
}

fn resets_and_priorities() -> Vec<Case> {
    vec![
        row("PRIORITY on stream 0", Connection("PROTOCOL_ERROR"), |c| c.send(PRIORITY, 0, 0, &[0, 0, 0, 1, 9]), "went on"),
        row("PRIORITY of four bytes", Stream("FRAME_SIZE_ERROR"), |c| { let s = open(c)?; c.send(PRIORITY, 0, s, &[0, 0, 0, 1]) }, "GOAWAY FRAME_SIZE_ERROR closed"),
        row("RST_STREAM on stream 0", Connection("PROTOCOL_ERROR"), |c| c.reset(0, 8), "closed"),
        row("RST_STREAM of three bytes", Connection("FRAME_SIZE_ERROR"), |c| { let s = open(c)?; c.send(RST_STREAM, 0, s, &[0, 0, 8]) }, "GOAWAY FRAME_SIZE_ERROR closed"),
        row("RST_STREAM of five bytes", Connection("FRAME_SIZE_ERROR"), |c| { let s = open(c)?; c.send(RST_STREAM, 0, s, &[0, 0, 0, 8, 0]) }, "GOAWAY FRAME_SIZE_ERROR closed"),
    ]
}

fn settings_frames() -> Vec<Case> {
    let set = |name: &str, rule: Rule, id: u16, value: u32, envoy: &str| row(name, rule, move |c| c.send(SETTINGS, 0, 0, &settings(&[(id, value)])), envoy);
    vec![
        row("SETTINGS with ACK and a payload", Connection("FRAME_SIZE_ERROR"), |c| c.send(SETTINGS, ACK, 0, &settings(&[(3, 1)])), "GOAWAY FRAME_SIZE_ERROR closed"),
        row("SETTINGS on a stream", Connection("PROTOCOL_ERROR"), |c| c.send(SETTINGS, 0, 1, &settings(&[(3, 1)])), "closed"),
        row("SETTINGS of five bytes", Connection("FRAME_SIZE_ERROR"), |c| c.send(SETTINGS, 0, 0, &[0, 3, 0, 0, 0]), "GOAWAY FRAME_SIZE_ERROR closed"),
        set("ENABLE_PUSH of 2", Connection("PROTOCOL_ERROR"), ENABLE_PUSH, 2, "closed"),
        set("a window beyond 2^31-1", Connection("FLOW_CONTROL_ERROR"), INITIAL_WINDOW_SIZE, 0x8000_0000, "closed"),
        set("a largest frame of 16,383", Connection("PROTOCOL_ERROR"), MAX_FRAME_SIZE, 16_383, "closed"),
        set("a largest frame of 2^24", Connection("PROTOCOL_ERROR"), MAX_FRAME_SIZE, 0x0100_0000, "closed"),
        row("a window that overflows a stream's", Connection("FLOW_CONTROL_ERROR"), |c| {
            let s = open(c)?;
            c.send(WINDOW_UPDATE, 0, s, &0x7fff_0000_u32.to_be_bytes())?;
            c.send(SETTINGS, 0, 0, &settings(&[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]))
        }, "went on"),
    ]
}

fn windows() -> Vec<Case> {
    vec![
        row("WINDOW_UPDATE of 0 on the connection", Connection("PROTOCOL_ERROR"), |c| c.send(WINDOW_UPDATE, 0, 0, &[0; 4]), "closed"),
        row("WINDOW_UPDATE of 0 on a stream", Stream("PROTOCOL_ERROR"), |c| { let s = open(c)?; c.send(WINDOW_UPDATE, 0, s, &[0; 4]) }, "closed"),
        row("WINDOW_UPDATE of three bytes", Connection("FRAME_SIZE_ERROR"), |c| c.send(WINDOW_UPDATE, 0, 0, &[0, 0, 1]), "GOAWAY FRAME_SIZE_ERROR closed"),
        row("the connection's window beyond 2^31-1", Connection("FLOW_CONTROL_ERROR"), |c| { c.send(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes())?; c.send(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()) }, "closed"),
        row("a stream's window beyond 2^31-1", Stream("FLOW_CONTROL_ERROR"), |c| { let s = open(c)?; c.send(WINDOW_UPDATE, 0, s, &0x7fff_ffff_u32.to_be_bytes())?; c.send(WINDOW_UPDATE, 0, s, &0x7fff_ffff_u32.to_be_bytes()) }, "closed"),
    ]
}

fn others() -> Vec<Case> {
    vec![
        row("PING on a stream", Connection("PROTOCOL_ERROR"), |c| c.send(PING, 0, 1, b"12345678"), "closed"),
        row("PING of seven bytes", Connection("FRAME_SIZE_ERROR"), |c| c.send(PING, 0, 0, b"1234567"), "GOAWAY FRAME_SIZE_ERROR closed"),
        row("GOAWAY on a stream", Connection("PROTOCOL_ERROR"), |c| c.send(GOAWAY, 0, 1, &[0; 8]), "closed"),
        row("GOAWAY of four bytes", Connection("FRAME_SIZE_ERROR"), |c| c.send(GOAWAY, 0, 0, &[0; 4]), "GOAWAY FRAME_SIZE_ERROR closed"),
        row("PUSH_PROMISE by a client", Connection("PROTOCOL_ERROR"), |c| { let s = open(c)?; c.send(PUSH_PROMISE, END_HEADERS, s, &[&[0, 0, 0, 2][..], &head()].concat()) }, "closed"),
        row("a frame that says it is 16 MiB", Connection("FRAME_SIZE_ERROR"), |c| { let s = open(c)?; c.wire.offer(frame_of_length(0xff_ffff, DATA, 0, s, &[0; 100])); Ok(()) }, "GOAWAY FRAME_SIZE_ERROR closed"),
    ]
}

/// Requests whose fields are not as HTTP/2 has them: malformed, a stream error.
fn requests() -> Vec<Case> {
    let fields = |name: &str, fields: &'static [(&'static str, &'static str)], envoy: &str| {
        row(name, Stream("PROTOCOL_ERROR"), move |c| { let s = c.stream(); c.headers(s, fields, true) }, envoy)
    };
    const M: (&str, &str) = (":method", "GET");
    const S: (&str, &str) = (":scheme", "http");
    const P: (&str, &str) = (":path", "/");
    const A: (&str, &str) = (":authority", "a.test");
    let extra = |name: &str, extra: (&'static str, &'static str), envoy: &str| {
        row(name, Stream("PROTOCOL_ERROR"), move |c| { let s = c.stream(); c.headers(s, &[M, S, P, A, extra], true) }, envoy)
    };
    vec![
        extra("a name in capitals", ("X-Test", "1"), "closed"),
        extra("an unknown pseudo-header", (":test", "1"), "closed"),
        extra("a response's pseudo-header", (":status", "200"), "closed"),
        extra("a pseudo-header twice", (":path", "/"), "closed"),
        extra("connection", ("connection", "keep-alive"), "closed"),
        extra("keep-alive", ("keep-alive", "timeout=5"), "closed"),
        extra("proxy-connection", ("proxy-connection", "keep-alive"), "closed"),
        extra("transfer-encoding", ("transfer-encoding", "chunked"), "closed"),
        extra("upgrade", ("upgrade", "websocket"), "closed"),
        extra("te with more than trailers", ("te", "trailers, deflate"), "closed"),
        extra("an empty name", ("", "1"), "closed"),
        extra("a name with a space", ("x y", "1"), "closed"),
        extra("a name with a colon", ("x:y", "1"), "closed"),
        extra("a name with a line break", ("x\r\ny", "1"), "closed"),
        extra("a value with a line break", ("x", "1\r\ny: 2"), "closed"),
        extra("a value with a bare LF", ("x", "1\ny: 2"), "closed"),
        extra("a value with a bare CR", ("x", "1\ry"), "closed"),
        extra("a value with a NUL", ("x", "1\x002"), "closed"),
        case(
            "blanks around a value are gone before the upstream",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.stream();
                client.headers(stream, &[M, S, P, A, ("x-a", " 1"), ("x-b", "1\t ")], true)?;
                let mut upstream = x.h2_upstream()?;
                let request = upstream.whole()?;
                x.see(format!("{:?} {:?}", request.get("x-a"), request.get("x-b")));
                Ok(())
            },
            "\" 1\" \"1\\t \"",
        )
        .ours(
            "\"1\" \"1\"",
            "RFC 9113 8.2.1 forbids them, gRPC's clients send them and allow that they are taken away: Envoy passes them on",
        ),
        extra("a host that differs from the authority", ("host", "b.test"), "went on").ours_any(&["went on", "reset PROTOCOL_ERROR", "GOAWAY PROTOCOL_ERROR closed"], "RFC 9113 8.3.1 says only that a server should refuse it; the authority is what counts"),
        fields("no method", &[S, P, A], "closed"),
        fields("no scheme", &[M, P, A], "closed"),
        fields("no path", &[M, S, A], "closed"),
        fields("an empty path", &[M, S, (":path", ""), A], "closed"),
        fields("a path without a slash", &[M, S, (":path", "a"), A], "closed"),
        fields("a method twice", &[M, M, S, P, A], "closed"),
        fields("a scheme twice", &[M, S, S, P, A], "closed"),
        fields("a pseudo-header after another header", &[M, S, ("x", "1"), P, A], "closed"),
        fields("a method with a space", &[(":method", "GET /x HTTP/1.1\r\nx:"), S, P, A], "closed"),
        fields("a path with a line break", &[M, S, (":path", "/ HTTP/1.1\r\nhost: b.test\r\n\r\nGET /"), A], "closed"),
        fields("a path with a space", &[M, S, (":path", "/a b"), A], "closed"),
        fields("a path with a NUL", &[M, S, (":path", "/a\0b"), A], "closed"),
        fields("an authority with a line break", &[M, S, P, (":authority", "a.test\r\nx: y")], "closed"),
        fields("an authority with a slash", &[M, S, P, (":authority", "a.test/b")], "closed"),
        fields("an authority with user information", &[M, S, P, (":authority", "me@a.test")], "closed"),
        fields("a scheme with a line break", &[M, (":scheme", "http\r\nx: y"), P, A], "closed"),
        fields("CONNECT with a path", &[(":method", "CONNECT"), S, P, A], "closed"),
        fields("extended CONNECT that was not allowed", &[(":method", "CONNECT"), (":protocol", "websocket"), S, P, A], "closed"),
        case(
            "neither authority nor host",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.stream();
                client.headers(stream, &[M, S, P], true)?;
                x.see(client.reply(stream)?.brief());
                Ok(())
            },
            "cut: fin",
        )
        .ours_any(&["400 Bad Request", "reset PROTOCOL_ERROR"], "a request for nobody is refused by itself, with 400 or as malformed"),
    ]
}

fn compression() -> Vec<Case> {
    let raw = |name: &str, bytes: &'static [u8], envoy: &str| {
        row(name, Connection("COMPRESSION_ERROR"), move |c| { let payload = [&head()[..], bytes].concat(); c.send(HEADERS, END_HEADERS | END_STREAM, 1, &payload) }, envoy)
    };
    vec![
        raw("an index of 0", &[0x80], "GOAWAY COMPRESSION_ERROR closed"),
        raw("an index beyond both tables", &[0xff, 0x80, 0x01], "GOAWAY COMPRESSION_ERROR closed"),
        raw("a literal whose name's index is beyond both tables", &[0x7f, 0xff, 0x01, 0x01, b'x'], "GOAWAY COMPRESSION_ERROR closed"),
        raw("a table larger than allowed", &[0x3f, 0xe2, 0x1f], "GOAWAY COMPRESSION_ERROR closed"),
        raw("a table's size at the end of a block", &[0x20], "GOAWAY COMPRESSION_ERROR closed"),
        raw("a string longer than the block", &[0x00, 0x7f, b'x'], "GOAWAY COMPRESSION_ERROR closed"),
        raw("a number that never ends", &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], "GOAWAY COMPRESSION_ERROR closed"),
        raw("Huffman padding of a byte", &[0x00, 0x83, 0xf8, 0xff, 0xff, 0x01, b'x'], "GOAWAY COMPRESSION_ERROR closed"),
        raw("Huffman padding of zeros", &[0x00, 0x81, 0xf0, 0x01, b'x'], "GOAWAY COMPRESSION_ERROR closed"),
        raw("Huffman with the end of string inside", &[0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x01, b'x'], "GOAWAY COMPRESSION_ERROR closed"),
        row("a block cut in the middle of a field", Connection("COMPRESSION_ERROR"), |c| { let head = head(); c.send(HEADERS, END_HEADERS | END_STREAM, 1, &head[..head.len() - 3]) }, "GOAWAY COMPRESSION_ERROR closed"),
    ]
}

fn floods() -> Vec<Case> {
    let flood = |name: &str, piece: Vec<u8>, count: usize, envoy: &str| {
        row(name, Flood, move |c| {
            let many = piece.repeat(100);
            // It may close meanwhile; what follows then goes nowhere.
            for _ in 0..count / 100 {
                c.wire.send(&many)?;
            }
            Ok(())
        }, envoy)
    };
    let resets = |count: u32| -> Vec<u8> {
        (0..count).flat_map(|i| [frame(HEADERS, END_HEADERS, i * 2 + 1, &head()), frame(RST_STREAM, 0, i * 2 + 1, &8_u32.to_be_bytes())].concat()).collect()
    };
    vec![
        row("CONTINUATION without end", Flood, |c| {
            c.send(HEADERS, END_STREAM, 1, &head())?;
            let piece = frame(CONTINUATION, 0, 1, &block(&[("x-flood", "y".repeat(8000))]));
            for _ in 0..200 {
                c.wire.send(&piece)?;
            }
            Ok(())
        }, "reset INTERNAL_ERROR").ours_any(&["GOAWAY ENHANCE_YOUR_CALM closed", "closed", "reset INTERNAL_ERROR", "answered 431"], "a head beyond every limit ends its stream or the connection; RFC 9113 names no code"),
        flood("PING", frame(PING, 0, 0, b"12345678"), 200_000, "closed"),
        flood("SETTINGS", frame(SETTINGS, 0, 0, &[]), 200_000, "closed"),
        row("empty DATA", Flood, |c| { let s = open(c)?; let many = frame(DATA, 0, s, &[]).repeat(100); for _ in 0..1000 { c.wire.send(&many)?; } Ok(()) }, "closed"),
        row("empty HEADERS", Flood, |c| { c.send(HEADERS, END_STREAM, 1, &head())?; let many = frame(CONTINUATION, 0, 1, &[]).repeat(100); for _ in 0..1000 { c.wire.send(&many)?; } Ok(()) }, "closed"),
        row("PRIORITY", Flood, |c| { let many = frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]).repeat(100); for _ in 0..1000 { c.wire.send(&many)?; } Ok(()) }, "closed"),
        row("WINDOW_UPDATE", Flood, |c| { let s = open(c)?; let many = frame(WINDOW_UPDATE, 0, s, &[0, 0, 0, 1]).repeat(100); for _ in 0..1000 { c.wire.send(&many)?; } Ok(()) }, "closed"),
        row("streams opened and reset", Flood, move |c| c.wire.send(resets(20_000)), "closed"),
    ]
}

/// What must go on, so that refusing is not all that is tested.
fn good() -> Vec<Case> {
    let on = |name: &str, script: fn(&mut H2) -> Done| {
        case(
            name,
            |s| {
                s.http2_upstream();
            },
            move |x| {
                let mut client = x.h2_client()?;
                script(&mut client)?;
                client.send(PING, 0, 0, b"the end!")?;
                fate(x, &mut client)
            },
            "went on",
        )
    };
    vec![
        on("an unknown frame is ignored", |c| c.send(0x77, 0xff, 0, b"anything")),
        on("an unknown frame of a stream is ignored", |c| c.send(0x77, 0, 7, b"anything")),
        on("unknown flags are ignored", |c| c.send(PING, 0xfe, 0, b"12345678")),
        on("an unknown setting is ignored", |c| c.send(SETTINGS, 0, 0, &settings(&[(0x77, 1)]))),
        on("the reserved bit of a stream's number is ignored", |c| { c.wire.send(frame(PING, 0, 0x8000_0000, b"12345678")) }),
        on("PRIORITY of an idle stream", |c| c.send(PRIORITY, 0, 5, &[0, 0, 0, 0, 1])),
        on("GOAWAY by a client", |c| c.send(PRIORITY, 0, 3, &[0, 0, 0, 0, 1])),
        case(
            "a request in HEADERS and three CONTINUATION, padded, with a priority",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                let head = head();
                let first = [&[2_u8, 0, 0, 0, 0, 9][..], &head[..5], &[0, 0]].concat();
                client.send(HEADERS, END_STREAM | PADDED | 0x20, 1, &first)?;
                client.send(CONTINUATION, 0, 1, &head[5..6])?;
                client.send(CONTINUATION, 0, 1, &[])?;
                client.send(CONTINUATION, END_HEADERS, 1, &head[6..])?;
                let mut upstream = x.h2_upstream()?;
                let request = upstream.whole()?;
                x.see(request.get(":authority"));
                upstream.answer(request.stream, "ok")?;
                x.see(client.reply(1)?.brief());
                Ok(())
            },
            "a.test, 200 ok",
        ),
        case(
            "a request whose fields come from the tables, with Huffman",
            |s| {
                s.http2_upstream();
            },
            |x| {
                // RFC 7541, C.6.1's opening, made a request: static entries, then a literal of ours with Huffman.
                let mut payload = vec![0x82, 0x86, 0x84, 0x41, 0x8c];
                payload.extend([0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff]);
                let mut client = x.h2_client()?;
                client.send(HEADERS, END_HEADERS | END_STREAM, 1, &payload)?;
                // The authority is now the newest entry of the dynamic table.
                client.send(HEADERS, END_HEADERS | END_STREAM, 3, &[0x82, 0x86, 0x84, 0xbe])?;
                let mut upstream = x.h2_upstream()?;
                x.see(upstream.whole()?.get(":authority"));
                x.see(upstream.whole()?.get(":authority"));
                Ok(())
            },
            "www.example.com, www.example.com",
        ),
        case(
            "cookies in pieces are one header upstream",
            |_| {},
            |x| {
                let mut client = x.h2_client()?;
                client.request("GET", "/", &[("cookie", "a=1"), ("cookie", "b=2")], true)?;
                let mut upstream = x.upstream()?;
                x.see(upstream.request()?.told("cookie"));
                Ok(())
            },
            "cookie=a=1; b=2",
        ),
    ]
}

