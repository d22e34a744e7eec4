//! The protocol suite: what a proxy must do with bytes, asked of stock Envoy and of ours in the same words.
//!
//! One file per family of cases. Each case has a listener, a route, a cluster and an upstream socket of its own, a script
//! that plays the client and the upstream byte by byte, and the outcome expected of Envoy. Where ours does otherwise on
//! purpose, the case says so in words (`ours`). Stock Envoy is the judge; where an RFC demands more than Envoy does, ours
//! follows the RFC.
//!
//! `OSTRO_SUBJECTS` is `envoy`, `ours` or `both`. Without it Envoy runs every family, ours those listed in
//! `protocol-ours.txt`. `OSTRO_CASE=WORDS` runs only the cases whose name has these words in it, and prints what each
//! saw. `OSTRO_PROXY` is the binary of ours, `target/debug/ostro-proxy` without it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test by panicking")]

mod differences;
mod harness;

/// The families, and the tests of each: `FAMILY::envoy`, `FAMILY::ours`.
macro_rules! families {
    ($($name:ident),* $(,)?) => {
        $(mod $name;)*
        const FAMILIES: &[(&str, fn() -> harness::Family)] = &[$((stringify!($name), $name::family)),*];
    };
}

/// The two tests of a family; every family's file calls it once.
macro_rules! tests {
    () => {
        #[test]
        fn envoy() {
            crate::harness::run(&family(), crate::harness::Subject::Envoy);
        }

        #[test]
        fn ours() {
            crate::harness::run(&family(), crate::harness::Subject::Ours);
        }
    };
}
use tests;

families!(
    access_log,
    bulk,
    chunked,
    drain,
    fields,
    filters,
    goaway,
    grpc,
    head_method,
    header_limits,
    headers,
    interim,
    keep_alive,
    limits,
    pipelining,
    pressure,
    refusals_h1,
    refusals_h2,
    refusals_h2_upstream,
    refusals_upstream,
    retry,
    routing,
    slow_reader,
    slow_writer,
    tcp,
    timeouts,
    trailers,
    upgrades,
    vanish,
);

/// Says how much of the suite ours is not yet held to, and that the list names nothing that does not exist.
#[test]
fn families_not_yet_asked_of_ours() {
    let listed = harness::listed();
    for name in &listed {
        assert!(
            FAMILIES.iter().any(|(family, _)| family == name),
            "protocol-ours.txt lists {name}: no such family"
        );
    }
    let missing: Vec<&str> =
        FAMILIES.iter().map(|(name, _)| *name).filter(|name| !listed.iter().any(|l| l == name)).collect();
    println!("{} of {} families not yet asked of ours: {}", missing.len(), FAMILIES.len(), missing.join(" "));
}

/// A case that differs on purpose has a reason, and no two cases of a family have one name.
#[test]
fn cases_are_told_apart_and_differences_explained() {
    for (name, family) in FAMILIES {
        let family = family();
        assert_eq!(family.name, *name);
        let mut names: Vec<&str> = family.cases.iter().map(|case| case.name.as_str()).collect();
        names.sort_unstable();
        for pair in names.windows(2) {
            assert_ne!(pair[0], pair[1], "two cases of one name in {}", family.name);
        }
        for case in &family.cases {
            if let Some((outcomes, reason)) = &case.ours {
                let good = !outcomes.is_empty() && reason.split(' ').count() > 3;
                assert!(good, "{} {}: why {outcomes:?}?", family.name, case.name);
            }
        }
    }
}
