//! A sender that is slow: each piece goes on before the next has come, in whichever shape it came.

use crate::harness::frames::{END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, block, frame};
use crate::harness::{Case, Event, Family, H2, case};

pub fn family() -> Family {
    Family::new("slow_writer", [heads(), bodies()].into_iter().flatten().collect())
}

crate::tests!();

const PIECES: usize = 20;

fn heads() -> Vec<Case> {
    vec![
        case(
            "a request's head in single bytes",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.dribble("GET /slow HTTP/1.1\r\nhost: a.test\r\nx-a: b\r\n\r\n", 1)?;
                let mut upstream = x.upstream()?;
                let request = upstream.request()?;
                x.see(&request.start);
                x.see(request.told("x-a"));
                upstream.answer("ok")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "GET /slow HTTP/1.1, x-a=b, 200 ok",
        ),
        case(
            "a response's head in single bytes",
            |_| {},
            |x| {
                let (mut client, mut upstream, _) = x.begin_get()?;
                upstream.dribble("HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 2\r\n\r\nok", 1)?;
                let response = client.response()?;
                x.see(response.brief());
                x.see(response.told("x-a"));
                Ok(())
            },
            "200 ok, x-a=b",
        ),
        case(
            "HTTP/2 in single bytes",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut wire = x.client()?;
                let head = block(&[(":method", "GET"), (":scheme", "http"), (":path", "/slow"), (":authority", "a.test")]);
                let bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)];
                wire.dribble(bytes.concat(), 1)?;
                let mut client = H2::resume(wire);
                let mut upstream = x.h2_upstream()?;
                let request = upstream.whole()?;
                x.see(request.get(":path"));
                let response = block(&[(":status", "200")]);
                upstream.wire.dribble(frame(HEADERS, END_HEADERS | END_STREAM, request.stream, &response), 1)?;
                x.see(client.reply(1)?.brief());
                Ok(())
            },
            "/slow, 200",
        ),
    ]
}

fn bodies() -> Vec<Case> {
    vec![
        case(
            "a request's chunks arrive one by one",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.send("POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n")?;
                let mut upstream = x.upstream()?;
                upstream.head()?;
                let mut good = 0;
                for number in 0..PIECES {
                    client.send(format!("3\r\n{number:03}\r\n"))?;
                    good += usize::from(upstream.chunk()? == Some(format!("{number:03}").into_bytes()));
                }
                x.see(good);
                client.send("0\r\n\r\n")?;
                x.see(upstream.chunk()?.is_none());
                Ok(())
            },
            "20, true",
        ),
        case(
            "a request's bytes arrive one by one",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.send("POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 20\r\n\r\n")?;
                let mut upstream = x.upstream()?;
                upstream.head()?;
                for _ in 0..PIECES {
                    client.send("x")?;
                    upstream.take(1)?;
                }
                upstream.answer("ok")?;
                x.see(client.response()?.brief());
                Ok(())
            },
            "200 ok",
        ),
        case(
            "a response's chunks arrive one by one, before the request has ended",
            |_| {},
            |x| {
                let mut client = x.client()?;
                client.send("POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 20\r\n\r\n")?;
                let mut upstream = x.upstream()?;
                upstream.head()?;
                upstream.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
                x.see(client.head()?.status());
                let mut good = 0;
                for number in 0..PIECES {
                    upstream.send(format!("3\r\n{number:03}\r\n"))?;
                    good += usize::from(client.chunk()? == Some(format!("{number:03}").into_bytes()));
                    client.send("x")?;
                    upstream.take(1)?;
                }
                x.see(good);
                upstream.send("0\r\n\r\n")?;
                x.see(client.chunk()?.is_none());
                Ok(())
            },
            "200, 20, true",
        ),
        case(
            "DATA arrives frame by frame, both ways",
            |s| {
                s.http2_upstream();
            },
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/", &[], false)?;
                let mut upstream = x.h2_upstream()?;
                let (at, ..) = upstream.begun()?;
                upstream.headers(at, &[(":status", "200")], false)?;
                client.begun()?;
                let mut good = 0;
                for number in 0..PIECES {
                    let piece = format!("{number:03}").into_bytes();
                    client.data(stream, &piece, false)?;
                    good += usize::from(upstream.wait(data)? == piece);
                    upstream.data(at, &piece, false)?;
                    good += usize::from(client.wait(data)? == piece);
                }
                x.see(good);
                Ok(())
            },
            "40",
        ),
        case(
            "DATA becomes chunks and chunks become DATA, one by one",
            |_| {},
            |x| {
                let mut client = x.h2_client()?;
                let stream = client.request("POST", "/", &[], false)?;
                let mut upstream = x.upstream()?;
                upstream.head()?;
                upstream.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
                client.begun()?;
                let mut good = 0;
                for number in 0..PIECES {
                    let piece = format!("{number:03}").into_bytes();
                    client.data(stream, &piece, false)?;
                    good += usize::from(upstream.chunk()? == Some(piece.clone()));
                    upstream.send(format!("3\r\n{number:03}\r\n"))?;
                    good += usize::from(client.wait(data)? == piece);
                }
                x.see(good);
                Ok(())
            },
            "40",
        ),
        case(
            "bytes of TCP arrive one by one, both ways",
            |s| {
                s.tcp();
            },
            |x| {
                let mut client = x.client()?;
                let mut upstream = x.upstream()?;
                for _ in 0..PIECES {
                    client.send("x")?;
                    upstream.take(1)?;
                    upstream.send("y")?;
                    client.take(1)?;
                }
                x.see("all");
                Ok(())
            },
            "all",
        ),
    ]
}

fn data(event: &Event) -> Option<Vec<u8>> {
    match event {
        Event::Data { bytes, .. } => Some(bytes.clone()),
        _ => None,
    }
}
