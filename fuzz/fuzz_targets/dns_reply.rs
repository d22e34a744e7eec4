//! Whatever a name server replies: addresses within bounds, an absence, a failure, or nothing that counts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ostro_transport::dns::limits::{ABSENT_MAX, ADDRESSES, TTL_MAX};
use ostro_transport::dns::message::{Kind, Question, Said};

fuzz_target!(|input: (bool, Vec<u8>)| {
    let (v6, mut reply) = input;
    let Some(question) = Question::new("a.example", if v6 { Kind::V6 } else { Kind::V4 }) else { return };
    // The random id would make the rest unreachable.
    if let (Some(to), Some(from)) = (reply.get_mut(..2), question.bytes.get(..2)) {
        to.copy_from_slice(from);
    }
    match question.read(&reply) {
        Some(Said::Addresses(addresses, ttl)) => {
            assert!(!addresses.is_empty() && addresses.len() <= ADDRESSES && ttl <= TTL_MAX);
        }
        Some(Said::NoSuchName(ttl) | Said::NoAddress(ttl)) => assert!(ttl <= ABSENT_MAX),
        Some(Said::Truncated | Said::Failed(_)) | None => {}
    }
});
