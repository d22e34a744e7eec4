//! Whatever a peer says of itself: no panic, nothing that is too long, and what is read can be told and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ostro_engine::istio::{PEER_VALUE_BYTES_MAX, Peer};

fuzz_target!(|input: (&[u8], &str)| {
    let (header, endpoint) = input;
    let labels = ["role".to_owned()];
    for peer in [Peer::of_header(header, &labels), Peer::of_endpoint(endpoint)].into_iter().flatten() {
        assert!(peer.workload.len() <= PEER_VALUE_BYTES_MAX);
        let told = peer.to_header().expect("base64 is a header's value");
        let again = Peer::of_header(told.as_bytes(), &labels).expect("what is told can be read");
        assert_eq!((&again.workload, &again.namespace, &again.app), (&peer.workload, &peer.namespace, &peer.app));
    }
});
