//! `envoy.filters.http.set_filter_state`: notes of a request.

use envoy_types::pb::envoy::extensions::filters::http::set_filter_state::v3::Config;

use crate::Refusal;
use crate::filter_state::FilterStateRule;

/// What is noted of a request.
#[derive(Clone, Debug)]
pub struct RequestState {
    /// When its head has come.
    pub on_request_headers: Vec<FilterStateRule>,
}

impl RequestState {
    pub(super) fn compile(proto: &Config) -> Result<RequestState, Refusal> {
        let Config { on_request_headers, clear_route_cache } = proto;
        refuse_if_set!(clear_route_cache);
        let on_request_headers = FilterStateRule::compile_all(on_request_headers, "on_request_headers")?;
        Ok(RequestState { on_request_headers })
    }
}
