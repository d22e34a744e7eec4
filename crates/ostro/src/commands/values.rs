//! Values of options, read so that what is wrong with one is answered with what it could be.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use ostro_agent::DataPlane;
use ostro_local::plan::REPLICAS_MAX;
use std::net::{Ipv4Addr, SocketAddr};

/// Longest name of a Service, and of a part of a host's name.
const LABEL_MAX: usize = 63;

/// How many pods a workload is to have.
pub fn replicas(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(replicas) if replicas <= REPLICAS_MAX => Ok(replicas),
        _ => Err(format!("write how many pods it is to have, from 0 to {REPLICAS_MAX}")),
    }
}

/// What proxies are.
pub fn data_plane() -> impl TypedValueParser<Value = DataPlane> {
    PossibleValuesParser::new(DataPlane::ALL.map(DataPlane::as_str)).try_map(|name| name.parse::<DataPlane>())
}

/// How many lines.
pub fn lines(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "write how many lines, such as 20".to_owned())
}

/// How many seconds.
pub fn seconds(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "write how many seconds, such as 5".to_owned())
}

/// Where to listen: `PORT` on this machine alone, or `ADDRESS:PORT`.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let text =
        text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    text.parse()
        .map_err(|_| "write ADDRESS:PORT, such as 127.0.0.1:8080 (port 0: any that is free)".to_owned())
}

/// A name for a Service and what is behind it, which is a part of a host's name.
pub fn label(text: &str) -> Result<String, String> {
    let letters = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let ends = text.starts_with(|c: char| c.is_ascii_lowercase()) && !text.ends_with('-');
    match letters && ends && text.len() <= LABEL_MAX {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "write lower case letters, digits and -, {LABEL_MAX} at most, beginning with a letter: it becomes a host's \
             name"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_bounds_that_are_told() {
        assert_eq!(replicas("0"), Ok(0));
        assert_eq!(replicas("100"), Ok(100));
        for bad in ["-1", "101", "many", ""] {
            assert!(replicas(bad).unwrap_err().contains("from 0 to 100"), "{bad}");
        }
    }

    #[test]
    fn an_address_may_be_a_port_alone() {
        for (text, expected) in [
            ("8080", "127.0.0.1:8080"),
            ("localhost:1", "127.0.0.1:1"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[::1]:2", "[::1]:2"),
        ] {
            assert_eq!(address(text), Ok(expected.parse().unwrap()), "{text}");
        }
        for bad in ["", "here:80", "localhost", "127.0.0.1", "99999"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_parts_of_host_names() {
        for good in ["a", "reviews-v1"] {
            assert_eq!(label(good).as_deref(), Ok(good));
        }
        for bad in ["", "A", "1a", "a-", "a.b", "a_b", &"a".repeat(64)] {
            assert!(label(bad).is_err(), "{bad}");
        }
    }
}
