//! What is measured.

use std::path::PathBuf;
use std::time::Duration;

use ostro_testkit::envoy;

/// From the command line.
pub struct Options {
    /// How often everything is measured.
    pub rounds: usize,
    /// How long each load lasts.
    pub load: Duration,
    /// Whether only what the ratios need is measured.
    pub quick: bool,
    /// Where the results go too.
    pub json: Option<PathBuf>,
    /// Our proxy.
    pub proxy: PathBuf,
    /// What is measured; all of it, if empty.
    pub only: Vec<Part>,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Requests as fast as they are answered, and memory under them.
    Load,
    /// Requests at a steady pace.
    Latency,
    /// A connection for each request.
    Connections,
    /// Memory and time until ready with many services.
    Services,
}

impl Options {
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            rounds: 5,
            load: Duration::from_secs(3),
            quick: false,
            json: None,
            proxy: envoy::workspace().join("target/release/ostro-proxy"),
            only: Vec::new(),
        };
        let mut rounds = None;
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{name} wants a value"));
            match name.as_str() {
                "--quick" => options.quick = true,
                "--rounds" => rounds = Some(number(&value()?)?),
                "--json" => options.json = Some(value()?.into()),
                "--proxy" => options.proxy = value()?.into(),
                "--only" => options.only.push(part(&value()?)?),
                other => {
                    return Err(format!(
                        "{other}: there are --quick, --rounds N, --json FILE, --proxy PATH and --only PART (load, latency, \
                         connections, services)"
                    ));
                }
            }
        }
        if options.quick {
            options.rounds = 3;
            options.load = Duration::from_millis(1_200);
        }
        options.rounds = rounds.unwrap_or(options.rounds);
        Ok(options)
    }

    /// Whether a part is measured.
    pub fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or(format!("{text} is no number from 1 on"))
}

fn part(text: &str) -> Result<Part, String> {
    match text {
        "load" => Ok(Part::Load),
        "latency" => Ok(Part::Latency),
        "connections" => Ok(Part::Connections),
        "services" => Ok(Part::Services),
        other => Err(format!("{other} is no part of the benchmark")),
    }
}
