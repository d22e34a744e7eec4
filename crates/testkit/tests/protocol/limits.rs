//! Circuit breakers, exact per process, and what happens beyond them.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::process::readable;
use crate::harness::{Case, Done, Family, Site, Stage, Wire, case};

pub fn family() -> Family {
    Family::new("limits", [connections(), requests(), tcp()].into_iter().flatten().collect()).workers(4)
}

crate::tests!();

fn breakers(site: &mut Site, thresholds: Value) {
    site.cluster("circuit_breakers", json!({"thresholds": [thresholds]}));
}

/// Serves connections until told otherwise, and keeps count of those open at once: one is open until its end is read.
fn count_open(socket: &TcpListener, stop: &AtomicUsize, most: &AtomicUsize) -> Done {
    use std::os::fd::AsFd as _;
    let mut open: Vec<Wire> = Vec::new();
    while stop.load(Ordering::SeqCst) == 0 {
        let mut files = vec![socket.as_fd()];
        for wire in &open {
            files.push(wire.stream()?.as_fd());
        }
        let Some(at) = crate::harness::process::first_readable(&files) else { continue };
        drop(files);
        if stop.load(Ordering::SeqCst) != 0 {
            // What woke us at the end is no connection of the proxy's.
            break;
        }
        if at == 0 {
            // An end that came before this connection counts before it.
            let mut still = Vec::new();
            for mut wire in open.drain(..) {
                if !wire.ended()? {
                    still.push(wire);
                }
            }
            open = still;
            open.push(Wire::new(socket.accept()?.0)?);
            most.fetch_max(open.len(), Ordering::SeqCst);
            continue;
        }
        let mut wire = open.swap_remove(at - 1);
        if !wire.buffer.is_empty() || wire.fill()? {
            wire.request()?;
            wire.answer("ok")?;
            open.push(wire);
        }
    }
    Ok(())
}

/// Many clients at once, each with connections of its own, so that every worker has some of them.
fn crowd(x: &mut Stage<'_>, clients: usize, each: usize) -> Done<(usize, usize)> {
    let socket = x.listener()?;
    let stop = AtomicUsize::new(0);
    let most = AtomicUsize::new(0);
    let good = AtomicUsize::new(0);
    let address = x.proxy.listener(&x.site.name)?;
    std::thread::scope(|scope| {
        let server = scope.spawn(|| count_open(&socket, &stop, &most));
        let all: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| -> Done {
                    for _ in 0..each {
                        let mut client = Wire::connect(address)?;
                        client.get("/")?;
                        if client.response()?.status() == 200 {
                            good.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        let ended = all.into_iter().try_for_each(|client| client.join().unwrap());
        stop.store(1, Ordering::SeqCst);
        // Wakes the server so that it sees the end.
        let _ = Wire::connect(socket.local_addr()?);
        server.join().unwrap()?;
        ended
    })?;
    Ok((good.into_inner(), most.into_inner()))
}

fn connections() -> Vec<Case> {
    vec![
        case(
            "max_connections of 1 with 4 workers never has two open",
            |s| breakers(s, json!({"max_connections": 1})),
            |x| {
                let (good, most) = crowd(x, 16, 10)?;
                x.see(format!("{good} of 160 answered"));
                x.see(if most <= 1 { "one connection at a time" } else { "more than one at a time" });
                Ok(())
            },
            "160 of 160 answered, more than one at a time",
        )
        .or("160 of 160 answered, one connection at a time")
        .ours(
            "160 of 160 answered, one connection at a time",
            "in Envoy every worker may open one connection whatever the limit; ours keeps limits exactly per process",
        ),
        case(
            "max_connections of 2 with 4 workers never has three open",
            |s| breakers(s, json!({"max_connections": 2})),
            |x| {
                let (good, most) = crowd(x, 16, 10)?;
                x.see(format!("{good} of 160 answered"));
                x.see(if most <= 2 { "two at a time" } else { "more than two at a time" });
                Ok(())
            },
            "160 of 160 answered, more than two at a time",
        )
        .or("160 of 160 answered, two at a time")
        .ours(
            "160 of 160 answered, two at a time",
            "in Envoy every worker may open one connection whatever the limit; ours keeps limits exactly per process",
        ),
    ]
}

/// A request that is held at the upstream, so that it counts.
fn held(x: &Stage<'_>) -> Done<(Wire, Wire)> {
    let (client, upstream, _) = x.begin_get()?;
    Ok((client, upstream))
}

fn requests() -> Vec<Case> {
    vec![
        case(
            "max_requests of 1: the second is refused at once",
            |s| breakers(s, json!({"max_requests": 1})),
            |x| {
                let (mut first, mut upstream) = held(x)?;
                let mut second = x.client()?;
                second.get("/")?;
                let response = second.response()?;
                x.see(response.brief());
                x.see(response.told("x-envoy-overloaded"));
                x.see_log()?;
                upstream.answer("ok")?;
                x.see(first.response()?.brief());
                Ok(())
            },
            "503 upstream connect error or disconnect/reset before headers. reset reason: overflow, x-envoy-overloaded=true, log 503 UO upstream_reset_before_response_started, 200 ok",
        ),
        case(
            "max_requests of 1 over HTTP/2",
            |s| {
                breakers(s, json!({"max_requests": 1}));
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                let first = client.get("/1")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                let second = client.get("/2")?;
                x.see(client.reply(second)?.brief());
                x.see_log()?;
                upstream.answer(at, "ok")?;
                x.see(client.reply(first)?.brief());
                let third = client.get("/3")?;
                let at = upstream.whole()?.stream;
                upstream.answer(at, "ok")?;
                x.see(client.reply(third)?.brief());
                Ok(())
            },
            "503 upstream connect error or disconnect/reset before headers. reset reason: overflow, log 503 UO upstream_reset_before_response_started, 200 ok, 200 ok",
        ),
        case(
            "max_pending_requests of 1: what is beyond is refused, what waits is served",
            |s| {
                breakers(s, json!({"max_connections": 1, "max_pending_requests": 1}));
            },
            |x| {
                // All over one connection of HTTP/2, so that one worker has them.
                let mut client = x.h2_client()?;
                let first = client.get("/1")?;
                let mut upstream = x.upstream()?;
                upstream.request()?;
                let second = client.get("/2")?;
                let third = client.get("/3")?;
                x.see(client.reply(third)?.brief());
                x.see_log()?;
                upstream.answer("one")?;
                x.see(client.reply(first)?.brief());
                x.see(upstream.request()?.start);
                upstream.answer("two")?;
                x.see(client.reply(second)?.brief());
                x.see_untouched()
            },
            "503 upstream connect error or disconnect/reset before headers. reset reason: overflow, log 503 UO upstream_reset_before_response_started, 200 one, GET /2 HTTP/1.1, 200 two, upstream untouched",
        ),
        case(
            "a client that goes away leaves the queue",
            |s| {
                breakers(s, json!({"max_connections": 1, "max_pending_requests": 1}));
            },
            |x| {
                let mut client = x.h2_client()?;
                let first = client.get("/1")?;
                let mut upstream = x.upstream()?;
                upstream.request()?;
                let second = client.get("/2")?;
                client.reset(second, 8)?;
                x.see_log()?;
                let third = client.get("/3")?;
                upstream.answer("one")?;
                x.see(client.reply(first)?.brief());
                x.see(upstream.request()?.start);
                upstream.answer("three")?;
                x.see(client.reply(third)?.brief());
                Ok(())
            },
            "log 0 DR http2.remote_reset, 200 one, GET /3 HTTP/1.1, 200 three",
        ),
        case(
            "a limit of high priority is another",
            |s| {
                s.cluster(
                    "circuit_breakers",
                    json!({"thresholds": [{"max_requests": 1}, {"priority": "HIGH", "max_requests": 1}]}),
                );
                let cluster = s.clusters[0].name.clone();
                s.route_before(json!({"match": {"prefix": "/high"}, "route": {"cluster": cluster, "priority": "HIGH"}}));
            },
            |x| {
                let (_first, _upstream) = held(x)?;
                let (_second, _other, _) = x.begin("GET /high HTTP/1.1\r\nhost: a.test\r\n\r\n")?;
                let mut third = x.client()?;
                third.get("/high")?;
                x.see(third.response()?.status());
                x.see_verdict()
            },
            "503, log 503 UO",
        ),
        case(
            "max_requests_per_connection of an upstream of HTTP/2",
            |s| {
                s.http2_upstream();
                s.main().option("common_http_protocol_options.max_requests_per_connection", json!(1));
            },
            |x| {
                let mut client = x.h2_client()?;
                let first = client.get("/1")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.answer(at, "one")?;
                x.see(client.reply(first)?.brief());
                x.see(upstream.fate()?.rsplit(' ').next().unwrap_or_default().to_owned());
                let second = client.get("/2")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.answer(at, "two")?;
                x.see(client.reply(second)?.brief());
                Ok(())
            },
            "200 one, closed, 200 two",
        ),
        case(
            "an upstream that allows one stream at a time gets more connections",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                let first = client.get("/1")?;
                let mut upstream =
                    crate::harness::H2::server(x.upstream()?, &[(crate::harness::frames::MAX_CONCURRENT_STREAMS, 1)])?;
                let at = upstream.whole()?.stream;
                let second = client.get("/2")?;
                let mut other = x.h2_upstream()?;
                let other_at = other.whole()?.stream;
                other.answer(other_at, "two")?;
                x.see(client.reply(second)?.brief());
                upstream.answer(at, "one")?;
                x.see(client.reply(first)?.brief());
                Ok(())
            },
            "200 two, 200 one",
        ),
    ]
}

fn tcp() -> Vec<Case> {
    vec![case(
        "max_connections of 1 for TCP: the second is closed",
        |s| {
            s.tcp();
            breakers(s, json!({"max_connections": 1}));
        },
        |x| {
            let mut first = x.client()?;
            first.send("one")?;
            let mut upstream = x.upstream()?;
            x.see(upstream.text(3)?);
            let mut second = x.client()?;
            second.offer("two");
            x.see(second.closed()?);
            x.see_verdict()?;
            upstream.send("still")?;
            x.see(first.text(5)?);
            x.see(if readable(&x.listener()?, std::time::Duration::ZERO) { "two upstream" } else { "one upstream" });
            Ok(())
        },
        "one, closed, log 0 UO, still, one upstream",
    )]
}
