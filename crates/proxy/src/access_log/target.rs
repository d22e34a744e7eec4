//! What a sink writes to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

use ostro_engine::LogSink;

/// An open log.
#[derive(Debug)]
pub(super) enum Target {
    /// A file, or what stands in for one.
    File(Box<str>, File),
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Target {
    /// Opens a log for appending.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(sink: &LogSink) -> io::Result<Target> {
        match sink {
            LogSink::File(path) if &**path == "/dev/stdout" => Ok(Target::Stdout),
            LogSink::File(path) if &**path == "/dev/stderr" => Ok(Target::Stderr),
            LogSink::File(path) => Ok(Target::File(path.clone(), open(path)?)),
            LogSink::Stdout => Ok(Target::Stdout),
            LogSink::Stderr => Ok(Target::Stderr),
        }
    }

    /// Opens the file anew, if it is one: whoever rotates logs has moved it.
    pub fn reopen(&mut self) {
        if let Target::File(path, file) = self {
            match open(path) {
                Ok(new) => *file = new,
                Err(error) => tracing::error!(%path, %error, "an access log cannot be opened anew"),
            }
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Target::File(_, file) => file.write_all(bytes),
            Target::Stdout => io::stdout().lock().write_all(bytes).and_then(|()| io::stdout().lock().flush()),
            Target::Stderr => io::stderr().lock().write_all(bytes),
        }
    }
}

fn open(path: &str) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}
