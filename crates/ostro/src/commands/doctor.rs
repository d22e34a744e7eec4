//! `ostro doctor`: what this machine lacks for a mesh, and how to mend it.

use super::Outcome;
use super::values::{address, data_plane};
use ostro_agent::DataPlane;
use ostro_local::doctor::{self, Finding, Verdict, Wants};
use ostro_local::meshes::{DEFAULT_NAME, MeshName, Meshes};
use ostro_local::tools::Tools;
use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `ostro doctor`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Exit status 1 if no mesh would come up.

Examples:
  ostro doctor
  ostro doctor --json --ingress 9090")]
pub struct Args {
    /// What is to be checked for: the address of the ingress gateway.
    #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = "127.0.0.1:8080")]
    ingress: SocketAddr,
    /// The address of the control plane's pages.
    #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = "127.0.0.1:15014")]
    control_http: SocketAddr,
    /// What proxies are to be.
    #[arg(long, value_name = "PROXY", value_parser = data_plane(), default_value = DataPlane::default().as_str())]
    proxy: DataPlane,
    /// Stock Envoy [default: OSTRO_ENVOY, else the one `cargo xtask setup` installs, else in PATH].
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
    /// Where the mesh would keep its state.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Print one JSON object (docs/local.md says what is in it).
    #[arg(long)]
    json: bool,
    /// Tries what a child of the doctor tries, and says what came of it.
    #[arg(long = "try", hide = true)]
    child: bool,
}

impl Args {
    /// Prints what was found; exit status 1 if no mesh would come up.
    pub fn run(self) -> Outcome {
        if self.child {
            doctor::attempt()?;
            return Ok(ExitCode::SUCCESS);
        }
        let ports = vec![("ingress", self.ingress), ("control-http", self.control_http)];
        let findings = doctor::examine(&wants((self.proxy, self.envoy), self.state_dir, ports)?);
        let able = doctor::missing(&findings).next().is_none();
        let printed = match self.json {
            true => writeln!(io::stdout(), "{:#}", serde_json::json!({"able": able, "findings": findings})),
            false => write!(io::stdout(), "{}{}", doctor::render(&findings), conclusion(&findings)),
        };
        match printed {
            // Whoever reads has seen enough: the exit status still tells.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            printed => printed?,
        }
        Ok(if able { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// What a mesh of these options wants of the machine.
pub fn wants(
    (proxy, envoy): (DataPlane, Option<PathBuf>),
    state: Option<PathBuf>,
    ports: Vec<(&'static str, SocketAddr)>,
) -> Result<Wants, Box<dyn Error + Send + Sync>> {
    let ostro = std::env::current_exe()?;
    let programs = ostro.parent().map(PathBuf::from).unwrap_or_default();
    let name: MeshName = DEFAULT_NAME.parse()?;
    let state = state.unwrap_or_else(|| Meshes::of_this_user().dir(&name));
    let find = |envoy| Tools::find(DataPlane::Envoy, envoy).map_err(|error| error.to_string())?.proxies.envoy;
    let is_wanted = proxy == DataPlane::Envoy || envoy.is_some();
    let envoy = is_wanted.then(|| find(envoy));
    Ok(Wants { ostro, envoy, programs, state, ports })
}

/// After a mesh did not come up: says what is missing, if anything is.
pub fn explain(wants: &Wants) {
    let findings = doctor::examine(wants);
    let missing: Vec<&Finding> = doctor::missing(&findings).collect();
    if !missing.is_empty() {
        eprint!("\nWhat `ostro doctor` finds missing:\n\n{}", doctor::render(missing));
    }
}

fn conclusion(findings: &[Finding]) -> String {
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    match (count(Verdict::Missing), count(Verdict::Warning)) {
        (0, 0) => "\neverything a mesh needs is there\n".to_owned(),
        (0, warnings) => format!("\na mesh comes up; {warnings} of the above could be better\n"),
        (missing, _) => format!("\nno mesh comes up: {missing} of the above must be mended first\n"),
    }
}
