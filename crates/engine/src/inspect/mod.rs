//! Listener filters: what a listener lets itself see of a connection before it chooses a filter chain.
//!
//! Without a TLS inspector (or with one that is switched off for the port) everything is plaintext of no known
//! protocol; an HTTP inspector only ever looks at plaintext.
//!
//! Bytes are looked at where they are, and all from the first each time: [`Inspectors::look_at`] has no state, and no
//! connection is asked for more than [`Inspectors::PEEK_MAX`].

mod http;
mod proxy_protocol;
mod tls;

use envoy_types::pb::envoy::config::listener::v3::listener_filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::listener_filter_chain_match_predicate::Rule;
use envoy_types::pb::envoy::config::listener::v3::{ListenerFilter, ListenerFilterChainMatchPredicate};
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol as ProxyProtocolProto;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;

pub use proxy_protocol::ProxyProtocol;

use crate::proto::{flag, number};
use crate::refusal::{Within, is, unpack};
use crate::{Connection, HttpVersion, Opening, Refusal};

/// Deepest nesting of a `filter_disabled` predicate.
const PREDICATE_DEPTH_MAX: usize = 32;

/// Longest ClientHello where the inspector does not say.
const CLIENT_HELLO_MAX: usize = 16 * 1024;

/// The listener filters of one listener, in order.
#[derive(Clone, Debug, Default)]
pub struct Inspectors {
    filters: Vec<Inspector>,
}

#[derive(Clone, Debug)]
struct Inspector {
    kind: Kind,
    disabled: Option<Predicate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Looks for a ClientHello of at most so many bytes.
    Tls {
        bytes_max: usize,
        closes_on_error: bool,
    },
    Http,
    OriginalDestination,
    ProxyProtocol(ProxyProtocol),
}

/// What the inspectors found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `tls` or `raw_buffer`.
    pub transport: &'static str,
    /// Server name in lower case; empty if none was seen.
    pub server_name: Box<str>,
    /// Application protocols, in the client's order.
    pub protocols: Vec<Box<str>>,
}

/// What a look at the first bytes of a connection gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It takes more bytes to tell.
    NeedMore,
    /// All that the inspectors wanted to know.
    Done(Seen),
    /// The connection is to be closed, for this reason.
    Close(&'static str),
}

#[derive(Clone, Debug)]
enum Predicate {
    Any(Vec<Predicate>),
    All(Vec<Predicate>),
    Not(Box<Predicate>),
    Always,
    /// First port, and the one after the last.
    Ports(i32, i32),
}

impl Inspectors {
    /// Compiles a listener's filters; one of another kind is refused.
    pub(crate) fn compile(filters: &[ListenerFilter]) -> Result<Inspectors, Refusal> {
        let one =
            |f: &ListenerFilter| Inspector::compile(f).within(|| format!("listener_filters[{}]", f.name));
        Ok(Inspectors { filters: filters.iter().map(one).collect::<Result<_, _>>()? })
    }

    /// Is the original destination restored from the socket?
    pub fn restores_destination(&self) -> bool {
        self.filters.iter().any(|f| f.kind == Kind::OriginalDestination)
    }

    /// The PROXY protocol that connections begin with, if they do. It is read, and its bytes taken, before anything is
    /// looked at.
    pub fn proxy_protocol(&self) -> Option<&ProxyProtocol> {
        self.filters.iter().find_map(|filter| match &filter.kind {
            Kind::ProxyProtocol(protocol) => Some(protocol),
            _ => None,
        })
    }

    /// Most bytes that [`Inspectors::look_at`] is ever interested in.
    pub const PEEK_MAX: usize = 64 * 1024;

    /// Do inspectors look at the bytes of connections to this port at all? If not, nobody needs to wait for bytes.
    pub fn wants_bytes(&self, port: u16) -> bool {
        self.active(port).any(|kind| matches!(kind, Kind::Tls { .. } | Kind::Http))
    }

    /// Looks at the first bytes of a connection to this port: all of them that have come so far. `no_more` says that
    /// more will not come, or not in time; then the answer is never [`Look::NeedMore`].
    pub fn look_at(&self, port: u16, bytes: &[u8], no_more: bool) -> Look {
        let no_more = no_more || bytes.len() >= Self::PEEK_MAX;
        let mut seen = Seen::default();
        for kind in self.active(port) {
            let found = match kind {
                Kind::Tls { bytes_max, closes_on_error } => match tls::read(bytes, bytes_max) {
                    tls::Read::Hello { server_name, protocols } => {
                        seen = Seen { transport: "tls", server_name, protocols };
                        true
                    }
                    tls::Read::TooLarge => return Look::Close("client_hello_too_large"),
                    tls::Read::NotTls if closes_on_error => return Look::Close("no_client_hello"),
                    tls::Read::NotTls => true,
                    tls::Read::NeedMore => false,
                },
                Kind::Http if seen.transport != "tls" => match http::read(bytes) {
                    http::Read::Http(version) => {
                        seen.protocols = vec![version.protocol().into()];
                        true
                    }
                    http::Read::NotHttp => true,
                    http::Read::NeedMore => false,
                },
                _ => true,
            };
            if !found && !no_more {
                return Look::NeedMore;
            }
        }
        Look::Done(seen)
    }

    /// What the inspectors see of a connection whose opening is known.
    pub fn look(&self, connection: &Connection<'_>) -> Seen {
        let mut seen = Seen::default();
        for kind in self.active(connection.destination.port()) {
            match (kind, connection.opening) {
                (Kind::Tls { .. }, Opening::Tls(hello)) => {
                    seen.transport = "tls";
                    seen.server_name = hello.server_name.to_ascii_lowercase().into();
                    seen.protocols = hello.protocols.iter().map(|protocol| Box::from(*protocol)).collect();
                }
                (Kind::Http, Opening::Http(version)) => seen.protocols = vec![version.protocol().into()],
                _ => {}
            }
        }
        seen
    }

    /// The filters that are not switched off for a port.
    fn active(&self, port: u16) -> impl Iterator<Item = Kind> {
        let is_off = move |filter: &Inspector| filter.disabled.as_ref().is_some_and(|p| p.holds(port.into()));
        self.filters.iter().filter(move |filter| !is_off(filter)).map(|filter| filter.kind)
    }
}

impl Default for Seen {
    fn default() -> Seen {
        Seen { transport: "raw_buffer", server_name: "".into(), protocols: Vec::new() }
    }
}

impl Inspector {
    fn compile(filter: &ListenerFilter) -> Result<Inspector, Refusal> {
        let ListenerFilter { name: _, filter_disabled, config_type } = filter;
        let Some(ConfigType::TypedConfig(config)) = config_type else {
            return Err(Refusal::unsupported("listener filter without typed_config"));
        };
        let kind = if is::<TlsInspector>(config) {
            Kind::tls(&unpack(config)?)?
        } else if is::<HttpInspector>(config) {
            Kind::Http
        } else if is::<OriginalDst>(config) {
            Kind::OriginalDestination
        } else if is::<ProxyProtocolProto>(config) {
            Kind::ProxyProtocol(ProxyProtocol::compile(&unpack(config)?)?)
        } else {
            return Err(Refusal::unsupported(&config.type_url));
        };
        let disabled = filter_disabled.as_ref().map(|p| Predicate::compile(p, 0)).transpose()?;
        Ok(Inspector { kind, disabled })
    }
}

impl Kind {
    fn tls(proto: &TlsInspector) -> Result<Kind, Refusal> {
        let TlsInspector {
            enable_ja3_fingerprinting,
            enable_ja4_fingerprinting,
            // How much is read at first, which changes no answer.
            initial_read_buffer_size: _,
            close_connection_on_client_hello_parsing_errors,
            max_client_hello_size,
        } = proto;
        if flag(enable_ja3_fingerprinting.as_ref(), false) || flag(enable_ja4_fingerprinting.as_ref(), false)
        {
            return Err(Refusal::unsupported("fingerprinting"));
        }
        let bytes_max = number(max_client_hello_size.as_ref()).map_or(CLIENT_HELLO_MAX, |max| max as usize);
        let closes_on_error = *close_connection_on_client_hello_parsing_errors;
        Ok(Kind::Tls { bytes_max: bytes_max.min(CLIENT_HELLO_MAX), closes_on_error })
    }
}

impl Predicate {
    fn compile(predicate: &ListenerFilterChainMatchPredicate, depth: usize) -> Result<Predicate, Refusal> {
        if depth > PREDICATE_DEPTH_MAX {
            return Err(Refusal::unsupported(format!("filter_disabled deeper than {PREDICATE_DEPTH_MAX}")));
        }
        let each = |rules: &[ListenerFilterChainMatchPredicate]| {
            rules.iter().map(|r| Predicate::compile(r, depth + 1)).collect::<Result<Vec<_>, _>>()
        };
        match &predicate.rule {
            Some(Rule::OrMatch(set)) => Ok(Predicate::Any(each(&set.rules)?)),
            Some(Rule::AndMatch(set)) => Ok(Predicate::All(each(&set.rules)?)),
            Some(Rule::NotMatch(rule)) => Ok(Predicate::Not(Box::new(Predicate::compile(rule, depth + 1)?))),
            Some(Rule::AnyMatch(true)) => Ok(Predicate::Always),
            Some(Rule::AnyMatch(false)) => Err(Refusal::invalid("filter_disabled.any_match must be true")),
            Some(Rule::DestinationPortRange(range)) => Ok(Predicate::Ports(range.start, range.end)),
            None => Err(Refusal::invalid("filter_disabled without a rule")),
        }
    }

    fn holds(&self, port: i32) -> bool {
        match self {
            Predicate::Any(rules) => rules.iter().any(|r| r.holds(port)),
            Predicate::All(rules) => rules.iter().all(|r| r.holds(port)),
            Predicate::Not(rule) => !rule.holds(port),
            Predicate::Always => true,
            Predicate::Ports(first, end) => (*first..*end).contains(&port),
        }
    }
}

impl HttpVersion {
    /// The application protocol Envoy's HTTP inspector gives it.
    pub fn protocol(self) -> &'static str {
        match self {
            HttpVersion::Http10 => "http/1.0",
            HttpVersion::Http11 => "http/1.1",
            HttpVersion::Http2 => "h2c",
        }
    }
}
