//! What the data plane reads before and beside HTTP: first bytes of connections, names, formats, the admin's requests.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use ostro_engine::format::{Format, Missing};
use ostro_engine::inspect::Look;
use ostro_engine::istio::{PEER_VALUE_BYTES_MAX, Peer};
use ostro_engine::{ConnectionInfo, Headers, Listener, Protocol, Request, StreamInfo, StreamView};
use ostro_envoy_json::{Unknown, from_value};
use ostro_proxy::{Mask, Query};
use ostro_transport::dns::limits::{ABSENT_MAX, ADDRESSES, TTL_MAX};
use ostro_transport::dns::message::{Kind, Question, Said};
use ostro_transport::proxy_protocol::{Progress, V2_MAX, parse};
use serde_json::json;

use crate::cut::{Cut, joined, texts};

/// Whatever a name server replies: addresses within bounds, an absence, a failure, or nothing that counts.
pub(crate) fn dns_reply(input: &[u8]) {
    let mut cut = Cut::new(input);
    let kind = if cut.byte() & 1 == 1 { Kind::V6 } else { Kind::V4 };
    let mut reply = cut.rest().to_vec();
    let Some(question) = Question::new("a.example", kind) else { return };
    // The random id would make the rest unreachable.
    if let (Some(to), Some(from)) = (reply.get_mut(..2), question.bytes.get(..2)) {
        to.copy_from_slice(from);
    }
    match question.read(&reply) {
        Some(Said::Addresses(addresses, ttl)) => {
            assert!(!addresses.is_empty() && addresses.len() <= ADDRESSES && ttl <= TTL_MAX);
        }
        Some(Said::NoSuchName(ttl) | Said::NoAddress(ttl)) => assert!(ttl <= ABSENT_MAX),
        Some(Said::Truncated | Said::Failed(_)) | None => {}
    }
}

pub(crate) fn dns_reply_seeds() -> Vec<Vec<u8>> {
    let question = b"\x01a\x07example\0\0\x01\0\x01";
    let six = b"\x01a\x07example\0\0\x1c\0\x01";
    let head = |flags: u8, code: u8, answers: u8, authorities: u8| {
        vec![0, 0, 0x81 | flags, 0x80 | code, 0, 1, 0, answers, 0, authorities, 0, 0]
    };
    let address = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x01";
    let alias = b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01b\xc0\x0e";
    let aliased = b"\x01b\xc0\x0e\0\x01\0\x01\0\0\0\x05\0\x04\x0a\0\0\x02";
    let long = b"\xc0\x0c\0\x1c\0\x01\0\0\0\x3c\0\x10\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01";
    let authority =
        b"\xc0\x0e\0\x06\0\x01\0\0\0\x3c\0\x16\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05";
    vec![
        [&[0], &head(0, 0, 1, 0)[..], question, address].concat(),
        [&[0], &head(0, 0, 2, 0)[..], question, alias, aliased].concat(),
        [&[1], &head(0, 0, 1, 0)[..], six, long].concat(),
        [&[0], &head(0, 3, 0, 1)[..], question, authority].concat(),
        [&[0], &head(2, 0, 0, 0)[..], question].concat(),
    ]
}

/// Any pattern, any value: accepted or refused, matched or not, within bounds.
pub(crate) fn regex(input: &[u8]) {
    let mut cut = Cut::new(input);
    let Ok(pattern) = std::str::from_utf8(cut.piece()) else { return };
    if let Ok(matcher) = ostro_engine::regex::compile(pattern) {
        matcher.matches(cut.rest());
    }
}

pub(crate) fn regex_seeds() -> Vec<Vec<u8>> {
    let seed = |(pattern, value): (&str, &str)| joined(b"", &[pattern.as_bytes()], value.as_bytes());
    [
        ("/a+(b|c)*[^d-f]{2,5}$", "/aabcbxyz"),
        (r"(?i)^\pL+\.(?P<n>\d\d?)\b", "ABC.12"),
        (r"(?s).*\x{e9}\Qa+\E[[:alpha:]]\C", "xéa+b"),
        ("((a*)*)*b", "aaaaaaaaaaaaaaaaaaaaaaaa"),
    ]
    .map(seed)
    .to_vec()
}

/// Whatever comes first on a connection: a header, none, or a part of one; and more bytes never change an answer.
pub(crate) fn proxy_protocol(input: &[u8]) {
    let mut cut = Cut::new(input);
    let short = usize::from(cut.byte());
    let bytes = cut.rest();
    let answer = parse(bytes);
    if let Ok(Progress::Done { header, length }) = &answer {
        assert!(*length <= bytes.len());
        assert!(header.tlvs().count() <= length / 3 + 1);
    }
    assert!(answer != Ok(Progress::NeedMore) || bytes.len() < V2_MAX);
    let earlier = parse(&bytes[..short.min(bytes.len())]);
    assert!(earlier == Ok(Progress::NeedMore) || earlier == answer);
}

pub(crate) fn proxy_protocol_seeds() -> Vec<Vec<u8>> {
    let two = b"\r\n\r\n\0\r\nQUIT\n";
    vec![
        b"\x10PROXY TCP4 10.0.0.1 10.0.0.2 1 80\r\nGET /".to_vec(),
        b"\x05PROXY TCP6 ::1 fd00::1 65535 80\r\n".to_vec(),
        b"\xffPROXY UNKNOWN\r\n".to_vec(),
        [b"\x0e", &two[..], b"\x21\x11\0\x0c\x0a\0\0\x01\x0a\0\0\x02\0\x01\0\x50rest"].concat(),
        [b"\x14", &two[..], b"\x21\x11\0\x13\x0a\0\0\x01\x0a\0\0\x02\0\x01\0\x50\x02\0\x04a.ex"].concat(),
        [b"\x00", &two[..], b"\x20\0\0\0"].concat(),
    ]
}

/// A listener that looks for everything.
fn looking() -> &'static Listener {
    static LISTENER: OnceLock<Listener> = OnceLock::new();
    LISTENER.get_or_init(|| {
        let filter = |name: &str, kind: &str, mut config: serde_json::Value| {
            config["@type"] = format!("type.googleapis.com/envoy.extensions.filters.listener.{kind}").into();
            json!({"name": name, "typed_config": config})
        };
        let off = json!({"destination_port_range": {"start": 1, "end": 2}});
        let mut http = filter("http", "http_inspector.v3.HttpInspector", json!({}));
        http["filter_disabled"] = off;
        let listener = json!({
            "name": "l",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 80}},
            "listener_filters": [filter("tls", "tls_inspector.v3.TlsInspector", json!({})), http],
        });
        let proto = from_value(&listener, Unknown::Refuse).expect("a listener");
        Listener::compile(proto).expect("a good listener")
    })
}

/// Whatever comes first on a connection that is inspected: an answer that more bytes do not change.
pub(crate) fn inspectors(input: &[u8]) {
    let mut cut = Cut::new(input);
    let (port, short) = (u16::from(cut.byte() & 1), usize::from(cut.byte()));
    let bytes = cut.rest();
    let inspectors = &looking().inspectors;
    let whole = inspectors.look_at(port, bytes, false);
    let earlier = inspectors.look_at(port, &bytes[..short.min(bytes.len())], false);
    assert!(earlier == Look::NeedMore || earlier == whole, "{earlier:?} {whole:?}");
    assert!(inspectors.look_at(port, bytes, true) != Look::NeedMore);
    if let Look::Done(seen) = whole {
        assert!(!seen.server_name.bytes().any(|byte| byte.is_ascii_uppercase()));
    }
}

pub(crate) fn inspectors_seeds() -> Vec<Vec<u8>> {
    let extension = |kind: u8, content: &[u8]| {
        [&[0, kind, 0, u8::try_from(content.len()).expect("a short seed")], content].concat()
    };
    let name = extension(0, b"\0\x0c\0\0\x09a.Example");
    let protocols = extension(16, b"\0\x0c\x02h2\x08http/1.1");
    let hello = |extensions: &[u8]| {
        let body =
            [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0, 0], &[extensions.len() as u8], extensions]
                .concat();
        let message = [&[1, 0, 0, body.len() as u8][..], &body].concat();
        [&[22, 3, 1, 0, message.len() as u8][..], &message].concat()
    };
    vec![
        [&[0, 9][..], &hello(&[name.clone(), protocols.clone()].concat())].concat(),
        [&[1, 40][..], &hello(&protocols)].concat(),
        [&[0, 200][..], &hello(&name)[..30]].concat(),
        b"\0\x03GET /x HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        b"\0\x10PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\x01\x02SSH-2.0-x\r\n".to_vec(),
    ]
}

/// Any format, of any request: refused, or filled without a panic, and JSON stays JSON.
pub(crate) fn access_log(input: &[u8]) {
    let mut cut = Cut::new(input);
    let (value, text) = (cut.piece(), cut.rest());
    let Ok(text) = std::str::from_utf8(text) else { return };
    let value = HeaderValue::from_bytes(value).unwrap_or(HeaderValue::from_static("-"));
    let mut request = Request::new(Method::GET, value.clone(), value.clone());
    request.headers.append(HeaderName::from_static("x-a"), value.clone());
    let response: Headers = [(HeaderName::from_static("server"), value)].into_iter().collect();
    let at = SocketAddr::from(([10, 0, 0, 1], 80));
    let connection = ConnectionInfo {
        id: 7,
        local: at,
        remote: at,
        direct_remote: at,
        server_name: Some("a.b".into()),
        is_restored: false,
    };
    let mut info =
        StreamInfo::new(Arc::new(connection), Duration::from_secs(1_700_000_000), Some(Protocol::Http2));
    info.status = Some(StatusCode::OK);
    info.ended = Some(Duration::from_millis(3));
    let stream =
        StreamView { info: &info, request: Some(&request), response: Some(&response), trailers: None };
    if let Ok(format) = Format::compile(text) {
        for missing in [Missing::Dash, Missing::Empty] {
            format.write(stream, missing, &mut Vec::new());
        }
    }
    let log = json!({
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": "/dev/null",
        "log_format": {"json_format": {"a": text, "b": [{"c": text}, 1]}},
    });
    let listener = json!({
        "name": "l",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 80}},
        "access_log": [{"name": "a", "typed_config": log}],
    });
    let proto = from_value(&listener, Unknown::Refuse).expect("a listener");
    let Ok(listener) = Listener::compile(proto) else { return };
    let mut out = Vec::new();
    assert!(listener.access_logs[0].write(stream, 0, &mut out));
    assert_eq!(out.pop(), Some(b'\n'));
    let line: serde_json::Value = serde_json::from_slice(&out).expect("a line of JSON");
    assert!(line.get("a").is_some() && !out.contains(&b'\n'));
}

pub(crate) fn access_log_seeds() -> Vec<Vec<u8>> {
    let seed = |text: &str| joined(b"", &[b"v\"\\\xe9"], text.as_bytes());
    [
        "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE%\n",
        "%START_TIME(%s.%6f %d/%b/%Y:%T %z %%)% %REQ(X-A):3% %RESP(SERVER)%|%TRAILER(x)% 100%%",
        "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_HOST% %DURATION% %BYTES_SENT% %RESPONSE_FLAGS%",
        "%REQ(X-A)%",
        "%RESPONSE_CODE%",
        "%REQ_WITHOUT_QUERY(:PATH):9% %ROUTE_NAME% %REQUESTED_SERVER_NAME% %UPSTREAM_CLUSTER%",
    ]
    .map(seed)
    .to_vec()
}

/// Whatever a peer says of itself: no panic, nothing that is too long, and what is read can be told and read again.
pub(crate) fn peer_metadata(input: &[u8]) {
    let mut cut = Cut::new(input);
    let (header, endpoint) = (cut.piece(), cut.rest());
    let labels = ["role".to_owned()];
    let endpoint = std::str::from_utf8(endpoint).ok().and_then(Peer::of_endpoint);
    for peer in [Peer::of_header(header, &labels), endpoint].into_iter().flatten() {
        assert!(peer.workload.len() <= PEER_VALUE_BYTES_MAX);
        let told = peer.to_header().expect("base64 is a header's value");
        let again = Peer::of_header(told.as_bytes(), &labels).expect("what is told can be read");
        assert_eq!(
            (&again.workload, &again.namespace, &again.app),
            (&peer.workload, &peer.namespace, &peer.app)
        );
    }
}

pub(crate) fn peer_metadata_seeds() -> Vec<Vec<u8>> {
    vec![joined(b"", &[b""], b"a-v1;default;a;v1;Kubernetes"), joined(b"", &[b"CgM="], b";;")]
}

/// Any query of the admin interface: decoded to as much at most as was sent, masks that only show what there is.
pub(crate) fn admin_query(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let query = Query::parse(&text);
    let all: usize = query.iter().map(|(key, value)| key.len() + value.len()).sum();
    // What is no UTF-8 once it is decoded is replaced, three bytes for one.
    assert!(all <= 3 * text.len());
    if let Some(filter) = query.get("filter")
        && let Ok(matcher) = ostro_engine::regex::compile(filter)
    {
        matcher.matches(b"cluster.a.upstream_rq_200");
    }
    let dump = "type.googleapis.com/envoy.admin.v3.ClustersConfigDump";
    let cluster = "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.DynamicCluster";
    let mask = query.get("mask").unwrap_or_default();
    let shown = json!({"version_info": "1", "cluster": {"@type": "x", "name": "c", "connect_timeout": "1s"}});
    for mask in [Mask::of(mask, dump), Mask::of_element(mask, cluster)].into_iter().flatten() {
        let members = shown.as_object().expect("an object").clone();
        let applied = mask.apply(members.clone());
        assert!(applied.keys().all(|key| members.contains_key(key)));
    }
}

pub(crate) fn admin_query_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "usedonly&filter=%5Ecluster%5C.a&format=json",
        "resource=dynamic_active_clusters&mask=cluster.name,version_info",
        "mask=cluster.connect_timeout&include_eds=",
        "a=%zz%4&b=%c3%28&=&&x=y=z",
        "mask=version_info,dynamic_active_clusters",
    ])
}
