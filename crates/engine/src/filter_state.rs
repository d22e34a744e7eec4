//! What a filter notes of a connection or request under a name, for those behind it: Envoy's `set_filter_state`.

use envoy_types::pb::envoy::extensions::filters::common::set_filter_state::v3::FilterStateValue;
use envoy_types::pb::envoy::extensions::filters::common::set_filter_state::v3::filter_state_value::{
    Key, SharedWithUpstream, Value,
};

use crate::format::FormatString;
use crate::proto::enumeration;
use crate::refusal::Within;
use crate::{Refusal, StreamView};

/// One note.
#[derive(Clone, Debug)]
pub struct FilterStateRule {
    /// The name it is kept under.
    pub key: Box<str>,
    /// What sort of thing it is; the key, if nothing else is said.
    pub factory: Box<str>,
    /// Whether connections of the proxy to itself see it too.
    pub shared: SharedWithUpstream,
    /// An empty value is no reason to note anything.
    pub skips_empty: bool,
    value: FormatString,
}

impl FilterStateRule {
    /// Compiles the rules of one moment, in order.
    pub(crate) fn compile_all(
        protos: &[FilterStateValue],
        moment: &str,
    ) -> Result<Vec<FilterStateRule>, Refusal> {
        let one = |(place, proto): (usize, &FilterStateValue)| {
            FilterStateRule::compile(proto).within(|| format!("{moment}[{place}]"))
        };
        protos.iter().enumerate().map(one).collect()
    }

    fn compile(proto: &FilterStateValue) -> Result<FilterStateRule, Refusal> {
        #[allow(deprecated, reason = "Envoy ignores read_only, and so do we")]
        let FilterStateValue { factory_key, read_only: _, shared_with_upstream, skip_if_empty, key, value } =
            proto;
        let Some(Key::ObjectKey(key)) = key else { return Err(Refusal::invalid("no object_key")) };
        let Some(Value::FormatString(value)) = value else { return Err(Refusal::invalid("no value")) };
        let factory = if factory_key.is_empty() { key } else { factory_key };
        Ok(FilterStateRule {
            key: key.as_str().into(),
            factory: factory.as_str().into(),
            shared: enumeration(*shared_with_upstream, "shared_with_upstream")?,
            skips_empty: *skip_if_empty,
            value: FormatString::compile(value).within(|| "format_string".to_owned())?,
        })
    }

    /// The value for a stream; `None` if there is none to note.
    pub fn value(&self, stream: StreamView<'_>) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        self.value.write(stream, None, &mut value);
        (!value.is_empty() || !self.skips_empty).then_some(value)
    }
}
