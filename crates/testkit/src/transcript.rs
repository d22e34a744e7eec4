//! Documents whose examples are run: what they show is compared with what comes, and can be written anew.
//!
//! An example is a fenced block of Markdown, ` ```console `. A line that begins with `$ ` is typed into a shell, which is
//! the same one from the first block to the last; lines after it that begin with `> ` belong to it, and the others are
//! what is printed: standard output, then standard error (each of its lines after `! `), then `[exit status N]` unless it
//! is 0. A line `...` stands for any number of lines. Everything else in the document is prose.
//!
//! Lines are compared after [`normal`] has masked what differs from run to run. With `OSTRO_BLESS=1` lines that differ
//! even so are written into the document; those that do not keep what they show.
//!
//! What it deliberately is not: a judge of prose, or a terminal (that is [`crate::terminal`]).

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use regex::Regex;

/// How long one command may take.
const COMMAND_MAX: Duration = Duration::from_secs(120);
/// Lines of a command's output that wait to be read.
const LINES_MAX: usize = 4_096;
/// Ends what a command printed; nobody prints it by chance.
const MARK: &str = "-- 8d1f4c end of the command --";
/// The variable that asks for documents to be written anew.
pub const BLESS: &str = "OSTRO_BLESS";

/// A shell that runs one command after the other.
pub struct Shell {
    child: Child,
    typed: ChildStdin,
    out: Receiver<String>,
    err: Receiver<String>,
}

/// What a command printed, as a document shows it.
pub type Shown = Vec<String>;

impl Shell {
    /// Starts `command`, which must be a POSIX shell that reads commands from its standard input. To be dropped where it
    /// was started.
    pub fn start(mut command: Command) -> Shell {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let typed = child.stdin.take().unwrap();
        let out = lines(child.stdout.take().unwrap());
        let err = lines(child.stderr.take().unwrap());
        Shell { child, typed, out, err }
    }

    /// Types a command, and waits for its end.
    pub fn run(&mut self, command: &str) -> Shown {
        let script =
            format!("{{ {command}\n}} </dev/null\nprintf '\\n{MARK}%s\\n' $?\nprintf '\\n{MARK}\\n' >&2\n");
        self.typed.write_all(script.as_bytes()).unwrap();
        let (mut shown, status) = until_mark(&self.out, command);
        let (said, _) = until_mark(&self.err, command);
        shown.extend(said.into_iter().map(|line| format!("! {line}").trim_end().to_owned()));
        if status != "0" {
            shown.push(format!("[exit status {status}]"));
        }
        shown
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = sync_channel(LINES_MAX);
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { return };
            if tell.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    told
}

/// The lines before the mark, and what is behind it.
fn until_mark(lines: &Receiver<String>, command: &str) -> (Shown, String) {
    let mut shown = Vec::new();
    loop {
        let Ok(line) = lines.recv_timeout(COMMAND_MAX) else {
            panic!("`{command}` did not end; it printed:\n{}", shown.join("\n"));
        };
        if let Some(status) = line.strip_prefix(MARK) {
            // The mark begins a line of its own, whatever came before it.
            if shown.last().is_some_and(String::is_empty) {
                shown.pop();
            }
            return (shown, status.to_owned());
        }
        shown.push(line.trim_end().to_owned());
    }
}

/// One command of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// As it is typed.
    pub command: String,
    /// Lines of the document that show what is printed: the first, and the one after the last.
    lines: (usize, usize),
}

/// One fenced block of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What is behind the three ticks.
    pub info: String,
    /// Its commands, if it is an example.
    pub steps: Vec<Step>,
}

/// A document.
#[derive(Debug)]
pub struct Document {
    path: PathBuf,
    lines: Vec<String>,
    /// What is to be written in place of which lines.
    found: Vec<((usize, usize), Vec<String>)>,
    differences: Vec<String>,
    masks: &'static [(&'static str, &'static str)],
}

impl Document {
    /// Reads one. `masks` are further patterns, and what they become, for what differs in it from run to run.
    pub fn read(path: &Path, masks: &'static [(&'static str, &'static str)]) -> Document {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lines = text.lines().map(str::to_owned).collect();
        Document { path: path.to_owned(), lines, found: Vec::new(), differences: Vec::new(), masks }
    }

    /// Its fenced blocks.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut inside = false;
        for (number, line) in self.lines.iter().enumerate() {
            if let Some(info) = line.strip_prefix("```") {
                inside = !inside;
                if inside {
                    blocks.push(Block { info: info.to_owned(), steps: Vec::new() });
                }
                continue;
            }
            let Some(block) = blocks.last_mut().filter(|_| inside) else { continue };
            let after = (number + 1, number + 1);
            match (line.strip_prefix("$ "), line.strip_prefix("> "), block.steps.last_mut()) {
                (Some(command), ..) => block.steps.push(Step { command: command.to_owned(), lines: after }),
                (None, Some(more), Some(step)) if step.lines.0 == number => {
                    step.command.push_str(&format!("\n{more}"));
                    step.lines = after;
                }
                (None, _, Some(step)) => step.lines.1 = number + 1,
                (None, _, None) => {}
            }
        }
        blocks
    }

    /// What the document shows of a command's output.
    pub fn shown(&self, step: &Step) -> &[String] {
        self.lines.get(step.lines.0..step.lines.1).unwrap_or_default()
    }

    /// True if what was printed is what the document shows.
    pub fn agrees(&self, step: &Step, printed: &[String]) -> bool {
        let masked = |lines: &[String]| lines.iter().map(|line| normal(line, self.masks)).collect::<Vec<_>>();
        matches(&masked(self.shown(step)), &masked(printed))
    }

    /// Compares what was printed with what the document shows.
    pub fn compare(&mut self, step: &Step, printed: &[String]) {
        if self.agrees(step, printed) {
            return;
        }
        let shown = self.shown(step).to_vec();
        self.differences.push(format!("$ {}\n{}", step.command, difference(&shown, printed, self.masks)));
        self.found.push((step.lines, self.blessed(&shown, printed)));
    }

    /// What was printed; before and after what differs, as the document shows it already.
    fn blessed(&self, shown: &[String], printed: &[String]) -> Vec<String> {
        let same = |(old, new): &(&String, &String)| normal(old, self.masks) == normal(new, self.masks);
        let before = shown.iter().zip(printed).take_while(same).count();
        let (head, shown, new) = (&shown[..before], &shown[before..], &printed[before..]);
        let after = shown.iter().rev().zip(new.iter().rev()).take_while(same).count();
        [head, &new[..new.len() - after], &shown[shown.len() - after..]].concat()
    }

    /// Fails if anything differed; or writes it down, if that is what is wanted.
    pub fn conclude(self) {
        if self.differences.is_empty() {
            return;
        }
        assert!(
            std::env::var_os(BLESS).is_some(),
            "{} does not show what comes (-), but (+). If that is as it should be, {BLESS}=1 writes it down.\n\n{}",
            self.path.display(),
            self.differences.join("\n\n")
        );
        let mut lines = self.lines;
        for ((from, to), found) in self.found.into_iter().rev() {
            lines.splice(from..to, found);
        }
        fs::write(&self.path, lines.join("\n") + "\n").unwrap();
    }
}

/// Runs every example of a document in one shell, and compares.
pub fn check(path: &Path, shell: &mut Shell) {
    let mut document = Document::read(path, &[]);
    for block in document.blocks() {
        assert!(
            block.info == "console" || block.steps.is_empty(),
            "```{}: only console blocks are run",
            block.info
        );
        for step in block.steps {
            let printed = shell.run(&step.command);
            document.compare(&step, &printed);
        }
    }
    document.conclude();
}

/// True if `printed` is as `shown`, where `...` stands for any number of lines.
fn matches(shown: &[String], printed: &[String]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first == "..." => {
            (0..=printed.len()).any(|skip| matches(rest, &printed[skip..]))
        }
        Some((first, rest)) => {
            printed.split_first().is_some_and(|(line, more)| line == first && matches(rest, more))
        }
    }
}

fn difference(shown: &[String], printed: &[String], masks: &[(&str, &str)]) -> String {
    let masked = |lines: &[String]| lines.iter().map(|line| normal(line, masks)).collect::<Vec<_>>();
    let (before, after) = (masked(shown), masked(printed));
    let same = before.iter().zip(&after).take_while(|(old, new)| old == new).count();
    let mut text = String::new();
    for line in &printed[..same.min(printed.len())] {
        text.push_str(&format!("  {line}\n"));
    }
    for line in shown.get(same..).unwrap_or_default() {
        text.push_str(&format!("- {line}\n"));
    }
    for line in printed.get(same..).unwrap_or_default() {
        text.push_str(&format!("+ {line}\n"));
    }
    text
}

/// What differs from run to run, and what it becomes.
const MASKS: &[(&str, &str)] = &[
    // The hash in the name of a Deployment's pod.
    (r"-[0-9a-f]{8}\b", "-#"),
    (r"\b10\.244\.\d+\.\d+\b", "10.244.#"),
    (r"\bfd00:10:244:[0-9a-f:]+", "fd00:10:244:#"),
    (r"\b127\.0\.0\.1:[1-9]\d{4}\b", "127.0.0.1:#"),
    // Moments, ages and lengths of time.
    (r"\b\d{9,}\b", "#"),
    (r"\b\d{4}-\d\d-\d\dT[0-9:.]+Z", "#"),
    (r"\b\d+(\.\d+)?( ?ms| s|s|m|h|d)\b", "# s"),
    // Columns are as wide as what is masked.
    (r"\s+", " "),
];

static COMPILED: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| compiled(MASKS));

fn compiled<'a>(masks: &[(&str, &'a str)]) -> Vec<(Regex, &'a str)> {
    masks.iter().map(|(pattern, with)| (Regex::new(pattern).unwrap(), *with)).collect()
}

/// A line without what differs from run to run.
pub fn normal(line: &str, masks: &[(&str, &str)]) -> String {
    let mut text = line.to_owned();
    for (pattern, with) in COMPILED.iter().chain(&compiled(masks)) {
        text = pattern.replace_all(&text, *with).into_owned();
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.md");
        fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn shell() -> Shell {
        Shell::start(Command::new("sh"))
    }

    #[test]
    fn what_is_shown_is_what_comes() {
        let (_dir, path) = document(
            "Prose.\n```console\n$ word=hello\n$ echo $word; echo two >&2; printf three\nhello\nthree\n! two\n$ cat <<'E'\n> \
             a b\n> E\na b\n$ (exit 3)\n[exit status 3]\n```\n```sh\nanything\n```\n",
        );
        check(&path, &mut shell());
    }

    #[test]
    fn what_is_not_shown_fails_and_says_so() {
        let (_dir, path) = document("```console\n$ echo one\ntwo\n```\n");
        let failed = std::panic::catch_unwind(|| {
            let mut document = Document::read(&path, &[]);
            let step = document.blocks()[0].steps[0].clone();
            document.compare(&step, &shell().run(&step.command));
            document.differences
        });
        assert_eq!(failed.unwrap(), ["$ echo one\n- two\n+ one\n"]);
    }

    #[test]
    fn any_number_of_lines_may_be_left_out() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(matches(&lines("a ... d"), &lines("a b c d")));
        assert!(matches(&lines("a ..."), &lines("a")));
        assert!(!matches(&lines("a ... d"), &lines("a b c")));
    }

    #[test]
    fn only_what_differs_from_run_to_run_is_masked() {
        for (one, other) in [
            ("web-1a2b3c4d-0   10.244.0.3   3s", "web-00000000-0  10.244.0.17  119s"),
            ("ready after 4.2 s", "ready after 14.0 s"),
            ("\"started\": 1764000000,", "\"started\": 1764000001,"),
        ] {
            assert_eq!(normal(one, &[]), normal(other, &[]));
        }
        for (one, other) in
            [("web:4:1", "web:5:1"), ("http://127.0.0.1:8080", "http://127.0.0.1:9090"), ("2 pods", "3 pods")]
        {
            assert_ne!(normal(one, &[]), normal(other, &[]));
        }
        assert_eq!(normal("got 17", &[(r"\d+", "#")]), "got #");
    }
}
