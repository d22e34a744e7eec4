//! Answers that have no body: to HEAD, 204, 304.

use serde_json::json;

use crate::harness::{Case, Family, case};

pub fn family() -> Family {
    Family::new("head_method", [http1(), http2()].into_iter().flatten().collect())
}

crate::tests!();

const HEAD: &str = "HEAD / HTTP/1.1\r\nhost: a.test\r\n\r\n";

/// What a client gets for this answer to this request; both connections must be good for another exchange.
fn bodiless(name: &'static str, request: &'static str, answer: &'static str, expected: &str) -> Case {
    case(
        name,
        |_| {},
        move |x| {
            let (mut client, mut upstream, _) = x.begin(request)?;
            upstream.send(answer)?;
            let method = request.split(' ').next().unwrap_or_default();
            let response = client.response_to(method)?;
            x.see(response.status());
            x.see(response.told("content-length"));
            x.see(response.told("transfer-encoding"));
            let (_, next) = x.exchange(&mut client, &mut upstream, "/next")?;
            x.see(next.brief());
            Ok(())
        },
        expected,
    )
}

fn http1() -> Vec<Case> {
    vec![
        bodiless("a length without a body", HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n", "200, content-length=99, transfer-encoding=-, 200 ok"),
        bodiless("a coding without a body", HEAD, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "200, content-length=-, transfer-encoding=chunked, 200 ok"),
        bodiless("neither", HEAD, "HTTP/1.1 200 OK\r\n\r\n", "200, content-length=-, transfer-encoding=chunked, 200 ok"),
        bodiless("204", "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n", "204, content-length=-, transfer-encoding=-, 200 ok"),
        bodiless("204 with a length of zero", "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n", "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", "204, content-length=-, transfer-encoding=-, 200 ok"),
        bodiless("304 with a length", "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n", "HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n", "304, content-length=99, transfer-encoding=-, 200 ok"),
        bodiless("404 to HEAD", HEAD, "HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\n", "404, content-length=9, transfer-encoding=-, 200 ok"),
        case(
            "a body behind HEAD's answer is not passed on",
            |_| {},
            |x| {
                let (mut client, mut upstream, _) = x.begin(HEAD)?;
                upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")?;
                x.see(client.response_to("HEAD")?.status());
                x.see(upstream.closed()?);
                client.get("/2")?;
                let mut second = x.upstream()?;
                second.request()?;
                second.answer("two")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "200, closed, 200 two",
        ),
        case(
            "HEAD of the proxy's own answer",
            |s| {
                s.route_before(json!({"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "hello"}}}));
            },
            |x| {
                let mut client = x.client()?;
                client.send(HEAD)?;
                let response = client.response_to("HEAD")?;
                x.see(response.told("content-length"));
                client.get("/")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "content-length=5, 200 hello",
        ),
        case(
            "HEAD where there is no route",
            |s| {
                s.route("match", json!({"prefix": "/there"}));
            },
            |x| {
                let mut client = x.client()?;
                client.send(HEAD)?;
                x.see(client.response_to("HEAD")?.status());
                client.send(HEAD)?;
                x.see(client.response_to("HEAD")?.status());
                Ok(())
            },
            "404, 404",
        ),
    ]
}

fn http2() -> Vec<Case> {
    vec![
        case(
            "HTTP/2 to HTTP/1",
            |_| {},
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("HEAD", "/", &[], true)?;
                let mut upstream = x.upstream()?;
                x.see(upstream.request()?.start);
                upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n")?;
                let reply = client.reply(stream)?;
                x.see(reply.brief());
                x.see(reply.get("content-length"));
                Ok(())
            },
            "HEAD / HTTP/1.1, 200, 99",
        ),
        case(
            "HTTP/1 to HTTP/2",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.client()?;
                client.send(HEAD)?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.headers(at, &[(":status", "200"), ("content-length", "99")], true)?;
                let response = client.response_to("HEAD")?;
                x.see(response.status());
                x.see(response.told("content-length"));
                client.get("/2")?;
                let at = upstream.whole()?.stream;
                upstream.answer(at, "two")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "200, content-length=99, 200 two",
        ),
        case(
            "304 with a length over HTTP/2",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.get("/")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.headers(at, &[(":status", "304"), ("content-length", "99")], true)?;
                x.see(client.reply(stream)?.brief());
                Ok(())
            },
            "304",
        ),
    ]
}
