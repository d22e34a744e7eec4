//! Where log lines go: to standard error, unless a screen is there, which shows the latest ones instead.
//!
//! Process-wide, as the log is. What a screen held back and is worth telling (warnings, errors) is written to
//! standard error once the screen is gone.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Mutex;

/// Lines held back, at most; older ones are forgotten.
const HELD_MAX: usize = 200;

static HELD: Mutex<Option<VecDeque<String>>> = Mutex::new(None);

/// The log's writer; each write is one whole line, as `tracing-subscriber` makes them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let held = with_held(|held| match held {
            Some(lines) => {
                let text = String::from_utf8_lossy(bytes);
                for line in text.lines().filter(|line| !line.trim().is_empty()) {
                    if lines.len() >= HELD_MAX {
                        lines.pop_front();
                    }
                    lines.push_back(without_sequences(line));
                }
                true
            }
            None => false,
        });
        match held {
            true => Ok(bytes.len()),
            false => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// From now on lines are held back.
pub fn hold() {
    with_held(|held| held.get_or_insert_default().clear());
}

/// No longer; warnings and errors among the lines go to standard error.
pub fn release() {
    let lines = with_held(Option::take).unwrap_or_default();
    let mut err = io::stderr().lock();
    for line in lines.iter().filter(|line| worth_telling(line)) {
        // Nobody is left to be told that this failed.
        let _ = writeln!(err, "{line}");
    }
}

/// The latest `count` warnings and errors, without the time.
pub fn latest(count: usize) -> Vec<String> {
    with_held(|held| {
        let lines = held.iter().flatten().filter(|line| worth_telling(line));
        let lines: Vec<String> = lines.map(|line| without_time(line).to_owned()).collect();
        lines.into_iter().rev().take(count).rev().collect()
    })
}

fn with_held<T>(act: impl FnOnce(&mut Option<VecDeque<String>>) -> T) -> T {
    // Whoever panicked while holding it left whole lines behind.
    act(&mut HELD.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn worth_telling(line: &str) -> bool {
    let head: String = line.chars().take(60).collect();
    ["WARN", "ERROR"].iter().any(|level| head.contains(level)) || head.contains("panicked at")
}

/// Log lines begin with a time, which a line on a screen has no room for.
fn without_time(line: &str) -> &str {
    match line.split_once(char::is_whitespace) {
        Some((time, rest)) if time.starts_with(|c: char| c.is_ascii_digit()) => rest.trim_start(),
        _ => line,
    }
}

/// Without the control sequences (`ESC [ ... letter`) that colour a log for a terminal.
fn without_sequences(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // Ends after its final byte; parameters are digits, `;` and `[`.
            chars.by_ref().find(|c| c.is_ascii_alphabetic());
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_gets_the_latest_warnings_without_time_and_colour() {
        hold();
        let mut sink = Sink;
        sink.write_all(b"\x1b[2m2026-01-01T00:00:00Z\x1b[0m \x1b[33m WARN\x1b[0m local: one\n").unwrap();
        sink.write_all(b"2026-01-01T00:00:00Z  INFO local: two\n").unwrap();
        sink.write_all(b"2026-01-01T00:00:00Z ERROR local: three\n").unwrap();
        assert_eq!(latest(5), ["WARN local: one", "ERROR local: three"]);
        assert_eq!(latest(1), ["ERROR local: three"]);
        for n in 0..HELD_MAX {
            let line = format!("2026-01-01T00:00:00Z ERROR local: {n}\n");
            sink.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(latest(HELD_MAX + 10).len(), HELD_MAX);
        release();
        assert!(latest(5).is_empty());
    }
}
