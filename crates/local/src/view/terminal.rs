//! The terminal: taken, drawn upon, asked for keys, and given back as it was.
//!
//! Only control sequences that every terminal in use has (ECMA-48, and DEC's private modes for the cursor, for
//! wrapping and for the second screen).

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use tokio::io::unix::AsyncFd;

use super::screen::Screen;

/// Cursor shown, lines wrapped.
const USUAL: &str = "\x1b[?25h\x1b[?7h";
/// Cursor hidden, lines not wrapped.
const DRAWING: &str = "\x1b[?25l\x1b[?7l";
const SECOND_SCREEN: &str = "\x1b[?1049h";
const FIRST_SCREEN: &str = "\x1b[?1049l";
/// Size taken for granted where the terminal does not tell.
const SIZE: (usize, usize) = (80, 24);
/// A special character with this value is none.
const DISABLED: u8 = 0;

/// True if standard output is a terminal that can be drawn upon.
pub fn usable() -> bool {
    let able = |term: String| !term.is_empty() && term != "dumb";
    io::stdout().is_terminal() && std::env::var("TERM").is_ok_and(able)
}

/// True if colours are wanted (<https://no-color.org>).
pub fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What the terminal was like, to be put back by another process should this one be killed.
#[derive(Debug)]
pub struct Remembered(Option<Termios>);

impl Remembered {
    /// Looks at the terminal, if there is one.
    pub fn now() -> Self {
        Self(usable().then(|| tcgetattr(io::stdout()).ok()).flatten())
    }

    /// Puts it back where whoever took it did not.
    pub fn restore(&self) {
        let Some(before) = &self.0 else { return };
        let changed = tcgetattr(io::stdout()).is_ok_and(|now| now.local_modes != before.local_modes);
        if changed {
            // The terminal may be gone, and then nothing is left to put back.
            let _ = tcsetattr(io::stdout(), OptionalActions::Now, before);
            let _ = io::stdout().write_all(format!("{FIRST_SCREEN}{USUAL}").as_bytes());
            let _ = io::stdout().flush();
        }
    }
}

/// The terminal, taken. Dropping it gives it back.
#[derive(Debug)]
pub struct Terminal {
    before: Termios,
    colours: bool,
    second: bool,
    drawn: Vec<String>,
    keys: Option<AsyncFd<File>>,
}

impl Terminal {
    /// Takes the terminal: keys come at once and are not echoed, Ctrl-C still interrupts.
    pub fn take() -> io::Result<Self> {
        let before = tcgetattr(io::stdout())?;
        let mut taken = before.clone();
        taken.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO);
        taken.input_modes &= !InputModes::IXON;
        // A mesh cannot be suspended by suspending what shows it.
        taken.special_codes[SpecialCodeIndex::VSUSP] = DISABLED;
        tcsetattr(io::stdout(), OptionalActions::Now, &taken)?;
        let terminal =
            Self { before, colours: colours(), second: false, drawn: Vec::new(), keys: keys().ok() };
        write(DRAWING)?;
        Ok(terminal)
    }

    /// Columns and rows.
    pub fn size(&self) -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => SIZE,
        }
    }

    /// Draws below what is there already, over what was drawn last.
    pub fn draw_inline(&mut self, screen: &Screen) -> io::Result<()> {
        let lines = self.lines(screen);
        let mut text = String::new();
        if !self.drawn.is_empty() {
            text.push_str(&format!("\x1b[{}A\r", self.drawn.len()));
        }
        for line in &lines {
            text.push_str(&format!("{line}\x1b[K\r\n"));
        }
        text.push_str("\x1b[J");
        self.drawn = lines;
        write(&text)
    }

    /// Fills the terminal's second screen; lines that did not change are not written.
    pub fn draw(&mut self, screen: &Screen) -> io::Result<()> {
        let lines = self.lines(screen);
        let mut text = String::new();
        if !self.second {
            self.second = true;
            self.drawn.clear();
            text.push_str(&format!("{SECOND_SCREEN}{DRAWING}\x1b[2J"));
        }
        for (index, line) in lines.iter().enumerate() {
            if self.drawn.get(index) != Some(line) {
                text.push_str(&format!("\x1b[{};1H{line}\x1b[K", index + 1));
            }
        }
        if self.drawn.len() > lines.len() {
            text.push_str(&format!("\x1b[{};1H\x1b[J", lines.len() + 1));
        }
        self.drawn = lines;
        write(&text)
    }

    /// The terminal has another size, and may have moved what was drawn: the next draw writes every line.
    pub fn resized(&mut self) -> io::Result<()> {
        if self.second {
            self.drawn.clear();
            write("\x1b[2J")?;
        }
        Ok(())
    }

    /// Waits for keys; what was typed, as bytes. Never comes where there is no keyboard.
    pub async fn typed(&self) -> Vec<u8> {
        let Some(keys) = &self.keys else { return std::future::pending().await };
        let mut bytes = [0; 64];
        loop {
            let Ok(mut ready) = keys.readable().await else { return std::future::pending().await };
            match ready.try_io(|file| Ok(rustix::io::read(file.get_ref(), &mut bytes)?)) {
                Ok(Ok(0) | Err(_)) => return std::future::pending().await,
                Ok(Ok(count)) => return bytes.iter().take(count).copied().collect(),
                Err(_would_block) => {}
            }
        }
    }

    fn lines(&self, screen: &Screen) -> Vec<String> {
        let line = |line: &super::screen::Line| if self.colours { line.coloured() } else { line.plain() };
        screen.lines.iter().map(line).collect()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let first = if self.second { FIRST_SCREEN } else { "" };
        // A terminal that is gone needs nothing.
        let _ = write(&format!("{first}{USUAL}"));
        let _ = tcsetattr(io::stdout(), OptionalActions::Now, &self.before);
    }
}

/// The keyboard, by an open file of our own: not to block on it is nobody else's business.
fn keys() -> io::Result<AsyncFd<File>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file: File = rustix::fs::open("/dev/tty", flags, Mode::empty())?.into();
    // Of another terminal than the one drawn upon, keys would be read that are not echoed there.
    match rustix::fs::fstat(io::stdin().as_fd())?.st_rdev == rustix::fs::fstat(io::stdout().as_fd())?.st_rdev
    {
        // SAFETY: a `File` keeps the one descriptor it has, and keeps it open, until it is dropped.
        true => unsafe { AsyncFd::register(file) }.map_err(io::Error::from),
        false => Err(io::Error::other("input and output are different terminals")),
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
