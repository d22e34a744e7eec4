//! By what a request's host is chosen, where requests alike are to go to one host.
//!
//! The hash is Envoy's, so that both proxies choose the same host by the same key.

use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3::route_action::HashPolicy as Proto;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::{
    ConnectionProperties, Cookie as CookieProto, CookieAttribute, Header, PolicySpecifier, QueryParameter,
};
use http::{HeaderValue, header};

use super::rewrite::rewriter;
use crate::proto::duration;
use crate::refusal::Within;
use crate::regex::Rewriter;
use crate::{ConnectionInfo, Refusal, Request, RequestField, StreamInfo, hash};

/// By what a request's host is chosen, in order; most routes have none.
#[derive(Clone, Debug, Default)]
pub struct HashPolicies(Box<[Policy]>);

#[derive(Clone, Debug)]
struct Policy {
    key: Key,
    /// If there is a hash after this, those behind do not count.
    is_terminal: bool,
}

#[derive(Clone, Debug)]
enum Key {
    Header(RequestField, Option<Box<Rewriter>>),
    Cookie(Cookie),
    SourceIp,
    Query(Box<str>),
    /// `connection_properties` without any.
    Nothing,
}

#[derive(Clone, Debug)]
struct Cookie {
    name: Box<str>,
    /// A client that has none gets one, for so long; zero is until it ends.
    ttl: Option<Duration>,
    path: Box<str>,
    attributes: Box<[(Box<str>, Box<str>)]>,
}

/// What the policies make of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashed {
    /// What decides about the host; `None` leaves it to chance.
    pub hash: Option<u64>,
    /// Values of `set-cookie` for the response, of cookies that the client gets.
    pub set_cookies: Vec<HeaderValue>,
}

impl HashPolicies {
    pub(super) fn compile(protos: &[Proto]) -> Result<HashPolicies, Refusal> {
        let one = |(place, proto): (usize, &Proto)| {
            let Proto { terminal, policy_specifier } = proto;
            let key = policy_specifier.as_ref().ok_or_else(|| Refusal::invalid("of no kind"));
            let key = key.and_then(Key::compile).within(|| format!("hash_policy[{place}]"))?;
            Ok(Policy { key, is_terminal: *terminal })
        };
        protos.iter().enumerate().map(one).collect::<Result<_, _>>().map(HashPolicies)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What decides about the host of a request.
    pub fn hash(&self, request: &Request, info: &StreamInfo) -> Hashed {
        let mut hashed = Hashed::default();
        for policy in &self.0 {
            let next = match &policy.key {
                Key::Header(field, rewriter) => of_header(request, field, rewriter.as_deref()),
                Key::Cookie(cookie) => cookie.hash(request, &info.connection, &mut hashed.set_cookies),
                Key::SourceIp => Some(hash::of_address(info.remote.unwrap_or(info.connection.remote).ip())),
                Key::Query(name) => request.query(name.as_bytes()).map(hash::of_bytes),
                Key::Nothing => None,
            };
            if let Some(next) = next {
                hashed.hash = Some(hash::add(hashed.hash, next));
            }
            if policy.is_terminal && hashed.hash.is_some() {
                break;
            }
        }
        hashed
    }
}

impl Key {
    fn compile(specifier: &PolicySpecifier) -> Result<Key, Refusal> {
        Ok(match specifier {
            PolicySpecifier::Header(Header { header_name, regex_rewrite }) => {
                let rewriter = regex_rewrite.as_ref().map(rewriter).transpose();
                let rewriter = rewriter.within(|| "regex_rewrite".to_owned())?;
                Key::Header(RequestField::parse(header_name), rewriter.map(Box::new))
            }
            PolicySpecifier::Cookie(cookie) => Key::Cookie(Cookie::compile(cookie)?),
            PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true }) => Key::SourceIp,
            PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: false }) => Key::Nothing,
            PolicySpecifier::QueryParameter(QueryParameter { name }) => Key::Query(name.as_str().into()),
            PolicySpecifier::FilterState(_) => return Err(Refusal::unsupported("filter_state")),
        })
    }
}

/// Values of one name count in any order.
fn of_header(request: &Request, field: &RequestField, rewriter: Option<&Rewriter>) -> Option<u64> {
    let mut values = request.values(field);
    let first = values.next()?;
    let rewritten = |value: &[u8]| rewriter.map_or_else(|| value.to_vec(), |r| r.replace_all(value));
    let Some(second) = values.next() else {
        return Some(
            rewriter.map_or_else(|| hash::of_bytes(first), |r| hash::of_bytes(&r.replace_all(first))),
        );
    };
    let mut all: Vec<Vec<u8>> = [first, second].into_iter().chain(values).map(rewritten).collect();
    all.sort();
    Some(hash::of_all(all.iter().map(Vec::as_slice)))
}

impl Cookie {
    fn compile(proto: &CookieProto) -> Result<Cookie, Refusal> {
        let CookieProto { name, ttl, path, attributes } = proto;
        let attribute =
            |CookieAttribute { name, value }: &CookieAttribute| (name.as_str().into(), value.as_str().into());
        let cookie = Cookie {
            name: name.as_str().into(),
            ttl: ttl.as_ref().map(duration).transpose()?,
            path: path.as_str().into(),
            attributes: attributes.iter().map(attribute).collect(),
        };
        cookie.set("0").map(|_| ()).ok_or_else(|| Refusal::invalid("a cookie that is none"))?;
        Ok(cookie)
    }

    fn hash(
        &self,
        request: &Request,
        connection: &ConnectionInfo,
        set_cookies: &mut Vec<HeaderValue>,
    ) -> Option<u64> {
        if let Some(value) = value(request, self.name.as_bytes()).filter(|value| !value.is_empty()) {
            return Some(hash::of_bytes(value));
        }
        self.ttl?;
        // Requests of one connection that come at the same time get the same.
        let ends = format!("{}{}", connection.remote, connection.local);
        let value = format!("{:016x}", hash::of_bytes(ends.as_bytes()));
        set_cookies.extend(self.set(&value));
        Some(hash::of_bytes(value.as_bytes()))
    }

    fn set(&self, value: &str) -> Option<HeaderValue> {
        let mut text = format!("{}=\"{value}\"", self.name);
        if let Some(seconds) = self.ttl.map(|ttl| ttl.as_secs()).filter(|seconds| *seconds > 0) {
            text.push_str(&format!("; Max-Age={seconds}"));
        }
        if !self.path.is_empty() {
            text.push_str(&format!("; Path={}", self.path));
        }
        for (name, value) in &self.attributes {
            let separator = if value.is_empty() { "" } else { "=" };
            text.push_str(&format!("; {name}{separator}{value}"));
        }
        text.push_str("; HttpOnly");
        HeaderValue::from_str(&text).ok()
    }
}

/// The value of a request's cookie, without quotes around it.
fn value<'a>(request: &'a Request, name: &[u8]) -> Option<&'a [u8]> {
    let cookies = header::COOKIE;
    let mut pairs = request.headers.get_all(&cookies).flat_map(|line| line.as_bytes().split(|b| *b == b';'));
    pairs.find_map(|pair| {
        let equals = memchr::memchr(b'=', pair)?;
        let (key, value) = pair.split_at_checked(equals)?;
        let value = value.get(1..)?.trim_ascii();
        let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        (key.trim_ascii() == name).then_some(bare.unwrap_or(value))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use envoy_types::pb::google::protobuf::Duration as DurationProto;
    use http::Method;

    use super::*;

    fn policies(all: Vec<(PolicySpecifier, bool)>) -> HashPolicies {
        let proto = |(specifier, terminal)| Proto { terminal, policy_specifier: Some(specifier) };
        HashPolicies::compile(&all.into_iter().map(proto).collect::<Vec<_>>()).unwrap()
    }

    fn header(name: &str) -> PolicySpecifier {
        PolicySpecifier::Header(Header { header_name: name.into(), regex_rewrite: None })
    }

    fn info() -> StreamInfo {
        let at = |text: &str| text.parse().unwrap();
        let connection = ConnectionInfo {
            id: 1,
            local: at("10.0.0.1:80"),
            remote: at("10.0.0.2:1234"),
            direct_remote: at("10.0.0.2:1234"),
            server_name: None,
            is_restored: false,
        };
        StreamInfo::new(Arc::new(connection), Duration::ZERO, None)
    }

    fn request(path: &'static str, headers: &[(&'static str, &'static str)]) -> Request {
        let path = HeaderValue::from_static(path);
        let mut request = Request::new(Method::GET, HeaderValue::from_static("a"), path);
        for (name, value) in headers {
            request.headers.append(name.parse().unwrap(), HeaderValue::from_static(value));
        }
        request
    }

    fn hashed(policies: &HashPolicies, request: &Request) -> Option<u64> {
        policies.hash(request, &info()).hash
    }

    #[test]
    fn keys_are_hashed_one_after_the_other() {
        let of = |text: &str| hash::of_bytes(text.as_bytes());
        let two = policies(vec![(header("x-a"), false), (header("x-b"), false)]);
        assert_eq!(hashed(&two, &request("/", &[])), None);
        assert_eq!(hashed(&two, &request("/", &[("x-b", "1")])), Some(of("1")));
        let both = request("/", &[("x-a", "1"), ("x-b", "2")]);
        assert_eq!(hashed(&two, &both), Some(of("1").rotate_left(1) ^ of("2")));
        let terminal = policies(vec![(header("x-a"), true), (header("x-b"), false)]);
        assert_eq!(hashed(&terminal, &both), Some(of("1")));
        assert_eq!(hashed(&terminal, &request("/", &[("x-b", "2")])), Some(of("2")));
        let source = PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true });
        assert_eq!(hashed(&policies(vec![(source, false)]), &request("/", &[])), Some(of("10.0.0.2")));
        let query = PolicySpecifier::QueryParameter(QueryParameter { name: "q".into() });
        assert_eq!(hashed(&policies(vec![(query, false)]), &request("/?p&q=7", &[])), Some(of("7")));
    }

    #[test]
    fn several_values_count_in_any_order() {
        let one = policies(vec![(header("x-a"), false)]);
        let there = hashed(&one, &request("/", &[("x-a", "1"), ("x-a", "2")]));
        let back = hashed(&one, &request("/", &[("x-a", "2"), ("x-a", "1")]));
        assert!(there.is_some() && there == back);
        assert_ne!(there, hashed(&one, &request("/", &[("x-a", "1")])));
    }

    #[test]
    fn cookies_are_read_and_given() {
        let cookie = |ttl: Option<i64>| {
            PolicySpecifier::Cookie(CookieProto {
                name: "c".into(),
                ttl: ttl.map(|seconds| DurationProto { seconds, nanos: 0 }),
                path: "/p".into(),
                attributes: vec![CookieAttribute { name: "SameSite".into(), value: "Lax".into() }],
            })
        };
        let passive = policies(vec![(cookie(None), false)]);
        let has = request("/", &[("cookie", "a=b; c=\"x\"; d=e")]);
        assert_eq!(hashed(&passive, &has), Some(hash::of_bytes(b"x")));
        assert_eq!(passive.hash(&request("/", &[]), &info()), Hashed::default());
        let active = policies(vec![(cookie(Some(60)), false)]);
        let given = active.hash(&request("/", &[]), &info());
        let value = format!("{:016x}", hash::of_bytes(b"10.0.0.2:123410.0.0.1:80"));
        assert_eq!(given.hash, Some(hash::of_bytes(value.as_bytes())));
        let wanted = format!("c=\"{value}\"; Max-Age=60; Path=/p; SameSite=Lax; HttpOnly");
        assert_eq!(given.set_cookies, [wanted.as_str()]);
        let session = policies(vec![(cookie(Some(0)), false)]).hash(&request("/", &[]), &info());
        assert!(!session.set_cookies[0].to_str().unwrap().contains("Max-Age"));
    }
}
