//! Responses of an HTTP/1 upstream that are not HTTP: the upstream's fault, and told so.

use crate::harness::wire::PATIENCE;
use crate::harness::{Case, Family, case};

pub fn family() -> Family {
    Family::new("refusals_upstream", [heads(), framing(), cut()].into_iter().flatten().collect())
}

crate::tests!();

const REFUSED: &str = "502, closed, log 502 UPE";

/// What a client gets for this response, and what becomes of the upstream's connection if it is not 200.
fn row(name: &str, response: impl AsRef<[u8]>, expected: &str) -> Case {
    let bytes = response.as_ref().to_vec();
    case(
        name,
        |_| {},
        move |x| {
            let (mut client, mut upstream, _) = x.begin_get()?;
            upstream.offer(&bytes);
            client.patience(std::time::Duration::from_secs(2))?;
            let Ok(response) = client.response() else {
                x.see("no answer");
                return Ok(());
            };
            client.patience(PATIENCE)?;
            if response.status() == 200 {
                x.see(response.brief());
            } else {
                x.see(response.status());
            }
            if response.status() == 502 {
                x.see(upstream.closed()?);
            }
            x.see_verdict()
        },
        expected,
    )
}

fn ok(lines: &str, behind: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n{behind}")
}

fn heads() -> Vec<Case> {
    let line = |name: &str, line: &str, expected: &str| row(name, format!("{line}\r\ncontent-length: 0\r\n\r\n"), expected);
    vec![
        line("a status line that is none", "NONSENSE", REFUSED),
        line("no status", "HTTP/1.1", REFUSED),
        line("a status of two digits", "HTTP/1.1 20 OK", "no answer").ours("502, closed, log 502 UPE", "a status is three digits (RFC 9112 4), and below 100 there is none"),
        line("a status of four digits", "HTTP/1.1 2000 OK", "2000, log 2000 -").ours("502, closed, log 502 UPE", "a status is three digits (RFC 9112 4), and below 100 there is none"),
        line("a status of letters", "HTTP/1.1 OK OK", REFUSED),
        line("a status below 100", "HTTP/1.1 099 OK", "no answer").ours("502, closed, log 502 UPE", "a status is three digits (RFC 9112 4), and below 100 there is none"),
        line("a status of 600", "HTTP/1.1 600 Six", "600, log 600 -").ours_any(&["600, log 600 -", "502, closed, log 502 UPE", "999, log 999 -"], "a status beyond 599 is invalid; RFC 9110 15 has a client take it for a server error"),
        line("a status of 999", "HTTP/1.1 999 Nine", "999, log 999 -").ours_any(&["600, log 600 -", "502, closed, log 502 UPE", "999, log 999 -"], "a status beyond 599 is invalid; RFC 9110 15 has a client take it for a server error"),
        line("no reason", "HTTP/1.1 200", "200, log 200 -"),
        line("an empty reason", "HTTP/1.1 200 ", "200, log 200 -"),
        line("version 2.0", "HTTP/2.0 200 OK", "200, log 200 -").ours_any(&["502, closed, log 502 UPE", "200, log 200 -"], "another version in an answer is taken or refused; no rule says which"),
        line("version 1.2", "HTTP/1.2 200 OK", "200, log 200 -").ours_any(&["502, closed, log 502 UPE", "200, log 200 -"], "another version in an answer is taken or refused; no rule says which"),
        line("another protocol", "ICY 200 OK", REFUSED),
        line("a NUL in the reason", "HTTP/1.1 200 O\0K", "502, closed, log 502 UPE"),
        row("a space before the colon", ok("x : y\r\ncontent-length: 0\r\n", ""), REFUSED),
        row("a folded line", ok("x: y\r\n z\r\ncontent-length: 0\r\n", ""), "200, log 200 -").ours("502, closed, log 502 UPE", "ours refuses folded lines and bare CR, as RFC 9112 2.2 and 5.2 allow"),
        row("a line without a colon", ok("nonsense\r\ncontent-length: 0\r\n", ""), REFUSED),
        row("an empty name", ok(": y\r\ncontent-length: 0\r\n", ""), REFUSED),
        row("a NUL in a value", ok("x: y\0z\r\ncontent-length: 0\r\n", ""), REFUSED),
        row("a bare CR in a value", ok("x: y\rz\r\ncontent-length: 0\r\n", ""), "200, log 200 -").ours("502, closed, log 502 UPE", "ours refuses folded lines and bare CR, as RFC 9112 2.2 and 5.2 allow"),
        row("a NUL in a name", ok("x\0y: z\r\ncontent-length: 0\r\n", ""), REFUSED),
        row("a bracket in a name", ok("x(y): z\r\ncontent-length: 0\r\n", ""), REFUSED),
        row("a control character in a value", ok("x: y\x01z\r\ncontent-length: 0\r\n", ""), REFUSED),
        row("lines that end in a bare LF", "HTTP/1.1 200 OK\ncontent-length: 0\n\n", "200, log 200 -").ours_any(&["502, closed, log 502 UPE", "200, log 200 -"], "RFC 9112 2.2 leaves it to the reader whether a bare LF ends a line"),
        row("bytes that are not HTTP at all", b"\x00\x01\x02\x03\x04\x05\r\n\r\n", REFUSED),
        row("a TLS alert", b"\x15\x03\x01\x00\x02\x02\x0a\r\n\r\n", REFUSED),
        row("HTTP/2 frames", b"\x00\x00\x00\x04\x00\x00\x00\x00\x00\r\n\r\n", REFUSED),
    ]
}

fn framing() -> Vec<Case> {
    vec![
        row("two lengths that differ", ok("content-length: 5\r\ncontent-length: 6\r\n", "hello!"), REFUSED),
        row("two lengths that agree", ok("content-length: 5\r\ncontent-length: 5\r\n", "hello"), "502, closed, log 502 UPE"),
        row("a negative length", ok("content-length: -5\r\n", "hello"), REFUSED),
        row("a length that is a word", ok("content-length: five\r\n", "hello"), REFUSED),
        row("a length with a plus", ok("content-length: +5\r\n", "hello"), REFUSED),
        row("an empty length", ok("content-length:\r\n", "hello"), REFUSED),
        row("a length of twenty digits", ok("content-length: 99999999999999999999\r\n", "hello"), REFUSED),
        row("a length and a coding", ok("content-length: 5\r\ntransfer-encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), REFUSED),
        row("an unknown coding", ok("transfer-encoding: xchunked\r\n", "0\r\n\r\n"), REFUSED),
        row("gzip, then chunked", ok("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n"), REFUSED),
        row("chunked, then gzip", ok("transfer-encoding: chunked, gzip\r\n", "0\r\n\r\n"), REFUSED),
        row("204 with a length", "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello", "502, closed, log 502 UPE").ours_any(&["502, closed, log 502 UPE", "204, log 204 -"], "a 204 ends with its head whatever fields it has; Envoy calls the fields a fault"),
        row("204 with a coding", "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "502, closed, log 502 UPE").ours_any(&["502, closed, log 502 UPE", "204, log 204 -"], "a 204 ends with its head whatever fields it has; Envoy calls the fields a fault"),
        row("more than the length says", ok("content-length: 2\r\n", "hello"), "200 he, log 200 -"),
    ]
}

/// Faults that show only after the head has gone to the client.
fn cut() -> Vec<Case> {
    let cut = |name: &str, behind: &'static str, expected: &str| {
        case(
            name,
            |_| {},
            move |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.send(ok("transfer-encoding: chunked\r\n", "3\r\none\r\n"))?;
                x.see(client.head()?.status());
                x.see(String::from_utf8_lossy(&client.chunk()?.unwrap_or_default()));
                upstream.offer(behind);
                client.patience(std::time::Duration::from_secs(2))?;
                let Ok(closed) = client.closed() else {
                    x.see("went on");
                    return Ok(());
                };
                x.see(closed);
                x.see(upstream.closed()?);
                x.see_verdict()
            },
            expected,
        )
    };
    const CUT: &str = "200, one, closed, closed, log 200 UPE";
    vec![
        cut("a bad chunk size", "zz\r\nhello\r\n", CUT),
        cut("a negative chunk size", "-5\r\nhello\r\n", CUT),
        cut("a chunk size of seventeen digits", "fffffffffffffffff\r\nhello\r\n", CUT),
        cut("an empty chunk size", "\r\nhello\r\n", CUT),
        cut("a chunk longer than its size", "2\r\nhello\r\n", "200, one, went on").ours("200, one, closed after 7 bytes, closed, log 200 UPE", "a chunk ends where its size says, with CRLF (RFC 9112 7.1); what Envoy skips there ours refuses; the chunk itself has been passed on"),
        cut("a bad trailer", "0\r\nx : y\r\n\r\n", CUT),
        case(
            "the same to a client of HTTP/2 is a reset",
            |_| {},
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.get("/")?;
                let mut upstream = x.upstream()?;
                upstream.request()?;
                upstream.send(ok("transfer-encoding: chunked\r\n", "3\r\none\r\nzz\r\n"))?;
                x.see(client.reply(stream)?.brief());
                x.see_verdict()
            },
            "200 reset INTERNAL_ERROR, log 200 UPE",
        )
        .ours("200 one reset INTERNAL_ERROR, log 200 UPE", "ours passes on what came whole before the upstream's mistake"),
    ]
}
