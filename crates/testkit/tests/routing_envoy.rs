//! The engine's route decision against stock Envoy's: one random route configuration after another, given to both as the
//! same bytes, and random requests asked of both.
//!
//! Every route answers with its own name in a header, so that the answer says which route was taken.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::str::FromStr as _;

use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption, RuntimeFractionalPercent};
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier as HeaderIs;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier as QueryIs;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier as PathIs;
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, HeaderMatcher, QueryParameterMatcher, Route, RouteConfiguration, RouteMatch,
    VirtualHost,
};
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, Int64Range};
use envoy_types::pb::google::protobuf::BoolValue;
use envoy_types::util::pack_any;
use http::HeaderName;
use ostro_engine::{Decision, Request, RouteTable};
use ostro_testkit::envoy::Envoy;
use prost::Message;
use serde_json::{Value, json};

/// Route configurations, each behind a listener of its own.
const TABLES: usize = 30;
/// Requests asked of each.
const REQUESTS: usize = 250;

const DOMAINS: &[&str] = &[
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
    "a.com:81",
    "*.com:81",
    "*",
];
const AUTHORITIES: &[&str] = &[
    "a.com",
    "A.COM",
    "a.b.com",
    "x.com",
    "c.b.com",
    "-x.b.com",
    "y-x.b.com",
    "a.org",
    "a.b.org",
    "ba.com",
    "om",
    "xom",
    "a",
    "ab",
    "a.com:81",
    "b.com:81",
    "a.b.com:80",
    "[::1]:80",
    "[::1]",
    "z",
];
const PATHS: &[&str] =
    &["/", "/a", "/a/", "/a/b", "/ab", "/A", "/A/b", "/a.b", "/b", "/b/c/d", "/a%2Fb", "/a;x=1"];
const QUERIES: &[&str] =
    &["", "?", "?q=1", "?q=2", "?q", "?q=", "?p=1&q=1", "?q=2&q=1", "?Q=1", "?q=11", "?pq=1", "?q=%31"];
const VALUES: &[&str] = &["1", "12", "-5", "0", "10", "a", "A", "ab", "ba", "aba", "a,b", " "];

/// A small deterministic generator (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % below as u64).unwrap()
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.roll(100) < percent
    }
}

fn table(dice: &mut Dice, name: &str) -> RouteConfiguration {
    let mut domains: Vec<&str> = DOMAINS.iter().copied().filter(|_| dice.chance(60)).collect();
    if domains.is_empty() {
        domains.push("*");
    }
    let host = |(v, domain): (usize, &&str)| VirtualHost {
        name: format!("v{v}"),
        domains: vec![(*domain).to_owned()],
        require_tls: i32::from(dice.chance(5)) * 2,
        routes: (0..1 + dice.roll(5)).map(|r| route(dice, &format!("v{v}r{r}"))).collect(),
        ..Default::default()
    };
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: domains.iter().enumerate().map(host).collect(),
        ignore_port_in_host_matching: dice.chance(50),
        ..Default::default()
    }
}

fn route(dice: &mut Dice, name: &str) -> Route {
    let share = dice.chance(10).then(|| RuntimeFractionalPercent {
        default_value: Some(FractionalPercent {
            numerator: 100 * u32::from(dice.chance(50)),
            denominator: 0,
        }),
        ..Default::default()
    });
    Route {
        name: name.to_owned(),
        r#match: Some(RouteMatch {
            path_specifier: Some(path(dice)),
            case_sensitive: dice.chance(30).then_some(BoolValue { value: false }),
            headers: (0..dice.roll(3) * dice.roll(2)).map(|_| header(dice)).collect(),
            query_parameters: (0..dice.roll(2)).map(|_| query(dice)).collect(),
            runtime_fraction: share,
            ..Default::default()
        }),
        action: Some(Action::DirectResponse(DirectResponseAction { status: 200, ..Default::default() })),
        response_headers_to_add: vec![HeaderValueOption {
            header: Some(HeaderValue { key: "x-route".into(), value: name.into(), ..Default::default() }),
            append_action: i32::from(HeaderAppendAction::OverwriteIfExistsOrAdd),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn path(dice: &mut Dice) -> PathIs {
    let path = dice.pick(PATHS).to_owned();
    match dice.roll(5) {
        0 | 1 => PathIs::Prefix(path),
        2 => PathIs::Path(path),
        3 => PathIs::SafeRegex(regex(dice.pick(&["/.*", "/[ab]+", "/a(/b)?", "(?i)/A", "/a.b", "/"]))),
        _ => PathIs::PathSeparatedPrefix(dice.pick(&["/a", "/A", "/a/b", "/b", "/b/c"]).to_owned()),
    }
}

fn regex(pattern: &str) -> RegexMatcher {
    RegexMatcher { regex: pattern.to_owned(), ..Default::default() }
}

fn text(dice: &mut Dice) -> StringMatcher {
    let value = dice.pick(&["1", "a", "A", "ab", "b", "-5", "12"]).to_owned();
    let pattern = match dice.roll(5) {
        0 => MatchPattern::Exact(value),
        1 => MatchPattern::Prefix(value),
        2 => MatchPattern::Suffix(value),
        3 => MatchPattern::Contains(value),
        _ => MatchPattern::SafeRegex(regex(dice.pick(&["[0-9]+", "a.*", ".", ".*", "(?i)a"]))),
    };
    let ignore_case = !matches!(pattern, MatchPattern::SafeRegex(_)) && dice.chance(30);
    StringMatcher { match_pattern: Some(pattern), ignore_case }
}

fn header(dice: &mut Dice) -> HeaderMatcher {
    let specifier = match dice.roll(6) {
        0 => None,
        1 => Some(HeaderIs::PresentMatch(dice.chance(50))),
        2 => Some(HeaderIs::RangeMatch(Int64Range { start: -10, end: 12 })),
        _ => Some(HeaderIs::StringMatch(text(dice))),
    };
    HeaderMatcher {
        name: dice.pick(&["x-one", "X-Two", ":method", ":authority", "host", ":path", ":scheme"]).to_owned(),
        invert_match: dice.chance(30),
        treat_missing_header_as_empty: dice.chance(20),
        header_match_specifier: specifier,
    }
}

fn query(dice: &mut Dice) -> QueryParameterMatcher {
    let specifier = match dice.roll(4) {
        0 => None,
        1 => Some(QueryIs::PresentMatch(dice.chance(50))),
        _ => Some(QueryIs::StringMatch(text(dice))),
    };
    QueryParameterMatcher { name: "q".to_owned(), query_parameter_match_specifier: specifier }
}

/// A request, of which both sides get the same.
#[derive(Debug)]
struct Asked {
    method: &'static str,
    authority: &'static str,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
}

fn asked(dice: &mut Dice) -> Asked {
    let headers =
        ["x-one", "x-two"].into_iter().flat_map(|name| vec![name; dice.roll(3)]).collect::<Vec<_>>();
    Asked {
        method: dice.pick(&["GET", "GET", "DELETE"]),
        authority: dice.pick(AUTHORITIES),
        path: format!("{}{}", dice.pick(PATHS), dice.pick(QUERIES)),
        headers: headers.into_iter().map(|name| (name, dice.pick(VALUES))).collect(),
    }
}

/// What the engine says: the route's name, or the status of the answer without one.
fn by_engine(table: &RouteTable, asked: &Asked) -> String {
    let header =
        |(name, value): &(&str, &str)| (HeaderName::from_str(name).unwrap(), value.trim().parse().unwrap());
    let request = Request {
        headers: asked.headers.iter().map(header).collect(),
        ..Request::new(
            asked.method.parse().unwrap(),
            asked.authority.parse().unwrap(),
            asked.path.parse().unwrap(),
        )
    };
    match table.decide(&request, 0) {
        Decision::Route(_, route) => route.name.clone(),
        Decision::RedirectToTls(_) => "301".to_owned(),
        Decision::NoVirtualHost | Decision::NoRoute(_) => "404".to_owned(),
    }
}

/// What Envoy says.
fn by_envoy(connection: &mut BufReader<TcpStream>, asked: &Asked) -> String {
    let Asked { method, authority, path, headers } = asked;
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {authority}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    connection.get_mut().write_all(text.as_bytes()).unwrap();
    let (mut status, mut route, mut length) = (String::new(), None, 0);
    loop {
        let mut line = String::new();
        assert!(connection.read_line(&mut line).unwrap() > 0, "the connection ended on {asked:?}");
        let line = line.trim_end();
        if status.is_empty() {
            status = line.split(' ').nth(1).unwrap().to_owned();
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        } else if let Some(value) = line.strip_prefix("x-route: ") {
            route = Some(value.to_owned());
        }
        if line.is_empty() {
            break;
        }
    }
    connection.read_exact(&mut vec![0; length]).unwrap();
    route.unwrap_or(status)
}

fn listener(name: &str, file: &str) -> Value {
    json!({
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{
            "name": "hcm",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "rds": {"route_config_name": name, "config_source": {"path_config_source": {"path": file}}},
                "http_filters": [{"name": "router", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]
            }
        }]}]
    })
}

#[test]
fn routes_are_chosen_as_envoy_chooses_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(20_261_122);
    let tables: Vec<RouteConfiguration> = (0..TABLES).map(|i| table(&mut dice, &format!("t{i}"))).collect();
    let mut listeners = Vec::new();
    for table in &tables {
        let file = dir.path().join(format!("{}.pb", table.name));
        let response = DiscoveryResponse {
            resources: vec![pack_any(table.clone())],
            version_info: "1".into(),
            ..Default::default()
        };
        std::fs::write(&file, response.encode_to_vec()).unwrap();
        listeners.push(listener(&table.name, file.to_str().unwrap()));
    }
    let envoy = Envoy::start_ready(&json!({
        "node": {"id": "test", "cluster": "test"},
        "static_resources": {"listeners": listeners},
    }));

    let (mut disagree, mut routed) = (Vec::new(), 0);
    for proto in tables {
        let name = proto.name.clone();
        let table = RouteTable::compile(proto).unwrap();
        let mut connection = BufReader::new(TcpStream::connect(envoy.listener(&name)).unwrap());
        for _ in 0..REQUESTS {
            let asked = asked(&mut dice);
            let (ours, theirs) = (by_engine(&table, &asked), by_envoy(&mut connection, &asked));
            routed += usize::from(theirs.starts_with('v'));
            if ours != theirs {
                disagree.push(format!("{name}: ours {ours}, Envoy {theirs}: {asked:?}"));
            }
        }
    }
    println!("{} requests, {routed} routed, {} disagreements", TABLES * REQUESTS, disagree.len());
    assert!(disagree.is_empty(), "{}", disagree.join("\n"));
    // The random tables must go on meaning something.
    assert!(routed * 10 > TABLES * REQUESTS, "{routed}");
}
