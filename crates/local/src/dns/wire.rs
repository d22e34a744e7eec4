//! From the bytes of a question to the bytes of its answer, or to what others must be asked.
//!
//! Invariant: whatever the bytes, nothing here panics, and a reply is never longer than its limit.

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record};
use hickory_proto::serialize::binary::{BinEncodable as _, BinEncoder};

use super::answer::{Answer, Verdict, answer};
use super::zone::{Asker, Zone};

/// Bytes of a header.
const HEADER: usize = 12;
/// Bytes of an answer over UDP to who does not say (RFC 1035).
const UDP_MIN: u16 = 512;
/// Bytes of an answer over UDP, whatever the asker takes. Pods are one hop away: fragments are not lost.
const UDP_MAX: u16 = 4096;

/// How a question came; its answer goes the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Bounded by what the asker says it takes.
    Udp,
    /// Bounded by the length field.
    Tcp,
}

/// What to do about some bytes.
#[derive(Debug)]
pub enum Step {
    /// Nothing: they are no question.
    Drop,
    /// To say this.
    Reply(Vec<u8>),
    /// To ask others.
    Ask(Box<Pending>),
}

/// A question that others have to answer.
#[derive(Debug)]
pub struct Pending {
    request: Message,
    limit: u16,
    /// What to ask.
    question: Vec<u8>,
    /// What precedes the answer; empty: it is passed on as it comes.
    aliases: Vec<Record>,
}

/// Reads a question and answers it, if the mesh can.
pub fn step(zone: &Zone, asker: Asker<'_>, bytes: &[u8], transport: Transport) -> Step {
    let Some((id, flags, questions)) = header(bytes) else { return Step::Drop };
    let op_code = OpCode::from_u8((flags >> 11) as u8 & 0xf);
    if flags & 0x8000 != 0 {
        return Step::Drop;
    }
    let refuse = |code| Step::Reply(encode(&Message::error_msg(id, op_code, code), UDP_MIN));
    if op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    if questions != 1 {
        return refuse(ResponseCode::FormErr);
    }
    let Ok(request) = Message::from_vec(bytes) else { return refuse(ResponseCode::FormErr) };
    let Some(query) = request.queries.first() else { return refuse(ResponseCode::FormErr) };
    let limit = match transport {
        Transport::Udp => request.max_payload().clamp(UDP_MIN, UDP_MAX),
        Transport::Tcp => u16::MAX,
    };
    if request.version() != 0 {
        return Step::Reply(encode(&failure(&request, ResponseCode::BADVERS), limit));
    }
    if query.query_class != DNSClass::IN {
        return Step::Reply(encode(&failure(&request, ResponseCode::Refused), limit));
    }
    match answer(zone, asker, query) {
        Verdict::Answer(answer) => Step::Reply(encode(&own(&request, *answer), limit)),
        Verdict::Forward => {
            let question = bytes.to_vec();
            Step::Ask(Box::new(Pending { request, limit, question, aliases: Vec::new() }))
        }
        Verdict::Follow { aliases, target } => {
            let mut asked = Message::query();
            asked.metadata.recursion_desired = true;
            asked.add_query(Query::query(target, query.query_type));
            asked.set_edns(edns());
            let question = encode(&asked, u16::MAX);
            Step::Ask(Box::new(Pending { request, limit, question, aliases }))
        }
    }
}

impl Pending {
    /// What to ask others.
    pub fn question(&self) -> &[u8] {
        &self.question
    }

    /// The answer, given what others said; nothing: that nobody answered.
    pub fn answered(&self, reply: Option<Vec<u8>>) -> Vec<u8> {
        let failed = || encode(&failure(&self.request, ResponseCode::ServFail), self.limit);
        let Some(mut reply) = reply else { return failed() };
        if self.aliases.is_empty() && reply.len() <= usize::from(self.limit) {
            set_id(&mut reply, self.request.metadata.id);
            return reply;
        }
        match Message::from_vec(&reply) {
            Ok(reply) => encode(&self.merge(reply), self.limit),
            Err(_) => failed(),
        }
    }

    /// The answer to what was asked instead, as one to what was asked.
    fn merge(&self, mut reply: Message) -> Message {
        let mut answer = skeleton(&self.request);
        answer.metadata.response_code = reply.metadata.response_code;
        answer.metadata.truncation = reply.metadata.truncation;
        answer.answers = self.aliases.clone();
        answer.answers.append(&mut reply.answers);
        answer.authorities = reply.authorities;
        answer.additionals = reply.additionals;
        answer
    }
}

/// Id, flags, and number of questions.
fn header(bytes: &[u8]) -> Option<(u16, u16, u16)> {
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    (bytes.len() >= HEADER).then_some(())?;
    Some((word(0)?, word(2)?, word(4)?))
}

/// Replaces the id of a message.
pub(super) fn set_id(bytes: &mut [u8], id: u16) {
    if let Some(place) = bytes.first_chunk_mut() {
        *place = id.to_be_bytes();
    }
}

/// Whether these bytes are a reply to that question, which has one query and the same id. A server that
/// fails may leave the query out.
pub(super) fn replies_to(reply: &[u8], question: &[u8]) -> bool {
    let (Some((id, flags, queries)), Some((asked, ..))) = (header(reply), header(question)) else {
        return false;
    };
    let same = || matches!((query(reply), query(question)), (Some(a), Some(b)) if a.eq_ignore_ascii_case(b));
    id == asked && flags & 0x8000 != 0 && (same() || (queries == 0 && flags & 0xf != 0))
}

/// The first query: name, type and class.
fn query(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = HEADER;
    loop {
        let length = *bytes.get(at)?;
        at += 1 + usize::from(length);
        // Nothing precedes a query that its name could point to.
        match length {
            0 => return bytes.get(HEADER..at + 4),
            64.. => return None,
            _ => {}
        }
    }
}

/// Whether a reply says that more is to be had over TCP.
pub(super) fn is_truncated(reply: &[u8]) -> bool {
    header(reply).is_some_and(|(_, flags, _)| flags & 0x0200 != 0)
}

/// Whether another server may know better: this one failed, or refused.
pub(super) fn is_failure(reply: &[u8]) -> bool {
    let code = |(_, flags, _)| ResponseCode::from(0, (flags & 0xf) as u8);
    let failures = [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp];
    header(reply).map(code).is_none_or(|code| failures.contains(&code))
}

fn own(request: &Message, answer: Answer) -> Message {
    let mut message = skeleton(request);
    message.metadata.authoritative = answer.code != ResponseCode::Refused;
    message.metadata.response_code = answer.code;
    message.answers = answer.records;
    message.authorities.extend(answer.authority);
    message.additionals = answer.additional;
    message
}

fn failure(request: &Message, code: ResponseCode) -> Message {
    let mut message = skeleton(request);
    message.metadata.response_code = code;
    message
}

/// An empty answer.
fn skeleton(request: &Message) -> Message {
    let mut message = Message::new(request.metadata.id, MessageType::Response, OpCode::Query);
    message.metadata = Metadata::response_from_request(&request.metadata);
    message.metadata.recursion_available = true;
    message.queries.clone_from(&request.queries);
    if request.edns.is_some() {
        message.set_edns(edns());
    }
    message
}

fn edns() -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_MAX);
    edns
}

/// The bytes of a message: as many of its records as there is room for, with a note if that is not all.
fn encode(message: &Message, limit: u16) -> Vec<u8> {
    match fit(message, limit) {
        Some(bytes) => bytes,
        // The asker comes again by TCP, so what the answer lacks does not matter; that it is one does.
        None => fit(&message.truncate(), limit).unwrap_or_default(),
    }
}

/// `None` if the answer section, or the record about EDNS behind it, does not fit.
fn fit(message: &Message, limit: u16) -> Option<Vec<u8>> {
    let mut message = message.clone();
    loop {
        let mut bytes = Vec::with_capacity(usize::from(UDP_MIN));
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(u16::MAX);
        message.emit(&mut encoder).ok()?;
        if bytes.len() <= usize::from(limit) {
            return Some(bytes);
        }
        // What is only helpful goes first, unsaid; then half of the answer at a time.
        if !message.additionals.is_empty() {
            message.additionals.clear();
        } else if !message.answers.is_empty() {
            message.metadata.truncation = true;
            message.answers.truncate(message.answers.len() / 2);
        } else if !message.authorities.is_empty() {
            message.authorities.clear();
        } else {
            return None;
        }
    }
}
