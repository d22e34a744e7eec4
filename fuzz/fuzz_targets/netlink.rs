//! Whatever bytes come as the kernel's answers: no panic, and nothing is taken for more than was sent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ostro_capture::netlink::dump;
use ostro_capture::netlink::socket::{Answer, parse};

fuzz_target!(|bytes: &[u8]| {
    let answers = parse(bytes);
    // Every answer takes at least a header of 16 bytes.
    assert!(answers.len() <= bytes.len() / 16);
    for answer in answers {
        if let Answer::Message { kind, body } = answer {
            assert!(body.len() <= bytes.len());
            dump::parse(kind, &body);
        }
    }
});
