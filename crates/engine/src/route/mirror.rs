//! Requests that are sent elsewhere too, their responses thrown away.

use envoy_types::pb::envoy::config::route::v3::route_action::RequestMirrorPolicy as Proto;
use http::HeaderValue;

use crate::header_ops::HeaderOps;
use crate::http_filter::changes;
use crate::proto::header_value;
use crate::refusal::Within;
use crate::{Fraction, Refusal, Request, RequestField, StreamInfo};

/// Requests that are sent elsewhere too.
#[derive(Clone, Debug)]
pub struct Mirror {
    target: Target,
    /// Which share of them.
    pub fraction: Fraction,
    /// Whether they are traced; `None` as the request itself.
    pub traced: Option<bool>,
    host: Option<HeaderValue>,
    appends_suffix: bool,
    changes: Vec<HeaderOps>,
}

#[derive(Clone, Debug)]
enum Target {
    Cluster(Box<str>),
    Header(RequestField),
}

impl Mirror {
    /// Compiles the mirrors of one level, in order.
    pub(super) fn compile_all(protos: &[Proto]) -> Result<Vec<Mirror>, Refusal> {
        let one = |(place, proto): (usize, &Proto)| {
            Mirror::compile(proto).within(|| format!("request_mirror_policies[{place}]"))
        };
        protos.iter().enumerate().map(one).collect()
    }

    fn compile(proto: &Proto) -> Result<Mirror, Refusal> {
        let Proto {
            cluster,
            cluster_header,
            runtime_fraction,
            trace_sampled,
            disable_shadow_host_suffix_append,
            request_headers_mutations,
            host_rewrite_literal,
        } = proto;
        let target = match (cluster.as_str(), cluster_header.as_str()) {
            ("", "") => return Err(Refusal::invalid("neither cluster nor cluster_header")),
            (cluster, "") => Target::Cluster(cluster.into()),
            ("", name) => Target::Header(RequestField::parse(name)),
            _ => return Err(Refusal::invalid("both cluster and cluster_header")),
        };
        let host = Some(host_rewrite_literal).filter(|host| !host.is_empty());
        let host = host.map(|host| header_value(host, "host_rewrite_literal")).transpose()?;
        Ok(Mirror {
            target,
            fraction: runtime_fraction.as_ref().map_or(Ok(Fraction::ALL), Fraction::of_runtime)?,
            traced: trace_sampled.as_ref().map(|flag| flag.value),
            appends_suffix: !disable_shadow_host_suffix_append && host.is_none(),
            host,
            changes: changes(request_headers_mutations).within(|| "request_headers_mutations".to_owned())?,
        })
    }

    /// The cluster for a request; `None` if it should come from a header that the request does not have.
    pub fn cluster<'a>(&'a self, request: &'a Request) -> Option<&'a str> {
        match &self.target {
            Target::Cluster(name) => Some(name),
            Target::Header(field) => {
                let name = request.values(field).next().and_then(|value| std::str::from_utf8(value).ok());
                name.filter(|name| !name.is_empty())
            }
        }
    }

    /// Makes of the request as it goes upstream what is sent to the mirror.
    pub fn prepare(&self, request: &mut Request, info: &StreamInfo) {
        self.changes.iter().for_each(|ops| ops.apply_to_request(request, info));
        if let Some(host) = &self.host {
            request.authority = host.clone();
        } else if self.appends_suffix {
            append_suffix(&mut request.authority);
        }
    }
}

/// `a:80` becomes `a-shadow:80`.
fn append_suffix(authority: &mut HeaderValue) {
    let bytes = authority.as_bytes();
    let colon = memchr::memrchr(b':', bytes);
    let is_port = |colon: &usize| memchr::memrchr(b']', bytes).is_none_or(|bracket| bracket < *colon);
    let (host, port) = bytes.split_at(colon.filter(is_port).unwrap_or(bytes.len()));
    if let Ok(shadow) = HeaderValue::from_bytes(&[host, b"-shadow", port].concat()) {
        *authority = shadow;
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn request(authority: &'static str) -> Request {
        Request::new(Method::GET, HeaderValue::from_static(authority), HeaderValue::from_static("/"))
    }

    #[test]
    fn hosts_get_a_suffix_unless_they_are_swapped() {
        let suffixed = |authority| {
            let mut value = HeaderValue::from_static(authority);
            append_suffix(&mut value);
            value.to_str().unwrap().to_owned()
        };
        assert_eq!(suffixed("a"), "a-shadow");
        assert_eq!(suffixed("a:80"), "a-shadow:80");
        assert_eq!(suffixed("[::1]"), "[::1]-shadow");
        assert_eq!(suffixed("[::1]:80"), "[::1]-shadow:80");
    }

    #[test]
    fn the_cluster_is_named_or_in_a_header() {
        let named = Mirror::compile(&Proto { cluster: "c".into(), ..Default::default() }).unwrap();
        assert_eq!(named.cluster(&request("a")), Some("c"));
        let by_header = Proto { cluster_header: "x-mirror".into(), ..Default::default() };
        let by_header = Mirror::compile(&by_header).unwrap();
        let mut asking = request("a");
        assert_eq!(by_header.cluster(&asking), None);
        asking.headers.append("x-mirror".parse().unwrap(), HeaderValue::from_static("m"));
        assert_eq!(by_header.cluster(&asking), Some("m"));
        assert!(Mirror::compile(&Proto::default()).is_err());
    }
}
