//! One TCP connection, as bytes: what is sent, what comes, and how it ends.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long anything that must come is waited for. Nothing is measured by it: the machine may be loaded.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Why a script could not go on, in words that stand in the outcome.
#[derive(Debug)]
pub struct Trouble(pub String);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble(format!("{:?}", error.kind()))
    }
}

/// What a script returns.
pub type Done<T = ()> = Result<T, Trouble>;

pub fn trouble<T>(words: impl Into<String>) -> Done<T> {
    Err(Trouble(words.into()))
}

/// How the other side ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

/// A connection, with what was read and not yet taken.
pub struct Wire {
    stream: Option<TcpStream>,
    pub buffer: Vec<u8>,
    end: Option<End>,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Done<Wire> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Wire { stream: Some(stream), buffer: Vec::new(), end: None })
    }

    /// Bytes that came elsewhere, to be parsed as if they had come here.
    pub fn of_bytes(bytes: &[u8]) -> Wire {
        Wire { stream: None, buffer: bytes.to_vec(), end: None }
    }

    pub fn connect(address: SocketAddr) -> Done<Wire> {
        Wire::new(TcpStream::connect_timeout(&address, PATIENCE)?)
    }

    /// Connects with a receive buffer so small that a reader who does not read is soon noticed.
    pub fn connect_narrow(address: SocketAddr, buffer: usize) -> Done<Wire> {
        let socket =
            socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_recv_buffer_size(buffer)?;
        socket.set_send_buffer_size(buffer)?;
        socket.connect(&address.into())?;
        Wire::new(socket.into())
    }

    pub fn stream(&self) -> Done<&TcpStream> {
        match &self.stream {
            Some(stream) => Ok(stream),
            None => trouble("no connection"),
        }
    }

    /// Another handle of the same connection, to write from another thread.
    pub fn split(&self) -> Done<Wire> {
        Wire::new(self.stream()?.try_clone()?)
    }

    pub fn local(&self) -> Done<SocketAddr> {
        Ok(self.stream()?.local_addr()?)
    }

    pub fn peer(&self) -> Done<SocketAddr> {
        Ok(self.stream()?.peer_addr()?)
    }

    pub fn patience(&self, limit: Duration) -> Done {
        self.stream()?.set_read_timeout(Some(limit))?;
        self.stream()?.set_write_timeout(Some(limit))?;
        Ok(())
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Done {
        let mut stream = self.stream()?;
        match stream.write_all(bytes.as_ref()) {
            Ok(()) => Ok(()),
            Err(error) => trouble(format!("sending: {:?}", error.kind())),
        }
    }

    /// Sends to a peer that may have gone away, which is no trouble.
    pub fn offer(&mut self, bytes: impl AsRef<[u8]>) {
        if let Ok(mut stream) = self.stream() {
            let _ = stream.write_all(bytes.as_ref());
        }
    }

    /// Sends each piece as a segment of its own, as far as the kernel lets us.
    pub fn dribble(&mut self, bytes: impl AsRef<[u8]>, piece: usize) -> Done {
        bytes.as_ref().chunks(piece).try_for_each(|part| self.send(part))
    }

    /// Reads more into the buffer; false once the other side has ended.
    pub fn fill(&mut self) -> Done<bool> {
        if self.end.is_some() || self.stream.is_none() {
            return Ok(false);
        }
        let mut part = vec![0; 64 * 1024];
        let mut stream = self.stream()?;
        match stream.read(&mut part) {
            Ok(0) => self.end = Some(End::Fin),
            Ok(length) => self.buffer.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.end = Some(End::Reset),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return trouble(format!("nothing more came ({} bytes waited)", self.buffer.len()));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(self.end.is_none())
    }

    /// Exactly so many bytes.
    pub fn take(&mut self, length: usize) -> Done<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.fill()? {
                return trouble(format!("{} after {} of {length} bytes", self.how(), self.buffer.len()));
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// The same as text.
    pub fn text(&mut self, length: usize) -> Done<String> {
        Ok(String::from_utf8_lossy(&self.take(length)?).into_owned())
    }

    /// Everything up to and with `mark`.
    pub fn until(&mut self, mark: &[u8]) -> Done<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|part| part == mark) {
                return Ok(self.buffer.drain(..at + mark.len()).collect());
            }
            if !self.fill()? {
                let rest = String::from_utf8_lossy(&self.buffer).into_owned();
                return trouble(format!("{} with {rest:?} waited", self.how()));
            }
        }
    }

    /// All that comes until the other side ends.
    pub fn rest(&mut self) -> Done<Vec<u8>> {
        while self.fill()? {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Reads and drops all that comes until the other side ends: how many bytes.
    pub fn drain(&mut self) -> Done<u64> {
        let mut count = 0;
        loop {
            let more = self.fill()?;
            count += self.buffer.len() as u64;
            self.buffer.clear();
            if !more {
                return Ok(count);
            }
        }
    }

    /// `closed` once the other side ended, however, or how many bytes came first.
    pub fn closed(&mut self) -> Done<String> {
        let rest = self.rest()?;
        Ok(match rest.len() {
            0 => "closed".to_owned(),
            length => format!("closed after {length} bytes"),
        })
    }

    /// The same, with how it ended: `fin` or `reset`.
    pub fn end(&mut self) -> Done<String> {
        let rest = self.rest()?;
        let how = self.how();
        Ok(match rest.len() {
            0 => how.to_owned(),
            length => format!("{how} after {length} bytes"),
        })
    }

    /// How the other side ended so far.
    pub fn how(&self) -> &'static str {
        match self.end {
            Some(End::Fin) => "fin",
            Some(End::Reset) => "reset",
            None => "open",
        }
    }

    /// Whether the other side has ended and nothing is left to read, without waiting.
    pub fn ended(&mut self) -> Done<bool> {
        if !self.buffer.is_empty() {
            return Ok(false);
        }
        self.stream()?.set_nonblocking(true)?;
        let peeked = self.stream()?.peek(&mut [0; 1]);
        self.stream()?.set_nonblocking(false)?;
        Ok(match peeked {
            Ok(length) => length == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        })
    }

    /// Whether nothing has come, not even an end, without waiting.
    pub fn silent(&mut self) -> Done<bool> {
        if !self.buffer.is_empty() || self.end.is_some() {
            return Ok(false);
        }
        self.stream()?.set_nonblocking(true)?;
        let mut one = [0; 1];
        let peeked = self.stream()?.peek(&mut one);
        self.stream()?.set_nonblocking(false)?;
        Ok(matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock))
    }

    /// Ends our half.
    pub fn fin(&self) -> Done {
        Ok(self.stream()?.shutdown(Shutdown::Write)?)
    }

    /// Ends with a reset.
    pub fn reset(self) -> Done {
        socket2::SockRef::from(self.stream()?).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }
}
