//! A program run in a terminal of its own, and what is to be seen there.
//!
//! The terminal is the kernel's (a pseudo-terminal) and a parser of control sequences (`vt100`): tests see the
//! screen that a person would, not the bytes that were sent.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

/// Bytes kept of what the program wrote.
const RAW_MAX: usize = 4 << 20;

struct Seen {
    parser: vt100::Parser,
    raw: Vec<u8>,
    closed: bool,
}

/// A program in a terminal. Dropped, the program is killed.
pub struct Session {
    child: Child,
    keyboard: File,
    slave: OwnedFd,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

impl Session {
    /// Starts `command` in a terminal of so many columns and rows.
    pub fn start(mut command: Command, columns: u16, rows: u16) -> Session {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap();
        resize(&slave, columns, rows);
        let end = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: both calls are async-signal-safe, and touch nothing of the parent.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let keyboard = File::from(master);
        let seen =
            Seen { parser: vt100::Parser::new(size(rows), size(columns), 0), raw: Vec::new(), closed: false };
        let seen = Arc::new((Mutex::new(seen), Condvar::new()));
        let (mut output, watched) = (keyboard.try_clone().unwrap(), seen.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            loop {
                let count = output.read(&mut bytes).unwrap_or(0);
                let mut seen = watched.0.lock().unwrap();
                seen.parser.process(&bytes[..count]);
                if seen.raw.len() < RAW_MAX {
                    seen.raw.extend(&bytes[..count]);
                }
                seen.closed |= count == 0;
                watched.1.notify_all();
                if seen.closed {
                    return;
                }
            }
        });
        Session { child, keyboard, slave, seen }
    }

    /// Waits until the screen is as `wanted`; what it is then. Fails, showing it, if that takes longer than `limit`.
    pub fn until(&self, what: &str, limit: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + limit;
        let mut seen = self.seen.0.lock().unwrap();
        loop {
            let text = text_of(&seen.parser);
            if wanted(&text) {
                return text;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || seen.closed {
                // Not to poison what the reading thread needs.
                drop(seen);
                panic!("{what} was not seen; the screen is:\n{text}");
            }
            seen = self.seen.1.wait_timeout(seen, left).unwrap().0;
        }
    }

    /// Types.
    pub fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Gives the terminal another size, as somebody who drags its corner does.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.seen.0.lock().unwrap().parser.screen_mut().set_size(size(rows), size(columns));
        resize(&self.slave, columns, rows);
    }

    /// Process id of the program.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the program to end.
    pub fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// How the terminal treats keys now.
    pub fn modes(&self) -> Termios {
        tcgetattr(self.slave.as_fd()).unwrap()
    }

    /// True while the second screen is shown, or the cursor is hidden: what no shell should find.
    pub fn is_taken(&self) -> bool {
        let seen = self.seen.0.lock().unwrap();
        seen.parser.screen().alternate_screen() || seen.parser.screen().hide_cursor()
    }

    /// Everything written so far, control sequences included.
    pub fn raw(&self) -> Vec<u8> {
        self.seen.0.lock().unwrap().raw.clone()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(count: u16) -> NonZero<u16> {
    NonZero::new(count).expect("a terminal has lines and columns")
}

fn resize(terminal: &OwnedFd, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}

/// The screen, line by line, without blanks at the ends.
fn text_of(parser: &vt100::Parser) -> String {
    let (_, columns) = parser.screen().size();
    parser.screen().rows(0, columns.get()).map(|line| line.trim_end().to_owned() + "\n").collect()
}
