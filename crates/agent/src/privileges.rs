//! What a program may do: the change of user and of capabilities between fork and exec.
//!
//! A program stands where a container would. As root it runs as a user of its own; in a user namespace that
//! maps a single user it can only run as that one, who is root there and would have every capability. Either
//! way it keeps one: to listen on ports below 1024.

use std::io;

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, configure_capability_in_ambient_set, remove_capability_from_bounding_set,
    set_capabilities, set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

/// What a program may do beyond what its user may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileges {
    /// What the caller may, as far as the change of user leaves it.
    Inherited,
    /// To listen on ports below 1024, and nothing else, whoever it runs as. Programs it executes cannot gain
    /// more.
    Program,
}

/// Numbers of capabilities; those the kernel does not know are passed over.
const CAPABILITIES: u32 = 64;

impl Privileges {
    /// Changes user and capabilities of the calling process, which has one thread: it runs between fork and
    /// exec, and so allocates nothing.
    pub(crate) fn enter(self, user: Option<u32>) -> io::Result<()> {
        if self == Self::Program {
            bound()?;
            // Or the change of user would take the one that is to be kept.
            set_keep_capabilities(true)?;
        }
        if let Some(id) = user {
            let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
            set_thread_groups(&[])?;
            set_thread_res_gid(gid, gid, gid)?;
            set_thread_res_uid(uid, uid, uid)?;
        }
        if self == Self::Program {
            let kept = CapabilitySet::NET_BIND_SERVICE;
            let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
            set_capabilities(None, sets)?;
            configure_capability_in_ambient_set(kept, true)?;
        }
        Ok(())
    }
}

/// Nothing executed from here on has more than the one capability, root's programs included.
fn bound() -> io::Result<()> {
    for number in 0..CAPABILITIES {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if capability == CapabilitySet::NET_BIND_SERVICE {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Not one that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::time::Duration;

    use super::*;
    use crate::process::{Output, Process, Surroundings};

    /// What `/bin/sh -c script` writes.
    async fn said(script: &str, user: Option<u32>, privileges: Privileges) -> String {
        let process = Process {
            args: ["-c", script].map(Into::into).to_vec(),
            output: Output::Pipe,
            surroundings: Surroundings::Bare,
            user,
            privileges,
            ..Process::new("a shell", "/bin/sh")
        };
        let mut started = process.start().unwrap();
        let mut output = started.output().unwrap();
        let status = tokio::time::timeout(Duration::from_secs(20), started.wait()).await.unwrap().unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert!(status.success(), "{text}");
        text
    }

    /// The values of the capability sets in `/proc/self/status`, by their names.
    fn sets(status: &str) -> Vec<(&str, u64)> {
        let lines = status.lines().filter_map(|line| line.split_once(':'));
        lines
            .filter(|(name, _)| name.starts_with("Cap"))
            .map(|(name, value)| (name, u64::from_str_radix(value.trim(), 16).unwrap()))
            .collect()
    }

    /// Bit 10.
    const BIND: u64 = 1 << 10;

    #[tokio::test]
    async fn a_program_may_bind_low_ports_and_nothing_else_whoever_it_runs_as() {
        for user in [None, Some(65_534)] {
            let status = said("/bin/cat /proc/self/status", user, Privileges::Program).await;
            for (set, value) in sets(&status) {
                assert_eq!(value, BIND, "{set} as {user:?}");
            }
        }
        let status = said("/bin/cat /proc/self/status", Some(65_534), Privileges::Program).await;
        let ids = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
        assert_eq!(ids.split_whitespace().collect::<Vec<_>>(), ["Uid:", "65534", "65534", "65534", "65534"]);
        let groups = status.lines().find(|line| line.starts_with("Groups:")).unwrap();
        assert_eq!(groups.trim(), "Groups:");
    }

    #[tokio::test]
    async fn a_program_that_is_root_cannot_act_as_root() {
        let script = "/bin/chown 1:1 /proc/self/fd/1 2>&1 && echo changed || echo refused";
        let text = said(script, None, Privileges::Program).await;
        assert!(text.contains("refused"), "{text}");
        let all = said("/bin/cat /proc/self/status", None, Privileges::Inherited).await;
        let permitted = sets(&all).into_iter().find(|(name, _)| *name == "CapPrm").unwrap().1;
        assert_ne!(permitted & !BIND, 0, "this test runs as root");
    }

    #[tokio::test]
    async fn the_environment_is_its_own() {
        assert_eq!(said("echo \"<$HOME>\"", None, Privileges::Program).await.trim(), "<>");
    }
}
