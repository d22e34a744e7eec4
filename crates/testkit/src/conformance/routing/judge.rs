//! Answers against expectations.

use std::collections::BTreeMap;

use serde_json::Value;

use super::case::Expect;
use super::client::Answer;

/// gRPC's statuses by the names that Go gives them, in order of their numbers.
const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// What is wrong with one answer to a call to `hostname`.
pub(super) fn answer(expect: &Expect, hostname: &str, got: &Answer) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |what: &str, expected: &str, got: &str| {
        if expected != got {
            wrong.push(format!("{what}: expected {expected:?}, got {got:?}"));
        }
    };
    if let Some(status) = expect.status {
        compare("status", &status.to_string(), &got.status.to_string());
        // A gRPC call that went well says so twice.
        if let Some(code) = got.grpc_status.filter(|_| status == 200) {
            compare("grpcStatus", "OK", grpc_status(code));
        }
    }
    if let Some(name) = &expect.grpc_status {
        compare("grpcStatus", name, got.grpc_status.map_or("none", grpc_status));
    }
    let seen = |field: &str| got.seen[field].as_str().unwrap_or_default();
    if let Some(url) = &expect.url_seen_by_server {
        compare("urlSeenByServer", url, seen("url"));
    }
    if let Some(host) = &expect.host_seen_by_server {
        compare("hostSeenByServer", host, seen("host"));
    }
    for (name, value) in &expect.request_headers {
        let values = got.seen["headers"][name.to_ascii_lowercase()].as_array();
        let values: Vec<&str> = values.into_iter().flatten().filter_map(Value::as_str).collect();
        compare(&format!("request header {name}"), value, &values.join(","));
    }
    for (name, value) in &expect.response_headers {
        let value = value.replace("{{.Hostname}}", hostname);
        let values: Vec<_> =
            got.headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
        compare(&format!("response header {name}"), &value, &values.join(","));
    }
    wrong
}

/// What is wrong with how answers spread over services.
pub(super) fn distribution(expect: &Expect, got: &BTreeMap<String, usize>) -> Vec<String> {
    let off = |(service, expected): (&String, &usize)| {
        let got = got.get(service).copied().unwrap_or(0);
        (got.abs_diff(*expected) > expect.tolerance)
            .then(|| format!("answers of {service}: expected {expected} +- {}, got {got}", expect.tolerance))
    };
    expect.distribution.iter().filter_map(off).collect()
}

fn grpc_status(code: u32) -> &'static str {
    usize::try_from(code).ok().and_then(|c| GRPC_STATUSES.get(c)).copied().unwrap_or("unknown number")
}
