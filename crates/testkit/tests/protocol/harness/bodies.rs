//! Large bodies: bytes that say where they belong, sent and checked piece by piece, never held as a whole.

use std::io::{Read, Write};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::frames::DATA;
use super::h2::{Event, H2};
use super::wire::{Done, Wire, trouble};

/// The bytes repeat after so many, a prime: no piece fits where another belongs.
const PERIOD: usize = 65_521;
/// How long nothing may move until a sender counts as stopped. One that is only slow counts as stopped too soon, and has
/// then sent less.
const STANDSTILL: Duration = Duration::from_millis(700);

/// A piece of the body that begins at this offset, of at most [`PERIOD`] bytes.
pub fn piece(offset: u64, length: usize) -> &'static [u8] {
    static TWICE: OnceLock<Vec<u8>> = OnceLock::new();
    let twice = TWICE.get_or_init(|| (0..2 * PERIOD).map(|i| (((i % PERIOD) * 31) >> 3) as u8).collect());
    let from = usize::try_from(offset % PERIOD as u64).expect("below the period");
    &twice[from..from + length.min(PERIOD)]
}

/// Compares what comes with the body.
#[derive(Default)]
pub struct Check {
    pub bytes: u64,
    pub differs: bool,
}

impl Check {
    pub fn take(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(PERIOD) {
            self.differs |= part != piece(self.bytes, part.len());
            self.bytes += part.len() as u64;
        }
    }

    /// `1024 MiB` if all was as sent.
    pub fn told(&self) -> String {
        let whole = match self.bytes.is_multiple_of(1 << 20) {
            true => format!("{} MiB", self.bytes >> 20),
            false => format!("{} bytes", self.bytes),
        };
        if self.differs { format!("{whole}, changed") } else { whole }
    }
}

fn wait(wire: &Wire, flags: PollFlags) -> Done<bool> {
    let limit = Timespec::try_from(STANDSTILL).expect("a short time");
    let mut fds = [PollFd::new(wire.stream()?, flags)];
    Ok(matches!(poll(&mut fds, Some(&limit)), Ok(count) if count > 0))
}

/// How far a sender came.
pub struct Pushed {
    pub bytes: u64,
    /// Nothing more was taken.
    pub is_stopped: bool,
}

impl Pushed {
    pub fn told(&self) -> &'static str {
        if self.is_stopped { "the sender is stopped" } else { "the sender is never stopped" }
    }
}

impl Wire {
    /// Small buffers in the kernel on our side of the connection.
    pub fn narrow(&self) -> Done {
        let socket = socket2::SockRef::from(self.stream()?);
        socket.set_recv_buffer_size(32 * 1024)?;
        socket.set_send_buffer_size(32 * 1024)?;
        Ok(())
    }

    /// Sends the body's bytes from `from` to `to`.
    pub fn send_body(&mut self, from: u64, to: u64) -> Done {
        let mut at = from;
        while at < to {
            let part = piece(at, PERIOD.min(usize::try_from(to - at).unwrap_or(PERIOD)));
            self.send(part)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// The same in chunks.
    pub fn send_chunks(&mut self, to: u64) -> Done {
        let mut at = 0;
        while at < to {
            let part = piece(at, PERIOD.min(usize::try_from(to - at).unwrap_or(PERIOD)));
            self.send(format!("{:x}\r\n", part.len()))?;
            self.send(part)?;
            self.send("\r\n")?;
            at += part.len() as u64;
        }
        self.send("0\r\n\r\n")
    }

    /// Reads on until the body has so many bytes.
    pub fn check_body(&mut self, check: &mut Check, to: u64) -> Done {
        let had = self.buffer.len().min(usize::try_from(to - check.bytes).unwrap_or(usize::MAX));
        let waited: Vec<u8> = self.buffer.drain(..had).collect();
        check.take(&waited);
        let mut part = vec![0; 64 * 1024];
        while check.bytes < to {
            let most = part.len().min(usize::try_from(to - check.bytes).unwrap_or(usize::MAX));
            match self.stream()?.read(&mut part[..most])? {
                0 => return trouble(format!("an end after {} of {to} bytes", check.bytes)),
                read => check.take(&part[..read]),
            }
        }
        Ok(())
    }

    /// Reads chunks to the last.
    pub fn check_chunks(&mut self) -> Done<Check> {
        let mut check = Check::default();
        while let Some(piece) = self.chunk()? {
            check.take(&piece);
        }
        self.until(b"\r\n")?;
        Ok(check)
    }

    /// Sends the body until nothing more is taken, or until it is `to` bytes long.
    pub fn push_body(&mut self, to: u64) -> Done<Pushed> {
        let mut at = 0;
        self.stream()?.set_nonblocking(true)?;
        let is_stopped = loop {
            if at >= to {
                break false;
            }
            let part = piece(at, PERIOD.min(usize::try_from(to - at).unwrap_or(PERIOD)));
            match self.stream()?.write(part) {
                Ok(written) => at += written as u64,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if !wait(self, PollFlags::OUT)? {
                        break true;
                    }
                }
                Err(error) => return trouble(format!("sending: {:?}", error.kind())),
            }
        };
        self.stream()?.set_nonblocking(false)?;
        Ok(Pushed { bytes: at, is_stopped })
    }
}

impl H2 {
    /// Sends the body's bytes from `from` to `to`, under flow control.
    pub fn send_body(&mut self, stream: u32, from: u64, to: u64) -> Done {
        let mut at = from;
        while at < to {
            let part = piece(at, PERIOD.min(usize::try_from(to - at).unwrap_or(PERIOD)));
            at += part.len() as u64;
            self.data(stream, part, at == to)?;
        }
        Ok(())
    }

    /// Reads the stream's DATA to its end; the head has been read.
    pub fn check_body(&mut self, stream: u32, check: &mut Check) -> Done {
        loop {
            let (bytes, end) = self.wait(|event| match event {
                Event::Data { stream: of, bytes, end } if *of == stream => Some((bytes.clone(), *end)),
                Event::Reset { stream: of, code } if *of == stream => {
                    Some((format!("reset {code}").into_bytes(), true))
                }
                _ => None,
            })?;
            check.take(&bytes);
            if end {
                return Ok(());
            }
        }
    }

    /// Sends the body until no window opens any more, or until it is `to` bytes long; does not end the stream.
    pub fn push_body(&mut self, stream: u32, to: u64) -> Done<Pushed> {
        let mut at = 0;
        while at < to {
            let room = self.room(stream);
            if room == 0 {
                if !self.has_frame() && !wait(&self.wire, PollFlags::IN)? {
                    return Ok(Pushed { bytes: at, is_stopped: true });
                }
                if let Some(event) = self.pump()? {
                    self.put_back(event);
                }
                continue;
            }
            let part = piece(at, room.min(16_384).min(usize::try_from(to - at).unwrap_or(16_384)));
            self.data(stream, part, false)?;
            at += part.len() as u64;
        }
        Ok(Pushed { bytes: at, is_stopped: false })
    }

    /// Opens the windows of the connection and of a stream by so much.
    pub fn open_windows(&mut self, stream: u32, by: u32) -> Done {
        self.send(super::frames::WINDOW_UPDATE, 0, 0, &by.to_be_bytes())?;
        self.send(super::frames::WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
    }

    /// Ends a stream with an empty DATA frame.
    pub fn end_stream(&mut self, stream: u32) -> Done {
        self.send(DATA, super::frames::END_STREAM, stream, &[])
    }
}
