//! Names as DNS and Kubernetes want them: labels, hosts with wildcards, label keys and values.

use std::collections::BTreeMap;

use crate::decode::At;

/// A DNS label (RFC 1123): lower case letters, digits and `-`, not at either end, 63 at most.
pub(crate) fn is_label(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Labels with dots between them, 253 at most: what Kubernetes calls a subdomain.
pub(crate) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// What most objects may be called. As a subdomain, but one label may be longer than 63.
pub(crate) fn is_object_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(allowed) && !part.starts_with('-') && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

/// Complains about labels that no Kubernetes object could have.
pub(crate) fn check_labels(at: &At<'_>, labels: &BTreeMap<String, String>) {
    for (key, value) in labels {
        if !is_label_key(key) {
            let allowed = "an optional DNS name and /, then 63 letters, digits, -, _ and . at most";
            at.key(key).complain(format!("the label {}", crate::tree::quoted(key)), allowed);
        }
        if !is_label_value(value) {
            at.key(key).refuse("letters, digits, -, _ and . (not at either end), 63 at most");
        }
    }
}

/// A label's key: `[prefix/]name`.
pub(crate) fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && !name.is_empty() && is_label_value(name),
        None => !key.is_empty() && is_label_value(key),
    }
}

/// A label's value; may be empty.
pub(crate) fn is_label_value(value: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    value.len() <= 63 && value.bytes().all(allowed) && edge(bytes.first()) && edge(bytes.last())
}
