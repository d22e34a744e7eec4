//! Raw TCP: who speaks first, who ends how, and what is told of it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Case, Family, Site, case};

pub fn family() -> Family {
    Family::new("tcp", [speaking(), ending(), failing()].into_iter().flatten().collect())
}

crate::tests!();

fn tcp(site: &mut Site) {
    site.tcp();
    site.format = Some("%RESPONSE_CODE%\t%RESPONSE_FLAGS%\t%RESPONSE_CODE_DETAILS%\t%BYTES_RECEIVED%\t%BYTES_SENT%".to_owned());
}

/// The inspectors that find out what a connection speaks, and how long they wait.
fn inspectors(site: &mut Site) {
    let inspector = |name: &str, kind: &str| -> Value {
        json!({
            "name": format!("envoy.filters.listener.{name}"),
            "typed_config": {"@type": format!("type.googleapis.com/envoy.extensions.filters.listener.{name}.v3.{kind}")},
        })
    };
    site.listener(
        "listener_filters",
        json!([inspector("tls_inspector", "TlsInspector"), inspector("http_inspector", "HttpInspector")]),
    );
    site.listener("listener_filters_timeout", json!("0.05s"));
    site.listener("continue_on_listener_filters_timeout", json!(true));
}

fn speaking() -> Vec<Case> {
    let server_first = |name: &str, arrange: fn(&mut Site)| {
        let name = name.to_owned();
        let told = name.clone();
        case(
            &name,
            arrange,
            move |x| {
                let begun = Instant::now();
                let mut client = x.client()?;
                let mut upstream = x.upstream()?;
                upstream.send("220 mail.test\r\n")?;
                x.see(client.text(15)?.trim().to_owned());
                let took = begun.elapsed();
                println!("    {}: tcp {told}: the greeting took {} ms", x.proxy.subject, took.as_millis());
                // 100 ms is what it should take; the rest is for a loaded machine.
                x.see(if took < Duration::from_secs(3) { "soon" } else { "late" });
                client.send("QUIT\r\n")?;
                x.see(upstream.text(6)?.trim().to_owned());
                Ok(())
            },
            "220 mail.test, soon, QUIT",
        )
    };
    vec![
        case(
            "the client speaks first",
            tcp,
            |x| {
                let mut client = x.client()?;
                client.send("hello")?;
                let mut upstream = x.upstream()?;
                x.see(upstream.text(5)?);
                upstream.send("world")?;
                x.see(client.text(5)?);
                drop(client);
                x.see(upstream.end()?);
                drop(upstream);
                let line = x.log()?;
                x.see(format!("log {} {}", line.verdict(), line.bytes()));
                Ok(())
            },
            "hello, world, fin, log 0 - 5 in 5 out",
        ),
        server_first("the server speaks first", tcp),
        server_first("the server speaks first, behind inspectors", |s| {
            tcp(s);
            inspectors(s);
        }),
        case(
            "the client speaks first, behind inspectors",
            |s| {
                tcp(s);
                inspectors(s);
            },
            |x| {
                let mut client = x.client()?;
                client.send("hello")?;
                let mut upstream = x.upstream()?;
                x.see(upstream.text(5)?);
                Ok(())
            },
            "hello",
        ),
        case(
            "a ClientHello passes as it is, behind inspectors",
            |s| {
                tcp(s);
                inspectors(s);
            },
            |x| {
                let mut client = x.client()?;
                let hello = client_hello("a.test");
                client.dribble(&hello, 7)?;
                let mut upstream = x.upstream()?;
                x.see(if upstream.take(hello.len())? == hello { "the same" } else { "changed" });
                Ok(())
            },
            "the same",
        ),
        case(
            "half a ClientHello, then silence, passes on in the end",
            |s| {
                tcp(s);
                inspectors(s);
            },
            |x| {
                let mut client = x.client()?;
                let hello = client_hello("a.test");
                client.send(&hello[..20])?;
                let mut upstream = x.upstream()?;
                x.see(if upstream.take(20)? == hello[..20] { "the same" } else { "changed" });
                Ok(())
            },
            "the same",
        ),
        case(
            "what the client says and an end at once",
            tcp,
            |x| {
                let mut client = x.client()?;
                client.send("hello")?;
                client.fin()?;
                let mut upstream = x.upstream()?;
                x.see(String::from_utf8_lossy(&upstream.rest()?));
                upstream.send("world")?;
                drop(upstream);
                x.see(String::from_utf8_lossy(&client.rest()?));
                x.see(client.how());
                let line = x.log()?;
                x.see(format!("log {} {}", line.verdict(), line.bytes()));
                Ok(())
            },
            "hello, world, fin, log 0 - 5 in 5 out",
        ),
        case(
            "four megabytes each way at once",
            tcp,
            |x| {
                let mut client = x.client()?;
                let mut upstream = x.upstream()?;
                const SIZE: usize = 4 << 20;
                let bytes: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8).collect();
                let (mut client_reader, mut upstream_reader) = (client.split()?, upstream.split()?);
                let (up, down) = std::thread::scope(|scope| {
                    scope.spawn(|| client.send(&bytes));
                    scope.spawn(|| upstream.send(&bytes));
                    let up = scope.spawn(|| upstream_reader.take(SIZE));
                    let down = scope.spawn(|| client_reader.take(SIZE));
                    (up.join().unwrap(), down.join().unwrap())
                });
                x.see(up? == bytes);
                x.see(down? == bytes);
                Ok(())
            },
            "true, true",
        ),
        case(
            "a connection without a word",
            tcp,
            |x| {
                let client = x.client()?;
                drop(client);
                let mut upstream = x.upstream()?;
                x.see(upstream.closed()?);
                drop(upstream);
                let line = x.log()?;
                x.see(format!("log {} {}", line.verdict(), line.bytes()));
                Ok(())
            },
            "closed, log 0 - 0 in 0 out",
        ),
    ]
}

/// A ClientHello of TLS 1.2 that names this host, and nothing more than it must.
fn client_hello(host: &str) -> Vec<u8> {
    let length = |n: usize| u16::try_from(n).unwrap().to_be_bytes().to_vec();
    let name = [&[0][..], &length(host.len()), host.as_bytes()].concat();
    let list = [length(name.len()), name].concat();
    let extension = [vec![0, 0], length(list.len()), list].concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2f, 1, 0]);
    body.extend([length(extension.len()), extension].concat());
    let handshake = [&[1, 0][..], &length(body.len()), &body].concat();
    [&[22, 3, 1][..], &length(handshake.len()), &handshake].concat()
}

fn ending() -> Vec<Case> {
    vec![
        case(
            "the client ends its half, the server goes on",
            tcp,
            |x| {
                let mut client = x.client()?;
                client.send("hello")?;
                let mut upstream = x.upstream()?;
                upstream.text(5)?;
                client.fin()?;
                x.see(upstream.end()?);
                upstream.send("late")?;
                x.see(client.text(4)?);
                upstream.fin()?;
                x.see(client.end()?);
                x.see_verdict()
            },
            "fin, late, fin, log 0 -",
        ),
        case(
            "the server ends its half, the client goes on",
            tcp,
            |x| {
                let mut client = x.client()?;
                let mut upstream = x.upstream()?;
                upstream.send("hello")?;
                x.see(client.text(5)?);
                upstream.fin()?;
                x.see(client.end()?);
                client.send("late")?;
                x.see(upstream.text(4)?);
                client.fin()?;
                x.see(upstream.end()?);
                x.see_verdict()
            },
            "hello, fin, late, fin, log 0 -",
        ),
        case(
            "the client resets",
            tcp,
            |x| {
                let mut client = x.client()?;
                client.send("hello")?;
                let mut upstream = x.upstream()?;
                upstream.text(5)?;
                client.reset()?;
                x.see(upstream.end()?);
                x.see_verdict()
            },
            "reset, log 0 -",
        ),
        case(
            "the server resets",
            tcp,
            |x| {
                let mut client = x.client()?;
                client.send("hello")?;
                let mut upstream = x.upstream()?;
                upstream.text(5)?;
                upstream.reset()?;
                x.see(client.end()?);
                x.see_verdict()
            },
            "reset, log 0 UR",
        ),
        case(
            "idle for too long",
            |s| {
                tcp(s);
                s.tcp_set("idle_timeout", json!("0.2s"));
            },
            |x| {
                let mut client = x.client()?;
                client.send("hello")?;
                let mut upstream = x.upstream()?;
                upstream.text(5)?;
                x.see(client.end()?);
                x.see(upstream.end()?);
                x.see_verdict()
            },
            "fin, fin, log 0 -",
        ),
        case(
            "a connection's whole life",
            |s| {
                tcp(s);
                s.tcp_set("max_downstream_connection_duration", json!("0.2s"));
            },
            |x| {
                let mut client = x.client()?;
                client.send("hello")?;
                let mut upstream = x.upstream()?;
                upstream.text(5)?;
                x.see(client.end()?);
                x.see(upstream.end()?);
                x.see_verdict()
            },
            "fin, fin, log 0 DT",
        ),
    ]
}

fn failing() -> Vec<Case> {
    let failed = |name: &str, arrange: fn(&mut Site), expected: &str| {
        case(
            name,
            arrange,
            |x| {
                let mut client = x.client()?;
                client.offer("hello");
                x.see(client.closed()?);
                x.see_verdict()
            },
            expected,
        )
    };
    vec![
        failed(
            "an upstream that refuses",
            |s| {
                tcp(s);
                s.refusing();
            },
            "closed, log 0 UF,URX",
        ),
        failed(
            "an upstream that cannot be reached in time",
            |s| {
                tcp(s);
                s.unreachable();
                s.cluster("connect_timeout", json!("0.2s"));
            },
            "closed, log 0 UF,URX",
        ),
        failed(
            "a cluster without endpoints (TCP)",
            |s| {
                tcp(s);
                s.empty();
            },
            "closed, log 0 UH",
        ),
        failed(
            "a cluster that does not exist (TCP)",
            |s| {
                tcp(s);
                s.tcp_set("cluster", json!("nowhere"));
            },
            "closed, log 0 NC",
        ),
        case(
            "the next endpoint is tried",
            |s| {
                tcp(s);
                s.add_refusing();
                s.tcp_set("max_connect_attempts", json!(2));
            },
            |x| {
                for _ in 0..2 {
                    let mut client = x.client()?;
                    client.send("hello")?;
                    let mut upstream = x.upstream()?;
                    x.see(upstream.text(5)?);
                    drop(client);
                    drop(upstream);
                    x.see_verdict()?;
                }
                Ok(())
            },
            "hello, log 0 UF, hello, log 0 UF",
        ).ours_any(&["hello, log 0 -, hello, log 0 -", "hello, log 0 UF, hello, log 0 -", "hello, log 0 -, hello, log 0 UF", "hello, log 0 UF, hello, log 0 UF"], "whether a failure that was made good is flagged is open").or("hello, log 0 -, hello, log 0 UF").or("hello, log 0 UF, hello, log 0 -"),
    ]
}
