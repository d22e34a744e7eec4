//! Requests sent again: when, where to, with which body, and when not.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::process::{Either, readable_either};
use crate::harness::{Case, Event, Family, Site, case};

pub fn family() -> Family {
    let all = [counted(), bodies(), reasons(), not_after(), tries(), hosts(), budgets(), http2(), asked()];
    Family::new("retry", all.into_iter().flatten().collect())
}

crate::tests!();

fn policy(site: &mut Site, policy: Value) {
    site.route("route.retry_policy", policy);
    // Quick, so that a case ends soon.
    site.route("route.retry_policy.retry_back_off", json!({"base_interval": "0.001s", "max_interval": "0.001s"}));
}

fn on(reason: &'static str) -> impl Fn(&mut Site) + Send + Sync {
    move |site| policy(site, json!({"retry_on": reason, "num_retries": 1}))
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";

fn status(code: &str) -> String {
    format!("HTTP/1.1 {code} X\r\ncontent-length: 0\r\n\r\n")
}

/// The attempts of a plain request that end like these.
fn attempts(
    name: &str,
    arrange: impl Fn(&mut Site) + Send + Sync + 'static,
    ends: &[&str],
    expected: &str,
) -> Case {
    let ends: Vec<String> = ends
        .iter()
        .map(|end| if end.len() == 3 { status(end) } else { (*end).to_owned() })
        .collect();
    case(
        name,
        arrange,
        move |x| {
            let ends: Vec<&str> = ends.iter().map(String::as_str).collect();
            x.see_attempts(GET, &ends)?;
            x.see_log()
        },
        expected,
    )
}

fn counted() -> Vec<Case> {
    vec![
        attempts("503, then 200", on("5xx"), &["503", "200"], "2 attempts, 200, log 200 - via_upstream"),
        attempts(
            "503 until there are no more tries",
            |s| policy(s, json!({"retry_on": "5xx", "num_retries": 2})),
            &["503", "503", "503", "200"],
            "3 attempts, 503, log 503 URX via_upstream",
        ),
        attempts("without a number there is one more try", |s| policy(s, json!({"retry_on": "5xx"})), &["500", "500", "200"], "2 attempts, 500, log 500 URX via_upstream"),
        attempts("no policy, no second try", |_| {}, &["503", "200"], "1 attempts, 503, log 503 - via_upstream"),
        attempts(
            "a number of none",
            |s| policy(s, json!({"retry_on": "5xx", "num_retries": 0})),
            &["503", "200"],
            "1 attempts, 503, log 503 URX via_upstream",
        ),
        attempts(
            "the virtual host's policy, where the route has none",
            |s| {
                s.virtual_host("retry_policy", json!({"retry_on": "5xx", "num_retries": 1}));
            },
            &["503", "200"],
            "2 attempts, 200, log 200 - via_upstream",
        ),
        case(
            "attempts are counted for the upstream, the client and the log",
            |s| {
                on("5xx")(s);
                s.virtual_host("include_request_attempt_count", json!(true));
                s.virtual_host("include_attempt_count_in_response", json!(true));
            },
            |x| {
                let (mut client, mut upstream, request) = x.begin(GET)?;
                x.see(request.told("x-envoy-attempt-count"));
                upstream.send(status("503"))?;
                let Some(mut upstream) = x.attempt(&client, Some(upstream))? else { return Ok(()) };
                x.see(upstream.request()?.told("x-envoy-attempt-count"));
                upstream.answer("ok")?;
                x.see(client.response()?.told("x-envoy-attempt-count"));
                let attempts = x.log()?.attempts().to_owned();
                x.see(format!("log {attempts}"));
                Ok(())
            },
            "x-envoy-attempt-count=1, x-envoy-attempt-count=2, x-envoy-attempt-count=2, log 2",
        ),
    ]
}

fn bodies() -> Vec<Case> {
    let replayed = |name: &str, limit: Option<u32>, size: usize, chunked: bool, expected: &str| {
        case(
            name,
            move |s| {
                on("5xx")(s);
                if let Some(limit) = limit {
                    s.route("per_request_buffer_limit_bytes", json!(limit));
                }
            },
            move |x| {
                let body: String = ('a'..='z').cycle().take(size).collect();
                let head = "POST / HTTP/1.1\r\nhost: a.test\r\n";
                let request = match chunked {
                    true => format!("{head}transfer-encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n"),
                    false => format!("{head}content-length: {size}\r\n\r\n{body}"),
                };
                let (mut client, mut upstream, first) = x.begin(&request)?;
                x.see(if first.text() == body { "whole" } else { "not whole" });
                upstream.send(status("503"))?;
                if let Some(mut upstream) = x.attempt(&client, Some(upstream))? {
                    x.see(if upstream.request()?.text() == body { "replayed" } else { "replayed, not the same" });
                    upstream.answer("ok")?;
                }
                x.see(client.response()?.brief());
                x.see_verdict()
            },
            expected,
        )
    };
    vec![
        replayed("a small body is sent again", None, 1000, false, "whole, replayed, 200 ok, log 200 -"),
        replayed("a chunked body is sent again", None, 1000, true, "whole, replayed, 200 ok, log 200 -"),
        replayed("half a megabyte is sent again", None, 500_000, false, "whole, replayed, 200 ok, log 200 -"),
        replayed("a body at the limit is sent again", Some(1000), 1000, false, "whole, replayed, 200 ok, log 200 -"),
        replayed("a body beyond the limit is not", Some(1000), 3000, false, "whole, 503, log 503 -"),
        replayed("a chunked body beyond the limit is not", Some(1000), 3000, true, "whole, 503, log 503 -"),
        case(
            "a body cut short by a reset is sent again from its start",
            on("reset"),
            |x| {
                let mut client = x.client()?;
                client.send("POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 10\r\n\r\nhello")?;
                let mut first = x.upstream()?;
                first.head()?;
                x.see(first.text(5)?);
                first.reset()?;
                let mut second = x.upstream()?;
                second.head()?;
                x.see(second.text(5)?);
                client.send("world")?;
                x.see(second.text(5)?);
                second.answer("ok")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "hello, hello, world, 200 ok",
        ),
    ]
}

fn reasons() -> Vec<Case> {
    let again = "2 attempts, 200, log 200 - via_upstream";
    let with = |list: &'static str, key: &'static str, value: Value| {
        move |s: &mut Site| {
            policy(s, json!({"retry_on": list, "num_retries": 1}));
            s.route(&format!("route.retry_policy.{key}"), value.clone());
        }
    };
    let retriable = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-again: yes\r\n\r\n";
    vec![
        attempts("5xx: 500", on("5xx"), &["500", "200"], again),
        attempts("5xx: a close", on("5xx"), &["close", "200"], again),
        attempts("5xx: a reset", on("5xx"), &["reset", "200"], again),
        attempts("5xx: not 404", on("5xx"), &["404", "200"], "1 attempts, 404, log 404 - via_upstream"),
        attempts("gateway-error: 502", on("gateway-error"), &["502", "200"], again),
        attempts("gateway-error: 503", on("gateway-error"), &["503", "200"], again),
        attempts("gateway-error: 504", on("gateway-error"), &["504", "200"], again),
        attempts("gateway-error: not 500", on("gateway-error"), &["500", "200"], "1 attempts, 500, log 500 - via_upstream"),
        attempts("reset: a close", on("reset"), &["close", "200"], again),
        attempts("reset: a reset", on("reset"), &["reset", "200"], again),
        attempts("reset: not 503", on("reset"), &["503", "200"], "1 attempts, 503, log 503 - via_upstream"),
        attempts("reset-before-request: not a close after it", on("reset-before-request"), &["close", "200"], "1 attempts, 503, log 503 UC upstream_reset_before_response_started"),
        attempts("connect-failure: not a close after the connection", on("connect-failure"), &["close", "200"], "1 attempts, 503, log 503 UC upstream_reset_before_response_started"),
        attempts("refused-stream: not a close", on("refused-stream"), &["close", "200"], "1 attempts, 503, log 503 UC upstream_reset_before_response_started"),
        attempts("retriable-4xx: 409", on("retriable-4xx"), &["409", "200"], again),
        attempts("retriable-4xx: not 404", on("retriable-4xx"), &["404", "200"], "1 attempts, 404, log 404 - via_upstream"),
        attempts("retriable-status-codes: a code listed", with("retriable-status-codes", "retriable_status_codes", json!([418])), &["418", "200"], again),
        attempts("retriable-status-codes: a code not listed", with("retriable-status-codes", "retriable_status_codes", json!([418])), &["503", "200"], "1 attempts, 503, log 503 - via_upstream"),
        attempts("retriable-headers: there", with("retriable-headers", "retriable_headers", json!([{"name": "x-again"}])), &[retriable, "200"], again),
        attempts("retriable-headers: not there", with("retriable-headers", "retriable_headers", json!([{"name": "x-again"}])), &["503", "200"], "1 attempts, 503, log 503 - via_upstream"),
        attempts("two reasons, the second is met", on("gateway-error,retriable-4xx"), &["409", "200"], again),
        attempts("a reason that is none", on("no-such-reason"), &["503", "200"], "1 attempts, 503, log 503 - via_upstream"),
        case(
            "connect-failure: the next host is tried",
            |s| {
                on("connect-failure")(s);
                s.add_refusing();
            },
            |x| {
                for _ in 0..4 {
                    x.see_attempts(GET, &["HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"])?;
                }
                Ok(())
            },
            "1 attempts, 200, 1 attempts, 200, 1 attempts, 200, 1 attempts, 200",
        ),
        case(
            "connect-failure: no host is left",
            |s| {
                on("connect-failure")(s);
                s.refusing();
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                x.see(client.response()?.status());
                let line = x.log()?;
                x.see(format!("log {} {} attempts", line.told(), line.attempts()));
                Ok(())
            },
            "503, log 503 URX,UF upstream_reset_before_response_started 2 attempts",
        ),
    ]
}

fn not_after() -> Vec<Case> {
    vec![
        case(
            "not once the answer has begun",
            on("5xx,reset"),
            |x| {
                let (mut client, mut upstream, _) = x.begin(GET)?;
                upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")?;
                x.see(client.head()?.status());
                x.see(client.text(5)?);
                upstream.reset()?;
                x.see(client.closed()?);
                x.see_untouched()?;
                x.see_verdict()
            },
            "200, hello, closed, upstream untouched, log 200 UPE",
        ),
        case(
            "not after the client has gone",
            on("5xx,reset"),
            |x| {
                let (client, mut upstream, _) = x.begin(GET)?;
                client.reset()?;
                x.see(upstream.closed()?);
                x.see_verdict()?;
                x.see_untouched()
            },
            "closed, log 0 DC, upstream untouched",
        ),
        case(
            "the body of the failed answer is not what the client gets",
            on("5xx"),
            |x| {
                x.see_attempts(
                    GET,
                    &["HTTP/1.1 503 X\r\ncontent-length: 3\r\nx-first: 1\r\n\r\nbad", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood"],
                )?;
                let bytes = x.log()?.bytes();
                x.see(bytes);
                Ok(())
            },
            "2 attempts, 200, 0 in 4 out",
        ),
    ]
}

fn tries() -> Vec<Case> {
    vec![
        case(
            "a try that takes too long gives way to the next",
            |s| policy(s, json!({"retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.2s"})),
            |x| {
                let (mut client, mut first, _) = x.begin(GET)?;
                let mut second = x.upstream()?;
                second.request()?;
                second.answer("ok")?;
                x.see(client.response()?.brief());
                x.see(first.closed()?);
                x.see_log()
            },
            "200 ok, closed, log 200 - via_upstream",
        ),
        case(
            "tries that all take too long",
            |s| policy(s, json!({"retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.2s"})),
            |x| {
                let (mut client, _first, _) = x.begin(GET)?;
                let mut second = x.upstream()?;
                second.request()?;
                x.see(client.response()?.brief());
                x.see_log()
            },
            "504 upstream request timeout, log 504 URX,UT upstream_per_try_timeout",
        ),
        case(
            "a try that is idle too long gives way to the next",
            |s| policy(s, json!({"retry_on": "5xx", "num_retries": 1, "per_try_idle_timeout": "0.2s"})),
            |x| {
                let (mut client, mut first, _) = x.begin(GET)?;
                let mut second = x.upstream()?;
                second.request()?;
                second.answer("ok")?;
                x.see(client.response()?.brief());
                x.see(first.closed()?);
                Ok(())
            },
            "200 ok, closed",
        ),
        case(
            "the route's limit ends all tries",
            |s| {
                policy(s, json!({"retry_on": "5xx", "num_retries": 50, "per_try_timeout": "0.2s"}));
                s.route("route.timeout", json!("0.5s"));
            },
            |x| {
                let (mut client, ..) = x.begin(GET)?;
                x.see(client.response()?.brief());
                x.see_log()
            },
            "504 upstream request timeout, log 504 UT response_timeout",
        ),
        case(
            "an upstream says when to come again",
            |s| {
                policy(s, json!({"retry_on": "retriable-status-codes", "retriable_status_codes": [429], "num_retries": 1}));
                s.route(
                    "route.retry_policy.rate_limited_retry_back_off",
                    json!({"reset_headers": [{"name": "retry-after", "format": "SECONDS"}], "max_interval": "10s"}),
                );
            },
            |x| {
                let (mut client, mut upstream, _) = x.begin(GET)?;
                let told = Instant::now();
                upstream.send("HTTP/1.1 429 X\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n")?;
                let Some(mut upstream) = x.attempt(&client, Some(upstream))? else { return Ok(()) };
                x.see(if told.elapsed() >= Duration::from_millis(950) { "after its time" } else { "too soon" });
                upstream.request()?;
                upstream.answer("ok")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "after its time, 200 ok",
        ),
    ]
}

fn hosts() -> Vec<Case> {
    vec![case(
        "another host than before, where the policy says so",
        |s| {
            policy(
                s,
                json!({
                    "retry_on": "5xx",
                    "num_retries": 1,
                    "host_selection_retry_max_attempts": 20,
                    "retry_host_predicate": [{
                        "name": "envoy.retry_host_predicates.previous_hosts",
                        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
                    }],
                }),
            );
            s.cluster("lb_policy", json!("RANDOM"));
            s.main().listen();
        },
        |x| {
            let mut same = 0;
            for _ in 0..10 {
                let mut client = x.client()?;
                client.get("/")?;
                let mut order = Vec::new();
                for answer in ["503", "200"] {
                    let sockets = [x.listener_at(0)?, x.listener_at(1)?];
                    let files: Vec<_> = sockets.iter().map(std::os::fd::AsFd::as_fd).collect();
                    let Some(at) = crate::harness::process::first_readable(&files) else { return Ok(()) };
                    let mut upstream = x.upstream_at(0, at)?;
                    upstream.request()?;
                    upstream.send(format!("HTTP/1.1 {answer} X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"))?;
                    order.push(at);
                }
                if client.response()?.status() != 200 || order[0] == order[1] {
                    same += 1;
                }
            }
            x.see(format!("{same} of 10 on the same host"));
            Ok(())
        },
        "0 of 10 on the same host",
    )]
}

fn budgets() -> Vec<Case> {
    vec![
        attempts(
            "a breaker that allows no retries",
            |s| {
                on("5xx")(s);
                s.cluster("circuit_breakers", json!({"thresholds": [{"max_retries": 0}]}));
            },
            &["503", "200"],
            "1 attempts, 503, log 503 UO via_upstream",
        ),
        attempts(
            "a budget that allows some whatever the share",
            |s| {
                on("5xx")(s);
                s.cluster(
                    "circuit_breakers",
                    json!({"thresholds": [{"retry_budget": {"budget_percent": {"value": 0.0}, "min_retry_concurrency": 1}}]}),
                );
            },
            &["503", "200"],
            "2 attempts, 200, log 200 - via_upstream",
        ),
        attempts(
            "a budget of nothing",
            |s| {
                on("5xx")(s);
                s.cluster(
                    "circuit_breakers",
                    json!({"thresholds": [{"retry_budget": {"budget_percent": {"value": 0.0}, "min_retry_concurrency": 0}}]}),
                );
            },
            &["503", "200"],
            "1 attempts, 503, log 503 UO via_upstream",
        ),
    ]
}

fn http2() -> Vec<Case> {
    let h2 = |name: &str, reason: &'static str, code: u32, expected: &str| {
        case(
            name,
            move |s| {
                on(reason)(s);
                s.http2_upstream();
            },
            move |x| {
                let mut client = x.client()?;
                client.get("/")?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.reset(at, code)?;
                let mut attempts = 1;
                while readable_either(client.stream()?, upstream.wire.stream()?) == Either::Second {
                    // Housekeeping makes it readable, too, and is no event.
                    if let Some(Event::Headers { stream, .. }) = upstream.pump()? {
                        attempts += 1;
                        upstream.answer(stream, "ok")?;
                    }
                }
                x.see(format!("{attempts} attempts"));
                x.see(client.response()?.status());
                x.see_verdict()
            },
            expected,
        )
    };
    vec![
        h2("refused-stream: REFUSED_STREAM", "refused-stream", 7, "2 attempts, 200, log 200 -"),
        h2("refused-stream: not CANCEL", "refused-stream", 8, "1 attempts, 503, log 503 UR"),
        h2("reset: CANCEL", "reset", 8, "2 attempts, 200, log 200 -"),
        h2("reset: INTERNAL_ERROR", "reset", 2, "2 attempts, 200, log 200 -"),
        h2("no policy: REFUSED_STREAM is not retried", "retriable-4xx", 7, "1 attempts, 503, log 503 UR"),
        case(
            "unavailable: a gRPC status in trailers alone",
            |s| {
                on("unavailable")(s);
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/s/m", &[("content-type", "application/grpc")], true)?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.headers(at, &[(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "14")], true)?;
                let at = upstream.whole()?.stream;
                upstream.headers(at, &[(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "0")], true)?;
                x.see(client.reply(stream)?.get("grpc-status"));
                let attempts = x.log()?.attempts().to_owned();
                x.see(attempts);
                Ok(())
            },
            "0, 2",
        ),
    ]
}

/// Asked for by the client's headers.
fn asked() -> Vec<Case> {
    let by_header = |name: &str, lines: &'static str, ends: &'static [&'static str], expected: &str| {
        case(
            name,
            |s| {
                s.hcm("use_remote_address", json!(true));
                s.hcm("internal_address_config", json!({"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]}));
            },
            move |x| {
                let ends: Vec<String> = ends.iter().map(|end| status(end)).collect();
                let ends: Vec<&str> = ends.iter().map(String::as_str).collect();
                x.see_attempts(&format!("GET / HTTP/1.1\r\nhost: a.test\r\n{lines}\r\n"), &ends)
            },
            expected,
        )
    };
    vec![
        by_header("a reason of the client's", "x-envoy-retry-on: 5xx\r\n", &["503", "200"], "2 attempts, 200"),
        by_header("a number of the client's", "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 2\r\n", &["503", "503", "200"], "3 attempts, 200"),
        by_header("a number without a reason", "x-envoy-max-retries: 2\r\n", &["503", "200"], "1 attempts, 503"),
        by_header("gRPC's reasons do not cover HTTP", "x-envoy-retry-grpc-on: unavailable\r\n", &["503", "200"], "1 attempts, 503"),
    ]
}
