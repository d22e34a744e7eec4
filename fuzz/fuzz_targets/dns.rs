//! Whatever comes as a question, or as another server's reply to one: no panic, and no answer longer than asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ostro_local::dns::wire::{Step, Transport, step};
use ostro_local::dns::{Asker, Zone};

fuzz_target!(|input: (Vec<u8>, Vec<u8>, bool)| {
    let (question, reply, tcp) = input;
    let transport = if tcp { Transport::Tcp } else { Transport::Udp };
    let bound = if tcp { 65_535 } else { 4_096 };
    match step(&Zone::default(), Asker::default(), &question, transport) {
        Step::Drop => {}
        Step::Reply(reply) => assert!(!reply.is_empty() && reply.len() <= bound),
        Step::Ask(pending) => {
            assert!(pending.answered(None).len() <= bound);
            assert!(pending.answered(Some(reply)).len() <= bound);
        }
    }
});
