//! A question as bytes, and what the bytes of a reply say of it.
//!
//! Invariant: whatever the bytes, nothing here panics, and a reply to another question says nothing.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::limits;

/// A family of addresses, as one question asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `A`.
    V4,
    /// `AAAA`.
    V6,
}

/// A question.
#[derive(Clone, Debug)]
pub struct Question {
    id: u16,
    query: Query,
    /// As it is sent.
    pub bytes: Vec<u8>,
}

/// What a reply says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// These, for so long.
    Addresses(Vec<IpAddr>, Duration),
    /// There is no such name; so for so long.
    NoSuchName(Duration),
    /// The name has no such address; so for so long.
    NoAddress(Duration),
    /// Not all of it fitted.
    Truncated,
    /// The server failed or refuses.
    Failed(String),
}

impl Question {
    /// Asks for a name, which is whole; none if it can be no name. The id is random.
    pub fn new(name: &str, kind: Kind) -> Option<Question> {
        let mut whole = Name::from_ascii(name).ok().filter(|name| !name.is_root())?;
        whole.set_fqdn(true);
        let record = match kind {
            Kind::V4 => RecordType::A,
            Kind::V6 => RecordType::AAAA,
        };
        let query = Query::query(whole, record);
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(query.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(limits::UDP_REPLY);
        message.set_edns(edns);
        Some(Question { id: message.metadata.id, query, bytes: message.to_vec().ok()? })
    }

    /// What these bytes say; none if they are no reply to this.
    pub fn read(&self, bytes: &[u8]) -> Option<Said> {
        let reply = Message::from_vec(bytes).ok()?;
        if reply.metadata.id != self.id || reply.metadata.message_type != MessageType::Response {
            return None;
        }
        // A server that cannot even read a question may leave it out.
        let [asked] = reply.queries.as_slice() else {
            let failed = reply.queries.is_empty() && reply.metadata.response_code != ResponseCode::NoError;
            return failed.then(|| Said::Failed(reply.metadata.response_code.to_string()));
        };
        let same = asked.name == self.query.name
            && asked.query_type == self.query.query_type
            && asked.query_class == DNSClass::IN;
        same.then(|| self.said(&reply))
    }

    fn said(&self, reply: &Message) -> Said {
        match reply.metadata.response_code {
            ResponseCode::NoError if reply.metadata.truncation => Said::Truncated,
            ResponseCode::NoError => self.addresses(reply),
            ResponseCode::NXDomain => Said::NoSuchName(absent_for(reply)),
            other => Said::Failed(other.to_string()),
        }
    }

    /// Follows aliases from the name to its addresses.
    fn addresses(&self, reply: &Message) -> Said {
        let mut name = &self.query.name;
        let mut ttl = limits::TTL_MAX;
        for _ in 0..limits::ALIASES {
            let of_name = || reply.answers.iter().filter(|record| record.name == *name);
            let found: Vec<(IpAddr, u32)> =
                of_name().filter_map(|record| self.address(record)).take(limits::ADDRESSES).collect();
            if let Some(least) = found.iter().map(|(_, ttl)| *ttl).min() {
                let ttl = ttl.min(Duration::from_secs(least.into()));
                return Said::Addresses(found.into_iter().map(|(address, _)| address).collect(), ttl);
            }
            let Some((alias, alias_ttl)) = of_name().find_map(alias) else { break };
            ttl = ttl.min(Duration::from_secs(alias_ttl.into()));
            name = alias;
        }
        Said::NoAddress(absent_for(reply))
    }

    fn address(&self, record: &Record) -> Option<(IpAddr, u32)> {
        match (&record.data, self.query.query_type) {
            (RData::A(address), RecordType::A) => Some((address.0.into(), record.ttl)),
            (RData::AAAA(address), RecordType::AAAA) => Some((address.0.into(), record.ttl)),
            _ => None,
        }
    }
}

fn alias(record: &Record) -> Option<(&Name, u32)> {
    match &record.data {
        RData::CNAME(to) => Some((&to.0, record.ttl)),
        _ => None,
    }
}

/// How long an absence holds (RFC 2308, 5).
fn absent_for(reply: &Message) -> Duration {
    let soa = reply.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    let seconds = soa.map_or(limits::ABSENT_DEFAULT, |seconds| Duration::from_secs(seconds.into()));
    seconds.min(limits::ABSENT_MAX)
}
