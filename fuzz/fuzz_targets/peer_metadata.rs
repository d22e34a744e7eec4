#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ostro_fuzz_targets::run("peer_metadata", input));
