//! Envoy's command operators (`%REQ(x)%`): texts with holes that a stream fills, of access logs and of header values.
//!
//! Source: Envoy's documentation, "Access logging", section "Command operators". An operator that is not known is
//! refused when the text is compiled, as by Envoy.

mod digits;
mod json;
mod operator;
mod parse;
mod substitution;
mod time;

pub use json::json_string;
pub use substitution::FormatString;
pub(crate) use substitution::inline;

use crate::{Refusal, StreamView};
use operator::Operator;

/// A text with holes.
#[derive(Clone, Debug)]
pub struct Format {
    parts: Box<[Part]>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(Box<str>),
    Hole(Operator),
}

/// What stands where a stream has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// `-`, as in logs.
    Dash,
    /// Nothing, as in header values.
    Empty,
}

impl Format {
    /// Compiles a text; `%%` is a percent sign.
    pub fn compile(text: &str) -> Result<Format, Refusal> {
        Ok(Format { parts: parse::parts(text)?.into_boxed_slice() })
    }

    /// The text, if it has no holes.
    pub fn literal(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Adds the text to `out`, its holes filled.
    pub fn write(&self, stream: StreamView<'_>, missing: Missing, out: &mut Vec<u8>) {
        self.write_reply(stream, None, missing, out);
    }

    /// The same for a reply that the proxy makes itself, which has this body so far (`%LOCAL_REPLY_BODY%`).
    pub fn write_reply(
        &self,
        stream: StreamView<'_>,
        body: Option<&[u8]>,
        missing: Missing,
        out: &mut Vec<u8>,
    ) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Hole(operator) => {
                    if !operator.write(stream, body, out) && missing == Missing::Dash {
                        out.extend_from_slice(b"-");
                    }
                }
            }
        }
    }

    /// Its operator, if it is nothing else.
    fn single(&self) -> Option<&Operator> {
        match &*self.parts {
            [Part::Hole(operator)] => Some(operator),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Duration;

    use http::{HeaderName, HeaderValue, Method, StatusCode};

    use super::*;
    use crate::{ConnectionInfo, Headers, Protocol, Request, ResponseFlags, StreamInfo};

    pub(super) fn info() -> StreamInfo {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let connection = ConnectionInfo {
            id: 7,
            local: at("10.0.0.1:80"),
            remote: at("10.0.0.2:1234"),
            direct_remote: at("[::1]:5"),
            server_name: None,
            is_restored: false,
        };
        let mut info = StreamInfo::new(
            Arc::new(connection),
            Duration::from_micros(1_700_000_000_123_456),
            Some(Protocol::Http11),
        );
        info.status = Some(StatusCode::SERVICE_UNAVAILABLE);
        info.flags = ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
        info.ended = Some(Duration::from_micros(12_999));
        info.bytes_received = 5;
        info.cluster = Some("outbound|80||a".into());
        info
    }

    /// What Istio logs of requests where nothing else is configured.
    #[test]
    fn istios_own_line_is_written_whole() {
        let line = filled(
            "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
             %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
             \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
             %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
             \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
             %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
             %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n",
        );
        assert_eq!(
            line,
            "[2023-11-14T22:13:20.123Z] \"GET /p?q HTTP/1.1\" 503 UF - - \"-\" 5 0 12 - \"-\" \"-\" \"-\" \"h:80\" \
             \"-\" outbound|80||a - 10.0.0.1:80 10.0.0.2:1234 - -\n"
        );
    }

    fn filled(text: &str) -> String {
        let mut request =
            Request::new(Method::GET, HeaderValue::from_static("h:80"), HeaderValue::from_static("/p?q"));
        request.headers.append(HeaderName::from_static("x-a"), HeaderValue::from_static("12345"));
        let response: Headers =
            [(HeaderName::from_static("server"), HeaderValue::from_static("s"))].into_iter().collect();
        let info = info();
        let view =
            StreamView { info: &info, request: Some(&request), response: Some(&response), trailers: None };
        let mut out = Vec::new();
        Format::compile(text).unwrap().write(view, Missing::Dash, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn holes_are_filled() {
        for (text, wanted) in [
            ("100%% %PROTOCOL%", "100% HTTP/1.1"),
            ("%START_TIME%", "2023-11-14T22:13:20.123Z"),
            ("%START_TIME(%s.%6f %d/%b/%Y:%T %z)%", "1700000000.123456 14/Nov/2023:22:13:20 +0000"),
            ("%REQ(:METHOD)% %REQ(X-NONE?:PATH)% %REQ(:authority)% %REQ(X-A):3%", "GET /p?q h:80 123"),
            ("%REQ_WITHOUT_QUERY(:PATH)%", "/p"),
            ("%RESP(SERVER)% %RESP(x)%|%TRAILER(x)%", "s -|-"),
            ("%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%", "503 UF -"),
            ("%BYTES_RECEIVED% %BYTES_SENT% %DURATION%", "5 0 12"),
            (
                "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
                "10.0.0.2:1234 10.0.0.2",
            ),
            ("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_PORT%", "[::1]:5 80"),
            ("%UPSTREAM_HOST% %UPSTREAM_CLUSTER_RAW% %UPSTREAM_CLUSTER%", "- outbound|80||a outbound|80||a"),
            ("%REQUESTED_SERVER_NAME% %ROUTE_NAME%", "- -"),
        ] {
            assert_eq!(filled(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_envoy_refuses_is_refused() {
        for text in ["%", "%NOPE%", "%REQ%", "%REQ(a", "%REQ(a)x%", "a%b", "%START_TIME(%s)", "%REQ(a):x%"] {
            assert!(Format::compile(text).is_err(), "{text}");
        }
    }
}
