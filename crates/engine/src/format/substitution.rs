//! Envoy's `SubstitutionFormatString`: a format of text or JSON, with what goes with it.

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format as Kind;
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, JsonFormatOptions, SubstitutionFormatString, TypedExtensionConfig,
};
use envoy_types::pb::envoy::extensions::formatter::metadata::v3::Metadata;
use envoy_types::pb::envoy::extensions::formatter::req_without_query::v3::ReqWithoutQuery;
use envoy_types::pb::google::protobuf::Struct;
use http::HeaderValue;

use super::json::{Filling, Node};
use super::{Format, Missing};
use crate::proto::header_value;
use crate::refusal::{Within, is};
use crate::{Refusal, StreamView};

/// A format of text or JSON.
#[derive(Clone, Debug)]
pub struct FormatString {
    kind: Body,
    /// Values that are missing are left out: no dashes, no nulls.
    omits: bool,
    content_type: HeaderValue,
}

#[derive(Clone, Debug)]
enum Body {
    Text(Format),
    Json(Node),
}

impl FormatString {
    /// Compiles a format; operators that no extension of ours provides are refused.
    pub(crate) fn compile(proto: &SubstitutionFormatString) -> Result<FormatString, Refusal> {
        let SubstitutionFormatString {
            omit_empty_values,
            content_type,
            formatters,
            json_format_options,
            format,
        } = proto;
        formatters.iter().try_for_each(check_extension).within(|| "formatters".to_owned())?;
        if let Some(options) = json_format_options {
            // Keys are sorted in any case.
            #[allow(deprecated, reason = "it means nothing any more, but people write it")]
            let JsonFormatOptions { sort_properties: _ } = options;
        }
        #[allow(deprecated, reason = "older control planes still write it, and Envoy takes it")]
        let mut compiled = match format {
            Some(Kind::TextFormat(text)) => FormatString::text(text).within(|| "text_format".to_owned())?,
            Some(Kind::TextFormatSource(source)) => {
                inline(source).and_then(FormatString::text).within(|| "text_format_source".to_owned())?
            }
            Some(Kind::JsonFormat(object)) => {
                FormatString::json(object).within(|| "json_format".to_owned())?
            }
            None => return Err(Refusal::invalid("no format")),
        };
        compiled.omits = *omit_empty_values;
        if !content_type.is_empty() {
            compiled.content_type = header_value(content_type, "content_type")?;
        }
        Ok(compiled)
    }

    /// A format of text.
    pub fn text(text: &str) -> Result<FormatString, Refusal> {
        let kind = Body::Text(Format::compile(text)?);
        Ok(FormatString { kind, omits: false, content_type: HeaderValue::from_static("text/plain") })
    }

    /// A format of a JSON object.
    pub(crate) fn json(object: &Struct) -> Result<FormatString, Refusal> {
        let kind = Body::Json(Node::object(object, 0)?);
        Ok(FormatString { kind, omits: false, content_type: HeaderValue::from_static("application/json") })
    }

    /// Whether it is JSON.
    pub fn is_json(&self) -> bool {
        matches!(self.kind, Body::Json(_))
    }

    /// Content type of what it writes.
    pub fn content_type(&self) -> &HeaderValue {
        &self.content_type
    }

    /// Adds the text to `out`, its holes filled; `body` is that of a reply that the proxy makes itself.
    pub fn write(&self, stream: StreamView<'_>, body: Option<&[u8]>, out: &mut Vec<u8>) {
        match &self.kind {
            Body::Text(format) => {
                let missing = if self.omits { Missing::Empty } else { Missing::Dash };
                format.write_reply(stream, body, missing, out);
            }
            Body::Json(node) => node.write(Filling { stream, body, omits: self.omits }, out),
        }
    }
}

/// The text of a source, which must be in the message itself.
pub(crate) fn inline(source: &DataSource) -> Result<&str, Refusal> {
    let DataSource { watched_directory, specifier } = source;
    refuse_if_set!(watched_directory);
    match specifier {
        Some(Specifier::InlineString(text)) => Ok(text),
        Some(Specifier::InlineBytes(bytes)) => {
            std::str::from_utf8(bytes).map_err(|_| Refusal::invalid("inline_bytes that are no text"))
        }
        Some(Specifier::Filename(_)) => Err(Refusal::unsupported("filename")),
        Some(Specifier::EnvironmentVariable(_)) => Err(Refusal::unsupported("environment_variable")),
        None => Err(Refusal::invalid("no data")),
    }
}

/// Operators of these extensions are known without them.
fn check_extension(extension: &TypedExtensionConfig) -> Result<(), Refusal> {
    let TypedExtensionConfig { name: _, typed_config } = extension;
    match typed_config {
        Some(config) if is::<ReqWithoutQuery>(config) || is::<Metadata>(config) => Ok(()),
        Some(config) => Err(Refusal::unsupported(&config.type_url)),
        None => Err(Refusal::invalid("no typed_config")),
    }
}
