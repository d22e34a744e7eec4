//! Whatever bytes come as configuration: no panic, every complaint one line with something found.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let parsed = ostro_api::parse_file("fuzz.yaml", bytes);
    for complaint in &parsed.complaints {
        assert!(!complaint.found.is_empty());
        assert!(!complaint.to_string().contains('\n'));
    }
    for object in &parsed.objects {
        ostro_api::unenforced(object);
    }
});
