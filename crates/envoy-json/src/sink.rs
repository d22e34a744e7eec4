//! Where JSON is written to: text, or a tree.

use serde_json::{Map, Value};

/// How text is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// In one line, without spaces.
    Compact,
    /// A line per value and a space per level, as Envoy's admin interface has it.
    Pretty,
}

/// Takes JSON, piece by piece.
pub(crate) trait Sink {
    fn scalar(&mut self, value: Value);
    fn string(&mut self, text: &str);
    fn begin_list(&mut self);
    fn end_list(&mut self);
    fn begin_object(&mut self);
    /// Before each value of an object.
    fn key(&mut self, key: &str);
    fn end_object(&mut self);
}

/// A whole tree into a sink.
pub(crate) fn value(value: &Value, sink: &mut impl Sink) {
    match value {
        Value::String(text) => sink.string(text),
        Value::Array(items) => {
            sink.begin_list();
            items.iter().for_each(|item| self::value(item, sink));
            sink.end_list();
        }
        Value::Object(members) => {
            sink.begin_object();
            for (key, member) in members {
                sink.key(key);
                self::value(member, sink);
            }
            sink.end_object();
        }
        scalar => sink.scalar(scalar.clone()),
    }
}

/// Text, appended to what is there.
pub(crate) struct Text<'a> {
    out: &'a mut Vec<u8>,
    style: Style,
    level: usize,
    /// Is the next value the first of its list or object?
    first: bool,
    /// Does the next value stand behind its key?
    keyed: bool,
    /// The value at the top has neither comma nor indentation.
    top: usize,
}

impl<'a> Text<'a> {
    pub fn new(out: &'a mut Vec<u8>, style: Style, level: usize) -> Self {
        Self { out, style, level, first: true, keyed: false, top: level }
    }

    /// Whatever stands before a value or key.
    fn lead(&mut self) {
        if std::mem::take(&mut self.keyed) || self.level == self.top {
            return;
        }
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        self.line();
    }

    fn line(&mut self) {
        if self.style == Style::Pretty {
            self.out.push(b'\n');
            self.out.resize(self.out.len() + self.level, b' ');
        }
    }

    fn begin(&mut self, bracket: u8) {
        self.lead();
        self.out.push(bracket);
        self.level += 1;
        self.first = true;
    }

    fn end(&mut self, bracket: u8) {
        self.level = self.level.saturating_sub(1);
        if !std::mem::take(&mut self.first) {
            self.line();
        }
        self.out.push(bracket);
    }

    fn quoted(&mut self, text: &str) {
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(&mut *self.out, text);
    }
}

impl Sink for Text<'_> {
    fn scalar(&mut self, value: Value) {
        self.lead();
        let _ = serde_json::to_writer(&mut *self.out, &value);
    }

    fn string(&mut self, text: &str) {
        self.lead();
        self.quoted(text);
    }

    fn begin_list(&mut self) {
        self.begin(b'[');
    }

    fn end_list(&mut self) {
        self.end(b']');
    }

    fn begin_object(&mut self) {
        self.begin(b'{');
    }

    fn key(&mut self, key: &str) {
        self.lead();
        self.quoted(key);
        self.out.extend_from_slice(if self.style == Style::Pretty { b": " } else { b":" });
        self.keyed = true;
    }

    fn end_object(&mut self) {
        self.end(b'}');
    }
}

/// A tree.
#[derive(Default)]
pub(crate) struct Tree {
    open: Vec<Open>,
    done: Value,
}

enum Open {
    List(Vec<Value>),
    Object(Map<String, Value>, String),
}

impl Tree {
    pub fn finish(self) -> Value {
        self.done
    }

    fn add(&mut self, value: Value) {
        match self.open.last_mut() {
            None => self.done = value,
            Some(Open::List(items)) => items.push(value),
            Some(Open::Object(members, key)) => {
                members.insert(std::mem::take(key), value);
            }
        }
    }

    fn close(&mut self) {
        match self.open.pop() {
            Some(Open::List(items)) => self.add(Value::Array(items)),
            Some(Open::Object(members, _)) => self.add(Value::Object(members)),
            None => {}
        }
    }
}

impl Sink for Tree {
    fn scalar(&mut self, value: Value) {
        self.add(value);
    }

    fn string(&mut self, text: &str) {
        self.add(Value::from(text));
    }

    fn begin_list(&mut self) {
        self.open.push(Open::List(Vec::new()));
    }

    fn end_list(&mut self) {
        self.close();
    }

    fn begin_object(&mut self) {
        self.open.push(Open::Object(Map::new(), String::new()));
    }

    fn key(&mut self, key: &str) {
        if let Some(Open::Object(_, next)) = self.open.last_mut() {
            key.clone_into(next);
        }
    }

    fn end_object(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(tree: &Value, style: Style, level: usize) -> String {
        let mut out = Vec::new();
        value(tree, &mut Text::new(&mut out, style, level));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_laid_out_as_envoys() {
        let tree = json!({"a": [1, "x\n"], "b": {}, "c": {"d": null}, "e": []});
        assert_eq!(text(&tree, Style::Compact, 0), tree.to_string());
        assert_eq!(
            text(&tree, Style::Pretty, 0),
            "{\n \"a\": [\n  1,\n  \"x\\n\"\n ],\n \"b\": {},\n \"c\": {\n  \"d\": null\n },\n \"e\": []\n}"
        );
        assert_eq!(text(&json!({"a": 1}), Style::Pretty, 2), "{\n   \"a\": 1\n  }");
    }

    #[test]
    fn a_tree_comes_back() {
        let tree = json!({"a": [[1], {"b": "c"}], "d": {"e": {}}});
        let mut copy = Tree::default();
        value(&tree, &mut copy);
        assert_eq!(copy.finish(), tree);
    }
}
