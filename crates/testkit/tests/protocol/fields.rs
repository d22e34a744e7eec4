//! Fields of the configuration that concern one small thing each: that they are carried out.

use serde_json::{Value, json};

use crate::harness::{Case, Family, Site, case};

pub fn family() -> Family {
    Family::new("fields", [mutations(), requests(), replies(), destinations()].into_iter().flatten().collect())
}

crate::tests!();

const MUTATION: &str = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation";
const OF_ROUTE: &str = "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute";

/// Adds a header.
fn append(name: &str, value: &str) -> Value {
    json!({"append": {"header": {"key": name, "value": value}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}})
}

/// Both ways, what the filter itself says and what is said to it on the route.
fn mutate(site: &mut Site, own: Value, of_route: Option<Value>) {
    site.filter("mutation", MUTATION, own);
    if let Some(mutations) = of_route {
        site.route("typed_per_filter_config", json!({"mutation": {"@type": OF_ROUTE, "mutations": mutations}}));
    }
}

fn both(value: &str) -> Value {
    json!({"request_mutations": [append("x-a", value)], "response_mutations": [append("x-b", value)]})
}

fn mutations() -> Vec<Case> {
    let told = |name: &str, arrange: fn(&mut Site), expected: &str| {
        case(
            name,
            arrange,
            |x| {
                let (mut client, mut upstream, request) = x.begin("GET / HTTP/1.1\r\nhost: a.test\r\nx-c: 1\r\n\r\n")?;
                x.see(request.all("x-a"));
                x.see(request.told("x-c"));
                upstream.answer("ok")?;
                x.see(client.response()?.all("x-b"));
                Ok(())
            },
            expected,
        )
    };
    vec![
        told("headers both ways", |s| mutate(s, json!({"mutations": both("own")}), None), "own, x-c=1, own"),
        told(
            "a header is removed",
            |s| mutate(s, json!({"mutations": {"request_mutations": [{"remove": "x-c"}]}}), None),
            "-, x-c=-, -",
        ),
        told(
            "the route's come after the filter's",
            |s| mutate(s, json!({"mutations": both("own")}), Some(both("route"))),
            "own; route, x-c=1, own; route",
        ),
        told(
            "the route's alone",
            |s| mutate(s, json!({}), Some(both("route"))),
            "route, x-c=1, route",
        ),
        case(
            "an answer of the proxy's own",
            |s| {
                mutate(s, json!({"mutations": both("own")}), None);
                s.empty();
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                let response = client.response()?;
                x.see(response.status());
                x.see(response.all("x-b"));
                Ok(())
            },
            "503, own",
        ),
        case(
            "an answer where there is no route",
            |s| {
                mutate(s, json!({"mutations": both("own")}), None);
                s.route("match", json!({"prefix": "/elsewhere"}));
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                let response = client.response()?;
                x.see(response.status());
                x.see(response.all("x-b"));
                Ok(())
            },
            "404, own",
        ),
    ]
}

const REFUSED: &str = "refused 400, closed, upstream untouched, log 400 DPE";

fn requests() -> Vec<Case> {
    let method = |name: &str, method: &'static str, takes: bool, expected: &str| {
        case(
            name,
            move |s| {
                if takes {
                    s.hcm("http_protocol_options.allow_custom_methods", json!(true));
                }
            },
            move |x| x.see_fate(format!("{method} / HTTP/1.1\r\nhost: a.test\r\n\r\n")),
            expected,
        )
    };
    vec![
        method("a method that nobody knows", "FROBNICATE", false, REFUSED),
        method("a method that nobody knows, and that may be", "FROBNICATE", true, "passed FROBNICATE / HTTP/1.1 (length ), 200 one, then GET /fence HTTP/1.1"),
        method("a method of WebDAV", "PROPFIND", false, "passed PROPFIND / HTTP/1.1 (length ), 200 one, then GET /fence HTTP/1.1"),
        method("a method of UPnP, which Envoy spells otherwise", "M-SEARCH", false, REFUSED),
        method("a method is not small", "get", false, REFUSED),
        case(
            "the whole URL goes upstream",
            |s| {
                s.main().option("explicit_http_config.http_protocol_options.send_fully_qualified_url", json!(true));
            },
            |x| {
                let mut client = x.client()?;
                client.get("/a?b")?;
                let mut upstream = x.upstream()?;
                let head = upstream.until(b"\r\n")?;
                x.see(String::from_utf8_lossy(&head).trim().to_owned());
                upstream.until(b"\r\n\r\n")?;
                upstream.answer("ok")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "GET http://a.test/a?b HTTP/1.1, 200 ok",
        ),
        case(
            "a try after one that took too long says so",
            |s| {
                let policy = json!({"retry_on": "5xx", "num_retries": 2, "per_try_timeout": "0.2s",
                    "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.001s"}});
                s.route("route.retry_policy", policy);
                s.virtual_host("include_is_timeout_retry_header", json!(true));
            },
            |x| {
                let (mut client, upstream, request) = x.begin_get()?;
                x.see(request.told("x-envoy-is-timeout-retry"));
                let Some(mut second) = x.attempt(&client, Some(upstream))? else { return Ok(()) };
                x.see(second.request()?.told("x-envoy-is-timeout-retry"));
                second.send("HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n")?;
                let Some(mut third) = x.attempt(&client, Some(second))? else { return Ok(()) };
                x.see(third.request()?.told("x-envoy-is-timeout-retry"));
                third.answer("ok")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "x-envoy-is-timeout-retry=-, x-envoy-is-timeout-retry=true, x-envoy-is-timeout-retry=false, 200 ok",
        ),
    ]
}

fn replies() -> Vec<Case> {
    vec![case(
        "a direct response that is written anew",
        |s| {
            s.routes[0] = json!({
                "match": {"prefix": "/"},
                "direct_response": {
                    "status": 418,
                    "body": {"inline_string": "tea"},
                    "body_format": {"text_format_source": {"inline_string": "%RESPONSE_CODE% %LOCAL_REPLY_BODY% %REQ(:PATH)%"}},
                },
            });
        },
        |x| {
            let mut client = x.client()?;
            client.get("/pot")?;
            let response = client.response()?;
            x.see(response.brief());
            x.see(response.told("content-type"));
            Ok(())
        },
        "418 0 tea /pot, content-type=text/plain",
    )]
}

/// Requests that say where they go, and clusters that listen, or do not.
fn destinations() -> Vec<Case> {
    let original = |name: &str, header: bool, expected: &str| {
        case(
            name,
            move |s| {
                let cluster = s.cluster_name("original");
                s.route("route.cluster", json!(cluster));
                let further = s.further("original");
                further.bare(json!({
                    "type": "ORIGINAL_DST",
                    "lb_policy": "CLUSTER_PROVIDED",
                    "connect_timeout": "1s",
                    "original_dst_lb_config": {"use_http_header": header},
                }));
            },
            |x| {
                let at = x.listener()?.local_addr()?;
                let mut client = x.client()?;
                client.send(format!("GET / HTTP/1.1\r\nhost: a.test\r\nx-envoy-original-dst-host: {at}\r\n\r\n"))?;
                if let Some(mut upstream) = x.attempt(&client, None)? {
                    upstream.request()?;
                    upstream.answer("ok")?;
                }
                x.see(client.response()?.brief());
                Ok(())
            },
            expected,
        )
    };
    vec![
        original("a header says where the request goes", true, "200 ok"),
        original("a header that nobody reads, and a destination that is the proxy itself", false, "503 no healthy upstream"),
    ]
}
