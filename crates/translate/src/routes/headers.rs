//! Header operations of routes and destinations: `headers.request` and `headers.response`.
//!
//! Envoy refuses operations on `Host` and on pseudo headers; the authority is rewritten by other means, so it comes out
//! of here on its own, and operations on other pseudo headers come to nothing, as in Istio.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use ostro_api::virtual_service::{HeaderOperations, Headers};

use super::format;

/// What is done to the headers of a request and of its response.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Operations {
    pub request_add: Vec<HeaderValueOption>,
    pub request_remove: Vec<String>,
    pub response_add: Vec<HeaderValueOption>,
    pub response_remove: Vec<String>,
    /// The authority that the request is given.
    pub authority: Option<String>,
}

/// The operations that `headers` asks for; what is set comes before what is added, each in order of names.
pub fn operations(headers: Option<&Headers>) -> Operations {
    let Some(headers) = headers else { return Operations::default() };
    let mut out = Operations::default();
    if let Some(request) = &headers.request {
        out.request_add = additions(request);
        out.request_remove = removals(request);
        out.authority = authority(&request.set).or_else(|| authority(&request.add));
    }
    if let Some(response) = &headers.response {
        out.response_add = additions(response);
        out.response_remove = removals(response);
    }
    out
}

fn additions(operations: &HeaderOperations) -> Vec<HeaderValueOption> {
    let set = operations.set.iter().map(|header| (header, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = operations.add.iter().map(|header| (header, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add)
        .filter(|((name, _), _)| !is_reserved(name))
        .map(|((name, value), action)| HeaderValueOption {
            header: Some(HeaderValue {
                key: name.clone(),
                value: format::value(value),
                ..Default::default()
            }),
            append_action: action as i32,
            ..Default::default()
        })
        .collect()
}

fn removals(operations: &HeaderOperations) -> Vec<String> {
    operations.remove.iter().filter(|name| !is_reserved(name)).cloned().collect()
}

fn authority(set: &BTreeMap<String, String>) -> Option<String> {
    set.iter().find(|(name, _)| is_authority(name)).map(|(_, value)| value.clone())
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

fn is_reserved(name: &str) -> bool {
    name.starts_with(':') || is_authority(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn set_overwrites_and_add_appends() {
        let headers = Headers {
            request: Some(HeaderOperations {
                set: map(&[("x-set", "1")]),
                add: map(&[("x-add", "2")]),
                remove: vec!["x-gone".into(), ":path".into(), "Host".into()],
            }),
            response: None,
        };
        let out = operations(Some(&headers));
        let actions: Vec<(String, i32)> = out
            .request_add
            .iter()
            .map(|option| (option.header.clone().unwrap().key, option.append_action))
            .collect();
        assert_eq!(
            actions,
            [
                ("x-set".to_owned(), HeaderAppendAction::OverwriteIfExistsOrAdd as i32),
                ("x-add".to_owned(), HeaderAppendAction::AppendIfExistsOrAdd as i32),
            ]
        );
        assert_eq!(out.request_remove, ["x-gone"]);
        assert!(out.response_add.is_empty() && out.authority.is_none());
    }

    #[test]
    fn the_authority_is_set_apart_and_other_pseudo_headers_are_left_out() {
        for name in ["Host", "host", ":authority"] {
            let headers = Headers {
                request: Some(HeaderOperations {
                    set: map(&[(name, "other"), (":path", "/x")]),
                    ..Default::default()
                }),
                response: None,
            };
            let out = operations(Some(&headers));
            assert_eq!(out.authority.as_deref(), Some("other"), "{name}");
            assert!(out.request_add.is_empty(), "{name}");
        }
    }
}
