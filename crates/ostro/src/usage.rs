//! What is said when the command line itself is wrong: clap's words, then how it is done right.
//!
//! What it is: the examples of the command's own help, shown where somebody needs them, and a tip where clap's would
//! mislead.
//! What it is not: a second parser. Whatever is refused was refused by clap.

use clap::Command;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// Exit status for a command line that is wrong, as clap has it.
const USAGE: u8 = 2;
/// How clap's last sentence begins; ours says more.
const CLAPS_LAST: &str = "For more information, try";
/// How help texts begin their examples.
const EXAMPLES: &str = "Examples:";
/// Commands that take a program to run after `--`.
const WITH_PROGRAM: [&str; 2] = ["run", "exec"];

/// Prints help or version where that was asked for, else what is wrong; the exit status.
pub fn explain(error: &Error, root: Command, args: &[String]) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Whoever reads has seen enough (`| head`): nothing is lost.
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
    }
    let styled = error.render();
    let rendered = match std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        true => styled.ansi().to_string(),
        false => styled.to_string(),
    };
    // Nobody is left to be told that this could not be told.
    let _ = write!(std::io::stderr(), "{}", text(error, &rendered, root, args));
    ExitCode::from(USAGE)
}

fn text(error: &Error, rendered: &str, root: Command, args: &[String]) -> String {
    let said = rendered.find(CLAPS_LAST).and_then(|end| rendered.get(..end)).unwrap_or(rendered);
    let (path, command) = meant(root, args);
    let mut text = format!("{}\n\n", said.trim_end());
    if let Some(tip) = tip(error, &command) {
        text.push_str(&format!("  tip: {tip}\n\n"));
    }
    let needs_examples = matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument | ErrorKind::UnknownArgument | ErrorKind::TooFewValues
    );
    if let Some(examples) = examples(&command).filter(|_| needs_examples) {
        text.push_str(&format!("{examples}\n\n"));
    }
    text.push_str(&format!("For all of it: {path} --help\n"));
    text
}

/// The subcommand that the words lead to, and how it is called.
fn meant(root: Command, args: &[String]) -> (String, Command) {
    let (mut path, mut command) = (root.get_name().to_owned(), root);
    for word in args.iter().skip(1).take_while(|word| *word != "--") {
        if let Some(found) = command.find_subcommand(word).cloned() {
            path = format!("{path} {}", found.get_name());
            command = found;
        }
    }
    (path, command)
}

fn tip(error: &Error, command: &Command) -> Option<&'static str> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return None };
    let is_program = error.kind() == ErrorKind::UnknownArgument && !word.starts_with('-');
    (is_program && WITH_PROGRAM.contains(&command.get_name()))
        .then_some("the program to run, and its arguments, come last, after --")
}

fn examples(command: &Command) -> Option<String> {
    let help = command.get_after_help()?.to_string();
    let from = help.find(EXAMPLES)?;
    Some(help.get(from..)?.split("\n\n").next()?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, value_parser};

    fn root() -> Command {
        let run = Command::new("run")
            .arg(Arg::new("name").long("name").required(true))
            .arg(Arg::new("replicas").long("replicas").value_parser(value_parser!(u32)))
            .arg(Arg::new("command").last(true))
            .after_help("It runs.\n\nExamples:\n  ostro run --name a -- ls\n\nMore.");
        Command::new("ostro").subcommand(run)
    }

    fn said(line: &str) -> String {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let error = root().try_get_matches_from(&args).unwrap_err();
        text(&error, &error.render().to_string(), root(), &args)
    }

    #[test]
    fn what_is_missing_is_shown_by_examples() {
        let said = said("ostro run");
        assert!(said.contains("--name <name>"), "{said}");
        assert!(
            said.ends_with("\n\nExamples:\n  ostro run --name a -- ls\n\nFor all of it: ostro run --help\n"),
            "{said}"
        );
    }

    #[test]
    fn a_program_in_the_wrong_place_gets_a_tip() {
        assert!(said("ostro run --name a ls").contains("tip: the program to run"));
        assert!(!said("ostro run --nam a").contains("tip: the program to run"));
    }

    #[test]
    fn a_wrong_value_needs_no_examples() {
        let said = said("ostro run --name a --replicas x");
        assert!(!said.contains("Examples") && said.ends_with("For all of it: ostro run --help\n"), "{said}");
        assert!(!said.contains(CLAPS_LAST), "{said}");
    }
}
