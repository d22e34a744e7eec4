//! Connections that become something else: WebSocket over HTTP/1 and HTTP/2, CONNECT, and those that may not.

use serde_json::json;

use crate::harness::frames::ENABLE_CONNECT_PROTOCOL;
use crate::harness::{Case, Done, Event, Family, Site, Wire, case};

pub fn family() -> Family {
    Family::new("upgrades", [websocket(), refused(), http2(), connect()].into_iter().flatten().collect())
}

crate::tests!();

fn enabled(site: &mut Site) {
    site.hcm("upgrade_configs", json!([{"upgrade_type": "websocket"}]));
}

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nhost: a.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A text frame of RFC 6455, masked as clients must.
fn masked(text: &str) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut bytes = vec![0x81, 0x80 | u8::try_from(text.len()).expect("short")];
    bytes.extend(mask);
    bytes.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The text of a masked frame.
fn unmasked(wire: &mut Wire) -> Done<String> {
    let head = wire.take(2)?;
    let mask = wire.take(4)?;
    let body = wire.take(usize::from(head[1] & 0x7f))?;
    Ok(body.iter().zip(mask.iter().cycle()).map(|(byte, mask)| char::from(byte ^ mask)).collect())
}

/// A text frame as servers send it.
fn plain(text: &str) -> Vec<u8> {
    [&[0x81, u8::try_from(text.len()).expect("short")][..], text.as_bytes()].concat()
}

fn websocket() -> Vec<Case> {
    vec![
        case(
            "a WebSocket, both ways, until it closes",
            enabled,
            |x| {
                let (mut client, mut upstream, request) = x.begin(UPGRADE)?;
                x.see(request.told("connection").to_lowercase());
                x.see(request.told("upgrade"));
                x.see(request.told("sec-websocket-key"));
                upstream.send(SWITCHED)?;
                let response = client.response()?;
                x.see(response.status());
                x.see(response.told("connection").to_lowercase());
                x.see(response.told("upgrade"));
                x.see(response.told("sec-websocket-accept"));
                client.send(masked("hello"))?;
                x.see(unmasked(&mut upstream)?);
                upstream.send(plain("world"))?;
                x.see(String::from_utf8_lossy(&client.take(7)?[2..]));
                client.send([0x88, 0x80, 0, 0, 0, 0])?;
                x.see(upstream.take(6)?[0]);
                upstream.send([0x88, 0])?;
                x.see(client.take(2)?[0]);
                drop(upstream);
                x.see(client.closed()?);
                x.see_log()
            },
            "connection=upgrade, upgrade=websocket, sec-websocket-key=dGhlIHNhbXBsZSBub25jZQ==, 101, connection=upgrade, upgrade=websocket, sec-websocket-accept=s3pPLMBiTxaQ9kYGzzhZRbK+xOo=, hello, world, 136, 136, closed, log 101 UC upstream_reset_after_response_started",
        ),
        case(
            "what the client says before the answer is kept for the upstream",
            enabled,
            |x| {
                let mut client = x.client()?;
                client.send(UPGRADE)?;
                client.send(masked("early"))?;
                let mut upstream = x.upstream()?;
                upstream.head()?;
                upstream.send(SWITCHED)?;
                x.see(client.response()?.status());
                x.see(unmasked(&mut upstream)?);
                Ok(())
            },
            "101, early",
        ),
        case(
            "what the upstream says with its answer reaches the client",
            enabled,
            |x| {
                let (mut client, mut upstream, _) = x.begin(UPGRADE)?;
                upstream.send([SWITCHED.as_bytes(), &plain("first")].concat())?;
                x.see(client.response()?.status());
                x.see(String::from_utf8_lossy(&client.take(7)?[2..]));
                Ok(())
            },
            "101, first",
        ),
        case(
            "the client's end closes the upstream",
            enabled,
            |x| {
                let (mut client, mut upstream, _) = x.begin(UPGRADE)?;
                upstream.send(SWITCHED)?;
                client.response()?;
                drop(client);
                x.see(upstream.closed()?);
                x.see_log()
            },
            "closed, log 101 DC downstream_remote_disconnect",
        ),
        case(
            "a route's limit does not end a WebSocket",
            |s| {
                enabled(s);
                s.route("route.timeout", json!("0.2s"));
                // Longer than that, and what ends it in the end.
                s.hcm("stream_idle_timeout", json!("0.8s"));
            },
            |x| {
                let (mut client, mut upstream, _) = x.begin(UPGRADE)?;
                upstream.send(SWITCHED)?;
                x.see(client.response()?.status());
                x.see(client.closed()?);
                x.see_log()
            },
            "101, closed, log 101 SI stream_idle_timeout",
        ),
        case(
            "the protocol's name in other letters",
            enabled,
            |x| {
                let (mut client, mut upstream, request) = x.begin(&UPGRADE.replace("upgrade: websocket", "Upgrade: WebSocket"))?;
                x.see(request.told("upgrade"));
                upstream.send(SWITCHED)?;
                x.see(client.response()?.status());
                Ok(())
            },
            "upgrade=WebSocket, 101",
        ),
        case(
            "a client that ends its half is taken to have left",
            enabled,
            |x| {
                let (mut client, mut upstream, _) = x.begin(UPGRADE)?;
                upstream.send(SWITCHED)?;
                client.response()?;
                client.send(masked("last"))?;
                client.fin()?;
                x.see(unmasked(&mut upstream)?);
                x.see(upstream.closed()?);
                x.see(client.closed()?);
                x.see_log()
            },
            "last, closed, closed, log 101 DC downstream_remote_disconnect",
        ),
        case(
            "an upstream that resets",
            enabled,
            |x| {
                let (mut client, mut upstream, _) = x.begin(UPGRADE)?;
                upstream.send(SWITCHED)?;
                client.response()?;
                upstream.reset()?;
                x.see(client.closed()?);
                x.see_verdict()
            },
            "closed, log 101 UC",
        ),
        case(
            "an upstream that answers plainly",
            enabled,
            |x| {
                let (mut client, mut upstream, _) = x.begin(UPGRADE)?;
                upstream.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno")?;
                x.see(client.response()?.brief());
                x.see(client.closed()?);
                x.see_log()
            },
            "400 no, closed, log 400 - via_upstream",
        ),
    ]
}

fn refused() -> Vec<Case> {
    let refused = |name: &str, arrange: fn(&mut Site), request: String, expected: &str| {
        case(
            name,
            arrange,
            move |x| {
                let mut client = x.client()?;
                client.send(&request)?;
                let response = client.response()?;
                x.see(response.status());
                x.see_untouched()?;
                x.see_log()
            },
            expected,
        )
    };
    vec![
        refused("an upgrade that is not configured", |_| {}, UPGRADE.to_owned(), "403, upstream untouched, log 403 - upgrade_failed"),
        refused("an upgrade to another protocol", enabled, UPGRADE.replace("websocket\r\n", "other\r\n"), "403, upstream untouched, log 403 - upgrade_failed"),
        refused("an upgrade that the route forbids", |s| { enabled(s); s.route("route.upgrade_configs", json!([{"upgrade_type": "websocket", "enabled": false}])); }, UPGRADE.to_owned(), "403, upstream untouched, log 403 - upgrade_failed"),
        case(
            "an upgrade that only the route allows",
            |s| {
                s.hcm("upgrade_configs", json!([{"upgrade_type": "websocket", "enabled": false}]));
                s.route("route.upgrade_configs", json!([{"upgrade_type": "websocket", "enabled": true}]));
            },
            |x| {
                let (mut client, mut upstream, _) = x.begin(UPGRADE)?;
                upstream.send(SWITCHED)?;
                x.see(client.response()?.status());
                Ok(())
            },
            "101",
        ),
    ]
}

fn http2() -> Vec<Case> {
    fn extended(site: &mut Site) {
        enabled(site);
        site.hcm("http2_protocol_options.allow_connect", json!(true));
    }
    const CONNECT: &[(&str, &str)] = &[
        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/chat"),
        (":authority", "a.test"), ("sec-websocket-version", "13"),
    ];
    vec![
        case(
            "extended CONNECT to an upstream of HTTP/1",
            extended,
            |x| {
                let mut client = x.h2_client()?;
                client.wait(|event| matches!(event, Event::Settings(_)).then_some(()))?;
                x.see(client.peer.get(&ENABLE_CONNECT_PROTOCOL).copied().unwrap_or(0));
                let stream = client.stream();
                client.headers(stream, CONNECT, false)?;
                let mut upstream = x.upstream()?;
                let request = upstream.request()?;
                x.see(&request.start);
                x.see(request.told("upgrade"));
                upstream.send(SWITCHED)?;
                let (_, fields, end) = client.begun()?;
                x.see(format!("{} {end}", fields[0].1));
                client.data(stream, &masked("hello"), false)?;
                x.see(unmasked(&mut upstream)?);
                upstream.send(plain("world"))?;
                let got = client.wait(|event| match event {
                    Event::Data { bytes, .. } => Some(String::from_utf8_lossy(&bytes[2..]).into_owned()),
                    _ => None,
                })?;
                x.see(got);
                client.reset(stream, 8)?;
                x.see(upstream.closed()?);
                Ok(())
            },
            "1, GET /chat HTTP/1.1, upgrade=websocket, 200 false, hello, world, closed",
        ),
        case(
            "an upgrade of HTTP/1 to an upstream of HTTP/2",
            |s| {
                enabled(s);
                s.http2_upstream();
                s.main().option("explicit_http_config.http2_protocol_options.allow_connect", json!(true));
            },
            |x| {
                let mut client = x.client()?;
                client.send(UPGRADE)?;
                let mut upstream = crate::harness::H2::server(x.upstream()?, &[(ENABLE_CONNECT_PROTOCOL, 1)])?;
                let (at, fields, _) = upstream.begun()?;
                let pseudo: Vec<String> = fields.iter().filter(|(n, _)| [":method", ":protocol", ":path"].contains(&n.as_str())).map(|(n, v)| format!("{n}={v}")).collect();
                x.see(pseudo.join(" "));
                upstream.headers(at, &[(":status", "200")], false)?;
                let response = client.response()?;
                x.see(response.status());
                x.see(response.told("upgrade"));
                client.send(masked("hello"))?;
                let got = upstream.wait(|event| match event {
                    Event::Data { bytes, .. } => Some(bytes.len()),
                    _ => None,
                })?;
                x.see(got);
                upstream.data(at, &plain("world"), false)?;
                x.see(String::from_utf8_lossy(&client.take(7)?[2..]));
                Ok(())
            },
            ":path=/chat :method=CONNECT :protocol=websocket, 101, upgrade=websocket, 11, world",
        )
        .ours(
            ":method=CONNECT :path=/chat :protocol=websocket, 101, upgrade=websocket, 11, world",
            "the order of pseudo-headers says nothing (RFC 9113 8.3)",
        ),
        case(
            "extended CONNECT to an upstream of HTTP/2, until each side ends its half",
            |s| {
                extended(s);
                s.http2_upstream();
                s.main().option("explicit_http_config.http2_protocol_options.allow_connect", json!(true));
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.stream();
                client.headers(stream, CONNECT, false)?;
                let mut upstream = crate::harness::H2::server(x.upstream()?, &[(ENABLE_CONNECT_PROTOCOL, 1)])?;
                let (at, fields, _) = upstream.begun()?;
                x.see(fields.iter().find(|(name, _)| name == ":protocol").map_or("-", |(_, value)| value.as_str()));
                upstream.headers(at, &[(":status", "200")], false)?;
                x.see(client.begun()?.1[0].1.clone());
                client.data(stream, b"hello", true)?;
                let got = upstream.wait(|event| match event {
                    Event::Data { bytes, .. } => Some(String::from_utf8_lossy(bytes).into_owned()),
                    _ => None,
                })?;
                x.see(got);
                upstream.data(at, b"world", true)?;
                x.see(client.reply(stream)?.text());
                x.see_log()
            },
            "websocket, 200, hello, world, log 101 - via_upstream",
        ),
        case(
            "a WebSocket's bytes are flow-controlled, from an upstream of HTTP/1 to a client of HTTP/2",
            extended,
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.stream();
                client.headers(stream, CONNECT, false)?;
                let mut upstream = x.upstream()?;
                upstream.request()?;
                upstream.send(SWITCHED)?;
                client.begun()?;
                const SIZE: u64 = 4 << 20;
                let check = std::thread::scope(|scope| -> crate::harness::Done<crate::harness::Check> {
                    let sending = scope.spawn(|| upstream.send_body(0, SIZE));
                    let mut check = crate::harness::Check::default();
                    while check.bytes < SIZE {
                        check.take(&client.wait(|event| match event {
                            Event::Data { bytes, .. } => Some(bytes.clone()),
                            _ => None,
                        })?);
                    }
                    sending.join().unwrap()?;
                    Ok(check)
                })?;
                x.see(check.told());
                Ok(())
            },
            "4 MiB",
        ),
        case(
            "extended CONNECT that is not configured",
            |s| {
                s.hcm("http2_protocol_options.allow_connect", json!(true));
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.stream();
                client.headers(stream, CONNECT, false)?;
                x.see(client.reply(stream)?.get(":status"));
                x.see_log()
            },
            "403, log 403 - upgrade_failed",
        ),
    ]
}

fn connect() -> Vec<Case> {
    fn tunnel(site: &mut Site) {
        site.hcm("upgrade_configs", json!([{"upgrade_type": "CONNECT"}]));
        let cluster = site.clusters[0].name.clone();
        site.routes[0] = json!({
            "match": {"connect_matcher": {}},
            "route": {"cluster": cluster, "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]},
        });
    }
    vec![
        case(
            "CONNECT becomes a tunnel of TCP",
            tunnel,
            |x| {
                let mut client = x.client()?;
                client.send("CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n")?;
                let mut upstream = x.upstream()?;
                let response = client.response_to("CONNECT")?;
                x.see(response.status());
                x.see(response.told("transfer-encoding"));
                client.send("hello")?;
                x.see(upstream.text(5)?);
                upstream.send("world")?;
                x.see(client.text(5)?);
                drop(upstream);
                x.see(client.closed()?);
                x.see_log()
            },
            "200, transfer-encoding=-, hello, world, closed, log 200 - via_upstream",
        ),
        case(
            "CONNECT over HTTP/2 becomes a tunnel of TCP",
            |s| {
                tunnel(s);
                s.hcm("http2_protocol_options.allow_connect", json!(true));
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.stream();
                client.headers(stream, &[(":method", "CONNECT"), (":authority", "a.test:443")], false)?;
                let mut upstream = x.upstream()?;
                let (_, fields, end) = client.begun()?;
                x.see(format!("{} {end}", fields[0].1));
                client.data(stream, b"hello", false)?;
                x.see(upstream.text(5)?);
                upstream.send("world")?;
                drop(upstream);
                x.see(client.reply(stream)?.text());
                x.see_log()
            },
            "200 false, hello, world, log 200 - via_upstream",
        ),
        case(
            "CONNECT is forwarded where it is not the end",
            |s| {
                s.hcm("upgrade_configs", json!([{"upgrade_type": "CONNECT"}]));
                s.route("match", json!({"connect_matcher": {}}));
            },
            |x| {
                let mut client = x.client()?;
                client.send("CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n")?;
                let mut upstream = x.upstream()?;
                x.see(upstream.head()?.start);
                upstream.send("HTTP/1.1 200 OK\r\n\r\n")?;
                x.see(client.response_to("CONNECT")?.status());
                client.send("hello")?;
                x.see(upstream.text(5)?);
                Ok(())
            },
            "CONNECT a.test:443 HTTP/1.1, 200, hello",
        ),
        case(
            "CONNECT that is not configured",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.send("CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n")?;
                x.see(client.response()?.status());
                x.see_untouched()?;
                x.see_log()
            },
            "404, upstream untouched, log 404 NR route_not_found",
        ),
        case(
            "CONNECT to an upstream that refuses",
            |s| {
                tunnel(s);
                s.refusing();
            },
            |x| {
                let mut client = x.client()?;
                client.send("CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n")?;
                x.see(client.response()?.status());
                x.see_log()
            },
            "503, log 503 UF upstream_reset_before_response_started",
        ),
        case(
            "the bytes of a tunnel are flow-controlled both ways",
            tunnel,
            |x| {
                let mut client = x.client()?;
                client.send("CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n")?;
                let mut upstream = x.upstream()?;
                client.response_to("CONNECT")?;
                let bytes = vec![b'x'; 4 << 20];
                let mut writer = client.split()?;
                let got = std::thread::scope(|scope| {
                    scope.spawn(|| writer.send(&bytes));
                    upstream.take(bytes.len())
                })?;
                x.see(got.len());
                Ok(())
            },
            "4194304",
        ),
    ]
}
