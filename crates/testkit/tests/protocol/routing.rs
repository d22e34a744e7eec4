//! Where requests go, as far as it shows on the wire: matches, rewrites, redirects, answers of the proxy's own.

use serde_json::{Value, json};

use crate::harness::{Case, Family, Site, case};

pub fn family() -> Family {
    let all = [redirects(), direct(), rewrites(), paths(), matches(), clusters()];
    Family::new("routing", all.into_iter().flatten().collect())
}

crate::tests!();

/// An answer of the proxy's own to a plain request.
fn answered(name: &str, route: Value, path: &'static str, fields: &'static [&'static str], expected: &str) -> Case {
    case(
        name,
        move |s| {
            s.route_before(route.clone());
        },
        move |x| {
            let mut client = x.client()?;
            client.get(path)?;
            let response = client.response()?;
            x.see(response.brief());
            for field in fields {
                x.see(response.told(field));
            }
            x.see_log()
        },
        expected,
    )
}

fn redirects() -> Vec<Case> {
    let redirect = |name: &str, action: Value, path: &'static str, expected: &str| {
        answered(name, json!({"match": {"prefix": "/a"}, "redirect": action}), path, &["location"], expected)
    };
    vec![
        redirect("a host", json!({"host_redirect": "b.test"}), "/a?q=1", "301, location=http://b.test/a?q=1, log 301 - direct_response"),
        redirect("a path", json!({"path_redirect": "/new"}), "/a?q=1", "301, location=http://a.test/new?q=1, log 301 - direct_response"),
        redirect("a path with a query of its own", json!({"path_redirect": "/new?x=2"}), "/a?q=1", "301, location=http://a.test/new?x=2, log 301 - direct_response"),
        redirect("a prefix", json!({"prefix_rewrite": "/new"}), "/a/b?q=1", "301, location=http://a.test/new/b?q=1, log 301 - direct_response"),
        redirect("by a regular expression", json!({"regex_rewrite": {"pattern": {"regex": "^/a/(.*)$"}, "substitution": "/\\1/a"}}), "/a/b", "301, location=http://a.test/b/a, log 301 - direct_response"),
        redirect("without the query", json!({"host_redirect": "b.test", "strip_query": true}), "/a?q=1", "301, location=http://b.test/a, log 301 - direct_response"),
        redirect("to https", json!({"https_redirect": true}), "/a", "301, location=https://a.test/a, log 301 - direct_response"),
        redirect("to a scheme", json!({"scheme_redirect": "ftp"}), "/a", "301, location=ftp://a.test/a, log 301 - direct_response"),
        redirect("to a port", json!({"port_redirect": 8443}), "/a", "301, location=http://a.test:8443/a, log 301 - direct_response"),
        redirect("302", json!({"host_redirect": "b.test", "response_code": "FOUND"}), "/a", "302, location=http://b.test/a, log 302 - direct_response"),
        redirect("303", json!({"host_redirect": "b.test", "response_code": "SEE_OTHER"}), "/a", "303, location=http://b.test/a, log 303 - direct_response"),
        redirect("307", json!({"host_redirect": "b.test", "response_code": "TEMPORARY_REDIRECT"}), "/a", "307, location=http://b.test/a, log 307 - direct_response"),
        redirect("308", json!({"host_redirect": "b.test", "response_code": "PERMANENT_REDIRECT"}), "/a", "308, location=http://b.test/a, log 308 - direct_response"),
        case(
            "all that is not TLS, by the virtual host",
            |s| {
                s.virtual_host("require_tls", json!("ALL"));
            },
            |x| {
                let mut client = x.client()?;
                client.get("/a?b")?;
                let response = client.response()?;
                x.see(response.status());
                x.see(response.told("location"));
                x.see_log()
            },
            "301, location=https://a.test/a?b, log 301 - direct_response",
        ),
    ]
}

fn direct() -> Vec<Case> {
    let direct = |name: &str, action: Value, expected: &str| {
        answered(name, json!({"match": {"prefix": "/a"}, "direct_response": action}), "/a", &["content-type", "content-length"], expected)
    };
    vec![
        direct("a status", json!({"status": 204}), "204, content-type=-, content-length=-, log 204 - direct_response"),
        direct("a body", json!({"status": 200, "body": {"inline_string": "hello"}}), "200 hello, content-type=text/plain, content-length=5, log 200 - direct_response"),
        direct("a body of bytes", json!({"status": 500, "body": {"inline_bytes": "aGVsbG8="}}), "500 hello, content-type=text/plain, content-length=5, log 500 - direct_response"),
        case(
            "with a request's body still to come",
            |s| {
                s.route_before(json!({"match": {"prefix": "/a"}, "direct_response": {"status": 403}}));
            },
            |x| {
                let mut client = x.client()?;
                client.send("POST /a HTTP/1.1\r\nhost: a.test\r\ncontent-length: 100000\r\n\r\nhello")?;
                let response = client.response()?;
                x.see(response.status());
                x.see(response.told("connection"));
                x.see(client.closed()?);
                x.see_verdict()
            },
            "403, connection=close, closed, log 403 -",
        ),
    ]
}

/// What path the upstream sees.
fn path(name: &str, arrange: impl Fn(&mut Site) + Send + Sync + 'static, path: &'static str, expected: &str) -> Case {
    case(
        name,
        arrange,
        move |x| {
            let (_client, _upstream, request) = x.begin(&format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n\r\n"))?;
            x.see(request.start.split(' ').nth(1).unwrap_or_default().to_owned());
            x.see(request.told("x-envoy-original-path"));
            Ok(())
        },
        expected,
    )
}

fn rewrites() -> Vec<Case> {
    vec![
        path("a prefix is rewritten", |s| { s.route("match", json!({"prefix": "/a"})); s.route("route.prefix_rewrite", json!("/new")); }, "/a/b?q=1", "/new/b?q=1, x-envoy-original-path=/a/b?q=1"),
        path("a prefix is rewritten to the root", |s| { s.route("match", json!({"prefix": "/a/"})); s.route("route.prefix_rewrite", json!("/")); }, "/a/b", "/b, x-envoy-original-path=/a/b"),
        path("a path is rewritten by a regular expression", |s| { s.route("route.regex_rewrite", json!({"pattern": {"regex": "^/a/([^/]*)"}, "substitution": "/\\1/a"})); }, "/a/b/c?q=1", "/b/a/c?q=1, x-envoy-original-path=/a/b/c?q=1"),
        path("an expression that does not match changes nothing", |s| { s.route("route.regex_rewrite", json!({"pattern": {"regex": "^/x"}, "substitution": "/y"})); }, "/a", "/a, x-envoy-original-path=/a"),
        path("an exact path is rewritten", |s| { s.route("match", json!({"path": "/a"})); s.route("route.prefix_rewrite", json!("/new")); }, "/a?q=1", "/new?q=1, x-envoy-original-path=/a?q=1"),
    ]
}

fn paths() -> Vec<Case> {
    let normalize = |s: &mut Site| {
        s.hcm("normalize_path", json!(true));
    };
    let slashes = |action: &'static str| {
        move |s: &mut Site| {
            s.hcm("normalize_path", json!(true));
            s.hcm("path_with_escaped_slashes_action", json!(action));
        }
    };
    vec![
        path("dots are left alone", |_| {}, "/a/../b/./c", "/a/../b/./c, x-envoy-original-path=-"),
        path("dots are resolved where asked", normalize, "/a/../b/./c", "/b/c, x-envoy-original-path=-"),
        path("more dots than there are steps", normalize, "/a/../../b", "/b, x-envoy-original-path=-"),
        path("escaped letters are left alone without asking", |_| {}, "/%61", "/%61, x-envoy-original-path=-"),
        path("escaped letters where asked", normalize, "/%61%7e", "/a~, x-envoy-original-path=-"),
        path("backslashes where asked", normalize, "/a\\b", "/a/b, x-envoy-original-path=-"),
        path("double slashes are left alone", normalize, "/a//b", "/a//b, x-envoy-original-path=-"),
        path("double slashes are merged where asked", |s| { s.hcm("merge_slashes", json!(true)); }, "/a//b///c?x//y", "/a/b/c?x//y, x-envoy-original-path=-"),
        path("escaped slashes are kept", slashes("KEEP_UNCHANGED"), "/a%2Fb%5cc", "/a%2Fb%5cc, x-envoy-original-path=-"),
        path("escaped slashes are unescaped", slashes("UNESCAPE_AND_FORWARD"), "/a%2Fb", "/a/b, x-envoy-original-path=-"),
        case(
            "escaped slashes are refused",
            slashes("REJECT_REQUEST"),
            |x| {
                let mut client = x.client()?;
                client.get("/a%2Fb")?;
                x.see(client.response()?.status());
                x.see_log()
            },
            "400, log 400 - path_normalization_failed",
        ),
        case(
            "escaped slashes are redirected",
            slashes("UNESCAPE_AND_REDIRECT"),
            |x| {
                let mut client = x.client()?;
                client.get("/a%2Fb?q")?;
                let response = client.response()?;
                x.see(response.status());
                x.see(response.told("location"));
                x.see_log()
            },
            "307, location=/a/b?q, log 307 - path_normalization_failed",
        ),
    ]
}

fn matches() -> Vec<Case> {
    /// Whether a request of this first line and these fields matches; the next route answers 299.
    fn matched(name: &str, matcher: Value, request: &'static str, expected: &str) -> Case {
        case(
            name,
            move |s| {
                s.route("match", json!({"prefix": "/"}));
                s.routes[0] = json!({"match": {"prefix": "/"}, "direct_response": {"status": 404}});
                s.route_before(json!({"match": matcher, "direct_response": {"status": 200}}));
            },
            move |x| {
                let mut client = x.client()?;
                client.send(request)?;
                x.see(if client.response()?.status() == 200 { "match" } else { "no match" });
                Ok(())
            },
            expected,
        )
    }
    const GET: &str = "GET /a?q=1 HTTP/1.1\r\nhost: a.test\r\nx-a: 1\r\nx-a: 2\r\n\r\n";
    vec![
        matched("a prefix, redirected or rewritten", json!({"prefix": "/a"}), GET, "match"),
        matched("a prefix in other letters", json!({"prefix": "/A"}), GET, "no match"),
        matched("a prefix in whatever letters", json!({"prefix": "/A", "case_sensitive": false}), GET, "match"),
        matched("a path without its query", json!({"path": "/a"}), GET, "match"),
        matched("an expression on the whole path", json!({"safe_regex": {"regex": "/[a-c]"}}), GET, "match"),
        matched("a header of two values is not both in a row", json!({"prefix": "/", "headers": [{"name": "x-a", "string_match": {"exact": "1,2"}}]}), GET, "no match"),
        matched("a header that is there", json!({"prefix": "/", "headers": [{"name": "X-A", "present_match": true}]}), GET, "match"),
        matched("a header that is not there", json!({"prefix": "/", "headers": [{"name": "x-b", "present_match": false}]}), GET, "match"),
        matched("a method", json!({"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]}), GET, "match"),
        matched("a query's value", json!({"prefix": "/", "query_parameters": [{"name": "q", "string_match": {"exact": "1"}}]}), GET, "match"),
        matched("gRPC only", json!({"prefix": "/", "grpc": {}}), GET, "no match"),
        matched("a prefix of steps", json!({"path_separated_prefix": "/a"}), "GET /ab HTTP/1.1\r\nhost: a.test\r\n\r\n", "no match"),
    ]
}

fn clusters() -> Vec<Case> {
    vec![
        case(
            "by a header",
            |s| {
                let other = s.cluster_name("other");
                s.further("other");
                s.routes[0] = json!({"match": {"prefix": "/"}, "route": {"cluster_header": "x-to"}});
                s.route_before(json!({"match": {"path": "/name"}, "direct_response": {"status": 200, "body": {"inline_string": other}}}));
            },
            |x| {
                let mut client = x.client()?;
                client.get("/name")?;
                let name = client.response()?.text();
                client.send(format!("GET / HTTP/1.1\r\nhost: a.test\r\nx-to: {name}\r\n\r\n"))?;
                let mut upstream = x.upstream_at(1, 0)?;
                upstream.request()?;
                upstream.answer("other")?;
                x.see(client.response()?.brief());
                client.get("/")?;
                x.see(client.response()?.status());
                x.see_log()?;
                x.see_log()?;
                x.see_log()
            },
            "200 other, 503, log 200 - direct_response, log 200 - via_upstream, log 503 NC cluster_not_found",
        ),
        case(
            "by weight, all of it on one",
            |s| {
                let main = s.cluster_name("main");
                let other = s.cluster_name("other");
                s.further("other");
                s.routes[0] = json!({"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [
                    {"name": main, "weight": 0}, {"name": other, "weight": 100},
                ]}}});
            },
            |x| {
                for _ in 0..5 {
                    let mut client = x.client()?;
                    client.get("/")?;
                    let mut upstream = x.upstream_at(1, 0)?;
                    upstream.request()?;
                    upstream.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")?;
                    x.see(client.response()?.status());
                }
                x.see_untouched()
            },
            "200, 200, 200, 200, 200, upstream untouched",
        ),
        case(
            "the status for a cluster that is not there",
            |s| {
                s.route("route.cluster", json!("nowhere"));
                s.route("route.cluster_not_found_response_code", json!("NOT_FOUND"));
                s.hcm("route_config", json!({"name": "loose", "validate_clusters": false}));
            },
            |x| {
                let mut client = x.client()?;
                client.get("/")?;
                x.see(client.response()?.status());
                x.see_log()
            },
            "404, log 404 NC cluster_not_found",
        ),
    ]
}
