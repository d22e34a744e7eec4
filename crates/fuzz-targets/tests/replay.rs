//! Every target over its corpus, without a fuzzer; and every seed is in the corpus. `OSTRO_BLESS=1` writes seeds that are
//! not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ostro_fuzz_targets::TARGETS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("fuzz")
}

fn inputs(name: &str) -> Vec<PathBuf> {
    let directory = fuzz().join("corpus").join(name);
    let mut files: Vec<PathBuf> = match std::fs::read_dir(&directory) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    };
    files.sort();
    files
}

#[test]
fn the_corpus_has_every_seed() {
    for target in TARGETS {
        for (number, seed) in (target.seeds)().iter().enumerate() {
            let path = fuzz().join("corpus").join(target.name).join(format!("seed-{number}"));
            if std::env::var_os("OSTRO_BLESS").is_some() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, seed).unwrap();
            }
            let there = std::fs::read(&path).unwrap_or_default();
            assert!(there == *seed, "{}: not this seed; run with OSTRO_BLESS=1", path.display());
        }
    }
}

#[test]
fn every_target_takes_its_corpus() {
    for target in TARGETS {
        let inputs = inputs(target.name);
        assert!(inputs.len() >= 2, "{}: {} inputs", target.name, inputs.len());
        for path in inputs {
            let input = std::fs::read(&path).unwrap();
            let outcome = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(outcome.is_ok(), "{}", path.display());
        }
    }
}

#[test]
fn every_target_takes_what_is_like_its_corpus() {
    // A few bytes are changed, put in or taken away: what a fuzzer does first.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = move |sides: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % sides.max(1)
    };
    // How many of each input: more of them are a fuzzer for machines that have none.
    let rounds: u64 = std::env::var("OSTRO_MUTATIONS").map_or(20, |text| text.parse().unwrap());
    for target in TARGETS {
        let all = inputs(target.name);
        println!("{}: {} inputs", target.name, all.len() as u64 * rounds);
        for path in all {
            let original = std::fs::read(&path).unwrap();
            for _ in 0..rounds {
                let mut input = original.clone();
                for _ in 0..=roll(4) {
                    let at = roll(input.len());
                    match roll(4) {
                        0 if !input.is_empty() => drop(input.remove(at)),
                        1 => input.insert(at, u8::try_from(roll(256)).unwrap()),
                        2 => input.truncate(at),
                        _ if !input.is_empty() => input[at] = u8::try_from(roll(256)).unwrap(),
                        _ => {}
                    }
                }
                let outcome = std::panic::catch_unwind(|| (target.run)(&input));
                assert!(outcome.is_ok(), "{}: {}", target.name, input.escape_ascii());
            }
        }
    }
}

#[test]
fn every_program_of_the_fuzzer_is_a_target() {
    let programs = std::fs::read_dir(fuzz().join("fuzz_targets")).unwrap();
    let programs: BTreeSet<String> = programs
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(programs, targets);
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml has no {name}");
    }
}
