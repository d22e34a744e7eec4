//! nftables by netlink: our own encoding of the part of the protocol that capture and services need.
//!
//! What it is: attributes ([`attr`]), expressions ([`expr`]), tables, chains, rules and sets in atomic batches
//! ([`batch`]), reading back what is loaded ([`dump`]), and the socket under them ([`socket`]). What it
//! deliberately is not: a general binding of nf_tables; what we do not send we do not model.
//!
//! Invariants:
//! * A batch is in force whole or not at all, and [`Batch::commit`] returns after the kernel has said which.
//! * Everything acts on the network namespace of the calling thread at the moment the socket is opened.
//! * Nothing the kernel (or whoever speaks in its place) sends can panic or make us allocate without bound.

pub mod attr;
pub mod batch;
pub mod dump;
pub mod error;
pub mod expr;
pub mod socket;

pub use batch::Batch;
pub use error::NetlinkError;

/// An address family, as nf_tables names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 and IPv6 in one table.
    Inet,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// `NFPROTO_*`.
    pub fn number(self) -> u8 {
        match self {
            Family::Inet => 1,
            Family::Ipv4 => 2,
            Family::Ipv6 => 10,
        }
    }

    /// The other way round.
    pub fn from_number(number: u8) -> Option<Family> {
        [Family::Inet, Family::Ipv4, Family::Ipv6].into_iter().find(|f| f.number() == number)
    }
}
