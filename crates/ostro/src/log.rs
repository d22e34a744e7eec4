//! Log set-up, the same for every subcommand: to standard error, so that standard output stays the
//! command's own; where a screen fills the terminal, onto that.

use clap::{Args, ValueEnum};
use ostro_local::view::log::Sink;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// Options of every subcommand.
#[derive(Args, Debug)]
pub struct LogArgs {
    /// What to log: a level, or `target=level` pairs (`info,ostro_discovery=debug`).
    #[arg(long = "log", global = true, value_name = "FILTER", env = "OSTRO_LOG")]
    filter: Option<String>,
    /// How a log line looks.
    #[arg(long = "log-format", global = true, value_name = "FORMAT", default_value = "text")]
    format: LogFormat,
}

/// Installs the process-wide subscriber. A filter that cannot be read is named and replaced by the
/// default: a typing error in a log option must not keep a control plane down.
///
/// `usual` is what is logged when neither `--log` nor `OSTRO_LOG` says otherwise.
pub fn init(args: &LogArgs, usual: &str) {
    let wanted = args.filter.as_deref().unwrap_or(usual);
    let (filter, complaint) = match EnvFilter::try_new(wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(usual), Some(error)),
    };
    let colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(|| Sink);
    match args.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    if let Some(error) = complaint {
        tracing::warn!(filter = wanted, %error, "log filter not understood, using `{usual}`");
    }
}
