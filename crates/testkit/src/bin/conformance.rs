//! `ostro-conformance DIR [FOLDER...]`: runs foreign cases; exit status 0 if all is as it should be.

use std::process::ExitCode;

use ostro_testkit::conformance::{FOLDERS, Later, run};

/// Cases that need something that is not built yet.
const LATER: &str = include_str!("../../conformance-later.txt");

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(dir) = arguments.next() else {
        eprintln!("usage: ostro-conformance DIR [FOLDER...]; folders: {}", FOLDERS.join(", "));
        return ExitCode::from(2);
    };
    let mut folders: Vec<String> = arguments.collect();
    if folders.is_empty() {
        folders = FOLDERS.map(str::to_owned).to_vec();
    }
    let later = match Later::parse(LATER) {
        Ok(later) => later,
        Err(error) => {
            eprintln!("conformance-later.txt: {error}");
            return ExitCode::from(2);
        }
    };
    let report = run(dir.as_ref(), &folders, &later);
    println!("{}", report.text(&later));
    if report.is_good(&later) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
