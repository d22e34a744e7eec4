//! `istio.stats`: what is counted, and under which labels. For HTTP and for connections, the configuration is the same.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::google::protobuf::Any;
use prost::Name as _;

use super::attribute::{Attribute, AttributeSource};
use super::labels::{Labels, Reporter};
use super::proto::{MetricConfig, PluginConfig, ReporterKind, Strict as _};
use crate::proto::{duration, enumeration};
use crate::refusal::Within;
use crate::{Direction, Refusal};

/// How often connections and streams under way are told of, where nothing else is said.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// Most expressions of one filter.
const EXPRESSIONS_MAX: usize = 256;

/// A standard metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Requests.
    Requests,
    /// How long they took, in milliseconds.
    RequestDuration,
    /// Bytes that came from the client.
    RequestBytes,
    /// Bytes that went to it.
    ResponseBytes,
    /// Messages of gRPC that came from the client.
    RequestMessages,
    /// Messages of gRPC that went to it.
    ResponseMessages,
    /// Connections that were opened.
    ConnectionsOpened,
    /// Connections that were closed.
    ConnectionsClosed,
    /// Bytes that went to the client of a connection.
    SentBytes,
    /// Bytes that came from it.
    ReceivedBytes,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 10] = [
        Metric::Requests,
        Metric::RequestDuration,
        Metric::RequestBytes,
        Metric::ResponseBytes,
        Metric::RequestMessages,
        Metric::ResponseMessages,
        Metric::ConnectionsOpened,
        Metric::ConnectionsClosed,
        Metric::SentBytes,
        Metric::ReceivedBytes,
    ];

    /// Its name as Prometheus has it.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Requests => "istio_requests_total",
            Metric::RequestDuration => "istio_request_duration_milliseconds",
            Metric::RequestBytes => "istio_request_bytes",
            Metric::ResponseBytes => "istio_response_bytes",
            Metric::RequestMessages => "istio_request_messages_total",
            Metric::ResponseMessages => "istio_response_messages_total",
            Metric::ConnectionsOpened => "istio_tcp_connections_opened_total",
            Metric::ConnectionsClosed => "istio_tcp_connections_closed_total",
            Metric::SentBytes => "istio_tcp_sent_bytes_total",
            Metric::ReceivedBytes => "istio_tcp_received_bytes_total",
        }
    }

    fn place(self) -> usize {
        self as usize
    }

    /// By the name that configuration has for it: without `istio_`.
    fn named(name: &str) -> Option<Metric> {
        Metric::ALL.into_iter().find(|metric| metric.name().strip_prefix("istio_") == Some(name))
    }
}

/// Labels of standard metrics.
const STANDARD: [&str; 25] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];

/// What one filter counts.
#[derive(Clone, Debug)]
pub struct IstioStats {
    /// Who reports, if it is not a matter of the listener's direction.
    reporter: Option<Reporter>,
    /// May a request's host speak for the destination, where the control plane says nothing?
    pub uses_host: bool,
    /// How often connections and streams under way are told of; `None`: at their end.
    pub report_interval: Option<Duration>,
    /// Expressions, each once.
    expressions: Vec<Attribute>,
    /// By metric.
    changes: [Change; Metric::ALL.len()],
}

/// How a metric differs from the standard.
#[derive(Clone, Debug, Default)]
struct Change {
    is_dropped: bool,
    /// Standard labels: taken away, or with an expression's value.
    overridden: HashMap<&'static str, Option<usize>>,
    /// Labels put behind the others, with the expression.
    added: Vec<(Box<str>, usize)>,
}

/// Values of a filter's expressions for one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values<'a>(pub Vec<Cow<'a, str>>);

impl IstioStats {
    /// Whether this is the message of the filter.
    pub(crate) fn is(config: &Any) -> bool {
        config.type_url == PluginConfig::type_url()
    }

    pub(crate) fn compile(config: &Any) -> Result<IstioStats, Refusal> {
        let PluginConfig {
            disable_host_header_fallback,
            tcp_reporting_duration,
            metrics,
            definitions,
            reporter,
            rotation_interval,
            // Says nothing where nothing rotates.
            graceful_deletion_interval: _,
        } = PluginConfig::read(&config.value)?;
        let rotation = rotation_interval.as_ref().map(duration).transpose()?.filter(|every| !every.is_zero());
        let (definitions, rotation_interval) = (&definitions, &rotation.is_some());
        refuse_if_set!(definitions, rotation_interval);
        let interval = tcp_reporting_duration.as_ref().map(duration).transpose()?;
        let mut stats = IstioStats {
            reporter: match enumeration(reporter, "reporter")? {
                ReporterKind::Unspecified => None,
                ReporterKind::ServerGateway => Some(Reporter::Waypoint),
            },
            uses_host: !disable_host_header_fallback,
            report_interval: Some(interval.unwrap_or(REPORT_INTERVAL)).filter(|every| !every.is_zero()),
            expressions: Vec::new(),
            changes: Default::default(),
        };
        let mut known = HashMap::new();
        for (place, metric) in metrics.into_iter().enumerate() {
            stats.change(metric, &mut known).within(|| format!("metrics[{place}]"))?;
        }
        Ok(stats)
    }

    /// Who reports, in a listener of this direction.
    pub fn reporter(&self, direction: Direction) -> Reporter {
        self.reporter.unwrap_or(match direction {
            Direction::Inbound => Reporter::Destination,
            Direction::Outbound | Direction::Unspecified => Reporter::Source,
        })
    }

    fn change(&mut self, config: MetricConfig, known: &mut HashMap<String, usize>) -> Result<(), Refusal> {
        let MetricConfig { dimensions, name, tags_to_remove, r#match, drop } = config;
        let r#match = &r#match;
        refuse_if_set!(r#match);
        // One that is not standard is one that nothing defines: Istio passes over it.
        let metrics: Vec<usize> = match name.as_str() {
            "" if drop => Vec::new(),
            "" => (0..Metric::ALL.len()).collect(),
            name => Metric::named(name).map(Metric::place).into_iter().collect(),
        };
        let mut dimensions: Vec<(String, String)> = dimensions.into_iter().collect();
        dimensions.sort_unstable();
        let mut labels = Vec::with_capacity(dimensions.len());
        for (label, expression) in dimensions.into_iter().filter(|_| !drop) {
            let id = match known.get(&expression) {
                Some(id) => *id,
                None => {
                    let attribute =
                        Attribute::parse(&expression).within(|| format!("dimensions[{label}]"))?;
                    self.expressions.push(attribute);
                    let id = self.expressions.len() - 1;
                    known.insert(expression, id);
                    id
                }
            };
            labels.push((label, id));
        }
        if self.expressions.len() > EXPRESSIONS_MAX {
            return Err(Refusal::unsupported(format!("more than {EXPRESSIONS_MAX} expressions")));
        }
        for metric in metrics {
            let Some(change) = self.changes.get_mut(metric) else { continue };
            change.apply(drop, &tags_to_remove, &labels);
        }
        Ok(())
    }

    /// Whether anything but the standard is told.
    pub fn is_changed(&self) -> bool {
        self.changes
            .iter()
            .any(|change| change.is_dropped || !change.overridden.is_empty() || !change.added.is_empty())
    }

    /// How many expressions there are; their values are parts of label sets.
    pub fn expressions(&self) -> usize {
        self.expressions.len()
    }

    /// Appends an expression's value.
    pub fn write_value(&self, expression: usize, from: AttributeSource<'_>, out: &mut String) {
        if let Some(attribute) = self.expressions.get(expression) {
            attribute.write(from, out);
        }
    }

    /// The labels that a metric has, of those that are standard; nothing if it is not counted.
    pub fn labels(
        &self,
        metric: Metric,
        standard: &Labels<'_>,
        values: &Values<'_>,
    ) -> Option<Vec<(Box<str>, Box<str>)>> {
        let change = self.changes.get(metric.place())?;
        if change.is_dropped {
            return None;
        }
        let value = |id: usize| values.0.get(id).map_or("unknown", |value| value);
        let kept = standard.iter().filter_map(|(name, text)| {
            let text = match change.overridden.get(name) {
                None => text,
                Some(None) => return None,
                Some(Some(id)) => value(*id),
            };
            Some(((*name).into(), text.into()))
        });
        let added = change.added.iter().map(|(name, id)| (name.clone(), value(*id).into()));
        Some(kept.chain(added).collect())
    }
}

impl Change {
    fn apply(&mut self, drop: bool, removed: &[String], labels: &[(String, usize)]) {
        if drop {
            self.is_dropped = true;
            return;
        }
        let standard = |label: &str| STANDARD.into_iter().find(|known| *known == label);
        // A label that is not standard is not there to be taken away.
        self.overridden.extend(removed.iter().filter_map(|label| Some((standard(label)?, None))));
        for (label, id) in labels {
            match standard(label) {
                Some(label) => {
                    self.overridden.insert(label, Some(*id));
                }
                None => match self.added.iter_mut().find(|(known, _)| **known == **label) {
                    Some((_, known)) => *known = *id,
                    None => self.added.push((label.as_str().into(), *id)),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(json: serde_json::Value) -> Result<IstioStats, Refusal> {
        let type_url = PluginConfig::type_url();
        let value = ostro_envoy_json::to_wire(&type_url, &json, ostro_envoy_json::Unknown::Refuse).unwrap();
        let any = Any { type_url, value };
        assert!(IstioStats::is(&any));
        IstioStats::compile(&any)
    }

    fn labels(stats: &IstioStats, metric: Metric, values: &[&'static str]) -> Option<String> {
        let standard: Labels<'_> = vec![("reporter", "source".into()), ("response_code", "200".into())];
        let values = Values(values.iter().map(|value| (*value).into()).collect());
        let labels = stats.labels(metric, &standard, &values)?;
        Some(labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn nothing_configured_is_the_standard() {
        let stats = compile(serde_json::json!({})).unwrap();
        assert!(stats.uses_host && !stats.is_changed());
        assert_eq!(stats.report_interval, Some(Duration::from_secs(5)));
        assert_eq!(stats.reporter(Direction::Inbound), Reporter::Destination);
        assert_eq!(stats.reporter(Direction::Unspecified), Reporter::Source);
        assert_eq!(labels(&stats, Metric::Requests, &[]).unwrap(), "reporter=source response_code=200");
        let gateway = compile(serde_json::json!({
            "reporter": "SERVER_GATEWAY", "disable_host_header_fallback": true, "tcp_reporting_duration": "0s",
        }));
        let gateway = gateway.unwrap();
        assert_eq!(gateway.reporter(Direction::Outbound), Reporter::Waypoint);
        assert!(!gateway.uses_host && gateway.report_interval.is_none());
    }

    #[test]
    fn labels_are_replaced_removed_and_added_and_metrics_dropped() {
        let stats = compile(serde_json::json!({"metrics": [
            {"tags_to_remove": ["reporter", "unheard_of"]},
            {"name": "requests_total", "dimensions": {"z": "'zz'", "a": "request.host", "response_code": "'2xx'"}},
            {"name": "request_bytes", "drop": true},
            {"name": "unheard_of", "dimensions": {"x": "'y'"}},
        ]}));
        let stats = stats.unwrap();
        assert_eq!(stats.expressions(), 4);
        let values = ["host", "2xx", "zz"];
        assert_eq!(labels(&stats, Metric::Requests, &values).unwrap(), "response_code=2xx a=host z=zz");
        assert_eq!(labels(&stats, Metric::ResponseBytes, &values).unwrap(), "response_code=200");
        assert_eq!(labels(&stats, Metric::RequestBytes, &values), None);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let refused = |json| compile(json).unwrap_err().to_string();
        let text = refused(serde_json::json!({"definitions": [{"name": "a", "value": "1"}]}));
        assert!(text.contains("definitions"), "{text}");
        let text = refused(serde_json::json!({"metrics": [{"dimensions": {"a": "b + c"}}]}));
        assert_eq!(text, "metrics[0].dimensions[a]: not supported: expression \"b + c\"");
        assert!(refused(serde_json::json!({"rotation_interval": "5s"})).contains("rotation_interval"));
        assert!(refused(serde_json::json!({"metrics": [{"match": "true"}]})).contains("match"));
    }
}
