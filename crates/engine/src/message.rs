//! The headers of a message, in the order in which they came.

use http::header::{HeaderName, HeaderValue};

/// Header fields in order; a name may occur several times.
///
/// Messages have a dozen or two: looking through all of them beats hashing, and keeps their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl Headers {
    /// None yet, with room for so many.
    pub fn with_capacity(fields: usize) -> Self {
        Self { fields: Vec::with_capacity(fields) }
    }

    /// The first value of this name.
    pub fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// Every value of this name, in order.
    pub fn get_all<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a HeaderValue> + Clone {
        self.fields.iter().filter(move |(found, _)| found == name).map(|(_, value)| value)
    }

    /// Whether there is a field of this name.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// Adds a field behind the others.
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.fields.push((name, value));
    }

    /// Makes this the only value of the name: in the place of the first, if there is one.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        match self.fields.iter().position(|(found, _)| *found == name) {
            None => self.append(name, value),
            Some(first) => {
                let mut place = 0;
                self.fields.retain(|(found, _)| {
                    place += 1;
                    place <= first + 1 || *found != name
                });
                if let Some((_, old)) = self.fields.get_mut(first) {
                    *old = value;
                }
            }
        }
    }

    /// Removes every field of this name; tells whether there was one.
    pub fn remove(&mut self, name: &HeaderName) -> bool {
        // Most of what is removed is not there.
        if !self.contains(name) {
            return false;
        }
        self.fields.retain(|(found, _)| found != name);
        true
    }

    /// Removes every field of this name; its first value, if there was one.
    pub fn take(&mut self, name: &HeaderName) -> Option<HeaderValue> {
        let first = self.get(name)?.clone();
        self.remove(name);
        Some(first)
    }

    /// Keeps the fields for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&HeaderName, &HeaderValue) -> bool) {
        self.fields.retain(|(name, value)| keep(name, value));
    }

    /// All fields, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&HeaderName, &HeaderValue)> {
        self.fields.iter().map(|(name, value)| (name, value))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Bytes of all fields as HTTP/1 writes them: `name: value` and a line end each.
    pub fn wire_bytes(&self) -> usize {
        self.fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
    }
}

impl IntoIterator for Headers {
    type Item = (HeaderName, HeaderValue);
    type IntoIter = std::vec::IntoIter<(HeaderName, HeaderValue)>;

    fn into_iter(self) -> Self::IntoIter {
        self.fields.into_iter()
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Headers {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: I) -> Self {
        Self { fields: fields.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{ACCEPT, HOST};

    fn value(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }

    #[test]
    fn fields_keep_their_order_and_names_their_values() {
        let mut headers: Headers =
            [(ACCEPT, value("a")), (HOST, value("h")), (ACCEPT, value("b"))].into_iter().collect();
        assert_eq!(headers.get(&ACCEPT), Some(&value("a")));
        assert_eq!(headers.get_all(&ACCEPT).count(), 2);
        headers.set(ACCEPT, value("c"));
        let all: Vec<_> = headers.iter().collect();
        assert_eq!(all, [(&ACCEPT, &value("c")), (&HOST, &value("h"))]);
        assert!(headers.remove(&ACCEPT) && !headers.remove(&ACCEPT));
        assert_eq!((headers.take(&ACCEPT), headers.len()), (None, 1));
        headers.set(ACCEPT, value("d"));
        assert_eq!(headers.len(), 2);
        assert_eq!(headers.wire_bytes(), "host: h\r\naccept: d\r\n".len());
    }
}
