//! GOAWAY, by either side: what is under way ends well, what was refused may be sent again, what comes later goes elsewhere.

use serde_json::json;

use crate::harness::frames::GOAWAY;
use crate::harness::{Case, Done, Event, Family, H2, Site, case};

pub fn family() -> Family {
    Family::new("goaway", [by_clients(), by_upstreams(), by_proxies()].into_iter().flatten().collect())
}

crate::tests!();

const NO_ERROR: u32 = 0;
const CALM: u32 = 11;

fn goaway(peer: &mut H2, last: u32, code: u32) -> Done {
    peer.send(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

fn http2(site: &mut Site) {
    site.http2_upstream();
}

fn by_clients() -> Vec<Case> {
    vec![
        case(
            "a client's GOAWAY lets its streams end, then the connection",
            http2,
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/", &[], false)?;
                let mut upstream = x.h2_upstream()?;
                let (at, ..) = upstream.begun()?;
                goaway(&mut client, 0, NO_ERROR)?;
                client.fence()?;
                client.data(stream, b"hello", true)?;
                let got = upstream.wait(|event| match event {
                    Event::Data { bytes, .. } => Some(String::from_utf8_lossy(bytes).into_owned()),
                    _ => None,
                })?;
                x.see(got);
                upstream.answer(at, "ok")?;
                x.see(client.reply(stream)?.brief());
                x.see_log()
            },
            "hello, 200 ok, log 200 - via_upstream",
        ),
        case(
            "a client's GOAWAY, then its end, in the middle of an answer",
            http2,
            |x| {
                let mut client = x.h2_client()?;
                client.get("/")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.headers(at, &[(":status", "200")], false)?;
                client.begun()?;
                goaway(&mut client, 0, NO_ERROR)?;
                drop(client);
                x.see(upstream.reply(at)?.brief());
                x.see_log()
            },
            "reset INTERNAL_ERROR, log 200 DC downstream_remote_disconnect",
        )
        .ours("reset CANCEL, log 200 DC downstream_remote_disconnect", "RFC 9113 7: CANCEL is the code of a stream that is no longer needed"),
    ]
}

/// A client of HTTP/1 whose request is at an upstream of HTTP/2.
fn retried(site: &mut Site) {
    site.http2_upstream();
    site.route("route.retry_policy", json!({"retry_on": "refused-stream,reset-before-request", "num_retries": 2}));
}

fn by_upstreams() -> Vec<Case> {
    vec![
        case(
            "what is under way ends well, what comes later has another connection",
            http2,
            |x| {
                let mut client = x.h2_client()?;
                let first = client.request("POST", "/1", &[], false)?;
                let mut upstream = x.h2_upstream()?;
                let (at, ..) = upstream.begun()?;
                goaway(&mut upstream, at, NO_ERROR)?;
                upstream.fence()?;
                let second = client.get("/2")?;
                let mut other = x.h2_upstream()?;
                let request = other.whole()?;
                x.see(request.get(":path"));
                other.answer(request.stream, "two")?;
                x.see(client.reply(second)?.brief());
                client.data(first, b"hello", true)?;
                upstream.headers(at, &[(":status", "200")], false)?;
                upstream.data(at, b"one", true)?;
                x.see(client.reply(first)?.brief());
                // Nothing is left to it: the proxy closes.
                x.see(upstream.fate()?.trim_start_matches("GOAWAY NO_ERROR ").to_owned());
                Ok(())
            },
            "/2, 200 two, 200 one, closed",
        ),
        case(
            "in two steps, as RFC 9113 6.8 has it",
            http2,
            |x| {
                let mut client = x.h2_client()?;
                let first = client.get("/1")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                goaway(&mut upstream, 0x7fff_ffff, NO_ERROR)?;
                upstream.fence()?;
                goaway(&mut upstream, at, NO_ERROR)?;
                upstream.answer(at, "one")?;
                x.see(client.reply(first)?.brief());
                let second = client.get("/2")?;
                let mut other = x.h2_upstream()?;
                let at = other.whole()?.stream;
                other.answer(at, "two")?;
                x.see(client.reply(second)?.brief());
                Ok(())
            },
            "200 one, 200 two",
        ),
        case(
            "a request that it will not look at fails",
            http2,
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.get("/")?;
                let mut upstream = x.h2_upstream()?;
                upstream.whole()?;
                goaway(&mut upstream, 0, NO_ERROR)?;
                x.see(client.reply(stream)?.get(":status"));
                x.see_verdict()
            },
            "503, log 503 UR",
        ),
        case(
            "a request that it will not look at is sent again, where that is allowed",
            retried,
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/", &[], false)?;
                client.data(stream, b"hello", true)?;
                let mut upstream = x.h2_upstream()?;
                x.see(upstream.whole()?.text());
                goaway(&mut upstream, 0, NO_ERROR)?;
                let mut other = x.h2_upstream()?;
                let again = other.whole()?;
                x.see(again.text());
                other.answer(again.stream, "ok")?;
                x.see(client.reply(stream)?.brief());
                x.see_verdict()
            },
            "hello, hello, 200 ok, log 200 -",
        ),
        case(
            "of two streams one is looked at, and the other sent again",
            retried,
            |x| {
                let mut client = x.h2_client()?;
                let first = client.get("/1")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                let second = client.get("/2")?;
                upstream.whole()?;
                goaway(&mut upstream, at, NO_ERROR)?;
                let mut other = x.h2_upstream()?;
                let again = other.whole()?;
                x.see(again.get(":path"));
                other.answer(again.stream, "two")?;
                upstream.answer(at, "one")?;
                x.see(client.reply(first)?.brief());
                x.see(client.reply(second)?.brief());
                Ok(())
            },
            "/2, 200 one, 200 two",
        ),
        case(
            "with an error and an end, before the answer",
            http2,
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.get("/")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                goaway(&mut upstream, at, CALM)?;
                drop(upstream);
                x.see(client.reply(stream)?.get(":status"));
                x.see_verdict()
            },
            "503, log 503 UC",
        ),
        case(
            "with an error and an end, in the middle of the answer",
            http2,
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.headers(at, &[(":status", "200")], false)?;
                upstream.data(at, b"hello", false)?;
                client.head()?;
                x.see(String::from_utf8_lossy(&client.chunk()?.unwrap_or_default()));
                goaway(&mut upstream, at, CALM)?;
                drop(upstream);
                x.see(client.closed()?);
                x.see_verdict()
            },
            "hello, closed, log 200 UC",
        ),
        case(
            "on an idle connection, it is not used again",
            http2,
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.get("/1")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.answer(at, "one")?;
                x.see(client.reply(stream)?.brief());
                goaway(&mut upstream, at, NO_ERROR)?;
                // The proxy has read it once it closes.
                x.see(upstream.fate()?.trim_start_matches("GOAWAY NO_ERROR ").to_owned());
                let stream = client.get("/2")?;
                let mut other = x.h2_upstream()?;
                let at = other.whole()?.stream;
                other.answer(at, "two")?;
                x.see(client.reply(stream)?.brief());
                Ok(())
            },
            "200 one, closed, 200 two",
        ),
    ]
}

fn by_proxies() -> Vec<Case> {
    vec![
        case(
            "after its life a connection is told GOAWAY, and its streams end well",
            |s| {
                http2(s);
                s.hcm("common_http_protocol_options.max_connection_duration", json!("0.3s"));
                s.hcm("drain_timeout", json!("0.1s"));
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/", &[], false)?;
                let mut upstream = x.h2_upstream()?;
                let (at, ..) = upstream.begun()?;
                let code = client.wait(|event| match event {
                    Event::GoAway { code, .. } => Some(*code),
                    _ => None,
                })?;
                x.see(format!("GOAWAY {code}"));
                client.data(stream, b"hello", true)?;
                upstream.answer(at, "ok")?;
                x.see(client.reply(stream)?.brief());
                x.see(client.wait(|event| matches!(event, Event::End(_)).then_some("closed"))?);
                Ok(())
            },
            "GOAWAY 0, 200 ok, closed",
        ),
        case(
            "an idle connection is told GOAWAY before it is closed",
            |s| {
                http2(s);
                s.hcm("common_http_protocol_options.idle_timeout", json!("0.2s"));
                s.hcm("drain_timeout", json!("0.1s"));
            },
            |x| {
                let mut client = x.h2_client()?;
                x.see(client.fate()?.replace("GOAWAY NO_ERROR GOAWAY NO_ERROR", "GOAWAY NO_ERROR"));
                Ok(())
            },
            "GOAWAY NO_ERROR closed",
        ),
        case(
            "after so many requests, the last of which is answered",
            |s| {
                http2(s);
                s.hcm("common_http_protocol_options.max_requests_per_connection", json!(2));
                s.hcm("drain_timeout", json!("0.1s"));
            },
            |x| {
                let mut client = x.h2_client()?;
                let first = client.get("/1")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.answer(at, "one")?;
                x.see(client.reply(first)?.brief());
                let second = client.get("/2")?;
                let at = upstream.whole()?.stream;
                upstream.answer(at, "two")?;
                x.see(client.reply(second)?.brief());
                x.see(client.fate()?.replace("GOAWAY NO_ERROR GOAWAY NO_ERROR", "GOAWAY NO_ERROR"));
                Ok(())
            },
            "200 one, 200 two, GOAWAY NO_ERROR closed",
        ),
    ]
}
