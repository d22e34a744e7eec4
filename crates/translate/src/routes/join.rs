//! Joins encoded virtual hosts into a route configuration: who gets which domain, and the bytes.
//!
//! Eager proxies have a table of all hosts of the mesh, a different one in each namespace, so this is done often and with
//! many: it compares text and copies bytes, and builds no messages.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use prost::Message;

use super::virtual_host::EncodedVirtualHost;
use crate::encode::{append_start, field_len};

/// `RouteConfiguration.virtual_hosts`
const VIRTUAL_HOSTS: u32 = 2;
/// `VirtualHost.domains`
const DOMAINS: u32 = 2;

/// A virtual host with the domains that it got.
#[derive(Debug)]
pub struct Member<'h> {
    pub host: &'h EncodedVirtualHost,
    pub domains: Vec<Cow<'h, str>>,
}

struct Claim<'h> {
    text: Cow<'h, str>,
    by: &'h EncodedVirtualHost,
}

/// Gives every domain to one of those that claim it: by precedence, then by host and port. A short name gives way to a
/// host that is called so in full. Virtual hosts without a domain are left out; the others stay in their order.
pub fn assign<'h, C>(
    hosts: &'h [Arc<EncodedVirtualHost>],
    claims: impl Fn(&'h EncodedVirtualHost) -> C,
) -> Vec<Member<'h>>
where
    C: Iterator<Item = (Cow<'h, str>, bool)>,
{
    let full: HashSet<&str> = hosts.iter().map(|host| host.host.as_str()).collect();
    let mut all: Vec<Claim<'h>> = Vec::with_capacity(hosts.iter().map(|host| host.claims.len()).sum());
    for by in hosts {
        let counts = claims(by).filter(|(text, short)| !(*short && full.contains(text.as_ref())));
        all.extend(counts.map(|(text, _)| Claim { text, by }));
    }
    let granted = granted(&all);
    let mut out: Vec<Member<'h>> = Vec::with_capacity(hosts.len());
    for (claim, _) in all.into_iter().zip(granted).filter(|(_, granted)| *granted) {
        match out.last_mut().filter(|last| std::ptr::eq(last.host, claim.by)) {
            Some(last) => last.domains.push(claim.text),
            None => out.push(Member { host: claim.by, domains: vec![claim.text] }),
        }
    }
    out
}

/// Which of the claims succeed.
fn granted(all: &[Claim<'_>]) -> Vec<bool> {
    let mut first: HashMap<&str, (usize, &EncodedVirtualHost)> = HashMap::with_capacity(all.len());
    for (index, claim) in all.iter().enumerate() {
        match first.entry(&claim.text) {
            Entry::Vacant(place) => drop(place.insert((index, claim.by))),
            Entry::Occupied(mut place) if rank(claim.by) < rank(place.get().1) => {
                place.insert((index, claim.by));
            }
            Entry::Occupied(_) => {}
        }
    }
    let mut granted = vec![false; all.len()];
    for (index, _) in first.into_values() {
        if let Some(place) = granted.get_mut(index) {
            *place = true;
        }
    }
    granted
}

fn rank(host: &EncodedVirtualHost) -> impl Ord {
    (host.precedence, host.host, host.port)
}

/// The bytes of `head` with these virtual hosts, `last` at the end.
pub fn configuration(head: &RouteConfiguration, members: &[Member<'_>], last: Option<&VirtualHost>) -> Bytes {
    let last = last.map(Message::encode_to_vec);
    let size = |member: &Member<'_>| {
        let domains = member.domains.iter().map(|domain| field_len(DOMAINS, domain.len()));
        member.host.body.len() + domains.sum::<usize>()
    };
    let sizes: Vec<usize> = members.iter().map(size).collect();
    let lengths = sizes.iter().copied().chain(last.as_ref().map(Vec::len));
    let total: usize = lengths.map(|length| field_len(VIRTUAL_HOSTS, length)).sum();
    let mut out = head.encode_to_vec();
    out.reserve_exact(total);
    for (member, size) in members.iter().zip(sizes) {
        append_start(&mut out, VIRTUAL_HOSTS, size);
        out.extend_from_slice(&member.host.body);
        for domain in &member.domains {
            append_start(&mut out, DOMAINS, domain.len());
            out.extend_from_slice(domain.as_bytes());
        }
    }
    if let Some(last) = last {
        append_start(&mut out, VIRTUAL_HOSTS, last.len());
        out.extend_from_slice(&last);
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode;
    use crate::routes::domains::Domain;
    use ostro_mesh::model::Age;
    use ostro_names::{Host, Name, Namespace};

    fn host(name: &str, created: Option<i64>, claims: &[(&str, bool)]) -> Arc<EncodedVirtualHost> {
        let age = Age { created, namespace: Namespace::new("n"), name: Name::new(name) };
        let body = VirtualHost { name: format!("{name}:80"), ..Default::default() };
        Arc::new(EncodedVirtualHost {
            host: Host::new(name),
            port: 80,
            body: encode::bytes(&body),
            claims: claims
                .iter()
                .map(|(text, short)| Domain { text: (*text).to_owned(), short: *short })
                .collect(),
            precedence: (false, Some(age)),
            rule_hosts: Vec::new(),
        })
    }

    fn plain(host: &EncodedVirtualHost) -> impl Iterator<Item = (Cow<'_, str>, bool)> {
        host.claims.iter().map(|domain| (Cow::Borrowed(domain.text.as_str()), domain.short))
    }

    fn assigned(hosts: &[Arc<EncodedVirtualHost>]) -> Vec<(&str, Vec<String>)> {
        let members = assign(hosts, plain).into_iter();
        members
            .map(|m| (m.host.host.as_str(), m.domains.into_iter().map(Cow::into_owned).collect()))
            .collect()
    }

    #[test]
    fn the_older_gets_what_both_claim_whatever_the_order() {
        let a = host("a", Some(2), &[("a", false), ("x", false)]);
        let b = host("b", Some(1), &[("b", false), ("x", false), ("x", false)]);
        let c = host("c", None, &[("x", false)]);
        assert_eq!(
            assigned(&[a, b, c]),
            [("a", vec!["a".to_owned()]), ("b", vec!["b".to_owned(), "x".to_owned()])]
        );
    }

    #[test]
    fn short_names_give_way_to_hosts_that_are_called_so() {
        let long = host("web.shop", Some(1), &[("web.shop", false), ("web", true)]);
        let short = host("web", Some(2), &[("web", false)]);
        assert_eq!(
            assigned(&[short, long]),
            [("web", vec!["web".to_owned()]), ("web.shop", vec!["web.shop".to_owned()])]
        );
    }

    #[test]
    fn what_is_joined_decodes_to_what_was_meant() {
        // Lengths of one, two and three bytes.
        let long = "d".repeat(20_000);
        let hosts = [host("a", None, &[("a", false)]), host("b", None, &[("b", false), (&long, false)])];
        let head = RouteConfiguration { name: "80".to_owned(), ..Default::default() };
        let last = VirtualHost { name: "allow_any".to_owned(), ..Default::default() };
        let bytes = configuration(&head, &assign(&hosts, plain), Some(&last));
        let named = |name: &str, domains: &[&str]| VirtualHost {
            name: name.to_owned(),
            domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            ..Default::default()
        };
        let expected = RouteConfiguration {
            virtual_hosts: vec![named("a:80", &["a"]), named("b:80", &["b", &long]), last.clone()],
            ..head.clone()
        };
        assert_eq!(RouteConfiguration::decode(bytes.clone()).unwrap(), expected);
        assert_eq!(bytes.len(), expected.encoded_len(), "what was reserved is what was used");
    }
}
