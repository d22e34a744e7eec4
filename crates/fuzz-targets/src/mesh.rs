//! What the control plane, a local mesh and its capture read.

use ostro_capture::netlink::dump;
use ostro_capture::netlink::socket::{Answer, parse};
use ostro_local::dns::wire::{Step, Transport, step};
use ostro_local::dns::{Asker, Zone};

use crate::cut::{Cut, joined, texts};

/// Whatever bytes come as configuration: no panic, every complaint one line with something found.
pub(crate) fn yaml(input: &[u8]) {
    let parsed = ostro_api::parse_file("fuzz.yaml", input);
    for complaint in &parsed.complaints {
        assert!(!complaint.found.is_empty());
        assert!(!complaint.to_string().contains('\n'));
    }
    for object in &parsed.objects {
        ostro_api::unenforced(object);
    }
}

pub(crate) fn yaml_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  clusterIP: 10.0.0.1\n  ports: [{name: http, port: 80, targetPort: 8080}]\n",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: n}\nspec:\n  hosts: [a]\n  http:\n  - match: [{uri: {prefix: /x}, headers: {k: {regex: 'a.*'}}}]\n    route: [{destination: {host: a, subset: v1}, weight: 90}, {destination: {host: a}, weight: 10}]\n    retries: {attempts: 3, perTryTimeout: 1s}\n",
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: a, subsets: [{name: v1, labels: {v: '1'}}]}\n---\n&x [*x, yes, 0o17, !!binary aa]\n",
        "kind: List\napiVersion: v1\nitems:\n- &a {apiVersion: v1, kind: Namespace, metadata: {name: n, labels: {<<: *a}}}\n",
        "\u{feff}a: |\n  text\n b: >-\n  more\n...\n--- {\"json\": [1, 2.5e3, null, true, \"\\u00e9\"]}\n",
    ])
}

/// Whatever comes as a question, or as another server's reply to one: no panic, and no answer longer than asked for.
pub(crate) fn dns(input: &[u8]) {
    let mut cut = Cut::new(input);
    let tcp = cut.byte() & 1 == 1;
    let question = cut.piece();
    let reply = cut.rest();
    let transport = if tcp { Transport::Tcp } else { Transport::Udp };
    let bound = if tcp { 65_535 } else { 4_096 };
    match step(&Zone::default(), Asker::default(), question, transport) {
        Step::Drop => {}
        Step::Reply(reply) => assert!(!reply.is_empty() && reply.len() <= bound),
        Step::Ask(pending) => {
            assert!(pending.answered(None).len() <= bound);
            assert!(pending.answered(Some(reply.to_vec())).len() <= bound);
        }
    }
}

/// A question for `a.example`, of the type A, with room for 1,232 bytes.
const QUESTION: &[u8] =
    b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x01a\x07example\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0";
/// Its answer.
const ANSWER: &[u8] = b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x01a\x07example\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x01";

pub(crate) fn dns_seeds() -> Vec<Vec<u8>> {
    let mut local = QUESTION.to_vec();
    local.splice(12..23, *b"\x01a\x07default\x03svc\0");
    vec![
        joined(&[0], &[QUESTION], ANSWER),
        joined(&[1], &[QUESTION], b""),
        joined(&[0], &[&local], ANSWER),
        joined(&[0], &[&QUESTION[..14]], b""),
    ]
}

/// Whatever bytes come as the kernel's answers: no panic, and nothing is taken for more than was sent.
pub(crate) fn netlink(input: &[u8]) {
    let answers = parse(input);
    // Every answer takes at least a header of 16 bytes.
    assert!(answers.len() <= input.len() / 16);
    for answer in answers {
        if let Answer::Message { kind, body } = answer {
            assert!(body.len() <= input.len());
            dump::parse(kind, &body);
        }
    }
}

pub(crate) fn netlink_seeds() -> Vec<Vec<u8>> {
    let message = |kind: u16, body: &[u8]| {
        let length = u32::try_from(16 + body.len()).expect("a short seed");
        let head =
            [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[2, 0], &[1, 0, 0, 0, 0, 0, 0, 0]].concat();
        [head, body.to_vec()].concat()
    };
    // Of nf_tables: a table with a name, a chain of it, a rule with an expression.
    let attribute = |kind: u16, content: &[u8]| {
        let length = u16::try_from(4 + content.len()).expect("a short seed");
        let mut all = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), content].concat();
        all.resize(all.len().next_multiple_of(4), 0);
        all
    };
    let family = [1_u8, 0, 0, 0];
    let table = [&family[..], &attribute(1, b"ostro\0"), &attribute(2, &[0; 4])].concat();
    let chain = [&family[..], &attribute(1, b"ostro\0"), &attribute(3, b"output\0")].concat();
    let expression = attribute(1, &[attribute(1, b"counter\0"), attribute(0x8002, &[])].concat());
    let rule = [&chain[..], &attribute(0x8004, &expression)].concat();
    let done = message(3, &[0; 4]);
    let refused = message(2, &(-1_i32).to_ne_bytes());
    vec![
        [message(0xa00, &table), done.clone()].concat(),
        [message(0xa03, &chain), message(0xa06, &rule), done].concat(),
        refused,
    ]
}
