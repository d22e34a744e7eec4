//! Header values as format strings of Envoy.
//!
//! Envoy refuses the whole route configuration over one operator that it does not know, so only those that it was seen
//! to take (1.40) are left as they are; any other percent sign is doubled and means itself.

/// Operators without arguments.
const PLAIN: &str = "\
START_TIME START_TIME_LOCAL EMIT_TIME EMIT_TIME_LOCAL REQUEST_HEADERS_BYTES BYTES_RECEIVED \
BYTES_RETRANSMITTED PACKETS_RETRANSMITTED PROTOCOL UPSTREAM_PROTOCOL RESPONSE_CODE \
RESPONSE_CODE_DETAILS CONNECTION_TERMINATION_DETAILS RESPONSE_HEADERS_BYTES RESPONSE_TRAILERS_BYTES \
BYTES_SENT UPSTREAM_REQUEST_ATTEMPT_COUNT UPSTREAM_WIRE_BYTES_SENT UPSTREAM_WIRE_BYTES_RECEIVED \
UPSTREAM_HEADER_BYTES_SENT UPSTREAM_HEADER_BYTES_RECEIVED \
UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED DOWNSTREAM_WIRE_BYTES_SENT \
DOWNSTREAM_WIRE_BYTES_RECEIVED DOWNSTREAM_HEADER_BYTES_SENT DOWNSTREAM_HEADER_BYTES_RECEIVED \
DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED DURATION REQUEST_DURATION REQUEST_TX_DURATION \
RESPONSE_DURATION RESPONSE_TX_DURATION DOWNSTREAM_HANDSHAKE_DURATION ROUNDTRIP_DURATION \
RESPONSE_FLAGS RESPONSE_FLAGS_LONG UPSTREAM_HOST_NAME UPSTREAM_HOST_NAME_WITHOUT_PORT UPSTREAM_HOST \
UPSTREAM_CONNECTION_ID UPSTREAM_CLUSTER UPSTREAM_CLUSTER_RAW UPSTREAM_LOCAL_ADDRESS \
UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT UPSTREAM_LOCAL_PORT UPSTREAM_REMOTE_ADDRESS \
UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT UPSTREAM_REMOTE_PORT UPSTREAM_TRANSPORT_FAILURE_REASON \
DOWNSTREAM_TRANSPORT_FAILURE_REASON DOWNSTREAM_LOCAL_CLOSE_REASON DOWNSTREAM_DETECTED_CLOSE_TYPE \
UPSTREAM_DETECTED_CLOSE_TYPE UPSTREAM_LOCAL_CLOSE_REASON DOWNSTREAM_REMOTE_ADDRESS \
DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT DOWNSTREAM_REMOTE_PORT DOWNSTREAM_DIRECT_REMOTE_ADDRESS \
DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT DOWNSTREAM_DIRECT_REMOTE_PORT DOWNSTREAM_LOCAL_ADDRESS \
DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT DOWNSTREAM_LOCAL_PORT DOWNSTREAM_DIRECT_LOCAL_ADDRESS \
DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT DOWNSTREAM_DIRECT_LOCAL_PORT CONNECTION_ID \
REQUESTED_SERVER_NAME ROUTE_NAME VIRTUAL_CLUSTER_NAME STREAM_ID UNIQUE_ID TRACE_ID SPAN_ID \
QUERY_PARAMS PATH CUSTOM_FLAGS LOCAL_REPLY_BODY GRPC_STATUS GRPC_STATUS_NUMBER ACCESS_LOG_TYPE \
HOSTNAME FILTER_CHAIN_NAME DOWNSTREAM_PEER_SUBJECT DOWNSTREAM_PEER_CERT DOWNSTREAM_PEER_ISSUER \
DOWNSTREAM_PEER_URI_SAN DOWNSTREAM_PEER_DNS_SAN DOWNSTREAM_PEER_IP_SAN DOWNSTREAM_PEER_EMAIL_SAN \
DOWNSTREAM_PEER_OTHERNAME_SAN DOWNSTREAM_PEER_FINGERPRINT_256 DOWNSTREAM_PEER_FINGERPRINT_1 \
DOWNSTREAM_PEER_SERIAL DOWNSTREAM_PEER_CERT_V_START DOWNSTREAM_PEER_CERT_V_END \
DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256 DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1 \
DOWNSTREAM_PEER_CHAIN_SERIALS DOWNSTREAM_LOCAL_SUBJECT DOWNSTREAM_LOCAL_URI_SAN \
DOWNSTREAM_LOCAL_DNS_SAN DOWNSTREAM_LOCAL_IP_SAN DOWNSTREAM_LOCAL_EMAIL_SAN \
DOWNSTREAM_LOCAL_OTHERNAME_SAN DOWNSTREAM_TLS_SESSION_ID DOWNSTREAM_TLS_CIPHER \
DOWNSTREAM_TLS_VERSION UPSTREAM_PEER_SUBJECT UPSTREAM_PEER_ISSUER UPSTREAM_PEER_CERT \
UPSTREAM_PEER_CERT_V_START UPSTREAM_PEER_CERT_V_END UPSTREAM_PEER_URI_SAN UPSTREAM_PEER_DNS_SAN \
UPSTREAM_PEER_IP_SAN UPSTREAM_LOCAL_URI_SAN UPSTREAM_LOCAL_DNS_SAN UPSTREAM_LOCAL_IP_SAN \
UPSTREAM_TLS_SESSION_ID UPSTREAM_TLS_CIPHER UPSTREAM_TLS_VERSION TLS_JA3_FINGERPRINT \
TLS_JA4_FINGERPRINT UPSTREAM_CONNECTION_POOL_READY_DURATION UPSTREAM_HOSTS_ATTEMPTED";

/// What arguments an operator takes.
#[derive(Clone, Copy)]
enum Arguments {
    /// A header, or the one to fall back on: `name?other`.
    Header,
    /// A key in filter state, and how it is written.
    State,
    /// A path of names.
    Path,
    /// The same, and no length.
    PathWhole,
}

/// Operators that need arguments, which may be cut to a length, as in `%REQ(name):10%`.
const WITH_ARGUMENTS: [(&str, Arguments); 12] = [
    ("CLUSTER_METADATA", Arguments::PathWhole),
    ("DYNAMIC_METADATA", Arguments::Path),
    ("ENVIRONMENT", Arguments::Path),
    ("FILTER_STATE", Arguments::State),
    ("QUERY_PARAM", Arguments::Path),
    ("REQ", Arguments::Header),
    ("REQUEST_HEADER", Arguments::Header),
    ("RESP", Arguments::Header),
    ("RESPONSE_HEADER", Arguments::Header),
    ("TRAILER", Arguments::Header),
    ("UPSTREAM_FILTER_STATE", Arguments::State),
    ("UPSTREAM_METADATA", Arguments::PathWhole),
];

/// Operators that take a format of time, with percent signs of its own.
const TIMES: [&str; 4] = ["START_TIME", "START_TIME_LOCAL", "EMIT_TIME", "EMIT_TIME_LOCAL"];

/// Longest length that is left as it is.
const LENGTH_DIGITS: usize = 6;

/// The value with operators and `%%` as they are, and every other percent sign doubled.
pub fn value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        let (before, from) = rest.split_at(start);
        let (operator, after) = match operator(from) {
            Some(length) => from.split_at(length),
            None => ("%%", from.get(1..).unwrap_or_default()),
        };
        out.push_str(before);
        out.push_str(operator);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The length of the operator, or `%%`, that `text` begins with.
fn operator(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('%')?;
    if inner.starts_with('%') {
        return Some(2);
    }
    let end = inner.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_')?;
    let (name, rest) = inner.split_at(end);
    let after = if rest.starts_with('%') {
        PLAIN.split_ascii_whitespace().any(|plain| plain == name).then_some(rest)?
    } else {
        with_arguments(name, rest)?
    };
    after.starts_with('%').then(|| text.len() - after.len() + 1)
}

/// What follows the arguments in `rest`, if they are such as the operator takes.
fn with_arguments<'t>(name: &str, rest: &'t str) -> Option<&'t str> {
    let (arguments, after) = rest.strip_prefix('(')?.split_once(')')?;
    if TIMES.contains(&name) {
        return (!arguments.is_empty() && !arguments.contains(['\r', '\n'])).then_some(after);
    }
    let (_, kind) = WITH_ARGUMENTS.iter().find(|(known, _)| *known == name)?;
    if !kind.fits(arguments) {
        return None;
    }
    match (after.strip_prefix(':'), kind) {
        (None, _) => Some(after),
        (Some(_), Arguments::PathWhole) => None,
        (Some(length), _) => {
            let digits = length.bytes().take_while(u8::is_ascii_digit).count();
            (1..=LENGTH_DIGITS).contains(&digits).then(|| length.get(digits..)).flatten()
        }
    }
}

impl Arguments {
    fn fits(self, text: &str) -> bool {
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        let is_header = |name: &str| is_name(name.strip_prefix(':').unwrap_or(name));
        match self {
            Arguments::Header => {
                let (first, other) = text.split_once('?').unwrap_or((text, "x"));
                is_header(first) && is_header(other)
            }
            Arguments::State => {
                let (key, form) = text.split_once(':').unwrap_or((text, "PLAIN"));
                is_name(key) && ["PLAIN", "TYPED"].contains(&form)
            }
            Arguments::Path | Arguments::PathWhole => text.split(':').all(is_name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn operators_that_envoy_takes_stay() {
        let operators = [
            "%DOWNSTREAM_REMOTE_ADDRESS%",
            "%REQ(x-a?:path):10%!",
            "a %PROTOCOL%/%RESPONSE_CODE% b",
            "%START_TIME(%Y-%m)%",
            "%DYNAMIC_METADATA(a.b:c)%",
            "%UPSTREAM_METADATA(a:b)%",
            "%FILTER_STATE(a.b:PLAIN):5%",
            "100%%",
            "plain",
            "",
        ];
        for text in operators {
            assert_eq!(value(text), text);
        }
    }

    #[test]
    fn every_other_percent_sign_means_itself() {
        let cases = [
            ("50%", "50%%"),
            ("%41%REQ(a)%", "%%41%REQ(a)%"),
            ("%lower%", "%%lower%%"),
            ("%FOO%", "%%FOO%%"),
            ("%REQ%", "%%REQ%%"),
            ("%REQ()%", "%%REQ()%%"),
            ("%REQ(a b)%", "%%REQ(a b)%%"),
            ("%REQ(a):x%", "%%REQ(a):x%%"),
            ("%REQ(a:b)%", "%%REQ(a:b)%%"),
            ("%REQ(a?b?c)%", "%%REQ(a?b?c)%%"),
            ("%FILTER_STATE(a:b)%", "%%FILTER_STATE(a:b)%%"),
            ("%UPSTREAM_METADATA(a):5%", "%%UPSTREAM_METADATA(a):5%%"),
            ("%REQ(a):9999999999%", "%%REQ(a):9999999999%%"),
            ("%REQ(a", "%%REQ(a"),
            ("%PROTOCOL():3%", "%%PROTOCOL():3%%"),
            ("%PROTOCOL", "%%PROTOCOL"),
            ("%ü%", "%%ü%%"),
        ];
        for (text, expected) in cases {
            assert_eq!(value(text), expected, "{text}");
        }
    }
}
