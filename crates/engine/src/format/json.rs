//! Formats of JSON: objects and lists whose texts have holes.
//!
//! Keys are in order of their bytes, as Envoy writes them. A text that is one hole alone has the type of what fills it.

use std::io::Write as _;

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};

use super::{Format, Missing};
use crate::refusal::Within;
use crate::{Refusal, StreamView};

/// Deepest nesting of a format.
const DEPTH_MAX: usize = 32;

/// A value with holes.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(Format),
    Number(f64),
    Flag(bool),
    Null,
    List(Vec<Node>),
    Object(Vec<(Box<str>, Node)>),
}

impl Node {
    /// Compiles an object.
    pub(super) fn object(proto: &Struct, depth: usize) -> Result<Node, Refusal> {
        if depth > DEPTH_MAX {
            return Err(Refusal::unsupported(format!("json_format deeper than {DEPTH_MAX}")));
        }
        let field = |(key, value): (&String, &Value)| {
            let node = Node::compile(value, depth + 1).within(|| key.clone())?;
            Ok((key.as_str().into(), node))
        };
        let mut fields: Vec<(Box<str>, Node)> =
            proto.fields.iter().map(field).collect::<Result<_, Refusal>>()?;
        fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Node::Object(fields))
    }

    fn compile(proto: &Value, depth: usize) -> Result<Node, Refusal> {
        Ok(match &proto.kind {
            None | Some(Kind::NullValue(_)) => Node::Null,
            Some(Kind::NumberValue(number)) => Node::Number(*number),
            Some(Kind::BoolValue(flag)) => Node::Flag(*flag),
            Some(Kind::StringValue(text)) => Node::Text(Format::compile(text)?),
            Some(Kind::StructValue(object)) => Node::object(object, depth)?,
            Some(Kind::ListValue(list)) if depth <= DEPTH_MAX => {
                Node::List(list.values.iter().map(|v| Node::compile(v, depth + 1)).collect::<Result<_, _>>()?)
            }
            Some(Kind::ListValue(_)) => {
                return Err(Refusal::unsupported(format!("json_format deeper than {DEPTH_MAX}")));
            }
        })
    }

    /// Adds the value to `out`.
    pub(super) fn write(&self, filling: Filling<'_>, out: &mut Vec<u8>) {
        match self {
            Node::Text(text) => filling.write_text(text, out),
            // Writing to memory does not fail.
            Node::Number(number) => _ = write!(out, "{number}"),
            Node::Flag(flag) => _ = write!(out, "{flag}"),
            Node::Null => out.extend_from_slice(b"null"),
            Node::List(values) => {
                out.push(b'[');
                for (place, value) in values.iter().enumerate() {
                    if place > 0 {
                        out.push(b',');
                    }
                    value.write(filling, out);
                }
                out.push(b']');
            }
            Node::Object(fields) => _ = write_object(fields, filling, out),
        }
    }
}

/// Tells whether the object has any field.
fn write_object(fields: &[(Box<str>, Node)], filling: Filling<'_>, out: &mut Vec<u8>) -> bool {
    out.push(b'{');
    let mut has_any = false;
    for (key, value) in fields {
        let begin = out.len();
        if has_any {
            out.push(b',');
        }
        json_string(key.as_bytes(), out);
        out.push(b':');
        let value_begin = out.len();
        let is_there = match value {
            Node::Object(inner) => write_object(inner, filling, out) || inner.is_empty(),
            value => {
                value.write(filling, out);
                out.get(value_begin..) != Some(b"null")
            }
        };
        if is_there || !filling.omits {
            has_any = true;
        } else {
            out.truncate(begin);
        }
    }
    out.push(b'}');
    has_any
}

/// What fills the holes.
#[derive(Clone, Copy)]
pub(super) struct Filling<'a> {
    pub(super) stream: StreamView<'a>,
    pub(super) body: Option<&'a [u8]>,
    /// Values that are missing are left out.
    pub(super) omits: bool,
}

impl Filling<'_> {
    fn write_text(self, text: &Format, out: &mut Vec<u8>) {
        let mut filled = Vec::new();
        let Some(operator) = text.single() else {
            let missing = if self.omits { Missing::Empty } else { Missing::Dash };
            text.write_reply(self.stream, self.body, missing, &mut filled);
            return json_string(&filled, out);
        };
        if !operator.write(self.stream, self.body, &mut filled) {
            out.extend_from_slice(b"null");
        } else if operator.is_number() {
            out.extend_from_slice(&filled);
        } else {
            json_string(&filled, out);
        }
    }
}

/// A JSON string; what is no UTF-8 is replaced.
pub fn json_string(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"");
    for char in String::from_utf8_lossy(text).chars() {
        match char {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            // Writing to memory does not fail.
            control if (control as u32) < 0x20 => _ = write!(out, "\\u{:04x}", control as u32),
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.extend_from_slice(b"\"");
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::ListValue;

    use super::super::tests::info;
    use super::*;

    fn text(text: &str) -> Value {
        Value { kind: Some(Kind::StringValue(text.into())) }
    }

    fn object(fields: &[(&str, Value)]) -> Struct {
        Struct { fields: fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect() }
    }

    fn written(format: &Struct, omits: bool) -> String {
        let info = info();
        let stream = StreamView { info: &info, request: None, response: None, trailers: None };
        let mut out = Vec::new();
        Node::object(format, 0).unwrap().write(Filling { stream, body: None, omits }, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_have_their_types_and_keys_their_order() {
        let number = Value { kind: Some(Kind::NumberValue(7.0)) };
        let list = ListValue { values: vec![text("%DURATION%"), number.clone(), text("x")] };
        let format = object(&[
            ("z", text("%RESPONSE_CODE%")),
            ("host", text("%UPSTREAM_HOST%")),
            ("both", text("a\"%PROTOCOL% %UPSTREAM_HOST%")),
            ("a", Value { kind: Some(Kind::ListValue(list)) }),
            ("n", number),
            ("t", Value { kind: Some(Kind::BoolValue(true)) }),
        ]);
        assert_eq!(
            written(&format, false),
            r#"{"a":[12,7,"x"],"both":"a\"HTTP/1.1 -","host":null,"n":7,"t":true,"z":503}"#
        );
    }

    #[test]
    fn what_is_missing_may_be_left_out() {
        let inner = object(&[("x", text("%UPSTREAM_HOST%"))]);
        let format = object(&[
            ("inner", Value { kind: Some(Kind::StructValue(inner)) }),
            ("host", text("%UPSTREAM_HOST%")),
            ("mixed", text("<%UPSTREAM_HOST%>")),
        ]);
        assert_eq!(written(&format, true), r#"{"mixed":"<>"}"#);
        assert_eq!(written(&format, false), r#"{"host":null,"inner":{"x":null},"mixed":"<->"}"#);
        assert_eq!(written(&object(&[("host", text("%UPSTREAM_HOST%"))]), true), "{}");
    }
}
