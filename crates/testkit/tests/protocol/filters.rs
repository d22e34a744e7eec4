//! Filters that sidecars and gateways use, as far as it shows on the wire: faults, CORS, mirroring, hash policies.

use serde_json::{Value, json};

use crate::harness::process::first_readable;
use crate::harness::{Case, Done, Family, Site, Stage, case};

pub fn family() -> Family {
    Family::new("filters", [faults(), cors(), mirrors(), hashes()].into_iter().flatten().collect())
}

crate::tests!();

const FAULT: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";

fn fault(config: Value) -> impl Fn(&mut Site) + Send + Sync {
    move |site| {
        site.filter("envoy.filters.http.fault", FAULT, config.clone());
    }
}

fn faults() -> Vec<Case> {
    let all = json!({"numerator": 100});
    let abort = |name: &str, config: Value, lines: &'static str, expected: &str| {
        case(
            name,
            fault(config),
            move |x| {
                let mut client = x.client()?;
                client.send(format!("GET / HTTP/1.1\r\nhost: a.test\r\n{lines}\r\n"))?;
                x.see(client.response()?.brief());
                x.see_log()?;
                x.see_untouched()
            },
            expected,
        )
    };
    vec![
        abort("an abort", json!({"abort": {"http_status": 418, "percentage": all}}), "", "418 fault filter abort, log 418 FI fault_filter_abort, upstream untouched"),
        abort("an abort for a header", json!({"abort": {"http_status": 418, "percentage": all}, "headers": [{"name": "x-a", "present_match": true}]}), "x-a: 1\r\n", "418 fault filter abort, log 418 FI fault_filter_abort, upstream untouched"),
        abort("an abort that the client asks for", json!({"abort": {"header_abort": {}, "percentage": all}}), "x-envoy-fault-abort-request: 503\r\n", "503 fault filter abort, log 503 FI fault_filter_abort, upstream untouched"),
        case(
            "an abort of none",
            fault(json!({"abort": {"http_status": 418, "percentage": {"numerator": 0}}})),
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.answer("ok")?;
                x.see(client.response()?.brief());
                x.see_log()
            },
            "200 ok, log 200 - via_upstream",
        ),
        case(
            "an abort for a header that is not there",
            fault(json!({"abort": {"http_status": 418, "percentage": {"numerator": 100}}, "headers": [{"name": "x-a", "present_match": true}]})),
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.answer("ok")?;
                x.see(client.response()?.brief());
                x.see_log()
            },
            "200 ok, log 200 - via_upstream",
        ),
        case(
            "a delay",
            fault(json!({"delay": {"fixed_delay": "0.3s", "percentage": {"numerator": 100}}})),
            |x| {
                let begun = std::time::Instant::now();
                let (mut client, mut upstream, _) = x.begin_get()?;
                x.see(if begun.elapsed() >= std::time::Duration::from_millis(290) { "late enough" } else { "too soon" });
                upstream.answer("ok")?;
                x.see(client.response()?.brief());
                x.see_log()
            },
            "late enough, 200 ok, log 200 DI via_upstream",
        ),
        case(
            "a delay, then an abort",
            fault(json!({
                "delay": {"fixed_delay": "0.2s", "percentage": {"numerator": 100}},
                "abort": {"http_status": 503, "percentage": {"numerator": 100}},
            })),
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                x.see(client.response()?.brief());
                x.see_log()
            },
            "503 fault filter abort, log 503 DI,FI fault_filter_abort",
        ),
        case(
            "a client that does not wait for the delay",
            fault(json!({"delay": {"fixed_delay": "3600s", "percentage": {"numerator": 100}}})),
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                drop(client);
                x.see_log()?;
                x.see_untouched()
            },
            "log 0 DI,DC downstream_remote_disconnect, upstream untouched",
        ),
        case(
            "a route's own",
            |s| {
                s.filter("envoy.filters.http.fault", FAULT, json!({}));
                let config = json!({"@type": format!("type.googleapis.com/{FAULT}"), "abort": {"http_status": 429, "percentage": {"numerator": 100}}});
                s.route("typed_per_filter_config", json!({"envoy.filters.http.fault": config}));
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                x.see(client.response()?.status());
                x.see_log()
            },
            "429, log 429 FI fault_filter_abort",
        ),
        case(
            "a gRPC status",
            fault(json!({"abort": {"grpc_status": 14, "percentage": {"numerator": 100}}})),
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/s/m", &[("content-type", "application/grpc")], true)?;
                let reply = client.reply(stream)?;
                x.see(reply.brief());
                x.see(reply.get("grpc-status"));
                x.see(reply.get("grpc-message"));
                x.see_log()
            },
            "200, 14, fault filter abort, log 200 FI fault_filter_abort",
        ),
    ]
}

const CORS: &str = "envoy.extensions.filters.http.cors.v3.Cors";
const CORS_POLICY: &str = "envoy.extensions.filters.http.cors.v3.CorsPolicy";

fn policy(policy: Value) -> impl Fn(&mut Site) + Send + Sync {
    move |site| {
        site.filter("envoy.filters.http.cors", CORS, json!({}));
        let mut config = policy.clone();
        config["@type"] = format!("type.googleapis.com/{CORS_POLICY}").into();
        site.route("typed_per_filter_config", json!({"envoy.filters.http.cors": config}));
    }
}

fn cors() -> Vec<Case> {
    const FIELDS: &[&str] = &[
        "access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers",
        "access-control-max-age", "access-control-allow-credentials", "access-control-expose-headers",
    ];
    fn fields(x: &mut Stage<'_>, response: &crate::harness::http1::Message) {
        for field in FIELDS {
            if response.has(field) {
                x.see(response.told(field).replace("access-control-", ""));
            }
        }
    }
    let full = json!({
        "allow_origin_string_match": [{"exact": "http://good.test"}, {"suffix": ".good.test"}],
        "allow_methods": "GET, POST", "allow_headers": "x-a", "expose_headers": "x-b", "max_age": "600",
        "allow_credentials": true,
    });
    let preflight = |name: &str, policy_of: Value, origin: &'static str, expected: &str| {
        case(
            name,
            policy(policy_of),
            move |x| {
                let mut client = x.client()?;
                client.send(format!("OPTIONS / HTTP/1.1\r\nhost: a.test\r\norigin: {origin}\r\naccess-control-request-method: GET\r\n\r\n"))?;
                let reached = crate::harness::process::readable_either(client.stream()?, &x.listener()?);
                if reached == crate::harness::process::Either::Second {
                    let mut upstream = x.upstream()?;
                    upstream.request()?;
                    upstream.answer("theirs")?;
                }
                let response = client.response()?;
                x.see(response.brief());
                fields(x, &response);
                x.see_log()
            },
            expected,
        )
    };
    let actual = |name: &str, origin: &'static str, expected: &str| {
        case(
            name,
            policy(full.clone()),
            move |x| {
                let (mut client, mut upstream, _) = x.begin(&format!("GET / HTTP/1.1\r\nhost: a.test\r\norigin: {origin}\r\n\r\n"))?;
                upstream.answer("ok")?;
                let response = client.response()?;
                x.see(response.brief());
                fields(x, &response);
                Ok(())
            },
            expected,
        )
    };
    vec![
        preflight("a preflight of an allowed origin", full.clone(), "http://good.test", "200, allow-origin=http://good.test, allow-methods=GET, POST, allow-headers=x-a, max-age=600, allow-credentials=true, expose-headers=x-b, log 200 - cors_response"),
        preflight("a preflight of an origin allowed by its end", full.clone(), "http://very.good.test", "200, allow-origin=http://very.good.test, allow-methods=GET, POST, allow-headers=x-a, max-age=600, allow-credentials=true, expose-headers=x-b, log 200 - cors_response"),
        preflight("a preflight of another origin", full.clone(), "http://bad.test", "200 theirs, log 200 - via_upstream"),
        preflight("a preflight of another origin, not to be forwarded", json!({"allow_origin_string_match": [{"exact": "http://good.test"}], "forward_not_matching_preflights": false}), "http://bad.test", "200, log 200 - cors_response"),
        preflight("a preflight where any origin is allowed", json!({"allow_origin_string_match": [{"exact": "*"}]}), "http://any.test", "200, allow-origin=http://any.test, log 200 - cors_response"),
        actual("a request of an allowed origin", "http://good.test", "200 ok, allow-origin=http://good.test, allow-credentials=true, expose-headers=x-b"),
        actual("a request of another origin", "http://bad.test", "200 ok"),
    ]
}

fn mirrors() -> Vec<Case> {
    fn mirrored(site: &mut Site, policy: Value) {
        let mut policy = policy;
        policy["cluster"] = site.cluster_name("mirror").into();
        site.further("mirror");
        site.route("route.request_mirror_policies", json!([policy]));
    }
    vec![
        case(
            "a copy goes elsewhere, with its body, and its answer is dropped",
            |s| mirrored(s, json!({})),
            |x| {
                let (mut client, mut upstream, _) =
                    x.begin("POST /p HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n\r\nhello")?;
                let mut mirror = x.upstream_at(1, 0)?;
                let copy = mirror.request()?;
                x.see(&copy.start);
                x.see(copy.told("host"));
                x.see(copy.text());
                mirror.send("HTTP/1.1 500 X\r\ncontent-length: 3\r\n\r\nbad")?;
                upstream.answer("good")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "POST /p HTTP/1.1, host=a.test-shadow, hello, 200 good",
        ),
        case(
            "the host of a copy may stay",
            |s| mirrored(s, json!({"disable_shadow_host_suffix_append": true})),
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                let mut mirror = x.upstream_at(1, 0)?;
                x.see(mirror.request()?.told("host"));
                upstream.answer("good")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "host=a.test, 200 good",
        ),
        case(
            "a mirror that never answers holds nobody up",
            |s| mirrored(s, json!({})),
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                let mut mirror = x.upstream_at(1, 0)?;
                mirror.request()?;
                upstream.answer("good")?;
                x.see(client.response()?.brief());
                x.see_log()
            },
            "200 good, log 200 - via_upstream",
        ),
        case(
            "a mirror that is not there holds nobody up",
            |s| {
                s.route("route.request_mirror_policies", json!([{"cluster": "nowhere"}]));
                s.hcm("route_config", json!({"name": "loose", "validate_clusters": false}));
            },
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.answer("good")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "200 good",
        ),
        case(
            "no copy where the share is none",
            |s| mirrored(s, json!({"runtime_fraction": {"default_value": {"numerator": 0}}})),
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.answer("good")?;
                x.see(client.response()?.brief());
                let mirror = &x.site.clusters[1].sockets[0];
                x.see(if crate::harness::process::readable(mirror, std::time::Duration::ZERO) { "copied" } else { "not copied" });
                Ok(())
            },
            "200 good, not copied",
        ),
    ]
}

/// Sends a request with these lines and answers it at whichever endpoint it reaches: which, and the response.
fn reached(x: &Stage<'_>, lines: &str) -> Done<(usize, crate::harness::http1::Message)> {
    let mut client = x.client()?;
    client.send(format!("GET /?q={} HTTP/1.1\r\nhost: a.test\r\n{lines}\r\n", lines.len()))?;
    let sockets = [x.listener_at(0)?, x.listener_at(1)?, x.listener_at(2)?];
    let files: Vec<_> = sockets.iter().map(std::os::fd::AsFd::as_fd).collect();
    let Some(at) = first_readable(&files) else { return crate::harness::wire::trouble("no upstream was reached") };
    let mut upstream = x.upstream_at(0, at)?;
    upstream.request()?;
    upstream.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")?;
    Ok((at, client.response()?))
}

fn hashes() -> Vec<Case> {
    fn three(site: &mut Site, lb: &str, policy: Value) {
        site.main().listen().listen();
        site.cluster("lb_policy", json!(lb));
        site.route("route.hash_policy", json!([policy]));
    }
    let sticky = |name: &str, lb: &'static str, policy: Value, same: &'static str, other: fn(usize) -> String| {
        case(
            name,
            move |s| three(s, lb, policy.clone()),
            move |x| {
                let (first, _) = reached(x, same)?;
                for _ in 0..5 {
                    if reached(x, same)?.0 != first {
                        x.see("not the same host");
                        return Ok(());
                    }
                }
                x.see("the same host");
                let mut hosts: Vec<usize> = Vec::new();
                for i in 0..30 {
                    hosts.push(reached(x, &other(i))?.0);
                }
                hosts.sort_unstable();
                hosts.dedup();
                x.see(if hosts.len() > 1 { "others elsewhere" } else { "all others on one host" });
                Ok(())
            },
            "the same host, others elsewhere",
        )
    };
    let header = json!({"header": {"header_name": "x-user"}});
    let other = |i: usize| format!("x-user: {i}\r\n");
    vec![
        sticky("by a header, on a ring", "RING_HASH", header.clone(), "x-user: me\r\n", other),
        sticky("by a header, by Maglev", "MAGLEV", header, "x-user: me\r\n", other),
        sticky("by a cookie that is there", "RING_HASH", json!({"cookie": {"name": "user"}}), "cookie: user=me\r\n", |i| format!("cookie: user={i}\r\n")),
        sticky("by a query's value", "RING_HASH", json!({"query_parameter": {"name": "q"}}), "x: y\r\n", |i| format!("x: {}\r\n", "y".repeat(i + 2))),
        case(
            "by the client's address",
            |s| three(s, "RING_HASH", json!({"connection_properties": {"source_ip": true}})),
            |x| {
                let (first, _) = reached(x, "")?;
                for _ in 0..10 {
                    if reached(x, "")?.0 != first {
                        x.see("not the same host");
                        return Ok(());
                    }
                }
                x.see("the same host");
                Ok(())
            },
            "the same host",
        ),
        case(
            "a cookie is made where there is none, and leads back",
            |s| three(s, "RING_HASH", json!({"cookie": {"name": "user", "ttl": "60s", "path": "/"}})),
            |x| {
                let (first, response) = reached(x, "")?;
                let cookie = response.get("set-cookie").to_owned();
                let value = cookie.split(';').next().unwrap_or_default().to_owned();
                x.see(cookie.replace(value.trim_start_matches("user="), "VALUE"));
                for _ in 0..5 {
                    let (at, response) = reached(x, &format!("cookie: {value}\r\n"))?;
                    if at != first || response.has("set-cookie") {
                        x.see("not the same host, or another cookie");
                        return Ok(());
                    }
                }
                x.see("the same host");
                Ok(())
            },
            "user=VALUE; Max-Age=60; Path=/; HttpOnly, the same host",
        ),
    ]
}
