//! Trailers, over each pair of protocols.

use serde_json::json;

use crate::harness::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, block};
use crate::harness::{Case, Family, Site, case};

pub fn family() -> Family {
    Family::new("trailers", [http1(), http2(), mixed(), bad()].into_iter().flatten().collect())
}

crate::tests!();

/// Trailers pass in HTTP/1, on both sides.
fn enabled(site: &mut Site) {
    site.hcm("http_protocol_options.enable_trailers", json!(true));
    site.main().option("explicit_http_config.http_protocol_options.enable_trailers", json!(true));
}

fn post(trailers: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{trailers}\r\n")
}

fn response(trailers: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{trailers}\r\n")
}

fn told(trailers: &[(String, String)]) -> String {
    let mut all: Vec<String> = trailers.iter().map(|(n, v)| format!("{}={v}", n.to_lowercase())).collect();
    all.sort();
    format!("trailers[{}]", all.join(" "))
}

fn http1() -> Vec<Case> {
    vec![
        case(
            "of a request, HTTP/1 to HTTP/1",
            enabled,
            |x| {
                let (_client, _upstream, request) = x.begin(&post("x-end: 1\r\nX-Sum: a b\r\n"))?;
                x.see(request.text());
                x.see(told(&request.trailers));
                Ok(())
            },
            "ok, trailers[x-end=1 x-sum=a b]",
        ),
        case(
            "of a response, HTTP/1 to HTTP/1",
            enabled,
            |x| {
                let (response, ..) = x.response_through(response("x-end: 1\r\n"))?;
                x.see(response.text());
                x.see(told(&response.trailers));
                Ok(())
            },
            "ok, trailers[x-end=1]",
        ),
        case(
            "of a request, dropped unless enabled",
            |_| {},
            |x| {
                let (_client, _upstream, request) = x.begin(&post("x-end: 1\r\n"))?;
                x.see(told(&request.trailers));
                Ok(())
            },
            "trailers[]",
        ),
        case(
            "a te header that asks for them does not go on",
            enabled,
            |x| {
                let (_client, _upstream, request) =
                    x.begin("GET / HTTP/1.1\r\nhost: a.test\r\nte: trailers\r\nconnection: te\r\n\r\n")?;
                x.see(request.told("te"));
                Ok(())
            },
            "te=trailers",
        ),
    ]
}

fn http2() -> Vec<Case> {
    vec![
        case(
            "of a request, HTTP/2 to HTTP/2",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/", &[], false)?;
                client.data(stream, b"ok", false)?;
                client.headers(stream, &[("x-end", "1")], true)?;
                let mut upstream = x.h2_upstream()?;
                let request = upstream.whole()?;
                x.see(request.text());
                x.see(told(&request.trailers));
                upstream.answer(request.stream, "done")?;
                x.see(client.reply(stream)?.brief());
                Ok(())
            },
            "ok, trailers[x-end=1], 200 done",
        ),
        case(
            "of a response, HTTP/2 to HTTP/2",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.get("/")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.headers(at, &[(":status", "200")], false)?;
                upstream.data(at, b"ok", false)?;
                upstream.headers(at, &[("x-end", "1")], true)?;
                let reply = client.reply(stream)?;
                x.see(reply.brief());
                x.see(told(&reply.trailers));
                Ok(())
            },
            "200 ok, trailers[x-end=1]",
        ),
        case(
            "right after the head, without data",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/", &[], false)?;
                client.headers(stream, &[("x-up", "1")], true)?;
                let mut upstream = x.h2_upstream()?;
                let request = upstream.whole()?;
                x.see(told(&request.trailers));
                upstream.headers(request.stream, &[(":status", "200")], false)?;
                upstream.headers(request.stream, &[("x-down", "1")], true)?;
                let reply = client.reply(stream)?;
                x.see(reply.brief());
                x.see(told(&reply.trailers));
                Ok(())
            },
            "trailers[x-up=1], 200, trailers[x-down=1]",
        ),
        case(
            "te: trailers goes on over HTTP/2",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                client.request("GET", "/", &[("te", "trailers")], true)?;
                let mut upstream = x.h2_upstream()?;
                x.see(upstream.whole()?.get("te"));
                Ok(())
            },
            "trailers",
        ),
    ]
}

fn mixed() -> Vec<Case> {
    vec![
        case(
            "of a request, HTTP/2 to HTTP/1",
            enabled,
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/", &[], false)?;
                client.data(stream, b"ok", false)?;
                client.headers(stream, &[("x-end", "1")], true)?;
                let mut upstream = x.upstream()?;
                let request = upstream.request()?;
                x.see(request.text());
                x.see(told(&request.trailers));
                Ok(())
            },
            "ok, trailers[x-end=1]",
        ),
        case(
            "of a request, HTTP/2 to HTTP/1, dropped unless enabled",
            |_| {},
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/", &[], false)?;
                client.data(stream, b"ok", false)?;
                client.headers(stream, &[("x-end", "1")], true)?;
                let mut upstream = x.upstream()?;
                let request = upstream.request()?;
                x.see(request.text());
                x.see(told(&request.trailers));
                upstream.answer("done")?;
                x.see(client.reply(stream)?.brief());
                Ok(())
            },
            "ok, trailers[], 200 done",
        ),
        case(
            "of a response, HTTP/1 to HTTP/2",
            enabled,
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.get("/")?;
                let mut upstream = x.upstream()?;
                upstream.request()?;
                upstream.send(response("x-end: 1\r\n"))?;
                let reply = client.reply(stream)?;
                x.see(reply.brief());
                x.see(told(&reply.trailers));
                Ok(())
            },
            "200 ok, trailers[x-end=1]",
        ),
        case(
            "of a response, HTTP/2 to HTTP/1",
            |s| {
                enabled(s);
                s.main().options = json!({"explicit_http_config": {"http2_protocol_options": {}}});
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.headers(at, &[(":status", "200")], false)?;
                upstream.data(at, b"ok", false)?;
                upstream.headers(at, &[("x-end", "1")], true)?;
                let response = client.response()?;
                x.see(response.brief());
                x.see(told(&response.trailers));
                Ok(())
            },
            "200 ok, trailers[x-end=1]",
        ),
    ]
}

fn bad() -> Vec<Case> {
    let forbidden = |name: &'static str, line: &'static str, expected: &str| {
        case(
            name,
            enabled,
            move |x| {
                let mut client = x.client()?;
                client.send(post(line))?;
                let mut upstream = x.upstream()?;
                x.see(told(&upstream.request()?.trailers));
                Ok(())
            },
            expected,
        )
    };
    vec![
        forbidden("content-length in a request's trailers", "content-length: 5\r\n", "trailers[content-length=5]")
        .ours("trailers[]", "RFC 9110 6.5.1: fields of framing and routing are not sent in trailers, so ours drops them"),
        forbidden("transfer-encoding in a request's trailers", "transfer-encoding: chunked\r\n", "trailers[transfer-encoding=chunked]")
        .ours("trailers[]", "RFC 9110 6.5.1: fields of framing and routing are not sent in trailers, so ours drops them"),
        forbidden("host in a request's trailers", "host: b.test\r\n", "trailers[host=b.test]")
        .ours("trailers[]", "RFC 9110 6.5.1: fields of framing and routing are not sent in trailers, so ours drops them"),
        case(
            "no colon in a request's trailers",
            enabled,
            |x| {
                let mut client = x.client()?;
                client.send(post("nonsense\r\n"))?;
                x.see(client.response()?.status());
                x.see(client.closed()?);
                x.see_verdict()
            },
            "400, closed, log 400 DPE",
        ),
        case(
            "a pseudo-header in trailers of HTTP/2 is a stream error",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/", &[], false)?;
                client.send(DATA, 0, stream, b"ok")?;
                client.headers(stream, &[(":path", "/")], true)?;
                x.see(client.reply(stream)?.brief());
                x.see_verdict()
            },
            "cut: fin, log 0 DPE",
        )
        .ours(
            "cut: GOAWAY PROTOCOL_ERROR fin, log 0 DPE",
            "RFC 9113 5.4.1: who closes a connection for an error says so first, where that is possible",
        ),
        case(
            "trailers of HTTP/2 that do not end the stream",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/", &[], false)?;
                client.send(DATA, 0, stream, b"ok")?;
                client.send(HEADERS, END_HEADERS, stream, &block(&[("x-end", "1")]))?;
                client.send(DATA, END_STREAM, stream, b"more")?;
                x.see(client.reply(stream)?.brief());
                Ok(())
            },
            "cut: fin",
        )
        .ours(
            "cut: GOAWAY PROTOCOL_ERROR fin",
            "RFC 9113 5.4.1: who closes a connection for an error says so first, where that is possible",
        ),
    ]
}
