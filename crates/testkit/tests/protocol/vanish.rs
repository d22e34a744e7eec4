//! Peers that vanish, on either side, at every stage; and upstreams that were never there.

use serde_json::json;

use crate::harness::{Case, Family, case};

pub fn family() -> Family {
    Family::new("vanish", [clients(), upstreams(), http2_clients(), http2_upstreams(), absent()].into_iter().flatten().collect())
}

crate::tests!();

const HALF: &str = "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 10\r\n\r\nhello";
const CHUNK: &str = "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";

fn clients() -> Vec<Case> {
    /// A client that goes in the middle of its request's body.
    fn mid_body(name: &str, request: &'static str, by_reset: bool, expected: &str) -> Case {
        case(
            name,
            |_| {},
            move |x| {
                let mut client = x.client()?;
                client.send(request)?;
                let mut upstream = x.upstream()?;
                x.see(upstream.head()?.start);
                if by_reset {
                    client.reset()?;
                } else {
                    drop(client);
                }
                let end = upstream.rest()?;
                x.see(if end.ends_with(b"0\r\n\r\n") { "completed" } else { "cut" });
                x.see_log()
            },
            expected,
        )
    }
    const DC: &str = "POST / HTTP/1.1, cut, log 0 DC downstream_remote_disconnect";
    vec![
        case(
            "in the middle of a head",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.send("GET / HTTP/1.1\r\nho")?;
                client.reset()?;
                x.see_log()?;
                x.see_untouched()
            },
            "log 0 DC downstream_remote_disconnect, upstream untouched",
        ),
        mid_body("in the middle of a body with a length, by FIN", HALF, false, DC),
        mid_body("in the middle of a body with a length, by reset", HALF, true, DC),
        mid_body("in the middle of a chunked body, by FIN", CHUNK, false, DC),
        mid_body("in the middle of a chunked body, by reset", CHUNK, true, DC),
        case(
            "while waiting for the answer",
            |_| {},
            |x| {
                let (client, mut upstream, _) = x.begin_get()?;
                drop(client);
                x.see(upstream.closed()?);
                x.see_log()
            },
            "closed, log 0 DC downstream_remote_disconnect",
        ),
        case(
            "in the middle of the answer",
            |_| {},
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")?;
                client.head()?;
                x.see(client.text(5)?);
                client.reset()?;
                x.see(upstream.closed()?);
                x.see_log()
            },
            "hello, closed, log 200 DC downstream_remote_disconnect",
        ),
        case(
            "while the connection to the upstream is being made",
            |s| {
                s.unreachable();
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                client.reset()?;
                x.see_log()
            },
            "log 0 DC downstream_remote_disconnect",
        ),
    ]
}

fn upstreams() -> Vec<Case> {
    let before = |name: &str, part: &'static str, by_reset: bool, expected: &str| {
        case(
            name,
            |_| {},
            move |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.send(part)?;
                if by_reset {
                    upstream.reset()?;
                } else {
                    drop(upstream);
                }
                x.see(client.response()?.brief());
                x.see_log()?;
                // The client's connection is as good as before.
                client.get("/2")?;
                let mut upstream = x.upstream()?;
                upstream.request()?;
                upstream.answer("ok")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            expected,
        )
    };
    let after = |name: &str, head: &'static str, by_reset: bool, expected: &str| {
        case(
            name,
            |_| {},
            move |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.send(head)?;
                x.see(client.head()?.status());
                client.until(b"hello")?;
                if by_reset {
                    upstream.reset()?;
                } else {
                    drop(upstream);
                }
                while !client.buffer.ends_with(b"0\r\n\r\n") && client.fill()? {}
                x.see(if client.buffer.ends_with(b"0\r\n\r\n") { "completed" } else { "cut" });
                x.see_log()
            },
            expected,
        )
    };
    const LENGTH: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    vec![
        before("before the head, by FIN", "", false, "503 upstream connect error or disconnect/reset before headers. reset reason: connection termination, log 503 UC upstream_reset_before_response_started, 200 ok"),
        before("before the head, by reset", "", true, "503 upstream connect error or disconnect/reset before headers. reset reason: connection termination, log 503 UC upstream_reset_before_response_started, 200 ok"),
        before("in the middle of the head, by FIN", "HTTP/1.1 200 OK\r\ncont", false, "502 upstream connect error or disconnect/reset before headers. reset reason: protocol error, log 502 UPE upstream_reset_before_response_started, 200 ok"),
        before("in the middle of the head, by reset", "HTTP/1.1 200 OK\r\ncont", true, "502 upstream connect error or disconnect/reset before headers. reset reason: protocol error, log 502 UPE upstream_reset_before_response_started, 200 ok"),
        after("in the middle of a body with a length, by FIN (upstream)", LENGTH, false, "200, cut, log 200 UPE upstream_reset_after_response_started"),
        after("in the middle of a body with a length, by reset (upstream)", LENGTH, true, "200, cut, log 200 UPE upstream_reset_after_response_started"),
        after("in the middle of a chunked body, by FIN (upstream)", CHUNKED, false, "200, cut, log 200 UPE upstream_reset_after_response_started"),
        after("in the middle of a chunked body, by reset (upstream)", CHUNKED, true, "200, cut, log 200 UPE upstream_reset_after_response_started"),
        after("in the middle of a body that lasts until the close, by reset", "HTTP/1.1 200 OK\r\n\r\nhello", true, "200, completed, log 200 - via_upstream").ours_any(&["200, cut, log 200 UC upstream_reset_after_response_started", "200, cut, log 200 UPE upstream_reset_after_response_started"], "a reset is no end of a body: what is cut must not look whole"),
        case(
            "in the middle of the request's body",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.send(HALF)?;
                let mut upstream = x.upstream()?;
                upstream.head()?;
                upstream.text(5)?;
                upstream.reset()?;
                x.see(client.response()?.status());
                x.see(client.closed()?);
                x.see_log()
            },
            "503, closed, log 503 UC upstream_reset_before_response_started",
        ),
        case(
            "an answer before the request's body has come",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.send(HALF)?;
                let mut upstream = x.upstream()?;
                upstream.head()?;
                upstream.text(5)?;
                upstream.send("HTTP/1.1 413 X\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno")?;
                x.see(client.response()?.brief());
                x.see(client.closed()?);
                x.see(upstream.closed()?);
                x.see_log()
            },
            "413 no, closed, closed, log 413 - via_upstream",
        ),
    ]
}

fn http2_clients() -> Vec<Case> {
    vec![
        case(
            "HTTP/2: a client resets its stream while waiting",
            |_| {},
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.get("/")?;
                let mut upstream = x.upstream()?;
                upstream.request()?;
                client.reset(stream, 8)?;
                x.see(upstream.closed()?);
                x.see_log()
            },
            "closed, log 0 DR http2.remote_reset",
        ),
        case(
            "HTTP/2: a client resets its stream, an upstream of HTTP/2 hears of it",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/", &[], false)?;
                let mut upstream = x.h2_upstream()?;
                let (at, ..) = upstream.begun()?;
                client.reset(stream, 8)?;
                x.see(upstream.reply(at)?.brief());
                x.see_log()
            },
            "reset INTERNAL_ERROR, log 0 DR http2.remote_reset",
        ).ours_any(&["reset CANCEL, log 0 DR http2.remote_reset", "reset INTERNAL_ERROR, log 0 DR http2.remote_reset"], "which code a reset carries is open; Envoy has INTERNAL_ERROR for all, CANCEL says it better"),
        case(
            "HTTP/2: a client's connection ends with two streams open",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                client.get("/1")?;
                client.request("POST", "/2", &[], false)?;
                let mut upstream = x.h2_upstream()?;
                let (first, ..) = upstream.begun()?;
                let (second, ..) = upstream.begun()?;
                drop(client);
                x.see(upstream.reply(first)?.brief());
                x.see(upstream.reply(second)?.brief());
                x.see_log()?;
                x.see_log()
            },
            "reset INTERNAL_ERROR, reset INTERNAL_ERROR, log 0 DC downstream_remote_disconnect, log 0 DC downstream_remote_disconnect",
        ).ours_any(&["reset CANCEL, reset CANCEL, log 0 DC downstream_remote_disconnect, log 0 DC downstream_remote_disconnect", "reset INTERNAL_ERROR, reset INTERNAL_ERROR, log 0 DC downstream_remote_disconnect, log 0 DC downstream_remote_disconnect", "reset CANCEL, reset INTERNAL_ERROR, log 0 DC downstream_remote_disconnect, log 0 DC downstream_remote_disconnect", "reset INTERNAL_ERROR, reset CANCEL, log 0 DC downstream_remote_disconnect, log 0 DC downstream_remote_disconnect"], "which code a reset carries is open; Envoy has INTERNAL_ERROR for all, CANCEL says it better"),
        case(
            "HTTP/2: a client resets in the middle of the answer",
            |_| {},
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.get("/")?;
                let mut upstream = x.upstream()?;
                upstream.request()?;
                upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")?;
                client.begun()?;
                client.reset(stream, 8)?;
                x.see(upstream.closed()?);
                x.see_log()
            },
            "closed, log 200 DR http2.remote_reset",
        ),
    ]
}

fn http2_upstreams() -> Vec<Case> {
    vec![
        case(
            "HTTP/2: an upstream's connection ends before the answer",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                let mut upstream = x.h2_upstream()?;
                upstream.whole()?;
                drop(upstream);
                x.see(client.response()?.brief());
                x.see_log()
            },
            "503 upstream connect error or disconnect/reset before headers. reset reason: connection termination, log 503 UC upstream_reset_before_response_started",
        ),
        case(
            "HTTP/2: an upstream's connection ends before its SETTINGS",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                let upstream = x.upstream()?;
                drop(upstream);
                x.see(client.response()?.brief());
                x.see_log()
            },
            "503 upstream connect error or disconnect/reset before headers. reset reason: connection termination, log 503 UC upstream_reset_before_response_started",
        ),
        case(
            "HTTP/2: an upstream resets in the middle of the answer",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.get("/")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.headers(at, &[(":status", "200")], false)?;
                upstream.data(at, b"hello", false)?;
                upstream.reset(at, 2)?;
                x.see(client.reply(stream)?.brief());
                x.see_log()
            },
            "200 hello reset INTERNAL_ERROR, log 200 UR upstream_reset_after_response_started",
        ).ours_any(&["200 hello reset CANCEL, log 200 UR upstream_reset_after_response_started", "200 hello reset INTERNAL_ERROR, log 200 UR upstream_reset_after_response_started"], "which code a reset carries is open; Envoy has INTERNAL_ERROR for all, CANCEL says it better"),
        case(
            "HTTP/2: an upstream's connection ends in the middle of the answer",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.get("/")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.headers(at, &[(":status", "200")], false)?;
                upstream.data(at, b"hello", false)?;
                drop(upstream);
                x.see(client.reply(stream)?.brief());
                x.see_log()
            },
            "200 hello reset INTERNAL_ERROR, log 200 UC upstream_reset_after_response_started",
        ).ours_any(&["200 hello reset CANCEL, log 200 UC upstream_reset_after_response_started", "200 hello reset INTERNAL_ERROR, log 200 UC upstream_reset_after_response_started"], "which code a reset carries is open; Envoy has INTERNAL_ERROR for all, CANCEL says it better"),
        case(
            "HTTP/2: an answer, then NO_ERROR, before the request's body has come",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/", &[], false)?;
                client.data(stream, b"hello", false)?;
                let mut upstream = x.h2_upstream()?;
                let (at, ..) = upstream.begun()?;
                upstream.answer(at, "no more")?;
                upstream.reset(at, 0)?;
                x.see(client.reply(stream)?.brief());
                x.see_log()
            },
            "200 no more, log 200 - via_upstream",
        ),
    ]
}

fn absent() -> Vec<Case> {
    vec![
        case(
            "an upstream that refuses the connection",
            |s| {
                s.refusing();
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                let response = client.response()?;
                x.see(response.text().split(" address:").next().unwrap_or_default().to_owned());
                x.see(response.status());
                x.see_log()
            },
            "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure, 503, log 503 UF upstream_reset_before_response_started",
        ),
        case(
            "an upstream of HTTP/2 that refuses the connection",
            |s| {
                s.refusing();
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.get("/")?;
                x.see(client.reply(stream)?.get(":status"));
                x.see_log()
            },
            "503, log 503 UF upstream_reset_before_response_started",
        ),
        case(
            "a cluster without endpoints",
            |s| {
                s.empty();
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                x.see(client.response()?.brief());
                x.see_log()
            },
            "503 no healthy upstream, log 503 UH no_healthy_upstream",
        ),
        case(
            "a cluster that does not exist",
            |s| {
                s.route("route.cluster", json!("nowhere"));
                s.hcm("route_config", json!({"name": "loose", "validate_clusters": false}));
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                x.see(client.response()?.brief());
                x.see_log()
            },
            "503, log 503 NC cluster_not_found",
        ),
        case(
            "no route",
            |s| {
                s.route("match", json!({"prefix": "/there"}));
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                x.see(client.response()?.brief());
                x.see_log()
            },
            "404, log 404 NR route_not_found",
        ),
        case(
            "no virtual host",
            |s| {
                s.virtual_host("domains", json!(["b.test"]));
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                x.see(client.response()?.brief());
                x.see_log()
            },
            "404, log 404 NR route_not_found",
        ),
        case(
            "no route, gRPC",
            |s| {
                s.route("match", json!({"prefix": "/there"}));
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/s/m", &[("content-type", "application/grpc")], true)?;
                let reply = client.reply(stream)?;
                x.see(reply.brief());
                x.see(reply.get("grpc-status"));
                x.see_log()
            },
            "200, 12, log 200 NR route_not_found",
        ),
    ]
}
