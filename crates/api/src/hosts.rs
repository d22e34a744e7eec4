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

/// What a host may be, for complaints.
pub(crate) const HOST: &str =
    "a DNS name: letters, digits and - between dots, 255 at most, not ending in a number";

/// A DNS name as Istio takes it: letters of either case, a dot at the end, no all-numeric last label.
pub(crate) fn is_host(text: &str) -> bool {
    if text.is_empty() || text.len() > 255 {
        return false;
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or_default();
    !last.bytes().all(|b| b.is_ascii_digit()) && name.split('.').all(is_mixed_label)
}

/// As [`is_host`], with `*`, `*label` or `*-label` allowed as the first label.
pub(crate) fn is_wildcard_host(text: &str) -> bool {
    if text.len() > 255 {
        return false;
    }
    let (first, rest) = text.split_once('.').map_or((text, None), |(first, rest)| (first, Some(rest)));
    let stem = first.strip_prefix('*').map(|stem| stem.strip_prefix('-').unwrap_or(stem));
    let first_is_good = match stem {
        Some("") => first == "*",
        Some(stem) => is_mixed_label(stem),
        None => is_mixed_label(first),
    };
    first_is_good && rest.is_none_or(|rest| rest.is_empty() || is_host(rest))
}

/// `*` elsewhere than alone or as the whole first label.
pub(crate) fn is_partial_wildcard(text: &str) -> bool {
    text.contains('*') && text != "*" && !text.starts_with("*.")
}

/// A label of a DNS name in letters of either case.
pub(crate) fn is_mixed_label(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether every host that `narrow` names is one that `wide` names.
pub(crate) fn is_subset(narrow: &str, wide: &str) -> bool {
    match wide.strip_prefix('*') {
        None => narrow == wide,
        Some(suffix) => match narrow.strip_prefix('*') {
            Some(narrow) => narrow.len() >= suffix.len() && narrow.ends_with(suffix),
            None => narrow.ends_with(suffix),
        },
    }
}

/// Whether some host is named by both.
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    is_subset(a, b) || is_subset(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_those_istio_takes() {
        for good in ["reviews", "reviews.default", "a.b.c.", "Foo.BAR", "1.example.com", "x-1.y"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", ".", "a..b", "-a.b", "a-.b", "a_b", "1.2.3.4", "example.123", "*.a", "a b", "ä.de"] {
            assert!(!is_host(bad), "{bad}");
        }
        for good in ["*", "*.com", "*.foo.com", "*foo.com", "*-foo.com", "foo.com"] {
            assert!(is_wildcard_host(good), "{good}");
        }
        for bad in ["foo*", "foo.*", "a.*.b", "*-", "**", "", "*.1"] {
            assert!(!is_wildcard_host(bad), "{bad}");
        }
        assert!(is_partial_wildcard("*foo.com") && !is_partial_wildcard("*.foo.com"));
    }

    #[test]
    fn wildcards_cover_by_suffix() {
        for (narrow, wide) in [("a.foo.com", "*.foo.com"), ("*.foo.com", "*.com"), ("a", "*"), ("a", "a")] {
            assert!(is_subset(narrow, wide), "{narrow} {wide}");
        }
        for (narrow, wide) in [("*.com", "*.foo.com"), ("foo.com", "*.foo.com"), ("a", "b"), ("*", "a")] {
            assert!(!is_subset(narrow, wide), "{narrow} {wide}");
        }
        assert!(overlap("*.com", "*.foo.com") && !overlap("*.a.com", "*.b.com"));
    }

    #[test]
    fn labels_are_those_of_kubernetes() {
        for good in ["app", "app.kubernetes.io/name", "a_b.c-d", "A"] {
            assert!(is_label_key(good), "{good}");
        }
        for bad in ["", "/a", "a/", "-a", "a/b/c", "UPPER.io/a", "@"] {
            assert!(!is_label_key(bad), "{bad}");
        }
        assert!(
            is_label_value("") && is_label_value("v1.2_3") && !is_label_value("a b") && !is_label_value("*")
        );
    }
}
