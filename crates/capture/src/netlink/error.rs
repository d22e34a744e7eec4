//! What the kernel refuses, and what to do about it.

use std::io;

use rustix::io::Errno;

/// Why a batch is not in force, or something could not be read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The caller may not change (or see) this namespace's rules.
    #[error(
        "not allowed to change the packet rules of this network namespace: run as root, or in a user namespace that owns it (capability NET_ADMIN; in a container: --cap-add NET_ADMIN)"
    )]
    Permission,
    /// The kernel has no nf_tables.
    #[error(
        "this kernel has no nf_tables: load it (as root: modprobe nf_tables), or use the other back end (--backend iptables)"
    )]
    NoNfTables,
    /// The kernel has nf_tables, but not this part of it.
    #[error(
        "this kernel cannot do what {what} needs ({source}): load the module {module} (as root: modprobe {module}), or use the other back end (--backend iptables)"
    )]
    Missing {
        /// What was to be made.
        what: String,
        /// The module that has it.
        module: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
    /// The kernel refused something else.
    #[error("the kernel refused {what}: {source}")]
    Refused {
        /// What was to be made.
        what: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// More than one batch can carry.
    #[error(
        "{bytes} bytes of rules are more than the kernel takes at once ({source}); as root, allow more: sysctl -w net.core.wmem_max=8388608"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The kernel's word.
        source: io::Error,
    },
    /// A name or a set too long for the format.
    #[error("{what} does not fit into a netlink message")]
    TooLong {
        /// What.
        what: String,
    },
    /// The socket failed.
    #[error("{step}: {source}")]
    Socket {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Answers that make no sense. A bug of ours or the kernel's.
    #[error("the kernel's answer to {what} is not understood: {found}")]
    Answer {
        /// What was asked.
        what: String,
        /// What is wrong with the answer.
        found: &'static str,
    },
}

impl NetlinkError {
    /// A socket call that failed.
    pub(crate) fn socket(step: &'static str, error: Errno) -> Self {
        match error {
            Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT => NetlinkError::NoNfTables,
            Errno::PERM | Errno::ACCESS => NetlinkError::Permission,
            error => NetlinkError::Socket { step, source: error.into() },
        }
    }

    /// The kernel's answer to one message of a batch. `module` has what the message needs beyond the core.
    pub(crate) fn refused(what: String, module: Option<&'static str>, error: Errno) -> Self {
        let source = error.into();
        match (error, module) {
            (Errno::PERM | Errno::ACCESS, _) => NetlinkError::Permission,
            (Errno::OPNOTSUPP, None) => NetlinkError::NoNfTables,
            (Errno::NOENT | Errno::OPNOTSUPP | Errno::AFNOSUPPORT, Some(module)) => {
                NetlinkError::Missing { what, module, source }
            }
            _ => NetlinkError::Refused { what, source },
        }
    }
}
