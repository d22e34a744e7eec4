//! Lines of the access log: what every operator says, formats of text and JSON, and which requests have a line.

use serde_json::json;

use crate::harness::{Case, Family, case};

pub fn family() -> Family {
    Family::new("access_log", [operators(), formats(), filtered()].into_iter().flatten().collect())
}

crate::tests!();

/// What this format says of a plain exchange.
fn said(name: &str, format: &'static str, expected: &str) -> Case {
    case(
        name,
        move |s| {
            s.format = Some(format.to_owned());
            s.route("name", json!("route-one"));
        },
        |x| {
            let (mut client, mut upstream, _) =
                x.begin("POST /p?q=1 HTTP/1.1\r\nhost: a.test\r\nx-in: in\r\nuser-agent: me\r\ncontent-length: 5\r\n\r\nhello")?;
            upstream.send("HTTP/1.1 201 Created\r\ncontent-length: 2\r\nx-out: out\r\n\r\nok")?;
            client.response()?;
            let line = x.log()?;
            let ports = [client.peer()?.port(), client.local()?.port(), upstream.local()?.port()];
            let mut text = line.field(0).to_owned();
            for (port, name) in ports.iter().zip(["LISTENER", "CLIENT", "UPSTREAM"]) {
                text = text.replace(&format!(":{port}"), &format!(":{name}"));
            }
            x.see(text.replace(&x.site.name, "CASE"));
            Ok(())
        },
        expected,
    )
}

/// Whether what this operator says is a number.
fn number(name: &str, format: &'static str) -> Case {
    case(
        name,
        move |s| {
            s.format = Some(format.to_owned());
        },
        |x| {
            let (mut client, mut upstream, _) = x.begin_get()?;
            upstream.answer("ok")?;
            client.response()?;
            let line = x.log()?;
            let field = line.field(0).to_owned();
            x.see(if field.parse::<u64>().is_ok() { "a number".to_owned() } else { field });
            Ok(())
        },
        "a number",
    )
}

fn operators() -> Vec<Case> {
    vec![
        said("the request", "%REQ(:METHOD)% %REQ(:PATH)% %REQ(:AUTHORITY)% %REQ(:SCHEME)% %REQ(X-IN)%", "POST /p?q=1 a.test http in"),
        said("the first of two, or the second", "%REQ(X-NONE?X-IN)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "in /p?q=1"),
        said("cut to a length", "%REQ(:PATH):3% %REQ(USER-AGENT):1%", "/p? m"),
        said("what is not there", "%REQ(X-NONE)% %RESP(X-NONE)% %TRAILER(X-NONE)%", "- - -"),
        said("the response", "%RESPONSE_CODE% %RESP(X-OUT)% %RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS%", "201 out via_upstream -"),
        said("bytes", "%BYTES_RECEIVED% %BYTES_SENT%", "5 2"),
        said("protocols", "%PROTOCOL% %UPSTREAM_PROTOCOL%", "HTTP/1.1 HTTP/1.1"),
        said("addresses of the connection", "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS%", "127.0.0.1:CLIENT 127.0.0.1:LISTENER 127.0.0.1:CLIENT"),
        said("addresses without their ports", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "127.0.0.1 127.0.0.1"),
        said("the upstream", "%UPSTREAM_HOST% %UPSTREAM_CLUSTER% %UPSTREAM_REMOTE_ADDRESS%", "127.0.0.1:UPSTREAM CASE-main 127.0.0.1:UPSTREAM"),
        said("the upstream's other side", "%UPSTREAM_TRANSPORT_FAILURE_REASON% %UPSTREAM_REQUEST_ATTEMPT_COUNT%", "- 1"),
        said("the route", "%ROUTE_NAME% %VIRTUAL_CLUSTER_NAME%", "route-one -"),
        said("what TLS would say", "%REQUESTED_SERVER_NAME% %DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_PEER_URI_SAN%", "- - -"),
        number("a port", "%DOWNSTREAM_LOCAL_PORT%"),
        said("flags in words", "%RESPONSE_FLAGS_LONG%", "-"),
        said("metadata and state that are not there", "%DYNAMIC_METADATA(a:b)% %FILTER_STATE(c)%", "- -"),
        said("a gRPC status of no gRPC", "%GRPC_STATUS% %GRPC_STATUS_NUMBER%", "- -"),
        said("percent signs", "100%% %%REQ(X-IN)%%", "100% %REQ(X-IN)%"),
        said("the way it ended", "%CONNECTION_TERMINATION_DETAILS%", "-"),
        number("how long it took", "%DURATION%"),
        number("how long the request took", "%REQUEST_DURATION%"),
        number("how long the response took", "%RESPONSE_DURATION%"),
        number("how long sending it took", "%RESPONSE_TX_DURATION%"),
        number("the connection's number", "%CONNECTION_ID%"),
        number("bytes of the request's head", "%REQUEST_HEADERS_BYTES%"),
        number("bytes of the response's head", "%RESPONSE_HEADERS_BYTES%"),
        number("bytes on the upstream's wire", "%UPSTREAM_WIRE_BYTES_SENT%"),
        number("bytes from the client's wire", "%DOWNSTREAM_WIRE_BYTES_RECEIVED%"),
        number("seconds since the epoch", "%START_TIME(%s)%"),
        case(
            "the time",
            |s| {
                s.format = Some("%START_TIME%".to_owned());
            },
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.answer("ok")?;
                client.response()?;
                let line = x.log()?;
                let shape: String = line.field(0).chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
                x.see(shape);
                Ok(())
            },
            "9999-99-99T99:99:99.999Z",
        ),
        case(
            "a gRPC status",
            |s| {
                s.http2_upstream();
                s.format = Some("%GRPC_STATUS% %GRPC_STATUS_NUMBER% %TRAILER(X-END)%".to_owned());
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/s/m", &[("content-type", "application/grpc")], true)?;
                let mut upstream = x.h2_upstream()?;
                let at = upstream.whole()?.stream;
                upstream.headers(at, &[(":status", "200"), ("content-type", "application/grpc")], false)?;
                upstream.headers(at, &[("grpc-status", "5"), ("x-end", "e")], true)?;
                client.reply(stream)?;
                let field = x.log()?.field(0).to_owned();
                x.see(field);
                Ok(())
            },
            "NotFound 5 e",
        ),
    ]
}

fn formats() -> Vec<Case> {
    vec![
        said(
            "Istio's own format, but for its times",
            "\"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \
             %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" \
             %BYTES_RECEIVED% %BYTES_SENT% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(:AUTHORITY)%\" \
             \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
             %REQUESTED_SERVER_NAME% %ROUTE_NAME%",
            "\"POST /p?q=1 HTTP/1.1\" 201 - via_upstream - \"-\" 5 2 \"-\" \"me\" \"a.test\" \"127.0.0.1:UPSTREAM\" CASE-main 127.0.0.1:LISTENER 127.0.0.1:CLIENT - route-one",
        ),
        case(
            "JSON, with numbers and what is not there",
            |s| {
                let name = s.name.clone();
                s.log_format = Some(json!({"json_format": {
                    "case": name, "code": "%RESPONSE_CODE%", "none": "%REQ(X-NONE)%", "words": "<%PROTOCOL%>",
                    "inner": {"flags": "%RESPONSE_FLAGS%"}, "quote": "%REQ(X-QUOTE)%",
                }}));
            },
            |x| {
                let (mut client, mut upstream, _) = x.begin("GET / HTTP/1.1\r\nhost: a.test\r\nx-quote: a\"b\\c\r\n\r\n")?;
                upstream.answer("ok")?;
                client.response()?;
                let line = x.log()?;
                let json: serde_json::Value = serde_json::from_str(line.field(0)).unwrap_or_default();
                for key in ["code", "none", "words", "inner", "quote"] {
                    x.see(format!("{key} {}", json[key]));
                }
                Ok(())
            },
            "code 200, none null, words \"<HTTP/1.1>\", inner {\"flags\":\"-\"}, quote \"a\\\"b\\\\c\"",
        ),
        case(
            "what is not there, left out",
            |s| {
                let name = s.name.clone();
                s.log_format = Some(json!({"omit_empty_values": true, "json_format": {"case": name, "none": "%REQ(X-NONE)%", "code": "%RESPONSE_CODE%"}}));
            },
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.answer("ok")?;
                client.response()?;
                let line = x.log()?;
                let json: serde_json::Value = serde_json::from_str(line.field(0)).unwrap_or_default();
                let keys: Vec<&String> = json.as_object().map(|o| o.keys().collect()).unwrap_or_default();
                let mut keys: Vec<String> = keys.into_iter().cloned().collect();
                keys.sort();
                x.see(keys.join(" "));
                Ok(())
            },
            "case code",
        ),
    ]
}

fn filtered() -> Vec<Case> {
    /// Two requests, of which the filter lets only the second through.
    fn second(name: &str, filter: serde_json::Value, first: (&'static str, &'static str), second: (&'static str, &'static str), expected: &str) -> Case {
        case(
            name,
            move |s| {
                s.log_filter = Some(filter.clone());
                s.format = Some("%RESPONSE_CODE%\t%REQ(:PATH)%".to_owned());
            },
            move |x| {
                let mut client = x.client()?;
                let mut at_hand = None;
                for (path, status) in [first, second] {
                    client.get(path)?;
                    let Some(mut upstream) = x.attempt(&client, at_hand.take())? else { return Ok(()) };
                    upstream.request()?;
                    upstream.send(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"))?;
                    client.response()?;
                    at_hand = Some(upstream);
                }
                let line = x.log()?;
                x.see(format!("{} {}", line.field(0), line.field(1)));
                Ok(())
            },
            expected,
        )
    }
    let status = |op: &str, value: u32| json!({"status_code_filter": {"comparison": {"op": op, "value": {"default_value": value, "runtime_key": "x"}}}});
    vec![
        second("only errors", status("GE", 500), ("/1", "200"), ("/2", "503"), "503 /2"),
        second("only below", status("LE", 299), ("/1", "404"), ("/2", "200"), "200 /2"),
        second("by a header", json!({"header_filter": {"header": {"name": ":path", "string_match": {"exact": "/2"}}}}), ("/1", "200"), ("/2", "200"), "200 /2"),
        second("both", json!({"and_filter": {"filters": [status("GE", 500), {"header_filter": {"header": {"name": ":path", "string_match": {"exact": "/2"}}}}]}}), ("/1", "503"), ("/2", "503"), "503 /2"),
        second("either", json!({"or_filter": {"filters": [status("GE", 500), status("EQ", 404)]}}), ("/1", "200"), ("/2", "404"), "404 /2"),
        case(
            "by flags",
            |s| {
                s.log_filter = Some(json!({"response_flag_filter": {"flags": ["UF"]}}));
                s.route_before(json!({"match": {"path": "/own"}, "direct_response": {"status": 200}}));
                s.refusing();
            },
            |x| {
                let mut client = x.client()?;
                client.get("/own")?;
                client.response()?;
                client.get("/2")?;
                client.response()?;
                x.see_verdict()
            },
            "log 503 UF",
        ),
    ]
}
