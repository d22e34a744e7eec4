//! What only a child can try: the sandbox of a mesh and what is in it, by the very functions that a mesh is made with.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use ostro_capture::Config;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::net::{AddressFamily, SocketType, socket};
use serde::{Deserialize, Serialize};

use super::cause::{self, Facts};
use super::{Finding, Verdict};
use crate::link::{self, LinkError};
use crate::place::Place;
use crate::{rules, sandbox};

/// What is tried, in this order; each needs all that is fatal before it.
const STEPS: [(Step, &str, &str); 7] = [
    (Step::Namespaces, "namespaces", "making user, mount and process namespaces"),
    (Step::Proc, "proc", "mounting a /proc of the sandbox's own"),
    (Step::Network, "network", "making a network namespace"),
    (Step::Forwarding, "forwarding", "letting the mesh's own network pass packets (ip_forward)"),
    (Step::Veth, "veth", "making a pair of interfaces"),
    (Step::Nftables, "nftables", "loading capture rules (nf_tables, NAT)"),
    (Step::Ipv6, "ipv6", "opening an IPv6 socket in a pod"),
];

/// The address of a pod that only the doctor sees.
const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Step {
    Namespaces,
    Proc,
    Network,
    Forwarding,
    Veth,
    Nftables,
    Ipv6,
}

impl Step {
    /// No mesh comes up without it.
    fn is_fatal(self) -> bool {
        !matches!(self, Step::Proc | Step::Ipv6)
    }
}

/// What a child tells of a step: a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Tried {
    step: Step,
    /// `None`: it worked.
    refused: Option<Refusal>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    said: String,
    errno: Option<i32>,
}

/// The child: tries, and tells on standard output. Has to be called before the process has a second thread.
pub fn attempt() -> io::Result<()> {
    if let Err(error) = sandbox::enter(|_| ()) {
        return tell(Step::Namespaces, Some(refusal(&error, error.source.raw_os_error())));
    }
    tell(Step::Namespaces, None)?;
    let own = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mounted = mount("proc", "/proc", "proc", own, None).map_err(io::Error::from);
    tell(Step::Proc, mounted.err().map(|error| refusal(&error, error.raw_os_error())))?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(in_sandbox())
}

async fn in_sandbox() -> io::Result<()> {
    let open = |name: &str| Place::open(name, || Ok(()));
    let (mesh, pod) = match open("mesh").and_then(|mesh| Ok((mesh, open("pod")?))) {
        Ok(places) => places,
        Err(error) => return tell(Step::Network, Some(refusal(&error, error.raw_os_error()))),
    };
    tell(Step::Network, None)?;
    if let Err(error) = link::ground(&mesh).await {
        // It fails with the first request to the kernel if there is no such request at all.
        let step = if matches!(&error, LinkError::Io { .. }) { Step::Forwarding } else { Step::Veth };
        return tell(step, Some(refusal(&error, link_errno(&error))));
    }
    tell(Step::Forwarding, None)?;
    if let Err(error) = link::attach(&mesh, &pod, 1, POD).await {
        return tell(Step::Veth, Some(refusal(&error, link_errno(&error))));
    }
    tell(Step::Veth, None)?;
    let loaded = rules::load(&pod, &Config::sidecar()).await;
    tell(Step::Nftables, loaded.err().map(|error| refusal(&error, None)))?;
    let opened = pod.spawn(async {
        if !link::has_ipv6() {
            return Err(io::Error::from(Errno::AFNOSUPPORT));
        }
        socket(AddressFamily::INET6, SocketType::STREAM, None).map(drop).map_err(io::Error::from)
    });
    let opened = opened.await.map_err(io::Error::other)?;
    tell(Step::Ipv6, opened.err().map(|error| refusal(&error, error.raw_os_error())))
}

fn link_errno(error: &LinkError) -> Option<i32> {
    match error {
        LinkError::Io { source, .. } => source.raw_os_error(),
        LinkError::Netlink { .. } => None,
    }
}

fn refusal(error: &dyn std::error::Error, errno: Option<i32>) -> Refusal {
    Refusal { said: error.to_string(), errno }
}

fn tell(step: Step, refused: Option<Refusal>) -> io::Result<()> {
    let line = serde_json::to_string(&Tried { step, refused })?;
    writeln!(io::stdout(), "{line}")
}

/// Lets a child try, and says what came of it.
pub fn sandboxed(ostro: &Path) -> Vec<Finding> {
    let child = Command::new(ostro)
        .args(["doctor", "--try"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output();
    let (tried, complaint) = match child {
        Ok(output) => {
            let lines = String::from_utf8_lossy(&output.stdout);
            let tried = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            (tried, String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
        Err(error) => (Vec::new(), format!("{}: {error}", ostro.display())),
    };
    judge(&tried, &complaint, &Facts::read())
}

/// Steps that a child told of, as findings. One that it did not come to was kept from it by the one before.
fn judge(tried: &[Tried], complaint: &str, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut lacking: Option<&str> = None;
    for (step, piece, what) in STEPS {
        let told = tried.iter().find(|tried| tried.step == step);
        let finding = match (told, lacking) {
            (Some(Tried { refused: None, .. }), _) => Finding::ok(piece, what),
            (Some(Tried { refused: Some(refusal), .. }), _) => refused(step, piece, what, refusal, facts),
            (None, Some(other)) => Finding::of(piece, Verdict::Skipped, what).means(format!("needs {other}")),
            // The child ended without a word.
            (None, None) => Finding::of(piece, Verdict::Missing, what)
                .said(complaint)
                .means("the try itself ended early")
                .fix("any", "ostro doctor --try"),
        };
        if finding.verdict == Verdict::Missing {
            lacking.get_or_insert(piece);
        }
        findings.push(finding);
    }
    findings
}

fn refused(step: Step, piece: &str, what: &str, refusal: &Refusal, facts: &Facts) -> Finding {
    let verdict = if step.is_fatal() { Verdict::Missing } else { Verdict::Warning };
    let finding = Finding::of(piece, verdict, what).said(&refusal.said);
    let errno = refusal.errno.map(Errno::from_raw_os_error);
    match step {
        Step::Namespaces => cause::namespaces(finding, facts, errno),
        Step::Proc => cause::proc(finding),
        Step::Network => cause::network(finding, facts, errno),
        Step::Forwarding => cause::forwarding(finding),
        Step::Veth => cause::veth(finding),
        Step::Nftables => cause::nftables(finding),
        Step::Ipv6 => cause::ipv6(finding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(step: Step, said: Option<&str>) -> Tried {
        Tried { step, refused: said.map(|said| Refusal { said: said.into(), errno: None }) }
    }

    #[test]
    fn what_needs_something_missing_is_skipped_not_blamed() {
        let told =
            [tried(Step::Namespaces, None), tried(Step::Proc, Some("no")), tried(Step::Network, Some("no"))];
        let findings = judge(&told, "", &Facts::default());
        let verdicts: Vec<Verdict> = findings.iter().map(|finding| finding.verdict).collect();
        use Verdict::{Missing, Ok, Skipped, Warning};
        assert_eq!(verdicts, [Ok, Warning, Missing, Skipped, Skipped, Skipped, Skipped]);
        assert_eq!(findings[3].means, "needs network");
    }

    #[test]
    fn a_child_that_says_nothing_is_not_a_good_sign() {
        let findings = judge(&[], "Killed", &Facts::default());
        assert_eq!((findings[0].verdict, findings[0].said.as_str()), (Verdict::Missing, "Killed"));
    }
}
