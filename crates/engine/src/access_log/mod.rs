//! Access logs: which streams are logged, how, and where to.
//!
//! What it is not: the writing. A record is added to a buffer; the proxy knows files.

mod filter;

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog as Proto;
use envoy_types::pb::envoy::config::accesslog::v3::access_log::ConfigType;
use envoy_types::pb::envoy::config::core::v3::SubstitutionFormatString;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::file_access_log::AccessLogFormat as FileFormat;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::stderr_access_log::AccessLogFormat as StderrFormat;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::stdout_access_log::AccessLogFormat as StdoutFormat;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::{StderrAccessLog, StdoutAccessLog};

pub use filter::LogFilter;

use crate::format::FormatString;
use crate::refusal::{Within, is, unpack};
use crate::{Refusal, StreamView};

/// Envoy's format of logs that have none of their own (its documentation, "Default format string").
const DEFAULT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
\"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// A log of streams.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// Where it goes.
    pub sink: LogSink,
    filter: Option<LogFilter>,
    format: FormatString,
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogSink {
    /// A file, to which it is added.
    File(Box<str>),
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl AccessLog {
    /// Compiles the logs of a listener or filter, in order.
    pub(crate) fn compile_all(protos: &[Proto]) -> Result<Vec<AccessLog>, Refusal> {
        let one = |(place, proto): (usize, &Proto)| {
            AccessLog::compile(proto).within(|| format!("access_log[{place}]"))
        };
        protos.iter().enumerate().map(one).collect()
    }

    fn compile(proto: &Proto) -> Result<AccessLog, Refusal> {
        let Proto { name: _, filter, config_type } = proto;
        let Some(ConfigType::TypedConfig(config)) = config_type else {
            return Err(Refusal::invalid("no typed_config"));
        };
        let (sink, format) = if is::<FileAccessLog>(config) {
            file(unpack(config)?)?
        } else if is::<StdoutAccessLog>(config) {
            let StdoutAccessLog { access_log_format } = unpack(config)?;
            let format = access_log_format.map(|StdoutFormat::LogFormat(format)| format);
            (LogSink::Stdout, log_format(format.as_ref())?)
        } else if is::<StderrAccessLog>(config) {
            let StderrAccessLog { access_log_format } = unpack(config)?;
            let format = access_log_format.map(|StderrFormat::LogFormat(format)| format);
            (LogSink::Stderr, log_format(format.as_ref())?)
        } else {
            return Err(Refusal::unsupported(&config.type_url));
        };
        let filter = filter.as_ref().map(LogFilter::compile).transpose();
        Ok(AccessLog { sink, format, filter: filter.within(|| "filter".to_owned())? })
    }

    /// Adds the record of a stream to `out`, with the end of its line; nothing, and `false`, if it is not to be logged.
    /// `random` decides about samples.
    pub fn write(&self, stream: StreamView<'_>, random: u64, out: &mut Vec<u8>) -> bool {
        if self.filter.as_ref().is_some_and(|filter| !filter.takes(stream, random)) {
            return false;
        }
        self.format.write(stream, None, out);
        if self.format.is_json() {
            out.push(b'\n');
        }
        true
    }
}

fn file(proto: FileAccessLog) -> Result<(LogSink, FormatString), Refusal> {
    let FileAccessLog { path, access_log_format } = proto;
    #[allow(
        deprecated,
        reason = "older control planes still write the deprecated forms, and Envoy takes them"
    )]
    let format = match &access_log_format {
        None => FormatString::text(DEFAULT),
        Some(FileFormat::LogFormat(format)) => log_format(Some(format)),
        Some(FileFormat::Format(text)) if text.is_empty() => FormatString::text(DEFAULT),
        Some(FileFormat::Format(text)) => FormatString::text(text),
        // Its values were all text; nobody who writes it today can tell, as Envoy itself reads it as the typed one.
        Some(FileFormat::JsonFormat(object) | FileFormat::TypedJsonFormat(object)) => {
            FormatString::json(object)
        }
    };
    if path.is_empty() {
        return Err(Refusal::invalid("no path"));
    }
    // Opened as files these would have positions of their own, and overwrite each other's lines.
    let sink = match path.as_str() {
        "/dev/stdout" => LogSink::Stdout,
        "/dev/stderr" => LogSink::Stderr,
        path => LogSink::File(path.into()),
    };
    Ok((sink, format?))
}

fn log_format(proto: Option<&SubstitutionFormatString>) -> Result<FormatString, Refusal> {
    proto
        .map_or_else(|| FormatString::text(DEFAULT), FormatString::compile)
        .within(|| "log_format".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use envoy_types::pb::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
    use envoy_types::pb::envoy::config::accesslog::v3::{AccessLogFilter, ResponseFlagFilter};
    use envoy_types::pb::google::protobuf::Any;
    use http::{HeaderValue, Method};
    use prost::{Message, Name};

    use super::*;
    use crate::{ConnectionInfo, Protocol, Request, ResponseFlags, StreamInfo};

    fn proto<M: Message + Name>(config: &M, filter: Option<FilterSpecifier>) -> Proto {
        Proto {
            name: String::new(),
            filter: filter.map(|filter| AccessLogFilter { filter_specifier: Some(filter) }),
            config_type: Some(ConfigType::TypedConfig(Any {
                type_url: M::type_url(),
                value: config.encode_to_vec(),
            })),
        }
    }

    fn info() -> StreamInfo {
        let at = "10.0.0.1:80".parse().unwrap();
        let connection = ConnectionInfo {
            id: 1,
            local: at,
            remote: at,
            direct_remote: at,
            server_name: None,
            is_restored: false,
        };
        StreamInfo::new(Arc::new(connection), Duration::ZERO, Some(Protocol::Http11))
    }

    #[test]
    fn the_default_format_is_envoys() {
        let log = AccessLog::compile(&proto(&StdoutAccessLog::default(), None)).unwrap();
        assert_eq!(log.sink, LogSink::Stdout);
        let request =
            Request::new(Method::GET, HeaderValue::from_static("h"), HeaderValue::from_static("/p"));
        let info = info();
        let stream = StreamView { info: &info, request: Some(&request), response: None, trailers: None };
        let mut out = b"before\n".to_vec();
        assert!(log.write(stream, 0, &mut out));
        let wanted = "before\n[1970-01-01T00:00:00.000Z] \"GET /p HTTP/1.1\" 0 - 0 0 - - \"-\" \"-\" \"-\" \"h\" \"-\"\n";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }

    #[test]
    fn a_filter_leaves_nothing_behind() {
        let flags = FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter { flags: vec!["NR".into()] });
        #[allow(deprecated, reason = "the short form")]
        let file = FileAccessLog {
            path: "/dev/stderr".into(),
            access_log_format: Some(FileFormat::Format("%RESPONSE_FLAGS%\n".into())),
        };
        let log = AccessLog::compile(&proto(&file, Some(flags))).unwrap();
        assert_eq!(log.sink, LogSink::Stderr);
        let mut info = info();
        let mut out = Vec::new();
        let view = StreamView { info: &info, request: None, response: None, trailers: None };
        assert!(!log.write(view, 0, &mut out) && out.is_empty());
        info.flags.set(ResponseFlags::NO_ROUTE_FOUND);
        let view = StreamView { info: &info, request: None, response: None, trailers: None };
        assert!(log.write(view, 0, &mut out));
        assert_eq!(out, b"NR\n");
    }
}
