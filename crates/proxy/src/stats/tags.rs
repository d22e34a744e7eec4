//! Tags: parts of names that Prometheus has as labels.
//!
//! An expression is searched in a name; its first group is cut out, its second group (the first, if there is no other) is the tag's value. What
//! Envoy knows by itself ([`DEFAULTS`]) is its own list, as far as we count such things.

use ostro_engine::bootstrap::{StatsSettings, TagValue};
use regex::Regex;

/// A tag that is read out of names.
struct Extractor {
    name: String,
    regex: Regex,
    /// What a name begins with in which it can be found, to save the search in others.
    start: String,
}

/// All tags.
pub(crate) struct Tags {
    extractors: Vec<Extractor>,
    fixed: Vec<(String, String)>,
}

/// A tag and its value.
pub(crate) type Tag = (String, String);

/// Envoy's own tags. A listener's address is written with `_` for `:`.
const DEFAULTS: &[(&str, &str)] = &[
    ("envoy.response_code", r"_rq(_(\d{3}))$"),
    ("envoy.response_code_class", r"_rq_((\d))xx$"),
    ("envoy.rds_route_config", r"^http\.[^.]+\.rds\.((.*)\.)\w+$"),
    ("envoy.rbac_policy_name", r"^http\..*?\.rbac\..*?\.?policy\.((.*?)\.)\w+$"),
    ("envoy.fault_downstream_cluster", r"^http\.[^.]+\.fault\.((.*?)\.)\w+$"),
    ("envoy.ssl_cipher", r"^listener\..*?\.ssl\.ciphers(\.(.*?))$"),
    ("envoy.cluster.ssl_cipher", r"^cluster\..*?\.ssl\.ciphers(\.(.*?))$"),
    ("envoy.local_http_ratelimit_prefix", r"^((.*?)\.)http_local_rate_limit\."),
    ("envoy.http_conn_manager_prefix", r"^(?:|listener\..*?\.)http\.((.*?)\.)"),
    ("envoy.tcp_prefix", r"^tcp\.((.*?)\.)\w+$"),
    (
        "envoy.worker_id",
        r"^(?:listener\..*?\.|listener_manager\.|server\.|thread_local_cluster_manager\.)worker_((\d+)\.)",
    ),
    ("envoy.listener_address", r"^listener\.((\[?[_\d.:a-fA-F]*_?\]?[_\d]+)\.)"),
    ("envoy.cluster_name", r"^cluster\.((.*?)\.)"),
];

/// A tag cannot be read as it is configured. Whoever wrote the bootstrap is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TagError {
    /// The expression is none.
    #[error("stats_tags: {name}: {error}")]
    Pattern {
        /// The tag's name.
        name: String,
        /// What is wrong.
        error: String,
    },
    /// The expression has no group.
    #[error("stats_tags: {0}: the expression has no group")]
    NoGroup(String),
    /// There is no expression, and no tag of that name that Envoy knows by itself.
    #[error("No regex specified for tag specifier and no default regex for name: '{0}'")]
    Unknown(String),
    /// A tag of this name is there already.
    #[error("Tag name '{0}' specified twice.")]
    Twice(String),
}

impl Tags {
    /// Tags as configured.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn new(settings: &StatsSettings) -> Result<Tags, TagError> {
        let mut tags = Tags { extractors: Vec::new(), fixed: Vec::new() };
        if settings.uses_default_tags {
            let is_replaced = |name: &str| {
                settings.overrides_default_tags && settings.tags.iter().any(|tag| tag.name == name)
            };
            for (name, pattern) in DEFAULTS.iter().filter(|(name, _)| !is_replaced(name)) {
                tags.add(name, pattern)?;
            }
        }
        for tag in &settings.tags {
            let is_known = tags.extractors.iter().any(|known| known.name == tag.name);
            match &tag.value {
                // Named, though all of Envoy's are there anyway.
                TagValue::Default if is_known => {}
                _ if is_known => return Err(TagError::Twice(tag.name.clone())),
                TagValue::Pattern(pattern) => tags.add(&tag.name, pattern)?,
                TagValue::Fixed(value) => tags.fixed.push((tag.name.clone(), value.clone())),
                TagValue::Default => {
                    let known = DEFAULTS.iter().find(|(name, _)| *name == tag.name);
                    let (name, pattern) = known.ok_or_else(|| TagError::Unknown(tag.name.clone()))?;
                    tags.add(name, pattern)?;
                }
            }
        }
        Ok(tags)
    }

    fn add(&mut self, name: &str, pattern: &str) -> Result<(), TagError> {
        let regex = Regex::new(pattern)
            .map_err(|error| TagError::Pattern { name: name.to_owned(), error: error.to_string() })?;
        if regex.captures_len() < 2 {
            return Err(TagError::NoGroup(name.to_owned()));
        }
        self.extractors.push(Extractor { name: name.to_owned(), regex, start: start(pattern).to_owned() });
        Ok(())
    }

    /// The name without its tags, and the tags.
    pub fn extract(&self, name: &str) -> (String, Vec<Tag>) {
        let mut tags = Vec::new();
        let mut cuts: Vec<std::ops::Range<usize>> = Vec::new();
        for extractor in self.extractors.iter().filter(|extractor| name.starts_with(&extractor.start)) {
            let Some(found) = extractor.regex.captures(name) else { continue };
            let Some(cut) = found.get(1) else { continue };
            let value = found.get(2).unwrap_or(cut);
            tags.push((extractor.name.clone(), value.as_str().to_owned()));
            cuts.push(cut.range());
        }
        tags.extend(self.fixed.iter().cloned());
        (without(name, cuts), tags)
    }
}

/// The text that every match of the expression begins with: what stands between `^` and the first special character, but for a character that
/// may be repeated.
fn start(pattern: &str) -> &str {
    let Some(rest) = pattern.strip_prefix('^') else { return "" };
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let has_count = rest.get(end..).is_some_and(|rest| rest.starts_with(['*', '?', '{', '|']));
    // An alternative further on may begin with something else.
    if pattern.contains('|') {
        ""
    } else {
        rest.get(..end - usize::from(has_count && end > 0)).unwrap_or_default()
    }
}

fn without(name: &str, mut cuts: Vec<std::ops::Range<usize>>) -> String {
    cuts.sort_by_key(|cut| cut.start);
    let mut left = String::with_capacity(name.len());
    let mut at = 0;
    for cut in cuts {
        left.push_str(name.get(at..cut.start).unwrap_or_default());
        at = at.max(cut.end);
    }
    left.push_str(name.get(at..).unwrap_or_default());
    left
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

    use super::*;
    use ostro_engine::bootstrap::StatsTag;

    fn settings(uses_default_tags: bool, tags: &[(&str, TagValue)]) -> StatsSettings {
        let tags =
            tags.iter().map(|(name, value)| StatsTag { name: (*name).to_owned(), value: value.clone() });
        StatsSettings { uses_default_tags, tags: tags.collect(), ..StatsSettings::default() }
    }

    fn pattern(pattern: &str) -> TagValue {
        TagValue::Pattern(pattern.to_owned())
    }

    fn shown(tags: &Tags, name: &str) -> String {
        let (name, tags) = tags.extract(name);
        let tags: Vec<_> = tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{name} {}", tags.join(","))
    }

    /// Names and labels that a stock Envoy 1.40 has shown.
    #[test]
    fn envoys_own_tags_are_found() {
        let tags = Tags::new(&settings(true, &[])).unwrap();
        for (name, wanted) in [
            (
                "cluster.c1.upstream_rq_200",
                "cluster.upstream_rq envoy.response_code=200,envoy.cluster_name=c1",
            ),
            (
                "cluster.c1.external.upstream_rq_2xx",
                "cluster.external.upstream_rq_xx envoy.response_code_class=2,envoy.cluster_name=c1",
            ),
            (
                "http.in.downstream_rq_4xx",
                "http.downstream_rq_xx envoy.response_code_class=4,envoy.http_conn_manager_prefix=in",
            ),
            (
                "listener.127.0.0.1_19902.downstream_cx_total",
                "listener.downstream_cx_total envoy.listener_address=127.0.0.1_19902",
            ),
            ("listener.admin.downstream_cx_total", "listener.admin.downstream_cx_total "),
            (
                "listener.admin.http.admin.downstream_rq_completed",
                "listener.admin.http.downstream_rq_completed envoy.http_conn_manager_prefix=admin",
            ),
            (
                "listener.127.0.0.1_19902.worker_1.downstream_cx_total",
                "listener.worker_downstream_cx_total envoy.worker_id=1,envoy.listener_address=127.0.0.1_19902",
            ),
            ("tcp.in.downstream_cx_total", "tcp.downstream_cx_total envoy.tcp_prefix=in"),
            (
                "http.in.rds.80.update_success",
                "http.rds.update_success envoy.rds_route_config=80,envoy.http_conn_manager_prefix=in",
            ),
            ("server.live", "server.live "),
        ] {
            assert_eq!(shown(&tags, name), wanted);
        }
    }

    #[test]
    fn istios_tags_read_up_to_the_semicolon() {
        let tags = Tags::new(&settings(
            false,
            &[
                ("cluster_name", pattern(r"^cluster\.((.+?);\.)")),
                ("response_code_class", pattern(r"_rq(_(\dxx))$")),
                ("mesh", TagValue::Fixed("m".to_owned())),
            ],
        ))
        .unwrap();
        assert_eq!(
            shown(&tags, "cluster.outbound|80||a.b.svc.cluster.local;.upstream_rq_5xx"),
            "cluster.upstream_rq cluster_name=outbound|80||a.b.svc.cluster.local,response_code_class=5xx,mesh=m"
        );
        assert_eq!(
            shown(&tags, "cluster.xds-grpc.upstream_rq_total"),
            "cluster.xds-grpc.upstream_rq_total mesh=m"
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let refused = |tags: &[(&str, TagValue)]| Tags::new(&settings(true, tags)).err().unwrap();
        assert!(matches!(refused(&[("a", pattern("("))]), TagError::Pattern { .. }));
        assert_eq!(refused(&[("a", pattern("x"))]), TagError::NoGroup("a".to_owned()));
        assert_eq!(refused(&[("a", TagValue::Default)]), TagError::Unknown("a".to_owned()));
        assert_eq!(
            refused(&[("envoy.cluster_name", pattern("(x)"))]),
            TagError::Twice("envoy.cluster_name".to_owned())
        );
        assert!(Tags::new(&settings(true, &[("envoy.cluster_name", TagValue::Default)])).is_ok());
    }

    #[test]
    fn the_begin_of_an_expression_is_known() {
        for (pattern, wanted) in [
            (r"^cluster\.((.+?);\.)", "cluster"),
            ("^ab*c", "a"),
            ("_rq(_(x))$", ""),
            ("^a|b(c)", ""),
            ("^abc", "abc"),
        ] {
            assert_eq!(start(pattern), wanted);
        }
    }
}
