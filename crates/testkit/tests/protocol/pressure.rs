//! Many at once: a thousand streams of one connection, and what lies beyond the limits.

use crate::harness::frames::{DATA, END_STREAM, MAX_CONCURRENT_STREAMS};
use crate::harness::{Case, Done, Event, Family, H2, Site, Stage, Wire, case};
use serde_json::json;

pub fn family() -> Family {
    Family::new("pressure", [streams(), beyond()].into_iter().flatten().collect()).at_once(2)
}

crate::tests!();

const STREAMS: usize = 1000;

/// Opens streams whose requests have not ended, each with its number as path.
fn open(client: &mut H2, count: usize) -> Done<Vec<u32>> {
    (0..count).map(|number| client.request("POST", &format!("/{number}"), &[], false)).collect()
}

fn status(client: &mut H2, stream: u32) -> Done<String> {
    Ok(client.reply(stream)?.brief())
}

/// Ends all requests, last first, and counts answers that are the right ones.
fn finish(x: &mut Stage<'_>, client: &mut H2, streams: &[u32]) -> Done {
    let mut good = 0;
    for (number, stream) in streams.iter().enumerate().rev() {
        good += usize::from(status(client, *stream)? == format!("200 {number}"));
    }
    x.see(format!("{good} answered"));
    Ok(())
}

fn many(site: &mut Site) {
    site.cluster(
        "circuit_breakers",
        json!({"thresholds": [{"max_connections": 2000, "max_requests": 2000, "max_pending_requests": 2000}]}),
    );
}

fn streams() -> Vec<Case> {
    vec![
        case(
            "1,000 streams at once, to an upstream of HTTP/2",
            |s| {
                many(s);
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                // Before it knows the upstream's limit, a proxy may open further connections.
                let first = client.get("/first")?;
                let mut upstream = H2::server(x.upstream()?, &[(MAX_CONCURRENT_STREAMS, 2000)])?;
                let at = upstream.whole()?.stream;
                upstream.answer(at, "first")?;
                client.reply(first)?;
                let streams = open(&mut client, STREAMS)?;
                let mut begun = Vec::new();
                while begun.len() < STREAMS {
                    let (at, fields, _) = upstream.begun()?;
                    let path = fields.iter().find(|(name, _)| name == ":path").map(|(_, path)| path.clone());
                    begun.push((at, path.unwrap_or_default()));
                }
                x.see(format!("{} under way", begun.len()));
                for stream in &streams {
                    client.send(DATA, END_STREAM, *stream, b"x")?;
                }
                for (at, path) in begun.iter().rev() {
                    upstream.answer(*at, path.trim_start_matches('/'))?;
                }
                finish(x, &mut client, &streams)
            },
            "1000 under way, 1000 answered",
        ),
        case(
            "1,000 streams at once, to an upstream of HTTP/1",
            many,
            |x| {
                let mut client = x.h2_client()?;
                let streams = open(&mut client, STREAMS)?;
                let mut begun: Vec<(Wire, String)> = Vec::new();
                while begun.len() < STREAMS {
                    let mut upstream = x.upstream()?;
                    let path = upstream.head()?.start.split(' ').nth(1).unwrap_or_default().to_owned();
                    begun.push((upstream, path));
                }
                x.see(format!("{} under way", begun.len()));
                for stream in &streams {
                    client.send(DATA, END_STREAM, *stream, b"x")?;
                }
                for (upstream, path) in begun.iter_mut().rev() {
                    if upstream.chunk()?.is_none() {
                        upstream.until(b"\r\n")?;
                    }
                    upstream.answer(path.trim_start_matches('/'))?;
                }
                finish(x, &mut client, &streams)
            },
            "1000 under way, 1000 answered",
        ),
        case(
            "1,000 connections at once, of HTTP/1",
            many,
            |x| {
                let mut clients = Vec::new();
                let mut upstreams = Vec::new();
                for number in 0..STREAMS {
                    let mut client = x.client()?;
                    client.get(&format!("/{number}"))?;
                    let mut upstream = x.upstream()?;
                    upstream.request()?;
                    clients.push(client);
                    upstreams.push(upstream);
                }
                x.see(format!("{} under way", upstreams.len()));
                let mut good = 0;
                for (number, (client, upstream)) in clients.iter_mut().zip(&mut upstreams).enumerate().rev() {
                    upstream.answer(&number.to_string())?;
                    good += usize::from(client.response()?.text() == number.to_string());
                }
                x.see(format!("{good} answered"));
                Ok(())
            },
            "1000 under way, 1000 answered",
        ),
    ]
}

fn beyond() -> Vec<Case> {
    vec![
        case(
            "a stream beyond max_concurrent_streams is refused, and may come again",
            |s| {
                s.hcm("http2_protocol_options.max_concurrent_streams", json!(3));
            },
            |x| {
                let mut client = x.h2_client()?;
                client.wait(|event| matches!(event, Event::Settings(_)).then_some(()))?;
                x.see(client.peer.get(&MAX_CONCURRENT_STREAMS).copied().unwrap_or(0));
                let streams = open(&mut client, 4)?;
                let beyond = client.reply(streams[3])?;
                x.see(beyond.brief());
                if beyond.cut.is_some() {
                    return Ok(());
                }
                let mut first = None;
                let mut others = Vec::new();
                for _ in 0..3 {
                    let mut upstream = x.upstream()?;
                    match upstream.head()?.start.starts_with("POST /0 ") {
                        true => first = Some(upstream),
                        false => others.push(upstream),
                    }
                }
                let Some(mut upstream) = first else { return crate::harness::wire::trouble("no first request") };
                client.end_stream(streams[0])?;
                upstream.chunk()?;
                upstream.until(b"\r\n")?;
                upstream.answer("ok")?;
                x.see(client.reply(streams[0])?.brief());
                client.get("/again")?;
                x.see(upstream.request()?.start);
                Ok(())
            },
            "3, cut: fin",
        )
        .ours(
            "3, reset REFUSED_STREAM, 200 ok, GET /again HTTP/1.1",
            "RFC 9113 5.1.2 asks for a stream error; Envoy ends the connection and all its streams",
        ),
    ]
}
