//! Asking Envoy: which patterns it refuses, and what the others match.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use ostro_engine::regex::PROGRAM_SIZE_MAX;
use ostro_testkit::envoy::{Envoy, Options, START_LIMIT};
use serde_json::{Value, json};

use super::Case;

/// Connections that ask at the same time. (Envoy closes a connection that pipelines.)
const CONNECTIONS: usize = 4;

fn runtime() -> Value {
    json!({"layers": [{"name": "static", "static_layer": {"re2.max_program_size.error_level": PROGRAM_SIZE_MAX}}]})
}

/// A listener whose routes are these.
fn listener(name: &str, port: u16, binds: bool, routes: &Value) -> Value {
    json!({
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "bind_to_port": binds,
        "filter_chains": [{"filters": [{
            "name": "hcm",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "front",
                "http_filters": [{"name": "router", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
                "route_config": {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]}
            }
        }]}]
    })
}

fn answer(path_match: Value, status: u16) -> Value {
    json!({"match": path_match, "direct_response": {"status": status}})
}

/// Which patterns (by index) Envoy refuses, with its words.
pub fn refused(cases: &[Case]) -> BTreeMap<usize, String> {
    let dir = tempfile::tempdir().unwrap();
    let resources: Vec<Value> = cases
        .iter()
        .enumerate()
        .map(|(i, case)| {
            let routes = json!([answer(json!({"safe_regex": {"regex": case.pattern}}), 200)]);
            let mut listener = listener(&i.to_string(), u16::try_from(i + 1).unwrap(), false, &routes);
            listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
            listener
        })
        .collect();
    let file = dir.path().join("listeners.json");
    std::fs::write(&file, json!({"version_info": "1", "resources": resources}).to_string()).unwrap();
    let config = json!({
        "node": {"id": "test", "cluster": "test"},
        "layered_runtime": runtime(),
        "dynamic_resources": {"lds_config": {"path_config_source": {"path": file.to_str()}}},
    });
    let envoy = Envoy::start(&config, &Options::default());
    envoy.wait_ready(START_LIMIT);
    let dump = envoy.config_dump();
    let listeners =
        dump["configs"].as_array().unwrap().iter().find_map(|c| c["dynamic_listeners"].as_array());
    let listeners = listeners.expect("dynamic listeners in the config dump");
    // A refused listener may be listed more than once.
    let names: BTreeSet<&str> = listeners.iter().filter_map(|l| l["name"].as_str()).collect();
    assert_eq!(names.len(), cases.len());
    let refusal = |l: &Value| {
        let details = l["error_state"]["details"].as_str()?;
        Some((l["name"].as_str()?.parse().ok()?, details.to_owned()))
    };
    listeners.iter().filter_map(refusal).collect()
}

/// Can a request carry this value unchanged?
pub fn can_carry(value: &[u8]) -> bool {
    let edge = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    !edge(value.first())
        && !edge(value.last())
        && value.iter().all(|b| !matches!(b, 0..=0x08 | 0x0A..=0x1F | 0x7F))
}

/// Does each pattern (by index into `patterns`) match the whole of its value?
pub fn matches(patterns: &[&str], questions: &[(usize, &[u8])]) -> Vec<bool> {
    let routes: Vec<Value> =
        patterns.iter().enumerate().flat_map(|(i, pattern)| by_header(i, pattern)).collect();
    let by_path: Vec<Value> =
        patterns.iter().enumerate().flat_map(|(i, pattern)| by_path(i, pattern)).collect();
    let config = json!({
        "layered_runtime": runtime(),
        "static_resources": {"listeners": [
            listener("header", 0, true, &json!(routes)),
            listener("path", 0, true, &json!(by_path)),
        ]},
    });
    let envoy = Envoy::start(&config, &Options::default());
    envoy.wait_ready(START_LIMIT);
    let addresses = [envoy.listener("header"), envoy.listener("path")];
    let share = questions.len().div_ceil(CONNECTIONS);
    std::thread::scope(|scope| {
        let ask = |part| scope.spawn(move || ask_in_turn(addresses, patterns, part));
        let parts: Vec<_> = questions.chunks(share).map(ask).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    })
}

/// Asks one question after the other, on two connections: one for values in headers, one for values in paths.
fn ask_in_turn(addresses: [SocketAddr; 2], patterns: &[&str], questions: &[(usize, &[u8])]) -> Vec<bool> {
    let mut connections = addresses.map(|a| BufReader::new(TcpStream::connect(a).unwrap()));
    let mut answer = |(index, value): &(usize, &[u8])| {
        let connection = &mut connections[usize::from(fits_path(value))];
        connection.get_mut().write_all(&request(*index, value)).unwrap();
        let status = read_status(connection);
        let value = String::from_utf8_lossy(value);
        // A request that Envoy does not answer from a route says nothing about the pattern.
        assert!(matches!(status, Some(200 | 204)), "{status:?} for {value:?} on {:?}", patterns[*index]);
        status == Some(200)
    };
    questions.iter().map(&mut answer).collect()
}

/// A header of the pattern's number says which routes are asked.
fn chosen(index: usize) -> Value {
    json!({"name": "x-pattern", "string_match": {"exact": index.to_string()}})
}

fn by_header(index: usize, pattern: &str) -> [Value; 2] {
    let value = json!({"name": "x-value", "string_match": {"safe_regex": {"regex": pattern}}});
    [
        answer(json!({"path": format!("/{index}"), "headers": [value]}), 200),
        answer(json!({"path": format!("/{index}")}), 204),
    ]
}

fn by_path(index: usize, pattern: &str) -> [Value; 2] {
    [
        answer(json!({"safe_regex": {"regex": pattern}, "headers": [chosen(index)]}), 200),
        answer(json!({"prefix": "/", "headers": [chosen(index)]}), 204),
    ]
}

/// Values that look like paths are asked as paths.
fn fits_path(value: &[u8]) -> bool {
    value.first() == Some(&b'/') && value.iter().all(|b| b.is_ascii_graphic() && !b"?#".contains(b))
}

fn request(index: usize, value: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    if fits_path(value) {
        text.extend_from_slice(b"GET ");
        text.extend_from_slice(value);
        text.extend_from_slice(format!(" HTTP/1.1\r\nhost: a\r\nx-pattern: {index}\r\n\r\n").as_bytes());
    } else {
        text.extend_from_slice(format!("GET /{index} HTTP/1.1\r\nhost: a\r\nx-value: ").as_bytes());
        text.extend_from_slice(value);
        text.extend_from_slice(b"\r\n\r\n");
    }
    text
}

/// Reads one answer; `None` if the connection ended instead.
fn read_status(from: &mut BufReader<TcpStream>) -> Option<u16> {
    let mut status = None;
    let mut length = 0;
    loop {
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        let line = line.trim_end();
        if status.is_none() {
            status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    from.read_exact(&mut vec![0; length]).unwrap();
    status
}
