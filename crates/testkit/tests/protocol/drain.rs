//! Draining: what is under way ends well, and every peer is told in its own words that nothing more is taken.
//!
//! `POST /drain_listeners?graceful` tells all connections; listeners close when the drain time is over. Without `graceful`
//! they close at once.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Case, Done, Event, Family, Site, Stage, Wire, case};

pub fn family() -> Family {
    let all = [http1(), http2(), bytes(), listeners(), process()];
    Family::new("drain", all.into_iter().flatten().collect()).own_process().drain_time(DRAIN_SECONDS)
}

crate::tests!();

const DRAIN_SECONDS: u32 = 2;

fn drain(x: &mut Stage<'_>) -> Done {
    let (status, _) = x.proxy.admin("POST", "/drain_listeners?graceful")?;
    x.see(status);
    // It is asked of the same thread that tells the workers.
    x.proxy.admin("GET", "/listeners")?;
    Ok(())
}

/// Waits until the listener refuses connections; `accepted` as long as it has not after twice the drain time and more.
fn refused(x: &Stage<'_>) -> Done<&'static str> {
    let address = x.proxy.listener(&x.site.name)?;
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while std::time::Instant::now() < until {
        match std::net::TcpStream::connect(address) {
            // Its socket is closed with those who wait at it.
            Ok(stream) => drop(Wire::new(stream)?),
            Err(_) => return Ok("refused"),
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok("accepted")
}

fn http1() -> Vec<Case> {
    vec![
        case(
            "HTTP/1: a request under way is answered, with connection: close",
            |_| {},
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                drain(x)?;
                upstream.answer("ok")?;
                let response = client.response()?;
                x.see(response.brief());
                x.see(response.told("connection"));
                x.see(client.closed()?);
                x.see_log()
            },
            "200, 200 ok, connection=close, closed, log 200 - via_upstream",
        ),
        case(
            "HTTP/1: an answer under way goes on to its end, then the connection ends",
            |_| {},
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")?;
                x.see(client.head()?.told("connection"));
                client.chunk()?;
                drain(x)?;
                upstream.send("3\r\ntwo\r\n0\r\n\r\n")?;
                x.see(String::from_utf8_lossy(&client.chunk()?.unwrap_or_default()));
                x.see(client.chunk()?.is_none());
                client.until(b"\r\n")?;
                client.offer("GET /next HTTP/1.1\r\nhost: a.test\r\n\r\n");
                // The head was sent before the drain: the connection may serve one more, which is told.
                let Some(mut upstream) = x.attempt(&client, Some(upstream))? else {
                    x.see(client.closed()?);
                    return Ok(());
                };
                upstream.request()?;
                upstream.answer("next")?;
                let response = client.response()?;
                x.see(format!("{} {}", response.brief(), response.told("connection")));
                x.see(client.closed()?);
                Ok(())
            },
            "connection=-, 200, two, true, 200 next connection=close, closed",
        ),
        case(
            "HTTP/1: the next request of an idle connection is answered, with connection: close",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.get("/1")?;
                let mut upstream = x.upstream()?;
                upstream.request()?;
                upstream.answer("one")?;
                x.see(client.response()?.told("connection"));
                drain(x)?;
                client.offer("GET /2 HTTP/1.1\r\nhost: a.test\r\n\r\n");
                upstream.request()?;
                upstream.answer("two")?;
                let response = client.response()?;
                x.see(response.brief());
                x.see(response.told("connection"));
                x.see(client.closed()?);
                Ok(())
            },
            "connection=-, 200, 200 two, connection=close, closed",
        ),
        case(
            "HTTP/1: a new connection is served while it is drained, and told",
            |_| {},
            |x| {
                drain(x)?;
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.answer("ok")?;
                let response = client.response()?;
                x.see(response.brief());
                x.see(response.told("connection"));
                x.see(client.closed()?);
                Ok(())
            },
            "200, 200 ok, connection=close, closed",
        ),
        case(
            "HTTP/1: a WebSocket goes on",
            |s| {
                s.hcm("upgrade_configs", json!([{"upgrade_type": "websocket"}]));
            },
            |x| {
                let (mut client, mut upstream, _) = x.begin(
                    "GET /chat HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
                )?;
                upstream.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")?;
                client.response()?;
                drain(x)?;
                client.send("hello")?;
                x.see(upstream.text(5)?);
                upstream.send("world")?;
                x.see(client.text(5)?);
                Ok(())
            },
            "200, hello, world",
        ),
    ]
}

fn http2() -> Vec<Case> {
    fn both(site: &mut Site) {
        site.http2_upstream();
        site.hcm("drain_timeout", json!("0.1s"));
    }
    vec![
        case(
            "HTTP/2: GOAWAY, streams under way end well, then the connection",
            both,
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/", &[], false)?;
                let mut upstream = x.h2_upstream()?;
                let (at, ..) = upstream.begun()?;
                drain(x)?;
                client.data(stream, b"hello", true)?;
                upstream.headers(at, &[(":status", "200")], false)?;
                upstream.data(at, b"o", false)?;
                let code = client.wait(|event| match event {
                    Event::GoAway { code, .. } => Some(*code),
                    _ => None,
                })?;
                x.see(format!("GOAWAY {code}"));
                upstream.data(at, b"k", true)?;
                x.see(client.reply(stream)?.brief());
                x.see(client.wait(|event| matches!(event, Event::End(_)).then_some("closed"))?);
                x.see_log()
            },
            "200, GOAWAY 0, 200 ok, closed, log 200 - via_upstream",
        ),
        case(
            "HTTP/2: a stream that began before the client heard of it is served",
            both,
            |x| {
                let mut client = x.h2_client()?;
                let first = client.request("POST", "/1", &[], false)?;
                let mut upstream = x.h2_upstream()?;
                let (at, ..) = upstream.begun()?;
                drain(x)?;
                let second = client.get("/2")?;
                let (other, fields, _) = upstream.begun()?;
                x.see(fields.iter().find(|(name, _)| name == ":path").map_or("-", |(_, path)| path.as_str()));
                upstream.answer(other, "two")?;
                x.see(client.reply(second)?.brief());
                client.data(first, b"x", true)?;
                upstream.answer(at, "one")?;
                x.see(client.reply(first)?.brief());
                Ok(())
            },
            "200, /2, 200 two, 200 one",
        ),
        case(
            "HTTP/2: a new connection is served while it is drained, and told",
            both,
            |x| {
                drain(x)?;
                let mut client = x.h2_client()?;
                let stream = client.get("/")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.answer(at, "ok")?;
                x.see(client.reply(stream)?.brief());
                x.see(client.fate()?.replace("GOAWAY NO_ERROR GOAWAY NO_ERROR", "GOAWAY NO_ERROR"));
                Ok(())
            },
            "200, 200 ok, GOAWAY NO_ERROR closed",
        ),
    ]
}

fn bytes() -> Vec<Case> {
    fn tcp(site: &mut Site) {
        site.tcp();
    }
    vec![case(
        "TCP: a connection goes on until it ends by itself",
        tcp,
        |x| {
            let mut client = x.client()?;
            client.send("hello")?;
            let mut upstream = x.upstream()?;
            upstream.text(5)?;
            drain(x)?;
            x.see(refused(x)?);
            client.send("still")?;
            x.see(upstream.text(5)?);
            upstream.send("here")?;
            x.see(client.text(4)?);
            drop(upstream);
            x.see(client.end()?);
            Ok(())
        },
        "200, refused, still, here, fin",
    )]
}

fn listeners() -> Vec<Case> {
    vec![
        case(
            "graceful: listeners close when the drain time is over",
            |_| {},
            |x| {
                drain(x)?;
                let begun = std::time::Instant::now();
                x.see(refused(x)?);
                let early = begun.elapsed() < Duration::from_secs(u64::from(DRAIN_SECONDS)) / 2;
                x.see(if early { "too soon" } else { "in time" });
                Ok(())
            },
            "200, refused, in time",
        ),
        case(
            "graceful with skip_exit: listeners stay",
            |_| {},
            |x| {
                x.see(x.proxy.admin("POST", "/drain_listeners?graceful&skip_exit")?.0);
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.answer("ok")?;
                x.see(client.response()?.told("connection"));
                Ok(())
            },
            "200, connection=close",
        ),
        case(
            "at once: listeners close, what is under way goes on",
            |_| {},
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                x.see(x.proxy.admin("POST", "/drain_listeners")?.0);
                x.see(refused(x)?);
                upstream.answer("ok")?;
                let response = client.response()?;
                x.see(response.brief());
                x.see(response.told("connection"));
                Ok(())
            },
            "200, refused, 200 ok, connection=close",
        ),
        case(
            "inboundonly: an outbound listener stays as it is",
            |s| {
                s.listener("traffic_direction", json!("OUTBOUND"));
            },
            |x| {
                x.see(x.proxy.admin("POST", "/drain_listeners?inboundonly")?.0);
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.answer("ok")?;
                x.see(client.response()?.told("connection"));
                Ok(())
            },
            "200, connection=-",
        ),
        case(
            "inboundonly: an inbound listener closes",
            |s| {
                s.listener("traffic_direction", json!("INBOUND"));
            },
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                x.see(x.proxy.admin("POST", "/drain_listeners?inboundonly")?.0);
                x.see(refused(x)?);
                upstream.answer("ok")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "200, refused, 200 ok",
        ),
        case(
            "a failed health check closes connections after their requests",
            |_| {},
            |x| {
                x.see(x.proxy.admin("POST", "/healthcheck/fail")?.0);
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.answer("ok")?;
                x.see(client.response()?.told("connection"));
                x.see(x.proxy.admin("POST", "/healthcheck/ok")?.0);
                let mut client = x.client()?;
                client.get("/")?;
                upstream.request()?;
                upstream.answer("ok")?;
                x.see(client.response()?.told("connection"));
                Ok(())
            },
            "200, connection=close, 200, connection=-",
        ),
    ]
}

fn process() -> Vec<Case> {
    vec![
        case(
            "SIGTERM with a request under way",
            |_| {},
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                x.proxy.terminate();
                x.see(refused(x)?);
                upstream.offer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                x.see(client.response().map_or("no answer".to_owned(), |response| response.brief()));
                x.see(x.proxy.end(Duration::from_secs(20)));
                Ok(())
            },
            "refused, no answer, exit 0",
        )
        .ours("refused, 200 ok, exit 0", "Envoy leaves at once and cuts what is under way; ours lets it end, within the drain time"),
        case(
            "SIGTERM twice does not wait",
            |_| {},
            |x| {
                let (mut client, _upstream, _) = x.begin_get()?;
                x.proxy.terminate();
                x.see(refused(x)?);
                x.proxy.terminate();
                x.see(x.proxy.end(Duration::from_secs(20)));
                x.see(client.response().map_or("no answer".to_owned(), |response| response.brief()));
                Ok(())
            },
            "refused, exit 0, no answer",
        ),
        case(
            "quitquitquit",
            |_| {},
            |x| {
                x.see(x.proxy.admin("POST", "/quitquitquit")?.0);
                x.see(x.proxy.end(Duration::from_secs(20)));
                Ok(())
            },
            "200, exit 0",
        ),
    ]
}
