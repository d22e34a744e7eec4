//! `/config_dump`: what is in force, what is on its way there, and what was refused, as it came.
//!
//! A document of `envoy.admin.v3.ConfigDump`, written one resource at a time, its fields in the order of their numbers. As in Envoy,
//! `resource` picks the elements of one repeated field of one of its parts, `mask` says which fields are shown, `name_regex` which names.

use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use ostro_engine::regex::{self, Matcher};
use ostro_envoy_json::{Style, any_to_value, wire_to_value, write_message, write_value};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Body, Out};
use super::mask::Mask;
use super::query::Query;
use super::{Admin, Failure, Held, Origin, Resource, ResourceKind, endpoints};

/// A part of the document: a message whose repeated fields hold resources.
pub(super) struct Part {
    /// Name of the message within `envoy.admin.v3`.
    message: &'static str,
    /// The message has a `version_info`.
    is_versioned: bool,
    /// Its repeated fields: name, and message of the elements.
    fields: &'static [(&'static str, &'static str)],
    kind: Option<ResourceKind>,
    /// It is shown only if it is asked for.
    is_extra: bool,
}

const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";

/// In Envoy's order.
const PARTS: &[Part] = &[
    Part { message: "BootstrapConfigDump", is_versioned: false, fields: &[], kind: None, is_extra: false },
    Part {
        message: "ClustersConfigDump",
        is_versioned: true,
        fields: &[
            ("static_clusters", "ClustersConfigDump.StaticCluster"),
            ("dynamic_active_clusters", "ClustersConfigDump.DynamicCluster"),
            ("dynamic_warming_clusters", "ClustersConfigDump.DynamicCluster"),
        ],
        kind: Some(ResourceKind::Cluster),
        is_extra: false,
    },
    Part {
        message: "EcdsConfigDump",
        is_versioned: false,
        fields: &[("ecds_filters", "EcdsConfigDump.EcdsFilterConfig")],
        kind: Some(ResourceKind::Extension),
        is_extra: false,
    },
    Part {
        message: "EndpointsConfigDump",
        is_versioned: false,
        fields: &[
            ("static_endpoint_configs", "EndpointsConfigDump.StaticEndpointConfig"),
            ("dynamic_endpoint_configs", "EndpointsConfigDump.DynamicEndpointConfig"),
        ],
        kind: Some(ResourceKind::Endpoint),
        is_extra: true,
    },
    Part {
        message: "ListenersConfigDump",
        is_versioned: true,
        fields: &[
            ("static_listeners", "ListenersConfigDump.StaticListener"),
            ("dynamic_listeners", "ListenersConfigDump.DynamicListener"),
        ],
        kind: Some(ResourceKind::Listener),
        is_extra: false,
    },
    Part { message: "ScopedRoutesConfigDump", is_versioned: false, fields: &[], kind: None, is_extra: false },
    Part {
        message: "RoutesConfigDump",
        is_versioned: false,
        fields: &[
            ("static_route_configs", "RoutesConfigDump.StaticRouteConfig"),
            ("dynamic_route_configs", "RoutesConfigDump.DynamicRouteConfig"),
        ],
        kind: Some(ResourceKind::Route),
        is_extra: false,
    },
    Part {
        message: "SecretsConfigDump",
        is_versioned: false,
        fields: &[
            ("static_secrets", "SecretsConfigDump.StaticSecret"),
            ("dynamic_active_secrets", "SecretsConfigDump.DynamicSecret"),
            ("dynamic_warming_secrets", "SecretsConfigDump.DynamicSecret"),
        ],
        kind: Some(ResourceKind::Secret),
        is_extra: false,
    },
];

/// Fields of these messages that are not repeated: `resource` cannot name them.
const SINGLE: &[&str] = &["bootstrap", "last_updated", "version_info"];

fn type_url(message: &str) -> String {
    format!("type.googleapis.com/envoy.admin.v3.{message}")
}

pub(super) fn config_dump(admin: &Arc<Admin>, query: &Query) -> Answer {
    let names =
        match query.get("name_regex").filter(|pattern| !pattern.is_empty()).map(regex::compile).transpose() {
            Ok(names) => names,
            Err(error) => {
                let pattern = query.get("name_regex").unwrap_or_default();
                return refuse(
                    StatusCode::BAD_REQUEST,
                    format!("INVALID_ARGUMENT: Error while parsing name_regex from {pattern}: {error}"),
                );
            }
        };
    let dump = Dump {
        admin: Arc::clone(admin),
        names,
        with_endpoints: query.get("include_eds").is_some_and(|v| v != "false"),
    };
    let mask = query.get("mask").filter(|mask| !mask.is_empty());
    match query.get("resource").filter(|resource| !resource.is_empty()) {
        Some(resource) => one_field(dump, resource, mask),
        None => all_parts(dump, mask),
    }
}

fn refuse(status: StatusCode, text: String) -> Answer {
    Answer { status, content_type: "text/plain", body: Body::Whole(text.into_bytes()) }
}

/// The whole document, or of each part what the mask leaves.
fn all_parts(dump: Dump, mask: Option<&str>) -> Answer {
    let parts = PARTS.iter().filter(|part| !part.is_extra || dump.with_endpoints);
    let chosen: Vec<(&Part, Option<Mask>)> = match mask {
        None => parts.map(|part| (part, None)).collect(),
        Some(text) => {
            let masked = |part: &'static Part| Some((part, Some(Mask::of(text, &type_url(part.message))?)));
            let chosen: Vec<_> = parts.filter_map(masked).collect();
            if chosen.is_empty() {
                let text = format!("FieldMask {text} could not be successfully applied to any configs.");
                return refuse(StatusCode::BAD_REQUEST, text);
            }
            chosen
        }
    };
    Answer::written_json(move |out| {
        let mut document = Document::begin(out);
        for (part, mask) in chosen {
            document.element();
            dump.part(part, mask.as_ref(), document.out);
        }
        document.end();
    })
}

/// The elements of one repeated field, each an Any of its own.
fn one_field(dump: Dump, resource: &str, mask: Option<&str>) -> Answer {
    let parts = PARTS.iter().filter(|part| !part.is_extra || dump.with_endpoints);
    let field = |part: &'static Part| {
        part.fields
            .iter()
            .enumerate()
            .find(|(_, (name, _))| *name == resource)
            .map(|(at, field)| (part, at, field.1))
    };
    let Some((part, at, message)) = parts.into_iter().find_map(field) else {
        if SINGLE.contains(&resource) {
            let text =
                format!("{resource} is not a repeated field. Use ?mask={resource} to get only this field");
            return refuse(StatusCode::BAD_REQUEST, text);
        }
        return refuse(StatusCode::NOT_FOUND, format!("{resource} not found in config dump"));
    };
    let type_url = type_url(message);
    let mask = match mask {
        None => None,
        Some(text) => match Mask::of_element(text, &type_url) {
            Some(mask) => Some(mask),
            None => {
                let text = format!("FieldMask paths: {text:?} could not be successfully used.");
                return refuse(StatusCode::BAD_REQUEST, text);
            }
        },
    };
    Answer::written_json(move |out| {
        let mut document = Document::begin(out);
        dump.elements(part, at, &mut |element| {
            document.element();
            let mut all = Map::new();
            all.insert("@type".to_owned(), json!(type_url));
            all.extend(match &mask {
                Some(mask) => mask.apply(element),
                None => element,
            });
            document.out.with(|buffer| write_value(buffer, &Value::Object(all), Style::Pretty, 2));
        });
        document.end();
    })
}

/// `{"configs": [...]}`, or `{}` without elements.
struct Document<'o> {
    out: &'o mut Out,
    any: bool,
}

impl<'o> Document<'o> {
    fn begin(out: &'o mut Out) -> Document<'o> {
        out.text("{");
        Document { out, any: false }
    }

    /// Whatever stands before an element.
    fn element(&mut self) {
        self.out.text(if self.any { ",\n  " } else { "\n \"configs\": [\n  " });
        self.any = true;
    }

    fn end(self) {
        self.out.text(if self.any { "\n ]\n}\n" } else { "}\n" });
    }
}

/// What is dumped.
struct Dump {
    admin: Arc<Admin>,
    names: Option<Matcher>,
    with_endpoints: bool,
}

impl Dump {
    /// A part, at its place in the document.
    fn part(&self, part: &Part, mask: Option<&Mask>, out: &mut Out) {
        let shown = |field: &str| mask.is_none_or(|mask| mask.has(field));
        let mut head = Map::new();
        head.insert("@type".to_owned(), json!(type_url(part.message)));
        match part.kind {
            None if part.message == "BootstrapConfigDump" => {
                let held = self.admin.subject.bootstrap();
                match mask {
                    Some(mask) => head.extend(mask.apply(bootstrap(held))),
                    None => return whole_bootstrap(&head, held, out),
                }
            }
            Some(kind) if part.is_versioned && shown("version_info") => {
                let version = self.admin.subject.version(kind);
                if !version.is_empty() {
                    head.insert("version_info".to_owned(), json!(version));
                }
            }
            _ => {}
        }
        let mut members = Members::begin(&head, out);
        for (at, (field, _)) in part.fields.iter().enumerate() {
            if !shown(field) {
                continue;
            }
            let mut any = false;
            self.elements(part, at, &mut |element| {
                let mask = mask.and_then(|mask| mask.within(field));
                let element = match mask {
                    Some(mask) => mask.apply(element),
                    None => element,
                };
                members.element(field, &mut any, &Value::Object(element));
            });
            members.end_list(any);
        }
        members.end();
    }

    /// The elements of a repeated field of a part.
    fn elements(&self, part: &Part, field: usize, tell: &mut dyn FnMut(Map<String, Value>)) {
        let Some(kind) = part.kind else { return };
        if kind == ResourceKind::Endpoint {
            let is_dynamic = field == 1;
            return self.admin.subject.clusters(&mut |cluster| {
                if cluster.is_dynamic == is_dynamic && self.is_named(&cluster.name) {
                    tell(endpoints::element(cluster));
                }
            });
        }
        self.admin.subject.resources(kind, &mut |resource| {
            if !self.is_named(resource.name) {
                return;
            }
            if let Some(element) = element(kind, field, resource) {
                tell(element);
            }
        });
    }

    fn is_named(&self, name: &str) -> bool {
        self.names.as_ref().is_none_or(|names| names.matches(name.as_bytes()))
    }
}

/// Writes the members of a part that has been begun.
struct Members<'o> {
    out: &'o mut Out,
}

impl<'o> Members<'o> {
    /// `head` has at least one member.
    fn begin(head: &Map<String, Value>, out: &'o mut Out) -> Members<'o> {
        out.text("{");
        for (at, (key, value)) in head.iter().enumerate() {
            out.text(if at == 0 { "\n   " } else { ",\n   " });
            out.text(&format!("{}: ", Value::from(key.as_str())));
            out.with(|buffer| write_value(buffer, value, Style::Pretty, 3));
        }
        Members { out }
    }

    fn member(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.text(&format!(",\n   \"{key}\": "));
        self.out.with(write);
    }

    fn element(&mut self, field: &str, any: &mut bool, element: &Value) {
        if *any {
            self.out.text(",\n    ");
        } else {
            self.out.text(&format!(",\n   \"{field}\": [\n    "));
        }
        *any = true;
        self.out.with(|buffer| write_value(buffer, element, Style::Pretty, 4));
    }

    fn end_list(&mut self, any: bool) {
        if any {
            self.out.text("\n   ]");
        }
    }

    fn end(self) {
        self.out.text("\n  }");
    }
}

/// The bootstrap's part without a tree of it: with everything static it is the largest of all messages.
fn whole_bootstrap(head: &Map<String, Value>, held: Held<'_>, out: &mut Out) {
    let mut members = Members::begin(head, out);
    members.member("bootstrap", |buffer| {
        if let Err(error) = write_message(buffer, BOOTSTRAP, held.bytes, Style::Pretty, 3) {
            tracing::error!(%error, "the bootstrap cannot be shown");
            buffer.extend_from_slice(b"{}");
        }
    });
    members.member("last_updated", |buffer| write_value(buffer, &moment(held.updated), Style::Pretty, 3));
    members.end();
}

fn bootstrap(held: Held<'_>) -> Map<String, Value> {
    let content = wire_to_value(BOOTSTRAP, held.bytes);
    let mut all = Map::new();
    all.insert("bootstrap".to_owned(), content.unwrap_or_default());
    all.insert("last_updated".to_owned(), moment(held.updated));
    all
}

/// The element of a repeated field that a resource is, if it is one there.
fn element(kind: ResourceKind, field: usize, resource: &Resource<'_>) -> Option<Map<String, Value>> {
    let is_static = resource.origin == Origin::Static;
    match (kind, field) {
        (ResourceKind::Extension, 0) if !is_static => dynamic("ecds_filter", kind, resource, resource.active),
        (ResourceKind::Extension, _) => None,
        (_, 0) if is_static => fixed(kind, resource),
        (_, 0) => None,
        (_, _) if is_static => None,
        (ResourceKind::Listener, _) => Some(listener(resource)),
        (ResourceKind::Cluster, 1) => dynamic("cluster", kind, resource, resource.active),
        (ResourceKind::Cluster, _) => dynamic("cluster", kind, resource, resource.warming),
        (ResourceKind::Secret, 1) => named(resource, dynamic("secret", kind, resource, resource.active)?),
        (ResourceKind::Secret, _) => named(resource, dynamic("secret", kind, resource, resource.warming)?),
        (ResourceKind::Route, _) => dynamic("route_config", kind, resource, resource.active),
        (ResourceKind::Endpoint, _) => None,
    }
}

/// A name comes first.
fn named(resource: &Resource<'_>, element: Map<String, Value>) -> Option<Map<String, Value>> {
    let mut all = Map::new();
    all.insert("name".to_owned(), json!(resource.name));
    all.extend(element);
    Some(all)
}

/// One of the bootstrap's.
fn fixed(kind: ResourceKind, resource: &Resource<'_>) -> Option<Map<String, Value>> {
    let held = resource.active.or(resource.warming)?;
    let mut all = Map::new();
    let key = match kind {
        ResourceKind::Cluster => "cluster",
        ResourceKind::Listener => "listener",
        ResourceKind::Route => "route_config",
        ResourceKind::Secret => {
            // The message of static secrets has its fields in another order.
            all.insert("name".to_owned(), json!(resource.name));
            all.insert("last_updated".to_owned(), moment(held.updated));
            all.insert("secret".to_owned(), content(kind, held.bytes));
            return Some(all);
        }
        ResourceKind::Endpoint | ResourceKind::Extension => return None,
    };
    all.insert(key.to_owned(), content(kind, held.bytes));
    all.insert("last_updated".to_owned(), moment(held.updated));
    Some(all)
}

/// One that came from the control plane, if it is in this state.
fn dynamic(
    key: &str,
    kind: ResourceKind,
    resource: &Resource<'_>,
    held: Option<Held<'_>>,
) -> Option<Map<String, Value>> {
    let mut all = state(key, kind, held?);
    all.extend(resource.failure.map(|failure| ("error_state".to_owned(), error(kind, failure))));
    all.insert("client_status".to_owned(), json!(resource.status.as_str()));
    Some(all)
}

/// A version of a resource: `version_info`, the resource itself, `last_updated`.
fn state(key: &str, kind: ResourceKind, held: Held<'_>) -> Map<String, Value> {
    let mut all = Map::new();
    if !held.version.is_empty() {
        all.insert("version_info".to_owned(), json!(held.version));
    }
    all.insert(key.to_owned(), content(kind, held.bytes));
    all.insert("last_updated".to_owned(), moment(held.updated));
    all
}

/// Listeners have all their states in one element.
fn listener(resource: &Resource<'_>) -> Map<String, Value> {
    let kind = ResourceKind::Listener;
    let mut all = Map::new();
    all.insert("name".to_owned(), json!(resource.name));
    let states = [
        ("active_state", resource.active),
        ("warming_state", resource.warming),
        ("draining_state", resource.draining),
    ];
    for (key, held) in states {
        all.extend(held.map(|held| (key.to_owned(), Value::Object(state("listener", kind, held)))));
    }
    all.extend(resource.failure.map(|failure| ("error_state".to_owned(), error(kind, failure))));
    all.insert("client_status".to_owned(), json!(resource.status.as_str()));
    all
}

/// An `envoy.admin.v3.UpdateFailureState`.
fn error(kind: ResourceKind, failure: Failure<'_>) -> Value {
    let mut all = Map::new();
    if !failure.held.bytes.is_empty() {
        all.insert("failed_configuration".to_owned(), content(kind, failure.held.bytes));
    }
    all.insert("last_update_attempt".to_owned(), moment(failure.held.updated));
    all.insert("details".to_owned(), json!(failure.details));
    if !failure.held.version.is_empty() {
        all.insert("version_info".to_owned(), json!(failure.held.version));
    }
    Value::Object(all)
}

/// The resource itself. What is secret is not shown.
fn content(kind: ResourceKind, bytes: &[u8]) -> Value {
    let mut content = any_to_value(kind.type_url(), bytes);
    if kind == ResourceKind::Secret {
        redact(&mut content);
    }
    content
}

/// Envoy's word for what it does not show.
const REDACTED: &str = "[redacted]";

/// Keys whose values are secret, in `envoy.extensions.transport_sockets.tls.v3.Secret`.
const SECRET_KEYS: &[&str] = &["private_key", "password", "pkcs12", "keys", "secret", "private_key_provider"];

fn redact(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                if SECRET_KEYS.contains(&key.as_str()) { blacken(member) } else { redact(member) }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

/// Text and bytes; names of files are no secrets.
fn blacken(value: &mut Value) {
    match value {
        Value::String(text) => REDACTED.clone_into(text),
        Value::Object(members) => {
            for (key, member) in members {
                match key.as_str() {
                    "filename" | "@type" => {}
                    // Bytes are base64.
                    "inline_bytes" => *member = json!("W3JlZGFjdGVkXQ=="),
                    _ => blacken(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(blacken),
        _ => {}
    }
}

/// A `google.protobuf.Timestamp`, to the millisecond, as Envoy has it.
pub(super) fn moment(at: SystemTime) -> Value {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let nanos = i32::try_from(since.subsec_millis() * 1_000_000).unwrap_or_default();
    ostro_envoy_json::timestamp(seconds, nanos).map_or(Value::Null, Value::String)
}
