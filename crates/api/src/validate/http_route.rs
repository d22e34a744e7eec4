//! Rules of a VirtualService's HTTP rules.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::decode::At;
use crate::hosts::is_label;
use crate::validate::rules;
use crate::validate::virtual_service::{destination, weights};
use crate::virtual_service::{
    CorsPolicy, FaultAbort, FaultDelay, GRPC_STATUSES, HeaderOperations, Headers, HttpDirectResponse,
    HttpFaultInjection, HttpMatchRequest, HttpRedirect, HttpRetry, HttpRewrite, HttpRoute, StringMatch,
};

/// Whose proxies read the VirtualService.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// Sidecars, perhaps gateways too.
    Mesh,
    /// Gateways only.
    Gateways,
    /// Whoever delegates to it.
    Delegate,
}

/// Headers that a route, or a destination, may set and add: Envoy takes a thousand of both together, and refuses the routes
/// of all services of a port over one more.
const HEADERS: usize = 500;
/// Bytes of a query parameter's name that Envoy matches.
const QUERY_PARAM_BYTES: usize = 1_024;
/// Bytes of a direct response's body that Istio refuses to go beyond.
const BODY_BYTES: usize = 1024 * 1024;
/// Bytes of a direct response's body that Istio warns of.
const BODY_BYTES_WARNED: usize = 100 * 1024;

pub(super) fn check(at: &At<'_>, route: &HttpRoute, owner: Owner) {
    conflicts(at, route, owner);
    for (index, matches) in route.r#match.iter().enumerate() {
        match_request(&at.field("match").item(index), matches, owner);
    }
    for (index, target) in route.route.iter().enumerate() {
        let item = at.field("route");
        let item = item.item(index);
        destination(&item.field("destination"), target.destination.as_ref());
        headers(&item.field("headers"), target.headers.as_ref());
    }
    weights(&at.field("route"), route.route.iter().map(|target| target.weight));
    headers(&at.field("headers"), route.headers.as_ref());
    authority_once(at, route);
    mirrors(at, route);
    rules::duration(&at.field("timeout"), route.timeout);
    if let Some(delegate) = &route.delegate {
        let at = at.field("delegate");
        if !crate::hosts::is_object_name(&delegate.name) {
            at.field("name").refuse("a VirtualService's name");
        }
        if !delegate.namespace.is_empty() && !is_label(&delegate.namespace) {
            at.field("namespace").refuse("a namespace");
        }
    }
    each(at, "redirect", route.redirect.as_ref(), redirect);
    each(at, "directResponse", route.direct_response.as_ref(), direct_response);
    each(at, "rewrite", route.rewrite.as_ref(), rewrite);
    each(at, "retries", route.retries.as_ref(), retries);
    each(at, "fault", route.fault.as_ref(), fault);
    each(at, "corsPolicy", route.cors_policy.as_ref(), cors);
}

fn each<T>(at: &At<'_>, name: &str, value: Option<&T>, rule: fn(&At<'_>, &T)) {
    if let Some(value) = value {
        rule(&at.field(name), value);
    }
}

/// Of `route`, `redirect`, `directResponse` and `delegate` there is one, and some exclude more.
fn conflicts(at: &At<'_>, route: &HttpRoute, owner: Owner) {
    let clash = |name: &str, other: &str| {
        at.field(name).complain(format!("{name} beside {other}"), format!("either {name} or {other}"));
    };
    if route.delegate.is_some() {
        if owner == Owner::Delegate {
            at.field("delegate").complain("a delegate in a delegate", "one level of delegation");
        }
        for name in ["route", "redirect", "directResponse"] {
            if at.field(name).is_set() {
                clash(name, "delegate");
            }
        }
        return;
    }
    let excluding = if route.redirect.is_some() { "redirect" } else { "directResponse" };
    if route.redirect.is_some() || route.direct_response.is_some() {
        for name in ["route", "fault", "rewrite", "directResponse"] {
            if name != excluding && at.field(name).is_set() && !(name == "route" && route.route.is_empty()) {
                clash(name, excluding);
            }
        }
    } else if route.route.is_empty() {
        at.field("route").complain("nothing", "route, redirect, directResponse or delegate");
    }
    if route.mirror.is_some() && !route.mirrors.is_empty() {
        clash("mirrors", "mirror");
    }
}

fn match_request(at: &At<'_>, matches: &HttpMatchRequest, owner: Owner) {
    each_match(at, "uri", matches.uri.as_ref(), true);
    each_match(at, "scheme", matches.scheme.as_ref(), false);
    each_match(at, "method", matches.method.as_ref(), false);
    each_match(at, "authority", matches.authority.as_ref(), false);
    for (field, map) in [("headers", &matches.headers), ("withoutHeaders", &matches.without_headers)] {
        header_matches(&at.field(field), map, owner, field == "withoutHeaders");
    }
    let params = at.field("queryParams");
    for (name, matcher) in &matches.query_params {
        if !(1..=QUERY_PARAM_BYTES).contains(&name.len()) {
            let found = format!("a query parameter's name of {} bytes", name.len());
            params.key(name).complain(found, format!("1 to {QUERY_PARAM_BYTES} bytes"));
        }
        rules::string_match(&params.key(name), matcher, false);
    }
    crate::hosts::check_labels(&at.field("sourceLabels"), &matches.source_labels);
    rules::gateways(&at.field("gateways"), &matches.gateways);
    if !matches.source_namespace.is_empty() && !is_label(&matches.source_namespace) {
        at.field("sourceNamespace").refuse("a namespace");
    }
}

fn each_match(at: &At<'_>, name: &str, matcher: Option<&StringMatch>, empty_prefix: bool) {
    if let Some(matcher) = matcher {
        rules::string_match(&at.field(name), matcher, empty_prefix);
    }
}

fn header_matches(at: &At<'_>, map: &BTreeMap<String, StringMatch>, owner: Owner, without: bool) {
    for (name, matcher) in map {
        let item = at.key(name);
        if name.is_empty() || name.contains(['\r', '\n', '\0']) {
            item.complain("a header without a proper name", "a header's name");
        } else if let Some(rest) = name.strip_prefix("@request.auth.claims") {
            if !(rest.len() > 1 && (rest.starts_with('.') || (rest.starts_with('[') && rest.ends_with(']'))))
            {
                item.complain(
                    format!("the claim {name}"),
                    "@request.auth.claims.name or @request.auth.claims[name]",
                );
            }
            if owner == Owner::Mesh {
                item.complain(
                    format!("the claim {name} outside a gateway"),
                    "claims where gateways are named",
                );
            }
        }
        // `*` is no regular expression; Istio reads it as "present".
        let present = without && *matcher == StringMatch::Regex("*".to_owned());
        if !present {
            rules::string_match(&item, matcher, false);
        }
    }
}

fn headers(at: &At<'_>, headers: Option<&Headers>) {
    let Some(headers) = headers else { return };
    if let Some(operations) = &headers.request {
        header_operations(&at.field("request"), operations, true);
    }
    if let Some(operations) = &headers.response {
        header_operations(&at.field("response"), operations, false);
    }
}

fn header_operations(at: &At<'_>, operations: &HeaderOperations, authority: bool) {
    let count = operations.set.len() + operations.add.len();
    if count > HEADERS {
        at.complain(format!("{count} headers to set and add"), format!("{HEADERS} at most"));
    }
    for (field, map) in [("set", &operations.set), ("add", &operations.add)] {
        let at = at.field(field);
        for (name, value) in map {
            header_name(&at.key(name), name, authority);
            header_value(&at.key(name), value);
        }
    }
    for (index, name) in operations.remove.iter().enumerate() {
        header_name(&at.field("remove").item(index), name, false);
    }
}

/// A header that may be changed; the authority only where a request is rewritten.
fn header_name(at: &At<'_>, name: &str, authority: bool) {
    if name.is_empty() || name.contains(['\r', '\n', '\0']) {
        at.complain("a header without a proper name", "a header's name");
    } else if (name.starts_with(':') || name.eq_ignore_ascii_case("host"))
        && !(authority && is_authority(name))
    {
        at.complain(format!("the header {name}"), "headers but for host and those that begin with a colon");
    }
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// A value is a format of Envoy's: `%` begins an operator and `%%` is a percent sign.
fn header_value(at: &At<'_>, value: &str) {
    if value.contains(['\r', '\n', '\0']) {
        at.refuse("text without line breaks");
    } else if !is_format(value) {
        at.refuse("text in which % begins an operator such as %REQ(name)%; a percent sign is %%");
    }
}

fn is_format(value: &str) -> bool {
    let mut rest = value;
    while let Some(start) = rest.find('%') {
        rest = rest.get(start + 1..).unwrap_or_default();
        if let Some(after) = rest.strip_prefix('%') {
            rest = after;
            continue;
        }
        let name_end = rest.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
        let Some(end) = name_end.filter(|&end| end > 0) else { return false };
        rest = rest.get(end..).unwrap_or_default();
        let Some(after) = operator_end(rest) else { return false };
        rest = after;
    }
    true
}

/// What follows an operator's name: `(arguments)`, `:length`, then `%`.
fn operator_end(rest: &str) -> Option<&str> {
    let closed = |rest: &str| {
        rest.strip_prefix(':')
            .map_or(rest.len(), |digits| digits.trim_start_matches(|c: char| c.is_ascii_digit()).len())
    };
    let tail = |rest: &'_ str| rest.len() - closed(rest);
    if !rest.starts_with('(') {
        return rest.get(tail(rest)..)?.strip_prefix('%');
    }
    // Arguments may hold parentheses of their own: the first one that is followed by `%` closes.
    rest.match_indices(')').find_map(|(close, _)| {
        let after = rest.get(close + 1..)?;
        after.get(tail(after)..)?.strip_prefix('%')
    })
}

/// The authority is set in one place at most.
fn authority_once(at: &At<'_>, route: &HttpRoute) {
    let rewritten = route.rewrite.as_ref().is_some_and(|rewrite| !rewrite.authority.is_empty());
    let request = route.headers.as_ref().and_then(|headers| headers.request.as_ref());
    let set = request.map_or(0, |request| {
        request.set.keys().chain(request.add.keys()).filter(|name| is_authority(name)).count()
    });
    if set + usize::from(rewritten) > 1 {
        at.complain(
            "the authority changed in several places",
            "one of rewrite.authority and the header host",
        );
    }
}

fn mirrors(at: &At<'_>, route: &HttpRoute) {
    if route.mirror.is_some() {
        destination(&at.field("mirror"), route.mirror.as_ref());
    }
    if let Some(percent) = route.mirror_percent {
        rules::percent(&at.field("mirrorPercent"), percent);
        at.field("mirrorPercent").warn("mirrorPercent, which is deprecated", "mirrorPercentage");
    }
    if let Some(percentage) = &route.mirror_percentage {
        zero_to_hundred(&at.field("mirrorPercentage").field("value"), percentage.value);
    }
    let list = at.field("mirrors");
    for (index, mirror) in route.mirrors.iter().enumerate() {
        let item = list.item(index);
        destination(&item.field("destination"), mirror.destination.as_ref());
        if let Some(percentage) = &mirror.percentage {
            zero_to_hundred(&item.field("percentage").field("value"), percentage.value);
        }
    }
}

fn zero_to_hundred(at: &At<'_>, value: f64) {
    if !(0.0..=100.0).contains(&value) {
        at.refuse("0 to 100");
    }
}

fn redirect(at: &At<'_>, redirect: &HttpRedirect) {
    let path = !redirect.uri.is_empty() || !redirect.prefix_rewrite.is_empty();
    let port = redirect.port.is_some() || redirect.derive_port.is_some();
    if !path && !port && redirect.authority.is_empty() && redirect.scheme.is_empty() {
        at.complain(
            "a redirect to the same place",
            "uri, prefixRewrite, authority, scheme, port or derivePort",
        );
    }
    if !redirect.uri.is_empty() && !redirect.prefix_rewrite.is_empty() {
        at.field("prefixRewrite").complain("prefixRewrite beside uri", "either uri or prefixRewrite");
    }
    if redirect.port.is_some() && redirect.derive_port.is_some() {
        at.field("derivePort").complain("derivePort beside port", "either port or derivePort");
    }
    match redirect.redirect_code {
        0 | 301 | 302 | 303 | 307 | 308 => {}
        300..=399 => at.field("redirectCode").warn(
            format!("the code {}, which proxies cannot send", redirect.redirect_code),
            "301, 302, 303, 307, 308",
        ),
        _ => at.field("redirectCode").refuse("301, 302, 303, 307, 308"),
    }
    if !matches!(redirect.scheme.as_str(), "" | "http" | "https") {
        at.field("scheme").refuse("http, https");
    }
}

fn direct_response(at: &At<'_>, response: &HttpDirectResponse) {
    status(&at.field("status"), response.status);
    let Some(body) = &response.body else { return };
    let at = at.field("body");
    if body.string.is_some() && body.bytes.is_some() {
        at.complain("string beside bytes", "one of them");
    }
    let size = body.string.as_ref().or(body.bytes.as_ref()).map_or(0, String::len);
    if size > BODY_BYTES {
        at.complain(format!("a body of {size} bytes"), format!("{BODY_BYTES} bytes"));
    } else if size > BODY_BYTES_WARNED {
        at.warn(format!("a body of {size} bytes"), "a small body: every proxy holds it");
    }
}

fn status(at: &At<'_>, status: u32) {
    if !(200..=599).contains(&status) {
        at.refuse("200 to 599");
    }
}

fn rewrite(at: &At<'_>, rewrite: &HttpRewrite) {
    let regex = rewrite.uri_regex_rewrite.as_ref();
    if rewrite.uri.is_empty() && regex.is_none() && rewrite.authority.is_empty() {
        at.complain("a rewrite of nothing", "uri, uriRegexRewrite or authority");
    }
    let Some(regex) = regex else { return };
    let at = at.field("uriRegexRewrite");
    if !rewrite.uri.is_empty() {
        at.complain("uriRegexRewrite beside uri", "either uri or uriRegexRewrite");
    }
    rules::pattern(&at.field("match"), &regex.r#match);
    if regex.rewrite.is_empty() {
        at.field("rewrite").refuse("what to put in place of the match");
    }
}

/// What Envoy retries on, beside HTTP statuses by number.
const RETRY_ON: &[&str] = &[
    "5xx",
    "cancelled",
    "connect-failure",
    "deadline-exceeded",
    "envoy-ratelimited",
    "gateway-error",
    "http3-post-connect-failure",
    "internal",
    "refused-stream",
    "reset",
    "reset-before-request",
    "resource-exhausted",
    "retriable-4xx",
    "retriable-headers",
    "retriable-status-codes",
    "unavailable",
];

pub(super) fn retries(at: &At<'_>, retries: &HttpRetry) {
    if i32::try_from(retries.attempts).is_err() {
        at.field("attempts").refuse("0 to 2147483647");
    }
    let configured = retries.per_try_timeout.is_some()
        || !retries.retry_on.is_empty()
        || retries.retry_remote_localities.is_some();
    if retries.attempts == 0 && configured {
        at.complain("a policy for 0 attempts", "attempts above 0, or attempts: 0 alone");
    }
    rules::duration(&at.field("perTryTimeout"), retries.per_try_timeout);
    rules::duration(&at.field("backoff"), retries.backoff);
    for policy in retries.retry_on.split(',').map(str::trim).filter(|_| !retries.retry_on.is_empty()) {
        let is_status = policy.parse::<u16>().is_ok_and(|status| (100..=599).contains(&status));
        if !is_status && !RETRY_ON.contains(&policy) {
            let allowed = format!("HTTP statuses; {}", RETRY_ON.join(", "));
            at.field("retryOn").complain(crate::tree::quoted(policy), allowed);
        }
    }
}

fn fault(at: &At<'_>, fault: &HttpFaultInjection) {
    if fault.abort.is_none() && fault.delay.is_none() {
        at.complain("no fault", "abort, delay");
    }
    each(at, "abort", fault.abort.as_ref(), fault_abort);
    each(at, "delay", fault.delay.as_ref(), fault_delay);
}

fn fault_abort(at: &At<'_>, abort: &FaultAbort) {
    if let Some(percentage) = &abort.percentage {
        rules::percentage(&at.field("percentage").field("value"), percentage.value);
    }
    if abort.http2_error.is_some() {
        at.field("http2Error").complain("http2Error, which is not supported", "httpStatus, grpcStatus");
    }
    if let Some(code) = abort.http_status {
        status(&at.field("httpStatus"), code);
    }
    if let Some(name) = &abort.grpc_status
        && !GRPC_STATUSES.contains(&name.as_str())
    {
        at.field("grpcStatus").refuse(GRPC_STATUSES.join(", "));
    }
    match (abort.http_status.is_some(), abort.grpc_status.is_some()) {
        (true, true) => at.complain("httpStatus beside grpcStatus", "one of them"),
        (false, false) if abort.http2_error.is_none() => {
            at.warn("an abort without a status, which does nothing", "httpStatus, grpcStatus");
        }
        _ => {}
    }
}

fn fault_delay(at: &At<'_>, delay: &FaultDelay) {
    if let Some(percentage) = &delay.percentage {
        rules::percentage(&at.field("percentage").field("value"), percentage.value);
    }
    rules::percent(&at.field("percent"), delay.percent);
    rules::duration(&at.field("fixedDelay"), delay.fixed_delay);
    if delay.exponential_delay.is_some() {
        at.field("exponentialDelay").complain("exponentialDelay, which is not supported", "fixedDelay");
    }
}

const CORS_METHODS: &[&str] =
    &["*", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"];

fn cors(at: &At<'_>, policy: &CorsPolicy) {
    let origins = at.field("allowOrigins");
    for (index, origin) in policy.allow_origins.iter().enumerate() {
        let item = origins.item(index);
        match origin {
            StringMatch::Any => item.refuse("exact, prefix or regex"),
            StringMatch::Exact(text) if text.is_empty() => item.field("exact").refuse("an origin"),
            StringMatch::Prefix(text) if text.is_empty() => {
                item.field("prefix").refuse("the beginning of an origin")
            }
            other => rules::string_match(&item, other, false),
        }
    }
    for (index, method) in policy.allow_methods.iter().enumerate() {
        if !CORS_METHODS.contains(&method.as_str()) {
            at.field("allowMethods").item(index).refuse(CORS_METHODS.join(", "));
        }
    }
    for (field, names) in [("allowHeaders", &policy.allow_headers), ("exposeHeaders", &policy.expose_headers)]
    {
        for (index, name) in names.iter().enumerate() {
            if name.is_empty() {
                at.field(field).item(index).refuse("a header's name");
            }
        }
    }
    rules::duration(&at.field("maxAge"), policy.max_age);
    if policy.max_age.is_some_and(|age| age.subsec_nanos() > 0 && age >= Duration::from_millis(1)) {
        at.field("maxAge").refuse("whole seconds");
    }
}
