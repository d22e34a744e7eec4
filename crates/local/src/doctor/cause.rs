//! Why the kernel refused something, as far as its settings tell; and the command that mends it. Pure, but for
//! [`Facts::read`].

use std::fs;
use std::path::Path;

use rustix::io::Errno;

use super::{Finding, Verdict};

/// Settings that make a kernel refuse namespaces. `None`: this kernel has no such setting.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The caller is root (of the host, or of a container).
    pub root: bool,
    /// Ubuntu's `kernel.apparmor_restrict_unprivileged_userns`.
    pub apparmor: Option<u64>,
    /// Debian's `kernel.unprivileged_userns_clone`.
    pub clone: Option<u64>,
    /// `user.max_user_namespaces`.
    pub user_max: Option<u64>,
    /// `user.max_net_namespaces`.
    pub net_max: Option<u64>,
    /// A filter of system calls is in force (`Seccomp: 2`).
    pub filtered: bool,
    /// This is a container.
    pub container: bool,
}

impl Facts {
    /// As this machine is now.
    pub fn read() -> Self {
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            root: rustix::process::geteuid().is_root(),
            apparmor: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            user_max: number("/proc/sys/user/max_user_namespaces"),
            net_max: number("/proc/sys/user/max_net_namespaces"),
            filtered: status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"])),
            container: ["/.dockerenv", "/run/.containerenv"].iter().any(|path| Path::new(path).exists()),
        }
    }
}

/// The flags that a container has to be started with, for a mesh to run in it.
pub const DOCKER: &str = "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined ...";

/// Namespaces were refused with this error.
pub fn namespaces(finding: Finding, facts: &Facts, errno: Option<Errno>) -> Finding {
    let without = "no mesh comes up without namespaces";
    if facts.user_max == Some(0) || errno == Some(Errno::NOSPC) {
        let max = facts.user_max.map_or("its limit".to_owned(), |max| max.to_string());
        return finding
            .means(format!("user.max_user_namespaces is {max}: {without}"))
            .fix("any", "sudo sysctl -w user.max_user_namespaces=15000");
    }
    if !facts.root && facts.clone == Some(0) {
        return finding
            .means(format!("kernel.unprivileged_userns_clone is 0: only root may make them; {without}"))
            .fix("Debian", "sudo sysctl -w kernel.unprivileged_userns_clone=1");
    }
    if !facts.root && facts.apparmor == Some(1) {
        return finding
            .means(format!(
                "AppArmor lets unprivileged programs have no rights in user namespaces; {without}"
            ))
            .fix("Ubuntu", "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0")
            .fix(
                "Ubuntu, for good",
                "echo kernel.apparmor_restrict_unprivileged_userns=0 | sudo tee /etc/sysctl.d/60-ostro.conf",
            );
    }
    if facts.filtered || facts.container {
        return finding
            .means(format!(
                "a filter of system calls (seccomp), as containers have it, refuses them; {without}"
            ))
            .fix("Docker", DOCKER)
            .fix("Podman", DOCKER.replace("docker", "podman"));
    }
    let finding = finding.means(format!("the kernel refuses them to this user; {without}"));
    match facts.root {
        false => finding
            .fix("any", "sudo -E ostro up ...")
            .fix("any", "grep -E 'CONFIG_(USER|PID|NET)_NS' /boot/config-$(uname -r)   # each must be y"),
        true => finding.fix("Docker", "docker run --privileged ..."),
    }
}

/// A network namespace was refused.
pub fn network(finding: Finding, facts: &Facts, errno: Option<Errno>) -> Finding {
    if facts.net_max == Some(0) || errno == Some(Errno::NOSPC) {
        return finding
            .means("user.max_net_namespaces is too low: each pod is a network namespace")
            .fix("any", "sudo sysctl -w user.max_net_namespaces=15000");
    }
    finding.means("each pod is a network namespace: no pod can be made").fix("Docker", DOCKER)
}

/// Capture rules were refused.
pub fn nftables(finding: Finding) -> Finding {
    finding
        .means("the kernel has no nf_tables with NAT: no traffic can be turned to a proxy, and no Service address works")
        .fix("Debian, Ubuntu, Fedora", "sudo modprobe -a nf_tables nft_chain_nat nft_redir nft_ct nf_conntrack")
        .fix("Debian (cloud kernels)", "sudo apt-get install linux-image-amd64 && sudo reboot")
        .fix("Fedora", "sudo dnf install kernel-modules && sudo reboot")
        .fix("Docker", "sudo modprobe -a nf_tables nft_chain_nat nft_redir nft_ct nf_conntrack   # on the host")
}

/// A pair of interfaces was refused.
pub fn veth(finding: Finding) -> Finding {
    finding
        .means("pods are tied to the mesh by pairs of interfaces (veth): none can be reached")
        .fix("Debian, Ubuntu, Fedora", "sudo modprobe veth")
        .fix("Fedora", "sudo dnf install kernel-modules && sudo modprobe veth")
        .fix("Docker", "sudo modprobe veth   # on the host")
}

/// A setting of the mesh's own network could not be written.
pub fn forwarding(finding: Finding) -> Finding {
    finding
        .means("/proc/sys cannot be written, nor a /proc of the mesh's own be mounted: packets do not pass between pods")
        .fix("Docker", DOCKER)
        .fix("Podman", "podman run --security-opt unmask=ALL --security-opt seccomp=unconfined ...")
        .fix("any", "sudo mount -o remount,rw /proc/sys")
}

/// A `/proc` of the sandbox's own was refused.
pub fn proc(finding: Finding) -> Finding {
    finding
        .means("parts of /proc are hidden here, so the kernel refuses a new one: pods see the processes of this machine")
        .fix("Docker", DOCKER)
        .fix("Podman", "podman run --security-opt unmask=ALL ...")
}

/// There is no IPv6.
pub fn ipv6(finding: Finding) -> Finding {
    Finding { verdict: Verdict::Warning, ..finding }
        .means("pods have IPv4 addresses only")
        .fix("Debian, Ubuntu, Fedora", "sudo modprobe ipv6")
        .fix("any", "sudo sysctl -w net.ipv6.conf.all.disable_ipv6=0")
        .fix("any, if booted with ipv6.disable=1", "take `ipv6.disable=1` out of the kernel's command line")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(facts: &Facts, errno: Errno) -> String {
        let finding = Finding::of("namespaces", Verdict::Missing, "x");
        namespaces(finding, facts, Some(errno)).fixes[0].command.clone()
    }

    #[test]
    fn each_refusal_has_its_own_fix() {
        let user = Facts { user_max: Some(5_000), clone: Some(1), apparmor: Some(0), ..Facts::default() };
        let cases = [
            (
                Facts { apparmor: Some(1), ..user.clone() },
                Errno::ACCESS,
                "apparmor_restrict_unprivileged_userns=0",
            ),
            (Facts { clone: Some(0), ..user.clone() }, Errno::PERM, "unprivileged_userns_clone=1"),
            (Facts { user_max: Some(0), ..user.clone() }, Errno::NOSPC, "max_user_namespaces=15000"),
            (Facts { filtered: true, ..user.clone() }, Errno::PERM, "seccomp=unconfined"),
            (Facts { container: true, root: true, ..user.clone() }, Errno::PERM, "seccomp=unconfined"),
            (user.clone(), Errno::PERM, "sudo -E ostro up"),
            // What binds an ordinary user does not bind root.
            (Facts { root: true, apparmor: Some(1), clone: Some(0), ..user }, Errno::PERM, "--privileged"),
        ];
        for (facts, errno, expected) in cases {
            let command = command(&facts, errno);
            assert!(command.contains(expected), "{facts:?}: {command}");
        }
    }
}
