//! Settings of statistics: their tags, which of them there are, the bounds of histograms.

use envoy_types::pb::envoy::config::metrics::v3::stats_matcher::StatsMatcher as MatcherKind;
use envoy_types::pb::envoy::config::metrics::v3::tag_specifier::TagValue as ValueProto;
use envoy_types::pb::envoy::config::metrics::v3::{
    HistogramBucketSettings, StatsConfig as Proto, StatsMatcher as MatcherProto, TagSpecifier,
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;

use crate::refusal::Within;
use crate::{Refusal, TextMatcher};

/// Settings of statistics.
#[derive(Clone, Debug, Default)]
pub struct StatsSettings {
    /// Tags that are read out of names, in this order.
    pub tags: Vec<StatsTag>,
    /// Envoy's own tags come after these.
    pub uses_default_tags: bool,
    /// A tag here may have the name of one of Envoy's own, which then does not count.
    pub overrides_default_tags: bool,
    /// Which statistics there are.
    pub matcher: StatsMatcher,
    /// Bounds of histograms; the first that matches counts.
    pub buckets: Vec<HistogramBuckets>,
}

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsTag {
    /// Its name.
    pub name: String,
    /// Where its value comes from.
    pub value: TagValue,
}

/// Where a tag's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagValue {
    /// The expression's second group; its first one is cut from the name.
    Pattern(String),
    /// It is always the same.
    Fixed(String),
    /// Envoy has an expression for the tag of this name.
    Default,
}

/// Which statistics there are.
#[derive(Clone, Debug, Default)]
pub enum StatsMatcher {
    /// All.
    #[default]
    All,
    /// None.
    Nothing,
    /// Those whose names match one of these.
    Only(Vec<TextMatcher>),
    /// Those whose names match none of these.
    Except(Vec<TextMatcher>),
}

impl StatsMatcher {
    /// Is there a statistic of this name?
    pub fn has(&self, name: &str) -> bool {
        let any = |matchers: &[TextMatcher]| matchers.iter().any(|matcher| matcher.matches(name.as_bytes()));
        match self {
            StatsMatcher::All => true,
            StatsMatcher::Nothing => false,
            StatsMatcher::Only(matchers) => any(matchers),
            StatsMatcher::Except(matchers) => !any(matchers),
        }
    }
}

/// Bounds of some histograms.
#[derive(Clone, Debug)]
pub struct HistogramBuckets {
    /// Which ones.
    pub names: TextMatcher,
    /// Upper bounds, ascending.
    pub bounds: Vec<f64>,
}

impl StatsSettings {
    pub(super) fn compile(proto: Proto) -> Result<StatsSettings, Refusal> {
        {
            let proto = &proto;
            fates!(proto: Proto {
                compiled:
                    stats_tags,
                    use_all_default_tags,
                    stats_matcher,
                    histogram_bucket_settings,
                    allow_default_tag_overrides;
                carried: ;
                refused: ;
            });
        }
        let tags = proto.stats_tags.into_iter().map(tag);
        let mut buckets = Vec::new();
        for (i, settings) in proto.histogram_bucket_settings.iter().enumerate() {
            buckets.extend(bounds(settings).within(|| format!("histogram_bucket_settings[{i}]"))?);
        }
        Ok(StatsSettings {
            tags: tags.collect::<Result<_, _>>()?,
            uses_default_tags: proto.use_all_default_tags.is_none_or(|all| all.value),
            overrides_default_tags: proto.allow_default_tag_overrides.is_some_and(|allow| allow.value),
            matcher: matcher(proto.stats_matcher.as_ref()).within(|| "stats_matcher".to_owned())?,
            buckets,
        })
    }
}

fn tag(proto: TagSpecifier) -> Result<StatsTag, Refusal> {
    let TagSpecifier { tag_name, tag_value } = proto;
    if tag_name.is_empty() {
        return Err(Refusal::invalid("stats_tags: a tag without a name"));
    }
    let value = match tag_value {
        Some(ValueProto::Regex(pattern)) if pattern.is_empty() => TagValue::Default,
        Some(ValueProto::Regex(pattern)) => TagValue::Pattern(pattern),
        Some(ValueProto::FixedValue(value)) => TagValue::Fixed(value),
        None => TagValue::Default,
    };
    Ok(StatsTag { name: tag_name, value })
}

fn matcher(proto: Option<&MatcherProto>) -> Result<StatsMatcher, Refusal> {
    let Some(MatcherProto { stats_matcher }) = proto else { return Ok(StatsMatcher::All) };
    Ok(match stats_matcher {
        Some(MatcherKind::RejectAll(true)) => StatsMatcher::Nothing,
        Some(MatcherKind::RejectAll(false)) => StatsMatcher::All,
        Some(MatcherKind::InclusionList(list)) => StatsMatcher::Only(texts(&list.patterns)?),
        Some(MatcherKind::ExclusionList(list)) => StatsMatcher::Except(texts(&list.patterns)?),
        None => return Err(Refusal::invalid("no kind of matcher")),
    })
}

fn texts(patterns: &[StringMatcher]) -> Result<Vec<TextMatcher>, Refusal> {
    let compile =
        |(i, pattern): (usize, _)| TextMatcher::compile(pattern).within(|| format!("patterns[{i}]"));
    patterns.iter().enumerate().map(compile).collect()
}

/// `None`: only the number of bins is said, which concerns how Envoy counts.
fn bounds(proto: &HistogramBucketSettings) -> Result<Option<HistogramBuckets>, Refusal> {
    let HistogramBucketSettings { r#match, buckets, bins: _ } = proto;
    let names = r#match.as_ref().ok_or_else(|| Refusal::invalid("no match"))?;
    let names = TextMatcher::compile(names).within(|| "match".to_owned())?;
    if buckets.is_empty() {
        return Ok(None);
    }
    let good = buckets.iter().all(|bound| bound.is_finite() && *bound > 0.0);
    if !good || !buckets.is_sorted_by(|a, b| a < b) {
        return Err(Refusal::invalid("buckets must be positive, ascending, and no two the same"));
    }
    Ok(Some(HistogramBuckets { names, bounds: buckets.clone() }))
}
