//! Options of sockets, as data: whoever opens the socket applies them.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::socket_option::{SocketState as State, SocketType, Value};
use envoy_types::pb::envoy::config::core::v3::{SocketOption as OptionProto, TcpKeepalive as KeepaliveProto};

use crate::Refusal;
use crate::proto::{enumeration, number};

/// TCP keepalive; what is not set is the system's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// Probes that may go unanswered.
    pub probes: Option<u32>,
    /// Silence before the first probe.
    pub time: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
}

/// A socket option by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOption {
    /// As for `setsockopt`.
    pub level: i32,
    /// As for `setsockopt`.
    pub name: i32,
    /// As for `setsockopt`: an `int` in the machine's order, or bytes as configured.
    pub value: Box<[u8]>,
    /// When it is set.
    pub state: SocketState,
}

/// Moments in the life of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketState {
    /// Before it is bound.
    Prebind,
    /// When it is bound, before it listens or connects.
    Bound,
    /// When it listens.
    Listening,
}

impl TcpKeepalive {
    /// Reads a `TcpKeepalive`, of a listener or a cluster.
    pub(crate) fn compile(proto: &KeepaliveProto) -> TcpKeepalive {
        let KeepaliveProto { keepalive_probes, keepalive_time, keepalive_interval } = proto;
        let seconds = |value: Option<u32>| value.map(|seconds| Duration::from_secs(seconds.into()));
        TcpKeepalive {
            probes: number(keepalive_probes.as_ref()),
            time: seconds(number(keepalive_time.as_ref())),
            interval: seconds(number(keepalive_interval.as_ref())),
        }
    }
}

impl SocketOption {
    /// Reads an option; `None` if it is for datagrams, of which there are none here.
    pub(crate) fn compile(proto: &OptionProto) -> Result<Option<SocketOption>, Refusal> {
        let OptionProto { description: _, level, name, state, r#type, ip_version, value } = proto;
        refuse_if_set!(ip_version);
        if let Some(SocketType { stream: None, datagram: Some(_) }) = r#type {
            return Ok(None);
        }
        let int = |value: i64, what: &str| {
            i32::try_from(value).map_err(|_| Refusal::invalid(format!("{what} {value}")))
        };
        let value = match value {
            Some(Value::IntValue(value)) => int(*value, "int_value")?.to_ne_bytes().into(),
            Some(Value::BufValue(bytes)) => bytes.as_slice().into(),
            None => return Err(Refusal::invalid("no value")),
        };
        let state = match enumeration(*state, "state")? {
            State::StatePrebind => SocketState::Prebind,
            State::StateBound => SocketState::Bound,
            State::StateListening => SocketState::Listening,
        };
        Ok(Some(SocketOption { level: int(*level, "level")?, name: int(*name, "name")?, value, state }))
    }
}
