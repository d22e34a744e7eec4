//! How long, and what.

use std::path::PathBuf;
use std::time::Duration;

use ostro_testkit::envoy;

/// From the command line.
pub struct Options {
    /// How long.
    pub lasts: Duration,
    /// Our proxy.
    pub proxy: PathBuf,
    /// Where the results go too.
    pub json: Option<PathBuf>,
}

impl Options {
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            lasts: Duration::from_secs(30 * 60),
            proxy: envoy::workspace().join("target/release/ostro-proxy"),
            json: None,
        };
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{name} wants a value"));
            match name.as_str() {
                "--minutes" => {
                    let minutes: f64 = value()?.parse().map_err(|error| format!("--minutes: {error}"))?;
                    let lasts = Duration::try_from_secs_f64(minutes * 60.0);
                    options.lasts = lasts.map_err(|error| format!("--minutes: {error}"))?;
                }
                "--proxy" => options.proxy = value()?.into(),
                "--json" => options.json = Some(value()?.into()),
                other => return Err(format!("{other}: there are --minutes N, --proxy PATH and --json FILE")),
            }
        }
        Ok(options)
    }
}
