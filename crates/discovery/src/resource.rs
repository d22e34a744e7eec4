//! One encoded resource and its version.

use std::fmt;

use bytes::Bytes;
use ostro_names::Name;

use crate::item::Slot;

/// What identifies the content of a resource: the xxh3 hash of its bytes, so that it is the same after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Version(u64);

impl Version {
    /// Nothing has been told, or it is to be told again.
    pub const NOTHING: Version = Version(0);
    /// There is no such resource.
    pub const ABSENT: Version = Version(1);
    /// Something that we never made: not our way of writing a version.
    pub const FOREIGN: Version = Version(2);

    const RESERVED: u64 = 3;

    /// The version of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(xxhash_rust::xxh3::xxh3_64(bytes))
    }

    fn from_hash(hash: u64) -> Self {
        Version(if hash < Self::RESERVED { hash + Self::RESERVED } else { hash })
    }

    /// The version of a whole set of resources, whatever their order.
    pub fn of_set(parts: impl Iterator<Item = (Name, Version)>) -> Self {
        // The sum of hashes is a hash of a set; each part is hashed with its name so that swaps are seen.
        let sum = parts.fold(0u64, |sum, (name, version)| {
            sum.wrapping_add(xxhash_rust::xxh3::xxh3_64_with_seed(name.as_str().as_bytes(), version.0))
        });
        Self::from_hash(sum)
    }

    /// Reads a version as a peer repeats it.
    pub fn parse(text: &str) -> Self {
        match u64::from_str_radix(text, 16) {
            Ok(hash) if text.len() == 16 && hash >= Self::RESERVED => Version(hash),
            _ => Version::FOREIGN,
        }
    }

    /// Whether the peer has some content under this version.
    pub fn is_content(self) -> bool {
        self != Version::NOTHING && self != Version::ABSENT
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One resource as it is held and sent, shared by all proxies that agree on it.
#[derive(Debug)]
pub(crate) struct Resource {
    /// Where the cache keeps it.
    pub slot: Slot,
    pub version: Version,
    /// `None`: there is no such resource (which is knowledge too, and depends on what was read).
    pub bytes: Option<Bytes>,
    /// The load assignment without which this cluster stays warming.
    pub endpoints: Option<Name>,
}

impl Resource {
    /// Size on the wire, without the envelope.
    pub fn size(&self) -> usize {
        self.bytes.as_ref().map_or(0, Bytes::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_survives_the_wire_and_depends_on_bytes_alone() {
        let version = Version::of(b"cluster");
        assert_eq!(Version::parse(&version.to_string()), version);
        assert_eq!(Version::of(b"cluster"), version);
        assert_ne!(Version::of(b"cluster2"), version);
    }

    #[test]
    fn what_we_never_wrote_is_foreign() {
        for text in ["", "1", "0000000000000001", "2026-01-01T00:00:00Z/7", "00000000000000zz"] {
            assert_eq!(Version::parse(text), Version::FOREIGN, "{text}");
        }
    }

    #[test]
    fn a_set_has_no_order_but_tells_names_apart() {
        let (a, b) = (Name::new("a"), Name::new("b"));
        let (one, two) = (Version::of(b"1"), Version::of(b"2"));
        let set = |parts: Vec<(Name, Version)>| Version::of_set(parts.into_iter());
        assert_eq!(set(vec![(a, one), (b, two)]), set(vec![(b, two), (a, one)]));
        assert_ne!(set(vec![(a, one), (b, two)]), set(vec![(a, two), (b, one)]));
    }
}
