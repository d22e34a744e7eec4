//! Any pattern, any value: accepted or refused, matched or not, within bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| {
    let (pattern, value) = input;
    if let Ok(matcher) = ostro_engine::regex::compile(pattern) {
        matcher.matches(value);
    }
});
