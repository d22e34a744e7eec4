//! Any configuration: the same rules every time, the same by netlink as by `nft`'s reading of the text we show, found as
//! loaded, and gone when removed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test by panicking")]

mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};

use ostro_capture::{Backend, Plan, apply_by, differences, differences_by, nft_text, remove_by};
use proptest::prelude::*;
use support::configs::config;
use support::{Namespace, nft_list};

/// Loads text by `nft -f` in the calling thread's namespace.
fn load(text: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{text}");
}

/// What is listed, without what our sets and `nft`'s own order of equal things may differ in.
fn listed() -> Vec<String> {
    let list = nft_list();
    let mut tables: Vec<String> =
        list.split("\ntable ").map(|t| t.trim_start_matches("table ").trim().to_owned()).collect();
    tables.sort();
    tables
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_told_by_netlink_is_what_the_text_says(config in config()) {
        let plan = Plan::new(&config).unwrap();
        prop_assert_eq!(&plan, &Plan::new(&config).unwrap());
        let text = nft_text::script(&plan.rules);
        prop_assert_eq!(&text, &nft_text::script(&plan.rules));
        let by_text = Namespace::new().run(move || {
            load(&text);
            listed()
        });
        let (by_netlink, found, left) = Namespace::new().run(move || {
            apply_by(Backend::Nft, &plan).unwrap();
            apply_by(Backend::Nft, &plan).unwrap();
            let loaded = listed();
            let found = differences(&plan).unwrap();
            remove_by(Backend::Nft).unwrap();
            (loaded, found, nft_list())
        });
        prop_assert_eq!(by_netlink, by_text);
        prop_assert_eq!(found, Vec::<String>::new());
        prop_assert_eq!(left, "");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn iptables_takes_it_replaces_it_and_lets_go_of_it(first in config(), second in config()) {
        let [first, second] = [first, second].map(|config| Plan::new(&config).unwrap());
        Namespace::new().run(move || {
            let empty = saved();
            apply_by(Backend::Iptables, &first).unwrap();
            apply_by(Backend::Iptables, &second).unwrap();
            let loaded = saved();
            assert_eq!(differences_by(Backend::Iptables, &second).unwrap(), [""; 0]);
            if first != second {
                assert_ne!(differences_by(Backend::Iptables, &first).unwrap(), [""; 0]);
            }
            apply_by(Backend::Iptables, &second).unwrap();
            assert_eq!(saved(), loaded);
            let fresh = Namespace::new().run(move || {
                apply_by(Backend::Iptables, &second).unwrap();
                saved()
            });
            assert_eq!(sorted(&loaded), sorted(&fresh));
            remove_by(Backend::Iptables).unwrap();
            assert_eq!(rules(&saved()), rules(&empty));
        });
    }
}

/// What `iptables-save` and `ip6tables-save` print, without counters and remarks.
fn saved() -> String {
    let mut all = String::new();
    for program in ["iptables-save", "ip6tables-save"] {
        let output = Command::new(program).output().expect("iptables (Debian: iptables)");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        all.extend(lines.map(|line| format!("{}\n", line.split(" [").next().unwrap())));
    }
    all
}

/// Its rules, and chains that are not the kernel's.
fn rules(saved: &str) -> Vec<&str> {
    saved.lines().filter(|line| line.starts_with("-A") || line.ends_with(" -")).collect()
}

/// The same by table, whose order is that of their making.
fn sorted(saved: &str) -> Vec<Vec<&str>> {
    let mut tables: Vec<Vec<&str>> = saved
        .split("COMMIT\n")
        .map(|table| {
            let (mut chains, rest): (Vec<&str>, Vec<&str>) =
                table.lines().partition(|line| line.starts_with(':'));
            chains.sort();
            let mut lines = chains;
            lines.extend(rest);
            lines
        })
        .filter(|lines| lines.iter().any(|line| line.starts_with("-A") || line.ends_with(" -")))
        .collect();
    tables.sort();
    tables
}
