//! Who programs and proxies run as, and how capture rules know the proxy's own traffic.
//!
//! With all users at hand, as Kubernetes has it: the proxy is user 1337, programs are nobody. Where only one user is
//! mapped, everything is that user; the proxy marks what it sends (`SO_MARK`), and programs lack the capability to.

use ostro_capture::PROXY_ID;

use crate::sandbox;

/// The user that programs run as: `nobody`, and in any case not the proxy's.
const PROGRAM_USER: u32 = 65_534;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The proxy is known by its user.
    Users,
    /// There is one user; the proxy is known by its mark.
    Mark,
}

impl Identity {
    /// What is possible in the calling process.
    pub fn of_process() -> Self {
        if sandbox::has_users() { Identity::Users } else { Identity::Mark }
    }

    /// User and group of proxies, if not the caller's.
    pub fn proxy_user(self) -> Option<u32> {
        (self == Identity::Users).then_some(PROXY_ID)
    }

    /// User and group of programs, if not the caller's.
    pub fn program_user(self) -> Option<u32> {
        (self == Identity::Users).then_some(PROGRAM_USER)
    }

    /// The mark of what the proxy sends.
    pub fn mark(self) -> Option<u32> {
        (self == Identity::Mark).then_some(PROXY_ID)
    }
}
