//! JSON as a bootstrap, and bytes as any message: nothing panics, and what is taken comes back the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ostro_envoy_json::{Unknown, to_value, to_wire, wire_to_value};

const MESSAGES: [&str; 4] = [
    "envoy.config.bootstrap.v3.Bootstrap",
    "envoy.config.listener.v3.Listener",
    "envoy.config.cluster.v3.Cluster",
    "google.protobuf.Value",
];

fuzz_target!(|data: &[u8]| {
    for message in MESSAGES {
        let _ = wire_to_value(message, data);
    }
    let Ok(tree) = std::str::from_utf8(data).map_err(drop).and_then(|text| to_value(text).map_err(drop)) else { return };
    for message in MESSAGES {
        let mut unknown = Vec::new();
        let Ok(wire) = to_wire(message, &tree, Unknown::Collect(&mut unknown)) else { continue };
        let back = wire_to_value(message, &wire).expect("what we wrote can be read");
        let again = to_wire(message, &back, Unknown::Refuse).expect("what we printed is taken");
        assert_eq!(wire_to_value(message, &again), Ok(back));
    }
});
