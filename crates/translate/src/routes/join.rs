//! Joins encoded virtual hosts into a route configuration: who gets which domain, and the bytes.
//!
//! Eager proxies have a table of all hosts of the mesh, a different one in each namespace, so this is done often and with
//! many: it compares text and copies bytes, and builds no messages.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use ostro_names::Spreading;
use prost::Message;

use super::encoded::{EncodedVirtualHost, Text};
use crate::encode::{append, append_start, field_len};

/// `RouteConfiguration.virtual_hosts`
const VIRTUAL_HOSTS: u32 = 2;
/// `VirtualHost.domains`
const DOMAINS: u32 = 2;

/// What each virtual host got of what it claims.
#[derive(Debug)]
pub struct Assignment<'h> {
    members: Vec<Member<'h>>,
    /// Whether any request finds a virtual host.
    pub takes_all: bool,
}

#[derive(Debug)]
struct Member<'h> {
    host: &'h EncodedVirtualHost,
    /// The domains that it got; `None` for all that it claims.
    domains: Option<Vec<&'h [u8]>>,
}

/// Which claim of which virtual host.
type At = (usize, usize);

/// Gives every domain to one of those that claim it: by precedence, then by host and port. A short name gives way to a
/// host that is called so in full. Virtual hosts without a domain are left out; the others stay in their order.
pub fn assign(hosts: &[Arc<EncodedVirtualHost>]) -> Assignment<'_> {
    let full: HashSet<Text<'_>, Spreading> = hosts.iter().map(|host| host.name()).collect();
    let claims = hosts.iter().map(|host| host.claims().len()).sum();
    let mut first: HashMap<Text<'_>, (At, &EncodedVirtualHost), Spreading> =
        HashMap::with_capacity_and_hasher(claims, Spreading::default());
    let mut lost: Vec<At> = Vec::new();
    for (index, host) in hosts.iter().enumerate() {
        for (claim, (text, short)) in host.claims().enumerate() {
            let at = (index, claim);
            if short && full.contains(&text) {
                lost.push(at);
                continue;
            }
            match first.entry(text) {
                Entry::Vacant(place) => drop(place.insert((at, host))),
                Entry::Occupied(mut place) if rank(host) < rank(place.get().1) => {
                    lost.push(place.insert((at, host)).0);
                }
                Entry::Occupied(_) => lost.push(at),
            }
        }
    }
    lost.sort_unstable();
    let mut lost = lost.into_iter().peekable();
    let members = hosts.iter().enumerate().filter_map(|(index, host)| member(index, host, &mut lost));
    Assignment { members: members.collect(), takes_all: first.contains_key(&Text::new("*")) }
}

fn rank(host: &EncodedVirtualHost) -> impl Ord {
    (host.precedence, host.host, host.port)
}

/// The next virtual host with what it did not lose, if that is anything.
fn member<'h>(
    index: usize,
    host: &'h EncodedVirtualHost,
    lost: &mut Peekable<impl Iterator<Item = At>>,
) -> Option<Member<'h>> {
    if lost.peek().is_none_or(|(other, _)| *other != index) {
        return (host.claims().len() > 0).then_some(Member { host, domains: None });
    }
    let kept = host.claims().enumerate().filter(|(claim, _)| lost.next_if_eq(&(index, *claim)).is_none());
    let kept: Vec<&[u8]> = kept.map(|(_, (text, _))| text.bytes).collect();
    (!kept.is_empty()).then_some(Member { host, domains: Some(kept) })
}

impl Member<'_> {
    fn len(&self) -> usize {
        match &self.domains {
            None => self.host.message().len(),
            Some(domains) => {
                let fields = domains.iter().map(|domain| field_len(DOMAINS, domain.len()));
                self.host.body().len() + fields.sum::<usize>()
            }
        }
    }

    fn append_to(&self, out: &mut Vec<u8>) {
        append_start(out, VIRTUAL_HOSTS, self.len());
        match &self.domains {
            None => out.extend_from_slice(self.host.message()),
            Some(domains) => {
                out.extend_from_slice(self.host.body());
                domains.iter().for_each(|domain| append(out, DOMAINS, domain));
            }
        }
    }
}

/// The bytes of `head` with these virtual hosts, `last` at the end.
pub fn configuration(
    head: &RouteConfiguration,
    assignment: &Assignment<'_>,
    last: Option<&VirtualHost>,
) -> Bytes {
    let last = last.map(Message::encode_to_vec);
    let lengths = assignment.members.iter().map(Member::len).chain(last.as_ref().map(Vec::len));
    let total: usize = lengths.map(|length| field_len(VIRTUAL_HOSTS, length)).sum();
    let mut out = head.encode_to_vec();
    out.reserve_exact(total);
    assignment.members.iter().for_each(|member| member.append_to(&mut out));
    if let Some(last) = last {
        append(&mut out, VIRTUAL_HOSTS, &last);
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use ostro_mesh::model::Age;
    use ostro_names::{Host, Name, Namespace};

    use super::*;
    use crate::routes::domains::Domain;

    fn host(name: &str, created: Option<i64>, claims: &[(&str, bool)]) -> Arc<EncodedVirtualHost> {
        let age = Age { created, namespace: Namespace::new("n"), name: Name::new(name) };
        let body = VirtualHost { name: format!("{name}:80"), ..Default::default() };
        let claim = |(text, short): &(&str, bool)| Domain { text: (*text).to_owned(), short: *short };
        let claims: Vec<Domain> = claims.iter().map(claim).collect();
        let at = (Host::new(name), 80);
        Arc::new(EncodedVirtualHost::new(at, body.encode_to_vec(), &claims, (false, Some(age)), vec![]))
    }

    fn joined(hosts: &[Arc<EncodedVirtualHost>]) -> Vec<(String, Vec<String>)> {
        let bytes = configuration(&RouteConfiguration::default(), &assign(hosts), None);
        let decoded = RouteConfiguration::decode(bytes).unwrap();
        decoded.virtual_hosts.into_iter().map(|host| (host.name, host.domains)).collect()
    }

    fn named(name: &str, domains: &[&str]) -> (String, Vec<String>) {
        (format!("{name}:80"), domains.iter().map(|domain| (*domain).to_owned()).collect())
    }

    #[test]
    fn the_older_gets_what_both_claim_whatever_the_order() {
        let a = host("a", Some(2), &[("a", false), ("x", false), ("y", false)]);
        let b = host("b", Some(1), &[("b", false), ("x", false), ("x", false)]);
        let c = host("c", None, &[("x", false)]);
        let expected = [named("a", &["a", "y"]), named("b", &["b", "x"])];
        assert_eq!(joined(&[a.clone(), b.clone(), c.clone()]), expected);
        let mut backwards = joined(&[c, b, a]);
        backwards.reverse();
        assert_eq!(backwards, expected);
    }

    #[test]
    fn short_names_give_way_to_hosts_that_are_called_so() {
        let long = host("web.shop", Some(1), &[("web.shop", false), ("web", true)]);
        let short = host("web", Some(2), &[("web", false)]);
        assert_eq!(joined(&[short, long]), [named("web", &["web"]), named("web.shop", &["web.shop"])]);
    }

    #[test]
    fn who_claims_everything_takes_all() {
        let [some, all] = [host("a", None, &[("a", false)]), host("*", None, &[("*", false)])];
        assert!(!assign(std::slice::from_ref(&some)).takes_all);
        assert!(assign(&[some, all]).takes_all);
    }

    #[test]
    fn what_is_joined_decodes_to_what_was_meant() {
        // Lengths of one, two and three bytes.
        let (long, longer) = ("d".repeat(200), "e".repeat(20_000));
        let hosts = [
            host("a", None, &[("a", false), (&long, false)]),
            host("b", None, &[("b", false), (&longer, false), ("a", false)]),
        ];
        let head = RouteConfiguration { name: "80".to_owned(), ..Default::default() };
        let last = VirtualHost { name: "allow_any".to_owned(), ..Default::default() };
        let bytes = configuration(&head, &assign(&hosts), Some(&last));
        let expected =
            |(name, domains): (String, Vec<String>)| VirtualHost { name, domains, ..Default::default() };
        let expected = RouteConfiguration {
            virtual_hosts: vec![
                expected(named("a", &["a", &long])),
                expected(named("b", &["b", &longer])),
                last.clone(),
            ],
            ..head.clone()
        };
        assert_eq!(bytes.len(), expected.encoded_len(), "what was reserved is what was used");
        assert_eq!(RouteConfiguration::decode(bytes).unwrap(), expected);
    }
}
