//! Streams and connections under way, whose numbers are told from time to time, not only at their end.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::cells::PassingCells;

/// One that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LiveId(usize);

/// All of a worker. Places are used again: beginning one needs no memory after a while. There are as many as there are
/// streams and connections, which have bounds of their own.
#[derive(Default)]
pub(super) struct Lives {
    places: Vec<Option<Live>>,
    free: Vec<usize>,
}

struct Live {
    /// Received and sent, so far.
    now: [u64; 2],
    /// What of it has been told.
    told: [u64; 2],
    /// When it is told next, and how often.
    due: Option<(Instant, Duration)>,
    /// Where; nothing as long as it is not known who is at the other end.
    cells: Option<Rc<PassingCells>>,
    has_opened: bool,
}

impl Lives {
    /// One more; told every so often, if at all before its end.
    pub fn begin(&mut self, every: Option<Duration>) -> LiveId {
        let due = every.map(|every| (Instant::now() + every, every));
        let live = Live { now: [0; 2], told: [0; 2], due, cells: None, has_opened: false };
        match self.free.pop() {
            Some(place) => {
                if let Some(free) = self.places.get_mut(place) {
                    *free = Some(live);
                }
                LiveId(place)
            }
            None => {
                self.places.push(Some(live));
                LiveId(self.places.len() - 1)
            }
        }
    }

    fn get(&mut self, id: LiveId) -> Option<&mut Live> {
        self.places.get_mut(id.0)?.as_mut()
    }

    /// Whether it is known where it is told.
    pub fn is_known(&mut self, id: LiveId) -> bool {
        self.get(id).is_none_or(|live| live.cells.is_some())
    }

    /// It is told here from now on.
    pub fn know(&mut self, id: LiveId, cells: Rc<PassingCells>) {
        if let Some(live) = self.get(id) {
            live.cells = Some(cells);
        }
    }

    /// So much has been received and sent.
    pub fn pass(&mut self, id: LiveId, received: u64, sent: u64) {
        if let Some(live) = self.get(id) {
            // Whoever is cut off may not know any more how far it was.
            live.now = [live.now[0].max(received), live.now[1].max(sent)];
        }
    }

    /// It is over, and told a last time.
    pub fn end(&mut self, id: LiveId) {
        let Some(mut live) = self.places.get_mut(id.0).and_then(Option::take) else { return };
        live.tell();
        if let Some(closed) = live.cells.as_ref().and_then(|cells| cells.closed.as_ref()) {
            closed.inc();
        }
        self.free.push(id.0);
    }

    /// Tells what is due.
    pub fn tell_due(&mut self, now: Instant) {
        for live in self.places.iter_mut().flatten() {
            if let Some((due, every)) = &mut live.due
                && *due <= now
            {
                *due = now + *every;
                live.tell();
            }
        }
    }
}

impl Live {
    fn tell(&mut self) {
        let Some(cells) = &self.cells else { return };
        if !std::mem::replace(&mut self.has_opened, true)
            && let Some(opened) = &cells.opened
        {
            opened.inc();
        }
        let [received, sent] = [self.now[0] - self.told[0], self.now[1] - self.told[1]];
        for (cell, more) in [(&cells.received, received), (&cells.sent, sent)] {
            if let Some(cell) = cell {
                cell.add(more);
            }
        }
        self.told = self.now;
    }
}
