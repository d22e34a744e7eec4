//! What a proxy adds to heads, takes from them, and leaves alone.

use serde_json::{Value, json};

use crate::harness::{Case, Family, Site, case};

pub fn family() -> Family {
    let all = [forwarded(), request_ids(), own(), hops(), hosts(), operations(), names()];
    Family::new("headers", all.into_iter().flatten().collect())
}

crate::tests!();

/// What the upstream sees of these fields when a client sends these lines.
fn up(
    name: &str,
    arrange: impl Fn(&mut Site) + Send + Sync + 'static,
    lines: &'static str,
    fields: &'static [&'static str],
    expected: &str,
) -> Case {
    case(
        name,
        arrange,
        move |x| {
            let (_client, _upstream, request) = x.begin(&format!("GET / HTTP/1.1\r\nhost: a.test\r\n{lines}\r\n"))?;
            for field in fields {
                x.see(told(&request, field));
            }
            Ok(())
        },
        expected,
    )
}

/// What the client sees of these fields when the upstream answers with these lines.
fn down(
    name: &str,
    arrange: impl Fn(&mut Site) + Send + Sync + 'static,
    lines: &'static str,
    fields: &'static [&'static str],
    expected: &str,
) -> Case {
    case(
        name,
        arrange,
        move |x| {
            let (response, ..) =
                x.response_through(format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{lines}\r\n"))?;
            for field in fields {
                x.see(response.told(field));
            }
            Ok(())
        },
        expected,
    )
}

/// A field; the address of the client, which on a loopback interface Envoy replaces by one of the machine's own, is PEER.
fn told(request: &crate::harness::http1::Message, field: &str) -> String {
    let text = request.told(field);
    let Some((before, last)) = text.rsplit_once([',', '=']) else { return text };
    let foreign = ["1.2.3.4", "5.6.7.8"].contains(&last) || last.parse::<std::net::IpAddr>().is_err();
    let mark = if before.contains('=') { ',' } else { '=' };
    if field == "x-forwarded-for" && !foreign { format!("{before}{mark}PEER") } else { text }
}

fn plain(_: &mut Site) {}

fn edge(site: &mut Site) {
    site.hcm("use_remote_address", json!(true));
}

fn forwarded() -> Vec<Case> {
    const XFF: &[&str] = &["x-forwarded-for", "x-forwarded-proto"];
    vec![
        up("x-forwarded-for is left alone inside", plain, "x-forwarded-for: 1.2.3.4\r\n", XFF, "x-forwarded-for=1.2.3.4, x-forwarded-proto=http"),
        up("x-forwarded-for is not made inside", plain, "", XFF, "x-forwarded-for=-, x-forwarded-proto=http"),
        up("x-forwarded-for is made at the edge", edge, "", XFF, "x-forwarded-for=PEER, x-forwarded-proto=http"),
        up("x-forwarded-for grows at the edge", edge, "x-forwarded-for: 1.2.3.4\r\n", XFF, "x-forwarded-for=1.2.3.4,PEER, x-forwarded-proto=http"),
        up("x-forwarded-for of two lines grows at the edge", edge, "x-forwarded-for: 1.2.3.4\r\nx-forwarded-for: 5.6.7.8\r\n", XFF, "x-forwarded-for=1.2.3.4,5.6.7.8,PEER, x-forwarded-proto=http"),
        up("x-forwarded-for does not grow where that is off", |s| { edge(s); s.hcm("skip_xff_append", json!(true)); }, "x-forwarded-for: 1.2.3.4\r\n", XFF, "x-forwarded-for=1.2.3.4, x-forwarded-proto=http"),
        up("x-forwarded-proto of a client is trusted inside", plain, "x-forwarded-proto: https\r\n", XFF, "x-forwarded-for=-, x-forwarded-proto=https"),
        up("x-forwarded-proto of a client is not trusted at the edge", edge, "x-forwarded-proto: https\r\n", XFF, "x-forwarded-for=PEER, x-forwarded-proto=http"),
        up("x-forwarded-proto that is nonsense", plain, "x-forwarded-proto: gopher\r\n", XFF, "x-forwarded-for=-, x-forwarded-proto=gopher"),
        up("an external client's address", |s| { edge(s); s.hcm("xff_num_trusted_hops", json!(1)); }, "x-forwarded-for: 1.2.3.4\r\n", &["x-forwarded-for", "x-envoy-external-address", "x-envoy-internal"], "x-forwarded-for=1.2.3.4,PEER, x-envoy-external-address=1.2.3.4, x-envoy-internal=-"),
        up("an internal client's", edge, "", &["x-envoy-external-address", "x-envoy-internal"], "x-envoy-external-address=127.0.0.1, x-envoy-internal=-"),
        up("internal by the list", |s| { edge(s); s.hcm("internal_address_config", json!({"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]})); }, "", &["x-envoy-external-address", "x-envoy-internal"], "x-envoy-external-address=-, x-envoy-internal=true"),
        up("fields of Envoy's own from an external client", edge, "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 9\r\nx-envoy-upstream-rq-timeout-ms: 9\r\nx-envoy-internal: true\r\nx-envoy-force-trace: 1\r\n", &["x-envoy-retry-on", "x-envoy-max-retries", "x-envoy-upstream-rq-timeout-ms", "x-envoy-internal", "x-envoy-force-trace"], "x-envoy-retry-on=-, x-envoy-max-retries=-, x-envoy-upstream-rq-timeout-ms=-, x-envoy-internal=-, x-envoy-force-trace=-"),
        up("fields of Envoy's own from an internal client", |s| { edge(s); s.hcm("internal_address_config", json!({"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]})); }, "x-envoy-retry-on: 5xx\r\nx-envoy-internal: true\r\nx-envoy-force-trace: 1\r\n", &["x-envoy-retry-on", "x-envoy-internal"], "x-envoy-retry-on=-, x-envoy-internal=true"),
    ]
}

fn request_ids() -> Vec<Case> {
    let shape = |name: &str, arrange: fn(&mut Site), lines: &'static str, expected: &str| {
        case(
            name,
            arrange,
            move |x| {
                let (mut client, mut upstream, request) =
                    x.begin(&format!("GET / HTTP/1.1\r\nhost: a.test\r\n{lines}\r\n"))?;
                let id = request.get("x-request-id").to_owned();
                let parts: Vec<usize> = id.split('-').map(str::len).collect();
                let is_uuid = parts == [8, 4, 4, 4, 12] && id.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
                x.see(if is_uuid { "a UUID".to_owned() } else { id.clone() });
                upstream.answer("ok")?;
                let back = client.response()?;
                x.see(match back.get("x-request-id") {
                    "-" => "not told back",
                    told if told == id => "told back",
                    _ => "another told back",
                });
                Ok(())
            },
            expected,
        )
    };
    vec![
        shape("a request without an id gets one", |_| {}, "", "a UUID, not told back"),
        shape("an id is kept inside", |_| {}, "x-request-id: mine\r\n", "mine, not told back"),
        shape("an external client's id is replaced at the edge", edge, "x-request-id: mine\r\n", "a UUID, not told back"),
        shape("an external client's id is kept where asked", |s| { edge(s); s.hcm("preserve_external_request_id", json!(true)); }, "x-request-id: mine\r\n", "mine, not told back"),
        shape("ids are told back where asked", |s| { s.hcm("always_set_request_id_in_response", json!(true)); }, "", "a UUID, told back"),
        shape("no ids where that is off", |s| { s.hcm("generate_request_id", json!(false)); }, "", "-, not told back"),
    ]
}

fn own() -> Vec<Case> {
    vec![
        down("server is the proxy's", plain, "server: theirs\r\n", &["server"], "server=envoy"),
        down("server, by name", |s| { s.hcm("server_name", json!("mine")); }, "server: theirs\r\n", &["server"], "server=mine"),
        down("server, only where there is none: there", |s| { s.hcm("server_header_transformation", json!("APPEND_IF_ABSENT")); }, "server: theirs\r\n", &["server"], "server=theirs"),
        down("server, only where there is none: not there", |s| { s.hcm("server_header_transformation", json!("APPEND_IF_ABSENT")); }, "", &["server"], "server=envoy"),
        down("server, passed through", |s| { s.hcm("server_header_transformation", json!("PASS_THROUGH")); }, "server: theirs\r\n", &["server"], "server=theirs"),
        down("server, passed through where there is none", |s| { s.hcm("server_header_transformation", json!("PASS_THROUGH")); }, "", &["server"], "server=-"),
        down("via, down", |s| { s.hcm("via", json!("1.1 mine")); }, "via: 1.0 theirs\r\n", &["via"], "via=1.0 theirs, 1.1 mine"),
        up("via, up", |s| { s.hcm("via", json!("1.1 mine")); }, "via: 1.0 theirs\r\n", &["via"], "via=1.0 theirs, 1.1 mine"),
        down("a date is kept", plain, "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n", &["date"], "date=Thu, 01 Jan 1970 00:00:00 GMT"),
        case(
            "a date is made",
            plain,
            |x| {
                let (response, ..) = x.response_through("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
                x.see(response.get("date").ends_with(" GMT"));
                Ok(())
            },
            "true",
        ),
        case(
            "the upstream's time is told",
            plain,
            |x| {
                let (response, ..) = x.response_through("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
                x.see(response.get("x-envoy-upstream-service-time").parse::<u32>().is_ok());
                Ok(())
            },
            "true",
        ),
        down("the upstream's time is not told where that is off", |s| { s.router["suppress_envoy_headers"] = json!(true); }, "", &["x-envoy-upstream-service-time"], "x-envoy-upstream-service-time=-"),
        up("nor the expected one", |s| { s.router["suppress_envoy_headers"] = json!(true); s.route("route.timeout", json!("9s")); }, "", &["x-envoy-expected-rq-timeout-ms"], "x-envoy-expected-rq-timeout-ms=-"),
    ]
}

fn hops() -> Vec<Case> {
    vec![
        up("fields of one hop go no further", plain, "connection: keep-alive, x-one, x-two\r\nkeep-alive: 1\r\nx-one: 1\r\nx-two: 2\r\nproxy-connection: 1\r\nx-three: 3\r\n", &["connection", "keep-alive", "x-one", "x-two", "proxy-connection", "x-three"], "connection=-, keep-alive=-, x-one=-, x-two=-, proxy-connection=-, x-three=3"),
        down("nor back", plain, "connection: keep-alive, x-one\r\nkeep-alive: 1\r\nx-one: 1\r\nproxy-connection: 1\r\n", &["connection", "keep-alive", "x-one", "proxy-connection"], "connection=-, keep-alive=-, x-one=1, proxy-connection=-").ours("connection=-, keep-alive=-, x-one=-, proxy-connection=-", "RFC 9110 7.6.1: what Connection names is taken from answers, too"),
        up("te without trailers", plain, "te: deflate\r\n", &["te"], "te=-"),
        up("te with trailers", plain, "te: trailers\r\n", &["te"], "te=trailers"),
        up("an upgrade that is not configured, to h2c", plain, "connection: upgrade\r\nupgrade: h2c\r\n", &["connection", "upgrade"], "connection=-, upgrade=-"),
        up("Proxy-Authorization goes on", plain, "proxy-authorization: Basic eA==\r\n", &["proxy-authorization"], "proxy-authorization=Basic eA=="),
        down("Proxy-Authenticate goes back", plain, "proxy-authenticate: Basic\r\n", &["proxy-authenticate"], "proxy-authenticate=Basic"),
        down("a trailer field goes back", plain, "trailer: x-end\r\n", &["trailer"], "trailer=x-end"),
    ]
}

fn hosts() -> Vec<Case> {
    vec![
        up("the host is kept", plain, "", &["host"], "host=a.test"),
        up("the host is rewritten", |s| { s.route("route.host_rewrite_literal", json!("b.test")); }, "", &["host", "x-forwarded-host"], "host=b.test, x-forwarded-host=-"),
        up("the host is rewritten, and the old one told", |s| { s.route("route.host_rewrite_literal", json!("b.test")); s.route("route.append_x_forwarded_host", json!(true)); }, "", &["host", "x-forwarded-host"], "host=b.test, x-forwarded-host=a.test"),
        up("the host is rewritten from a field", |s| { s.route("route.host_rewrite_header", json!("x-host")); }, "x-host: c.test\r\n", &["host"], "host=c.test"),
        up("the host is rewritten from a field that is not there", |s| { s.route("route.host_rewrite_header", json!("x-host")); }, "", &["host"], "host=a.test"),
        up("the host is rewritten from the path", |s| { s.route("route.host_rewrite_path_regex", json!({"pattern": {"regex": "^/.*$"}, "substitution": "d.test"})); }, "", &["host"], "host=d.test"),
        case(
            "a port is kept",
            plain,
            |x| {
                let (_client, _upstream, request) = x.begin("GET / HTTP/1.1\r\nhost: a.test:8080\r\n\r\n")?;
                x.see(request.told("host"));
                Ok(())
            },
            "host=a.test:8080",
        ),
        case(
            "a port is taken away where asked",
            |s| {
                s.hcm("strip_any_host_port", json!(true));
            },
            |x| {
                let (_client, _upstream, request) = x.begin("GET / HTTP/1.1\r\nhost: a.test:8080\r\n\r\n")?;
                x.see(request.told("host"));
                Ok(())
            },
            "host=a.test",
        ),
        case(
            "a host's last dot is taken away where asked",
            |s| {
                s.hcm("strip_trailing_host_dot", json!(true));
            },
            |x| {
                let (_client, _upstream, request) = x.begin("GET / HTTP/1.1\r\nhost: a.test.\r\n\r\n")?;
                x.see(request.told("host"));
                Ok(())
            },
            "host=a.test",
        ),
    ]
}

fn add(key: &str, value: &str, action: &str) -> Value {
    json!({"header": {"key": key, "value": value}, "append_action": action})
}

fn operations() -> Vec<Case> {
    const ADD: &str = "APPEND_IF_EXISTS_OR_ADD";
    const OVER: &str = "OVERWRITE_IF_EXISTS_OR_ADD";
    const ABSENT: &str = "ADD_IF_ABSENT";
    const ONLY: &str = "OVERWRITE_IF_EXISTS";
    let request = |name: &str, action: &'static str, lines: &'static str, expected: &str| {
        up(name, move |s| { s.route("request_headers_to_add", json!([add("x-op", "new", action)])); }, lines, &["x-op"], expected)
    };
    let valued = |name: &str, value: &'static str, expected: &str| {
        up(name, move |s| { s.route("request_headers_to_add", json!([add("x-op", value, OVER)])); }, "x-in: in\r\n", &["x-op"], expected)
    };
    vec![
        request("add: there", ADD, "x-op: old\r\n", "x-op=old; new"),
        request("add: not there", ADD, "", "x-op=new"),
        request("overwrite: there", OVER, "x-op: old\r\nx-op: older\r\n", "x-op=new"),
        request("overwrite: not there", OVER, "", "x-op=new"),
        request("if absent: there", ABSENT, "x-op: old\r\n", "x-op=old"),
        request("if absent: not there", ABSENT, "", "x-op=new"),
        request("if there: there", ONLY, "x-op: old\r\n", "x-op=new"),
        request("if there: not there", ONLY, "", "x-op=-"),
        up("remove", |s| { s.route("request_headers_to_remove", json!(["x-op"])); }, "x-op: 1\r\nX-Op: 2\r\nx-other: 3\r\n", &["x-op", "x-other"], "x-op=-, x-other=3"),
        up("remove, then add", |s| { s.route("request_headers_to_remove", json!(["x-op"])); s.route("request_headers_to_add", json!([add("x-op", "new", ADD)])); }, "x-op: old\r\n", &["x-op"], "x-op=new"),
        up("route, virtual host and table add in their order", |s| {
            s.route("request_headers_to_add", json!([add("x-op", "route", ADD)]));
            s.virtual_host("request_headers_to_add", json!([add("x-op", "host", ADD)]));
            s.hcm("route_config", json!({"name": "r", "request_headers_to_add": [add("x-op", "table", ADD)]}));
        }, "", &["x-op"], "x-op=route; host; table"),
        up("route, virtual host and table overwrite: who wins", |s| {
            s.route("request_headers_to_add", json!([add("x-op", "route", OVER)]));
            s.virtual_host("request_headers_to_add", json!([add("x-op", "host", OVER)]));
            s.hcm("route_config", json!({"name": "r", "request_headers_to_add": [add("x-op", "table", OVER)]}));
        }, "", &["x-op"], "x-op=table"),
        up("the same where the most specific wins", |s| {
            s.route("request_headers_to_add", json!([add("x-op", "route", OVER)]));
            s.virtual_host("request_headers_to_add", json!([add("x-op", "host", OVER)]));
            s.hcm("route_config", json!({"name": "r", "most_specific_header_mutations_wins": true, "request_headers_to_add": [add("x-op", "table", OVER)]}));
        }, "", &["x-op"], "x-op=route"),
        valued("a value of the request", "%REQ(x-in)%", "x-op=in"),
        valued("a value of the request or another", "%REQ(x-none?x-in)%", "x-op=in"),
        valued("a value that is not there adds nothing", "%REQ(x-none)%", "x-op=-"),
        valued("a value of the connection", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "x-op=127.0.0.1"),
        valued("a value of the protocol", "%PROTOCOL%", "x-op=HTTP/1.1"),
        valued("a percent sign", "100%%", "x-op=100%"),
        valued("values in words", "<%REQ(:method)% %REQ(:path)%>", "x-op=<GET />"),
        down("of a response: add", |s| { s.route("response_headers_to_add", json!([add("x-op", "new", ADD)])); }, "x-op: old\r\n", &["x-op"], "x-op=old; new"),
        down("of a response: overwrite", |s| { s.route("response_headers_to_add", json!([add("x-op", "new", OVER)])); }, "x-op: old\r\n", &["x-op"], "x-op=new"),
        down("of a response: remove", |s| { s.route("response_headers_to_remove", json!(["x-op", "server"])); }, "x-op: old\r\n", &["x-op", "server"], "x-op=-, server=envoy"),
        down("of a response: its own values", |s| { s.route("response_headers_to_add", json!([add("x-op", "%RESP(x-in)% %RESPONSE_CODE%", OVER)])); }, "x-in: in\r\n", &["x-op"], "x-op=in 200"),
        down("of a response: a cluster's weight of its own", |s| {
            let cluster = s.clusters[0].name.clone();
            s.routes[0] = json!({"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [{"name": cluster, "weight": 1, "response_headers_to_add": [add("x-op", "weighted", ADD)]}]}}});
        }, "", &["x-op"], "x-op=weighted"),
        case(
            "of the proxy's own answer",
            |s| {
                s.virtual_host("response_headers_to_add", json!([add("x-op", "host", ADD)]));
                s.route_before(json!({"match": {"prefix": "/"}, "direct_response": {"status": 200}, "response_headers_to_add": [add("x-op", "route", ADD)]}));
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                x.see(client.response()?.told("x-op"));
                Ok(())
            },
            "x-op=route; host",
        ),
    ]
}

fn names() -> Vec<Case> {
    let raw = |name: &str, arrange: fn(&mut Site), lines: &'static str, expected: &str| {
        case(
            name,
            arrange,
            move |x| {
                let (_client, _upstream, request) = x.begin(&format!("GET / HTTP/1.1\r\nhost: a.test\r\n{lines}\r\n"))?;
                let names: Vec<&str> =
                    request.fields.iter().map(|(n, _)| n.as_str()).filter(|n| n.to_lowercase().starts_with("x-t")).collect();
                x.see(names.join(" "));
                Ok(())
            },
            expected,
        )
    };
    vec![
        raw("names go on in small letters", plain, "X-Test: 1\r\nx-tWo: 2\r\n", "x-test x-two"),
        raw("names of an upstream with capitals for words", |s| { s.main().option("explicit_http_config.http_protocol_options.header_key_format", json!({"proper_case_words": {}})); }, "x-test: 1\r\nx-two-words: 2\r\n", "X-Test X-Two-Words"),
        up("values of one name keep their order", plain, "x-t: 1\r\nx-u: 9\r\nx-t: 2\r\nx-t: 1\r\n", &["x-t"], "x-t=1; 2; 1"),
        up("cookies are left as they are", plain, "cookie: a=1\r\ncookie: b=2\r\n", &["cookie"], "cookie=a=1; b=2"),
        down("several cookies set", plain, "set-cookie: a=1\r\nset-cookie: b=2\r\n", &["set-cookie"], "set-cookie=a=1; b=2"),
    ]
}
