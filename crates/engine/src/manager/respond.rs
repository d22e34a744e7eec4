//! What becomes of a response's head before it goes to the client.

use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager as Proto;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::ServerHeaderTransformation;
use http::{HeaderName, HeaderValue, header};

use super::HttpManager;
use crate::names::{KEEP_ALIVE, PROXY_CONNECTION, X_ENVOY_FORCE_TRACE};
use crate::proto::{enumeration, header_value};
use crate::request_id::X_REQUEST_ID;
use crate::{Headers, Refusal, Request};

/// What `server` says in responses.
#[derive(Clone, Debug)]
pub struct ServerHeader {
    name: HeaderValue,
    transformation: ServerHeaderTransformation,
}

impl ServerHeader {
    pub(super) fn compile(proto: &Proto) -> Result<ServerHeader, Refusal> {
        let name = match proto.server_name.as_str() {
            "" => HeaderValue::from_static("envoy"),
            name => header_value(name, "server_name")?,
        };
        let transformation = enumeration(proto.server_header_transformation, "server_header_transformation")?;
        Ok(ServerHeader { name, transformation })
    }

    fn apply(&self, response: &mut Headers) {
        let overwrites = match self.transformation {
            ServerHeaderTransformation::Overwrite => true,
            ServerHeaderTransformation::AppendIfAbsent => !response.contains(&header::SERVER),
            ServerHeaderTransformation::PassThrough => false,
        };
        if overwrites {
            response.set(header::SERVER, self.name.clone());
        }
    }
}

impl HttpManager {
    /// Does with a response's headers what is done to all: `date` if there is none, `server`, `via`, the request's id if it
    /// is to be told; hop-by-hop headers go. `request` is the request as it was admitted; `is_upgrade` says that the
    /// response accepts an upgrade, and keeps the headers that do so.
    pub fn finish_response(
        &self,
        response: &mut Headers,
        request: &Request,
        date: &HeaderValue,
        is_upgrade: bool,
    ) {
        if !response.contains(&header::DATE) {
            response.append(header::DATE, date.clone());
        }
        self.server.apply(response);
        remove_hop_by_hop(response, is_upgrade);
        let tells_id = self.request_id.always_in_response || request.headers.contains(&X_ENVOY_FORCE_TRACE);
        if tells_id && let Some(id) = request.headers.get(&X_REQUEST_ID) {
            response.set(X_REQUEST_ID, id.clone());
        }
        if let Some(via) = &self.via {
            add_to_list(response, header::VIA, via);
        }
    }
}

/// Removes headers that are about one connection only.
pub(super) fn remove_hop_by_hop(headers: &mut Headers, is_upgrade: bool) {
    headers.retain(|name, _| {
        let is_of_upgrade = *name == header::CONNECTION || *name == header::UPGRADE;
        let is_of_hop =
            *name == header::TRANSFER_ENCODING || *name == KEEP_ALIVE || *name == PROXY_CONNECTION;
        !is_of_hop && (is_upgrade || !is_of_upgrade)
    });
}

/// Adds to a header that is a list.
pub(super) fn add_to_list(headers: &mut Headers, name: HeaderName, value: &HeaderValue) {
    let mut list = Vec::new();
    for before in headers.get_all(&name) {
        list.extend_from_slice(before.as_bytes());
        list.extend_from_slice(b", ");
    }
    if list.is_empty() {
        return headers.append(name, value.clone());
    }
    list.extend_from_slice(value.as_bytes());
    // Valid values with a comma between them are a valid value.
    if let Ok(list) = HeaderValue::from_maybe_shared(bytes::Bytes::from(list)) {
        headers.set(name, list);
    }
}
