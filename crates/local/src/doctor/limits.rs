//! How much there is of what a mesh uses: descriptors, processes, watches, memory, disk.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::inotify;
use rustix::process::{Resource, getrlimit};

use super::{Finding, Verdict, nearest};

/// Descriptors: a pod takes about 20 of the mesh's process, and a hundred of them should fit.
const FILES: u64 = 4_096;
/// Processes and threads: a pod has about ten.
const PROCESSES: u64 = 1_024;
/// Bytes of memory for a small mesh: an Envoy takes about 30 MB.
const MEMORY: u64 = 512 << 20;
/// Bytes of disk: logs are bounded by some MB a pod.
const DISK: u64 = 256 << 20;

/// Descriptors, processes, watches.
pub fn all() -> Vec<Finding> {
    vec![files(), processes(), watches()]
}

fn files() -> Finding {
    let limit = getrlimit(Resource::Nofile);
    let (now, most) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    let tried = format!("asking how many files may be open: {}", amount(now));
    if now >= FILES {
        return Finding::ok("files", tried);
    }
    let finding = Finding::of("files", Verdict::Warning, tried)
        .said(format!("RLIMIT_NOFILE is {now}, at most {}", amount(most)))
        .means(format!("a mesh of more than {} pods runs out of descriptors", now / 20));
    let finding = match most >= FILES {
        true => finding.fix("any", format!("ulimit -n {FILES}")),
        false => finding.fix(
            "Debian, Ubuntu, Fedora",
            format!("echo \"$USER - nofile {FILES}\" | sudo tee /etc/security/limits.d/60-ostro.conf   # then log in anew"),
        ),
    };
    finding.fix("Docker", format!("docker run --ulimit nofile={FILES} ..."))
}

fn processes() -> Finding {
    let own = getrlimit(Resource::Nproc).current.unwrap_or(u64::MAX);
    let group = cgroup("pids", "pids.max").unwrap_or(u64::MAX);
    let least = own.min(group);
    let tried = format!("asking how many processes there may be: {}", amount(least));
    if least >= PROCESSES {
        return Finding::ok("processes", tried);
    }
    Finding::of("processes", Verdict::Warning, tried)
        .said(format!("RLIMIT_NPROC is {}, the control group's pids.max {}", amount(own), amount(group)))
        .means(format!("a mesh of more than {} pods runs out of processes", least / 10))
        .fix("any", "ulimit -u unlimited")
        .fix("systemd", format!("sudo systemctl set-property user-$(id -u).slice TasksMax={}", PROCESSES * 8))
        .fix("Docker", "docker run --pids-limit -1 ...")
}

/// Files are followed by inotify: one instance, a watch for each directory.
fn watches() -> Finding {
    let tried = "following a directory (inotify)";
    let watched = inotify::init(inotify::CreateFlags::CLOEXEC)
        .and_then(|instance| inotify::add_watch(&instance, "/", inotify::WatchFlags::CREATE).map(drop));
    match watched {
        Ok(()) => Finding::ok("watches", tried),
        Err(error) => Finding::of("watches", Verdict::Missing, tried)
            .said(error)
            .means("files cannot be followed: this user's inotify instances or watches are used up")
            .fix(
                "any",
                "sudo sysctl -w fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=524288",
            ),
    }
}

/// Memory that is free, of the machine and of the control group.
pub fn memory() -> Finding {
    let available = meminfo("MemAvailable:").unwrap_or(u64::MAX);
    let group = cgroup("memory", "memory.max")
        .or_else(|| cgroup("memory", "memory.limit_in_bytes"))
        // Version 1 says "no limit" with a number near the largest.
        .filter(|limit| *limit < 1 << 60);
    let least = available.min(group.unwrap_or(u64::MAX));
    let tried = format!("asking how much memory there is: {} MB", least >> 20);
    if least >= MEMORY {
        return Finding::ok("memory", tried);
    }
    Finding::of("memory", Verdict::Warning, tried)
        .said(format!(
            "MemAvailable is {} MB, the control group's limit {}",
            available >> 20,
            group.map_or("none".to_owned(), |limit| format!("{} MB", limit >> 20))
        ))
        .means("each proxy takes about 30 MB: the kernel may end some")
        .fix("any", "annotate pods that need no proxy with sidecar.istio.io/inject: \"false\"")
        .fix("Docker", "docker run --memory 4g ...")
}

/// Room and rights where the mesh keeps its state.
pub fn disk(state: &Path) -> Finding {
    let place = nearest(state);
    let tried = format!("writing to {}", place.display());
    if let Err(error) = tempfile_in(place) {
        return Finding::of("disk", Verdict::Missing, tried)
            .said(error)
            .means("the mesh cannot keep its state there")
            .fix("any", "ostro up --state-dir $HOME/.local/state/ostro ...");
    }
    let free = rustix::fs::statvfs(place).map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
    if free >= DISK {
        return Finding::ok("disk", tried);
    }
    Finding::of("disk", Verdict::Warning, tried)
        .said(format!("{} MB are free", free >> 20))
        .means("logs and state may not fit")
        .fix("any", "ostro up --state-dir DIR ...   # on a larger file system")
}

/// Makes a file that has no name, or one that goes at once.
fn tempfile_in(dir: &Path) -> std::io::Result<()> {
    let path = dir.join(format!(".ostro-doctor-{}", std::process::id()));
    fs::write(&path, b"x")?;
    fs::remove_file(&path)
}

fn meminfo(key: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kb| kb << 10)
}

/// A limit of the control group that this process is in; of version 2, or of `controller` of version 1. `None` is no
/// limit, or none to be seen.
fn cgroup(controller: &str, file: &str) -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let dirs = own.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, of, path) = (parts.next()?, parts.next()?, parts.next()?.trim_start_matches('/'));
        match of {
            "" => Some(PathBuf::from("/sys/fs/cgroup").join(path)),
            of if of.split(',').any(|name| name == controller) => {
                Some(Path::new("/sys/fs/cgroup").join(controller).join(path))
            }
            _ => None,
        }
    });
    // The nearest group that has a limit binds; its parents' are left to the kernel.
    dirs.filter_map(|dir| fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()).min()
}

fn amount(number: u64) -> String {
    if number == u64::MAX { "unlimited".to_owned() } else { number.to_string() }
}
