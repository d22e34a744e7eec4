//! Who is believed to be the client: the other end of the connection, or who `x-forwarded-for` says it is.
//!
//! Source: Envoy's documentation of the connection manager, "x-forwarded-for", "x-envoy-internal", "x-envoy-external-address".

use std::net::{IpAddr, SocketAddr};

use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager as Proto;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::InternalAddressConfig;
use http::HeaderValue;
use ipnet::IpNet;

use crate::names::X_FORWARDED_FOR;
use crate::proto::flag;
use crate::refusal::Within;
use crate::{Headers, Refusal, cidr};

/// Addresses inside, where a configuration speaks of them and names none.
const INTERNAL: [&str; 6] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.1/32", "fd00::/8", "::1/128"];

/// Who is believed to be the client.
#[derive(Clone, Debug)]
pub struct ClientRules {
    /// The other end of the connection, which is added to `x-forwarded-for`; else the last address there.
    pub uses_remote_address: bool,
    /// Proxies before us whose additions to `x-forwarded-for` are believed.
    pub trusted_hops: u32,
    /// Nothing is added to `x-forwarded-for`.
    pub skips_append: bool,
    internal: Vec<IpNet>,
}

/// What the rules say of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// Who it is from.
    pub(super) address: SocketAddr,
    /// Does it come from inside?
    pub(super) is_internal: bool,
    /// Is this the first proxy inside that it meets?
    pub(super) is_edge: bool,
}

impl ClientRules {
    pub(super) fn compile(proto: &Proto) -> Result<ClientRules, Refusal> {
        let internal = match &proto.internal_address_config {
            // Nobody, since Envoy 1.33.
            None => Vec::new(),
            Some(InternalAddressConfig { unix_sockets: _, cidr_ranges }) if cidr_ranges.is_empty() => {
                INTERNAL.iter().filter_map(|net| net.parse().ok()).collect()
            }
            Some(InternalAddressConfig { unix_sockets: _, cidr_ranges }) => cidr_ranges
                .iter()
                .map(cidr::range)
                .collect::<Result<_, _>>()
                .within(|| "internal_address_config".to_owned())?,
        };
        Ok(ClientRules {
            uses_remote_address: flag(proto.use_remote_address.as_ref(), false),
            trusted_hops: proto.xff_num_trusted_hops,
            skips_append: proto.skip_xff_append,
            internal,
        })
    }

    /// Who a request is from; adds the other end of its connection to `x-forwarded-for`. `own` is what is added in place of
    /// a loopback address, which says nothing to anybody else.
    pub(super) fn apply(&self, headers: &mut Headers, remote: SocketAddr, own: IpAddr) -> Client {
        let hops = self.trusted_hops as usize;
        let said = |skipped: usize| forwarded_for(headers, skipped);
        let (claimed, may_be_internal) = if self.uses_remote_address {
            let claimed = if hops > 0 { said(hops - 1).0 } else { None };
            (Some(claimed.unwrap_or(remote)), !headers.contains(&X_FORWARDED_FOR))
        } else {
            said(hops)
        };
        if self.uses_remote_address && !self.skips_append {
            let added = if remote.ip().is_loopback() { own } else { remote.ip() };
            append_forwarded_for(headers, added);
        }
        let is_internal = may_be_internal
            && claimed.is_some_and(|claimed| self.internal.iter().any(|net| net.contains(&claimed.ip())));
        Client {
            address: claimed.unwrap_or(remote),
            is_internal,
            is_edge: !is_internal && self.uses_remote_address,
        }
    }
}

/// The last address of `x-forwarded-for` but so many, and whether it is the only one. Its port, if it has none, is 0.
fn forwarded_for(headers: &Headers, skipped: usize) -> (Option<SocketAddr>, bool) {
    let name = X_FORWARDED_FOR;
    let mut entries =
        headers.get_all(&name).map(HeaderValue::as_bytes).flat_map(|value| value.split(|byte| *byte == b','));
    let count = entries.clone().count();
    let Some(place) = count.checked_sub(skipped + 1) else { return (None, false) };
    let entry = entries.nth(place).and_then(|entry| std::str::from_utf8(entry.trim_ascii()).ok());
    let address = entry.and_then(|text| match text.parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, 0)),
        Err(_) => text.parse().ok(),
    });
    (address, address.is_some() && count == 1)
}

/// All of `x-forwarded-for` becomes one header, with this address at its end.
fn append_forwarded_for(headers: &mut Headers, address: IpAddr) {
    let mut value = Vec::new();
    for before in headers.get_all(&X_FORWARDED_FOR) {
        if !before.is_empty() {
            value.extend_from_slice(before.as_bytes());
            value.push(b',');
        }
    }
    value.extend_from_slice(address.to_string().as_bytes());
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(value)) {
        headers.set(X_FORWARDED_FOR, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 9, 9));

    fn rules(uses_remote_address: bool, trusted_hops: u32) -> ClientRules {
        let internal = vec!["10.0.0.0/8".parse().unwrap()];
        ClientRules { uses_remote_address, trusted_hops, skips_append: false, internal }
    }

    fn headers(values: &[&str]) -> Headers {
        values.iter().map(|value| (X_FORWARDED_FOR, HeaderValue::from_str(value).unwrap())).collect()
    }

    fn applied(rules: &ClientRules, values: &[&str], remote: &str) -> (String, bool, bool, String) {
        let mut headers = headers(values);
        let client = rules.apply(&mut headers, remote.parse().unwrap(), OWN);
        let all: Vec<_> = headers.get_all(&X_FORWARDED_FOR).map(|v| v.to_str().unwrap()).collect();
        (client.address.ip().to_string(), client.is_internal, client.is_edge, all.join("|"))
    }

    fn is(address: &str, internal: bool, edge: bool, forwarded: &str) -> (String, bool, bool, String) {
        (address.to_owned(), internal, edge, forwarded.to_owned())
    }

    #[test]
    fn an_edge_believes_the_connection() {
        let edge = rules(true, 0);
        assert_eq!(applied(&edge, &[], "1.2.3.4:5"), is("1.2.3.4", false, true, "1.2.3.4"));
        assert_eq!(applied(&edge, &["9.9.9.9"], "1.2.3.4:5"), is("1.2.3.4", false, true, "9.9.9.9,1.2.3.4"));
        assert_eq!(applied(&edge, &["a", "b"], "1.2.3.4:5"), is("1.2.3.4", false, true, "a,b,1.2.3.4"));
        // From inside only without anybody between.
        assert_eq!(applied(&edge, &[], "10.0.0.1:5"), is("10.0.0.1", true, false, "10.0.0.1"));
        assert_eq!(
            applied(&edge, &["10.0.0.2"], "10.0.0.1:5"),
            is("10.0.0.1", false, true, "10.0.0.2,10.0.0.1")
        );
        assert_eq!(applied(&edge, &[], "127.0.0.1:5"), is("127.0.0.1", false, true, "10.9.9.9"));
        let quiet = ClientRules { skips_append: true, ..edge };
        assert_eq!(applied(&quiet, &[], "1.2.3.4:5"), is("1.2.3.4", false, true, ""));
    }

    #[test]
    fn trusted_hops_are_counted_from_the_right() {
        let one = rules(true, 1);
        assert_eq!(applied(&one, &["8.8.8.8, 9.9.9.9"], "1.2.3.4:5").0, "9.9.9.9");
        assert_eq!(applied(&rules(true, 2), &["8.8.8.8, 9.9.9.9"], "1.2.3.4:5").0, "8.8.8.8");
        assert_eq!(applied(&rules(true, 3), &["8.8.8.8, 9.9.9.9"], "1.2.3.4:5").0, "1.2.3.4");
        assert_eq!(applied(&one, &["junk"], "1.2.3.4:5").0, "1.2.3.4");
        let inner = rules(false, 1);
        assert_eq!(applied(&inner, &["7.7.7.7,8.8.8.8", "9.9.9.9"], "1.2.3.4:5").0, "8.8.8.8");
    }

    #[test]
    fn others_believe_the_header() {
        let inner = rules(false, 0);
        assert_eq!(applied(&inner, &[], "10.0.0.1:5"), is("10.0.0.1", false, false, ""));
        assert_eq!(applied(&inner, &["10.0.0.7"], "10.0.0.1:5"), is("10.0.0.7", true, false, "10.0.0.7"));
        assert_eq!(
            applied(&inner, &["8.8.8.8,10.0.0.7"], "10.0.0.1:5"),
            is("10.0.0.7", false, false, "8.8.8.8,10.0.0.7")
        );
        assert_eq!(applied(&inner, &["fd00::1"], "10.0.0.1:5").0, "fd00::1");
        assert_eq!(applied(&inner, &["junk"], "10.0.0.1:5"), is("10.0.0.1", false, false, "junk"));
    }
}
