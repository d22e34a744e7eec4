//! A netlink socket of the calling thread's network namespace, and messages on it.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{bind, connect, recv, send, socket_with, sockopt};

use super::NetlinkError;

/// Bytes of a message's header.
const HEADER: usize = 16;
/// Most bytes of one datagram of answers; the kernel fills at most 32 KiB.
const DATAGRAM_MAX: usize = 64 << 10;
/// Most bytes of all answers to one request: a namespace with more than this many rules is not one of ours.
const ANSWERS_MAX: usize = 64 << 20;
/// Room asked for, for requests and answers. Without privilege the kernel gives less (`net.core.wmem_max`).
const BUFFER: usize = 8 << 20;

const REQUEST: u16 = 0x1;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Smaller types are the protocol's own.
const FIRST_TYPE: u16 = 0x10;
/// The objects changed while they were listed.
const INTERRUPTED: u16 = 0x10;

/// Asks the kernel to say that it did it.
pub const ACK: u16 = 0x4;
/// Make it if it is not there.
pub const CREATE: u16 = 0x400;
/// Put it after the others.
pub const APPEND: u16 = 0x800;
/// Fail if it is there.
pub const EXCLUSIVE: u16 = 0x200;
/// List everything.
pub const DUMP: u16 = 0x300;

/// An open socket. Answers come from the kernel only.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

/// What the kernel said about the message with this number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Ack {
        /// The message.
        sequence: u32,
    },
    /// Refused.
    Error {
        /// The message.
        sequence: u32,
        /// Why.
        error: Errno,
    },
    /// What was asked for: a message of this type.
    Message {
        /// Its type.
        kind: u16,
        /// Its body.
        body: Vec<u8>,
    },
    /// That was all of a list.
    Done {
        /// The list changed meanwhile and may be wrong.
        interrupted: bool,
    },
}

impl Socket {
    /// Opens one. `protocol` as in `rustix::net::netlink`; none is routing, number 0.
    pub fn open(protocol: Option<Protocol>) -> Result<Self, NetlinkError> {
        let failed = |error| NetlinkError::socket("opening a netlink socket", error);
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
            .map_err(failed)?;
        bind(&fd, &SocketAddrNetlink::new(0, 0)).map_err(failed)?;
        // Connected to the kernel: nobody else can put words into its mouth.
        connect(&fd, &SocketAddrNetlink::new(0, 0)).map_err(failed)?;
        // Each as much as we are given: what does not fit is said when it happens.
        let _ = sockopt::set_socket_send_buffer_size_force(&fd, BUFFER)
            .or_else(|_| sockopt::set_socket_send_buffer_size(&fd, BUFFER));
        let _ = sockopt::set_socket_recv_buffer_size_force(&fd, BUFFER)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&fd, BUFFER));
        Ok(Self { fd })
    }

    /// Sends messages and reads all that is answered. The kernel works while we send, so answers are there when
    /// sending returns, and those of a list follow as they are read: no call waits.
    pub fn ask(&self, messages: &[u8]) -> Result<Vec<Answer>, NetlinkError> {
        match send(&self.fd, messages, SendFlags::empty()) {
            Ok(_) => {}
            Err(error @ (Errno::MSGSIZE | Errno::NOBUFS)) => {
                return Err(NetlinkError::TooLarge { bytes: messages.len(), source: error.into() });
            }
            Err(error) => return Err(NetlinkError::socket("sending to the kernel", error)),
        }
        let mut answers = Vec::new();
        let mut total = 0;
        let mut datagram = vec![0; DATAGRAM_MAX];
        loop {
            match recv(&self.fd, datagram.as_mut_slice(), RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                Ok((_, 0)) | Err(Errno::AGAIN) => return Ok(answers),
                Ok((_, length)) => {
                    total += length;
                    let read = datagram.get(..length).filter(|_| total <= ANSWERS_MAX);
                    let read = read.ok_or(NetlinkError::Socket {
                        step: "reading the kernel's answers",
                        source: Errno::NOBUFS.into(),
                    })?;
                    answers.extend(parse(read));
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(NetlinkError::socket("reading the kernel's answers", error)),
            }
        }
    }
}

/// Writes a message around its body.
pub fn message(out: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, body: &[u8]) {
    // A body is bounded by what a batch may be, far below 4 GiB.
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&0_u32.to_ne_bytes());
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The answers in a datagram; ends at the first that is cut short.
pub fn parse(mut datagram: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some((answer, rest)) = next(datagram) {
        answers.extend(answer);
        datagram = rest;
    }
    answers
}

fn next(datagram: &[u8]) -> Option<(Option<Answer>, &[u8])> {
    let length = u32::from_ne_bytes(*datagram.first_chunk::<4>()?);
    let length = usize::try_from(length).ok()?;
    let body = datagram.get(HEADER..length)?;
    let kind = u16::from_ne_bytes(datagram.get(4..6)?.try_into().ok()?);
    let flags = u16::from_ne_bytes(datagram.get(6..8)?.try_into().ok()?);
    let sequence = u32::from_ne_bytes(datagram.get(8..12)?.try_into().ok()?);
    let code = body.first_chunk::<4>().map(|code| i32::from_ne_bytes(*code));
    let answer = match kind {
        ERROR => match code {
            Some(0) => Some(Answer::Ack { sequence }),
            code => Some(Answer::Error { sequence, error: errno(code) }),
        },
        DONE => match code {
            Some(code) if code < 0 => Some(Answer::Error { sequence, error: errno(Some(code)) }),
            _ => Some(Answer::Done { interrupted: flags & INTERRUPTED != 0 }),
        },
        kind if kind >= FIRST_TYPE => Some(Answer::Message { kind, body: body.to_vec() }),
        _ => None,
    };
    Some((answer, datagram.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The kernel's negative number as an error; what is none becomes EIO.
fn errno(code: Option<i32>) -> Errno {
    let code = code.and_then(i32::checked_neg).filter(|code| (1..4096).contains(code));
    code.map_or(Errno::IO, Errno::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(sequence: u32, code: i32) -> Vec<u8> {
        let mut out = Vec::new();
        message(&mut out, ERROR, 0, sequence, &code.to_ne_bytes());
        out
    }

    #[test]
    fn answers_are_told_apart() {
        let mut datagram = error(7, 0);
        datagram.extend(error(8, -1));
        message(&mut datagram, 0x0a00, 0, 9, b"body");
        message(&mut datagram, DONE, 0, 9, &0_i32.to_ne_bytes());
        assert_eq!(
            parse(&datagram),
            [
                Answer::Ack { sequence: 7 },
                Answer::Error { sequence: 8, error: Errno::PERM },
                Answer::Message { kind: 0x0a00, body: b"body".to_vec() },
                Answer::Done { interrupted: false },
            ]
        );
    }

    #[test]
    fn nonsense_is_no_answer_or_an_error_and_never_a_success() {
        assert!(parse(&[0; 3]).is_empty());
        assert!(parse(&[0; 64]).is_empty());
        let mut cut = error(1, 0);
        cut.truncate(18);
        assert!(parse(&cut).is_empty());
        assert_eq!(parse(&error(1, i32::MIN)), [Answer::Error { sequence: 1, error: Errno::IO }]);
        assert_eq!(parse(&error(1, 5)), [Answer::Error { sequence: 1, error: Errno::IO }]);
    }
}
