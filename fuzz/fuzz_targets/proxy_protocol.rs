//! Whatever comes first on a connection: a header, none, or a part of one; and more bytes never change an answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ostro_transport::proxy_protocol::{Progress, V2_MAX, parse};

fuzz_target!(|input: (&[u8], usize)| {
    let (bytes, cut) = input;
    let answer = parse(bytes);
    if let Ok(Progress::Done { header, length }) = &answer {
        assert!(*length <= bytes.len());
        assert!(header.tlvs().count() <= length / 3 + 1);
    }
    assert!(answer != Ok(Progress::NeedMore) || bytes.len() < V2_MAX);
    let earlier = parse(&bytes[..cut.min(bytes.len())]);
    assert!(earlier == Ok(Progress::NeedMore) || earlier == answer);
});
