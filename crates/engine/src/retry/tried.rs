//! What was tried for a request before.

use crate::balance::{Host, HostId, Snapshot};

/// What was tried for a request before, and what of it another try is to keep away from.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    hosts: Vec<(HostId, usize)>,
    avoids_hosts: bool,
    attempts: u32,
    priority_frequency: Option<u32>,
}

impl Tried {
    /// Nothing yet. `avoids_hosts`: hosts that were tried are not to be chosen again, if another turns up within
    /// `attempts` further choices; `priority_frequency`: after so many tries, priorities that were tried are not either.
    pub fn new(avoids_hosts: bool, attempts: u32, priority_frequency: Option<u32>) -> Tried {
        Tried { hosts: Vec::new(), avoids_hosts, attempts, priority_frequency }
    }

    /// A host is tried now.
    pub fn attempting(&mut self, host: &Host) {
        self.hosts.push((host.id(), host.priority as usize));
    }

    /// Choices that may be made for the next try: more than one only for a retry.
    pub(crate) fn attempts_max(&self) -> u32 {
        if self.hosts.is_empty() { 1 } else { self.attempts.saturating_add(1) }
    }

    /// Whether another host is to be chosen instead.
    pub(crate) fn avoids(&self, host: &Host) -> bool {
        self.avoids_hosts && self.hosts.iter().any(|(tried, _)| *tried == host.id())
    }

    /// Shares of load without the priorities that were tried; `None`: as ever. When all that are available were tried,
    /// they are all tried again.
    pub(crate) fn adjusted_loads(&self, snapshot: &Snapshot) -> Option<(Vec<u32>, Vec<u32>)> {
        let frequency = self.priority_frequency? as usize;
        let mut excluded: Vec<usize> = Vec::new();
        let mut loads = None;
        for round in self.hosts.chunks_exact(frequency.max(1)) {
            excluded.extend(round.iter().map(|(_, priority)| *priority));
            loads = snapshot.loads_without(|priority| excluded.contains(&priority));
            if loads.is_none() {
                excluded.clear();
            }
        }
        loads
    }
}
