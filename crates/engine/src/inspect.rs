//! Listener filters: what a listener lets itself see of a connection before it chooses a filter chain.
//!
//! Without a TLS inspector (or with one that is switched off for the port) everything is plaintext of no known
//! protocol; an HTTP inspector only ever looks at plaintext.

use envoy_types::pb::envoy::config::listener::v3::listener_filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::listener_filter_chain_match_predicate::Rule;
use envoy_types::pb::envoy::config::listener::v3::{ListenerFilter, ListenerFilterChainMatchPredicate};
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;

use crate::refusal::{Within, is};
use crate::{Connection, HttpVersion, Opening, Refusal};

/// Deepest nesting of a `filter_disabled` predicate.
const PREDICATE_DEPTH_MAX: usize = 32;

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
    Tls,
    Http,
    OriginalDestination,
}

/// What the inspectors found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// `tls` or `raw_buffer`.
    pub transport: &'static str,
    /// Server name in lower case; empty if none was seen.
    pub server_name: String,
    /// Application protocols, in the client's order.
    pub protocols: Vec<&'a str>,
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

    /// Lets the inspectors look at a connection.
    pub fn look<'a>(&self, connection: &Connection<'a>) -> Seen<'a> {
        let mut seen = Seen { transport: "raw_buffer", server_name: String::new(), protocols: Vec::new() };
        let port = i32::from(connection.destination.port());
        for filter in &self.filters {
            if filter.disabled.as_ref().is_some_and(|p| p.holds(port)) {
                continue;
            }
            match (filter.kind, connection.opening) {
                (Kind::Tls, Opening::Tls(hello)) => {
                    seen.transport = "tls";
                    seen.server_name = hello.server_name.to_ascii_lowercase();
                    seen.protocols = hello.protocols.to_vec();
                }
                (Kind::Http, Opening::Http(version)) => seen.protocols = vec![version.protocol()],
                _ => {}
            }
        }
        seen
    }
}

impl Inspector {
    fn compile(filter: &ListenerFilter) -> Result<Inspector, Refusal> {
        let ListenerFilter { name: _, filter_disabled, config_type } = filter;
        let Some(ConfigType::TypedConfig(config)) = config_type else {
            return Err(Refusal::unsupported("listener filter without typed_config"));
        };
        let kind = if is::<TlsInspector>(config) {
            Kind::Tls
        } else if is::<HttpInspector>(config) {
            Kind::Http
        } else if is::<OriginalDst>(config) {
            Kind::OriginalDestination
        } else {
            return Err(Refusal::unsupported(&config.type_url));
        };
        let disabled = filter_disabled.as_ref().map(|p| Predicate::compile(p, 0)).transpose()?;
        Ok(Inspector { kind, disabled })
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
