//! When a path is worth reading: pure, time is an argument.
//!
//! A file system tells of half-done work: an editor truncates before it writes, removes before it creates.
//! Each hint therefore has its own patience. A file known to be whole (closed by its writer, or renamed into
//! place) is read after [`SETTLE`]; one that somebody may still be writing when it has been quiet for
//! [`QUIET`]; one that is gone counts as gone after [`GRACE`]. No path waits longer than [`MAX_HOLD`], however
//! busy its writer.
//!
//! Invariant: at most [`MAX_PENDING`] paths wait; beyond that a look at everything replaces them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a whole file waits for others that change with it.
pub const SETTLE: Duration = Duration::from_millis(10);
/// How long a removed file, or what it no longer holds, may take to come back (editors replace by removing or
/// emptying first).
pub const GRACE: Duration = Duration::from_millis(100);
/// How long a file must be left alone when nobody said that its writer is done.
pub const QUIET: Duration = Duration::from_millis(250);
/// The longest a path waits after the first hint about it.
pub const MAX_HOLD: Duration = Duration::from_secs(1);
/// Most paths waiting at once.
pub const MAX_PENDING: usize = 10_000;

/// What is known about the file behind a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Nobody is writing it: read it now.
    Whole,
    /// Somebody may be writing it.
    Writing,
    /// It is not there, which may be half of a replacement.
    Gone,
    /// It is not there, and what replaces it has another name.
    Left,
}

impl Hint {
    /// True if waiting longer would tell nothing more.
    pub fn is_certain(self) -> bool {
        matches!(self, Hint::Whole | Hint::Left)
    }

    fn patience(self) -> Duration {
        match self {
            Hint::Whole | Hint::Left => SETTLE,
            Hint::Writing => QUIET,
            Hint::Gone => GRACE,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    hint: Hint,
    due: Instant,
    first: Instant,
}

impl Pending {
    fn renewed(previous: Option<Pending>, hint: Hint, now: Instant) -> Pending {
        let first = previous.map_or(now, |pending| pending.first);
        // An overdue path must not be starved by its own events, but a hint is never due before it was given.
        let latest = (first + MAX_HOLD).max(now);
        Pending { hint, due: (now + hint.patience()).min(latest), first }
    }
}

/// What to do now, as [`Schedule::take_due`] hands it out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Look at everything; the hint says whether what has changed can be read at once.
    pub scan: Option<Hint>,
    /// Paths to read, sorted, each with the last hint about it.
    pub paths: Vec<(PathBuf, Hint)>,
}

/// Hints waiting for their time.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    paths: BTreeMap<PathBuf, Pending>,
    scan: Option<Pending>,
}

impl Schedule {
    /// Notes what an event says about a path. The latest word counts.
    pub fn note(&mut self, path: &Path, hint: Hint, now: Instant) {
        let previous = self.paths.get(path).copied();
        if previous.is_none() && self.paths.len() >= MAX_PENDING {
            self.paths.clear();
            self.note_scan(Hint::Writing, now);
            return;
        }
        self.paths.insert(path.to_path_buf(), Pending::renewed(previous, hint, now));
    }

    /// The same for a path found by looking, which must not put off what an event already said of it.
    pub fn note_found(&mut self, path: &Path, hint: Hint, now: Instant) {
        if !self.is_pending(path) {
            self.note(path, hint, now);
        }
    }

    /// Notes that everything has to be looked at: `Whole` when a change is known to be complete (a directory
    /// or link renamed into place).
    pub fn note_scan(&mut self, hint: Hint, now: Instant) {
        // A scan itself only looks, so it never waits for long; its hint is about what it will find.
        let whole = hint == Hint::Whole || self.scan.is_some_and(|pending| pending.hint == Hint::Whole);
        let pending = Pending::renewed(self.scan, Hint::Whole, now);
        self.scan = Some(Pending { hint: if whole { Hint::Whole } else { hint }, ..pending });
    }

    /// True if something is known about a path that has not been acted upon.
    pub fn is_pending(&self, path: &Path) -> bool {
        self.paths.contains_key(path)
    }

    /// When there will be something to do.
    pub fn next(&self) -> Option<Instant> {
        self.paths.values().chain(&self.scan).map(|pending| pending.due).min()
    }

    /// Everything that is due. Once anything is, whole files come along early: what changes together is then
    /// seen together.
    pub fn take_due(&mut self, now: Instant) -> Work {
        if self.next().is_none_or(|due| due > now) {
            return Work::default();
        }
        let scan = self.scan.take_if(|pending| pending.due <= now || pending.hint.is_certain());
        let mut paths = Vec::new();
        self.paths.retain(|path, pending| {
            let ready = pending.due <= now || pending.hint.is_certain();
            if ready {
                paths.push((path.clone(), pending.hint));
            }
            !ready
        });
        Work { scan: scan.map(|pending| pending.hint), paths }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(work: Work) -> Vec<(String, Hint)> {
        work.paths.into_iter().map(|(path, hint)| (path.display().to_string(), hint)).collect()
    }

    #[test]
    fn a_first_whole_file_is_hardly_held_back() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.note(Path::new("a"), Hint::Whole, start);
        assert_eq!(schedule.next(), Some(start + SETTLE));
        assert_eq!(schedule.take_due(start), Work::default());
        assert_eq!(paths(schedule.take_due(start + SETTLE)), [("a".into(), Hint::Whole)]);
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn files_closed_together_are_read_together() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.note(Path::new("a"), Hint::Whole, start);
        schedule.note(Path::new("b"), Hint::Whole, start + SETTLE / 2);
        schedule.note(Path::new("c"), Hint::Writing, start + SETTLE / 2);
        let work = schedule.take_due(start + SETTLE);
        assert_eq!(paths(work), [("a".into(), Hint::Whole), ("b".into(), Hint::Whole)]);
        assert_eq!(schedule.next(), Some(start + SETTLE / 2 + QUIET));
    }

    #[test]
    fn a_file_being_written_waits_until_its_writer_closes_it() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.note(Path::new("a"), Hint::Writing, start);
        let later = start + QUIET - Duration::from_millis(1);
        schedule.note(Path::new("a"), Hint::Writing, later);
        assert_eq!(schedule.take_due(start + QUIET), Work::default());
        schedule.note(Path::new("a"), Hint::Whole, later);
        assert_eq!(schedule.next(), Some(later + SETTLE));
    }

    #[test]
    fn a_writer_that_never_rests_is_read_all_the_same() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let step = QUIET / 2;
        let mut now = start;
        while now < start + MAX_HOLD {
            schedule.note(Path::new("a"), Hint::Writing, now);
            assert!(schedule.next().unwrap() <= start + MAX_HOLD);
            now += step;
        }
        assert_eq!(paths(schedule.take_due(start + MAX_HOLD)).len(), 1);
    }

    #[test]
    fn a_file_replaced_by_removing_it_first_is_never_gone() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.note(Path::new("a"), Hint::Gone, start);
        let back = start + GRACE / 2;
        schedule.note(Path::new("a"), Hint::Writing, back);
        schedule.note(Path::new("a"), Hint::Whole, back);
        assert_eq!(paths(schedule.take_due(back + SETTLE)), [("a".into(), Hint::Whole)]);
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn looking_does_not_put_off_what_an_event_said() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.note(Path::new("a"), Hint::Whole, start);
        schedule.note_found(Path::new("a"), Hint::Writing, start);
        assert_eq!(schedule.next(), Some(start + SETTLE));
    }

    #[test]
    fn a_flood_of_paths_becomes_one_scan() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        for i in 0..=MAX_PENDING {
            schedule.note(Path::new(&format!("{i}")), Hint::Writing, start);
        }
        let work = schedule.take_due(start + MAX_HOLD);
        assert_eq!(work, Work { scan: Some(Hint::Writing), paths: Vec::new() });
    }

    #[test]
    fn a_scan_for_a_renamed_directory_stays_sure() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.note_scan(Hint::Whole, start);
        schedule.note_scan(Hint::Writing, start);
        assert_eq!(schedule.take_due(start + SETTLE).scan, Some(Hint::Whole));
    }
}
