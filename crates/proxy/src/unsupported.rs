//! What the engine understands and this proxy does not carry out: refused by name, never left out in silence.

use ostro_engine::SocketOption;
use ostro_engine::cluster::Bind;

/// Configuration that is not carried out here. Whoever wrote it is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}")]
pub(crate) struct Unsupported {
    /// The field.
    place: String,
    /// Why not.
    why: String,
}

type Check = Result<(), Unsupported>;

/// Where connections come from.
pub(crate) fn bind(bind: &Bind) -> Check {
    options(&bind.options)
}

fn options(options: &[SocketOption]) -> Check {
    let refused = |why| Unsupported { place: "socket_options".to_owned(), why };
    options.iter().try_for_each(|option| crate::config::socket_option(option).map(|_| ()).map_err(refused))
}
