//! Interim responses: 100 by the proxy or by the upstream, 103, 101 that nobody asked for, and Expect.

use serde_json::json;

use crate::harness::{Case, Family, Site, Stage, Wire, case};

pub fn family() -> Family {
    Family::new("interim", [expect(), passed(), http2()].into_iter().flatten().collect())
}

crate::tests!();

const EXPECT: &str = "POST / HTTP/1.1\r\nhost: a.test\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";

fn proxied(site: &mut Site) {
    site.hcm("proxy_100_continue", json!(true));
}

/// All responses that come until a final one.
fn responses(x: &mut Stage<'_>, client: &mut Wire) -> crate::harness::Done {
    loop {
        let response = client.response()?;
        let status = response.status();
        let link = if response.has("link") { " with link" } else { "" };
        x.see(format!("{}{link}", response.brief()));
        if status >= 200 || status == 101 {
            return Ok(());
        }
    }
}

fn expect() -> Vec<Case> {
    vec![
        case(
            "Expect is answered by the proxy and does not go on",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.send(EXPECT)?;
                x.see(&client.response()?.start);
                client.send("ok")?;
                let mut upstream = x.upstream()?;
                let request = upstream.request()?;
                x.see(request.told("expect"));
                x.see(request.text());
                upstream.answer("done")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "HTTP/1.1 100 Continue, expect=-, ok, 200 done",
        ),
        case(
            "Expect of an upstream's, where the proxy leaves it to it",
            proxied,
            |x| {
                let mut client = x.client()?;
                client.send(EXPECT)?;
                let mut upstream = x.upstream()?;
                x.see(upstream.head()?.told("expect"));
                upstream.send("HTTP/1.1 100 Continue\r\n\r\n")?;
                x.see(client.response()?.status());
                client.send("ok")?;
                x.see(upstream.text(2)?);
                upstream.answer("done")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "expect=100-continue, 100, ok, 200 done",
        ),
        case(
            "an upstream that refuses the expectation",
            proxied,
            |x| {
                let mut client = x.client()?;
                client.send(EXPECT)?;
                let mut upstream = x.upstream()?;
                upstream.head()?;
                upstream.send("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n")?;
                x.see(client.response()?.status());
                Ok(())
            },
            "417",
        ),
        case(
            "an expectation with a capital",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.send(EXPECT.replace("100-continue", "100-Continue"))?;
                x.see(client.response()?.status());
                Ok(())
            },
            "100",
        ),
        case(
            "another expectation goes on",
            |_| {},
            |x| {
                let (_client, _upstream, request) =
                    x.begin("GET / HTTP/1.1\r\nhost: a.test\r\nexpect: the-unexpected\r\n\r\n")?;
                x.see(request.told("expect"));
                Ok(())
            },
            "expect=the-unexpected",
        ),
        case(
            "Expect with the body in the same segment",
            |_| {},
            |x| {
                let (mut client, mut upstream, request) = x.begin(&(EXPECT.to_owned() + "ok"))?;
                x.see(request.text());
                upstream.answer("done")?;
                responses(x, &mut client)
            },
            "ok, 100, 200 done",
        ),
        case(
            "Expect where there is no route",
            |s| {
                s.route("match", json!({"prefix": "/there"}));
            },
            |x| {
                let mut client = x.client()?;
                client.send(EXPECT)?;
                responses(x, &mut client)
            },
            "100, 404",
        ),
    ]
}

fn passed() -> Vec<Case> {
    let through = |name: &'static str, arrange: fn(&mut Site), interim: &'static str, expected: &str| {
        case(
            name,
            arrange,
            move |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.send(interim)?;
                upstream.answer("done")?;
                responses(x, &mut client)?;
                x.see_verdict()
            },
            expected,
        )
    };
    vec![
        through("103 goes on", |_| {}, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", "200 done, log 200 -")
        .ours("103 with link, 200 done, log 200 -", "RFC 9110 15.2: a proxy forwards every interim response that it did not ask for itself"),
        through("103 where 100 is left to the upstream", proxied, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", "103 with link, 200 done, log 200 -"),
        through("two 103", proxied, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </b>\r\n\r\n", "103 with link, 200 done, log 200 -")
        .ours("103 with link, 103 with link, 200 done, log 200 -", "RFC 9110 15.2: a proxy forwards every interim response that it did not ask for itself"),
        through("100 that nobody asked for", |_| {}, "HTTP/1.1 100 Continue\r\n\r\n", "200 done, log 200 -"),
        through("100 that nobody asked for, left to the upstream", proxied, "HTTP/1.1 100 Continue\r\n\r\n", "100, 200 done, log 200 -"),
        through("102 and 103", |_| {}, "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", "200 done, log 200 -")
        .ours("102, 103 with link, 200 done, log 200 -", "RFC 9110 15.2: a proxy forwards every interim response that it did not ask for itself"),
        case(
            "101 that nobody asked for is a fault of the upstream",
            |_| {},
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")?;
                let response = client.response()?;
                x.see(response.status());
                if response.status() == 101 {
                    return Ok(());
                }
                x.see(upstream.closed()?);
                x.see_verdict()
            },
            "101",
        )
        .ours("502, closed, log 502 UPE", "RFC 9110 7.8: a server switches only to a protocol that the client named in Upgrade"),
    ]
}

fn http2() -> Vec<Case> {
    vec![
        case(
            "Expect over HTTP/2 is answered by the proxy",
            |_| {},
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/", &[("expect", "100-continue")], false)?;
                let (_, fields, end) = client.begun()?;
                x.see(format!("{} {end}", fields[0].1));
                client.data(stream, b"ok", true)?;
                let mut upstream = x.upstream()?;
                let request = upstream.request()?;
                x.see(request.told("expect"));
                upstream.answer("done")?;
                x.see(client.reply(stream)?.brief());
                Ok(())
            },
            "100 false, expect=-, 200 done",
        ),
        case(
            "103 of HTTP/1 to HTTP/2",
            proxied,
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.get("/")?;
                let mut upstream = x.upstream()?;
                upstream.request()?;
                upstream.send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")?;
                upstream.answer("done")?;
                let reply = client.reply(stream)?;
                x.see(format!("{} interim", reply.interim.len()));
                x.see(reply.brief());
                Ok(())
            },
            "1 interim, 200 done",
        ),
        case(
            "103 of HTTP/2 to HTTP/1",
            |s| {
                proxied(s);
                s.http2_upstream();
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.headers(at, &[(":status", "103"), ("link", "</a>")], false)?;
                upstream.answer(at, "done")?;
                responses(x, &mut client)
            },
            "103 with link, 200 done",
        ),
        case(
            "100 of HTTP/2 to HTTP/1",
            |s| {
                proxied(s);
                s.http2_upstream();
            },
            |x| {
                let mut client = x.client()?;
                client.send(EXPECT)?;
                let mut upstream = x.h2_upstream()?;
                let (at, ..) = upstream.begun()?;
                upstream.headers(at, &[(":status", "100")], false)?;
                x.see(client.response()?.status());
                client.send("ok")?;
                upstream.answer(at, "done")?;
                responses(x, &mut client)
            },
            "100, 200 done",
        ),
    ]
}
