//! `ostro-conformance [--proxy ostro|envoy|mixed] DIR [FOLDER...]`: runs foreign cases; exit status 0 if all is as it should
//! be.

use std::process::ExitCode;

use ostro_agent::DataPlane;
use ostro_testkit::conformance::{FOLDERS, Later, run};
use ostro_testkit::mix::Mix;

/// Cases that need something that is not built yet.
const LATER: &str = include_str!("../../conformance-later.txt");
/// The same of our own proxy, beside those.
const LATER_OF_OURS: &str = include_str!("../../conformance-later-ours.txt");

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut first = arguments.next();
    let mut mix = Mix::All(DataPlane::default());
    if first.as_deref() == Some("--proxy") {
        match arguments.next().unwrap_or_default().parse() {
            Ok(chosen) => mix = chosen,
            Err(error) => {
                eprintln!("--proxy: {error}");
                return ExitCode::from(2);
            }
        }
        first = arguments.next();
    }
    let Some(dir) = first else {
        let folders = FOLDERS.join(", ");
        eprintln!("usage: ostro-conformance [--proxy ostro|envoy|mixed] DIR [FOLDER...]; folders: {folders}");
        return ExitCode::from(2);
    };
    let mut folders: Vec<String> = arguments.collect();
    if folders.is_empty() {
        folders = FOLDERS.map(str::to_owned).to_vec();
    }
    let of_ours = if mix.has_ours() { LATER_OF_OURS } else { "" };
    let later = match Later::parse(&format!("{LATER}{of_ours}")) {
        Ok(later) => later,
        Err(error) => {
            eprintln!("conformance-later.txt: {error}");
            return ExitCode::from(2);
        }
    };
    let report = run(dir.as_ref(), &folders, &later, mix);
    println!("{}", report.text(&later));
    if report.is_good(&later) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
