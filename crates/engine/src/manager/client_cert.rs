//! What is told of the client's certificate (`x-forwarded-client-cert`).
//!
//! Source: Envoy's documentation of the connection manager, "x-forwarded-client-cert".

use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager as Proto;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    ForwardClientCertDetails, ForwardClientCertFormat, SetCurrentClientCertDetails,
};
use http::HeaderValue;

use crate::names::X_FORWARDED_CLIENT_CERT;
use crate::proto::{enumeration, flag};
use crate::{Headers, Refusal};

/// What is told of the client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientCertRules {
    forward: ForwardClientCertDetails,
    subject: bool,
    issuer: bool,
    cert: bool,
    chain: bool,
    dns: bool,
    uri: bool,
}

/// What is known of a TLS connection.
#[derive(Clone, Debug, Default)]
pub struct TlsFacts {
    /// The client's certificate, if it showed one.
    pub peer: Option<Certificate>,
    /// URIs that our certificate is for.
    pub local_uri_sans: Vec<Box<str>>,
}

/// A certificate, as text.
#[derive(Clone, Debug, Default)]
pub struct Certificate {
    /// SHA-256 of its DER form, in lower-case hexadecimal.
    pub sha256: Box<str>,
    /// Its subject (RFC 2253).
    pub subject: Box<str>,
    /// Its issuer (RFC 2253).
    pub issuer: Box<str>,
    /// URIs it is for.
    pub uri_sans: Vec<Box<str>>,
    /// Names it is for.
    pub dns_sans: Vec<Box<str>>,
    /// The certificate in PEM, URL-encoded.
    pub pem: Box<str>,
    /// It and those that vouch for it in PEM, URL-encoded.
    pub chain_pem: Box<str>,
}

impl ClientCertRules {
    pub(super) fn compile(proto: &Proto) -> Result<ClientCertRules, Refusal> {
        let details = proto.set_current_client_cert_details.unwrap_or_default();
        let SetCurrentClientCertDetails { subject, cert, chain, dns, uri, issuer, format } = details;
        if enumeration::<ForwardClientCertFormat>(format, "format")? == ForwardClientCertFormat::Json {
            return Err(Refusal::unsupported("set_current_client_cert_details.format JSON"));
        }
        Ok(ClientCertRules {
            forward: enumeration(proto.forward_client_cert_details, "forward_client_cert_details")?,
            subject: flag(subject.as_ref(), false),
            issuer,
            cert,
            chain,
            dns,
            uri,
        })
    }

    /// Tells it in a request's headers. `tls` is `None` in plaintext.
    pub(super) fn apply(&self, headers: &mut Headers, tls: Option<&TlsFacts>) {
        let shown = tls.and_then(|tls| Some((tls, tls.peer.as_ref()?)));
        match (self.forward, shown) {
            (ForwardClientCertDetails::AlwaysForwardOnly, _) => {}
            (ForwardClientCertDetails::Sanitize, _) | (_, None) => {
                headers.remove(&X_FORWARDED_CLIENT_CERT);
            }
            (ForwardClientCertDetails::ForwardOnly, Some(_)) => {}
            (ForwardClientCertDetails::SanitizeSet, Some((tls, peer))) => {
                set(headers, self.element(tls, peer));
            }
            (ForwardClientCertDetails::AppendForward, Some((tls, peer))) => {
                let mut value = Vec::new();
                for before in headers.get_all(&X_FORWARDED_CLIENT_CERT) {
                    value.extend_from_slice(before.as_bytes());
                    value.push(b',');
                }
                value.extend_from_slice(&self.element(tls, peer));
                set(headers, value);
            }
        }
    }

    fn element(&self, tls: &TlsFacts, peer: &Certificate) -> Vec<u8> {
        let mut pairs: Vec<String> = tls.local_uri_sans.iter().map(|uri| format!("By={uri}")).collect();
        pairs.push(format!("Hash={}", peer.sha256));
        if self.cert && !peer.pem.is_empty() {
            pairs.push(format!("Cert=\"{}\"", peer.pem));
        }
        if self.chain && !peer.chain_pem.is_empty() {
            pairs.push(format!("Chain=\"{}\"", peer.chain_pem));
        }
        if self.subject {
            pairs.push(format!("Subject=\"{}\"", peer.subject));
        }
        if self.issuer {
            pairs.push(format!("Issuer=\"{}\"", peer.issuer));
        }
        if self.uri {
            pairs.extend(peer.uri_sans.iter().map(|uri| format!("URI={uri}")));
            if peer.uri_sans.is_empty() {
                pairs.push("URI=".to_owned());
            }
        }
        if self.dns {
            pairs.extend(peer.dns_sans.iter().map(|name| format!("DNS={name}")));
        }
        pairs.join(";").into_bytes()
    }
}

/// What a certificate says may be no header value; then nothing is told.
fn set(headers: &mut Headers, value: Vec<u8>) {
    match HeaderValue::from_maybe_shared(bytes::Bytes::from(value)) {
        Ok(value) => headers.set(X_FORWARDED_CLIENT_CERT, value),
        Err(_) => _ = headers.remove(&X_FORWARDED_CLIENT_CERT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(forward: ForwardClientCertDetails) -> ClientCertRules {
        let all = true;
        ClientCertRules {
            forward,
            subject: all,
            issuer: false,
            cert: false,
            chain: false,
            dns: all,
            uri: all,
        }
    }

    fn told(forward: ForwardClientCertDetails, tls: Option<&TlsFacts>) -> Option<String> {
        let before = HeaderValue::from_static("Hash=old");
        let mut headers: Headers = [(X_FORWARDED_CLIENT_CERT, before)].into_iter().collect();
        rules(forward).apply(&mut headers, tls);
        headers.get(&X_FORWARDED_CLIENT_CERT).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn certificates_are_told_or_not() {
        use ForwardClientCertDetails as Forward;
        let peer = Certificate {
            sha256: "ab".into(),
            subject: "CN=x".into(),
            uri_sans: vec!["spiffe://a/b".into()],
            dns_sans: vec!["c".into(), "d".into()],
            ..Default::default()
        };
        let tls = TlsFacts { peer: Some(peer), local_uri_sans: vec!["spiffe://own".into()] };
        let element = "By=spiffe://own;Hash=ab;Subject=\"CN=x\";URI=spiffe://a/b;DNS=c;DNS=d";
        for (forward, with, without) in [
            (Forward::Sanitize, None, None),
            (Forward::ForwardOnly, Some("Hash=old".to_owned()), None),
            (Forward::AppendForward, Some(format!("Hash=old,{element}")), None),
            (Forward::SanitizeSet, Some(element.to_owned()), None),
            (Forward::AlwaysForwardOnly, Some("Hash=old".to_owned()), Some("Hash=old".to_owned())),
        ] {
            assert_eq!(told(forward, Some(&tls)), with, "{forward:?}");
            assert_eq!(told(forward, None), without, "{forward:?}");
            assert_eq!(told(forward, Some(&TlsFacts::default())), without, "{forward:?}");
        }
    }
}
