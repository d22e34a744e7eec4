//! What a proxy says it can do, beyond the extensions compiled into it: read from its node's metadata.

use ostro_mesh::View;

/// Metadata key of a proxy that is given certificates by SDS: `true` where an agent stands beside it, or where its
/// operator knows that the control plane has the secrets that Gateways name.
pub const SDS: &str = "SDS";

/// Whether the proxy can be told to fetch certificates by SDS.
///
/// A listener or cluster that refers to a secret waits for it, so a proxy that nobody will ever send one would wait for
/// ever. It goes without the chains that need certificates.
pub fn fetches_certificates(view: &View<'_>) -> bool {
    view.metadata(SDS) == "true"
}
