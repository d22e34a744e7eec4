//! Virtual hosts, routes, actions; domains against a definition that shares nothing with the implementation.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier as HeaderIs;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier as QueryIs;
use envoy_types::pb::envoy::config::route::v3::route::Action as ActionProto;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::config::route::v3::{
    HeaderMatcher, HedgePolicy, QueryParameterMatcher, Route, RouteAction, RouteConfiguration, RouteMatch,
    VirtualHost, WeightedCluster,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, Int64Range};
use envoy_types::pb::google::protobuf::{BoolValue, UInt32Value};
use http::{HeaderName, HeaderValue, Method};
use ostro_engine::{Action, Decision, Request, RouteTable, Scheme};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

fn to(cluster: &str) -> Option<ActionProto> {
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.into())),
        ..Default::default()
    };
    Some(ActionProto::Route(action))
}

fn route(path: PathSpecifier, cluster: &str) -> Route {
    Route {
        r#match: Some(RouteMatch { path_specifier: Some(path), ..Default::default() }),
        action: to(cluster),
        ..Default::default()
    }
}

fn host(name: &str, domains: &[&str], routes: Vec<Route>) -> VirtualHost {
    VirtualHost {
        name: name.into(),
        domains: domains.iter().map(|d| (*d).to_owned()).collect(),
        routes,
        ..Default::default()
    }
}

fn table(virtual_hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration { name: "r".into(), virtual_hosts, ..Default::default() }
}

fn one_host(routes: Vec<Route>) -> RouteTable {
    RouteTable::compile(table(vec![host("v", &["*"], routes)])).unwrap()
}

fn get(path: &'static str) -> Request {
    Request::new(Method::GET, HeaderValue::from_static("a.com"), HeaderValue::from_static(path))
}

fn cluster(table: &RouteTable, request: &Request, random: u64) -> Option<String> {
    match table.decide(request, random) {
        Decision::Route(_, route) => match &route.action {
            Action::Forward(forward) => forward.cluster(request, random).map(str::to_owned),
            _ => panic!("no forward"),
        },
        _ => None,
    }
}

// === domains

const DOMAINS: &[&str] = &[
    "*",
    "a.com",
    "A.b.com",
    "*.com",
    "*.b.com",
    "*-x.b.com",
    "a.*",
    "a.b.*",
    "*a.com",
    "*om",
    "a*",
    "a.com:80",
    "*.com:80",
];

fn by_definition(domains: &[(usize, &str)], authority: &str) -> Option<usize> {
    let authority = authority.to_lowercase();
    let (mut exact, mut suffix, mut prefix, mut any) = (None, None, None, None);
    let (mut longest_suffix, mut longest_prefix) = (0, 0);
    for (index, domain) in domains {
        let domain = domain.to_lowercase();
        if domain == "*" {
            any = Some(*index);
        } else if let Some(rest) = domain.strip_prefix('*') {
            if authority.ends_with(rest) && authority.len() > rest.len() && rest.len() > longest_suffix {
                (suffix, longest_suffix) = (Some(*index), rest.len());
            }
        } else if let Some(rest) = domain.strip_suffix('*') {
            if authority.starts_with(rest) && authority.len() > rest.len() && rest.len() > longest_prefix {
                (prefix, longest_prefix) = (Some(*index), rest.len());
            }
        } else if domain == authority {
            exact = Some(*index);
        }
    }
    exact.or(suffix).or(prefix).or(any)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn domains_lead_where_the_definition_says(
        domains in subsequence(DOMAINS, 1..DOMAINS.len()),
        authorities in prop::collection::vec(prop_oneof![
            "[aAbx-]{1,3}(\\.[abcom]{1,3}){0,3}(:80)?",
            select(vec!["a.com", "x.com", ".com", "y-x.b.com", "-x.b.com", "a.b.com", "A.B.COM", "a.", "a.c", "a.com:80", "é.com"])
                .prop_map(str::to_owned),
        ], 1..20),
    ) {
        let hosts = domains.iter().enumerate().map(|(i, d)| host(&i.to_string(), &[d], vec![])).collect();
        let compiled = RouteTable::compile(table(hosts)).unwrap();
        let indexed: Vec<(usize, &str)> = domains.iter().copied().enumerate().collect();
        for authority in &authorities {
            let found = compiled.host(authority).map(|h| h.name.parse::<usize>().unwrap());
            prop_assert_eq!(found, by_definition(&indexed, authority), "{}", authority);
        }
    }

    /// Whatever a peer sends, a decision is made.
    #[test]
    fn no_request_panics(authority in prop::collection::vec(any::<u8>(), 0..20), path in prop::collection::vec(any::<u8>(), 0..40), random: u64) {
        let compiled = RouteTable::compile(RouteConfiguration {
            ignore_port_in_host_matching: true,
            ..table(vec![host("v", &["*.a", "b*", "*"], vec![route(PathSpecifier::PathSeparatedPrefix("/a".into()), "c")])])
        }).unwrap();
        let (Ok(authority), Ok(path)) = (HeaderValue::from_bytes(&authority), HeaderValue::from_bytes(&path)) else {
            return Ok(());
        };
        let request = Request { authority, path, ..get("/") };
        request.query(b"a");
        compiled.decide(&request, random);
    }
}

#[test]
fn a_domain_twice_is_refused() {
    let refusal =
        RouteTable::compile(table(vec![host("v", &["a.com"], vec![]), host("w", &["A.com"], vec![])]));
    let text = refusal.unwrap_err().to_string();
    assert_eq!(text, "route configuration r.virtual host w: invalid: domain \"a.com\" twice");
}

#[test]
fn the_port_is_ignored_only_if_told_so() {
    let mut proto = table(vec![host("v", &["a.com", "[::1]"], vec![])]);
    let compiled = RouteTable::compile(proto.clone()).unwrap();
    assert!(compiled.host("a.com:8080").is_none());
    proto.ignore_port_in_host_matching = true;
    let compiled = RouteTable::compile(proto).unwrap();
    assert!(compiled.host("a.com:8080").is_some());
    assert!(compiled.host("[::1]:8080").is_some());
    assert!(compiled.host("[::1]").is_some());
}

// === routes

#[test]
fn paths() {
    use PathSpecifier::{Path, PathSeparatedPrefix, Prefix, SafeRegex};
    let regex = |r: &str| SafeRegex(RegexMatcher { regex: r.into(), ..Default::default() });
    let compiled = one_host(vec![
        route(Path("/exact".into()), "exact"),
        route(PathSeparatedPrefix("/seg".into()), "seg"),
        route(regex("/re/[0-9]+"), "regex"),
        route(Prefix("/pre".into()), "prefix"),
    ]);
    let cases = [
        ("/exact", Some("exact")),
        ("/exact?x=1", Some("exact")),
        ("/exact#f", Some("exact")),
        ("/exact/", None),
        ("/EXACT", None),
        ("/seg", Some("seg")),
        ("/seg/a", Some("seg")),
        ("/segment", None),
        ("/seg?x", Some("seg")),
        ("/re/12?x=/", Some("regex")),
        ("/re/12/", None),
        ("/prefix", Some("prefix")),
        ("/", None),
    ];
    for (path, expected) in cases {
        assert_eq!(cluster(&compiled, &get(path), 0).as_deref(), expected, "{path}");
    }
}

#[test]
fn case_is_ignored_on_request() {
    let mut insensitive = route(PathSpecifier::PathSeparatedPrefix("/Seg".into()), "c");
    insensitive.r#match.as_mut().unwrap().case_sensitive = Some(BoolValue { value: false });
    let compiled = one_host(vec![insensitive]);
    assert!(cluster(&compiled, &get("/sEG/x"), 0).is_some());
    assert!(cluster(&compiled, &get("/segx"), 0).is_none());
}

fn with_header(matcher: HeaderMatcher) -> RouteTable {
    let mut route = route(PathSpecifier::Prefix("/".into()), "c");
    route.r#match.as_mut().unwrap().headers = vec![HeaderMatcher { name: "X-H".into(), ..matcher }];
    one_host(vec![route])
}

fn text(pattern: MatchPattern) -> HeaderMatcher {
    let matcher = StringMatcher { match_pattern: Some(pattern), ignore_case: false };
    HeaderMatcher { header_match_specifier: Some(HeaderIs::StringMatch(matcher)), ..Default::default() }
}

#[test]
fn headers() {
    let range = HeaderMatcher {
        header_match_specifier: Some(HeaderIs::RangeMatch(Int64Range { start: -10, end: 0 })),
        ..Default::default()
    };
    let present = |wanted| HeaderMatcher {
        header_match_specifier: Some(HeaderIs::PresentMatch(wanted)),
        ..Default::default()
    };
    let not = |m: HeaderMatcher| HeaderMatcher { invert_match: true, ..m };
    let or_empty = |m: HeaderMatcher| HeaderMatcher { treat_missing_header_as_empty: true, ..m };
    type Case = (HeaderMatcher, &'static [&'static str], bool);
    let cases: Vec<Case> = vec![
        (text(MatchPattern::Exact("a".into())), &["a"], true),
        (text(MatchPattern::Exact("a".into())), &["A"], false),
        (text(MatchPattern::Exact("b".into())), &["a", "b"], true),
        (text(MatchPattern::Exact("a,b".into())), &["a", "b"], false),
        (text(MatchPattern::Prefix("ab".into())), &["abc"], true),
        (text(MatchPattern::Suffix("bc".into())), &["abc"], true),
        (text(MatchPattern::Contains("b".into())), &["abc"], true),
        (text(MatchPattern::Contains("d".into())), &["abc"], false),
        (text(MatchPattern::Exact("a".into())), &[], false),
        (not(text(MatchPattern::Exact("a".into()))), &["b"], true),
        (not(text(MatchPattern::Exact("a".into()))), &[], false),
        (or_empty(not(text(MatchPattern::Exact("a".into())))), &[], true),
        (or_empty(text(MatchPattern::Exact("".into()))), &[], true),
        (HeaderMatcher::default(), &[""], true),
        (HeaderMatcher::default(), &[], false),
        (present(true), &["x"], true),
        (present(false), &[], true),
        (present(false), &["x"], false),
        (not(present(true)), &[], true),
        (not(present(true)), &["x"], false),
        (range.clone(), &["-1"], true),
        (range.clone(), &["0"], false),
        (range.clone(), &["x"], false),
        (not(range), &["x"], true),
    ];
    for (matcher, values, expected) in cases {
        let compiled = with_header(matcher.clone());
        let header = |value: &&str| (HeaderName::from_static("x-h"), HeaderValue::from_str(value).unwrap());
        let request = Request { headers: values.iter().map(header).collect(), ..get("/") };
        assert_eq!(cluster(&compiled, &request, 0).is_some(), expected, "{matcher:?} on {values:?}");
    }
}

#[test]
fn pseudo_headers_are_headers() {
    let mut by_method = route(PathSpecifier::Prefix("/".into()), "c");
    by_method.r#match.as_mut().unwrap().headers =
        vec![HeaderMatcher { name: ":method".into(), ..text(MatchPattern::Exact("PUT".into())) }];
    let compiled = one_host(vec![by_method]);
    assert!(cluster(&compiled, &get("/"), 0).is_none());
    assert!(cluster(&compiled, &Request { method: Method::PUT, ..get("/") }, 0).is_some());
}

#[test]
fn query_parameters() {
    let matcher = |is| QueryParameterMatcher { name: "a".into(), query_parameter_match_specifier: is };
    let exact = StringMatcher { match_pattern: Some(MatchPattern::Exact("1".into())), ignore_case: false };
    let compile = |is| {
        let mut route = route(PathSpecifier::Prefix("/".into()), "c");
        route.r#match.as_mut().unwrap().query_parameters = vec![matcher(is)];
        one_host(vec![route])
    };
    let valued = compile(Some(QueryIs::StringMatch(exact)));
    let present = compile(None);
    let absent = compile(Some(QueryIs::PresentMatch(false)));
    let cases = [
        ("/?a=1", [true, true, false]),
        ("/?a=2&a=1", [false, true, false]),
        ("/?b=1", [false, false, true]),
        ("/?a", [false, true, false]),
        ("/a=1", [false, false, true]),
        ("/?x&a=1", [true, true, false]),
    ];
    for (path, expected) in cases {
        let found = [&valued, &present, &absent].map(|t| cluster(t, &get(path), 0).is_some());
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn shares_and_weights_follow_the_random_number() {
    let weighted = |clusters: &[(&str, u32)]| {
        let weight = |(name, weight): &(&str, u32)| ClusterWeight {
            name: (*name).into(),
            weight: Some(UInt32Value { value: *weight }),
            ..Default::default()
        };
        let clusters =
            WeightedCluster { clusters: clusters.iter().map(weight).collect(), ..Default::default() };
        let action = RouteAction {
            cluster_specifier: Some(ClusterSpecifier::WeightedClusters(clusters)),
            ..Default::default()
        };
        Route { action: Some(ActionProto::Route(action)), ..route(PathSpecifier::Prefix("/".into()), "") }
    };
    let compiled = one_host(vec![weighted(&[("a", 1), ("b", 0), ("c", 3)])]);
    let picked: String = (0..8).map(|r| cluster(&compiled, &get("/"), r).unwrap()).collect();
    assert_eq!(picked, "acccaccc");
    let refused = RouteTable::compile(table(vec![host("v", &["*"], vec![weighted(&[("a", 0)])])]));
    assert!(refused.unwrap_err().to_string().contains("add up to 0"));

    let mut share = route(PathSpecifier::Prefix("/".into()), "some");
    share.r#match.as_mut().unwrap().runtime_fraction = Some(RuntimeFractionalPercent {
        default_value: Some(FractionalPercent { numerator: 25, denominator: 0 }),
        ..Default::default()
    });
    let compiled = one_host(vec![share, route(PathSpecifier::Prefix("/".into()), "rest")]);
    let some = (0..1000).filter(|r| cluster(&compiled, &get("/"), *r).as_deref() == Some("some")).count();
    assert_eq!(some, 250);
}

#[test]
fn tls_is_required_before_routes_are_looked_at() {
    let mut secure = host("v", &["*"], vec![route(PathSpecifier::Prefix("/".into()), "c")]);
    secure.require_tls = 2;
    let compiled = RouteTable::compile(table(vec![secure])).unwrap();
    assert!(matches!(compiled.decide(&get("/"), 0), Decision::RedirectToTls(_)));
    let https = Request { scheme: Scheme::Https, ..get("/") };
    assert!(matches!(compiled.decide(&https, 0), Decision::Route(..)));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let mut hedged = route(PathSpecifier::Prefix("/".into()), "c");
    let Some(ActionProto::Route(action)) = &mut hedged.action else { panic!("a route") };
    action.hedge_policy = Some(HedgePolicy { hedge_on_per_try_timeout: true, ..Default::default() });
    let refusal = RouteTable::compile(table(vec![host("v", &["*"], vec![hedged])])).unwrap_err();
    let expected = "route configuration r.virtual host v.routes[0].route: not supported: hedge_policy";
    assert_eq!(refusal.to_string(), expected);
}
