//! The steps: a file that is written, and what the answers must be like then.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::EFFECT_MAX;
use super::judge::Share;
use super::traffic::{Answer, Ask, Client};

const REVIEWS: Ask = Ask { path: "/api/v1/products/0/reviews", host: "bookinfo.example", user: None };
const JASON: Ask = Ask { user: Some("jason"), ..REVIEWS };
const FLAKY: Ask = Ask { path: "/unstable?failure_rate=0.3", host: "flaky.example", user: None };

/// Answers looked at, at a time, while a step takes effect.
const PROBES: usize = 16;
/// Of the 0.5 s that ratings-delay.yaml asks for, what must at least be seen: a timer of Envoy counts from the time that its
/// event loop read last, and may end some milliseconds early.
const DELAY: Duration = Duration::from_millis(450);
/// Chance that six attempts in a row fail, each three times in ten.
const SIX_FAILURES: f64 = 0.3 * 0.3 * 0.3 * 0.3 * 0.3 * 0.3;

/// A kind of answer.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Version(&'static str),
    Stars,
    NoStars,
    Failed,
    Slow,
}

impl Kind {
    fn matches(self, answer: &Answer) -> bool {
        match self {
            Kind::Version(version) => answer.is_ok() && answer.reviews_version() == Some(version),
            Kind::Stars => answer.is_ok() && answer.has_stars(),
            Kind::NoStars => answer.is_ok() && !answer.has_stars(),
            Kind::Failed => !answer.is_ok(),
            Kind::Slow => answer.is_ok() && answer.took >= DELAY,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Version(version) => version,
            Kind::Stars => "with stars",
            Kind::NoStars => "without stars",
            Kind::Failed => "failed",
            Kind::Slow => "0.45 s or slower",
        }
    }
}

/// One thing that must hold: of `count` answers to `ask`, how many are of which kind.
#[derive(Clone, Debug)]
struct Claim {
    who: &'static str,
    ask: Ask,
    count: usize,
    shares: Vec<(Kind, Share)>,
}

/// A file, and what must hold once it is in force.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it shows.
    title: &'static str,
    /// Name to write the file under; a later step replaces an earlier one's.
    pub file: &'static str,
    /// Its content.
    pub text: &'static str,
    claims: Vec<Claim>,
    /// What shows that it is in force: some answer of this kind, to this question.
    effect: (Ask, Kind, Seen),
}

/// When an effect counts as seen, in a handful of answers.
#[derive(Clone, Copy, Debug)]
enum Seen {
    InAny,
    InAll,
    NotInAll,
    InNone,
}

/// How one claim of a step came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the step shows.
    pub title: &'static str,
    /// From writing the file to seeing its effect; `None` if that was not seen in time.
    pub effect: Option<Duration>,
    /// Each claim: what was asked, wanted and got, and whether it held.
    pub lines: Vec<Line>,
}

/// One count.
#[derive(Clone, Debug)]
pub struct Line {
    /// Whose requests.
    pub who: &'static str,
    /// How many requests.
    pub count: usize,
    /// What was counted, and how much of it was wanted.
    pub wanted: String,
    /// How many there were.
    pub got: String,
    /// It is as it should be.
    pub held: bool,
    by_chance: bool,
}

impl Outcome {
    /// It took effect, and everything is as it should be.
    pub fn held(&self) -> bool {
        self.effect.is_some() && self.lines.iter().all(|line| line.held)
    }

    /// For scripts: `{"step", "held", "seenAfterMs", "claims": [{"whose", "asked", "wanted", "got", "held"}]}`.
    pub fn as_json(&self) -> Value {
        let claim = |line: &Line| {
            json!({
                "whose": line.who, "asked": line.count, "wanted": line.wanted, "got": line.got, "held": line.held,
            })
        };
        json!({
            "step": self.title,
            "held": self.held(),
            "seenAfterMs": self.effect.map(|effect| u64::try_from(effect.as_millis()).unwrap_or(u64::MAX)),
            "claims": self.lines.iter().map(claim).collect::<Vec<_>>(),
        })
    }
}

impl Step {
    /// Waits for the effect, then counts.
    pub async fn judge(&self, client: &Client) -> Outcome {
        let effect = self.wait(client).await;
        let mut lines = Vec::new();
        for claim in &self.claims {
            lines.extend(claim.count(client).await);
        }
        Outcome { title: self.title, effect, lines }
    }

    async fn wait(&self, client: &Client) -> Option<Duration> {
        let (ask, kind, seen) = self.effect;
        let begun = Instant::now();
        while begun.elapsed() < EFFECT_MAX {
            let answers = client.ask(ask, PROBES).await;
            let found = answers.iter().filter(|answer| kind.matches(answer)).count();
            let there = match seen {
                Seen::InAny => found > 0,
                Seen::InAll => found == answers.len(),
                Seen::NotInAll => found < answers.len(),
                Seen::InNone => found == 0,
            };
            if there {
                return Some(begun.elapsed());
            }
        }
        None
    }
}

impl Claim {
    /// Counts. A share drawn by chance misses its bounds once in 370 times though all is well, so it gets a
    /// second draw; what is wrong misses again.
    async fn count(&self, client: &Client) -> Vec<Line> {
        let lines = self.draw(client).await;
        let by_chance = self.shares.iter().any(|(_, share)| matches!(share, Share::About(_)));
        if by_chance && lines.iter().any(|line| !line.held) {
            let mut again = self.draw(client).await;
            for (new, old) in again.iter_mut().zip(&lines) {
                new.got = format!("{}, {}", old.got, new.got);
                // Chance excuses only what is drawn by chance.
                new.held &= old.held || new.by_chance;
            }
            return again;
        }
        lines
    }

    async fn draw(&self, client: &Client) -> Vec<Line> {
        let answers = client.ask(self.ask, self.count).await;
        self.shares.iter().map(|(kind, share)| line(self, *kind, *share, &answers)).collect()
    }
}

fn line(claim: &Claim, kind: Kind, share: Share, answers: &[Answer]) -> Line {
    let found = answers.iter().filter(|answer| kind.matches(answer)).count();
    let (least, most) = share.bounds(answers.len());
    let range = if least == most { least.to_string() } else { format!("{least} to {most}") };
    Line {
        who: claim.who,
        count: answers.len(),
        wanted: format!("{}: {share} ({range})", kind.name()),
        got: found.to_string(),
        held: share.holds(found, answers.len()),
        by_chance: matches!(share, Share::About(_)),
    }
}

fn claim(who: &'static str, ask: Ask, count: usize, shares: &[(Kind, Share)]) -> Claim {
    Claim { who, ask, count, shares: shares.to_vec() }
}

/// The walk.
pub fn all() -> Vec<Step> {
    let mut steps = routing();
    steps.extend(disturbance());
    steps
}

fn routing() -> Vec<Step> {
    let everybody = "everybody";
    vec![
        Step {
            title: "all to v1",
            file: "reviews-route.yaml",
            text: include_str!("../../../../samples/demo/reviews-v1.yaml"),
            claims: vec![claim(everybody, REVIEWS, 300, &[(Kind::Version("v1"), Share::All)])],
            effect: (REVIEWS, Kind::Version("v1"), Seen::InAll),
        },
        Step {
            title: "90/10 to v1 and v3",
            file: "reviews-route.yaml",
            text: include_str!("../../../../samples/demo/reviews-90-10.yaml"),
            claims: vec![claim(
                everybody,
                REVIEWS,
                2_000,
                &[
                    (Kind::Version("v3"), Share::About(0.1)),
                    (Kind::Version("v2"), Share::None),
                    (Kind::Failed, Share::None),
                ],
            )],
            effect: (REVIEWS, Kind::Version("v3"), Seen::InAny),
        },
        Step {
            title: "v2 for jason, by header",
            file: "reviews-route.yaml",
            text: include_str!("../../../../samples/demo/reviews-by-user.yaml"),
            claims: vec![
                claim("jason", JASON, 300, &[(Kind::Version("v2"), Share::All)]),
                claim("anybody else", REVIEWS, 300, &[(Kind::Version("v1"), Share::All)]),
            ],
            effect: (JASON, Kind::Version("v2"), Seen::InAll),
        },
    ]
}

fn disturbance() -> Vec<Step> {
    vec![
        Step {
            title: "all to v2, which asks ratings",
            file: "reviews-route.yaml",
            text: include_str!("../../../../samples/demo/reviews-v2.yaml"),
            claims: vec![claim("everybody", REVIEWS, 300, &[(Kind::Stars, Share::All)])],
            effect: (REVIEWS, Kind::Version("v2"), Seen::InAll),
        },
        Step {
            title: "fault: ratings abort 30 %",
            file: "ratings-route.yaml",
            text: include_str!("../../../../samples/demo/ratings-abort.yaml"),
            claims: vec![claim(
                "everybody",
                REVIEWS,
                1_000,
                &[(Kind::NoStars, Share::About(0.3)), (Kind::Failed, Share::None)],
            )],
            effect: (REVIEWS, Kind::NoStars, Seen::InAny),
        },
        Step {
            title: "fault: ratings delay 0.5 s for jason",
            file: "ratings-route.yaml",
            text: include_str!("../../../../samples/demo/ratings-delay.yaml"),
            claims: vec![
                claim("jason", JASON, 100, &[(Kind::Slow, Share::All), (Kind::Stars, Share::All)]),
                claim("anybody else", REVIEWS, 300, &[(Kind::Slow, Share::None), (Kind::Stars, Share::All)]),
            ],
            effect: (JASON, Kind::Slow, Seen::InAll),
        },
        Step {
            title: "flaky service, one attempt",
            file: "flaky-route.yaml",
            text: include_str!("../../../../samples/demo/flaky-once.yaml"),
            claims: vec![claim("everybody", FLAKY, 1_000, &[(Kind::Failed, Share::About(0.3))])],
            // Before there is a route every request fails.
            effect: (FLAKY, Kind::Failed, Seen::NotInAll),
        },
        Step {
            title: "flaky service, up to six attempts",
            file: "flaky-route.yaml",
            text: include_str!("../../../../samples/demo/flaky-retried.yaml"),
            claims: vec![claim("everybody", FLAKY, 1_000, &[(Kind::Failed, Share::About(SIX_FAILURES))])],
            effect: (FLAKY, Kind::Failed, Seen::InNone),
        },
    ]
}
