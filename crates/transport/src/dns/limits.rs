//! The bounds of name resolution.

use std::time::Duration;

/// Lookups under way at the same time, of all workers; more fail as busy.
pub const LOOKUPS: usize = 256;
/// Answers kept, absences included, unless [`super::Config::cache`] says otherwise.
pub const ANSWERS: usize = 1_024;
/// Addresses kept of one answer; a server's further ones are left.
pub const ADDRESSES: usize = 256;
/// Bytes of a reply over UDP; also what the question says we take (EDNS). Below what fragments on any common link.
pub const UDP_REPLY: u16 = 1_232;
/// The longest that anything is remembered, whatever the record says.
pub const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest that an absence is remembered (RFC 2308 advises one to three hours at most; a mesh creates names).
pub const ABSENT_MAX: Duration = Duration::from_secs(30);
/// How long an absence is remembered of which the server does not say it.
pub const ABSENT_DEFAULT: Duration = Duration::from_secs(5);
/// Aliases from a name to its addresses; longer chains are loops.
pub const ALIASES: usize = 16;
/// Servers of `resolv.conf`; its documented maximum.
pub const SERVERS: usize = 3;
/// Suffixes of `resolv.conf`; glibc's old maximum is 6, Kubernetes allows 32.
pub const SUFFIXES: usize = 32;
/// Lines of `/etc/hosts` that are read.
pub const HOSTS: usize = 10_000;
/// Bytes of either file.
pub const FILE_BYTES: u64 = 1 << 20;
