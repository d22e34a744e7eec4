//! Responses that the proxy makes itself: Envoy's statuses, bodies, details and flags.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use ostro_engine::route::tls_location;
use ostro_engine::{Answer, Chosen, Direct, FaultAbort, Headers, Reply, Request, ResponseFlags, StreamView};

use super::{End, Stream};
use crate::downstream::client::{Client, Follows};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Longest message of a gRPC status that is sent, in bytes.
const GRPC_MESSAGE_MAX: usize = 1024;

/// A response of the proxy's own.
#[derive(Debug)]
pub(super) struct Local {
    pub status: StatusCode,
    pub body: Cow<'static, str>,
    /// A body of bytes, as configured; in place of `body`.
    pub bytes: Option<Bytes>,
    pub headers: Headers,
    pub details: Cow<'static, str>,
    pub flags: ResponseFlags,
    /// A gRPC status other than the one that stands for the HTTP status.
    pub grpc: Option<u32>,
}

impl Local {
    /// A status with nothing but a body and details.
    pub fn new(
        status: StatusCode,
        body: impl Into<Cow<'static, str>>,
        details: impl Into<Cow<'static, str>>,
        flags: ResponseFlags,
    ) -> Local {
        Local {
            status,
            body: body.into(),
            bytes: None,
            headers: Headers::default(),
            details: details.into(),
            flags,
            grpc: None,
        }
    }

    fn bare(status: StatusCode, details: &'static str) -> Local {
        Local::new(status, "", details, ResponseFlags::default())
    }

    pub fn answer(answer: Answer) -> Local {
        let mut local = Local::bare(answer.status, answer.details);
        if let Some(location) = answer.location {
            local.headers.append(header::LOCATION, location);
        }
        local
    }

    pub fn protocol(status: StatusCode, details: &'static str) -> Local {
        let body = status.canonical_reason().unwrap_or_default();
        Local::new(status, body, details, ResponseFlags::default())
    }

    pub fn no_route() -> Local {
        Local::new(StatusCode::NOT_FOUND, "", "route_not_found", ResponseFlags::NO_ROUTE_FOUND)
    }

    pub fn no_cluster(status: StatusCode) -> Local {
        Local::new(status, "", "cluster_not_found", ResponseFlags::NO_CLUSTER_FOUND)
    }

    pub fn to_tls(request: &Request) -> Local {
        let mut local = Local::bare(StatusCode::MOVED_PERMANENTLY, "direct_response");
        if let Some(location) = tls_location(request) {
            local.headers.append(header::LOCATION, location);
        }
        local
    }

    pub fn preflight(headers: Headers) -> Local {
        let mut local = Local::bare(StatusCode::OK, "cors_response");
        local.headers = headers;
        local
    }

    pub fn abort(abort: FaultAbort, body: String) -> Local {
        let flags = ResponseFlags::FAULT_INJECTED;
        let mut local = Local::new(StatusCode::OK, body, "fault_filter_abort", flags);
        match abort {
            FaultAbort::Http(status) => local.status = status,
            FaultAbort::Grpc(status) => local.grpc = Some(status),
        }
        local
    }

    /// A redirect; one that cannot be written as a header is the proxy's own failure.
    pub fn redirect(to: Option<(StatusCode, HeaderValue)>) -> Local {
        let Some((status, location)) = to else {
            return Local::bare(StatusCode::INTERNAL_SERVER_ERROR, "direct_response");
        };
        let mut local = Local::bare(status, "direct_response");
        local.headers.append(header::LOCATION, location);
        local
    }

    pub fn direct(direct: &Direct, stream: StreamView<'_>) -> Local {
        let mut local = Local::bare(direct.status, "direct_response");
        local.bytes = Some(match &direct.format {
            None => direct.body.clone(),
            Some(format) => {
                let mut body = Vec::new();
                format.write(stream, Some(&direct.body), &mut body);
                local.headers.set(header::CONTENT_TYPE, format.content_type().clone());
                body.into()
            }
        });
        local
    }

    /// Its messages would have to be translated, which is not done.
    pub fn no_grpc_web() -> Local {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Local::new(status, "gRPC-Web is not supported", "grpc_web_not_supported", ResponseFlags::default())
    }

    pub fn upgrade_failed() -> Local {
        Local::bare(StatusCode::FORBIDDEN, "upgrade_failed")
    }
}

impl Stream<'_> {
    /// Answers as a route says, with the route's header operations.
    pub(super) fn reply_of_route<C: Client>(
        &mut self,
        client: &mut C,
        local: Local,
        chosen: Chosen<'_>,
    ) -> End {
        self.reply_with(client, local, Some(chosen));
        End::Over
    }

    /// Answers.
    pub(super) fn reply<C: Client>(&mut self, client: &mut C, local: Local) {
        self.reply_with(client, local, None);
    }

    fn reply_with<C: Client>(&mut self, client: &mut C, local: Local, chosen: Option<Chosen<'_>>) {
        self.info.flags.set(local.flags);
        if self.info.flags.has(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR) || !client.is_body_done() {
            client.close_after();
        }
        if !local.details.is_empty() {
            self.detail(local.details.clone());
        }
        self.info.status = Some(local.status);
        if self.request.is_grpc() && local.bytes.is_none() {
            return self.reply_grpc(client, local, chosen);
        }
        let body = local.bytes.map_or_else(|| local.body.into_owned().into_bytes(), |bytes| bytes.to_vec());
        let mut reply = Reply { status: local.status, headers: local.headers, body, content_type: TEXT };
        let replies = &self.scope.manager.engine.local_replies;
        if !replies.is_empty() {
            let random = self.random;
            replies.rewrite(self.view(), &mut reply, random);
        }
        let Reply { status, mut headers, body, content_type } = reply;
        if !body.is_empty() {
            headers.set(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            if !headers.contains(&header::CONTENT_TYPE) {
                headers.append(header::CONTENT_TYPE, content_type);
            }
        }
        self.decorate(&mut headers, chosen);
        let has_body = !body.is_empty() && self.request.method != Method::HEAD;
        self.respond(client, status, headers, if has_body { Follows::Body } else { Follows::Nothing });
        if has_body {
            self.info.bytes_sent += body.len() as u64;
            client.send_data(body.into());
            client.send_end(None);
        }
    }

    /// A gRPC client is told in headers alone (gRPC over HTTP/2, "Trailers-Only").
    fn reply_grpc<C: Client>(&mut self, client: &mut C, local: Local, chosen: Option<Chosen<'_>>) {
        let status = local.grpc.unwrap_or_else(|| grpc_status(local.status));
        let mut headers = local.headers;
        headers.append(header::CONTENT_TYPE, GRPC);
        headers.append(GRPC_STATUS, HeaderValue::from(status));
        if !local.body.is_empty()
            && let Ok(message) = HeaderValue::from_str(&percent(&local.body))
        {
            headers.append(GRPC_MESSAGE, message);
        }
        self.decorate(&mut headers, chosen);
        self.respond(client, StatusCode::OK, headers, Follows::Nothing);
    }

    fn decorate(&mut self, headers: &mut Headers, chosen: Option<Chosen<'_>>) {
        if let Some(chosen) = chosen {
            chosen.finish_response(headers, &self.info, &self.request);
        }
        self.filter_response(headers);
    }
}

/// The gRPC status for an HTTP status (gRPC's "HTTP to gRPC Status Code Mapping").
fn grpc_status(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// A gRPC message as a header carries it.
fn percent(message: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes().take(GRPC_MESSAGE_MAX) {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => {
                // Writing to memory does not fail.
                let _ = write!(out, "%{byte:02X}");
            }
            _ => out.push(char::from(byte)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_messages_are_ascii() {
        assert_eq!(percent("a 100% ä\n"), "a 100%25 %C3%A4%0A");
    }
}
