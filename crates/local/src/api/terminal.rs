//! The caller's terminal, lent to a program in a pod.
//!
//! The program gets a terminal of its own (a pseudo-terminal), so that it has job control and full-screen
//! programs work; ours passes on what is typed and what is shown, and its size. Ours is set back when the
//! program has ended.

use std::fs::File;
use std::future::Future;
use std::io::{self, IsTerminal as _, Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How long what the program has shown last may take to be read, if something it has left behind keeps its
/// terminal open.
const LAST_WORDS_MAX: Duration = Duration::from_millis(500);
/// Bytes passed on at a time.
const CHUNK: usize = 16 << 10;

/// Our terminal and the program's.
#[derive(Debug)]
pub struct Relay {
    control: File,
    before: Termios,
}

impl Relay {
    /// Begins to lend the terminal, with the program's end of it; `None` if standard input and output are not one.
    pub fn begin() -> io::Result<Option<(Self, OwnedFd)>> {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Ok(None);
        }
        let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&control)?;
        unlockpt(&control)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let end = ioctl_tiocgptpeer(&control, flags)?;
        let before = tcgetattr(io::stdin())?;
        // As ours is now; sizes as well.
        tcsetattr(&end, OptionalActions::Now, &before)?;
        tcsetwinsize(&control, tcgetwinsize(io::stdout())?)?;
        Ok(Some((Self { control: control.into(), before }, end)))
    }

    /// Passes everything on until `ended`.
    pub async fn run<T>(self, ended: impl Future<Output = T>) -> io::Result<T> {
        let mut raw = self.before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let (typed, shown) = (self.control.try_clone()?, self.control.try_clone()?);
        let (tell, told) = oneshot::channel();
        // Threads, because a terminal cannot be waited for otherwise without changing it for whoever else has
        // it. What reads what is typed waits for the next key, and ends with the process.
        thread::Builder::new().name("typed".into()).spawn(move || copy(io::stdin().lock(), typed))?;
        thread::Builder::new().name("shown".into()).spawn(move || {
            copy(shown, io::stdout().lock());
            let _ = tell.send(());
        })?;
        let mut resized = signal(SignalKind::window_change())?;
        let resizing = async {
            while resized.recv().await.is_some() {
                // A wrong size is not worth a word.
                let _ = tcgetwinsize(io::stdout()).and_then(|size| tcsetwinsize(&self.control, size));
            }
            std::future::pending::<()>().await;
        };
        let result = tokio::select! {
            result = ended => result,
            () = resizing => return Err(io::ErrorKind::Other.into()),
        };
        let _ = tokio::time::timeout(LAST_WORDS_MAX, told).await;
        Ok(result)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Drain, &self.before);
    }
}

/// Copies until either side ends: a terminal whose program is gone fails.
fn copy(mut from: impl Read, mut to: impl Write) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        let Some(bytes) = chunk.get(..read) else { return };
        if to.write_all(bytes).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}
