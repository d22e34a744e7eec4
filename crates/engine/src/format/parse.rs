//! Texts with holes, read.

use super::operator::Operator;
use super::{Part, time};
use crate::{Refusal, RequestField};
use http::HeaderName;

/// Takes a text apart.
pub(super) fn parts(text: &str) -> Result<Vec<Part>, Refusal> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(percent) = rest.find('%') {
        let (before, after) = rest.split_at(percent);
        literal.push_str(before);
        let after = after.get(1..).unwrap_or_default();
        if let Some(after) = after.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut literal).into()));
        }
        let (hole, after) = hole(after).ok_or_else(|| Refusal::invalid(format!("format {text:?}")))?;
        parts.push(Part::Hole(operator(&hole)?));
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Text(literal.into()));
    }
    Ok(parts)
}

/// `NAME`, `NAME(argument)` or `NAME(argument):length`.
struct Hole<'a> {
    name: &'a str,
    argument: Option<&'a str>,
    length: Option<usize>,
}

/// The hole that `text` begins with, behind its first percent sign, and what follows its last.
fn hole(text: &str) -> Option<(Hole<'_>, &str)> {
    let end = text.find(|char: char| !(char.is_ascii_alphanumeric() || char == '_'))?;
    let (name, mut rest) = text.split_at(end);
    let mut argument = None;
    if let Some(inside) = rest.strip_prefix('(') {
        // Time formats have percent signs of their own, so the parenthesis that ends it is the last before `%`.
        let close = inside.match_indices(')').map(|(at, _)| at).find(|at| {
            matches!(inside.get(at + 1..).and_then(|after| after.bytes().next()), Some(b'%' | b':'))
        })?;
        argument = inside.get(..close);
        rest = inside.get(close + 1..)?;
    }
    let mut length = None;
    if let Some(number) = rest.strip_prefix(':') {
        let end = number.find('%')?;
        length = Some(number.get(..end)?.parse().ok()?);
        rest = number.get(end..)?;
    }
    Some((Hole { name, argument, length }, rest.strip_prefix('%')?))
}

fn operator(hole: &Hole<'_>) -> Result<Operator, Refusal> {
    let Hole { name, argument, length } = *hole;
    let wrong = |what: &str| Refusal::invalid(format!("%{name}%: {what}"));
    match (name, argument) {
        ("REQ" | "REQ_WITHOUT_QUERY", Some(names)) => {
            let (first, other) = names.split_once('?').map_or((names, None), |(a, b)| (a, Some(b)));
            let names = std::iter::once(first).chain(other).map(RequestField::parse);
            let names = names.filter(|field| *field != RequestField::Nothing).collect();
            Ok(Operator::Request { names, length, without_query: name == "REQ_WITHOUT_QUERY" })
        }
        ("RESP" | "TRAILER", Some(names)) => {
            let (first, other) = names.split_once('?').map_or((names, None), |(a, b)| (a, Some(b)));
            let names = std::iter::once(first).chain(other);
            let names = names.filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect();
            Ok(match name {
                "RESP" => Operator::Response { names, length },
                _ => Operator::Trailer { names, length },
            })
        }
        ("REQ" | "REQ_WITHOUT_QUERY" | "RESP" | "TRAILER", None) => Err(wrong("no header is named")),
        ("LOCAL_REPLY_BODY", None) => Ok(Operator::LocalReplyBody),
        ("START_TIME", text) => Ok(Operator::StartTime(time::TimeFormat::compile(text.unwrap_or_default())?)),
        // What no proxy of ours sets is never there.
        (
            "DYNAMIC_METADATA"
            | "CLUSTER_METADATA"
            | "UPSTREAM_METADATA"
            | "METADATA"
            | "FILTER_STATE"
            | "UPSTREAM_FILTER_STATE",
            Some(_),
        ) => Ok(Operator::Absent),
        (name, None) => {
            Operator::simple(name).ok_or_else(|| Refusal::unsupported(format!("command operator %{name}%")))
        }
        (name, Some(_)) => Err(Refusal::unsupported(format!("command operator %{name}(...)%"))),
    }
}
