//! Which hosts a server of a Gateway (`[namespace/]host`) and a VirtualService have in common.

use ostro_mesh::model::RouteRules;

use super::servers::Bound;

/// The hosts that `server` serves by `rules`: of a host and a wildcard over it, the narrower. In order of the server's.
pub fn common(server: &Bound, rules: &RouteRules) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let own = rules.age.namespace.as_str();
    for (_, offered) in server.hosts().filter(|(namespace, _)| namespace.is_none_or(|name| name == own)) {
        let offered = offered.to_ascii_lowercase();
        for wanted in &rules.hosts {
            let narrower = narrower(&offered, wanted.as_str());
            out.extend(narrower.filter(|host| !out.iter().any(|known| known == host)).map(str::to_owned));
        }
    }
    out
}

/// The narrower of two hosts, if one covers the other.
fn narrower<'h>(one: &'h str, other: &'h str) -> Option<&'h str> {
    if covers(other, one) {
        return Some(one);
    }
    covers(one, other).then_some(other)
}

fn covers(wide: &str, narrow: &str) -> bool {
    wide == narrow
        || wide.strip_prefix('*').is_some_and(|suffix| narrow.trim_start_matches('*').ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::narrower;

    #[test]
    fn the_narrower_of_two_overlapping_hosts() {
        let cases = [
            ("*", "a.com", Some("a.com")),
            ("*.com", "*", Some("*.com")),
            ("*.a.com", "b.a.com", Some("b.a.com")),
            ("*.a.com", "*.com", Some("*.a.com")),
            ("a.com", "a.com", Some("a.com")),
            ("*.a.com", "a.com", None),
            ("*.a.com", "*.b.com", None),
            ("a.com", "b.com", None),
        ];
        for (one, other, expected) in cases {
            assert_eq!(narrower(one, other), expected, "{one} {other}");
            assert_eq!(narrower(other, one), expected, "{other} {one}");
        }
    }
}
