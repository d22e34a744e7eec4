//! `ostro capture`: the rules that turn a pod's traffic to its proxy, where Istio's init container would set them.

mod flags;

use super::Outcome;
use super::common::print;
use clap::{Subcommand, ValueEnum};
use flags::{Flags, Surroundings};
use ostro_capture::rules::{Family, Ruleset};
use ostro_capture::{Backend, Plan, iptables, nft_text, routing};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

/// What Istio's validation ends with, by which its repair controller knows it.
const NOT_CAPTURED: u8 = 126;

/// Options of `ostro capture`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  ostro capture apply -b '*' -d 15090,15021,15020 -i '*'   what a sidecar needs
  ostro capture plan -b '*' -i 10.0.0.0/8                  the same kind of rules, only shown
  ostro capture check -b '*' -i '*'                        exit status 1 if they are not in force
  ostro capture remove")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    // As with Istio's program, of a flag given twice the last one counts.
    /// Shows the rules and changes nothing.
    #[command(args_override_self = true)]
    Plan(Rules),
    /// Brings the rules into force, in place of those of an earlier call. Doing it twice is doing it once.
    #[command(args_override_self = true)]
    Apply(Apply),
    /// Takes the rules away.
    Remove(Remove),
    /// Says whether the rules in force are these, and what differs. Exit status 1 if something does.
    #[command(args_override_self = true)]
    Check(Rules),
}

#[derive(clap::Args, Debug)]
struct Rules {
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    how: How,
}

#[derive(clap::Args, Debug)]
struct How {
    /// Who is told the rules.
    #[arg(long, value_enum, default_value_t = By::Nft, value_name = "WHO")]
    backend: By,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Options of `ostro capture apply`, and of Istio's `istio-iptables`.
#[derive(clap::Args, Debug)]
pub struct Apply {
    #[command(flatten)]
    rules: Rules,
    /// Only show them (as `plan`).
    #[arg(short = 'n', long, env = "DRY_RUN", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL")]
    dry_run: bool,
    /// Change nothing; with --run-validation: only check.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL")]
    skip_rule_apply: bool,
    /// Check afterwards; exit status 126 if the rules are not in force.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL")]
    run_validation: bool,
    /// Take the rules away instead (as `remove`).
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL")]
    cleanup_only: bool,
}

#[derive(clap::Args, Debug)]
struct Remove {
    #[command(flatten)]
    how: How,
    /// The network namespace to act on [default: this one].
    #[arg(long, env = "NETWORK_NAMESPACE", value_name = "FILE")]
    network_namespace: Option<std::path::PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// The kernel itself: no program is needed.
    Nft,
    /// `iptables-restore` and `ip6tables-restore`.
    Iptables,
}

impl From<By> for Backend {
    fn from(by: By) -> Backend {
        match by {
            By::Nft => Backend::Nft,
            By::Iptables => Backend::Iptables,
        }
    }
}

impl Args {
    /// Does what was asked for.
    pub fn run(self) -> Outcome {
        match self.action {
            Action::Plan(rules) => {
                let (backend, json) = (rules.how.backend, rules.how.json);
                let plan = rules.enter_and_plan()?;
                show(&plan, backend, json)
            }
            Action::Apply(apply) => apply.run(),
            Action::Remove(remove) => {
                enter(remove.network_namespace.as_deref())?;
                take_away(&remove.how)
            }
            Action::Check(rules) => {
                let (backend, json) = (rules.how.backend, rules.how.json);
                let plan = rules.enter_and_plan()?;
                check(&plan, backend, json, ExitCode::FAILURE)
            }
        }
    }
}

impl Apply {
    /// Brings the rules into force, or what else was asked for.
    pub fn run(self) -> Outcome {
        let (backend, json) = (self.rules.how.backend, self.rules.how.json);
        if self.cleanup_only {
            enter(self.rules.flags.network_namespace.as_deref())?;
            return take_away(&self.rules.how);
        }
        let plan = self.rules.enter_and_plan()?;
        if self.dry_run {
            return show(&plan, backend, json);
        }
        if !self.skip_rule_apply {
            ostro_capture::apply_by(backend.into(), &plan)?;
        }
        if self.run_validation {
            return check(&plan, backend, json, ExitCode::from(NOT_CAPTURED));
        }
        let done = if self.skip_rule_apply { "nothing was changed" } else { "in force" };
        let text = match json {
            true => format!("{:#}\n", json!({"applied": !self.skip_rule_apply, "rules": count(&plan.rules)})),
            false => format!("{} rules: {done}\n", count(&plan.rules)),
        };
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Rules {
    /// The plan, from within the namespace that it is for.
    fn enter_and_plan(self) -> Result<Plan, Box<dyn Error + Send + Sync>> {
        enter(self.flags.network_namespace.as_deref())?;
        // What cannot be read names nobody.
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let here = Surroundings {
            users: read("/etc/passwd"),
            groups: read("/etc/group"),
            resolvers: read("/etc/resolv.conf"),
            ipv6: routing::has_ipv6()?,
        };
        let (config, notes) = self.flags.config(&here)?;
        notes.iter().for_each(|note| eprintln!("ostro: {note}"));
        Ok(Plan::new(&config)?)
    }
}

/// Moves this thread, the only one, into a network namespace.
fn enter(namespace: Option<&Path>) -> Result<(), Box<dyn Error + Send + Sync>> {
    if let Some(path) = namespace {
        let at = |error: std::io::Error| {
            format!(
                "cannot enter network namespace {}: {error} (a file such as /var/run/netns/NAME or /proc/PID/ns/net)",
                path.display()
            )
        };
        let file = fs::File::open(path).map_err(at)?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|e| at(e.into()))?;
    }
    Ok(())
}

fn show(plan: &Plan, backend: By, json: bool) -> Outcome {
    let text = match (json, backend) {
        (true, _) => format!("{:#}\n", as_json(plan)),
        (false, By::Nft) => nft_text::script(&plan.rules) + &beside(plan),
        (false, By::Iptables) => {
            let [v4, v6] = [Family::V4, Family::V6].map(|family| iptables::restore(&plan.rules, family));
            let head = |program: &str, text: &str| match text.is_empty() {
                true => String::new(),
                false => format!("# {program} --noflush\n{text}"),
            };
            head("iptables-restore", &v4) + &head("ip6tables-restore", &v6) + &beside(plan)
        }
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What a plan needs beside rules, as remarks.
fn beside(plan: &Plan) -> String {
    let mut text = String::new();
    if let Some(routing) = &plan.routing {
        for family in ["-4", "-6"].iter().take(if routing.ipv6 { 2 } else { 1 }) {
            text += &format!("# ip {family} rule add fwmark {} lookup {}\n", routing.mark, routing.table);
            text += &format!("# ip {family} route add local default dev lo table {}\n", routing.table);
        }
    }
    if plan.inbound_source_v6 {
        text += "# ip -6 addr add ::6/128 dev lo\n";
    }
    text
}

fn count(rules: &Ruleset) -> usize {
    rules.tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum()
}

fn as_json(plan: &Plan) -> Value {
    json!({
        "ipv6": plan.rules.ipv6,
        "nft": nft_text::script(&plan.rules),
        "iptables": iptables::restore(&plan.rules, Family::V4),
        "ip6tables": iptables::restore(&plan.rules, Family::V6),
        "routing": plan.routing.map(|r| json!({"mark": r.mark, "table": r.table, "ipv6": r.ipv6})),
        "loopbackAddress": plan.inbound_source_v6.then_some("::6"),
        "rules": count(&plan.rules),
    })
}

fn take_away(how: &How) -> Outcome {
    ostro_capture::remove_by(how.backend.into())?;
    print(&match how.json {
        true => format!("{:#}\n", json!({"removed": true})),
        false => "no capture rules are left\n".to_owned(),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn check(plan: &Plan, backend: By, json: bool, otherwise: ExitCode) -> Outcome {
    let found = ostro_capture::differences_by(backend.into(), plan)?;
    let text = match json {
        true => format!("{:#}\n", json!({"inForce": found.is_empty(), "differences": found})),
        false if found.is_empty() => format!("{} rules: in force\n", count(&plan.rules)),
        false => {
            let lines: Vec<String> = found.iter().map(|line| format!("  {line}\n")).collect();
            format!(
                "not as planned (`ostro capture apply` with the same options puts it right):\n{}",
                lines.concat()
            )
        }
    };
    print(&text)?;
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { otherwise })
}
