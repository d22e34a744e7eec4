//! All statistics: those that are counted, and those that are known elsewhere and told when they are asked for.

use super::{CUSTOM, Reading};
use crate::admin::Admin;
use crate::admin::memory::Memory;
use crate::stats::SeriesName;

/// Tells every statistic that the configuration lets be; and, of those that have labels of their own, which.
pub(super) fn read(admin: &Admin, used: bool, tell: &mut dyn FnMut(&str, Option<&SeriesName>, Reading)) {
    admin.stats.labelled().read(&mut |series, reading| {
        let name = series.flat(CUSTOM);
        if admin.matcher.has(&name) {
            tell(&name, Some(series), reading);
        }
    });
    let mut tell = |name: &str, reading: Reading| {
        if admin.matcher.has(name) {
            tell(name, None, reading);
        }
    };
    let mut known = known(admin);
    known.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut known = known.into_iter().peekable();
    admin.stats.read(used, &mut |name, reading| {
        while let Some((name, reading)) = known.next_if(|(known, _)| known.as_str() < name) {
            tell(&name, reading);
        }
        tell(name, reading);
    });
    for (name, reading) in known {
        tell(&name, reading);
    }
    admin.subject.cluster_statistics(&mut tell);
}

fn known(admin: &Admin) -> Vec<(String, Reading)> {
    let mut all = Vec::new();
    admin.subject.statistics(&mut |name, reading| all.push((name.to_owned(), reading)));
    let Memory { allocated, heap, resident } = Memory::now();
    let state = admin.subject.state();
    let gauges = [
        ("server.concurrency", u64::from(admin.subject.concurrency())),
        ("server.days_until_first_cert_expiring", days_until_expiry(admin)),
        ("server.hot_restart_epoch", 0),
        ("server.hot_restart_generation", 1),
        ("server.live", u64::from(state == crate::admin::ServerState::Live)),
        ("server.memory_allocated", allocated),
        ("server.memory_heap_size", heap),
        ("server.memory_physical_size", resident),
        ("server.parent_connections", 0),
        ("server.state", state.number()),
        ("server.total_connections", admin.subject.connections()),
        ("server.uptime", admin.started.elapsed().as_secs()),
        ("runtime.num_keys", admin.runtime.keys().len() as u64),
        ("runtime.num_layers", admin.runtime.layers.len() as u64),
    ];
    all.extend(gauges.map(|(name, value)| (name.to_owned(), Reading::Gauge(value))));
    let counters = [
        ("runtime.load_success", 1),
        ("filesystem.write_dropped_lines", admin.logs.dropped()),
        ("istio_stats.series_overflow", admin.stats.labelled().overflow()),
    ];
    all.extend(counters.map(|(name, value)| (name.to_owned(), Reading::Counter(value))));
    all
}

/// Envoy says the largest 32-bit number where there is no certificate.
fn days_until_expiry(admin: &Admin) -> u64 {
    const DAY: u64 = 24 * 60 * 60;
    let now = std::time::SystemTime::now();
    let certificates = admin.subject.certificates();
    let all =
        certificates.iter().flat_map(|certificate| certificate.authorities.iter().chain(&certificate.chain));
    let days = all.map(|details| details.expires.duration_since(now).map_or(0, |left| left.as_secs() / DAY));
    days.min().unwrap_or(u64::from(u32::MAX))
}
