//! A receiver that does not read: its sender is stopped before long, whatever is between them, nobody else is held up, and
//! all arrives once it reads on.

use serde_json::json;

use crate::harness::frames::INITIAL_WINDOW_SIZE;
use crate::harness::{Case, Check, Done, Event, Family, H2, Site, Stage, Wire, case};

pub fn family() -> Family {
    Family::new("slow_reader", [bytes(), http1(), http2(), crowds()].into_iter().flatten().collect())
        .own_process()
}

crate::tests!();

/// What a sender has to send: more than the kernel keeps on the way.
const SIZE: u64 = 96 << 20;
/// How much more the proxy may hold meanwhile.
const GROWTH_MAX: u64 = 8 << 20;
/// The most that the proxy is configured to hold of a connection.
const BUFFER: u32 = 64 * 1024;

fn small_buffers(site: &mut Site) {
    site.listener("per_connection_buffer_limit_bytes", json!(BUFFER));
    site.cluster("per_connection_buffer_limit_bytes", json!(BUFFER));
}

/// The same with small windows of HTTP/2 on both sides.
fn small_windows(site: &mut Site) {
    small_buffers(site);
    site.http2_upstream();
    let windows = json!({"initial_stream_window_size": 65_536, "initial_connection_window_size": 16_777_216});
    site.main().option("explicit_http_config.http2_protocol_options", windows.clone());
    site.hcm("http2_protocol_options", windows);
}

/// Weighs the proxy while `script` runs.
fn weighed(x: &mut Stage<'_>, script: impl FnOnce(&mut Stage<'_>) -> Done) -> Done {
    let before = x.proxy.memory();
    x.proxy.forget_peak();
    script(x)?;
    let grown = x.proxy.peak_memory().saturating_sub(before);
    println!("    {}: {}: {} KiB more at the peak", x.proxy.subject, x.site.name, grown >> 10);
    x.see(match grown < GROWTH_MAX {
        true => "less than 8 MiB more".to_owned(),
        false => "8 MiB more, or more".to_owned(),
    });
    Ok(())
}

/// A sender and a receiver of plain bytes: the one sends until it is stopped, then the other reads.
fn pass(x: &mut Stage<'_>, from: &mut Wire, to: &mut Wire) -> Done {
    let pushed = from.push_body(SIZE)?;
    x.see(pushed.told());
    let check = std::thread::scope(|scope| -> Done<Check> {
        let sending = scope.spawn(|| from.send_body(pushed.bytes, SIZE));
        let mut check = Check::default();
        to.check_body(&mut check, SIZE)?;
        sending.join().unwrap()?;
        Ok(check)
    })?;
    x.see(check.told());
    Ok(())
}

const STOPPED: &str = "the sender is stopped, 96 MiB, less than 8 MiB more";

fn bytes() -> Vec<Case> {
    fn tcp(site: &mut Site) {
        small_buffers(site);
        site.tcp();
    }
    vec![
        case(
            "TCP: a server that does not read",
            tcp,
            |x| {
                let mut client = x.narrow_client()?;
                let mut upstream = x.upstream()?;
                upstream.narrow()?;
                weighed(x, |x| pass(x, &mut client, &mut upstream))
            },
            STOPPED,
        ),
        case(
            "TCP: a client that does not read",
            tcp,
            |x| {
                let mut client = x.narrow_client()?;
                let mut upstream = x.upstream()?;
                upstream.narrow()?;
                weighed(x, |x| pass(x, &mut upstream, &mut client))
            },
            STOPPED,
        ),
        case(
            "TCP: neither reads, then both do",
            tcp,
            |x| {
                let mut client = x.narrow_client()?;
                let mut upstream = x.upstream()?;
                upstream.narrow()?;
                weighed(x, |x| {
                    let up = client.push_body(SIZE)?;
                    let down = upstream.push_body(SIZE)?;
                    x.see(up.told());
                    x.see(down.told());
                    let (mut client_reads, mut upstream_reads) = (client.split()?, upstream.split()?);
                    let (up, down) = std::thread::scope(|scope| {
                        scope.spawn(|| client.send_body(up.bytes, SIZE));
                        scope.spawn(|| upstream.send_body(down.bytes, SIZE));
                        let read = |wire: &mut Wire| -> Done<Check> {
                            let mut check = Check::default();
                            wire.check_body(&mut check, SIZE)?;
                            Ok(check)
                        };
                        let up = scope.spawn(move || read(&mut upstream_reads));
                        let down = read(&mut client_reads);
                        (up.join().unwrap(), down)
                    });
                    x.see(up?.told());
                    x.see(down?.told());
                    Ok(())
                })
            },
            "the sender is stopped, the sender is stopped, 96 MiB, 96 MiB, less than 8 MiB more",
        ),
    ]
}

fn http1() -> Vec<Case> {
    vec![
        case(
            "HTTP/1: an upstream that does not read",
            small_buffers,
            |x| {
                let mut client = x.narrow_client()?;
                client.send(format!("POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: {SIZE}\r\n\r\n"))?;
                let mut upstream = x.upstream()?;
                upstream.narrow()?;
                upstream.head()?;
                weighed(x, |x| pass(x, &mut client, &mut upstream))
            },
            STOPPED,
        ),
        case(
            "HTTP/1: a client that does not read",
            small_buffers,
            |x| {
                let mut client = x.narrow_client()?;
                client.get("/")?;
                let mut upstream = x.upstream()?;
                upstream.narrow()?;
                upstream.request()?;
                upstream.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"))?;
                client.head()?;
                weighed(x, |x| pass(x, &mut upstream, &mut client))
            },
            STOPPED,
        ),
        case(
            "HTTP/1: a client that does not read until the stream is idle for too long",
            |s| {
                small_buffers(s);
                s.hcm("stream_idle_timeout", json!("0.5s"));
            },
            |x| {
                let mut client = x.narrow_client()?;
                client.get("/")?;
                let mut upstream = x.upstream()?;
                upstream.narrow()?;
                upstream.request()?;
                upstream.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"))?;
                client.head()?;
                x.see(upstream.push_body(SIZE).map_or("the sender is cut off", |pushed| pushed.told()));
                x.see(upstream.closed()?);
                x.see_log()
            },
            "the sender is stopped, closed, log 200 SI stream_idle_timeout",
        )
        .or("the sender is cut off, closed, log 200 SI stream_idle_timeout"),
    ]
}

/// Reads the body that a sender of HTTP/2 goes on with.
fn resume(sender: &mut H2, at: u32, sent: u64, receive: impl FnOnce() -> Done<Check>) -> Done<Check> {
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| sender.send_body(at, sent, SIZE));
        let check = receive()?;
        sending.join().unwrap()?;
        Ok(check)
    })
}

fn http2() -> Vec<Case> {
    vec![
        case(
            "HTTP/2: a client that opens no window holds up its own stream alone",
            small_windows,
            |x| {
                let mut client = x.h2_client()?;
                client.generous = false;
                let slow = client.get("/slow")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.headers(at, &[(":status", "200")], false)?;
                weighed(x, |x| {
                    let pushed = upstream.push_body(at, SIZE)?;
                    x.see(pushed.told());
                    // The stream's window is all that it may have sent; the connection's is free for others.
                    client.send(crate::harness::frames::WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes())?;
                    let other = client.get("/other")?;
                    let beside = upstream.whole()?;
                    x.see(beside.get(":path"));
                    upstream.answer(beside.stream, "ok")?;
                    x.see(client.reply(other)?.brief());
                    client.open_windows(slow, 1 << 29)?;
                    let check = resume(&mut upstream, at, pushed.bytes, || {
                        let mut check = Check::default();
                        client.check_body(slow, &mut check)?;
                        Ok(check)
                    })?;
                    x.see(check.told());
                    Ok(())
                })
            },
            "the sender is stopped, /other, 200 ok, 96 MiB, less than 8 MiB more",
        ),
        case(
            "HTTP/2: an upstream that opens no window holds up its own stream alone",
            small_windows,
            |x| {
                let mut client = x.h2_client()?;
                let slow = client.request("POST", "/slow", &[], false)?;
                let mut upstream = x.h2_upstream()?;
                upstream.generous = false;
                let (at, ..) = upstream.begun()?;
                weighed(x, |x| {
                    let pushed = client.push_body(slow, SIZE)?;
                    x.see(pushed.told());
                    upstream.send(crate::harness::frames::WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes())?;
                    let other = client.get("/other")?;
                    let beside = upstream.begun()?;
                    upstream.answer(beside.0, "ok")?;
                    x.see(client.reply(other)?.brief());
                    upstream.open_windows(at, 1 << 29)?;
                    let check = resume(&mut client, slow, pushed.bytes, || {
                        let mut check = Check::default();
                        upstream.check_body(at, &mut check)?;
                        Ok(check)
                    })?;
                    x.see(check.told());
                    Ok(())
                })
            },
            "the sender is stopped, 200 ok, 96 MiB, less than 8 MiB more",
        ),
        case(
            "HTTP/2: a window set to nothing and opened again",
            small_windows,
            |x| {
                let mut client = H2::client(x.client()?, &[(INITIAL_WINDOW_SIZE, 0)])?;
                let stream = client.get("/")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.headers(at, &[(":status", "200")], false)?;
                upstream.data(at, b"hello", true)?;
                client.wait(|event| matches!(event, Event::Headers { .. }).then_some(()))?;
                client.fence()?;
                x.see("the head alone");
                client.open_windows(stream, 3)?;
                x.see(String::from_utf8_lossy(&client.wait(data)?));
                client.open_windows(stream, 3)?;
                x.see(String::from_utf8_lossy(&client.wait(data)?));
                Ok(())
            },
            "the head alone, hel, lo",
        ),
        case(
            "HTTP/2 to HTTP/1: a client that opens no window",
            small_buffers,
            |x| {
                let mut client = x.h2_client()?;
                client.generous = false;
                let stream = client.get("/")?;
                let mut upstream = x.upstream()?;
                upstream.narrow()?;
                upstream.request()?;
                upstream.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"))?;
                weighed(x, |x| {
                    let pushed = upstream.push_body(SIZE)?;
                    x.see(pushed.told());
                    client.open_windows(stream, 1 << 29)?;
                    let check = std::thread::scope(|scope| -> Done<Check> {
                        let sending = scope.spawn(|| upstream.send_body(pushed.bytes, SIZE));
                        let mut check = Check::default();
                        client.check_body(stream, &mut check)?;
                        sending.join().unwrap()?;
                        Ok(check)
                    })?;
                    x.see(check.told());
                    Ok(())
                })
            },
            "the sender is stopped, 96 MiB, 8 MiB more, or more",
        )
        .ours(STOPPED, "Envoy, once the window is open, takes more from an upstream of HTTP/1 than its limits of buffers say"),
        case(
            "HTTP/1 to HTTP/2: an upstream that opens no window",
            small_windows,
            |x| {
                let mut client = x.narrow_client()?;
                client.send(format!("POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: {SIZE}\r\n\r\n"))?;
                let mut upstream = x.h2_upstream()?;
                upstream.generous = false;
                let (at, ..) = upstream.begun()?;
                weighed(x, |x| {
                    let pushed = client.push_body(SIZE)?;
                    x.see(pushed.told());
                    upstream.open_windows(at, 1 << 29)?;
                    let check = std::thread::scope(|scope| -> Done<Check> {
                        let sending = scope.spawn(|| client.send_body(pushed.bytes, SIZE));
                        let mut check = Check::default();
                        upstream.check_body(at, &mut check)?;
                        sending.join().unwrap()?;
                        Ok(check)
                    })?;
                    x.see(check.told());
                    Ok(())
                })
            },
            STOPPED,
        ),
    ]
}

fn data(event: &Event) -> Option<Vec<u8>> {
    match event {
        Event::Data { bytes, .. } => Some(bytes.clone()),
        _ => None,
    }
}

fn crowds() -> Vec<Case> {
    vec![case(
        "a hundred streams of one client that reads none of them",
        small_windows,
        |x| {
            let mut client = x.h2_client()?;
            client.generous = false;
            let mut upstream = None;
            weighed(x, |x| {
                let mut streams = Vec::new();
                for _ in 0..100 {
                    streams.push(client.get("/")?);
                    if upstream.is_none() {
                        upstream = Some(x.h2_upstream()?);
                    }
                    let Some(upstream) = &mut upstream else { continue };
                    let at = upstream.whole()?.stream;
                    upstream.headers(at, &[(":status", "200")], false)?;
                    upstream.data(at, &[b'x'; 40_000], true)?;
                }
                client.open_windows(streams[0], 1 << 30)?;
                let mut bytes = 0;
                for stream in &streams {
                    bytes += client.reply(*stream)?.body.len();
                }
                x.see(bytes);
                Ok(())
            })
        },
        "4000000, less than 8 MiB more",
    )]
}
