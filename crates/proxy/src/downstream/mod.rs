//! Connections of clients: what they are, and what becomes of them.

mod accept;
pub(crate) mod client;
mod exchange;
mod http1;
mod http2;
mod relay;
mod tcp;

use std::rc::Rc;
use std::sync::Arc;

use ostro_engine::ConnectionInfo;

use crate::config::Manager;
use crate::stats::{HttpStats, Local};
use crate::worker::{Fate, Worker};

pub(crate) use accept::serve;

/// A connection that carries HTTP, as its requests see it.
pub(crate) struct HttpScope {
    /// Whose it is.
    pub worker: Rc<Worker>,
    /// By which rules.
    pub manager: Arc<Manager>,
    /// What this thread counts of the manager.
    pub stats: Local<HttpStats>,
    /// Who is at both ends.
    pub connection: Arc<ConnectionInfo>,
    /// What is in store for it.
    pub fate: Rc<Fate>,
}
