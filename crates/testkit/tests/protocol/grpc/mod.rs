//! gRPC with grpcio on both ends: unary calls and the three kinds of streams, what ends a call and how it is told.
//!
//! `cargo xtask setup` installs grpcio; `peer.py` is both peers.

use std::io::BufRead as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use ostro_testkit::envoy;
use serde_json::json;

use crate::harness::{Case, Done, Family, Site, Stage, case};

pub fn family() -> Family {
    Family::new("grpc", [calls(), ends(), replies()].into_iter().flatten().collect()).at_once(4)
}

crate::tests!();

/// The version that `cargo xtask setup` installs.
const GRPCIO: &str = "grpcio-1.76.0";

fn python(arguments: &[&str]) -> Command {
    let library = envoy::workspace().join("target/tools").join(GRPCIO);
    assert!(library.is_dir(), "{} is missing: run `cargo xtask setup`", library.display());
    let script: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protocol/grpc/peer.py");
    let mut command = Command::new("python3");
    command.arg(script).args(arguments).env("PYTHONPATH", library).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// The server of all cases; it ends with this process, which holds its standard input.
fn server() -> SocketAddr {
    static SERVER: OnceLock<(SocketAddr, Child, ChildStdin)> = OnceLock::new();
    let (address, ..) = SERVER.get_or_init(|| {
        let mut child = python(&["server"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start python3");
        let mut port = String::new();
        let said = child.stdout.take().expect("piped");
        std::io::BufReader::new(said).read_line(&mut port).expect("the server's port");
        let port = port.trim().parse().unwrap_or_else(|_| panic!("the server said {port:?}"));
        let stdin = child.stdin.take().expect("piped");
        (SocketAddr::from(([127, 0, 0, 1], port)), child, stdin)
    });
    *address
}

fn to_server(site: &mut Site) {
    site.http2_upstream();
    site.main().only(server());
}

/// What the client says of this call.
fn called(x: &mut Stage<'_>, call: &str) -> Done {
    let address = x.proxy.listener(&x.site.name)?.to_string();
    let output = python(&["client", &address, call]).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match said.is_empty() {
        true => {
            let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
            x.see(wrong.lines().last().unwrap_or("nothing was said"));
        }
        false => x.see(said),
    }
    Ok(())
}

fn row(name: &str, call: &'static str, expected: &str) -> Case {
    case(
        name,
        |site| {
            to_server(site);
            site.format = Some("%PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %GRPC_STATUS_NUMBER%".to_owned());
        },
        move |x| {
            called(x, call)?;
            x.see(format!("log {}", x.log()?.field(0)));
            Ok(())
        },
        expected,
    )
}

fn calls() -> Vec<Case> {
    vec![
        row("unary, with metadata before and behind", "unary", "you-said-hello, OK, t, log HTTP/2 200 - 0"),
        row("a stream of requests", "collect", "0+1+2+3+4, log HTTP/2 200 - 0"),
        row("a stream of responses", "count", "0+1+2+3+4, log HTTP/2 200 - 0"),
        row("streams both ways, in turns", "echo", "ONE+TWO+THREE, log HTTP/2 200 - 0"),
        row("a message of 8 MiB, there and back", "large", "8 MiB, the same, log HTTP/2 200 - 0"),
        row("200 calls at once", "many", "200 answered, log HTTP/2 200 - 0"),
    ]
}

fn ends() -> Vec<Case> {
    vec![
        row("a status with a message and trailers", "failing", "FAILED_PRECONDITION, no: ä, t, log HTTP/2 200 - 9"),
        row("a method that is not there", "unknown", "UNIMPLEMENTED, log HTTP/2 200 - 12"),
        row("the client's deadline", "deadline", "DEADLINE_EXCEEDED, log HTTP/2 0 DR -"),
        row("the client cancels", "cancel", "ONE, CANCELLED, log HTTP/2 200 DR 2")
            .or("ONE, CANCELLED, log HTTP/2 200 DR -"),
    ]
}

/// What the proxy itself answers is gRPC, too.
fn replies() -> Vec<Case> {
    let reply = |name: &str, arrange: fn(&mut Site), call: &'static str, expected: &str| {
        case(
            name,
            arrange,
            move |x| {
                called(x, call)?;
                x.see_verdict()
            },
            expected,
        )
    };
    vec![
        reply(
            "an upstream that refuses",
            |s| {
                s.http2_upstream();
                s.refusing();
            },
            "plain",
            "UNAVAILABLE, upstream connect error or disconnect/reset before headers, log 200 UF",
        ),
        reply(
            "no route",
            |s| {
                to_server(s);
                s.route("match", json!({"prefix": "/nowhere"}));
            },
            "plain",
            "UNIMPLEMENTED,, log 200 NR",
        ),
        reply(
            "the route's limit",
            |s| {
                to_server(s);
                s.route("route.timeout", json!("0.2s"));
            },
            "deadline",
            "UNAVAILABLE, log 200 UT",
        ),
        reply(
            "the client's deadline becomes the route's, where that is allowed",
            |s| {
                to_server(s);
                s.route("route.max_stream_duration", json!({"grpc_timeout_header_max": "0s", "grpc_timeout_header_offset": "0.2s"}));
            },
            "deadline",
            "DEADLINE_EXCEEDED, log 200 -",
        ),
        reply(
            "an injected fault",
            |s| {
                to_server(s);
                s.filter(
                    "envoy.filters.http.fault",
                    "envoy.extensions.filters.http.fault.v3.HTTPFault",
                    json!({"abort": {"grpc_status": 14, "percentage": {"numerator": 100}}}),
                );
            },
            "plain",
            "UNAVAILABLE, fault filter abort, log 200 FI",
        ),
    ]
}
