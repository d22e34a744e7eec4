//! Network namespaces for tests.

#![allow(dead_code, reason = "each test uses its part")]

pub mod configs;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::thread::UnshareFlags;

/// How long a probe waits for what should come at once.
pub const SOON: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own, which goes with it. Needs root.
pub struct Namespace {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// The thread's id, by which `ip` finds the namespace.
    pub tid: i32,
}

impl Namespace {
    /// Makes one, with its loopback up.
    pub fn new() -> Self {
        let (jobs, queue) = sync_channel::<Job>(1);
        let (tell, told) = sync_channel(1);
        let thread = thread::spawn(move || {
            // SAFETY: only a namespace is unshared, not the table of file descriptors.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
                .expect("these tests make network namespaces: run them as root");
            ip("link set lo up");
            tell.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            queue.into_iter().for_each(|job| job());
        });
        let tid = told.recv().expect("the namespace's thread");
        Self { jobs: Some(jobs), thread: Some(thread), tid }
    }

    /// Runs `work` in it.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = sync_channel(1);
        let job = Box::new(move || drop(tell.send(work())));
        self.jobs.as_ref().unwrap().send(job).expect("the namespace's thread ended");
        told.recv().expect("it panicked in the namespace")
    }

    /// Runs `ip` commands in it, one a line.
    pub fn ip(&self, commands: &str) {
        let commands = commands.to_owned();
        self.run(move || commands.lines().map(str::trim).filter(|l| !l.is_empty()).for_each(|l| drop(ip(l))));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Runs `work` in a namespace of its own.
pub fn in_namespace<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    Namespace::new().run(work)
}

/// What `nft list ruleset` says in the calling thread's namespace, without counters.
pub fn nft_list() -> String {
    let output =
        Command::new("nft").args(["-s", "list", "ruleset"]).output().expect("nft (Debian: nftables)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `ip` with these arguments in the calling thread's namespace.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip (Debian: iproute2)");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Answers every connection with a word and the address it came from, for as long as the test runs.
pub fn serve(word: &'static str, at: SocketAddr) {
    let listener = TcpListener::bind(at).unwrap();
    let socket = UdpSocket::bind(at).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip();
            // Whoever asked may be gone.
            let _ = write!(stream, "{word} {peer}");
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{word} {}", peer.ip()).as_bytes(), peer);
        }
    });
}

/// What whoever answers there says (see [`serve`]), over TCP.
pub fn ask_tcp(to: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

/// The same over UDP.
pub fn ask_udp(to: SocketAddr) -> std::io::Result<String> {
    let any: IpAddr = if to.is_ipv4() { "0.0.0.0".parse().unwrap() } else { "::".parse().unwrap() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(SOON))?;
    socket.connect(to)?;
    socket.send(b"?")?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8(buffer[..length].to_vec()).unwrap())
}
