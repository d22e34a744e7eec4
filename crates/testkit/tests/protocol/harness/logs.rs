//! Access logs: one FIFO that every listener of the process writes to, read by a thread and handed to the case whose name
//! a line begins with.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::wire::{Trouble, trouble};

/// What every line tells, in this order, separated by tabs.
pub const FORMAT: &str = "%RESPONSE_CODE%\t%RESPONSE_FLAGS%\t%RESPONSE_CODE_DETAILS%\t%BYTES_RECEIVED%\t%BYTES_SENT%\t\
                          %UPSTREAM_REQUEST_ATTEMPT_COUNT%\t%PROTOCOL%\t%CONNECTION_TERMINATION_DETAILS%";

/// A line, told apart.
#[derive(Clone, Debug)]
pub struct Line(Vec<String>);

impl Line {
    fn at(&self, index: usize) -> &str {
        self.0.get(index).map_or("", String::as_str)
    }

    /// Status and response flags, as in `503 UF`.
    pub fn verdict(&self) -> String {
        format!("{} {}", self.at(0), self.at(1))
    }

    /// Status, flags and details, as in `200 - via_upstream`. What Envoy appends in braces is left out.
    pub fn told(&self) -> String {
        let details = self.details();
        format!("{} {}", self.verdict(), details.split('{').next().unwrap_or_default())
    }

    /// `%RESPONSE_CODE_DETAILS%`.
    pub fn details(&self) -> &str {
        self.at(2)
    }

    /// Bytes of bodies, received from and sent to the client.
    pub fn bytes(&self) -> String {
        format!("{} in {} out", self.at(3), self.at(4))
    }

    /// Attempts at the upstream.
    pub fn attempts(&self) -> &str {
        self.at(5)
    }

    /// `HTTP/1.1` and the like.
    pub fn protocol(&self) -> &str {
        self.at(6)
    }

    /// The field of this number, for formats of a case's own.
    pub fn field(&self, index: usize) -> &str {
        self.at(index)
    }
}

#[derive(Default)]
struct Shelf {
    lines: Mutex<HashMap<String, VecDeque<Line>>>,
    more: Condvar,
}

/// The FIFO and what came out of it.
pub struct Logs {
    path: PathBuf,
    /// Keeps the FIFO open, and ends the reader.
    writer: File,
    shelf: Arc<Shelf>,
}

const LAST: &str = "end of log";

impl Logs {
    /// Makes the FIFO in `dir` and reads it from now on.
    pub fn open(dir: &Path) -> Logs {
        let path = dir.join("access.fifo");
        let file = fifo(&path);
        let writer = file.try_clone().unwrap();
        let shelf = Arc::new(Shelf::default());
        let filled = Arc::clone(&shelf);
        std::thread::spawn(move || {
            for line in BufReader::new(file).lines() {
                let Ok(line) = line else { return };
                if line == LAST {
                    return;
                }
                if let Ok(json) = serde_json::from_str::<serde_json::Value>(&line) {
                    let name = json["case"].as_str().unwrap_or_default().to_owned();
                    let mut lines = filled.lines.lock().unwrap();
                    lines.entry(name).or_default().push_back(Line(vec![line]));
                    filled.more.notify_all();
                    continue;
                }
                let mut fields = line.split('\t').map(str::to_owned);
                let name = fields.next().unwrap_or_default();
                let mut lines = filled.lines.lock().unwrap();
                lines.entry(name).or_default().push_back(Line(fields.collect()));
                filled.more.notify_all();
            }
        });
        Logs { path, writer, shelf }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next line of a case, waited for.
    pub fn next(&self, name: &str, patience: Duration) -> Result<Line, Trouble> {
        let deadline = Instant::now() + patience;
        let mut lines = self.shelf.lines.lock().unwrap();
        loop {
            if let Some(line) = lines.get_mut(name).and_then(VecDeque::pop_front) {
                return Ok(line);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return trouble("no line in the access log");
            }
            lines = self.shelf.more.wait_timeout(lines, left).unwrap().0;
        }
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        // A reader that is gone already is as good.
        let _ = writeln!(self.writer, "{LAST}");
    }
}

/// A FIFO that never says end of file, since this handle keeps both of its ends open.
pub fn fifo(path: &Path) -> File {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).expect("make a FIFO");
    OpenOptions::new().read(true).write(true).open(path).expect("open the FIFO")
}
