//! `ostro proxy`: the L7 data plane, as a program that stands where `envoy` does.
//!
//! Whatever follows the subcommand's name is read as `ostro-proxy` reads it, which is as Envoy does: so none of the
//! options that other subcommands share (`--log`, `--log-format`) is one of its own, and it sets up its own log.

use super::Outcome;
use clap::{CommandFactory as _, FromArgMatches as _};
use ostro_proxy::Options;
use std::ffi::OsString;

/// How the command is called.
const EXAMPLES: &str = "\
Examples:
  ostro proxy -c envoy.json
  ostro proxy -c envoy.json --mode validate
  ostro proxy -c envoy.json --concurrency 2 --drain-time-s 45 -l warning";

/// The subcommand's name.
pub const NAME: &str = "proxy";

/// Options of `ostro proxy`, as they were typed.
#[derive(clap::Args, Debug)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub struct Args {
    /// Options of Envoy; `ostro proxy --help` lists them.
    #[arg(value_name = "OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<OsString>,
}

impl Args {
    /// What the command line says, if it is of this subcommand.
    pub fn of(args: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut args = args.into_iter().skip(1);
        (args.next()? == NAME).then(|| Self { options: args.collect() })
    }

    /// Runs the proxy to its end.
    pub fn run(self) -> Outcome {
        let command = Options::command().bin_name(format!("ostro {NAME}")).after_help(EXAMPLES);
        let matches = command.get_matches_from(std::iter::once(NAME.into()).chain(self.options));
        let options = Options::from_arg_matches(&matches)?;
        Ok(ostro_proxy::run(options))
    }
}
