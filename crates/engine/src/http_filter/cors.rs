//! `envoy.filters.http.cors`: which pages of other origins may read what (the Fetch standard, "CORS protocol").

use envoy_types::pb::envoy::config::route::v3::CorsPolicy as OldProto;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy as Proto;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderName, HeaderValue, Method};

use crate::proto::{flag, header_value};
use crate::refusal::Within;
use crate::{Fraction, Headers, Refusal, Request, TextMatcher};

const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");
const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");

/// Which pages of other origins may read what.
#[derive(Clone, Debug)]
pub struct CorsPolicy {
    origins: Vec<TextMatcher>,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    exposed: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    credentials: bool,
    private_network: bool,
    forwards_strange_preflights: bool,
    enabled: Fraction,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsDecision {
    /// It goes on, and nothing is added to its response.
    None,
    /// It is answered here with 200 and these headers (`cors_response`).
    Preflight(Headers),
    /// It goes on, and this is added to its response.
    Allowed(CorsAllowed),
}

/// What is added to the response of a request that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsAllowed {
    origin: HeaderValue,
    credentials: bool,
    exposed: Option<HeaderValue>,
}

impl CorsPolicy {
    pub(super) fn compile(proto: &Proto) -> Result<CorsPolicy, Refusal> {
        let Proto {
            allow_origin_string_match,
            allow_methods,
            allow_headers,
            expose_headers,
            max_age,
            allow_credentials,
            filter_enabled,
            // It only counts.
            shadow_enabled: _,
            allow_private_network_access,
            forward_not_matching_preflights,
        } = proto;
        let list = |text: &str, field: &str| {
            Some(text).filter(|text| !text.is_empty()).map(|text| header_value(text, field)).transpose()
        };
        let origins = allow_origin_string_match.iter().map(TextMatcher::compile);
        Ok(CorsPolicy {
            origins: origins.collect::<Result<_, _>>().within(|| "allow_origin_string_match".to_owned())?,
            methods: list(allow_methods, "allow_methods")?,
            headers: list(allow_headers, "allow_headers")?,
            exposed: list(expose_headers, "expose_headers")?,
            max_age: list(max_age, "max_age")?,
            credentials: flag(allow_credentials.as_ref(), false),
            private_network: flag(allow_private_network_access.as_ref(), false),
            forwards_strange_preflights: flag(forward_not_matching_preflights.as_ref(), true),
            enabled: filter_enabled.as_ref().map_or(Ok(Fraction::ALL), Fraction::of_runtime)?,
        })
    }

    /// The older message, with the same fields.
    pub(super) fn compile_old(proto: OldProto) -> Result<CorsPolicy, Refusal> {
        use envoy_types::pb::envoy::config::route::v3::cors_policy::EnabledSpecifier;
        let OldProto {
            allow_origin_string_match,
            allow_methods,
            allow_headers,
            expose_headers,
            max_age,
            allow_credentials,
            shadow_enabled,
            allow_private_network_access,
            forward_not_matching_preflights,
            enabled_specifier,
        } = proto;
        CorsPolicy::compile(&Proto {
            allow_origin_string_match,
            allow_methods,
            allow_headers,
            expose_headers,
            max_age,
            allow_credentials,
            filter_enabled: enabled_specifier.map(|EnabledSpecifier::FilterEnabled(enabled)| enabled),
            shadow_enabled,
            allow_private_network_access,
            forward_not_matching_preflights,
        })
    }

    /// What becomes of a request; `random` decides whether the policy applies at all.
    pub fn decide(&self, request: &Request, random: u64) -> CorsDecision {
        let origin = request.headers.get(&ORIGIN).filter(|origin| !origin.is_empty());
        let Some(origin) = origin.filter(|_| self.enabled.holds(random)) else { return CorsDecision::None };
        let is_allowed = self.allows(origin);
        let asks = request.headers.get(&ACCESS_CONTROL_REQUEST_METHOD).is_some_and(|m| !m.is_empty());
        let is_preflight = request.method == Method::OPTIONS && asks;
        match (is_preflight, is_allowed) {
            (true, true) => CorsDecision::Preflight(self.preflight(request, origin)),
            (true, false) if !self.forwards_strange_preflights => CorsDecision::Preflight(Headers::default()),
            (_, false) => CorsDecision::None,
            (false, true) => CorsDecision::Allowed(CorsAllowed {
                origin: origin.clone(),
                credentials: self.credentials,
                exposed: self.exposed.clone(),
            }),
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        // Who matches the star means everybody.
        self.origins.iter().any(|matcher| matcher.matches(b"*") || matcher.matches(origin.as_bytes()))
    }

    fn preflight(&self, request: &Request, origin: &HeaderValue) -> Headers {
        let yes = HeaderValue::from_static("true");
        let mut headers = Headers::with_capacity(6);
        headers.append(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            headers.append(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes.clone());
        }
        let lists = [
            (ACCESS_CONTROL_ALLOW_METHODS, &self.methods),
            (ACCESS_CONTROL_ALLOW_HEADERS, &self.headers),
            (ACCESS_CONTROL_MAX_AGE, &self.max_age),
            // Envoy adds it to replies of its own, too.
            (ACCESS_CONTROL_EXPOSE_HEADERS, &self.exposed),
        ];
        for (name, value) in lists {
            if let Some(value) = value {
                headers.append(name, value.clone());
            }
        }
        if self.private_network && request.headers.get(&REQUEST_PRIVATE_NETWORK) == Some(&yes) {
            headers.append(ALLOW_PRIVATE_NETWORK, yes);
        }
        headers
    }
}

impl CorsAllowed {
    /// Adds it to a response.
    pub fn apply(&self, response: &mut Headers) {
        response.set(ACCESS_CONTROL_ALLOW_ORIGIN, self.origin.clone());
        if self.credentials {
            response.set(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(exposed) = &self.exposed {
            response.set(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
    use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
    use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
    use envoy_types::pb::google::protobuf::BoolValue;

    use super::*;

    fn policy() -> Proto {
        Proto {
            allow_origin_string_match: vec![StringMatcher {
                match_pattern: Some(MatchPattern::Suffix(".example.com".into())),
                ignore_case: false,
            }],
            allow_methods: "GET, PUT".into(),
            allow_headers: "x-a".into(),
            expose_headers: "x-b".into(),
            max_age: "60".into(),
            allow_credentials: Some(BoolValue { value: true }),
            ..Default::default()
        }
    }

    fn request(method: Method, headers: &[(HeaderName, &'static str)]) -> Request {
        let slash = HeaderValue::from_static("/");
        let mut request = Request::new(method, HeaderValue::from_static("a"), slash);
        for (name, value) in headers {
            request.headers.append(name.clone(), HeaderValue::from_static(value));
        }
        request
    }

    fn written(headers: &Headers) -> Vec<String> {
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    const GOOD: (HeaderName, &str) = (ORIGIN, "https://a.example.com");
    const BAD: (HeaderName, &str) = (ORIGIN, "https://example.org");
    const ASKS: (HeaderName, &str) = (ACCESS_CONTROL_REQUEST_METHOD, "PUT");

    #[test]
    fn preflights_are_answered() {
        let policy = CorsPolicy::compile(&policy()).unwrap();
        let decision = policy.decide(&request(Method::OPTIONS, &[GOOD, ASKS]), 0);
        let CorsDecision::Preflight(headers) = decision else { panic!("{decision:?}") };
        assert_eq!(
            written(&headers),
            [
                "access-control-allow-origin: https://a.example.com",
                "access-control-allow-credentials: true",
                "access-control-allow-methods: GET, PUT",
                "access-control-allow-headers: x-a",
                "access-control-max-age: 60",
                "access-control-expose-headers: x-b",
            ]
        );
    }

    #[test]
    fn other_requests_go_on() {
        let policy = CorsPolicy::compile(&policy()).unwrap();
        let CorsDecision::Allowed(allowed) = policy.decide(&request(Method::GET, &[GOOD]), 0) else {
            panic!("not allowed")
        };
        let mut response = Headers::default();
        allowed.apply(&mut response);
        assert_eq!(
            written(&response),
            [
                "access-control-allow-origin: https://a.example.com",
                "access-control-allow-credentials: true",
                "access-control-expose-headers: x-b",
            ]
        );
        for other in
            [request(Method::GET, &[]), request(Method::GET, &[BAD]), request(Method::OPTIONS, &[BAD, ASKS])]
        {
            assert_eq!(policy.decide(&other, 0), CorsDecision::None);
        }
        // Without the question it is no preflight.
        assert!(matches!(policy.decide(&request(Method::OPTIONS, &[GOOD]), 0), CorsDecision::Allowed(_)));
    }

    #[test]
    fn a_policy_may_be_off_or_strict() {
        let never = Proto { filter_enabled: Some(RuntimeFractionalPercent::default()), ..policy() };
        let never = CorsPolicy::compile(&never).unwrap();
        assert_eq!(never.decide(&request(Method::GET, &[GOOD]), 0), CorsDecision::None);
        let strict = Proto { forward_not_matching_preflights: Some(BoolValue { value: false }), ..policy() };
        let strict = CorsPolicy::compile(&strict).unwrap();
        let strange = request(Method::OPTIONS, &[BAD, ASKS]);
        assert_eq!(strict.decide(&strange, 0), CorsDecision::Preflight(Headers::default()));
    }
}
