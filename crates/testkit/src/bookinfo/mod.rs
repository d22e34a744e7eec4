//! Public Bookinfo manifests, unmodified (but for who asks for which proxy), on a whole mesh under load: every file of `networking/` is dropped
//! into the watched directory and taken away again, and each answer must be as the file says.
//!
//! "Takes effect within a second" is judged to the letter: a second after the file was written (or removed),
//! every answer must be of the new kind; in between, of the old or the new. A request that gets no answer,
//! or one of any other kind, is a failure at all times.
//!
//! The table of files and expectations is in [`table`]; a file of the folder that is not in it is a failure
//! too, so that none is forgotten.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::load::{Answer, Load, Plan, Report};
use crate::mix::Mix;
use crate::running::{Running, program};
use table::{
    BASE, Expect, MANIFESTS, NEEDS_LATER, NEEDS_LATER_OF_OURS, ROWS, Row, Share, WAYS_IN, WayIn, Who,
};

/// What is promised.
const EFFECT_MAX: Duration = Duration::from_secs(1);
/// Outside of this many standard deviations a weight does not hold.
const DEVIATIONS: f64 = 3.0;
/// Answers looked at before a file comes and after it is gone.
const AROUND: u64 = 100;

/// One file, and what was wrong with how the mesh followed it; nothing, if it passed.
#[derive(Debug, Clone)]
pub struct LiveCase {
    /// Its path in the folder.
    pub name: String,
    /// Each says what was expected and what was seen.
    pub wrong: Vec<String>,
}

/// Runs every file of `dir/networking` on the manifests of `dir`. Files that need what is not built yet are
/// not run; they are in [`later`].
///
/// # Panics
/// If the mesh does not come up, or if a proxy in it complained at any time.
pub async fn run(dir: &Path, mix: Mix) -> Result<Vec<LiveCase>, String> {
    let mut manifests = Vec::new();
    for path in MANIFESTS {
        let text = fs::read_to_string(dir.join(path)).map_err(|e| format!("{path}: {e}"))?;
        manifests.push((path.replace('/', "-"), mix.ask(&text)));
    }
    let files: Vec<(&str, &str)> =
        manifests.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let running = Running::start_with(&files, &[], (program("ostro"), mix.usual())).await;
    let bench = Bench { dir: dir.to_owned(), running };
    let mut cases: Vec<LiveCase> = MANIFESTS.iter().map(|path| case(path, Vec::new())).collect();
    for way_in in WAYS_IN {
        cases.push(case(way_in.file, bench.way_in(way_in).await?));
    }
    let waits: BTreeSet<String> = later(mix).map(|(file, _)| file).collect();
    for row in ROWS.iter().filter(|row| !waits.contains(row.file)) {
        cases.push(case(row.file, bench.row(row).await?));
    }
    cases.extend(bench.forgotten()?);
    bench.running.assert_content().await;
    bench.running.mesh.end().await;
    Ok(cases)
}

/// Files that are not run, and why.
pub fn later(mix: Mix) -> impl Iterator<Item = (String, &'static str)> {
    let of_ours = NEEDS_LATER_OF_OURS.iter().filter(move |_| mix.has_ours());
    NEEDS_LATER.iter().chain(of_ours).map(|(file, why)| ((*file).to_owned(), *why))
}

fn case(path: &str, wrong: Vec<String>) -> LiveCase {
    LiveCase { name: path.to_owned(), wrong }
}

struct Bench {
    dir: PathBuf,
    running: Running,
}

impl Bench {
    /// Files of the folder that the table does not know.
    fn forgotten(&self) -> Result<Vec<LiveCase>, String> {
        let ways_in = WAYS_IN.iter().map(|way_in| way_in.file);
        let known: BTreeSet<&str> = ROWS
            .iter()
            .map(|row| row.file)
            .chain(ways_in)
            .chain(NEEDS_LATER.iter().map(|(file, _)| *file))
            .collect();
        let mut cases = Vec::new();
        for entry in fs::read_dir(self.dir.join("networking")).map_err(|e| e.to_string())? {
            let name = entry.map_err(|e| e.to_string())?.file_name().to_string_lossy().into_owned();
            let path = format!("networking/{name}");
            if name.ends_with(".yaml") && !known.contains(path.as_str()) {
                cases.push(case(&path, vec!["no expectation is written down for it".to_owned()]));
            }
        }
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(cases)
    }

    /// A way in from outside: with it there are answers and no failures, without it nothing is reached.
    async fn way_in(&self, way_in: &WayIn) -> Result<Vec<String>, String> {
        let mut wrong = Vec::new();
        self.put(way_in.file)?;
        let loads = [(&way_in.who, self.load(&way_in.who))];
        settle(&loads, EFFECT_MAX).await;
        count(&loads, Moment::During, &mut wrong).await;
        self.take_away(way_in.file);
        settle(&loads, EFFECT_MAX).await;
        let [(_, load)] = loads;
        load.more(AROUND).await;
        let report = load.finish().await;
        // Connections that were open may live on until they are drained, without a route.
        if report.classes.keys().any(|class| class != "404") {
            wrong.push(format!("after the file: answers though there is no gateway: {:?}", report.classes));
        }
        Ok(wrong)
    }

    /// One file, in and out again.
    async fn row(&self, row: &Row) -> Result<Vec<String>, String> {
        let prepared: Vec<&str> =
            BASE.iter().filter(|file| **file != row.file).chain(row.prepared).copied().collect();
        for file in &prepared {
            self.put(file)?;
        }
        let loads: Vec<(&Who, Load)> = row.who.iter().map(|who| (who, self.load(who))).collect();
        let mut wrong = Vec::new();
        // The prepared files have their second too; what is seen meanwhile is not of this row.
        settle(&loads, EFFECT_MAX).await;
        count(&loads, Moment::Before, &mut wrong).await;

        self.put(row.file)?;
        change(&loads, EFFECT_MAX, row, "coming", &mut wrong).await;
        count(&loads, Moment::During, &mut wrong).await;

        self.take_away(row.file);
        change(&loads, EFFECT_MAX + row.longest_answer, row, "going", &mut wrong).await;
        count(&loads, Moment::After, &mut wrong).await;

        for (_, load) in loads {
            load.finish().await;
        }
        for file in prepared {
            self.take_away(file);
        }
        Ok(wrong)
    }

    /// Puts a file of the folder, unmodified, where the mesh follows it.
    fn put(&self, file: &str) -> Result<(), String> {
        let text = fs::read_to_string(self.dir.join(file)).map_err(|e| format!("{file}: {e}"))?;
        self.running.write(&file.replace('/', "-"), &text);
        Ok(())
    }

    fn take_away(&self, file: &str) {
        self.running.remove(&file.replace('/', "-"));
    }

    fn load(&self, who: &Who) -> Load {
        let mut headers = vec![("host".to_owned(), "bookinfo.example".to_owned())];
        if let Some(user) = who.user {
            headers.push(("cookie".to_owned(), format!("session={user}")));
        }
        let plan = Plan {
            target: self.running.mesh.ingress(),
            path: who.path.to_owned(),
            headers,
            rate: who.rate,
            connections: who.connections,
        };
        Load::start(plan, |answer| Ok(class(answer)))
    }
}

/// What kind of answer it is: the version of reviews with its stars, or the status.
fn class(answer: &Answer) -> String {
    if answer.status != 200 {
        return answer.status.to_string();
    }
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    let Some(pod) = body["podname"].as_str() else { return "200".to_owned() };
    let version = pod.strip_prefix("reviews-").and_then(|rest| rest.get(..2)).unwrap_or(pod);
    let first = &body["reviews"][0]["rating"];
    match (first["color"].as_str(), first["error"].is_string()) {
        (Some(color), _) => format!("{version} {color}"),
        (None, true) => format!("{version} no ratings"),
        (None, false) => version.to_owned(),
    }
}

/// Lets a promised time pass and forgets what was seen.
async fn settle(loads: &[(&Who, Load)], time: Duration) {
    tokio::time::sleep(time).await;
    for (_, load) in loads {
        load.take();
    }
}

/// Lets the promised time pass; whatever was seen must be of the old kind or the new, or what the row says of the
/// time between.
async fn change(loads: &[(&Who, Load)], time: Duration, row: &Row, when: &str, wrong: &mut Vec<String>) {
    tokio::time::sleep(time).await;
    for (who, load) in loads {
        let report = load.take();
        let mut known: BTreeSet<&str> = row.between.iter().copied().collect();
        known.extend(who.before.iter().chain(who.during).map(|expect| expect.class));
        no_failure(&report, who, when, wrong);
        for class in report.classes.keys().filter(|class| !known.contains(class.as_str())) {
            wrong.push(format!("{}, file {when}: {} answers `{class}`", who.name, report.count(class)));
        }
    }
}

#[derive(Clone, Copy)]
enum Moment {
    Before,
    During,
    After,
}

/// Counts answers, each of which must be as expected at this moment.
///
/// A share is three standard deviations wide, so one right draw in 370 misses it, and there are dozens of draws in a
/// run. One that misses by its shares alone is drawn again, twice as large; the new draw is judged by itself, and is the
/// verdict.
async fn count(loads: &[(&Who, Load)], moment: Moment, wrong: &mut Vec<String>) {
    for (who, load) in loads {
        let (expected, wanted, when) = match moment {
            Moment::Before => (who.before, around(who), "before the file"),
            Moment::During => (who.during, who.answers, "with the file"),
            Moment::After => (who.before, around(who), "after the file"),
        };
        let first = draw(load, wanted).await;
        no_failure(&first, who, when, wrong);
        let mut verdict = judge(&first.classes, expected);
        if !verdict.is_empty() && verdict.iter().all(|miss| matches!(miss, Miss::Share(_))) {
            eprintln!("{}, {when}: {}; drawn again", who.name, texts(&verdict).join(", "));
            let second = draw(load, wanted * 2).await;
            no_failure(&second, who, when, wrong);
            verdict = judge(&second.classes, expected);
        }
        wrong.extend(texts(&verdict).into_iter().map(|text| format!("{}, {when}: {text}", who.name)));
    }
}

async fn draw(load: &Load, wanted: u64) -> Report {
    load.take();
    load.more(wanted).await;
    load.take()
}

/// Two seconds' worth of a slow load is enough.
fn around(who: &Who) -> u64 {
    AROUND.min(u64::from(who.rate) * 2)
}

fn no_failure(report: &Report, who: &Who, when: &str, wrong: &mut Vec<String>) {
    if report.failed > 0 {
        let first = report.failures.first().map(|(_, text)| text.as_str()).unwrap_or_default();
        wrong.push(format!("{}, {when}: {} of {} failed: {first}", who.name, report.failed, report.total()));
    }
}

/// One thing that is wrong with some counts.
#[derive(Debug)]
enum Miss {
    /// A share lies outside of its standard deviations, which a right one seldom does too.
    Share(String),
    /// Anything else, which no chance explains.
    Certain(String),
}

fn texts(misses: &[Miss]) -> Vec<&str> {
    misses
        .iter()
        .map(|miss| match miss {
            Miss::Share(text) | Miss::Certain(text) => text.as_str(),
        })
        .collect()
}

/// What is wrong with these counts.
fn judge(classes: &BTreeMap<String, u64>, expected: &[Expect]) -> Vec<Miss> {
    let total: u64 = classes.values().sum();
    let mut wrong = Vec::new();
    for (class, count) in classes {
        if !expected.iter().any(|expect| expect.class == class) {
            wrong.push(Miss::Certain(format!("{count} of {total} answers are `{class}`, none expected")));
        }
    }
    for Expect { class, share } in expected {
        let count = classes.get(*class).copied().unwrap_or(0);
        let (least, most) = match share {
            Share::All => (total.max(1), total),
            Share::Some => (1, total),
            Share::About(share) => bounds(*share, total),
        };
        if !(least..=most).contains(&count) {
            let text = format!("{count} of {total} answers are `{class}`, expected {least} to {most}");
            wrong.push(match share {
                Share::About(_) if count > 0 => Miss::Share(text),
                _ => Miss::Certain(text),
            });
        }
    }
    wrong
}

/// The least and most of `total` draws that hit with probability `share`.
fn bounds(share: f64, total: u64) -> (u64, u64) {
    let n = total as f64;
    let reach = DEVIATIONS * (n * share * (1.0 - share)).sqrt();
    ((n * share - reach).ceil().max(0.0) as u64, (n * share + reach).floor() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.as_bytes().to_vec().into(), headers: BTreeMap::new() }
    }

    #[test]
    fn answers_are_told_apart_by_version_and_stars() {
        let stars = r#"{"podname":"reviews-v3-ab-0","reviews":[{"rating":{"stars":5,"color":"red"}}]}"#;
        let missing = r#"{"podname":"reviews-v2-ab-0","reviews":[{"rating":{"error":"x"}}]}"#;
        let plain = r#"{"podname":"reviews-v1-ab-0","reviews":[{"text":"x"}]}"#;
        assert_eq!(class(&answer(200, stars)), "v3 red");
        assert_eq!(class(&answer(200, missing)), "v2 no ratings");
        assert_eq!(class(&answer(200, plain)), "v1");
        assert_eq!(class(&answer(555, "{}")), "555");
    }

    #[test]
    fn counts_are_held_to_what_is_expected_and_nothing_else() {
        let seen = |pairs: &[(&str, u64)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        let weights = [
            Expect { class: "v1", share: Share::About(0.9) },
            Expect { class: "v2 black", share: Share::About(0.1) },
        ];
        assert!(judge(&seen(&[("v1", 1_800), ("v2 black", 200)]), &weights).is_empty());
        assert_eq!(judge(&seen(&[("v1", 1_750), ("v2 black", 250)]), &weights).len(), 2);
        assert_eq!(judge(&seen(&[("v1", 1_800), ("v2 black", 199), ("503", 1)]), &weights).len(), 1);
        let all = [Expect { class: "v1", share: Share::All }];
        assert_eq!(judge(&seen(&[]), &all).len(), 1, "no answers show nothing");
    }
}
