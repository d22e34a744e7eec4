//! The proxy as a program of its own, in place of `envoy`.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    ostro_proxy::run(ostro_proxy::Options::parse())
}
