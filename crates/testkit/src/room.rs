//! A machine of one's own, as far as somebody who types `ostro` can tell: no mesh runs on it, every port is free, and
//! what is below `/run` and [`HOME`] begins empty.
//!
//! A [`Room`] is a network namespace and a mount namespace. In it the names that people use (the mesh `default`, port
//! 8080) can be used by many tests at a time, and what is printed has the same paths on every machine. Needs root; what
//! runs in it is an ordinary user's.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rustix::mount::{MountFlags, mount, mount_bind};
use rustix::process::{Pid, Signal, kill_process};

use crate::envoy;
use crate::netns::Netns;
use crate::running::program;

/// An ordinary user that exists nowhere: between the ranges of people, of services, and of users made up for containers.
pub const USER: u32 = 54_321;
/// Where everything of the room is: programs in `bin`, the user's own directory in `here`.
pub const HOME: &str = "/srv";
/// Where the user's meshes are.
pub const RUNTIME: &str = "/run/user/1000";

/// The machine.
#[derive(Debug)]
pub struct Room {
    netns: Netns,
}

impl Room {
    /// Makes one. `lent` directories are found, by name, below [`HOME`], for reading.
    pub fn open(lent: &[(&str, &Path)]) -> Room {
        let netns = Netns::open(None).unwrap();
        let own: Vec<_> = lent.iter().map(|(name, path)| ((*name).to_owned(), path.to_path_buf())).collect();
        netns.thread(move || furnish(&own)).unwrap().unwrap();
        Room { netns }
    }

    /// Runs `work` in it; what it starts is in it as well.
    pub fn enter<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        // What went wrong was printed where it did.
        self.netns.thread(work).expect("what was done in the room succeeds")
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Whatever still runs in it; what a mesh consists of ends with the process that holds it. A room whose thread is
        // gone has nobody in it that could be found.
        let _ = self.netns.thread(|| {
            let home = |of: &str| fs::read_link(format!("/proc/{of}/ns/net")).ok();
            let (own, here) = (home("thread-self"), std::process::id().to_string());
            for pid in fs::read_dir("/proc").into_iter().flatten().flatten() {
                let pid = pid.file_name().to_string_lossy().into_owned();
                let number =
                    pid.parse().ok().and_then(Pid::from_raw).filter(|_| pid != here && home(&pid) == own);
                if let Some(number) = number {
                    // One that has ended already cannot be killed.
                    let _ = kill_process(number, Signal::KILL);
                }
            }
        });
    }
}

fn furnish(lent: &[(String, std::path::PathBuf)]) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let home = Path::new(HOME);
    mount("tmpfs", "/run", "tmpfs", flags, c"mode=0755")?;
    mount("tmpfs", home, "tmpfs", flags, c"mode=0755")?;
    let bin = program("ostro").parent().expect("a program is in a directory").to_path_buf();
    for (name, path) in [("bin".to_owned(), bin)].iter().chain(lent) {
        let place = home.join(name);
        fs::create_dir_all(&place)?;
        mount_bind(path, &place)?;
    }
    // By its name, so that it is found where `cargo xtask setup` would have put it.
    let place = home.join(format!("tools/envoy-{}", envoy::VERSION));
    fs::create_dir_all(&place)?;
    let file = place.join("envoy");
    fs::write(&file, "")?;
    mount_bind(envoy::binary(), &file)?;
    for own in [&home.join("here"), &home.join("tmp"), Path::new(RUNTIME)] {
        fs::create_dir_all(own)?;
        fs::set_permissions(own, Permissions::from_mode(0o700))?;
        chown(own, Some(USER), Some(USER))?;
    }
    Ok(())
}

/// A command of the room's user, in the user's own directory. To be started in the room.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .uid(USER)
        .gid(USER)
        .env_clear()
        .env("PATH", format!("{HOME}/bin:/usr/local/bin:/usr/bin:/bin"))
        .env("HOME", format!("{HOME}/here"))
        .env("TMPDIR", format!("{HOME}/tmp"))
        .env("XDG_RUNTIME_DIR", RUNTIME)
        .current_dir(format!("{HOME}/here"));
    command
}
