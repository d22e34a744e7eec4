//! Whatever parses bytes from outside, as functions of bytes: what `fuzz/` gives to a fuzzer, and what the suite replays the
//! corpus with.
//!
//! A target takes any bytes and panics if something is wrong with what was made of them. [`Target::seeds`] are inputs to begin
//! with, of our own making; `fuzz/corpus/NAME` holds them, and whatever was found since.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a target says by panicking that something is wrong"
)]

mod cut;
mod data_plane;
mod h2_driver;
mod http1;
mod http2;
mod mesh;
mod xds;

/// Something that is fuzzed.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: that of the program in `fuzz/`, and of its corpus.
    pub name: &'static str,
    /// Takes an input.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "access_log", run: data_plane::access_log, seeds: data_plane::access_log_seeds },
    Target { name: "admin_query", run: data_plane::admin_query, seeds: data_plane::admin_query_seeds },
    Target { name: "bootstrap", run: xds::bootstrap, seeds: xds::bootstrap_seeds },
    Target { name: "dns", run: mesh::dns, seeds: mesh::dns_seeds },
    Target { name: "dns_reply", run: data_plane::dns_reply, seeds: data_plane::dns_reply_seeds },
    Target { name: "engine_regex", run: data_plane::regex, seeds: data_plane::regex_seeds },
    Target { name: "engine_xds", run: xds::engine, seeds: xds::engine_seeds },
    Target { name: "envoy_json", run: xds::json, seeds: xds::json_seeds },
    Target { name: "h2_driver", run: h2_driver::run, seeds: h2_driver::seeds },
    Target { name: "http1", run: http1::run, seeds: http1::seeds },
    Target { name: "http2", run: http2::run, seeds: http2::seeds },
    Target { name: "inspectors", run: data_plane::inspectors, seeds: data_plane::inspectors_seeds },
    Target { name: "netlink", run: mesh::netlink, seeds: mesh::netlink_seeds },
    Target { name: "peer_metadata", run: data_plane::peer_metadata, seeds: data_plane::peer_metadata_seeds },
    Target {
        name: "proxy_protocol",
        run: data_plane::proxy_protocol,
        seeds: data_plane::proxy_protocol_seeds,
    },
    Target { name: "xds_response", run: xds::responses, seeds: xds::responses_seeds },
    Target { name: "yaml", run: mesh::yaml, seeds: mesh::yaml_seeds },
];

/// Runs the target of this name.
///
/// # Panics
/// If there is none, or the target finds something.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    (target.run)(input);
}
