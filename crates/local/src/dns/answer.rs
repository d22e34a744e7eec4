//! A question's answer, if it is the mesh's to give.

use std::net::IpAddr;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, TXT};
use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType};

use super::zone::{Asker, Found, FoundAddress, Node, Zone, domain};

/// Seconds that an answer may be remembered: as in Kubernetes, short enough to follow pods.
pub(super) const TTL: u32 = 5;
/// Aliases of aliases that are followed; a longer chain is somebody's mistake.
const ALIASES_MAX: usize = 8;

/// What becomes of a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is answered.
    Answer(Box<Answer>),
    /// Others know.
    Forward,
    /// The mesh has the aliases; others know what the last of them leads to.
    Follow {
        /// `CNAME` records, in order.
        aliases: Vec<Record>,
        /// Where the last one leads.
        target: Name,
    },
}

/// An answer of the mesh's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// `NoError` or what is wrong.
    pub code: ResponseCode,
    /// Records of the answer section.
    pub records: Vec<Record>,
    /// The SOA, where nothing was found.
    pub authority: Option<Record>,
    /// Addresses of servers in the answer.
    pub additional: Vec<Record>,
}

impl Answer {
    fn of(records: Vec<Record>) -> Self {
        Self { code: ResponseCode::NoError, records, authority: None, additional: Vec::new() }
    }

    fn negative(code: ResponseCode, records: Vec<Record>, zone: &Name) -> Self {
        Self { code, records, authority: Some(soa(zone)), additional: Vec::new() }
    }
}

/// Answers a question of class `IN`.
pub fn answer(zone: &Zone, asker: Asker<'_>, query: &Query) -> Verdict {
    if matches!(query.query_type, RecordType::AXFR | RecordType::IXFR) {
        return Verdict::Answer(Box::new(Answer { code: ResponseCode::Refused, ..Answer::of(Vec::new()) }));
    }
    match query.name.parse_arpa_name() {
        // Part of an address: a delegation, which is never ours.
        Ok(network) if network.prefix_len() == network.max_prefix_len() => {
            reverse(zone, network.addr(), query)
        }
        _ => forward(zone, asker, query),
    }
}

/// From a name on, through aliases.
fn forward(zone: &Zone, asker: Asker<'_>, query: &Query) -> Verdict {
    let wanted = query.query_type;
    let apex = Name::from(domain());
    let mut aliases = Vec::new();
    let mut name = query.name.clone();
    while aliases.len() <= ALIASES_MAX {
        let answer = match zone.find(asker, &name) {
            Found::Node(Node { alias: Some(target), .. }) => {
                aliases.push(Record::from_rdata(name, TTL, RData::CNAME(CNAME(target.clone()))));
                name = target.clone();
                if wanted != RecordType::CNAME {
                    continue;
                }
                Answer::of(aliases)
            }
            Found::Node(node) => existing(zone, &name, node, wanted, aliases),
            Found::Entry(addresses) if wanted.is_ip_addr() => {
                addresses_or_nothing(&name, addresses.iter(), wanted, aliases)
            }
            Found::Empty => Answer::negative(ResponseCode::NoError, aliases, &apex),
            Found::Nothing => Answer::negative(ResponseCode::NXDomain, aliases, &apex),
            Found::Entry(_) | Found::Elsewhere if aliases.is_empty() => return Verdict::Forward,
            Found::Entry(_) | Found::Elsewhere => return Verdict::Follow { aliases, target: name },
        };
        return Verdict::Answer(Box::new(answer));
    }
    Verdict::Answer(Box::new(Answer { code: ResponseCode::ServFail, ..Answer::of(Vec::new()) }))
}

/// The records of a name of the mesh's own, after the aliases that led to it.
fn existing(zone: &Zone, name: &Name, node: &Node, wanted: RecordType, mut records: Vec<Record>) -> Answer {
    let wants = |kind: RecordType| wanted == kind || wanted == RecordType::ANY;
    let before = records.len();
    let record = |data: RData| Record::from_rdata(name.clone(), TTL, data);
    let addresses = node.addresses.iter().map(|address| data(*address));
    records.extend(addresses.filter(|data| wants(data.record_type())).map(record));
    let mut additional = Vec::new();
    if wants(RecordType::SRV) {
        records.extend(node.servers.iter().map(|server| record(RData::SRV(server.clone()))));
        additional.extend(node.servers.iter().flat_map(|server| glue(zone, &server.target)));
        additional.sort();
        additional.dedup();
    }
    if let Some(text) = node.text
        && wants(RecordType::TXT)
    {
        records.push(record(RData::TXT(TXT::new(vec![text.to_owned()]))));
    }
    let apex = Name::from(domain());
    if LowerName::new(name) == domain() {
        if wants(RecordType::SOA) {
            records.push(soa(&apex));
        }
        if wants(RecordType::NS) {
            records.push(record(RData::NS(NS(name_server(&apex)))));
        }
    }
    match records.len() > before {
        true => Answer { additional, ..Answer::of(records) },
        false => Answer::negative(ResponseCode::NoError, records, &apex),
    }
}

fn glue(zone: &Zone, target: &Name) -> Vec<Record> {
    let addresses = zone.names.get(&LowerName::new(target)).map(|node| &node.addresses);
    addresses
        .into_iter()
        .flatten()
        .map(|address| Record::from_rdata(target.clone(), TTL, data(*address)))
        .collect()
}

fn addresses_or_nothing<'a>(
    name: &Name,
    addresses: impl Iterator<Item = &'a IpAddr>,
    wanted: RecordType,
    mut records: Vec<Record>,
) -> Answer {
    let before = records.len();
    let wanted = addresses.map(|address| data(*address)).filter(|data| data.record_type() == wanted);
    records.extend(wanted.map(|data| Record::from_rdata(name.clone(), TTL, data)));
    match records.len() > before {
        true => Answer::of(records),
        false => Answer::negative(ResponseCode::NoError, records, &name.base_name()),
    }
}

/// From an address to its names.
fn reverse(zone: &Zone, address: IpAddr, query: &Query) -> Verdict {
    let wanted = matches!(query.query_type, RecordType::PTR | RecordType::ANY);
    // `in-addr.arpa` or `ip6.arpa`.
    let apex = query.name.trim_to(2);
    Verdict::Answer(Box::new(match zone.find_address(address) {
        FoundAddress::Names(names) if wanted => {
            let record =
                |name: &Name| Record::from_rdata(query.name.clone(), TTL, RData::PTR(PTR(name.clone())));
            Answer::of(names.iter().map(record).collect())
        }
        FoundAddress::Names(_) => Answer::negative(ResponseCode::NoError, Vec::new(), &apex),
        FoundAddress::Nothing => Answer::negative(ResponseCode::NXDomain, Vec::new(), &apex),
        FoundAddress::Elsewhere => return Verdict::Forward,
    }))
}

fn data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

/// The SOA of a zone: only how long nothing may be remembered matters, and nobody transfers zones.
fn soa(zone: &Name) -> Record {
    let under = |label: &str| zone.prepend_label(label).unwrap_or_default();
    let soa = SOA::new(name_server(zone), under("hostmaster"), 1, 7200, 1800, 86_400, TTL);
    Record::from_rdata(zone.clone(), TTL, RData::SOA(soa))
}

fn name_server(zone: &Name) -> Name {
    zone.prepend_label("dns").and_then(|name| name.prepend_label("ns")).unwrap_or_default()
}
