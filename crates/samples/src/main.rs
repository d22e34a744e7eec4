//! The sample programs of the demo mesh, as one binary: Bookinfo, httpbin, helloworld and an echo
//! server that tells what it saw.
//!
//! They stand in for the container images that public sample manifests name: same paths, same ports,
//! answers of the same shape, content of our own. They are deliberately not hardened applications:
//! Bookinfo's login asks for no password, and its session cookie is the user's name.
//!
//! Invariants:
//! * No program knows anything of a mesh: plain HTTP, gRPC and TCP, peers by their service names.
//! * Request headers that tie a request to its trace and its user travel on to every upstream
//!   ([`propagate`]).

mod bookinfo;
mod echo;
mod flaky;
mod helloworld;
mod httpbin;
mod propagate;
mod serve;
mod upstream;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "ostro-sample", about = "Sample programs of the demo mesh", version)]
struct Cli {
    #[command(subcommand)]
    program: Program,
}

#[derive(Subcommand)]
enum Program {
    /// Bookinfo's front page; calls details and reviews
    Productpage(bookinfo::productpage::Options),
    /// Bookinfo's book details
    Details(bookinfo::details::Options),
    /// Bookinfo's reviews; v2 and v3 call ratings
    Reviews(bookinfo::reviews::Options),
    /// Bookinfo's star ratings
    Ratings(bookinfo::ratings::Options),
    /// Answers as httpbin does
    Httpbin(httpbin::Options),
    /// Says hello and which version it is
    Helloworld(helloworld::Options),
    /// Tells what it saw, over HTTP/1, h2c, gRPC and TCP
    Echo(echo::Options),
}

// One thread: a pod has a small share of its machine, and none of these programs has work for two.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let result = match Cli::parse().program {
        Program::Productpage(options) => bookinfo::productpage::run(options).await,
        Program::Details(options) => bookinfo::details::run(options).await,
        Program::Reviews(options) => bookinfo::reviews::run(options).await,
        Program::Ratings(options) => bookinfo::ratings::run(options).await,
        Program::Httpbin(options) => httpbin::run(options).await,
        Program::Helloworld(options) => helloworld::run(options).await,
        Program::Echo(options) => echo::run(options).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ostro-sample: {error}");
            ExitCode::FAILURE
        }
    }
}
