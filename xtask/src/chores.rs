//! The chores that build and run parts of this workspace.

use crate::shell::{self, Done, Failure, at, cargo, run};
use crate::{setup, tools};
use clap::ValueEnum;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Benchmarks: each is a binary of `crates/testkit`, built for release. To add one: a variant here, named as
/// its binary without the `bench-` in front.
#[derive(Clone, Copy, ValueEnum)]
pub enum Bench {
    /// Our proxy under a thousand changes of configuration a second (`bench-fire`).
    Fire,
    /// Time and memory of a local mesh of 100 pods (`bench-local`).
    Local,
    /// Our L7 proxy and stock Envoy, side by side (`bench-proxy`).
    Proxy,
    /// Our L7 proxy under mixed traffic and changing configuration, for half an hour (`bench-soak`).
    Soak,
    /// Time per change and size of the read index of a large mesh (`bench-translate`).
    Translate,
}

/// Set-up, binaries that tests start, every test.
pub fn test(args: &[String]) -> Done {
    setup::everything()?;
    build_programs()?;
    for package in packages_with_doctests()? {
        run(cargo().args(["test", "--quiet", "--doc", "--package", &package]))?;
    }
    let mut nextest = cargo();
    nextest.args(["nextest", "run", "--workspace"]).args(args);
    run(environment(&mut nextest, setup::nextest()?)?)
}

/// Build, `ostro SUBCOMMAND`; set-up before, if an option asks for stock Envoys.
pub fn ostro(subcommand: &str, args: &[String]) -> Done {
    if args.iter().any(|arg| arg == "envoy" || arg == "--proxy=envoy") {
        setup::mesh()?;
    }
    build_programs()?;
    run(environment(Command::new(program("ostro")).arg(subcommand).args(args), None)?)
}

/// Foreign cases, by `crates/testkit`'s `ostro-conformance`.
pub fn conformance(proxy: Option<&str>, dir: &Path, folders: &[String]) -> Done {
    if !dir.is_dir() {
        return Err(Failure::new(format!("{} is not a directory of cases", dir.display())));
    }
    setup::everything()?;
    build_programs()?;
    run(cargo().args(["build", "--package", "ostro-testkit", "--bin", "ostro-conformance"]))?;
    let mut command = Command::new(program("ostro-conformance"));
    if let Some(proxy) = proxy {
        command.args(["--proxy", proxy]);
    }
    run(environment(command.arg(dir).args(folders), None)?)
}

/// A benchmark of `crates/testkit`, in the release profile.
pub fn bench(name: Bench, args: &[String]) -> Done {
    let mut command = cargo();
    let binary = match name {
        Bench::Fire => {
            build_proxy()?;
            command.env("OSTRO_PROXY", shell::target().join("release/ostro-proxy"));
            "bench-fire"
        }
        Bench::Local => {
            setup::mesh()?;
            run(cargo().args([
                "build",
                "--release",
                "--package",
                "ostro",
                "--package",
                "ostro-samples",
                "--bins",
            ]))?;
            "bench-local"
        }
        Bench::Proxy => {
            setup::mesh()?;
            build_proxy()?;
            "bench-proxy"
        }
        Bench::Soak => {
            build_proxy()?;
            "bench-soak"
        }
        Bench::Translate => "bench-translate",
    };
    command.args(["run", "--release", "--package", "ostro-testkit", "--bin", binary, "--"]).args(args);
    run(environment(&mut command, None)?)
}

/// Our L7 proxy, in the release profile.
fn build_proxy() -> Done {
    run(cargo().args(["build", "--release", "--package", "ostro-proxy", "--bins"]))
}

/// Formatting and lints.
pub fn lint() -> Done {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// Dependencies. The advisory database is a git repository that closed networks do not reach and that no
/// package registry carries, so it is asked for only where a clone of it succeeds.
pub fn deny() -> Done {
    let path = setup::deny()?;
    let mut checks = vec!["bans", "licenses", "sources"];
    let mut fetch = cargo();
    fetch.args(["deny", "fetch", "db"]).stdin(std::process::Stdio::null());
    if shell::succeeds(environment(&mut fetch, path.clone())?) {
        checks.push("advisories");
    } else {
        eprintln!("xtask: advisories are not checked: their database cannot be fetched from here");
    }
    let mut command = cargo();
    command.args(["deny", "--all-features", "check", "--hide-inclusion-graph"]).args(checks);
    run(environment(&mut command, path)?)
}

/// The programs that tests and demo start as processes of their own.
fn build_programs() -> Done {
    let packages = ["ostro", "ostro-samples", "ostro-proxy"].map(|name| ["--package", name]);
    run(cargo().arg("build").args(packages.as_flattened()).arg("--bins"))
}

/// A program of this workspace as `cargo build` leaves it.
fn program(name: &str) -> PathBuf {
    shell::target().join("debug").join(name)
}

/// What the programs are told about this checkout: where its Envoy is, and a PATH with our tools in front.
fn environment(command: &mut Command, tools_dir: Option<PathBuf>) -> Done<&mut Command> {
    command.env("OSTRO_ENVOY", tools::ENVOY.path());
    if let Some(dir) = tools_dir {
        let old = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(dir).chain(std::env::split_paths(&old));
        let path = std::env::join_paths(dirs).map_err(|error| Failure::new(format!("PATH: {error}")))?;
        command.env("PATH", path);
    }
    Ok(command)
}

/// Packages whose sources hold a fenced example in a doc comment. nextest does not run those, and
/// `cargo test --doc` is slow where there is nothing to run.
fn packages_with_doctests() -> Done<Vec<String>> {
    let crates = shell::root().join("crates");
    let mut found = Vec::new();
    for entry in at(&crates, fs::read_dir(&crates))? {
        let dir = at(&crates, entry)?;
        if dir.path().join("src/lib.rs").is_file() && has_doctest(&dir.path().join("src"))? {
            found.push(format!("ostro-{}", dir.file_name().to_string_lossy()));
        }
    }
    found.sort();
    Ok(found)
}

fn has_doctest(dir: &Path) -> Done<bool> {
    for entry in at(dir, fs::read_dir(dir))? {
        let path = at(dir, entry)?.path();
        let here = match path.is_dir() {
            true => has_doctest(&path)?,
            false => holds_doctest(&at(&path, fs::read_to_string(&path))?),
        };
        if here {
            return Ok(true);
        }
    }
    Ok(false)
}

/// True if a doc comment opens a fence that rustdoc would run.
fn holds_doctest(source: &str) -> bool {
    let mut open = false;
    for line in source.lines().map(str::trim_start) {
        let doc = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        let Some(language) = doc.and_then(|doc| doc.trim().strip_prefix("```")) else { continue };
        if !open && ["", "rust", "no_run", "should_panic"].contains(&language) {
            return true;
        }
        open = !open;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::holds_doctest;

    #[test]
    fn only_fences_that_open_rust_are_examples() {
        assert!(holds_doctest("/// ```\n/// f();\n/// ```\nfn f() {}"));
        assert!(holds_doctest("//! ```text\n//! x\n//! ```\n//! ```rust\n//! ```"));
        assert!(!holds_doctest("/// ```text\n/// f();\n/// ```\nfn f() {}"));
        assert!(!holds_doctest("let fence = \"```\";"));
    }
}
