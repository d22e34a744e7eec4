//! Headers added and removed: `request_headers_to_add` and its like, of route configurations and everything below them.
//!
//! As Envoy: removals come first; then all values are computed, from the message as it was; then those that overwrite are
//! set, then the others added.

use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue as ValueProto, HeaderValueOption};
use http::{HeaderName, HeaderValue};

use crate::format::{Format, Missing};
use crate::proto::{enumeration, header_name, header_value};
use crate::refusal::Within;
use crate::{Headers, Refusal, Request, StreamInfo, StreamView};

/// Headers to remove and to add.
#[derive(Clone, Debug, Default)]
pub struct HeaderOps {
    removals: Box<[HeaderName]>,
    additions: Box<[Addition]>,
}

#[derive(Clone, Debug)]
struct Addition {
    name: HeaderName,
    value: Value,
    action: HeaderAppendAction,
    /// An empty value is added like any other.
    keeps_empty: bool,
}

#[derive(Clone, Debug)]
enum Value {
    Fixed(HeaderValue),
    Formatted(Format),
}

impl HeaderOps {
    /// Compiles what is to be added and removed; the fields' names are for complaints.
    pub(crate) fn compile(
        add: &[HeaderValueOption],
        remove: &[String],
        add_field: &str,
        remove_field: &str,
    ) -> Result<HeaderOps, Refusal> {
        let removal = |name: &String| modifiable(name).within(|| remove_field.to_owned());
        let addition = |(place, option): (usize, &HeaderValueOption)| {
            Addition::compile(option).within(|| format!("{add_field}[{place}]"))
        };
        Ok(HeaderOps {
            removals: remove.iter().map(removal).collect::<Result<_, _>>()?,
            additions: add.iter().enumerate().map(addition).collect::<Result<_, _>>()?,
        })
    }

    /// Several lists of operations of one level, as one.
    pub(crate) fn of_parts(
        removals: Vec<HeaderName>,
        add: &[HeaderValueOption],
    ) -> Result<HeaderOps, Refusal> {
        let additions = add.iter().map(Addition::compile).collect::<Result<_, _>>()?;
        Ok(HeaderOps { removals: removals.into(), additions })
    }

    /// Whether nothing is done.
    pub fn is_empty(&self) -> bool {
        self.removals.is_empty() && self.additions.is_empty()
    }

    /// Does it to a request.
    pub fn apply_to_request(&self, request: &mut Request, info: &StreamInfo) {
        if self.is_empty() {
            return;
        }
        self.remove(&mut request.headers);
        let stream = StreamView { info, request: Some(request), response: None, trailers: None };
        let changes = self.changes(&request.headers, stream);
        self.make(changes, &mut request.headers);
    }

    /// Does it to the headers of a response.
    pub fn apply_to_response(&self, response: &mut Headers, info: &StreamInfo, request: Option<&Request>) {
        if self.is_empty() {
            return;
        }
        self.remove(response);
        let stream = StreamView { info, request, response: Some(response), trailers: None };
        let changes = self.changes(response, stream);
        self.make(changes, response);
    }

    fn remove(&self, headers: &mut Headers) {
        if !self.removals.is_empty() {
            headers.retain(|name, _| !self.removals.contains(name));
        }
    }

    /// Values of additions that take place, in order.
    fn changes(&self, headers: &Headers, stream: StreamView<'_>) -> Vec<(&Addition, HeaderValue)> {
        let change = |addition: &'_ Addition| {
            let takes_place = match addition.action {
                HeaderAppendAction::AppendIfExistsOrAdd | HeaderAppendAction::OverwriteIfExistsOrAdd => true,
                HeaderAppendAction::AddIfAbsent => !headers.contains(&addition.name),
                HeaderAppendAction::OverwriteIfExists => headers.contains(&addition.name),
            };
            let value = addition.value.of(stream).filter(|_| takes_place)?;
            (addition.keeps_empty || !value.is_empty()).then_some(value)
        };
        self.additions.iter().filter_map(|addition| Some((addition, change(addition)?))).collect()
    }

    fn make(&self, changes: Vec<(&Addition, HeaderValue)>, headers: &mut Headers) {
        let overwrites = |addition: &Addition| {
            use HeaderAppendAction as Action;
            matches!(addition.action, Action::OverwriteIfExistsOrAdd | Action::OverwriteIfExists)
        };
        for (addition, value) in changes.iter().filter(|(addition, _)| overwrites(addition)) {
            headers.set(addition.name.clone(), value.clone());
        }
        for (addition, value) in changes.into_iter().filter(|(addition, _)| !overwrites(addition)) {
            headers.append(addition.name.clone(), value);
        }
    }
}

impl Addition {
    fn compile(proto: &HeaderValueOption) -> Result<Addition, Refusal> {
        #[allow(deprecated, reason = "older control planes still write append, and Envoy takes it")]
        let HeaderValueOption { header, append, append_action, keep_empty_value } = proto;
        let header = header.as_ref().ok_or_else(|| Refusal::invalid("no header"))?;
        let ValueProto { key, value, raw_value } = header;
        let name = modifiable(key)?;
        let value = match (value.as_str(), raw_value.as_slice()) {
            (text, []) => Value::text(text)?,
            ("", raw) => Value::Fixed(
                HeaderValue::from_bytes(raw).map_err(|_| Refusal::invalid(format!("raw_value of {key}")))?,
            ),
            _ => return Err(Refusal::invalid(format!("value and raw_value of {key}"))),
        };
        let action = match append {
            None => enumeration(*append_action, "append_action")?,
            Some(_) if *append_action != 0 => return Err(Refusal::invalid("append beside append_action")),
            Some(append) if append.value => HeaderAppendAction::AppendIfExistsOrAdd,
            Some(_) => HeaderAppendAction::OverwriteIfExistsOrAdd,
        };
        Ok(Addition { name, value, action, keeps_empty: *keep_empty_value })
    }
}

impl Value {
    fn text(text: &str) -> Result<Value, Refusal> {
        let format = Format::compile(text)?;
        match format.literal() {
            Some(literal) => header_value(literal, "value").map(Value::Fixed),
            None => Ok(Value::Formatted(format)),
        }
    }

    /// `None` if what fills the holes cannot be in a header.
    fn of(&self, stream: StreamView<'_>) -> Option<HeaderValue> {
        match self {
            Value::Fixed(value) => Some(value.clone()),
            Value::Formatted(format) => {
                let mut text = Vec::new();
                format.write(stream, Missing::Empty, &mut text);
                HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()
            }
        }
    }
}

/// The parts of a head that are no headers are not changed as such.
pub(crate) fn modifiable(name: &str) -> Result<HeaderName, Refusal> {
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        return Err(Refusal::invalid(format!("{name} cannot be changed as a header")));
    }
    header_name(name, "header")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use envoy_types::pb::google::protobuf::BoolValue;
    use http::Method;

    use super::*;
    use crate::ConnectionInfo;

    use HeaderAppendAction as Action;

    fn option(key: &str, value: &str, action: Action) -> HeaderValueOption {
        HeaderValueOption {
            header: Some(ValueProto { key: key.into(), value: value.into(), ..Default::default() }),
            append_action: action as i32,
            ..Default::default()
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
        StreamInfo::new(Arc::new(connection), Duration::ZERO, None)
    }

    fn applied(add: &[HeaderValueOption], remove: &[&str], headers: &[(&str, &str)]) -> Vec<String> {
        let remove: Vec<String> = remove.iter().map(|name| (*name).to_owned()).collect();
        let ops = HeaderOps::compile(add, &remove, "add", "remove").unwrap();
        let slash = HeaderValue::from_static("/p");
        let mut request = Request::new(Method::GET, HeaderValue::from_static("h"), slash);
        for (name, value) in headers {
            request.headers.append(name.parse().unwrap(), value.parse().unwrap());
        }
        ops.apply_to_request(&mut request, &info());
        request.headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn actions_are_envoys() {
        let there = [("a", "1"), ("b", "2"), ("a", "3")];
        for (action, present, absent) in [
            (Action::AppendIfExistsOrAdd, vec!["a=1", "b=2", "a=3", "a=x"], vec!["a=1", "b=2", "a=3", "c=x"]),
            (Action::AddIfAbsent, vec!["a=1", "b=2", "a=3"], vec!["a=1", "b=2", "a=3", "c=x"]),
            (Action::OverwriteIfExistsOrAdd, vec!["a=x", "b=2"], vec!["a=1", "b=2", "a=3", "c=x"]),
            (Action::OverwriteIfExists, vec!["a=x", "b=2"], vec!["a=1", "b=2", "a=3"]),
        ] {
            assert_eq!(applied(&[option("a", "x", action)], &[], &there), present, "{action:?}");
            assert_eq!(applied(&[option("c", "x", action)], &[], &there), absent, "{action:?}");
        }
    }

    #[test]
    fn values_are_of_the_message_as_it_was() {
        let add = [
            option("a", "[%REQ(b)%]", Action::OverwriteIfExistsOrAdd),
            option("b", "%REQ(a)%", Action::OverwriteIfExistsOrAdd),
            option("c", "%REQ(gone)%", Action::AppendIfExistsOrAdd),
            option("d", "%REQ(:path)%", Action::AppendIfExistsOrAdd),
        ];
        let there = [("a", "1"), ("b", "2"), ("gone", "3")];
        assert_eq!(applied(&add, &["gone"], &there), ["a=[2]", "b=1", "d=/p"]);
        let keeps = HeaderValueOption {
            keep_empty_value: true,
            ..option("c", "%REQ(none)%", Action::AppendIfExistsOrAdd)
        };
        assert_eq!(applied(&[keeps], &[], &[]), ["c="]);
    }

    #[test]
    fn the_old_form_means_the_same() {
        let old = |append| {
            #[allow(deprecated, reason = "the old form")]
            let option = HeaderValueOption {
                append: Some(BoolValue { value: append }),
                ..option("a", "x", Action::AppendIfExistsOrAdd)
            };
            applied(&[option], &[], &[("a", "1")])
        };
        assert_eq!(old(true), ["a=1", "a=x"]);
        assert_eq!(old(false), ["a=x"]);
    }

    #[test]
    fn what_envoy_refuses_is_refused() {
        let append = Action::AppendIfExistsOrAdd;
        for (key, value) in [(":path", "/"), ("host", "a"), ("a b", "x"), ("a", "%NOPE%"), ("a", "x\ny")] {
            let option = option(key, value, append);
            assert!(HeaderOps::compile(&[option], &[], "add", "remove").is_err(), "{key}: {value}");
        }
        for name in [":method", "Host", ""] {
            assert!(HeaderOps::compile(&[], &[name.to_owned()], "add", "remove").is_err(), "{name}");
        }
    }
}
