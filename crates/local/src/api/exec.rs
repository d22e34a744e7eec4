//! A program run in a pod for a caller, with the caller's own standard input, output and error.
//!
//! `POST /v1/pods/NAMESPACE/NAME/exec` with `Upgrade: ostro-exec` is answered by 101. Then, on the same
//! socket, the caller sends one line of JSON ([`Order`]) whose first byte carries the three descriptors
//! (`SCM_RIGHTS`), and after it a line for each signal ([`Said`]). It hears one line at the end ([`Heard`]).
//! If the caller goes away, the program is told so (SIGHUP) and soon killed.
//!
//! The program runs as the pod's own programs do: in its namespaces, as their user, in the environment of one
//! of its containers; so the pod's proxy takes its traffic as theirs.

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use ostro_agent::{Handed, Privileges, Process, SpawnError, Started, Surroundings};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// What the socket is upgraded to.
pub const PROTOCOL: &str = "ostro-exec";
/// Bytes of an order: as much as the kernel takes of arguments by default, and a little.
const ORDER_BYTES_MAX: u64 = 256 << 10;
/// Bytes of any later line.
const LINE_BYTES_MAX: u64 = 256;
/// How long an order may take to come.
const ORDER_MAX: Duration = Duration::from_secs(10);
/// Time between SIGHUP and SIGKILL for a program whose caller is gone.
const GRACE: Duration = Duration::from_secs(2);
/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Exit status of a program that cannot be executed, and of one that is not there, as shells have it.
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// What is to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The container whose environment it has.
    pub container: Option<String>,
    /// The program, by path or by a name to be looked for in `PATH`, and its arguments.
    pub command: Vec<String>,
    /// Added to the environment (`TERM`).
    pub env: BTreeMap<String, String>,
    /// Standard input is a terminal, to be the program's own.
    pub terminal: bool,
}

/// What the caller says after the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Said {
    /// A signal for the program and what it has started, by number.
    Signal(i32),
}

/// What the caller hears, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Heard {
    /// The program has ended; 128 and the signal's number if a signal ended it.
    Exited(i32),
    /// It was not run.
    Failed {
        /// What the caller's own exit status should be.
        code: i32,
        /// Why, for people.
        error: String,
    },
}

/// How programs of a pod are started.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The environments of its containers, by name.
    pub env: BTreeMap<String, BTreeMap<String, String>>,
    /// Who they run as.
    pub user: Option<u32>,
}

/// The pod's side: one order carried out. To be run on the pod's place.
pub async fn serve(stream: std::os::unix::net::UnixStream, setting: Setting) -> io::Result<()> {
    let mut stream = UnixStream::from_std(stream)?;
    let (order, handed) = match timeout(ORDER_MAX, receive(&mut stream)).await {
        Ok(received) => received?,
        Err(_) => return Ok(()),
    };
    let (reader, mut writer) = stream.into_split();
    let heard = match process(&order, &setting).start_with(handed) {
        Ok(program) => attend(program, BufReader::new(reader)).await,
        Err(error) => not_started(&order, &error),
    };
    let mut line = serde_json::to_vec(&heard)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

fn process(order: &Order, setting: &Setting) -> Process {
    let (program, args) =
        order.command.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let mut env = BTreeMap::from([("HOME".to_owned(), "/".to_owned())]);
    env.extend(order.container.as_ref().and_then(|name| setting.env.get(name)).cloned().unwrap_or_default());
    env.insert("PATH".to_owned(), path(setting));
    env.extend(order.env.clone());
    Process {
        args: args.iter().map(Into::into).collect(),
        env: env.into_iter().collect(),
        surroundings: Surroundings::Bare,
        directory: Some("/".into()),
        user: setting.user,
        privileges: Privileges::Program,
        ..Process::new("a program for a caller", program)
    }
}

/// Where programs are looked for: the runner's own places only if the program runs as the same user, who may look
/// there.
fn path(setting: &Setting) -> String {
    let own = std::env::var("PATH").ok().filter(|_| setting.user.is_none());
    own.unwrap_or_else(|| PATH.to_owned())
}

fn not_started(order: &Order, error: &SpawnError) -> Heard {
    let program = order.command.first().map(String::as_str).unwrap_or_default();
    let source = match error {
        SpawnError::Exec { source, .. } | SpawnError::Log { source, .. } => source,
    };
    match source.kind() {
        io::ErrorKind::NotFound => Heard::Failed {
            code: NOT_FOUND,
            error: format!(
                "no program `{program}` in the pod; pods have the programs of this machine: install it, or give its path"
            ),
        },
        _ => Heard::Failed {
            code: NOT_EXECUTABLE,
            error: format!("`{program}` cannot be run: {source}; give a program that others may run"),
        },
    }
}

/// Passes signals on until the program ends, or the caller is gone.
async fn attend(mut program: Started, mut said: BufReader<tokio::net::unix::OwnedReadHalf>) -> Heard {
    let mut line = Vec::new();
    loop {
        tokio::select! {
            status = program.wait() => return Heard::Exited(status.map_or(1, code)),
            read = read_line(&mut said, &mut line) => {
                if !matches!(read, Ok(1..)) {
                    break;
                }
                if let Ok(Said::Signal(number)) = serde_json::from_slice(&line) {
                    program.signal(number);
                }
                line.clear();
            }
        }
    }
    program.signal(rustix::process::Signal::HUP.as_raw());
    match timeout(GRACE, program.wait()).await {
        Ok(status) => Heard::Exited(status.map_or(1, code)),
        // Dropping it kills it.
        Err(_) => Heard::Exited(128 + rustix::process::Signal::KILL.as_raw()),
    }
}

async fn read_line(
    from: &mut BufReader<tokio::net::unix::OwnedReadHalf>,
    line: &mut Vec<u8>,
) -> io::Result<usize> {
    from.take(LINE_BYTES_MAX).read_until(b'\n', line).await
}

fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}

/// The order, and what came with its first byte.
async fn receive(stream: &mut UnixStream) -> io::Result<(Order, Handed)> {
    let mut first = [0];
    let descriptors = stream.async_io(Interest::READABLE, || receive_descriptors(stream, &mut first)).await?;
    let [stdin, stdout, stderr] = <[OwnedFd; 3]>::try_from(descriptors)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "three descriptors go with an order"))?;
    let mut text = first.to_vec();
    // Byte by byte: nothing after the line may be taken from the socket.
    while text.last() != Some(&b'\n') && (text.len() as u64) < ORDER_BYTES_MAX {
        text.push(stream.read_u8().await?);
    }
    let order: Order = serde_json::from_slice(&text)?;
    let terminal = order.terminal;
    Ok((order, Handed { stdin, stdout, stderr, terminal }))
}

fn receive_descriptors(stream: &UnixStream, first: &mut [u8]) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(stream.as_fd(), &mut [IoSliceMut::new(first)], &mut ancillary, flags)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(rights.flatten().collect())
}

/// The caller's side: hands the order over.
pub(super) async fn send(
    stream: &mut UnixStream,
    order: &Order,
    stdio: [&dyn Descriptor; 3],
) -> io::Result<()> {
    let mut text = serde_json::to_vec(order)?;
    text.push(b'\n');
    if text.len() as u64 > ORDER_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the command is too long"));
    }
    let (first, rest) = text.split_at(1);
    let descriptors = stdio.map(|one| one.borrow());
    stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            Ok(sendmsg(stream.as_fd(), &[io::IoSlice::new(first)], &mut ancillary, flags)?)
        })
        .await?;
    stream.write_all(rest).await
}

/// Something that can be handed over.
pub trait Descriptor: Sync {
    /// Its descriptor.
    fn borrow(&self) -> std::os::fd::BorrowedFd<'_>;
}

impl<T: AsFd + Sync> Descriptor for T {
    fn borrow(&self) -> std::os::fd::BorrowedFd<'_> {
        self.as_fd()
    }
}
