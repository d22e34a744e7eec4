//! `envoy.filters.network.set_filter_state`: notes of a connection.

use envoy_types::pb::envoy::extensions::filters::network::set_filter_state::v3::Config;

use crate::Refusal;
use crate::filter_state::FilterStateRule;

/// What is noted of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionState {
    /// When it begins.
    pub on_new_connection: Vec<FilterStateRule>,
}

impl ConnectionState {
    pub(super) fn compile(proto: Config) -> Result<ConnectionState, Refusal> {
        let Config { on_new_connection, on_downstream_tls_handshake, on_downstream_data } = proto;
        let (on_downstream_tls_handshake, on_downstream_data) =
            (&on_downstream_tls_handshake, &on_downstream_data);
        refuse_if_set!(on_downstream_tls_handshake, on_downstream_data);
        let on_new_connection = FilterStateRule::compile_all(&on_new_connection, "on_new_connection")?;
        Ok(ConnectionState { on_new_connection })
    }
}
