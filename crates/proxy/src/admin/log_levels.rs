//! Levels of the program's log, changed while it runs.
//!
//! Parts are named as Envoy names them, so that what people know and launchers write (`--component-log-level misc:error`) is understood. Those that
//! Envoy has and we do not have a level that does nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Registry, reload};

/// Envoy's parts that we have, and where in the program they are.
const PARTS: &[(&str, &[&str])] = &[
    ("admin", &["ostro_proxy::admin"]),
    ("config", &["ostro_xds_client", "ostro_proxy::config", "ostro_proxy::control"]),
    ("connection", &["ostro_transport", "ostro_proxy::socket"]),
    ("conn_handler", &["ostro_proxy::worker"]),
    ("dns", &["ostro_transport::dns", "hickory_proto"]),
    ("file", &["ostro_proxy::access_log"]),
    ("http", &["ostro_proxy::http1", "ostro_proxy::downstream", "ostro_proxy::stream"]),
    ("http2", &["ostro_http2", "ostro_proxy::h2"]),
    ("main", &["ostro_proxy", "ostro_engine"]),
    ("router", &["ostro_proxy::router"]),
    ("stats", &["ostro_proxy::stats"]),
    ("upstream", &["ostro_proxy::upstream"]),
];

/// Envoy's other parts.
const FOREIGN: &[&str] = &[
    "a2a",
    "ai_protocol_manager",
    "alternate_protocols_cache",
    "assert",
    "aws",
    "backtrace",
    "basic_auth",
    "cache_filter",
    "client",
    "compression",
    "credential_injector",
    "decompression",
    "dubbo",
    "dynamic_modules",
    "envoy_bug",
    "ext_authz",
    "ext_proc",
    "filter",
    "forward_proxy",
    "geolocation",
    "golang",
    "grpc",
    "happy_eyeballs",
    "hc",
    "health_checker",
    "hystrix",
    "init",
    "io",
    "ip_tagging",
    "json_rpc",
    "jwt",
    "kafka",
    "key_value_store",
    "local_rate_limit",
    "lua",
    "matcher",
    "mcp",
    "misc",
    "mongo",
    "multi_connection",
    "notification",
    "oauth2",
    "pool",
    "quic",
    "quic_stream",
    "rate_limit_quota",
    "rbac",
    "rds",
    "redis",
    "rocketmq",
    "runtime",
    "secret",
    "sse",
    "stats_sinks",
    "tap",
    "testing",
    "thrift",
    "tracing",
    "udp",
    "wasm",
    "websocket",
];

/// Levels, by Envoy's words.
const LEVELS: &[(&str, LevelFilter)] = &[
    ("trace", LevelFilter::TRACE),
    ("debug", LevelFilter::DEBUG),
    ("info", LevelFilter::INFO),
    ("warning", LevelFilter::WARN),
    ("error", LevelFilter::ERROR),
    ("critical", LevelFilter::ERROR),
    ("off", LevelFilter::OFF),
];

fn level(word: &str) -> Result<(&'static str, LevelFilter), String> {
    // Envoy's command line takes `warn` too.
    let word = if word == "warn" { "warning" } else { word };
    LEVELS.iter().find(|(known, _)| *known == word).copied().ok_or_else(|| "unknown logger level".to_owned())
}

/// The levels in force.
#[derive(Clone)]
pub(crate) struct LogLevels {
    levels: Arc<Mutex<BTreeMap<&'static str, &'static str>>>,
    filter: reload::Handle<Targets, Registry>,
}

impl LogLevels {
    /// All parts at one level (`info`), but for those of a list (`upstream:debug,misc:error`); and the filter to be put before the log.
    ///
    /// # Errors
    /// Says which level or part is not known, as Envoy does.
    pub fn new(default: &str, parts: &str) -> Result<(LogLevels, reload::Layer<Targets, Registry>), String> {
        let (default, _) = level(default)?;
        let names = PARTS.iter().map(|(name, _)| *name).chain(FOREIGN.iter().copied());
        let mut levels: BTreeMap<_, _> = names.map(|name| (name, default)).collect();
        change(&mut levels, parts)?;
        let (layer, filter) = reload::Layer::new(targets(&levels));
        Ok((LogLevels { levels: Arc::new(Mutex::new(levels)), filter }, layer))
    }

    /// Every part, in order, with its level.
    pub fn all(&self) -> Vec<(&'static str, &'static str)> {
        let levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        levels.iter().map(|(name, level)| (*name, *level)).collect()
    }

    /// Sets the level of all parts.
    ///
    /// # Errors
    /// Says that there is no such level.
    pub fn set_all(&self, word: &str) -> Result<(), String> {
        let (word, _) = level(word)?;
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        levels.values_mut().for_each(|level| *level = word);
        self.publish(&levels);
        Ok(())
    }

    /// Sets the levels of some parts: `upstream:debug,http:trace`.
    ///
    /// # Errors
    /// Says which level or part is not known; then none is set.
    pub fn set_each(&self, parts: &str) -> Result<(), String> {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = levels.clone();
        change(&mut changed, parts)?;
        *levels = changed;
        self.publish(&levels);
        Ok(())
    }

    fn publish(&self, levels: &BTreeMap<&'static str, &'static str>) {
        // It fails only if there is no log any more.
        let _ = self.filter.reload(targets(levels));
    }
}

fn change(levels: &mut BTreeMap<&'static str, &'static str>, parts: &str) -> Result<(), String> {
    for part in parts.split(',').filter(|part| !part.is_empty()) {
        let (name, word) =
            part.split_once(':').ok_or_else(|| "empty logger name or empty logger level".to_owned())?;
        let (word, _) = level(word)?;
        *levels.get_mut(name).ok_or_else(|| "unknown logger name".to_owned())? = word;
    }
    Ok(())
}

fn targets(levels: &BTreeMap<&'static str, &'static str>) -> Targets {
    let of = |name: &str| {
        levels.get(name).and_then(|word| level(word).ok()).map_or(LevelFilter::INFO, |(_, level)| level)
    };
    let mut targets = Targets::new().with_default(of("main"));
    for (name, places) in PARTS {
        targets = targets.with_targets(places.iter().map(|place| (*place, of(name))));
    }
    targets
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

    use super::*;
    use tracing::Level;

    #[test]
    fn parts_have_levels_of_their_own() {
        let (levels, layer) = LogLevels::new("warn", "misc:error,upstream:debug").unwrap();
        let of =
            |name: &str| levels.all().into_iter().find(|(known, _)| *known == name).map(|(_, level)| level);
        assert_eq!(
            (of("misc"), of("upstream"), of("admin")),
            (Some("error"), Some("debug"), Some("warning"))
        );
        let enabled = |target: &str, level: Level| {
            let levels = levels.levels.lock().unwrap();
            targets(&levels).would_enable(target, &level)
        };
        assert!(
            enabled("ostro_proxy::upstream::pool", Level::DEBUG)
                && !enabled("ostro_proxy::admin", Level::INFO)
        );
        assert_eq!(levels.set_each("admin:info,nonsense:trace"), Err("unknown logger name".to_owned()));
        assert_eq!(levels.set_each("admin:loud"), Err("unknown logger level".to_owned()));
        assert_eq!(of("admin"), Some("warning"));
        levels.set_each("admin:info").unwrap();
        assert!(enabled("ostro_proxy::admin", Level::INFO));
        levels.set_all("off").unwrap();
        assert!(!enabled("ostro_proxy::upstream", Level::ERROR));
        drop(layer);
        assert!(LogLevels::new("loud", "").is_err());
    }
}
