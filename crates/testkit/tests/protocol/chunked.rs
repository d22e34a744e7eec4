//! Chunked bodies both ways: framed anew by the proxy, with the same bytes.

use crate::harness::{Case, Family, case};

pub fn family() -> Family {
    Family::new("chunked", [requests(), responses()].into_iter().flatten().collect())
}

crate::tests!();

/// A chunked `POST` whose body is these bytes as they are.
fn post(chunks: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n{chunks}")
}

fn response(chunks: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}")
}

/// What of a request's body reaches the upstream, sent in pieces of this size.
fn up(name: &'static str, request: String, piece: usize, expected: &str) -> Case {
    case(
        name,
        |_| {},
        move |x| {
            let mut client = x.client()?;
            client.dribble(&request, piece)?;
            let mut upstream = x.upstream()?;
            let got = upstream.request()?;
            x.see(got.framing);
            x.see(match got.body.len() {
                0..=100 => got.text(),
                length => format!("{length} bytes"),
            });
            x.see(format!("{} trailers", got.trailers.len()));
            upstream.answer("ok")?;
            x.see(client.response()?.brief());
            Ok(())
        },
        expected,
    )
}

/// What of a response's body reaches the client, and whether the client's connection is still good.
fn down(name: &'static str, response: String, piece: usize, expected: &str) -> Case {
    case(
        name,
        |_| {},
        move |x| {
            let (mut client, mut upstream, _) = x.begin_get()?;
            upstream.dribble(&response, piece)?;
            let got = client.response()?;
            x.see(got.framing);
            x.see(match got.body.len() {
                0..=100 => got.text(),
                length => format!("{length} bytes"),
            });
            x.see(format!("{} trailers", got.trailers.len()));
            let (_, next) = x.exchange(&mut client, &mut upstream, "/next")?;
            x.see(next.brief());
            Ok(())
        },
        expected,
    )
}

fn requests() -> Vec<Case> {
    let large = format!("30d40\r\n{}\r\n0\r\n\r\n", "x".repeat(200_000));
    vec![
        up("one chunk", post("5\r\nhello\r\n0\r\n\r\n"), 4096, "chunked, hello, 0 trailers, 200 ok"),
        up("two chunks", post("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), 4096, "chunked, hello world, 0 trailers, 200 ok"),
        up("a byte at a time", post("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), 1, "chunked, hello world, 0 trailers, 200 ok"),
        up("three bytes at a time", post("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), 3, "chunked, hello world, 0 trailers, 200 ok"),
        up("no bytes", post("0\r\n\r\n"), 4096, "chunked, , 0 trailers, 200 ok"),
        up("sizes with leading zeros and in capitals", post("00A\r\n0123456789\r\n000\r\n\r\n"), 4096, "chunked, 0123456789, 0 trailers, 200 ok"),
        up("extensions are dropped", post("5;a=b\r\nhello\r\n0;last\r\n\r\n"), 4096, "chunked, hello, 0 trailers, 200 ok"),
        up("quoted extensions", post("5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n"), 2, "chunked, hello, 0 trailers, 200 ok"),
        up("trailers are dropped unless enabled", post("5\r\nhello\r\n0\r\nx-end: 1\r\n\r\n"), 4096, "chunked, hello, 0 trailers, 200 ok"),
        up("a large chunk in odd pieces", post(&large), 7919, "chunked, 200000 bytes, 0 trailers, 200 ok"),
        up("the coding's name in capitals", "POST / HTTP/1.1\r\nhost: a.test\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned(), 4096, "chunked, ok, 0 trailers, 200 ok"),
        up("a length of zero is no chunked body", "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 0\r\n\r\n".to_owned(), 4096, "length, , 0 trailers, 200 ok"),
        up("a POST with no body at all", "POST / HTTP/1.1\r\nhost: a.test\r\n\r\n".to_owned(), 4096, "length, , 0 trailers, 200 ok"),
        up("a GET with a chunked body", "GET / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned(), 4096, "chunked, ok, 0 trailers, 200 ok"),
        up("a DELETE with a length", "DELETE / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2\r\n\r\nok".to_owned(), 4096, "length, ok, 0 trailers, 200 ok"),
    ]
}

fn responses() -> Vec<Case> {
    let large = response(&format!("30d40\r\n{}\r\n0\r\n\r\n", "x".repeat(200_000)));
    vec![
        down("an answer in one chunk", response("5\r\nhello\r\n0\r\n\r\n"), 4096, "chunked, hello, 0 trailers, 200 ok"),
        down("an answer a byte at a time", response("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), 1, "chunked, hello world, 0 trailers, 200 ok"),
        down("an answer of no bytes", response("0\r\n\r\n"), 4096, "chunked, , 0 trailers, 200 ok"),
        down("an answer with extensions", response("5;a=b\r\nhello\r\n0\r\n\r\n"), 4096, "chunked, hello, 0 trailers, 200 ok"),
        down("an answer's trailers are dropped unless enabled", response("5\r\nhello\r\n0\r\nx-end: 1\r\n\r\n"), 4096, "chunked, hello, 0 trailers, 200 ok"),
        down("a large answer in odd pieces", large, 7919, "chunked, 200000 bytes, 0 trailers, 200 ok"),
        case(
            "an answer that lasts until the close is chunked to the client",
            |_| {},
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.send("HTTP/1.1 200 OK\r\n\r\nhello")?;
                upstream.fin()?;
                let got = client.response()?;
                x.see(got.framing);
                x.see(got.text());
                client.get("/2")?;
                let mut second = x.upstream()?;
                second.request()?;
                second.answer("two")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "chunked, hello, 200 two",
        ),
        case(
            "the first chunk goes on before the last has come",
            |_| {},
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.send(response("5\r\nhello\r\n"))?;
                client.head()?;
                x.see(String::from_utf8_lossy(&client.chunk()?.unwrap_or_default()));
                upstream.send("3\r\nyou\r\n0\r\n\r\n")?;
                x.see(String::from_utf8_lossy(&client.chunk()?.unwrap_or_default()));
                x.see(if client.chunk()?.is_none() { "last" } else { "more" });
                Ok(())
            },
            "hello, you, last",
        ),
        case(
            "the first chunk of a request goes on before the last has come",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.send(post("5\r\nhello\r\n"))?;
                let mut upstream = x.upstream()?;
                upstream.head()?;
                x.see(String::from_utf8_lossy(&upstream.chunk()?.unwrap_or_default()));
                client.send("3\r\nyou\r\n0\r\n\r\n")?;
                x.see(String::from_utf8_lossy(&upstream.chunk()?.unwrap_or_default()));
                x.see(if upstream.chunk()?.is_none() { "last" } else { "more" });
                Ok(())
            },
            "hello, you, last",
        ),
        case(
            "a chunked answer that ends too soon is cut, not completed",
            |_| {},
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.send(response("5\r\nhello\r\n"))?;
                client.head()?;
                client.chunk()?;
                upstream.fin()?;
                x.see(client.closed()?);
                x.see_verdict()
            },
            "closed, log 200 UPE",
        ),
        case(
            "a chunked answer to HTTP/2 is plain data",
            |_| {},
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.get("/")?;
                let mut upstream = x.upstream()?;
                upstream.request()?;
                upstream.send(response("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"))?;
                let reply = client.reply(stream)?;
                x.see(reply.brief());
                x.see(reply.get("transfer-encoding"));
                Ok(())
            },
            "200 hello world, -",
        ),
        case(
            "a body of HTTP/2 without a length is chunked to the upstream",
            |_| {},
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/", &[], false)?;
                client.data(stream, b"hello", true)?;
                let mut upstream = x.upstream()?;
                let request = upstream.request()?;
                x.see(request.framing);
                x.see(request.text());
                upstream.answer("ok")?;
                x.see(client.reply(stream)?.brief());
                Ok(())
            },
            "chunked, hello, 200 ok",
        ),
    ]
}
