//! What the kernel answers, spoilt: a byte changed, or the end cut off. (The fuzz target `netlink` does the rest.)

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use ostro_capture::netlink::attr::Writer;
use ostro_capture::netlink::dump::{self, Loaded};
use ostro_capture::netlink::expr::{Base, Compare, Expr, Meta, Register, Verdict};
use ostro_capture::netlink::socket::{Answer, message, parse};
use proptest::prelude::*;

/// A rule as the kernel lists it: `NFT_MSG_NEWRULE`.
fn listed() -> Vec<u8> {
    let mut w = Writer::default();
    w.text(1, "istio-proxy-nat");
    w.text(2, "istio-output");
    w.nest(4, |w| rule().iter().for_each(|e| w.nest(1, |w| e.write(w))));
    let mut body = vec![1, 0, 0, 0];
    body.extend(w.finish().unwrap());
    let mut out = Vec::new();
    message(&mut out, 0x0a06, 0, 1, &body);
    message(&mut out, 3, 0, 1, &0_i32.to_ne_bytes());
    out
}

fn rule() -> [Expr; 5] {
    [
        Expr::Meta(Meta::Protocol, Register::One),
        Expr::Compare(Register::One, Compare::Equal, vec![6]),
        Expr::Payload { to: Register::One, base: Base::Transport, offset: 2, length: 2 },
        Expr::Compare(Register::One, Compare::NotEqual, vec![58, 160]),
        Expr::Verdict(Verdict::Jump("istio-redirect".to_owned())),
    ]
}

/// The rules in a datagram.
fn rules(datagram: &[u8]) -> Vec<Vec<Expr>> {
    let messages = parse(datagram).into_iter().filter_map(|answer| match answer {
        Answer::Message { kind, body } => dump::parse(kind, &body),
        _ => None,
    });
    messages
        .filter_map(|loaded| match loaded {
            Loaded::Rule { expressions, .. } => Some(expressions),
            Loaded::Chain { .. } => None,
        })
        .collect()
}

#[test]
fn whole_it_is_the_rule_that_was_written() {
    assert_eq!(rules(&listed()), [rule().to_vec()]);
}

proptest! {
    #[test]
    fn spoilt_it_is_another_rule_or_none_and_never_a_panic(place in 0_usize..400, byte in any::<u8>(), cut in 0_usize..400) {
        let mut datagram = listed();
        let length = datagram.len();
        datagram[place % length] = byte;
        datagram.truncate(length - cut % length);
        prop_assert!(rules(&datagram).len() <= datagram.len() / 16);
    }
}
