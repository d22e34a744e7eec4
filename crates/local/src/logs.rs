//! What containers write, kept with a bound, and read back: the last lines, or all that comes.
//!
//! A log is a sequence of files `<container>.<instance>.<part>.log`. The instance is how often the container was
//! started again, the part begins at 0 and moves on when a file is full. Files only grow, and the next appears only
//! once nothing more is written to the one before: whoever follows a log goes from file to file and misses nothing,
//! unless it is slower than [`KEPT_PARTS`] files. Of each container the present instance and the one before are kept.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::plan::PodName;

/// A file that has grown to this is full.
pub const PART_BYTES: u64 = 5 << 20;
/// Files kept of one instance.
pub const KEPT_PARTS: u32 = 2;
/// Instances kept of one container.
pub const KEPT_INSTANCES: u32 = 2;
/// How often a follower looks for more.
const LOOK: Duration = Duration::from_millis(100);
/// Most bytes a follower takes at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// Lines remembered of a running program, for those who ask why it ended.
const LAST_LINES: usize = 5;
/// Bytes remembered of each.
const LAST_LINE_BYTES: usize = 256;
/// Of the logs, in a pod's directory.
pub(crate) const DIRECTORY: &str = "logs";
/// What the proxy's log is called.
pub const PROXY: &str = "istio-proxy";

/// Where the logs of a pod are, below the directory of all pods.
pub fn directory(pods: &Path, pod: &PodName) -> PathBuf {
    pods.join(pod.to_string()).join(DIRECTORY)
}

/// Where in a log a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    instance: u32,
    part: u32,
}

fn file_name(container: &str, place: Place) -> String {
    format!("{container}.{}.{}.log", place.instance, place.part)
}

/// The files of a container's log, oldest first.
fn places(dir: &Path, container: &str) -> io::Result<Vec<Place>> {
    let mut places = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let place = name.to_str().and_then(|name| {
            let numbers = name.strip_prefix(container)?.strip_prefix('.')?.strip_suffix(".log")?;
            let (instance, part) = numbers.split_once('.')?;
            Some(Place { instance: instance.parse().ok()?, part: part.parse().ok()? })
        });
        places.extend(place);
    }
    places.sort();
    Ok(places)
}

/// Writes one instance's log.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    container: String,
    place: Place,
    file: File,
    written: u64,
    full: u64,
}

impl Writer {
    /// Begins the log of an instance, and forgets instances that are too old.
    pub fn begin(dir: &Path, container: &str, instance: u32) -> io::Result<Self> {
        Self::begin_with(dir, container, instance, PART_BYTES)
    }

    fn begin_with(dir: &Path, container: &str, instance: u32, full: u64) -> io::Result<Self> {
        for place in places(dir, container)? {
            if place.instance + KEPT_INSTANCES <= instance {
                fs::remove_file(dir.join(file_name(container, place)))?;
            }
        }
        let place = Place { instance, part: 0 };
        let file = open(&dir.join(file_name(container, place)))?;
        Ok(Self { dir: dir.to_owned(), container: container.to_owned(), place, file, written: 0, full })
    }

    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.written >= self.full {
            self.move_on()?;
        }
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn move_on(&mut self) -> io::Result<()> {
        self.place.part += 1;
        self.file = open(&self.dir.join(file_name(&self.container, self.place)))?;
        self.written = 0;
        if let Some(part) = self.place.part.checked_sub(KEPT_PARTS) {
            let old = Place { part, ..self.place };
            fs::remove_file(self.dir.join(file_name(&self.container, old)))?;
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// The last lines of what went by, each cut to a length.
#[derive(Clone, Debug, Default)]
pub struct LastLines {
    lines: VecDeque<String>,
    open: Vec<u8>,
}

impl LastLines {
    /// Takes in what was written next.
    pub fn note(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LAST_LINE_BYTES.saturating_sub(self.open.len());
            self.open.extend(piece.iter().filter(|byte| **byte != b'\n').take(room));
            if piece.ends_with(b"\n") {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        let line = String::from_utf8_lossy(&self.open).trim_end().to_owned();
        self.open.clear();
        if !line.is_empty() {
            if self.lines.len() == LAST_LINES {
                self.lines.pop_front();
            }
            self.lines.push_back(line);
        }
    }

    /// They, the last perhaps without its end.
    pub fn lines(&self) -> Vec<String> {
        let mut all = self.clone();
        all.close();
        all.lines.into()
    }
}

/// A container's log.
#[derive(Clone, Debug)]
pub struct Log {
    dir: PathBuf,
    container: String,
}

/// Which instance of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instance {
    /// The last that was started.
    Present,
    /// The one before it.
    Previous,
}

impl Log {
    /// The log of a container, in a directory of logs ([`directory`]).
    pub fn new(dir: &Path, container: &str) -> Self {
        Self { dir: dir.to_owned(), container: container.to_owned() }
    }

    /// The last `lines` lines of an instance, or all that is kept. `None` if there was no such instance.
    pub fn tail(&self, instance: Instance, lines: Option<usize>) -> io::Result<Option<Vec<u8>>> {
        let places = self.instance(instance)?;
        if places.is_empty() {
            return Ok(None);
        }
        let mut text = Vec::new();
        for place in places {
            match File::open(self.path(place)) {
                Ok(mut file) => {
                    file.read_to_end(&mut text)?;
                }
                // Dropped by its writer meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let from = lines.map_or(0, |lines| last_lines_from(&text, lines));
        Ok(Some(text.split_off(from)))
    }

    /// Follows the log: first the last `lines` lines of the present instance (or all that is kept), then all that
    /// comes, of later instances too.
    pub fn follow(&self, lines: Option<usize>) -> io::Result<Follow> {
        let mut follow = Follow { log: self.clone(), at: None };
        let mut text = Vec::new();
        // Oldest first, as far as the present instance goes back.
        let present = self.instance(Instance::Present)?;
        if let Some(first) = present.first() {
            follow.at = Some((*first, Open::at(&self.path(*first))?));
            while follow.read(&mut text)? {}
        }
        let from = lines.map_or(0, |lines| last_lines_from(&text, lines));
        let begin = text.split_off(from);
        Ok(Follow { at: follow.at.map(|(place, open)| (place, open.with(begin))), ..follow })
    }

    fn instance(&self, which: Instance) -> io::Result<Vec<Place>> {
        let mut places = places(&self.dir, &self.container)?;
        let Some(last) = places.last().map(|place| place.instance) else { return Ok(Vec::new()) };
        let wanted = match which {
            Instance::Present => Some(last),
            Instance::Previous => last.checked_sub(1),
        };
        places.retain(|place| Some(place.instance) == wanted);
        Ok(places)
    }

    fn path(&self, place: Place) -> PathBuf {
        self.dir.join(file_name(&self.container, place))
    }

    /// The first file there is after `place`.
    fn after(&self, place: Option<Place>) -> io::Result<Option<Place>> {
        let places = places(&self.dir, &self.container)?;
        Ok(places.into_iter().find(|next| place.is_none_or(|place| *next > place)))
    }
}

/// A file that is read, and what was read of it and not handed out.
#[derive(Debug)]
struct Open {
    file: File,
    waiting: Vec<u8>,
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, waiting: Vec::new() })
    }

    fn with(self, waiting: Vec<u8>) -> Self {
        Self { waiting, ..self }
    }
}

/// A log that is followed.
#[derive(Debug)]
pub struct Follow {
    log: Log,
    at: Option<(Place, Open)>,
}

impl Follow {
    /// What comes next; waits for it. `None` once the log is gone with its pod. Dropping the future loses nothing.
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            match self.ready() {
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What is there now, if anything is.
    pub fn ready(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        self.read(&mut bytes)?;
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    /// Reads on, from file to file; false if there was nothing more.
    fn read(&mut self, to: &mut Vec<u8>) -> io::Result<bool> {
        let before = to.len();
        if let Some((_, open)) = &mut self.at {
            to.append(&mut open.waiting);
            (&mut open.file).take(CHUNK_BYTES as u64).read_to_end(to)?;
        }
        if to.len() > before {
            return Ok(true);
        }
        let Some(next) = self.log.after(self.at.as_ref().map(|(place, _)| *place))? else { return Ok(false) };
        // The one before is complete now that there is a next: what came between the two looks is read first.
        if let Some((_, open)) = &mut self.at
            && (&mut open.file).take(CHUNK_BYTES as u64).read_to_end(to)? > 0
        {
            return Ok(true);
        }
        match Open::at(&self.log.path(next)) {
            Ok(open) => self.at = Some((next, open)),
            // Dropped by its writer meanwhile: the next look finds a later one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }
}

/// Where the last `lines` lines of a text begin.
fn last_lines_from(text: &[u8], lines: usize) -> usize {
    if lines == 0 {
        return text.len();
    }
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let breaks = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    breaks.map(|(at, _)| at + 1).nth(lines - 1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Option<Vec<u8>>) -> String {
        String::from_utf8(bytes.unwrap()).unwrap()
    }

    #[test]
    fn the_last_lines_of_the_instance_that_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::new(dir.path(), "web");
        assert_eq!(log.tail(Instance::Present, None).unwrap(), None);
        for (instance, words) in [(0, "a\nb\n"), (1, "c\nd\ne"), (2, "f\n\ng\n")] {
            Writer::begin(dir.path(), "web", instance).unwrap().write(words.as_bytes()).unwrap();
        }
        Writer::begin(dir.path(), "web-2", 7).unwrap().write(b"another's").unwrap();
        assert_eq!(text(log.tail(Instance::Present, None).unwrap()), "f\n\ng\n");
        assert_eq!(text(log.tail(Instance::Present, Some(2)).unwrap()), "\ng\n");
        assert_eq!(text(log.tail(Instance::Previous, Some(2)).unwrap()), "d\ne");
        assert_eq!(text(log.tail(Instance::Previous, Some(9)).unwrap()), "c\nd\ne");
        assert_eq!(text(log.tail(Instance::Present, Some(0)).unwrap()), "");
        assert!(!dir.path().join("web.0.0.log").exists(), "two instances are kept");
    }

    #[test]
    fn what_a_log_takes_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::begin_with(dir.path(), "web", 0, 100).unwrap();
        for number in 0..1_000 {
            writer.write(format!("line {number:03}\n").as_bytes()).unwrap();
        }
        let sizes: Vec<u64> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|size| *size < 120), "{sizes:?}");
        let last = text(Log::new(dir.path(), "web").tail(Instance::Present, Some(1)).unwrap());
        assert_eq!(last, "line 999\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_sees_every_line_once_whatever_moves_on() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::new(dir.path(), "web");
        let mut writer = Writer::begin_with(dir.path(), "web", 0, 64).unwrap();
        for number in 0..5 {
            writer.write(format!("before {number}\n").as_bytes()).unwrap();
        }
        let mut follow = log.follow(Some(2)).unwrap();
        let mut seen = text(follow.next().await.unwrap());
        assert_eq!(seen, "before 3\nbefore 4\n");
        seen.clear();
        let mut expected = String::new();
        for number in 0..300 {
            if number == 150 {
                writer = Writer::begin_with(dir.path(), "web", 1, 64).unwrap();
            }
            let line = format!("line {number}\n");
            writer.write(line.as_bytes()).unwrap();
            expected.push_str(&line);
            if number % 7 == 0 {
                seen.push_str(&text(follow.next().await.unwrap()));
                while let Some(more) = follow.ready().unwrap() {
                    seen.push_str(&text(Some(more)));
                }
            }
        }
        while let Some(more) = follow.ready().unwrap() {
            seen.push_str(&text(Some(more)));
        }
        assert_eq!(seen, expected);
        fs::remove_dir_all(dir.path()).unwrap();
        assert_eq!(follow.next().await.unwrap(), None, "gone with its pod");
    }

    #[test]
    fn the_last_lines_are_remembered_as_they_go_by() {
        let mut last = LastLines::default();
        last.note(b"one\ntwo\nthree\n\nfour\nfi");
        last.note(b"ve\nsix\nsev");
        assert_eq!(last.lines(), ["three", "four", "five", "six", "sev"]);
        last.note(&[b'x'; 10_000]);
        assert_eq!(last.lines().last().map(String::len), Some(LAST_LINE_BYTES));
    }
}
