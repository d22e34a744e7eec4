//! The mesh's access log: MeshConfig `accessLogFile`, `accessLogEncoding`, `accessLogFormat`.
//!
//! What it is not: Telemetry, which chooses providers per workload.

use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, ResponseFlagFilter, access_log, access_log_filter,
};
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, SubstitutionFormatString, data_source, substitution_format_string as format_string,
};
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use envoy_types::pb::google::protobuf::Any;
use ostro_api::mesh_config::{AccessLogEncoding, MeshConfig};
use prost::{Message, Name};

use crate::encode::any;

/// Istio's line, which people's dashboards read.
const TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" \
%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \
\"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% \
%ROUTE_NAME%\n";

/// Istio's JSON object: the same values under names.
const JSON: [(&str, &str); 24] = [
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("duration", "%DURATION%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("route_name", "%ROUTE_NAME%"),
    ("start_time", "%START_TIME%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
];

/// One entry per request.
pub fn of_requests(mesh: &MeshConfig) -> Vec<AccessLog> {
    logs(mesh, None)
}

/// One entry per opaque connection.
pub fn of_connections(mesh: &MeshConfig) -> Vec<AccessLog> {
    logs(mesh, None)
}

/// Entries of a listener itself: connections that no filter chain took (`NR`); all others are logged by their filters.
pub fn of_listener(mesh: &MeshConfig) -> Vec<AccessLog> {
    let refused = ResponseFlagFilter { flags: vec!["NR".to_owned()] };
    logs(
        mesh,
        Some(AccessLogFilter {
            filter_specifier: Some(access_log_filter::FilterSpecifier::ResponseFlagFilter(refused)),
        }),
    )
}

fn logs(mesh: &MeshConfig, filter: Option<AccessLogFilter>) -> Vec<AccessLog> {
    if mesh.access_log_file.is_empty() {
        return Vec::new();
    }
    let config = match mesh.access_log_encoding {
        AccessLogEncoding::Text => text(mesh),
        AccessLogEncoding::Json => json(mesh),
    };
    vec![AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        filter,
        config_type: Some(access_log::ConfigType::TypedConfig(config)),
    }]
}

fn text(mesh: &MeshConfig) -> Any {
    let mut format = mesh.access_log_format.clone();
    if format.is_empty() {
        format = TEXT.to_owned();
    } else if !format.ends_with('\n') {
        format.push('\n');
    }
    let source =
        DataSource { specifier: Some(data_source::Specifier::InlineString(format)), ..Default::default() };
    let format = SubstitutionFormatString {
        format: Some(format_string::Format::TextFormatSource(source)),
        ..Default::default()
    };
    any(&FileAccessLog {
        path: mesh.access_log_file.clone(),
        access_log_format: Some(file_access_log::AccessLogFormat::LogFormat(format)),
    })
}

/// The keys of a JSON format are the user's and as many as they like, so this one `Struct` is written field by
/// field: protobuf joins the parts of a message, and entries of a map are parts.
fn json(mesh: &MeshConfig) -> Any {
    let mut object = Vec::new();
    let mut put = |key: &str, value: serde_json::Value| {
        let entry = [message(1, key.as_bytes()), message(2, &value_bytes(&value))].concat();
        object.extend(message(1, &entry));
    };
    match serde_json::from_str(&mesh.access_log_format) {
        Ok(serde_json::Value::Object(fields)) => {
            let mut fields: Vec<_> = fields.into_iter().collect();
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            fields.into_iter().for_each(|(key, value)| put(&key, value));
        }
        _ => JSON.iter().for_each(|(key, value)| put(key, serde_json::Value::from(*value))),
    }
    let mut value =
        FileAccessLog { path: mesh.access_log_file.clone(), access_log_format: None }.encode_to_vec();
    // FileAccessLog.log_format, SubstitutionFormatString.json_format.
    value.extend(message(5, &message(2, &object)));
    Any { type_url: FileAccessLog::type_url(), value }
}

/// A length-delimited field.
fn message(tag: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() + 8);
    prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, &mut bytes);
    prost::encoding::encode_varint(payload.len() as u64, &mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

/// A `google.protobuf.Value`. Nested objects keep the order they were written in.
fn value_bytes(value: &serde_json::Value) -> Vec<u8> {
    match value {
        serde_json::Value::String(text) => message(3, text.as_bytes()),
        serde_json::Value::Object(fields) => {
            let entries = fields.iter().flat_map(|(key, value)| {
                message(1, &[message(1, key.as_bytes()), message(2, &value_bytes(value))].concat())
            });
            message(5, &entries.collect::<Vec<u8>>())
        }
        serde_json::Value::Array(values) => {
            message(6, &values.iter().flat_map(|value| message(1, &value_bytes(value))).collect::<Vec<u8>>())
        }
        // Envoy's formatter takes strings; numbers and the like are their text.
        other => message(3, other.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::google::protobuf::value::Kind;

    fn decoded(log: &AccessLog) -> FileAccessLog {
        let Some(access_log::ConfigType::TypedConfig(any)) = &log.config_type else { panic!("no config") };
        FileAccessLog::decode(any.value.as_slice()).unwrap()
    }

    #[test]
    fn without_a_file_there_is_no_log() {
        assert!(of_requests(&MeshConfig::default()).is_empty());
    }

    #[test]
    fn a_format_of_ones_own_ends_its_line() {
        let mesh = MeshConfig {
            access_log_file: "/dev/stdout".into(),
            access_log_format: "%PROTOCOL%".into(),
            ..MeshConfig::default()
        };
        let config = decoded(&of_requests(&mesh)[0]);
        assert_eq!(config.path, "/dev/stdout");
        let Some(file_access_log::AccessLogFormat::LogFormat(SubstitutionFormatString {
            format: Some(format_string::Format::TextFormatSource(source)),
            ..
        })) = config.access_log_format
        else {
            panic!("no text format")
        };
        assert_eq!(source.specifier, Some(data_source::Specifier::InlineString("%PROTOCOL%\n".into())));
    }

    #[test]
    fn json_written_by_hand_reads_as_protobuf_does() {
        let mut mesh = MeshConfig {
            access_log_file: "/dev/stdout".into(),
            access_log_encoding: AccessLogEncoding::Json,
            ..MeshConfig::default()
        };
        let fields = |mesh: &MeshConfig| {
            let Some(file_access_log::AccessLogFormat::LogFormat(SubstitutionFormatString {
                format: Some(format_string::Format::JsonFormat(object)),
                ..
            })) = decoded(&of_requests(mesh)[0]).access_log_format
            else {
                panic!("no JSON format")
            };
            object.fields
        };
        assert_eq!(fields(&mesh).len(), JSON.len());
        mesh.access_log_format = r#"{"b": "%PROTOCOL%", "a": {"n": ["%DURATION%", 7]}}"#.into();
        let own = fields(&mesh);
        assert_eq!(own["b"].kind, Some(Kind::StringValue("%PROTOCOL%".into())));
        let Some(Kind::StructValue(nested)) = &own["a"].kind else { panic!("no object") };
        let Some(Kind::ListValue(list)) = &nested.fields["n"].kind else { panic!("no list") };
        assert_eq!(list.values[1].kind, Some(Kind::StringValue("7".into())));
        let first = of_requests(&mesh)[0].encode_to_vec();
        assert!((0..50).all(|_| of_requests(&mesh)[0].encode_to_vec() == first));
    }
}
