//! Connections that stay, on both sides, and those that close when they should.

use serde_json::json;

use crate::harness::{Case, Family, case};

pub fn family() -> Family {
    Family::new("keep_alive", [downstream(), upstream(), http10()].into_iter().flatten().collect())
}

crate::tests!();

fn downstream() -> Vec<Case> {
    vec![
        case(
            "two requests on one connection use one upstream connection",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.get("/1")?;
                let mut upstream = x.upstream()?;
                upstream.request()?;
                upstream.answer("one")?;
                x.see(client.response()?.brief());
                let (request, response) = x.exchange(&mut client, &mut upstream, "/2")?;
                x.see(request.start);
                x.see(response.brief());
                x.see_untouched()?;
                x.see_log()
            },
            "200 one, GET /2 HTTP/1.1, 200 ok, upstream untouched, log 200 - via_upstream",
        ),
        case(
            "connection: close is obeyed, and the answer says so",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.send("GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")?;
                let mut upstream = x.upstream()?;
                let request = upstream.request()?;
                x.see(request.told("connection"));
                upstream.answer("ok")?;
                let response = client.response()?;
                x.see(response.told("connection"));
                x.see(client.end()?);
                Ok(())
            },
            "connection=-, connection=close, fin",
        ),
        case(
            "Connection: Close in another case, among other tokens",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.send("GET / HTTP/1.1\r\nhost: a.test\r\nConnection: keep-alive, Close\r\n\r\n")?;
                let mut upstream = x.upstream()?;
                upstream.request()?;
                upstream.answer("ok")?;
                x.see(client.response()?.told("connection"));
                x.see(client.end()?);
                Ok(())
            },
            "connection=close, fin",
        ),
        case(
            "an idle connection is closed after its time, without a line in the log",
            |s| {
                s.hcm("common_http_protocol_options.idle_timeout", json!("0.2s"));
            },
            |x| {
                let mut client = x.client()?;
                client.get("/1")?;
                let mut upstream = x.upstream()?;
                upstream.request()?;
                upstream.answer("one")?;
                x.see(client.response()?.brief());
                x.see(client.end()?);
                Ok(())
            },
            "200 one, fin",
        ),
        case(
            "a connection that never speaks is closed after the idle time",
            |s| {
                s.hcm("common_http_protocol_options.idle_timeout", json!("0.2s"));
            },
            |x| {
                let mut client = x.client()?;
                x.see(client.end()?);
                Ok(())
            },
            "fin",
        ),
        case(
            "after so many requests the connection is closed",
            |s| {
                s.hcm("common_http_protocol_options.max_requests_per_connection", json!(2));
            },
            |x| {
                let mut client = x.client()?;
                client.get("/1")?;
                let mut upstream = x.upstream()?;
                upstream.request()?;
                upstream.answer("one")?;
                x.see(client.response()?.told("connection"));
                let (_, response) = x.exchange(&mut client, &mut upstream, "/2")?;
                x.see(response.told("connection"));
                x.see(client.end()?);
                Ok(())
            },
            "connection=-, connection=close, fin",
        ),
        case(
            "after its life a connection is drained at the next request",
            |s| {
                s.hcm("common_http_protocol_options.max_connection_duration", json!("0.2s"));
                s.hcm("drain_timeout", json!("0.1s"));
            },
            |x| {
                let mut client = x.client()?;
                x.see(client.end()?);
                Ok(())
            },
            "fin",
        ),
        case(
            "half-close after a request still gets the answer",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                let mut upstream = x.upstream()?;
                upstream.request()?;
                client.fin()?;
                upstream.offer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                x.see(String::from_utf8_lossy(&client.rest()?).lines().next().unwrap_or("nothing"));
                x.see(client.how());
                x.see_verdict()
            },
            "nothing, fin, log 0 DC",
        ),
    ]
}

fn upstream() -> Vec<Case> {
    vec![
        case(
            "an upstream that says close is not used again",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.get("/1")?;
                let mut first = x.upstream()?;
                first.request()?;
                first.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\none")?;
                let response = client.response()?;
                x.see(response.brief());
                x.see(response.told("connection"));
                x.see(first.end()?);
                client.get("/2")?;
                let mut second = x.upstream()?;
                second.request()?;
                second.answer("two")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "200 one, connection=-, fin, 200 two",
        ),
        case(
            "an idle upstream connection is closed after its time",
            |s| {
                s.main().option("common_http_protocol_options.idle_timeout", json!("0.2s"));
            },
            |x| {
                let mut client = x.client()?;
                client.get("/1")?;
                let mut upstream = x.upstream()?;
                upstream.request()?;
                upstream.answer("one")?;
                x.see(client.response()?.brief());
                x.see(upstream.end()?);
                client.get("/2")?;
                let mut second = x.upstream()?;
                second.request()?;
                second.answer("two")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "200 one, fin, 200 two",
        ),
        case(
            "an upstream connection serves so many requests and no more",
            |s| {
                s.main().option("common_http_protocol_options.max_requests_per_connection", json!(1));
            },
            |x| {
                let mut client = x.client()?;
                client.get("/1")?;
                let mut first = x.upstream()?;
                first.request()?;
                first.answer("one")?;
                x.see(client.response()?.brief());
                x.see(first.end()?);
                client.get("/2")?;
                let mut second = x.upstream()?;
                second.request()?;
                second.answer("two")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "200 one, fin, 200 two",
        ),
        case(
            "an upstream that closed while idle does not fail the next request",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.get("/1")?;
                let mut first = x.upstream()?;
                first.request()?;
                first.answer("one")?;
                x.see(client.response()?.brief());
                first.fin()?;
                x.see(first.end()?);
                client.get("/2")?;
                let mut second = x.upstream()?;
                second.request()?;
                second.answer("two")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "200 one, fin, 200 two",
        ),
        case(
            "two clients share an upstream connection one after the other",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.get("/1")?;
                let mut upstream = x.upstream()?;
                upstream.request()?;
                upstream.answer("one")?;
                x.see(client.response()?.brief());
                let mut other = x.client()?;
                let (_, response) = x.exchange(&mut other, &mut upstream, "/2")?;
                x.see(response.brief());
                x.see_untouched()
            },
            "200 one, 200 ok, upstream untouched",
        ),
        case(
            "bytes nobody asked for close an idle upstream connection",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.get("/1")?;
                let mut first = x.upstream()?;
                first.request()?;
                first.answer("one")?;
                x.see(client.response()?.brief());
                first.answer("unasked")?;
                x.see(first.closed()?);
                client.get("/2")?;
                let mut second = x.upstream()?;
                second.request()?;
                second.answer("two")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "200 one, closed, 200 two",
        ),
    ]
}

fn http10() -> Vec<Case> {
    vec![
        case(
            "HTTP/1.0 is refused unless allowed",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.send("GET / HTTP/1.0\r\nhost: a.test\r\n\r\n")?;
                x.see(client.response()?.status());
                x.see(client.closed()?);
                x.see_untouched()?;
                x.see_verdict()
            },
            "426, closed, upstream untouched, log 426 DPE",
        ),
        case(
            "HTTP/1.0 where allowed closes after the answer",
            |s| {
                s.hcm("http_protocol_options.accept_http_10", json!(true));
            },
            |x| {
                let mut client = x.client()?;
                client.send("GET / HTTP/1.0\r\nhost: a.test\r\n\r\n")?;
                let mut upstream = x.upstream()?;
                x.see(upstream.request()?.start);
                upstream.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")?;
                let response = client.response()?;
                x.see(&response.start);
                x.see(response.framing);
                x.see(response.told("connection"));
                x.see(response.text());
                x.see(client.how());
                Ok(())
            },
            "GET / HTTP/1.1, HTTP/1.0 200 OK, close, connection=close, ok, fin",
        ),
        case(
            "HTTP/1.0 with keep-alive stays",
            |s| {
                s.hcm("http_protocol_options.accept_http_10", json!(true));
            },
            |x| {
                let mut client = x.client()?;
                client.send("GET / HTTP/1.0\r\nhost: a.test\r\nconnection: keep-alive\r\n\r\n")?;
                let mut upstream = x.upstream()?;
                upstream.request()?;
                upstream.answer("ok")?;
                let response = client.response()?;
                x.see(response.told("connection"));
                let (_, response) = x.exchange(&mut client, &mut upstream, "/2")?;
                x.see(response.brief());
                Ok(())
            },
            "connection=keep-alive, 200 ok",
        ),
        case(
            "HTTP/1.0 without a host gets the default one",
            |s| {
                s.hcm("http_protocol_options.accept_http_10", json!(true));
                s.hcm("http_protocol_options.default_host_for_http_10", json!("b.test"));
            },
            |x| {
                let mut client = x.client()?;
                client.send("GET / HTTP/1.0\r\n\r\n")?;
                let mut upstream = x.upstream()?;
                x.see(upstream.request()?.told("host"));
                upstream.answer("ok")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "host=b.test, 200 ok",
        ),
    ]
}
