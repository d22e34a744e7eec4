//! How large a head may be, from either side.

use serde_json::json;

use crate::harness::{Case, Family, case};

pub fn family() -> Family {
    Family::new("header_limits", [requests(), http2(), responses()].into_iter().flatten().collect())
}

crate::tests!();

fn request_with(bytes: usize) -> String {
    format!("GET / HTTP/1.1\r\nhost: a.test\r\nx-large: {}\r\n\r\n", "x".repeat(bytes))
}

fn many(count: usize) -> String {
    (0..count).map(|i| format!("x-{i}: {i}\r\n")).collect()
}

fn requests() -> Vec<Case> {
    vec![
        case(
            "a header of 50 KiB passes by default",
            |_| {},
            |x| {
                let (_client, _upstream, request) = x.begin(&request_with(50 * 1024))?;
                x.see(request.get("x-large").len());
                Ok(())
            },
            "51200",
        ),
        case("a header of 70 KiB is too large by default", |_| {}, |x| x.see_refused(request_with(70 * 1024)), "431, closed, upstream untouched, log 431 DPE"),
        case(
            "a limit of 4 KiB",
            |s| {
                s.hcm("max_request_headers_kb", json!(4));
            },
            |x| x.see_refused(request_with(5 * 1024)),
            "431, closed, upstream untouched, log 431 DPE",
        ),
        case(
            "within a limit of 96 KiB",
            |s| {
                s.hcm("max_request_headers_kb", json!(96));
            },
            |x| {
                let (_client, _upstream, request) = x.begin(&request_with(90 * 1024))?;
                x.see(request.get("x-large").len());
                Ok(())
            },
            "92160",
        ),
        case(
            "a path beyond the limit",
            |s| {
                s.hcm("max_request_headers_kb", json!(4));
            },
            |x| x.see_refused(format!("GET /{} HTTP/1.1\r\nhost: a.test\r\n\r\n", "x".repeat(5 * 1024))),
            "431, closed, upstream untouched, log 431 DPE",
        ),
        case(
            "many small headers beyond the limit of bytes",
            |s| {
                s.hcm("max_request_headers_kb", json!(1));
            },
            |x| x.see_refused(format!("GET / HTTP/1.1\r\nhost: a.test\r\n{}\r\n", many(90).replace("x-", "x-a-longer-name-"))),
            "431, closed, upstream untouched, log 431 DPE",
        ),
        case("more than 100 headers", |_| {}, |x| x.see_refused(format!("GET / HTTP/1.1\r\nhost: a.test\r\n{}\r\n", many(100))), "431, closed, upstream untouched, log 431 DPE"),
        case(
            "99 headers and a host",
            |_| {},
            |x| {
                let (_client, _upstream, request) =
                    x.begin(&format!("GET / HTTP/1.1\r\nhost: a.test\r\n{}\r\n", many(99)))?;
                x.see(request.get("x-98"));
                Ok(())
            },
            "98",
        ),
        case(
            "more headers than a limit of 5",
            |s| {
                s.hcm("common_http_protocol_options.max_headers_count", json!(5));
            },
            |x| x.see_refused(format!("GET / HTTP/1.1\r\nhost: a.test\r\n{}\r\n", many(5))),
            "431, closed, upstream untouched, log 431 DPE",
        ),
        case(
            "a head that never ends",
            |_| {},
            |x| x.see_refused(format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(200 * 1024))),
            "431, closed, upstream untouched, log 431 DPE",
        ),
        case(
            "trailers beyond the limit",
            |s| {
                s.hcm("max_request_headers_kb", json!(4));
                s.hcm("http_protocol_options.enable_trailers", json!(true));
            },
            |x| {
                let mut client = x.client()?;
                client.offer(format!(
                    "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: {}\r\n\r\n",
                    "x".repeat(8 * 1024)
                ));
                x.see(client.response()?.status());
                x.see(client.closed()?);
                x.see_verdict()
            },
            "431, closed, log 431 DPE",
        ),
    ]
}

fn http2() -> Vec<Case> {
    let large = |name: &'static str, limit: Option<u32>, bytes: usize, expected: &str| {
        case(
            name,
            move |s| {
                if let Some(limit) = limit {
                    s.hcm("max_request_headers_kb", json!(limit));
                }
            },
            move |x| {
                let mut client = x.h2_client()?;
                let value = "x".repeat(1000);
                let names: Vec<String> = (0..bytes / 1000).map(|i| format!("x-{i}")).collect();
                let mut fields =
                    vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.test")];
                fields.extend(names.iter().map(|name| (name.as_str(), value.as_str())));
                let payload = crate::harness::frames::block(&fields);
                let (first, rest) = payload.split_at(payload.len().min(16_000));
                let mut pieces: Vec<&[u8]> = vec![first];
                pieces.extend(rest.chunks(16_000));
                let stream = client.stream();
                for (i, piece) in pieces.iter().enumerate() {
                    let kind = if i == 0 { crate::harness::frames::HEADERS } else { crate::harness::frames::CONTINUATION };
                    let end = if i + 1 == pieces.len() { 4 } else { 0 };
                    let flags = if i == 0 { end | 1 } else { end };
                    client.wire.offer(crate::harness::frames::frame(kind, flags, stream, piece));
                }
                let reached = crate::harness::process::readable(&x.listener()?, std::time::Duration::from_secs(1));
                if reached {
                    let mut upstream = x.upstream()?;
                    x.see(format!("{} fields at the upstream", upstream.request()?.fields.len() > names.len()));
                    upstream.answer("ok")?;
                }
                x.see(client.reply(stream)?.brief());
                x.see_verdict()
            },
            expected,
        )
    };
    vec![
        large("HTTP/2: 40 KB pass by default", None, 40_000, "true fields at the upstream, 200 ok, log 200 -"),
        large("HTTP/2: 70 KB are too large by default", None, 70_000, "reset INTERNAL_ERROR, log 0 DR")
        .ours("431, log 431 DPE", "RFC 9113 10.5.1: ours says 431 where Envoy resets the stream, so that the client learns why"),
        large("HTTP/2: a limit of 4 KiB", Some(4), 6_000, "reset INTERNAL_ERROR, log 0 DR")
        .ours("431, log 431 DPE", "RFC 9113 10.5.1: ours says 431 where Envoy resets the stream, so that the client learns why"),
        case(
            "HTTP/2: more than 100 headers",
            |_| {},
            |x| {
                let mut client = x.h2_client()?;
                let names: Vec<String> = (0..100).map(|i| format!("x-{i}")).collect();
                let more: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
                let stream = client.request("GET", "/", &more, true)?;
                x.see(client.reply(stream)?.brief());
                x.see_untouched()?;
                x.see_verdict()
            },
            "reset INTERNAL_ERROR, upstream untouched, log 0 DR",
        )
        .ours("431, upstream untouched, log 431 DPE", "RFC 9113 10.5.1: ours says 431 where Envoy resets the stream, so that the client learns why"),
    ]
}

fn responses() -> Vec<Case> {
    let answer = |bytes: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-large: {}\r\n\r\n", "x".repeat(bytes));
    let through = |name: &'static str, answer: String, expected: &str| {
        case(
            name,
            |_| {},
            move |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.offer(&answer);
                let response = client.response()?;
                x.see(response.status());
                if response.status() != 200 {
                    x.see(upstream.closed()?);
                }
                x.see_log()
            },
            expected,
        )
    };
    vec![
        through("a response of 50 KiB passes", answer(50 * 1024), "200, log 200 - via_upstream"),
        through("a response of 90 KiB is too large", answer(90 * 1024), "502, closed, log 502 UPE upstream_reset_before_response_started"),
        through("a response of more than 100 headers", format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{}\r\n", many(101)), "502, closed, log 502 UPE upstream_reset_before_response_started"),
        case(
            "a response beyond a limit of 4 KiB",
            |s| {
                s.main().option("common_http_protocol_options.max_response_headers_kb", json!(4));
            },
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.offer(format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: {}\r\n\r\n", "x".repeat(5000)));
                x.see(client.response()?.status());
                x.see_log()
            },
            "502, log 502 UPE upstream_reset_before_response_started",
        ),
        case(
            "an HTTP/2 response of more than 100 headers",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                let names: Vec<String> = (0..101).map(|i| format!("x-{i}")).collect();
                let mut fields = vec![(":status", "200")];
                fields.extend(names.iter().map(|name| (name.as_str(), "1")));
                upstream.headers(at, &fields, true)?;
                x.see(client.response()?.status());
                x.see_log()
            },
            "503, log 503 UR upstream_reset_before_response_started",
        )
        .ours(
            "502, log 502 UPE upstream_reset_before_response_started",
            "ours answers the same whichever HTTP the upstream speaks: Envoy says 502 UPE of HTTP/1",
        ),
    ]
}
