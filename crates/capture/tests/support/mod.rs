//! Network namespaces for tests.

use std::process::Command;
use std::thread;

use rustix::thread::UnshareFlags;

/// Runs `work` on a thread in a network namespace of its own (needs root), which goes with it.
pub fn in_namespace<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: only a namespace is unshared, not the table of file descriptors.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
                .expect("these tests make network namespaces: run them as root");
            ip("link set lo up");
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What `nft list ruleset` says in the calling thread's namespace.
pub fn nft_list() -> String {
    let output =
        Command::new("nft").args(["-s", "list", "ruleset"]).output().expect("nft (Debian: nftables)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `ip` with these arguments in the calling thread's namespace.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip (Debian: iproute2)");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
