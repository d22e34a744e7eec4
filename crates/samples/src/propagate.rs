//! Headers a service passes on to the services it calls on behalf of a request.
//!
//! A mesh can tie a caller's and a callee's span together only if the application carries these over;
//! the list is that of the public Bookinfo sample, so that its tracing and routing examples work.

use axum::http::HeaderMap;

/// Lower case, as HTTP/2 has them.
const PASSED_ON: [&str; 20] = [
    "x-request-id",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "b3",
    "x-ot-span-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "traceparent",
    "tracestate",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "sw8",
    "end-user",
    "user-agent",
    "authorization",
    "cookie",
];

/// Those headers of `incoming` that go on to upstreams, every value of each.
pub fn passed_on(incoming: &HeaderMap) -> HeaderMap {
    let mut outgoing = HeaderMap::new();
    for name in PASSED_ON {
        for value in incoming.get_all(name) {
            outgoing.append(name, value.clone());
        }
    }
    outgoing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_and_user_go_on_and_the_rest_stays() {
        let mut incoming = HeaderMap::new();
        for name in ["traceparent", "end-user", "x-request-id", "host", "accept", "content-length"] {
            incoming.insert(name, "v".parse().unwrap());
        }
        let names: Vec<String> = passed_on(&incoming).keys().map(|k| k.as_str().to_owned()).collect();
        assert_eq!(names, ["x-request-id", "traceparent", "end-user"]);
    }
}
