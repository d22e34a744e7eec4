//! How the downstream connection is secured.

use envoy_types::pb::envoy::config::core::v3::TransportSocket;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;

use crate::Refusal;
use crate::refusal::{Within, is, unpack};

/// How the downstream connection is secured.
#[derive(Clone, Debug)]
pub enum DownstreamSocket {
    /// Not at all.
    Raw,
    /// By TLS.
    Tls {
        /// Must the client show a certificate?
        requires_client_certificate: bool,
        /// Certificates, validation, parameters.
        context: Box<DownstreamTlsContext>,
    },
}

impl DownstreamSocket {
    pub(crate) fn compile(socket: Option<&TransportSocket>) -> Result<DownstreamSocket, Refusal> {
        let Some(TransportSocket { name: _, config_type }) = socket else { return Ok(DownstreamSocket::Raw) };
        let Some(ConfigType::TypedConfig(config)) = config_type else {
            return Err(Refusal::unsupported("transport_socket without typed_config"));
        };
        if is::<RawBuffer>(config) {
            return Ok(DownstreamSocket::Raw);
        }
        if !is::<DownstreamTlsContext>(config) {
            return Err(Refusal::unsupported(&config.type_url).within("transport_socket"));
        }
        let context: DownstreamTlsContext = unpack(config).within(|| "transport_socket".to_owned())?;
        let requires_client_certificate =
            context.require_client_certificate.as_ref().is_some_and(|b| b.value);
        Ok(DownstreamSocket::Tls { requires_client_certificate, context: Box::new(context) })
    }
}
