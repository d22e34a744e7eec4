//! How the replies that the proxy makes itself look.
//!
//! Source: Envoy's documentation, "Local reply modification".

use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    LocalReplyConfig, ResponseMapper,
};
use http::{HeaderValue, StatusCode};

use crate::access_log::LogFilter;
use crate::format::{FormatString, inline};
use crate::header_ops::HeaderOps;
use crate::proto::number;
use crate::refusal::Within;
use crate::{Headers, Refusal, StreamView};

/// How the replies that the proxy makes itself look.
#[derive(Clone, Debug, Default)]
pub struct LocalReplies {
    mappers: Vec<Mapper>,
    body: Option<FormatString>,
}

/// A reply that the proxy makes itself.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Headers, but for those that say what the body is.
    pub headers: Headers,
    /// Its body, perhaps empty.
    pub body: Vec<u8>,
    /// What the body is.
    pub content_type: HeaderValue,
}

#[derive(Clone, Debug)]
struct Mapper {
    filter: LogFilter,
    status: Option<StatusCode>,
    body: Option<Vec<u8>>,
    format: Option<FormatString>,
    headers: HeaderOps,
}

impl Reply {
    /// A reply of text.
    pub fn new(status: StatusCode, body: impl Into<Vec<u8>>) -> Reply {
        let content_type = HeaderValue::from_static("text/plain");
        Reply { status, headers: Headers::default(), body: body.into(), content_type }
    }
}

impl LocalReplies {
    pub(super) fn compile(proto: Option<&LocalReplyConfig>) -> Result<LocalReplies, Refusal> {
        let Some(LocalReplyConfig { mappers, body_format }) = proto else {
            return Ok(LocalReplies::default());
        };
        let one = |(place, proto): (usize, &ResponseMapper)| {
            Mapper::compile(proto).within(|| format!("mappers[{place}]"))
        };
        let body = body_format.as_ref().map(FormatString::compile).transpose();
        Ok(LocalReplies {
            mappers: mappers.iter().enumerate().map(one).collect::<Result<_, _>>()?,
            body: body.within(|| "body_format".to_owned())?,
        })
    }

    /// Whether replies stay as they are.
    pub fn is_empty(&self) -> bool {
        self.mappers.is_empty() && self.body.is_none()
    }

    /// Gives a reply its form. `stream` has the reply's status; `random` decides about samples.
    pub fn rewrite(&self, stream: StreamView<'_>, reply: &mut Reply, random: u64) {
        let mapper = self.mappers.iter().find(|mapper| mapper.filter.takes(stream, random));
        let mut info = stream.info.clone();
        if let Some(mapper) = mapper {
            if let Some(status) = mapper.status {
                reply.status = status;
                info.status = Some(status);
            }
            if let Some(body) = &mapper.body {
                reply.body.clone_from(body);
            }
            mapper.headers.apply_to_response(&mut reply.headers, stream.info, stream.request);
        }
        let format = mapper.and_then(|mapper| mapper.format.as_ref()).or(self.body.as_ref());
        if let Some(format) = format {
            let stream = StreamView { info: &info, ..stream };
            let mut body = Vec::new();
            format.write(stream, Some(&reply.body), &mut body);
            reply.body = body;
            reply.content_type = format.content_type().clone();
        }
    }
}

impl Mapper {
    fn compile(proto: &ResponseMapper) -> Result<Mapper, Refusal> {
        let ResponseMapper { filter, status_code, body, body_format_override, headers_to_add } = proto;
        let filter = filter.as_ref().ok_or_else(|| Refusal::invalid("no filter"))?;
        let status = number(status_code.as_ref()).map(|code| {
            let code = u16::try_from(code).ok().filter(|code| (200..600).contains(code));
            let status = code.and_then(|code| StatusCode::from_u16(code).ok());
            status.ok_or_else(|| Refusal::invalid("status_code"))
        });
        let body = body.as_ref().map(|body| inline(body).map(|text| text.as_bytes().to_vec())).transpose();
        let format = body_format_override.as_ref().map(FormatString::compile).transpose();
        Ok(Mapper {
            filter: LogFilter::compile(filter).within(|| "filter".to_owned())?,
            status: status.transpose()?,
            body: body.within(|| "body".to_owned())?,
            format: format.within(|| "body_format_override".to_owned())?,
            headers: HeaderOps::compile(headers_to_add, &[], "headers_to_add", "")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use envoy_types::pb::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
    use envoy_types::pb::envoy::config::accesslog::v3::comparison_filter::Op;
    use envoy_types::pb::envoy::config::accesslog::v3::{
        AccessLogFilter, ComparisonFilter, StatusCodeFilter,
    };
    use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format;
    use envoy_types::pb::envoy::config::core::v3::{
        DataSource, HeaderValue as HeaderProto, HeaderValueOption, RuntimeUInt32, SubstitutionFormatString,
        data_source,
    };
    use envoy_types::pb::google::protobuf::UInt32Value;

    use super::*;
    use crate::{ConnectionInfo, StreamInfo};

    fn text(text: &str) -> DataSource {
        DataSource {
            specifier: Some(data_source::Specifier::InlineString(text.into())),
            ..Default::default()
        }
    }

    fn format(of: &str) -> SubstitutionFormatString {
        SubstitutionFormatString { format: Some(Format::TextFormatSource(text(of))), ..Default::default() }
    }

    fn replies() -> LocalReplies {
        let value = RuntimeUInt32 { default_value: 503, runtime_key: String::new() };
        let comparison = Some(ComparisonFilter { op: Op::Eq as i32, value: Some(value) });
        let filter = FilterSpecifier::StatusCodeFilter(StatusCodeFilter { comparison });
        let header = HeaderProto { key: "x-a".into(), value: "%RESPONSE_CODE%".into(), ..Default::default() };
        let mapper = ResponseMapper {
            filter: Some(AccessLogFilter { filter_specifier: Some(filter) }),
            status_code: Some(UInt32Value { value: 510 }),
            body: Some(text("gone")),
            body_format_override: None,
            headers_to_add: vec![HeaderValueOption { header: Some(header), ..Default::default() }],
        };
        let config = LocalReplyConfig {
            mappers: vec![mapper],
            body_format: Some(format("%LOCAL_REPLY_BODY%:%RESPONSE_CODE%")),
        };
        LocalReplies::compile(Some(&config)).unwrap()
    }

    fn rewritten(status: u16) -> Reply {
        let at = "10.0.0.1:80".parse().unwrap();
        let connection = ConnectionInfo {
            id: 1,
            local: at,
            remote: at,
            direct_remote: at,
            server_name: None,
            is_restored: false,
        };
        let mut info = StreamInfo::new(Arc::new(connection), Duration::ZERO, None);
        let mut reply = Reply::new(StatusCode::from_u16(status).unwrap(), "why");
        info.status = Some(reply.status);
        let stream = StreamView { info: &info, request: None, response: None, trailers: None };
        replies().rewrite(stream, &mut reply, 0);
        reply
    }

    #[test]
    fn the_first_mapper_that_takes_a_reply_changes_it() {
        let reply = rewritten(503);
        assert_eq!((reply.status.as_u16(), reply.body.as_slice()), (510, &b"gone:510"[..]));
        assert_eq!(reply.headers.get(&"x-a".parse().unwrap()).unwrap(), "503");
        let other = rewritten(404);
        assert_eq!((other.status.as_u16(), other.body.as_slice()), (404, &b"why:404"[..]));
        assert!(other.headers.is_empty());
    }
}
