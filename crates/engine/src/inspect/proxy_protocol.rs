//! The PROXY protocol, as a listener wants it. Whoever owns the bytes reads the header.

use envoy_types::pb::envoy::config::core::v3::proxy_protocol_config::Version;
use envoy_types::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol as Proto;

use crate::Refusal;
use crate::proto::enumeration;

/// Connections begin with a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Those that do not are taken too.
    pub may_be_absent: bool,
    /// A header of version 1 counts; otherwise it is none, and so, if one must be there, wrong.
    pub allows_v1: bool,
    /// The same of version 2.
    pub allows_v2: bool,
}

impl ProxyProtocol {
    pub(super) fn compile(proto: &Proto) -> Result<ProxyProtocol, Refusal> {
        let Proto {
            rules,
            allow_requests_without_proxy_protocol,
            pass_through_tlvs,
            disallowed_versions,
            // A name of counters.
            stat_prefix: _,
            tlv_location,
        } = proto;
        refuse_if_set!(rules, pass_through_tlvs, tlv_location);
        let disallowed: Vec<Version> = disallowed_versions
            .iter()
            .map(|version| enumeration(*version, "disallowed_versions"))
            .collect::<Result<_, _>>()?;
        Ok(ProxyProtocol {
            may_be_absent: *allow_requests_without_proxy_protocol,
            allows_v1: !disallowed.contains(&Version::V1),
            allows_v2: !disallowed.contains(&Version::V2),
        })
    }
}
