//! Requests sent before the answers to earlier ones: answered in order, or not at all.

use crate::harness::{Case, Family, case};

pub fn family() -> Family {
    Family::new("pipelining", [in_order(), ended()].into_iter().flatten().collect())
}

crate::tests!();

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n\r\n")
}

fn in_order() -> Vec<Case> {
    vec![
        case(
            "two in one segment",
            |_| {},
            |x| {
                let (mut client, mut upstream, first) = x.begin(&(get("/1") + &get("/2")))?;
                x.see(first.start);
                upstream.answer("one")?;
                x.see(upstream.request()?.start);
                upstream.answer("two")?;
                x.see(client.response()?.brief());
                x.see(client.response()?.brief());
                Ok(())
            },
            "GET /1 HTTP/1.1, GET /2 HTTP/1.1, 200 one, 200 two",
        ),
        case(
            "fifty in one segment",
            |_| {},
            |x| {
                let all: String = (0..50).map(|i| get(&format!("/{i}"))).collect();
                let mut client = x.client()?;
                client.send(all)?;
                let mut upstream = x.upstream()?;
                for _ in 0..50 {
                    let request = upstream.request()?;
                    upstream.answer(request.start.split(' ').nth(1).unwrap_or_default())?;
                }
                let answers: Vec<String> =
                    (0..50).map(|_| Ok(client.response()?.text())).collect::<Result<_, crate::harness::Trouble>>()?;
                let expected: Vec<String> = (0..50).map(|i| format!("/{i}")).collect();
                x.see(if answers == expected { "in order".to_owned() } else { answers.join(" ") });
                x.see_untouched()
            },
            "in order, upstream untouched",
        ),
        case(
            "a request behind a body with a length",
            |_| {},
            |x| {
                let post = "POST /1 HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n\r\nhello";
                let (mut client, mut upstream, first) = x.begin(&(post.to_owned() + &get("/2")))?;
                x.see(first.text());
                upstream.answer("one")?;
                x.see(upstream.request()?.start);
                upstream.answer("two")?;
                x.see(client.response()?.brief());
                x.see(client.response()?.brief());
                Ok(())
            },
            "hello, GET /2 HTTP/1.1, 200 one, 200 two",
        ),
        case(
            "a request behind a chunked body",
            |_| {},
            |x| {
                let post = "POST /1 HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
                let (mut client, mut upstream, first) = x.begin(&(post.to_owned() + &get("/2")))?;
                x.see(first.text());
                upstream.answer("one")?;
                x.see(upstream.request()?.start);
                upstream.answer("two")?;
                x.see(client.response()?.brief());
                x.see(client.response()?.brief());
                Ok(())
            },
            "hello, GET /2 HTTP/1.1, 200 one, 200 two",
        ),
        case(
            "a byte at a time",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.dribble(get("/1") + &get("/2"), 1)?;
                let mut upstream = x.upstream()?;
                x.see(upstream.request()?.start);
                upstream.answer("one")?;
                x.see(client.response()?.brief());
                x.see(upstream.request()?.start);
                upstream.answer("two")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "GET /1 HTTP/1.1, 200 one, GET /2 HTTP/1.1, 200 two",
        ),
        case(
            "the second cut in its head, the rest after the first answer",
            |_| {},
            |x| {
                let (mut client, mut upstream, _) = x.begin(&(get("/1") + "GET /2 HTT"))?;
                upstream.answer("one")?;
                x.see(client.response()?.brief());
                client.send("P/1.1\r\nhost: a.test\r\n\r\n")?;
                x.see(upstream.request()?.start);
                upstream.answer("two")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "200 one, GET /2 HTTP/1.1, 200 two",
        ),
        case(
            "empty lines before a request line are skipped",
            |_| {},
            |x| {
                let (mut client, mut upstream, first) = x.begin(&format!("\r\n{}\r\n{}", get("/1"), get("/2")))?;
                x.see(first.start);
                upstream.answer("one")?;
                x.see(client.response()?.brief());
                x.see(upstream.request()?.start);
                upstream.answer("two")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "GET /1 HTTP/1.1, 200 one, GET /2 HTTP/1.1, 200 two",
        ),
        case(
            "an answer of the proxy's own keeps its place",
            |s| {
                s.route_before(serde_json::json!({
                    "match": {"path": "/own"}, "direct_response": {"status": 299}
                }));
            },
            |x| {
                let (mut client, mut upstream, _) = x.begin(&(get("/1") + &get("/own")))?;
                upstream.answer("one")?;
                x.see(client.response()?.brief());
                x.see(client.response()?.brief());
                Ok(())
            },
            "200 one, 299",
        ),
        case(
            "a chunked answer before a plain one",
            |_| {},
            |x| {
                let (mut client, mut upstream, _) = x.begin(&(get("/1") + &get("/2")))?;
                upstream.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n")?;
                upstream.request()?;
                upstream.answer("two")?;
                x.see(client.response()?.brief());
                x.see(client.response()?.brief());
                Ok(())
            },
            "200 one, 200 two",
        ),
        case(
            "HEAD before GET",
            |_| {},
            |x| {
                let head = "HEAD /1 HTTP/1.1\r\nhost: a.test\r\n\r\n".to_owned();
                let (mut client, mut upstream, _) = x.begin(&(head + &get("/2")))?;
                upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n")?;
                upstream.request()?;
                upstream.answer("two")?;
                x.see(client.response_to("HEAD")?.told("content-length"));
                x.see(client.response()?.brief());
                Ok(())
            },
            "content-length=99, 200 two",
        ),
    ]
}

fn ended() -> Vec<Case> {
    vec![
        case(
            "nothing behind connection: close is served",
            |_| {},
            |x| {
                let close = "GET /1 HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n".to_owned();
                let (mut client, mut upstream, _) = x.begin(&(close + &get("/2")))?;
                upstream.answer("one")?;
                x.see(client.response()?.brief());
                x.see(client.closed()?);
                x.see(if upstream.silent()? { "upstream got no more" } else { "upstream got more" });
                Ok(())
            },
            "200 one, closed, upstream got no more",
        ),
        case(
            "a bad second request is refused after the first is answered",
            |_| {},
            |x| {
                let (mut client, mut upstream, _) = x.begin(&(get("/1") + "BAD\r\n\r\n"))?;
                upstream.answer("one")?;
                x.see(client.response()?.brief());
                x.see(client.response()?.status());
                x.see(client.closed()?);
                x.see_verdict()?;
                x.see_verdict()
            },
            "200 one, 400, closed, log 200 -, log 400 DPE",
        ),
        case(
            "an upstream that answers and closes leaves the second to a new connection",
            |_| {},
            |x| {
                let (mut client, mut upstream, _) = x.begin(&(get("/1") + &get("/2")))?;
                upstream.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\none")?;
                let mut second = x.upstream()?;
                x.see(second.request()?.start);
                second.answer("two")?;
                x.see(client.response()?.brief());
                x.see(client.response()?.brief());
                Ok(())
            },
            "GET /2 HTTP/1.1, 200 one, 200 two",
        ),
        case(
            "half-close behind two requests",
            |_| {},
            |x| {
                let (mut client, mut upstream, _) = x.begin(&(get("/1") + &get("/2")))?;
                client.fin()?;
                upstream.offer("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none");
                if let Ok(request) = upstream.request() {
                    x.see(request.start);
                    upstream.offer("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\ntwo");
                }
                let rest = client.rest()?;
                x.see(String::from_utf8_lossy(&rest).matches("HTTP/1.1 200").count());
                Ok(())
            },
            "0",
        ),
    ]
}
