//! What Envoy counts about its subscriptions, by Envoy's names.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use xxhash_rust::xxh64::xxh64;

/// Of one kind of resource: `cluster_manager.cds.`, `listener_manager.lds.`, and the sum over all names of kinds that are
/// asked for by name.
#[derive(Debug, Default)]
pub struct SubscriptionCounters {
    attempt: AtomicU64,
    success: AtomicU64,
    rejected: AtomicU64,
    failure: AtomicU64,
    init_fetch_timeout: AtomicU64,
    config_reload: AtomicU64,
    /// Milliseconds since the epoch.
    time: AtomicU64,
    version: AtomicU64,
    version_text: Mutex<String>,
}

impl SubscriptionCounters {
    /// Each by its name.
    pub fn each(&self, f: &mut dyn FnMut(&'static str, u64)) {
        f("update_attempt", self.attempt.load(Relaxed));
        f("update_success", self.success.load(Relaxed));
        f("update_rejected", self.rejected.load(Relaxed));
        f("update_failure", self.failure.load(Relaxed));
        f("init_fetch_timeout", self.init_fetch_timeout.load(Relaxed));
        f("config_reload", self.config_reload.load(Relaxed));
        f("update_time", self.time.load(Relaxed));
        f("version", self.version.load(Relaxed));
    }

    /// The version last accepted (`version_text`).
    pub fn version_text(&self) -> String {
        self.version_text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn started(&self) {
        self.attempt.fetch_add(1, Relaxed);
    }

    pub(crate) fn accepted(&self, version: &str, changed: bool, at: SystemTime) {
        self.started();
        self.success.fetch_add(1, Relaxed);
        self.config_reload.fetch_add(changed.into(), Relaxed);
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.time.store(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), Relaxed);
        self.version.store(xxh64(version.as_bytes(), 0), Relaxed);
        version.clone_into(&mut self.version_text.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn rejected(&self) {
        self.started();
        self.rejected.fetch_add(1, Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.started();
        self.failure.fetch_add(1, Relaxed);
    }

    pub(crate) fn timed_out(&self) {
        self.started();
        self.init_fetch_timeout.fetch_add(1, Relaxed);
    }
}

/// Of the stream to the control plane: `control_plane.`.
#[derive(Debug, Default)]
pub struct ControlPlaneCounters {
    connected: AtomicU64,
    pending: AtomicU64,
    identifier: Mutex<String>,
}

impl ControlPlaneCounters {
    /// Each by its name. Requests are never slowed down, so that `rate_limit_enforced` stays 0.
    pub fn each(&self, f: &mut dyn FnMut(&'static str, u64)) {
        f("connected_state", self.connected.load(Relaxed));
        f("pending_requests", self.pending.load(Relaxed));
        f("rate_limit_enforced", 0);
    }

    /// Is there a stream?
    pub fn is_connected(&self) -> bool {
        self.connected.load(Relaxed) > 0
    }

    /// What the control plane calls itself.
    pub fn identifier(&self) -> String {
        self.identifier.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected.into(), Relaxed);
    }

    pub(crate) fn set_pending(&self, requests: usize) {
        self.pending.store(u64::try_from(requests).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn set_identifier(&self, identifier: String) {
        *self.identifier.lock().unwrap_or_else(PoisonError::into_inner) = identifier;
    }
}
