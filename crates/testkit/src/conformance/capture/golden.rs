//! Golden rules, loaded by the programs they were written for.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::case::Form;

/// What a line begins with that is a command of iproute2.
const IP: &str = "ip ";

/// Whether golden rules say what routing has to know beside them.
pub(super) fn tells_routing(text: &str) -> bool {
    text.lines().any(|line| line.starts_with(IP))
}

/// Loads golden rules in the calling thread's namespace, and runs the `ip` commands among them.
pub(super) fn load(form: Form, text: &str) -> Result<(), String> {
    for command in text.lines().filter_map(|line| line.strip_prefix(IP)) {
        run("ip", &command.split(' ').collect::<Vec<_>>(), "")?;
    }
    match form {
        Form::Nft => run("nft", &["-f", "-"], text),
        Form::Iptables => {
            let [v4, v6] = families(text);
            run("iptables-restore", &["--noflush"], &v4)?;
            match v6.is_empty() {
                true => Ok(()),
                false => run("ip6tables-restore", &["--noflush"], &v6),
            }
        }
    }
}

/// The input for IPv4 and that for IPv6. Between them nothing but that a table comes a second time.
fn families(text: &str) -> [String; 2] {
    let mut seen = Vec::new();
    let mut family = 0;
    let mut out = [String::new(), String::new()];
    for line in text.lines().filter(|line| line.starts_with(['*', ':', '-']) || *line == "COMMIT") {
        if let Some(table) = line.strip_prefix('*') {
            if seen.contains(&table.trim()) {
                family = 1;
            }
            seen.push(table.trim());
        }
        let [v4, v6] = &mut out;
        let to = if family == 0 { v4 } else { v6 };
        to.push_str(line);
        to.push('\n');
    }
    out
}

fn run(program: &str, arguments: &[&str], input: &str) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{program}: {e} (cargo xtask setup installs it)");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut pipe) = child.stdin.take() {
        // If it ends early, its own words say more than the broken pipe.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{program} {} refused what is golden: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_twice_is_for_ipv6() {
        let text = "iptables-save\n* mangle\n-N A\nCOMMIT\n* nat\n-N B\nCOMMIT\n* nat\n-N C\nCOMMIT\niptables-save\n";
        assert_eq!(
            families(text),
            ["* mangle\n-N A\nCOMMIT\n* nat\n-N B\nCOMMIT\n", "* nat\n-N C\nCOMMIT\n"]
        );
    }
}
