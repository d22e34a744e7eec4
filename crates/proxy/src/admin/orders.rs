//! Paths that give an order, and those that answer in a word.

use std::sync::Arc;

use http::StatusCode;

use super::answer::{Answer, Body};
use super::paths::PATHS;
use super::query::Query;
use super::{Admin, Drain, ServerState};

pub(super) fn ready(admin: &Arc<Admin>, _: &Query) -> Answer {
    let state = admin.subject.state();
    let status = if state == ServerState::Live { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Answer::failure(status, format!("{}\n", state.as_str()))
}

pub(super) fn drain_listeners(admin: &Arc<Admin>, query: &Query) -> Answer {
    admin.subject.drain_listeners(Drain {
        graceful: query.has("graceful"),
        inbound_only: query.has("inboundonly"),
        skip_exit: query.has("skip_exit"),
    });
    Answer::ok()
}

pub(super) fn healthcheck_fail(admin: &Arc<Admin>, _: &Query) -> Answer {
    admin.subject.fail_health_checks(true);
    Answer::ok()
}

pub(super) fn healthcheck_ok(admin: &Arc<Admin>, _: &Query) -> Answer {
    admin.subject.fail_health_checks(false);
    Answer::ok()
}

/// The process ends in order, which takes longer than the answer.
pub(super) fn quit(admin: &Arc<Admin>, _: &Query) -> Answer {
    admin.subject.quit();
    Answer::ok()
}

pub(super) fn reopen_logs(admin: &Arc<Admin>, _: &Query) -> Answer {
    admin.logs.reopen();
    Answer::ok()
}

pub(super) fn reset_counters(admin: &Arc<Admin>, _: &Query) -> Answer {
    admin.stats.reset_counters();
    Answer::ok()
}

/// No locks are traced.
pub(super) fn contention(_: &Arc<Admin>, _: &Query) -> Answer {
    Answer::text(
        "Mutex contention tracing is not enabled. To enable, run Envoy with flag --enable-mutex-tracing.",
    )
}

/// What an Envoy says that was started with `--disable-hot-restart`.
pub(super) fn hot_restart_version(_: &Arc<Admin>, _: &Query) -> Answer {
    Answer::text("disabled")
}

/// The paths, to be clicked on.
pub(super) fn home(_: &Arc<Admin>, _: &Query) -> Answer {
    let mut html =
        "<!DOCTYPE html>\n<html lang=\"en\"><head><title>Admin</title></head><body><ul>\n".to_owned();
    for path in PATHS {
        let help = path.help;
        // Orders need a POST, which a form sends.
        html.push_str(&match path.is_order {
            false => format!("<li><a href=\"{0}\">{0}</a>: {help}</li>\n", path.path),
            true => format!(
                "<li><form action=\"{0}\" method=\"post\"><button>{0}</button> {help}</form></li>\n",
                path.path
            ),
        });
    }
    html.push_str("</ul></body></html>\n");
    Answer {
        status: StatusCode::OK,
        content_type: "text/html; charset=UTF-8",
        body: Body::Whole(html.into_bytes()),
    }
}
