//! Which paths there are, and who answers them.

use std::sync::Arc;

use http::StatusCode;

use super::answer::Answer;
use super::query::Query;
use super::{Admin, clusters, config_dump, listeners, logging, memory, orders, runtime, server_info, stats};

/// A path that is answered.
pub(super) struct Path {
    pub path: &'static str,
    /// It changes something: `GET` is refused.
    pub is_order: bool,
    pub help: &'static str,
    pub parameters: &'static [(&'static str, &'static str)],
    answer: fn(&Arc<Admin>, &Query) -> Answer,
}

const REGEX_HELP: &str = "Regular expression (Google re2) for filtering stats";
const USED_HELP: &str = "Only include stats that have been written by system since restart";
const FORMAT_HELP: &str = "File format to use; One of (text, json)";

/// In the order of `/help`.
pub(super) const PATHS: &[Path] = &[
    Path { path: "/", is_order: false, help: "Admin home page", parameters: &[], answer: orders::home },
    Path {
        path: "/certs",
        is_order: false,
        help: "print certs on machine",
        parameters: &[],
        answer: server_info::certs,
    },
    Path {
        path: "/clusters",
        is_order: false,
        help: "upstream cluster status",
        parameters: &[
            ("filter", "Regular expression (Google re2) for filtering clusters by name"),
            ("format", FORMAT_HELP),
        ],
        answer: clusters::clusters,
    },
    Path {
        path: "/config_dump",
        is_order: false,
        help: "dump current Envoy configs",
        parameters: &[
            ("resource", "The resource to dump"),
            (
                "mask",
                "Fields to be shown; with resource, of each of its elements. A google.protobuf.FieldMask",
            ),
            ("name_regex", "Only what has a name that matches the regular expression"),
            ("include_eds", "Endpoints, too"),
        ],
        answer: config_dump::config_dump,
    },
    Path {
        path: "/contention",
        is_order: false,
        help: "dump current Envoy mutex contention stats (if enabled)",
        parameters: &[],
        answer: orders::contention,
    },
    Path {
        path: "/drain_listeners",
        is_order: true,
        help: "drain listeners",
        parameters: &[
            ("graceful", "Connections may end by themselves for the drain time, before listeners are closed"),
            ("skip_exit", "Drain, but never close listeners"),
            ("inboundonly", "Only listeners whose traffic_direction is INBOUND"),
        ],
        answer: orders::drain_listeners,
    },
    Path {
        path: "/healthcheck/fail",
        is_order: true,
        help: "cause the server to fail health checks",
        parameters: &[],
        answer: orders::healthcheck_fail,
    },
    Path {
        path: "/healthcheck/ok",
        is_order: true,
        help: "cause the server to pass health checks",
        parameters: &[],
        answer: orders::healthcheck_ok,
    },
    Path {
        path: "/help",
        is_order: false,
        help: "print out list of admin commands",
        parameters: &[],
        answer: help,
    },
    Path {
        path: "/hot_restart_version",
        is_order: false,
        help: "print the hot restart compatibility version",
        parameters: &[],
        answer: orders::hot_restart_version,
    },
    Path {
        path: "/init_dump",
        is_order: false,
        help: "dump current Envoy init manager information (experimental)",
        parameters: &[],
        answer: server_info::init_dump,
    },
    Path {
        path: "/listeners",
        is_order: false,
        help: "print listener info",
        parameters: &[("format", FORMAT_HELP)],
        answer: listeners::listeners,
    },
    Path {
        path: "/logging",
        is_order: true,
        help: "query/change logging levels",
        parameters: &[
            (
                "paths",
                "Change multiple logging levels by setting to <logger_name1>:<desired_level1>,<logger_name2>:<desired_level2>",
            ),
            (
                "level",
                "desired logging level, this will change all loggers's level; One of (, trace, debug, info, warning, error, critical, off)",
            ),
        ],
        answer: logging::logging,
    },
    Path {
        path: "/memory",
        is_order: false,
        help: "print current allocation/heap usage",
        parameters: &[],
        answer: memory::memory,
    },
    Path {
        path: "/quitquitquit",
        is_order: true,
        help: "exit the server",
        parameters: &[],
        answer: orders::quit,
    },
    Path {
        path: "/ready",
        is_order: false,
        help: "print server state, return 200 if LIVE, otherwise return 503",
        parameters: &[],
        answer: orders::ready,
    },
    Path {
        path: "/reopen_logs",
        is_order: true,
        help: "reopen access logs",
        parameters: &[],
        answer: orders::reopen_logs,
    },
    Path {
        path: "/reset_counters",
        is_order: true,
        help: "reset all counters to zero",
        parameters: &[],
        answer: orders::reset_counters,
    },
    Path {
        path: "/runtime",
        is_order: false,
        help: "print runtime values",
        parameters: &[],
        answer: runtime::runtime,
    },
    Path {
        path: "/server_info",
        is_order: false,
        help: "print server version/status information",
        parameters: &[],
        answer: server_info::server_info,
    },
    Path {
        path: "/stats",
        is_order: false,
        help: "print server stats",
        parameters: &[
            ("usedonly", USED_HELP),
            ("filter", REGEX_HELP),
            ("invert_filter", "Invert the filter regex"),
            ("format", "Format to use; One of (text, json, prometheus)"),
            ("type", "Stat types to include.; One of (All, Counters, Histograms, Gauges, TextReadouts)"),
            (
                "histogram_buckets",
                "Histogram bucket display mode; One of (cumulative, disjoint, detailed, summary)",
            ),
        ],
        answer: stats::stats,
    },
    Path {
        path: "/stats/prometheus",
        is_order: false,
        help: "print server stats in prometheus format",
        parameters: &[
            ("usedonly", USED_HELP),
            (
                "text_readouts",
                "Render text_readouts as new gaugues with value 0 (increases Prometheus data size)",
            ),
            ("filter", REGEX_HELP),
            ("invert_filter", "Invert the filter regex"),
            ("histogram_buckets", "Histogram bucket display mode; One of (cumulative, summary)"),
        ],
        answer: stats::prometheus,
    },
];

/// Answers a request.
pub(super) fn answer(admin: &Arc<Admin>, is_post: bool, path: &str, query: &str) -> Answer {
    let allowed = &admin.settings.paths;
    if !allowed.is_empty() && !allowed.iter().any(|allowed| allowed.matches(path.as_bytes())) {
        return Answer::failure(StatusCode::FORBIDDEN, format!("request to path {path} not allowed\n"));
    }
    let Some(known) = PATHS.iter().find(|known| known.path == path) else {
        return Answer::failure(StatusCode::NOT_FOUND, format!("invalid path. {}", help_text()));
    };
    if known.is_order && !is_post {
        return Answer::failure(StatusCode::METHOD_NOT_ALLOWED, "Method GET not allowed, POST required.");
    }
    (known.answer)(admin, &Query::parse(query))
}

fn help(_: &Arc<Admin>, _: &Query) -> Answer {
    Answer::text(help_text())
}

fn help_text() -> String {
    let mut text = "admin commands are:\n".to_owned();
    for Path { path, is_order, help, parameters, .. } in PATHS {
        let post = if *is_order { " (POST)" } else { "" };
        text.push_str(&format!("  {path}{post}: {help}\n"));
        for (name, help) in *parameters {
            text.push_str(&format!("      {name}: {help}\n"));
        }
    }
    text
}
