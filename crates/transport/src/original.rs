//! Where a captured connection was going before the kernel's rules turned it to the proxy.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};
use socket2::SockRef;

/// Where an accepted connection was going; none if nobody turned it, or nobody remembers.
///
/// With `transparent` (TPROXY) that is the socket's own address. Else (REDIRECT) the kernel's connection tracking is
/// asked: `SO_ORIGINAL_DST`, IPv4 also on an IPv6 socket that takes both.
pub fn original_destination(socket: &impl AsFd, transparent: bool) -> io::Result<Option<SocketAddr>> {
    let Some(local) = SockRef::from(socket).local_addr()?.as_socket().map(canonical) else {
        return Ok(None);
    };
    if transparent {
        return Ok(Some(local));
    }
    let tracked = match local {
        SocketAddr::V4(_) => ip_original_dst(socket).map(SocketAddr::V4),
        SocketAddr::V6(_) => ipv6_original_dst(socket).map(SocketAddr::V6),
    };
    match tracked {
        Ok(wanted) => Ok(Some(wanted).filter(|wanted| *wanted != local)),
        // Not tracked; and no tracking at all.
        Err(Errno::NOENT | Errno::NOPROTOOPT | Errno::OPNOTSUPP | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// An IPv4 address that came through an IPv6 socket, as what it is.
pub fn canonical(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip().to_canonical(), at.port()).with_scope_of(at)
}

trait Scoped {
    fn with_scope_of(self, other: SocketAddr) -> SocketAddr;
}

impl Scoped for SocketAddr {
    fn with_scope_of(mut self, other: SocketAddr) -> SocketAddr {
        if let (SocketAddr::V6(own), SocketAddr::V6(other)) = (&mut self, other) {
            own.set_scope_id(other.scope_id());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_what_it_is() {
        let canonical = |text: &str| canonical(text.parse().unwrap()).to_string();
        assert_eq!(canonical("[::ffff:10.0.0.1]:80"), "10.0.0.1:80");
        assert_eq!(canonical("10.0.0.1:80"), "10.0.0.1:80");
        assert_eq!(canonical("[::1]:80"), "[::1]:80");
        assert_eq!(canonical("[fe80::1%3]:80"), "[fe80::1%3]:80");
    }
}
