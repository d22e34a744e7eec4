//! Sinks: shared by all logs that go to the same place, written to by every worker through its own buffer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use ostro_engine::LogSink;

use super::target::Target;

/// A worker's buffer is handed over when it holds so many bytes.
const BUFFER_BYTES: usize = 64 * 1024;
/// Buffers that may be on their way to one sink.
const BUFFERS_MAX: usize = 64;

/// Tells sinks apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SinkId(u64);

enum Message {
    Lines(Vec<u8>),
    Reopen,
    End,
}

/// A place where logs go.
#[derive(Clone)]
pub(crate) struct Sink {
    id: SinkId,
    messages: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Sink {
    /// Tells it from others.
    pub fn id(&self) -> SinkId {
        self.id
    }

    /// A buffer for one thread.
    pub fn writer(&self) -> SinkWriter {
        SinkWriter { sink: self.clone(), buffer: Vec::new(), lines: 0 }
    }
}

/// A thread's buffer before a sink.
pub(crate) struct SinkWriter {
    sink: Sink,
    buffer: Vec<u8>,
    lines: u64,
}

impl SinkWriter {
    /// Adds a line.
    pub fn line(&mut self, line: &[u8]) {
        self.buffer.extend_from_slice(line);
        self.lines += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.tick();
        }
    }

    /// Hands over what there is.
    pub fn tick(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let lines = std::mem::take(&mut self.lines);
        let message = Message::Lines(std::mem::take(&mut self.buffer));
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.sink.messages.try_send(message)
        {
            self.sink.dropped.fetch_add(lines, Ordering::Relaxed);
        }
    }
}

impl Drop for SinkWriter {
    fn drop(&mut self) {
        self.tick();
    }
}

/// All sinks.
#[derive(Clone, Default)]
pub(crate) struct Logs {
    open: Arc<Mutex<HashMap<Place, Open>>>,
    next: Arc<AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    File(Box<str>),
    Stdout,
    Stderr,
}

struct Open {
    sink: Sink,
    thread: Option<JoinHandle<()>>,
}

impl Logs {
    /// The sink of a place: the same for the same place. One that cannot be opened takes lines and drops them.
    pub fn sink(&self, of: &LogSink) -> Sink {
        let place = match of {
            LogSink::File(path) => Place::File(path.clone()),
            LogSink::Stdout => Place::Stdout,
            LogSink::Stderr => Place::Stderr,
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = open.get(&place) {
            return known.sink.clone();
        }
        let (messages, heard) = sync_channel(BUFFERS_MAX);
        let id = SinkId(self.next.fetch_add(1, Ordering::Relaxed));
        let sink = Sink { id, messages, dropped: Arc::default() };
        let of = of.clone();
        let thread =
            std::thread::Builder::new().name("access_log".to_owned()).spawn(move || write(&of, &heard));
        let thread = thread.inspect_err(|error| tracing::error!(%error, "no thread for an access log")).ok();
        open.insert(place, Open { sink: sink.clone(), thread });
        sink
    }

    /// Lines that were dropped because their sinks were too slow, or could not be opened.
    pub fn dropped(&self) -> u64 {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().map(|open| open.sink.dropped.load(Ordering::Relaxed)).sum()
    }

    /// Opens files anew.
    pub fn reopen(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for open in open.values() {
            // A sink whose queue is full is reopened by the next call.
            let _ = open.sink.messages.try_send(Message::Reopen);
        }
    }

    /// Waits until all that was handed over is written. Nothing may be handed over afterwards.
    pub fn shutdown(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for open in open.values_mut() {
            let _ = open.sink.messages.send(Message::End);
            if let Some(thread) = open.thread.take()
                && thread.join().is_err()
            {
                tracing::error!("an access log's thread has panicked");
            }
        }
    }
}

fn write(of: &LogSink, heard: &Receiver<Message>) {
    let mut target = match Target::open(of) {
        Ok(target) => target,
        Err(error) => return tracing::error!(?of, %error, "an access log cannot be opened"),
    };
    let mut is_failing = false;
    while let Ok(message) = heard.recv() {
        match message {
            Message::Lines(lines) => match target.write(&lines) {
                Ok(()) => is_failing = false,
                Err(error) if !is_failing => {
                    is_failing = true;
                    tracing::error!(?of, %error, "an access log cannot be written");
                }
                Err(_) => {}
            },
            Message::Reopen => target.reopen(),
            Message::End => return,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

    use super::*;

    #[test]
    fn lines_are_written_and_files_are_opened_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let place = LogSink::File(path.to_str().unwrap().into());
        let logs = Logs::default();
        let sink = logs.sink(&place);
        assert_eq!(sink.id(), logs.sink(&place).id());
        let mut writer = sink.writer();
        writer.line(b"one\n");
        writer.tick();
        let moved = directory.path().join("moved");
        while !path.exists() {
            std::thread::yield_now();
        }
        std::fs::rename(&path, &moved).unwrap();
        logs.reopen();
        writer.line(b"two\n");
        drop(writer);
        logs.shutdown();
        assert_eq!(std::fs::read(&moved).unwrap(), b"one\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"two\n");
        assert_eq!(logs.dropped(), 0);
    }
}
