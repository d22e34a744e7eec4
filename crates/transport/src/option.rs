//! Socket options by the numbers that Envoy's configuration has for them.
//!
//! `envoy.config.core.v3.SocketOption` is a level, a name and a value, as `setsockopt(2)` takes them on the proxy's
//! kernel. Those that a proxy has a use for are known here; any other is refused by name, for to set an option of which
//! one knows nothing is to promise what one cannot keep.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;
use socket2::SockRef;

/// A socket option that is known, with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketOption {
    /// `SO_KEEPALIVE`.
    KeepAlive(bool),
    /// `TCP_KEEPIDLE`, seconds.
    KeepIdle(u32),
    /// `TCP_KEEPINTVL`, seconds.
    KeepInterval(u32),
    /// `TCP_KEEPCNT`.
    KeepCount(u32),
    /// `TCP_USER_TIMEOUT`, milliseconds.
    UserTimeout(u32),
    /// `TCP_NODELAY`.
    NoDelay(bool),
    /// `SO_MARK`.
    Mark(u32),
    /// `SO_RCVBUF`, bytes.
    ReceiveBuffer(u32),
    /// `SO_SNDBUF`, bytes.
    SendBuffer(u32),
    /// `SO_REUSEADDR`.
    ReuseAddress(bool),
    /// `SO_REUSEPORT`.
    ReusePort(bool),
    /// `IP_TRANSPARENT`.
    Transparent(bool),
    /// `IPV6_TRANSPARENT`.
    TransparentV6(bool),
    /// `IP_FREEBIND`.
    FreeBind(bool),
    /// `IPV6_FREEBIND`.
    FreeBindV6(bool),
    /// `IP_TOS`.
    TypeOfService(u32),
    /// `IPV6_TCLASS`.
    TrafficClassV6(u32),
}

/// An option that is not set here. The configuration's author is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownOption {
    /// `TCP_FASTOPEN`: data in a SYN is delivered twice when the SYN is, which a proxy cannot answer for.
    #[error("socket option TCP_FASTOPEN is not supported")]
    FastOpen,
    /// Any other.
    #[error("socket option {name} of level {level} is not supported")]
    Other {
        /// As configured.
        level: i64,
        /// As configured.
        name: i64,
    },
    /// A value that the option cannot have.
    #[error("socket option {name} of level {level} cannot be {value}")]
    Value {
        /// As configured.
        level: i64,
        /// As configured.
        name: i64,
        /// As configured.
        value: i64,
    },
}

const IP: i64 = 0;
const SOCKET: i64 = 1;
const TCP: i64 = 6;
const IPV6: i64 = 41;

impl SocketOption {
    /// The option of these numbers, which are Linux' (the same on x86-64 and aarch64).
    pub fn from_raw(level: i64, name: i64, value: i64) -> Result<SocketOption, UnknownOption> {
        let number = u32::try_from(value).map_err(|_| UnknownOption::Value { level, name, value })?;
        let on = number != 0;
        Ok(match (level, name) {
            (SOCKET, 2) => SocketOption::ReuseAddress(on),
            (SOCKET, 7) => SocketOption::SendBuffer(number),
            (SOCKET, 8) => SocketOption::ReceiveBuffer(number),
            (SOCKET, 9) => SocketOption::KeepAlive(on),
            (SOCKET, 15) => SocketOption::ReusePort(on),
            (SOCKET, 36) => SocketOption::Mark(number),
            (TCP, 1) => SocketOption::NoDelay(on),
            (TCP, 4) => SocketOption::KeepIdle(number),
            (TCP, 5) => SocketOption::KeepInterval(number),
            (TCP, 6) => SocketOption::KeepCount(number),
            (TCP, 18) => SocketOption::UserTimeout(number),
            (TCP, 23) => return Err(UnknownOption::FastOpen),
            (IP, 1) => SocketOption::TypeOfService(number),
            (IP, 15) => SocketOption::FreeBind(on),
            (IP, 19) => SocketOption::Transparent(on),
            (IPV6, 67) => SocketOption::TrafficClassV6(number),
            (IPV6, 75) => SocketOption::TransparentV6(on),
            (IPV6, 78) => SocketOption::FreeBindV6(on),
            _ => return Err(UnknownOption::Other { level, name }),
        })
    }

    /// Sets it.
    pub fn apply(&self, socket: &impl AsFd) -> io::Result<()> {
        let plain = SockRef::from(socket);
        match *self {
            SocketOption::KeepAlive(on) => plain.set_keepalive(on),
            SocketOption::KeepIdle(s) => Ok(sockopt::set_tcp_keepidle(socket, seconds(s))?),
            SocketOption::KeepInterval(s) => Ok(sockopt::set_tcp_keepintvl(socket, seconds(s))?),
            SocketOption::KeepCount(count) => Ok(sockopt::set_tcp_keepcnt(socket, count)?),
            SocketOption::UserTimeout(ms) => Ok(sockopt::set_tcp_user_timeout(socket, ms)?),
            SocketOption::NoDelay(on) => plain.set_tcp_nodelay(on),
            SocketOption::Mark(mark) => plain.set_mark(mark),
            SocketOption::ReceiveBuffer(bytes) => plain.set_recv_buffer_size(bytes as usize),
            SocketOption::SendBuffer(bytes) => plain.set_send_buffer_size(bytes as usize),
            SocketOption::ReuseAddress(on) => plain.set_reuse_address(on),
            SocketOption::ReusePort(on) => plain.set_reuse_port(on),
            SocketOption::Transparent(on) => plain.set_ip_transparent_v4(on),
            SocketOption::TransparentV6(on) => plain.set_ip_transparent_v6(on),
            SocketOption::FreeBind(on) => plain.set_freebind_v4(on),
            SocketOption::FreeBindV6(on) => plain.set_freebind_v6(on),
            SocketOption::TypeOfService(tos) => plain.set_tos_v4(tos),
            SocketOption::TrafficClassV6(class) => plain.set_tclass_v6(class),
        }
    }
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(number.into())
}

/// When a silent peer is probed (`envoy.config.core.v3.TcpKeepalive`). What is not said is the kernel's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// Probes without an answer until the connection is given up.
    pub probes: Option<u32>,
    /// Silence before the first probe; whole seconds.
    pub time: Option<Duration>,
    /// Time between probes; whole seconds.
    pub interval: Option<Duration>,
}

impl Keepalive {
    /// Sets it, and that there are probes at all.
    pub fn apply(&self, socket: &impl AsFd) -> io::Result<()> {
        SockRef::from(socket).set_keepalive(true)?;
        if let Some(probes) = self.probes {
            sockopt::set_tcp_keepcnt(socket, probes)?;
        }
        if let Some(time) = self.time {
            sockopt::set_tcp_keepidle(socket, time)?;
        }
        if let Some(interval) = self.interval {
            sockopt::set_tcp_keepintvl(socket, interval)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};

    #[test]
    fn numbers_mean_what_the_kernel_means_by_them() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        for (level, name, value) in [
            (1, 2, 1),
            (1, 9, 1),
            (1, 15, 1),
            (6, 1, 1),
            (6, 4, 17),
            (6, 5, 3),
            (6, 6, 4),
            (6, 18, 2500),
            (0, 1, 0x10),
            (0, 15, 1),
        ] {
            SocketOption::from_raw(level, name, value).unwrap().apply(&socket).unwrap();
        }
        assert!(socket.reuse_address().unwrap() && socket.reuse_port().unwrap());
        assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(17));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(3));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_millis(2500)));
        assert_eq!(socket.tos_v4().unwrap(), 0x10);
        assert!(socket.freebind_v4().unwrap());
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        SocketOption::from_raw(41, 67, 0x20).unwrap().apply(&socket).unwrap();
        SocketOption::from_raw(41, 78, 1).unwrap().apply(&socket).unwrap();
        assert_eq!(socket.tclass_v6().unwrap(), 0x20);
        assert!(socket.freebind_v6().unwrap());
    }

    #[test]
    fn what_is_unknown_is_refused_by_name() {
        let refused =
            |level, name, value| SocketOption::from_raw(level, name, value).unwrap_err().to_string();
        assert_eq!(refused(6, 23, 5), "socket option TCP_FASTOPEN is not supported");
        assert_eq!(refused(1, 13, 1), "socket option 13 of level 1 is not supported");
        assert_eq!(refused(6, 4, -1), "socket option 4 of level 6 cannot be -1");
    }

    #[test]
    fn keepalive_sets_what_it_says_and_leaves_the_rest() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let before = socket.tcp_keepalive_interval().unwrap();
        Keepalive { probes: Some(2), time: Some(Duration::from_secs(11)), interval: None }
            .apply(&socket)
            .unwrap();
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 2);
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(11));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), before);
    }
}
