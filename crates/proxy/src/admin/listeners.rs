//! `/listeners`: which listeners are bound where.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Admin;
use super::answer::Answer;
use super::query::Query;

pub(super) fn listeners(admin: &Arc<Admin>, query: &Query) -> Answer {
    if query.get("format") == Some("json") {
        let mut statuses = Vec::new();
        admin.subject.listeners(&mut |listener| {
            let mut status =
                json!({"name": listener.name, "local_address": socket_address(listener.address)});
            if !listener.additional.is_empty() {
                let additional = listener.additional.iter().copied().map(socket_address);
                status["additional_local_addresses"] = additional.collect();
            }
            statuses.push(status);
        });
        let all = if statuses.is_empty() { json!({}) } else { json!({"listener_statuses": statuses}) };
        return Answer::json(&all);
    }
    let mut text = String::new();
    admin.subject.listeners(&mut |listener| {
        for address in std::iter::once(&listener.address).chain(&listener.additional) {
            text.push_str(&format!("{}::{address}\n", listener.name));
        }
    });
    Answer::text(text)
}

/// An `envoy.config.core.v3.Address`.
pub(super) fn socket_address(address: SocketAddr) -> Value {
    let mut socket = json!({"address": address.ip().to_string()});
    // A default is not written.
    if address.port() != 0 {
        socket["port_value"] = json!(address.port());
    }
    json!({"socket_address": socket})
}
