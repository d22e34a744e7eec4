//! Every time limit on the way of a request: the right code, the right flag, and the other side let go.

use serde_json::json;

use crate::harness::{Case, Family, Site, case};

pub fn family() -> Family {
    Family::new("timeouts", [of_routes(), of_streams(), of_requests(), connecting(), http2()].into_iter().flatten().collect())
}

crate::tests!();

/// A plain request that the upstream takes and never answers.
fn unanswered(name: &str, arrange: impl Fn(&mut Site) + Send + Sync + 'static, expected: &str) -> Case {
    case(
        name,
        arrange,
        |x| {
            let (mut client, mut upstream, _) = x.begin_get()?;
            x.see(client.response()?.brief());
            x.see(upstream.closed()?);
            x.see_log()
        },
        expected,
    )
}

/// A request whose answer stops in the middle of its body.
fn stalled(name: &str, arrange: impl Fn(&mut Site) + Send + Sync + 'static, expected: &str) -> Case {
    case(
        name,
        arrange,
        |x| {
            let (mut client, mut upstream, _) = x.begin_get()?;
            upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")?;
            x.see(client.head()?.status());
            x.see(client.text(5)?);
            x.see(client.closed()?);
            x.see(upstream.closed()?);
            x.see_log()
        },
        expected,
    )
}

fn route_timeout(site: &mut Site) {
    site.route("route.timeout", json!("0.2s"));
}

fn of_routes() -> Vec<Case> {
    vec![
        unanswered("a route's, before an answer", route_timeout, "504 upstream request timeout, closed, log 504 UT response_timeout"),
        stalled("a route's, in the middle of an answer", route_timeout, "200, hello, closed, closed, log 200 UT response_timeout"),
        unanswered(
            "of a try",
            |s| {
                s.route("route.retry_policy", json!({"per_try_timeout": "0.2s", "num_retries": 0}));
            },
            "504 upstream request timeout, closed, log 504 UT upstream_per_try_timeout",
        ),
        unanswered(
            "of a try, with a policy that retries nothing of the kind",
            |s| {
                s.route("route.retry_policy", json!({"retry_on": "connect-failure", "per_try_timeout": "0.2s"}));
            },
            "504 upstream request timeout, closed, log 504 UT upstream_per_try_timeout",
        ),
        unanswered(
            "of a try, longer than the route's",
            |s| {
                route_timeout(s);
                s.route("route.retry_policy", json!({"retry_on": "5xx", "per_try_timeout": "60s"}));
            },
            "504 upstream request timeout, closed, log 504 UT response_timeout",
        ),
        case(
            "asked for by the client's header",
            |s| {
                s.hcm("use_remote_address", json!(true));
                s.hcm("internal_address_config", json!({"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]}));
            },
            |x| {
                let (mut client, _upstream, request) =
                    x.begin("GET / HTTP/1.1\r\nhost: a.test\r\nx-envoy-upstream-rq-timeout-ms: 200\r\n\r\n")?;
                x.see(request.told("x-envoy-upstream-rq-timeout-ms"));
                x.see(request.told("x-envoy-expected-rq-timeout-ms"));
                x.see(client.response()?.status());
                x.see_verdict()
            },
            "x-envoy-upstream-rq-timeout-ms=-, x-envoy-expected-rq-timeout-ms=200, 504, log 504 UT",
        ),
        case(
            "a route's limit is told to the upstream",
            |s| {
                s.route("route.timeout", json!("60s"));
            },
            |x| {
                let (_client, _upstream, request) = x.begin_get()?;
                x.see(request.told("x-envoy-expected-rq-timeout-ms"));
                Ok(())
            },
            "x-envoy-expected-rq-timeout-ms=60000",
        ),
        case(
            "a route's limit does not run while the request comes",
            |s| {
                route_timeout(s);
                // What ends the wait instead is the stream's own idleness, which is longer.
                s.hcm("stream_idle_timeout", json!("0.8s"));
            },
            |x| {
                let mut client = x.client()?;
                client.send("POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n\r\nhe")?;
                let mut upstream = x.upstream()?;
                upstream.head()?;
                x.see(client.response()?.status());
                x.see_log()
            },
            "408, log 408 SI stream_idle_timeout",
        ),
    ]
}

fn of_streams() -> Vec<Case> {
    let idle = |s: &mut Site| {
        s.hcm("stream_idle_timeout", json!("0.2s"));
    };
    vec![
        unanswered("idle, before an answer", idle, "504 stream timeout, closed, log 504 SI stream_idle_timeout"),
        stalled("idle, in the middle of an answer", idle, "200, hello, closed, closed, log 200 SI stream_idle_timeout"),
        case(
            "idle, in the middle of a request",
            idle,
            |x| {
                let mut client = x.client()?;
                client.send("POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n\r\nhe")?;
                let mut upstream = x.upstream()?;
                upstream.head()?;
                x.see(client.response()?.brief());
                x.see(client.closed()?);
                x.see(upstream.closed()?);
                x.see_log()
            },
            "408 stream timeout, closed, closed after 2 bytes, log 408 SI stream_idle_timeout",
        ),
        unanswered(
            "a route's own idle time",
            |s| {
                s.route("route.idle_timeout", json!("0.2s"));
            },
            "504 stream timeout, closed, log 504 SI stream_idle_timeout",
        ),
        unanswered(
            "a route's idle time of none beats the connection manager's",
            |s| {
                s.hcm("stream_idle_timeout", json!("0.1s"));
                s.route("route.idle_timeout", json!("0s"));
                s.route("route.timeout", json!("0.5s"));
            },
            "504 upstream request timeout, closed, log 504 UT response_timeout",
        ),
        unanswered(
            "a stream's whole life, before an answer",
            |s| {
                s.hcm("common_http_protocol_options.max_stream_duration", json!("0.2s"));
            },
            "504 downstream duration timeout, closed, log 504 - max_duration_timeout",
        ),
        stalled(
            "a stream's whole life, in the middle of an answer",
            |s| {
                s.hcm("common_http_protocol_options.max_stream_duration", json!("0.2s"));
            },
            "200, hello, closed, closed, log 200 - max_duration_timeout",
        ),
        unanswered(
            "a stream's whole life, a route's",
            |s| {
                s.route("route.max_stream_duration.max_stream_duration", json!("0.2s"));
            },
            "504 downstream duration timeout, closed, log 504 - max_duration_timeout",
        ),
        unanswered(
            "a stream's whole life at the upstream",
            |s| {
                s.main().option("common_http_protocol_options.max_stream_duration", json!("0.2s"));
            },
            "504 upstream max stream duration reached, closed, log 504 UMSDR upstream_max_stream_duration_reached",
        ),
        stalled(
            "a stream's whole life at the upstream, in the middle of an answer",
            |s| {
                s.main().option("common_http_protocol_options.max_stream_duration", json!("0.2s"));
            },
            "200, hello, closed, closed, log 200 UMSDR upstream_max_stream_duration_reached",
        ),
    ]
}

fn of_requests() -> Vec<Case> {
    let cut = |name: &str, field: &'static str, request: &'static str, expected: &str| {
        case(
            name,
            move |s| {
                s.hcm(field, json!("0.2s"));
            },
            move |x| {
                let mut client = x.client()?;
                client.send(request)?;
                x.see(client.response()?.brief());
                x.see(client.closed()?);
                x.see_log()
            },
            expected,
        )
    };
    const BODY: &str = "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n\r\nhe";
    vec![
        cut("a head that does not end", "request_headers_timeout", "GET / HTTP/1.1\r\nhost: a", "408 request header timeout, closed, log 408 - request_header_timeout"),
        cut("a head that does not end, by the time for the whole request", "request_timeout", "GET / HTTP/1.1\r\nhost: a", "408 request timeout, closed, log 408 - request_overall_timeout"),
        cut("a body that does not end", "request_timeout", BODY, "408 request timeout, closed, log 408 - request_overall_timeout"),
        case(
            "the time for a request ends with the request",
            |s| {
                s.hcm("request_timeout", json!("0.2s"));
                s.route("route.timeout", json!("0.6s"));
            },
            |x| {
                let (mut client, _upstream, _) = x.begin_get()?;
                x.see(client.response()?.status());
                x.see_log()
            },
            "504, log 504 UT response_timeout",
        ),
    ]
}

fn connecting() -> Vec<Case> {
    vec![
        case(
            "to connect",
            |s| {
                s.unreachable();
                s.cluster("connect_timeout", json!("0.2s"));
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                x.see(client.response()?.brief());
                x.see_log()
            },
            "503 upstream connect error or disconnect/reset before headers. reset reason: connection timeout, log 503 UF upstream_reset_before_response_started",
        ),
        case(
            "a route's, while connecting",
            |s| {
                s.unreachable();
                s.cluster("connect_timeout", json!("60s"));
                route_timeout(s);
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                x.see(client.response()?.brief());
                x.see_log()
            },
            "504 upstream request timeout, log 504 UT response_timeout",
        ),
        case(
            "a route's, while waiting for a connection",
            |s| {
                s.cluster("circuit_breakers", json!({"thresholds": [{"max_connections": 1}]}));
                route_timeout(s);
                s.route_before(json!({"match": {"prefix": "/long"}, "route": {"cluster": s.clusters[0].name, "timeout": "0s"}}));
            },
            |x| {
                let (mut first, mut upstream, _) = x.begin("GET /long HTTP/1.1\r\nhost: a.test\r\n\r\n")?;
                let mut second = x.client()?;
                second.get("/")?;
                x.see(second.response()?.brief());
                x.see_log()?;
                upstream.answer("ok")?;
                x.see(first.response()?.brief());
                x.see_untouched()
            },
            "504 upstream request timeout, log 504 UT response_timeout, 200 ok, upstream untouched",
        ),
    ]
}

fn http2() -> Vec<Case> {
    let both = |name: &str, arrange: fn(&mut Site), expected: &str| {
        case(
            name,
            move |s| {
                s.http2_upstream();
                arrange(s);
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.get("/")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                x.see(client.reply(stream)?.brief());
                x.see(upstream.reply(at)?.brief());
                x.see_log()?;
                // Both connections are as good as before.
                let stream = client.get("/again")?;
                let at = upstream.whole()?.stream;
                upstream.answer(at, "ok")?;
                x.see(client.reply(stream)?.brief());
                Ok(())
            },
            expected,
        )
    };
    vec![
        both("HTTP/2: a route's", route_timeout, "504 upstream request timeout, reset INTERNAL_ERROR, log 504 UT response_timeout, 200 ok").ours_any(&["504 upstream request timeout, reset CANCEL, log 504 UT response_timeout, 200 ok", "504 upstream request timeout, reset INTERNAL_ERROR, log 504 UT response_timeout, 200 ok"], "which code a reset carries is open; Envoy has INTERNAL_ERROR for all, CANCEL says it better"),
        both(
            "HTTP/2: idle",
            |s| {
                s.hcm("stream_idle_timeout", json!("0.2s"));
            },
            "504 stream timeout, reset INTERNAL_ERROR, log 504 SI stream_idle_timeout, 200 ok",
        ).ours_any(&["504 stream timeout, reset CANCEL, log 504 SI stream_idle_timeout, 200 ok", "504 stream timeout, reset INTERNAL_ERROR, log 504 SI stream_idle_timeout, 200 ok"], "which code a reset carries is open; Envoy has INTERNAL_ERROR for all, CANCEL says it better"),
        both(
            "HTTP/2: a stream's whole life",
            |s| {
                s.hcm("common_http_protocol_options.max_stream_duration", json!("0.2s"));
            },
            "504 downstream duration timeout, reset INTERNAL_ERROR, log 504 - max_duration_timeout, 200 ok",
        ).ours_any(&["504 downstream duration timeout, reset CANCEL, log 504 - max_duration_timeout, 200 ok", "504 downstream duration timeout, reset INTERNAL_ERROR, log 504 - max_duration_timeout, 200 ok"], "which code a reset carries is open; Envoy has INTERNAL_ERROR for all, CANCEL says it better"),
        case(
            "HTTP/2: a route's, in the middle of an answer",
            |s| {
                s.http2_upstream();
                route_timeout(s);
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.get("/")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.headers(at, &[(":status", "200")], false)?;
                upstream.data(at, b"hello", false)?;
                x.see(client.reply(stream)?.brief());
                x.see(upstream.reply(at)?.brief());
                x.see_log()
            },
            "200 hello reset INTERNAL_ERROR, reset INTERNAL_ERROR, log 200 UT response_timeout",
        ).ours_any(&["200 hello reset CANCEL, reset CANCEL, log 200 UT response_timeout", "200 hello reset INTERNAL_ERROR, reset INTERNAL_ERROR, log 200 UT response_timeout", "200 hello reset CANCEL, reset INTERNAL_ERROR, log 200 UT response_timeout", "200 hello reset INTERNAL_ERROR, reset CANCEL, log 200 UT response_timeout"], "which code a reset carries is open; Envoy has INTERNAL_ERROR for all, CANCEL says it better"),
        case(
            "gRPC: a deadline of the client's, where routes obey it",
            |s| {
                s.http2_upstream();
                s.route("route.max_stream_duration", json!({"grpc_timeout_header_max": "0s"}));
            },
            |x| {
                let mut client = x.h2_client()?;
                let more = [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "200m")];
                let stream = client.request("POST", "/s/m", &more, true)?;
                let mut upstream = x.h2_upstream()?;
                let request = upstream.whole()?;
                x.see(request.get("grpc-timeout"));
                let reply = client.reply(stream)?;
                x.see(reply.brief());
                x.see(reply.get("grpc-status"));
                x.see(reply.get("grpc-message"));
                x.see_log()
            },
            "200m, 200, 4, downstream duration timeout, log 200 - max_duration_timeout",
        ),
        case(
            "gRPC: a route's limit is UNAVAILABLE",
            |s| {
                s.http2_upstream();
                route_timeout(s);
            },
            |x| {
                let mut client = x.h2_client()?;
                let more = [("content-type", "application/grpc"), ("te", "trailers")];
                let stream = client.request("POST", "/s/m", &more, true)?;
                let mut upstream = x.h2_upstream()?;
                upstream.whole()?;
                let reply = client.reply(stream)?;
                x.see(reply.brief());
                x.see(reply.get("grpc-status"));
                x.see(reply.get("grpc-message"));
                x.see_log()
            },
            "200, 14, upstream request timeout, log 200 UT response_timeout",
        ),
    ]
}
