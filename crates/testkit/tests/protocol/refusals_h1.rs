//! Requests that are not HTTP/1 as RFC 9112 has it, and those that two readers could take for different ones.

use serde_json::json;

use crate::harness::process::{Either, readable_either};
use crate::harness::{Case, Done, Family, Stage, Wire, case};

pub fn family() -> Family {
    let all = [lengths(), codings(), chunks(), fields(), request_lines(), hosts(), passed(), strange(), limits()];
    Family::new("refusals_h1", all.into_iter().flatten().collect())
}

crate::tests!();

/// Refused, before anything reached the upstream.
const REFUSED: &str = "refused 400, closed, upstream untouched, log 400 DPE";

/// A request's fate.
fn row(name: &str, request: impl AsRef<[u8]>, expected: &str) -> Case {
    let request = request.as_ref().to_vec();
    case(name, |_| {}, move |x| x.see_fate(&request), expected)
}

/// A `POST` with these lines in its head and these bytes behind it.
fn post(lines: &str, behind: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: a.test\r\n{lines}\r\n{behind}")
}

fn chunked(behind: &str) -> String {
    post("transfer-encoding: chunked\r\n", behind)
}

fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: a.test\r\n{lines}\r\n")
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: a.test\r\n\r\n";

fn lengths() -> Vec<Case> {
    vec![
        row("two lengths that differ", post("content-length: 5\r\ncontent-length: 6\r\n", "hello!"), REFUSED),
        row("two lengths that agree", post("content-length: 5\r\ncontent-length: 5\r\n", "hello"), "refused 400, closed, upstream untouched, log 400 DPE"),
        row("a list of lengths that agree", post("content-length: 5, 5\r\n", "hello"), "refused 400, closed, upstream untouched, log 400 DPE"),
        row("a list of lengths that differ", post("content-length: 5, 6\r\n", "hello!"), REFUSED),
        row("a negative length", post("content-length: -5\r\n", "hello"), REFUSED),
        row("a length with a plus", post("content-length: +5\r\n", "hello"), REFUSED),
        row("a hexadecimal length", post("content-length: 0x5\r\n", "hello"), REFUSED),
        row("a length with a fraction", post("content-length: 5.0\r\n", "hello"), REFUSED),
        row("an empty length", post("content-length:\r\n", "hello"), REFUSED),
        row("a length that is a word", post("content-length: five\r\n", "hello"), REFUSED),
        row("a length with spaces inside", post("content-length: 1 1\r\n", "hello"), REFUSED),
        row("a length of twenty digits", post("content-length: 99999999999999999999\r\n", "hello"), REFUSED),
        row("a length with spaces around it", post("content-length:  5 \r\n", "hello"), "passed POST / HTTP/1.1 (length hello), 200 one, then GET /fence HTTP/1.1"),
    ]
}

fn codings() -> Vec<Case> {
    let both = |lines: &str| post(lines, &format!("5\r\nhello\r\n0\r\n\r\n{SMUGGLED}"));
    vec![
        row("a length and a coding", both("content-length: 6\r\ntransfer-encoding: chunked\r\n"), REFUSED),
        row("a coding and a length", both("transfer-encoding: chunked\r\ncontent-length: 6\r\n"), REFUSED),
        row("chunked twice in two lines", chunked("").replace("\r\n\r\n", "\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "refused 501, closed, upstream untouched, log 501 DPE"),
        row("chunked twice in one line", post("transfer-encoding: chunked, chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), "refused 501, closed, upstream untouched, log 501 DPE"),
        row("gzip, then chunked", post("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n"), "refused 501, closed, upstream untouched, log 501 DPE"),
        row("chunked, then gzip", post("transfer-encoding: chunked, gzip\r\n", "0\r\n\r\n"), "refused 501, closed, upstream untouched, log 501 DPE"),
        row("identity", post("transfer-encoding: identity\r\n", ""), "refused 501, closed, upstream untouched, log 501 DPE"),
        row("identity, then chunked", post("transfer-encoding: identity, chunked\r\n", "0\r\n\r\n"), "refused 501, closed, upstream untouched, log 501 DPE"),
        row("an unknown coding", post("transfer-encoding: xchunked\r\n", "0\r\n\r\n"), "refused 501, closed, upstream untouched, log 501 DPE"),
        row("an empty coding", post("transfer-encoding:\r\n", "0\r\n\r\n"), "refused 501, closed, upstream untouched, log 501 DPE"),
        row("a coding with a parameter", post("transfer-encoding: chunked;q=1\r\n", "0\r\n\r\n"), "refused 501, closed, upstream untouched, log 501 DPE"),
        row("a coding in quotes", post("transfer-encoding: \"chunked\"\r\n", "0\r\n\r\n"), "refused 501, closed, upstream untouched, log 501 DPE"),
        row("a coding behind a vertical tab", post("transfer-encoding: \x0bchunked\r\n", "0\r\n\r\n"), REFUSED),
        row("a coding behind a tab", post("transfer-encoding:\tchunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), "passed POST / HTTP/1.1 (chunked hello), 200 one, then GET /fence HTTP/1.1"),
        row("a coding with a comma in front", post("transfer-encoding: , chunked\r\n", "0\r\n\r\n"), "refused 501, closed, upstream untouched, log 501 DPE"),
        row("a length, and a coding behind a space", both("content-length: 6\r\ntransfer-encoding : chunked\r\n"), REFUSED),
        row("a length, and a coding in a folded line", both("content-length: 6\r\nx: y\r\n transfer-encoding: chunked\r\n"), "passed POST / HTTP/1.1 (length 5\\r\\nhel), 200 one, then nothing").ours("refused 400, closed, upstream untouched, log 400 DPE", "acceptance of line folding and bare CR lets two readers differ; ours refuses both, as RFC 9112 2.2 and 5.2 allow"),
        row("a length, and a coding with a NUL", both("content-length: 6\r\ntransfer-encoding: chunked\0\r\n"), REFUSED),
        row("a length, and a coding behind a bare CR", both("content-length: 6\r\nx: y\rtransfer-encoding: chunked\r\n"), "passed POST / HTTP/1.1 (length 5\\r\\nhel), 200 one, then nothing").ours("refused 400, closed, upstream untouched, log 400 DPE", "acceptance of line folding and bare CR lets two readers differ; ours refuses both, as RFC 9112 2.2 and 5.2 allow"),
        row("a coding named with an underscore is no coding", post("content-length: 5\r\ntransfer_encoding: chunked\r\n", "hello"), "passed POST / HTTP/1.1 (length hello), 200 one, then GET /fence HTTP/1.1"),
        row("HTTP/1.0 with a coding", "POST / HTTP/1.0\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "refused 426, closed, upstream untouched, log 426 DPE"),
    ]
}

/// The body of the request if all of it reaches the upstream, or nothing if the client is answered first.
fn whole_at_upstream(x: &Stage<'_>, client: &Wire) -> Done<Option<String>> {
    if readable_either(client.stream()?, &x.listener()?) == Either::First {
        return Ok(None);
    }
    let mut upstream = x.upstream()?;
    while readable_either(client.stream()?, upstream.stream()?) == Either::Second {
        if !upstream.fill()? {
            break;
        }
        if let Ok(request) = Wire::of_bytes(&upstream.buffer).request() {
            return Ok(Some(request.text()));
        }
    }
    Ok(None)
}

fn chunks() -> Vec<Case> {
    let bad = |name: &str, behind: &str, expected: &str| {
        let request = chunked(behind);
        case(
            name,
            |_| {},
            move |x| {
                let mut client = x.client()?;
                client.offer(&request);
                if let Some(body) = whole_at_upstream(x, &client)? {
                    x.see(format!("passed {}", if body.len() < 100 { body } else { body.len().to_string() }));
                    return Ok(());
                }
                x.see(client.response()?.status());
                x.see(client.closed()?);
                x.see_verdict()
            },
            expected,
        )
    };
    const BAD: &str = "400, closed, log 400 DPE";
    vec![
        bad("a chunk size of letters beyond f", "zz\r\nhello\r\n0\r\n\r\n", BAD),
        bad("a negative chunk size", "-5\r\nhello\r\n0\r\n\r\n", BAD),
        bad("a chunk size with a plus", "+5\r\nhello\r\n0\r\n\r\n", BAD),
        bad("a chunk size with 0x", "0x5\r\nhello\r\n0\r\n\r\n", BAD),
        bad("an empty chunk size", "\r\nhello\r\n0\r\n\r\n", BAD),
        bad("only an extension", ";a=b\r\nhello\r\n0\r\n\r\n", BAD),
        bad("a chunk size of seventeen digits", "fffffffffffffffff\r\nhello", BAD),
        bad("a chunk size behind a space", " 5\r\nhello\r\n0\r\n\r\n", BAD),
        bad("a chunk longer than its size", "3\r\nhello\r\n0\r\n\r\n", "passed hel").ours("400, closed, log 400 DPE", "a chunk ends where its size says, with CRLF (RFC 9112 7.1); what Envoy skips there ours refuses"),
        bad("a chunk without its CRLF", "5\r\nhello0\r\n\r\n", BAD),
        bad("a chunk that ends in a bare LF", "5\r\nhello\n0\r\n\r\n", "passed hello").ours("400, closed, log 400 DPE", "a chunk ends where its size says, with CRLF (RFC 9112 7.1); what Envoy skips there ours refuses"),
        bad("a chunk that ends in a bare CR", "5\r\nhello\r0\r\n\r\n", BAD),
        bad("a size line that ends in a bare LF", "5\nhello\r\n0\r\n\r\n", BAD),
        bad("an extension with a bare LF", "5;a\nb\r\nhello\r\n0\r\n\r\n", BAD),
        bad("an extension with a bare CR", "5;a\rb\r\nhello\r\n0\r\n\r\n", BAD),
        bad("an extension with a NUL", "5;a\0b\r\nhello\r\n0\r\n\r\n", "passed hello").ours("400, closed, log 400 DPE", "a NUL is no character of an extension (RFC 9112 7.1.1), nor of a quoted string"),
        bad("an extension of 100 KB", &format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(100_000)), "passed hello").ours_any(&["400, closed, log 400 DPE", "431, closed, log 431 DPE", "413, closed, log 413 DPE"], "RFC 9112 7.1.1: the length of extensions ought to be limited"),
        bad("a trailer with a space before the colon", "5\r\nhello\r\n0\r\nx : y\r\n\r\n", BAD),
    ]
}

fn fields() -> Vec<Case> {
    vec![
        row("a space before the colon", get("x : y\r\n"), REFUSED),
        row("a tab before the colon", get("x\t: y\r\n"), REFUSED),
        row("a folded line", get("x: y\r\n z\r\n"), "passed GET / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1").ours("refused 400, closed, upstream untouched, log 400 DPE", "acceptance of line folding and bare CR lets two readers differ; ours refuses both, as RFC 9112 2.2 and 5.2 allow"),
        row("a folded line with a tab", get("x: y\r\n\tz\r\n"), "passed GET / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1").ours("refused 400, closed, upstream untouched, log 400 DPE", "acceptance of line folding and bare CR lets two readers differ; ours refuses both, as RFC 9112 2.2 and 5.2 allow"),
        row("the first line begins with a space", "GET / HTTP/1.1\r\n x: y\r\nhost: a.test\r\n\r\n", REFUSED),
        row("a line without a colon", get("nonsense\r\n"), REFUSED),
        row("an empty name", get(": y\r\n"), REFUSED),
        row("a bare CR in a value", get("x: y\rz\r\n"), "passed GET / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1").ours("refused 400, closed, upstream untouched, log 400 DPE", "acceptance of line folding and bare CR lets two readers differ; ours refuses both, as RFC 9112 2.2 and 5.2 allow"),
        row("a bare LF in a value starts another line", get("x: y\nz\r\n"), REFUSED),
        row("a NUL in a value", get("x: y\0z\r\n"), REFUSED),
        row("a NUL in a name", get("x\0y: z\r\n"), REFUSED),
        row("a bracket in a name", get("x(y): z\r\n"), REFUSED),
        row("an at sign in a name", get("x@y: z\r\n"), REFUSED),
        row("a slash in a name", get("x/y: z\r\n"), REFUSED),
        row("a byte beyond ASCII in a name", b"GET / HTTP/1.1\r\nhost: a.test\r\nx\xe4: z\r\n\r\n", REFUSED),
        row("a control character in a value", get("x: y\x01z\r\n"), REFUSED),
        row("a DEL in a value", get("x: y\x7fz\r\n"), REFUSED),
        row("lines that end in a bare LF", "GET / HTTP/1.1\nhost: a.test\n\n", "passed GET / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1").ours_any(&["refused 400, closed, upstream untouched, log 400 DPE", "passed GET / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1"], "RFC 9112 2.2 leaves it to the reader whether a bare LF ends a line; ours does not take it"),
        row("one line that ends in a bare LF", "GET / HTTP/1.1\r\nhost: a.test\nx: y\r\n\r\n", "passed GET / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1").ours_any(&["refused 400, closed, upstream untouched, log 400 DPE", "passed GET / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1"], "RFC 9112 2.2 leaves it to the reader whether a bare LF ends a line; ours does not take it"),
        row("a head that ends in a bare LF", "GET / HTTP/1.1\r\nhost: a.test\r\n\n", "passed GET / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1").ours_any(&["refused 400, closed, upstream untouched, log 400 DPE", "passed GET / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1"], "RFC 9112 2.2 leaves it to the reader whether a bare LF ends a line; ours does not take it"),
    ]
}

fn request_lines() -> Vec<Case> {
    let line = |name: &str, line: &str, expected: &str| row(name, format!("{line}\r\nhost: a.test\r\n\r\n"), expected);
    vec![
        line("no version", "GET /", "refused 426, closed, upstream untouched, log 426 DPE").ours_any(&["refused 400, closed, upstream untouched, log 400 DPE", "refused 505, closed, upstream untouched, log 505 DPE", "refused 426, closed, upstream untouched, log 426 DPE"], "RFC 9110 15.6.6: ours says 505 to a version it does not speak, or 400 where there is none"),
        line("no target", "GET HTTP/1.1", REFUSED),
        line("two spaces", "GET  / HTTP/1.1", "passed GET / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1").ours("refused 400, closed, upstream untouched, log 400 DPE", "RFC 9112 3 allows lenient parsing and warns of it; ours takes exactly one space"),
        line("two spaces before the version", "GET /  HTTP/1.1", "passed GET / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1").ours("refused 400, closed, upstream untouched, log 400 DPE", "RFC 9112 3 allows lenient parsing and warns of it; ours takes exactly one space"),
        line("a tab for a space", "GET\t/\tHTTP/1.1", "passed GET / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1").ours("refused 400, closed, upstream untouched, log 400 DPE", "RFC 9112 3 allows lenient parsing and warns of it; ours takes exactly one space"),
        line("a space in front", " GET / HTTP/1.1", REFUSED),
        line("a space behind", "GET / HTTP/1.1 ", "passed GET / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1").ours("refused 400, closed, upstream untouched, log 400 DPE", "RFC 9112 3 allows lenient parsing and warns of it; ours takes exactly one space"),
        line("a space in the target", "GET /a b HTTP/1.1", REFUSED),
        line("a version in small letters", "GET / http/1.1", REFUSED),
        line("version 1.2", "GET / HTTP/1.2", "refused 426, closed, upstream untouched, log 426 DPE").ours_any(&["refused 505, closed, upstream untouched, log 505 DPE", "refused 426, closed, upstream untouched, log 426 DPE", "refused 400, closed, upstream untouched, log 400 DPE"], "RFC 9110 15.6.6: ours says 505 to a version it does not speak, or 400 where there is none"),
        line("version 2.0", "GET / HTTP/2.0", "refused 426, closed, upstream untouched, log 426 DPE").ours_any(&["refused 505, closed, upstream untouched, log 505 DPE", "refused 426, closed, upstream untouched, log 426 DPE", "refused 400, closed, upstream untouched, log 400 DPE"], "RFC 9110 15.6.6: ours says 505 to a version it does not speak, or 400 where there is none"),
        line("version 0.9", "GET / HTTP/0.9", "refused 426, closed, upstream untouched, log 426 DPE").ours_any(&["refused 505, closed, upstream untouched, log 505 DPE", "refused 426, closed, upstream untouched, log 426 DPE", "refused 400, closed, upstream untouched, log 400 DPE"], "RFC 9110 15.6.6: ours says 505 to a version it does not speak, or 400 where there is none"),
        line("version 1.10", "GET / HTTP/1.10", REFUSED),
        line("version 1", "GET / HTTP/1", REFUSED),
        line("a version with a sign", "GET / HTTP/+1.1", REFUSED),
        line("a method with an at sign", "G@T / HTTP/1.1", REFUSED),
        line("an empty method", " / HTTP/1.1", REFUSED),
        line("a NUL in the target", "GET /a\0b HTTP/1.1", REFUSED),
        line("a bare CR in the target", "GET /a\rb HTTP/1.1", REFUSED),
        line("a control character in the target", "GET /a\x01b HTTP/1.1", REFUSED),
        line("a DEL in the target", "GET /a\x7fb HTTP/1.1", REFUSED),
        line("a target that is no path", "GET a HTTP/1.1", REFUSED),
        line("a fragment in the target", "GET /a#b HTTP/1.1", "refused 400, closed, upstream untouched, log 400 -").ours_any(&["refused 400, closed, upstream untouched, log 400 DPE", "refused 400, closed, upstream untouched, log 400 -"], "a fragment is no part of a target; ours finds it while parsing, Envoy later"),
        row("a byte beyond ASCII in the target", b"GET /\xe4 HTTP/1.1\r\nhost: a.test\r\n\r\n", "refused 400, closed, upstream untouched, log 400 DPE"),
        line("a star with GET", "GET * HTTP/1.1", "refused 400, closed, upstream untouched, log 400 DPE"),
        row("a ClientHello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", REFUSED),
        case(
            "half of the HTTP/2 preface, then something else",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.offer("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
                client.drain()?;
                x.see("closed");
                x.see_untouched()
            },
            "closed, upstream untouched",
        ),
    ]
}

fn hosts() -> Vec<Case> {
    let host = |name: &str, lines: &str, expected: &str| row(name, format!("GET / HTTP/1.1\r\n{lines}\r\n"), expected);
    vec![
        host("no host", "", "refused 400, closed, upstream untouched, log 400 -"),
        host("two hosts that differ", "host: a.test\r\nhost: b.test\r\n", "passed GET / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1").ours_any(&["refused 400, closed, upstream untouched, log 400 DPE", "refused 400, closed, upstream untouched, log 400 -"], "RFC 9112 3.2: more than one Host, or one that is no host and port, is answered 400"),
        host("two hosts that agree", "host: a.test\r\nhost: a.test\r\n", "passed GET / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1").ours_any(&["refused 400, closed, upstream untouched, log 400 DPE", "refused 400, closed, upstream untouched, log 400 -"], "RFC 9112 3.2: more than one Host, or one that is no host and port, is answered 400"),
        host("an empty host", "host:\r\n", "passed GET / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1"),
        host("a host with a space", "host: a test\r\n", REFUSED),
        host("a host with a slash", "host: a.test/b\r\n", REFUSED),
        host("a host with user information", "host: me@a.test\r\n", "passed GET / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1").ours_any(&["refused 400, closed, upstream untouched, log 400 DPE", "refused 400, closed, upstream untouched, log 400 -"], "RFC 9112 3.2: more than one Host, or one that is no host and port, is answered 400"),
        host("a host with a bad port", "host: a.test:http\r\n", "passed GET / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1").ours_any(&["refused 400, closed, upstream untouched, log 400 DPE", "refused 400, closed, upstream untouched, log 400 -"], "RFC 9112 3.2: more than one Host, or one that is no host and port, is answered 400"),
        host("a host with a list", "host: a.test, b.test\r\n", REFUSED),
        host("a host with a NUL", "host: a\0.test\r\n", REFUSED),
    ]
}

/// What must pass, so that refusing is not all that is tested.
fn passed() -> Vec<Case> {
    const PASSED: &str = "passed GET / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1";
    vec![
        row("every character that a name may have", get("!#$%&'*+-.^_`|~09azAZ: y\r\n"), PASSED),
        row("a tab in a value", get("x: y\tz\r\n"), PASSED),
        row("an empty value", get("x:\r\n"), PASSED),
        row("a byte beyond ASCII in a value", b"GET / HTTP/1.1\r\nhost: a.test\r\nx: \xe4\r\n\r\n", PASSED),
        row("spaces around a value", get("x:   y   \r\n"), PASSED),
        row("a method of one's own", "PURGE-IT / HTTP/1.1\r\nhost: a.test\r\n\r\n", "refused 400, closed, upstream untouched, log 400 DPE").ours_any(&["passed PURGE-IT / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1", "refused 400, closed, upstream untouched, log 400 DPE"], "a method that Envoy does not know is refused by it; RFC 9110 9.1 leaves methods open, and either will do"),
        row("a target of the absolute form", "GET http://a.test/x?y HTTP/1.1\r\nhost: a.test\r\n\r\n", "passed GET /x?y HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1"),
        case(
            "OPTIONS of a star finds no route of a prefix",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.send("OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n")?;
                x.see(client.response()?.status());
                Ok(())
            },
            "404",
        ),
        row("a small method is a method of its own", "get / HTTP/1.1\r\nhost: a.test\r\n\r\n", "refused 400, closed, upstream untouched, log 400 DPE").ours_any(&["passed get / HTTP/1.1 (none ), 200 one, then GET /fence HTTP/1.1", "refused 400, closed, upstream untouched, log 400 DPE"], "a method that Envoy does not know is refused by it; RFC 9110 9.1 leaves methods open, and either will do"),
    ]
}

/// Words of `Connection` and `Upgrade` that could do harm at the next hop.
fn strange() -> Vec<Case> {
    let stripped = |name: &str, lines: &'static str, field: &'static str, expected: &str| {
        case(
            name,
            |_| {},
            move |x| {
                let mut client = x.client()?;
                client.offer(get(lines));
                if readable_either(client.stream()?, &x.listener()?) == Either::First {
                    x.see(format!("refused {}", client.response()?.status()));
                    return Ok(());
                }
                let mut upstream = x.upstream()?;
                let request = upstream.request()?;
                x.see(request.told(field));
                x.see(request.told("host"));
                upstream.answer("ok")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            expected,
        )
    };
    vec![
        stripped("a field named by Connection goes no further", "connection: x-mine\r\nx-mine: 1\r\n", "x-mine", "x-mine=-, host=a.test, 200 ok"),
        stripped("Connection that names host", "connection: host\r\n", "connection", "refused 400"),
        stripped("Connection that names a forwarding field", "connection: x-forwarded-for\r\nx-forwarded-for: 1.2.3.4\r\n", "connection", "refused 400"),
        stripped("an upgrade to h2c is not asked for upstream", "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n", "upgrade", "upgrade=-, host=a.test, 200 ok"),
        stripped("Keep-Alive goes no further", "connection: keep-alive\r\nkeep-alive: timeout=5\r\n", "keep-alive", "keep-alive=-, host=a.test, 200 ok"),
        stripped("Proxy-Connection goes no further", "proxy-connection: keep-alive\r\n", "proxy-connection", "proxy-connection=-, host=a.test, 200 ok"),
        case(
            "the authority of an absolute target is the host",
            |_| {},
            |x| {
                let (_client, _upstream, request) = x.begin("GET http://b.test/x HTTP/1.1\r\nhost: a.test\r\n\r\n")?;
                x.see(request.start.clone());
                x.see(request.told("host"));
                Ok(())
            },
            "GET /x HTTP/1.1, host=b.test",
        ),
    ]
}

fn limits() -> Vec<Case> {
    vec![
        case(
            "names with underscores, where they are refused",
            |s| {
                s.hcm("common_http_protocol_options.headers_with_underscores_action", json!("REJECT_REQUEST"));
            },
            |x| x.see_fate(get("x_y: z\r\n")),
            REFUSED,
        ),
        case(
            "names with underscores, where they are dropped",
            |s| {
                s.hcm("common_http_protocol_options.headers_with_underscores_action", json!("DROP_HEADER"));
            },
            |x| {
                let (_client, _upstream, request) = x.begin(&get("x_y: z\r\n"))?;
                x.see(request.told("x_y"));
                Ok(())
            },
            "x_y=-",
        ),
        row("a request line of 100 KB", format!("GET /{} HTTP/1.1\r\nhost: a.test\r\n\r\n", "x".repeat(100_000)), "refused 431, closed, upstream untouched, log 431 DPE"),
        row("a name of 100 KB", get(&format!("{}: y\r\n", "x".repeat(100_000))), "refused 431, closed, upstream untouched, log 431 DPE"),
        row("a method of 100 KB", format!("{} / HTTP/1.1\r\nhost: a.test\r\n\r\n", "X".repeat(100_000)), "refused 431, closed, upstream untouched, log 431 DPE"),
    ]
}
