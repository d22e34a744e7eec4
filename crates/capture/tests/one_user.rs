//! Rootless: all of it in a user namespace with one user, made by somebody who is nobody in particular.
//!
//! Without the usual harness, because only a process with a single thread may enter a user namespace.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test by panicking")]

mod support;

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;

use ostro_capture::rules::Protocol;
use ostro_capture::services::{Services, Virtual};
use ostro_capture::{Config, Dns, Interception, Plan, Ranges, apply, differences, remove};
use rustix::thread::UnshareFlags;
use socket2::{Domain, Socket, Type};
use support::{SOON, ip, nft_list};

const NAME: &str = "all_rules_load_where_one_user_is_mapped";
/// Tells the second process from the first.
const SECOND: &str = "OSTRO_CAPTURE_TEST_SECOND";
/// An ordinary user: one that the machine need not know.
const USER: u32 = 54_321;
/// The proxy's sockets.
const MARK: u32 = 0x0539_0000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // What test runners ask of a harness: the list, and to run what the filter leaves.
    let filter = arguments.iter().find(|argument| !argument.starts_with('-') && *argument != "terse");
    let chosen = !has("--ignored") && filter.is_none_or(|filter| NAME.contains(filter.as_str()));
    if has("--list") {
        if chosen {
            println!("{NAME}: test");
        }
    } else if std::env::var_os(SECOND).is_some() {
        as_ordinary_user();
    } else if chosen {
        as_whoever_runs_tests();
        println!("test {NAME} ... ok");
    }
}

/// Starts this program again as an ordinary user.
fn as_whoever_runs_tests() {
    // A copy, as that user may not be able to reach where the file is.
    let dir = std::env::temp_dir().join(format!("ostro-capture-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let program = dir.join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for path in [&dir, &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut second = Command::new(&program);
    second.env(SECOND, "1").current_dir("/");
    if rustix::process::getuid().is_root() {
        second.uid(USER).gid(USER);
    }
    let output = second.output();
    std::fs::remove_dir_all(&dir).unwrap();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn as_ordinary_user() {
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    assert_ne!(user, 0, "this part is about users without rights");
    let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNET;
    // SAFETY: only namespaces are unshared, not the table of file descriptors.
    unsafe { rustix::thread::unshare_unsafe(flags) }
        .expect("this machine has no user namespaces for ordinary users");
    std::fs::write("/proc/self/setgroups", "deny").unwrap();
    std::fs::write("/proc/self/uid_map", format!("0 {user} 1")).unwrap();
    std::fs::write("/proc/self/gid_map", format!("0 {group} 1")).unwrap();
    for command in [
        "link set lo up",
        "link add eth0 type veth peer name eth9",
        "link set eth0 up",
        "link set eth9 up",
        "addr add 192.168.7.2/24 dev eth0",
        "route add default via 192.168.7.1",
        "-6 addr add fd77::2/64 dev eth0 nodad",
        "-6 route add default via fd77::1",
    ] {
        ip(command);
    }
    everything_loads();
    packets_are_turned_by_mark();
    services_load();
}

fn everything_loads() {
    let config = Config {
        interception: Interception::Tproxy { mark: 1337, table: 133 },
        outbound: Ranges::Only(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]),
        dns: Dns::All,
        drop_invalid: true,
        ipv6: true,
        ..Config::sidecar().by_mark(MARK)
    };
    let plan = Plan::new(&config).unwrap();
    apply(&plan).unwrap();
    assert_eq!(differences(&plan).unwrap(), [""; 0]);
    remove().unwrap();
    assert_eq!(nft_list(), "");
}

fn packets_are_turned_by_mark() {
    let plan = Plan::new(&Config { ipv6: true, ..Config::sidecar().by_mark(MARK) }).unwrap();
    apply(&plan).unwrap();
    for (word, port) in [("outbound", 15001), ("inbound", 15006), ("program", 80)] {
        for any in ["0.0.0.0", "::1"] {
            say(word, SocketAddr::new(any.parse().unwrap(), port));
        }
    }
    for (own, far) in [("192.168.7.2", "203.0.113.9"), ("fd77::2", "2001:db8::9")] {
        assert_eq!(hear(far, None), "outbound", "a program's connection");
        // To its own address a proxy's connection is an inbound request, a program's is its private matter.
        assert_eq!(hear(own, Some(MARK)), "inbound", "the proxy's connection");
    }
    assert_eq!(hear("192.168.7.2", None), "program");
    assert_eq!(hear("::1", None), "program");
    // Of the proxy's own connections only those to itself are turned.
    let error = connect("203.0.113.9", Some(MARK)).unwrap_err();
    assert!(["host unreachable", "timed out"].contains(&error.kind().to_string().as_str()), "{error}");
    remove().unwrap();
}

/// Says a word to everybody who connects.
fn say(word: &'static str, at: SocketAddr) {
    let listener = TcpListener::bind(at).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            std::io::Write::write_all(&mut stream.unwrap(), word.as_bytes()).unwrap();
        }
    });
}

fn connect(to: &str, mark: Option<u32>) -> std::io::Result<Socket> {
    let to = SocketAddr::new(to.parse().unwrap(), 80);
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    mark.map_or(Ok(()), |mark| socket.set_mark(mark))?;
    socket.connect_timeout(&to.into(), SOON)?;
    Ok(socket)
}

fn hear(to: &str, mark: Option<u32>) -> String {
    let mut said = String::new();
    connect(to, mark).unwrap_or_else(|e| panic!("{to}: {e}")).read_to_string(&mut said).unwrap();
    said
}

fn services_load() {
    let at = Virtual { address: "10.96.0.1".parse().unwrap(), protocol: Protocol::Tcp, port: 80 };
    let mut services = Services::default();
    services.set(&[(at, vec!["192.168.7.2:80".parse().unwrap()])].into()).unwrap();
    assert_eq!(hear("10.96.0.1", None), "program");
    services.remove().unwrap();
    assert_eq!(nft_list(), "");
}
