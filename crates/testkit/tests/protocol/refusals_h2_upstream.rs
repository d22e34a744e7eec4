//! HTTP/2 as no upstream may speak it.

use crate::harness::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PUSH_PROMISE, SETTINGS, WINDOW_UPDATE, block,
    settings,
};
use crate::harness::{Case, Done, Family, H2, case};

pub fn family() -> Family {
    Family::new("refusals_h2_upstream", [heads(), frames(), late()].into_iter().flatten().collect())
}

crate::tests!();

/// What a client of HTTP/1 gets when the upstream answers its request like this.
fn row(name: &str, script: impl Fn(&mut H2, u32) -> Done + Send + Sync + 'static, expected: &str) -> Case {
    case(
        name,
        |s| {
            s.http2_upstream();
        },
        move |x| {
            let mut client = x.client()?;
            client.get("/")?;
            let mut upstream = x.h2_upstream()?;
            let stream = upstream.whole()?.stream;
            let sent = script(&mut upstream, stream);
            drop(sent);
            x.see(client.response()?.status());
            x.see_verdict()
        },
        expected,
    )
}

fn heads() -> Vec<Case> {
    let fields = |name: &str, fields: &'static [(&'static str, &'static str)], expected: &str| {
        row(name, move |u, s| u.headers(s, fields, true), expected)
    };
    vec![
        fields("no status", &[("x", "y")], "502, log 502 UPE"),
        fields("two statuses", &[(":status", "200"), (":status", "200")], "502, log 502 UPE"),
        fields("a status of letters", &[(":status", "abc")], "502, log 502 UPE"),
        fields("a status of two digits", &[(":status", "20")], "502, log 502 UPE"),
        fields("a request's pseudo-header", &[(":status", "200"), (":path", "/")], "502, log 502 UPE"),
        fields("a pseudo-header after another header", &[("x", "y"), (":status", "200")], "502, log 502 UPE"),
        fields("a name in capitals", &[(":status", "200"), ("X-Test", "y")], "502, log 502 UPE"),
        fields("connection", &[(":status", "200"), ("connection", "close")], "502, log 502 UPE"),
        fields("transfer-encoding", &[(":status", "200"), ("transfer-encoding", "chunked")], "502, log 502 UPE"),
        fields("a value with a line break", &[(":status", "200"), ("x", "1\r\ny: 2")], "502, log 502 UPE"),
        fields("a value with a NUL", &[(":status", "200"), ("x", "1\x002")], "502, log 502 UPE"),
        fields("a name with a line break", &[(":status", "200"), ("x\r\ny", "2")], "502, log 502 UPE"),
        fields("an interim response that ends the stream", &[(":status", "103")], "502, log 502 UPE"),
        fields("101", &[(":status", "101")], "502, log 502 UPE"),
    ]
}

fn frames() -> Vec<Case> {
    vec![
        row("DATA before the head", |u, s| u.send(DATA, END_STREAM, s, b"x"), "502, log 502 UPE"),
        row("HEADERS on a stream nobody opened", |u, _| u.headers(77, &[(":status", "200")], true), "502, log 502 UPE"),
        row("PUSH_PROMISE", |u, s| u.send(PUSH_PROMISE, END_HEADERS, s, &[&[0, 0, 0, 2][..], &block(&[(":method", "GET")])].concat()), "502, log 502 UPE"),
        row("a CONTINUATION with nothing before it", |u, s| u.send(CONTINUATION, END_HEADERS, s, &[]), "502, log 502 UPE"),
        row("HEADERS cut by PING", |u, s| { u.send(HEADERS, 0, s, &block(&[(":status", "200")]))?; u.send(PING, 0, 0, b"12345678") }, "502, log 502 UPE"),
        row("SETTINGS of five bytes", |u, _| u.send(SETTINGS, 0, 0, &[0; 5]), "502, log 502 UPE"),
        row("a window beyond 2^31-1", |u, _| u.send(SETTINGS, 0, 0, &settings(&[(4, 0x8000_0000)])), "502, log 502 UPE"),
        row("ENABLE_PUSH by a server", |u, _| u.send(SETTINGS, 0, 0, &settings(&[(2, 1)])), "502, log 502 UPE"),
        row("WINDOW_UPDATE of 0", |u, s| u.send(WINDOW_UPDATE, 0, s, &[0; 4]), "502, log 502 UPE"),
        row("a block that does not decode", |u, s| u.send(HEADERS, END_HEADERS | END_STREAM, s, &[0xff, 0x80, 0x01]), "502, log 502 UPE"),
        row("GOAWAY of four bytes", |u, _| u.send(GOAWAY, 0, 0, &[0; 4]), "502, log 502 UPE"),
        row("a frame beyond the largest", |u, s| u.send(HEADERS, END_HEADERS, s, &[0; 20_000]), "502, log 502 UPE"),
        row("a reset of REFUSED_STREAM", |u, s| u.reset(s, 7), "503, log 503 UR"),
        row("a reset of PROTOCOL_ERROR", |u, s| u.reset(s, 1), "502, log 502 UPE"),
        row("a reset of HTTP_1_1_REQUIRED", |u, s| u.reset(s, 13), "503, log 503 UR"),
        case(
            "HTTP/1 where HTTP/2 was expected",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                let mut upstream = x.upstream()?;
                upstream.offer("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
                x.see(client.response()?.status());
                x.see_verdict()
            },
            "502, log 502 UPE",
        ),
    ]
}

/// Faults that show only after the head has gone to the client.
fn late() -> Vec<Case> {
    let late = |name: &str, length: Option<&'static str>, script: fn(&mut H2, u32) -> Done, expected: &str| {
        case(
            name,
            |s| {
                s.http2_upstream();
            },
            move |x| {
                let mut client = x.client()?;
                client.get("/")?;
                let mut upstream = x.h2_upstream()?;
                let stream = upstream.whole()?.stream;
                let mut fields = vec![(":status", "200")];
                fields.extend(length.map(|length| ("content-length", length)));
                upstream.headers(stream, &fields, false)?;
                upstream.send(DATA, 0, stream, b"one")?;
                let head = client.head()?;
                x.see(head.status());
                let got = match length {
                    Some(_) => client.text(3)?,
                    None => String::from_utf8_lossy(&client.chunk()?.unwrap_or_default()).into_owned(),
                };
                x.see(got);
                script(&mut upstream, stream)?;
                x.see(client.closed()?);
                x.see_verdict()
            },
            expected,
        )
    };
    vec![
        late("a reset in the middle", None, |u, s| u.reset(s, 2), "200, one, closed, log 200 UR"),
        late("less than the length says", Some("9"), |u, s| u.send(DATA, END_STREAM, s, b"x"), "200, one, closed, log 200 UPE"),
        late("more than the length says", Some("4"), |u, s| u.send(DATA, END_STREAM, s, b"xyz"), "200, one, closed, log 200 UPE"),
        late("the connection's end in the middle", None, |u, _| u.wire.fin(), "200, one, closed, log 200 UC"),
        late("trailers with a pseudo-header", None, |u, s| u.headers(s, &[(":status", "200")], true), "200, one, closed, log 200 UPE"),
        late("a reset of NO_ERROR in the middle", None, |u, s| u.reset(s, 0), "200, one, closed, log 200 UR"),
    ]
}
