//! Extensions that a bootstrap names.

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::bootstrap::internal_listener::v3::InternalListener;
use envoy_types::pb::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use envoy_types::pb::envoy::extensions::network::dns_resolver::getaddrinfo::v3::GetAddrInfoDnsResolverConfig;
use envoy_types::pb::envoy::extensions::regex_engines::v3::GoogleRe2;

use crate::Refusal;
use crate::refusal::{Within, is, unpack};

/// Internal listeners need nothing to be set up.
pub(super) fn check(extensions: &[TypedExtensionConfig]) -> Result<(), Refusal> {
    for extension in extensions {
        match &extension.typed_config {
            Some(config) if is::<InternalListener>(config) => {
                unpack::<InternalListener>(config).map(|_| ())?;
            }
            _ => return Err(Refusal::unsupported(extension.name.clone())),
        }
    }
    Ok(())
}

/// Names are looked up with the system's resolvers, whichever library is asked for. Tuning of `c-ares` (queries for each
/// socket, tries) has no counterpart; name servers of its own would be something else.
pub(super) fn check_resolver(resolver: Option<&TypedExtensionConfig>) -> Result<(), Refusal> {
    let Some(resolver) = resolver else { return Ok(()) };
    match &resolver.typed_config {
        Some(config) if is::<CaresDnsResolverConfig>(config) => {
            let CaresDnsResolverConfig { resolvers, use_resolvers_as_fallback, .. } = unpack(config)?;
            let (resolvers, use_resolvers_as_fallback) = (&resolvers, &use_resolvers_as_fallback);
            let refuse = || -> Result<(), Refusal> {
                refuse_if_set!(resolvers, use_resolvers_as_fallback);
                Ok(())
            };
            refuse().within(|| resolver.name.clone())
        }
        Some(config) if is::<GetAddrInfoDnsResolverConfig>(config) => Ok(()),
        _ => Err(Refusal::unsupported(resolver.name.clone())),
    }
}

/// There is one engine of regular expressions: RE2's.
pub(super) fn check_regex_engine(engine: Option<&TypedExtensionConfig>) -> Result<(), Refusal> {
    match engine {
        None => Ok(()),
        Some(TypedExtensionConfig { typed_config: Some(config), .. }) if is::<GoogleRe2>(config) => Ok(()),
        Some(other) => Err(Refusal::unsupported(other.name.clone())),
    }
}
