//! HTTP/2 connections over pipes and sockets: ours with ours, and ours with the `h2` crate's.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode};
use ostro_engine::{Headers, Request};
use ostro_proxy::Piece;
use ostro_proxy::h2::{
    Change, Config, ConnectionFault, ErrorCode, Handle, Head, OpenError, Origin, RequestHead, Server, Stream,
    StreamError, connect, serve,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

const WINDOW: usize = 65_535;

fn request(method: Method, path: &str) -> Request {
    Request::new(method, HeaderValue::from_static("a"), path.try_into().unwrap())
}

fn headers(fields: &[(&'static str, &'static str)]) -> Headers {
    let of = |(name, value): &(&'static str, &'static str)| {
        (http::HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    fields.iter().map(of).collect()
}

fn body(bytes: usize) -> Bytes {
    (0..bytes).map(|place| (place / 7) as u8).collect::<Vec<_>>().into()
}

async fn head(stream: &mut Stream) -> Result<(StatusCode, Headers), StreamError> {
    loop {
        if let Head::Final(head) = poll_fn(|cx| stream.poll_head(cx)).await? {
            return Ok((head.status, head.headers));
        }
    }
}

/// All data up to the end, and the trailers.
async fn read_all(stream: &mut Stream) -> Result<(Vec<u8>, Option<Headers>), StreamError> {
    let mut all = Vec::new();
    loop {
        match poll_fn(|cx| stream.poll_body(cx)).await? {
            Piece::Data(data) => all.extend_from_slice(&data),
            Piece::Trailers(trailers) => return Ok((all, Some(trailers))),
            Piece::End => return Ok((all, None)),
        }
    }
}

async fn send_all(stream: &mut Stream, mut left: Bytes) -> Result<(), StreamError> {
    while !left.is_empty() {
        let capacity = poll_fn(|cx| stream.poll_capacity(cx)).await?;
        let piece = left.split_to(left.len().min(capacity));
        stream.send_data(piece, left.is_empty())?;
    }
    Ok(())
}

/// Sends every body back as it comes, with a trailer.
async fn echo(head: RequestHead, mut stream: Stream) -> Result<(), StreamError> {
    stream.send_response(StatusCode::OK, &head.request.headers, false)?;
    loop {
        match poll_fn(|cx| stream.poll_body(cx)).await? {
            Piece::Data(data) => {
                poll_fn(|cx| stream.poll_capacity(cx)).await?;
                stream.send_data(data, false)?;
            }
            Piece::Trailers(trailers) => return stream.send_trailers(&trailers),
            Piece::End => return stream.send_trailers(&headers(&[("x-end", "1")])),
        }
    }
}

/// Accepts requests and has each looked after by a task of its own.
async fn accept_all<S, F>(
    mut server: Server<S>,
    serve: impl Fn(RequestHead, Stream) -> F + 'static,
) -> Result<(), ConnectionFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Result<(), StreamError>> + 'static,
{
    while let Some((head, stream)) = server.accept().await? {
        spawn_local(serve(head, stream));
    }
    Ok(())
}

/// The ends of a connection whose server serves so.
struct Ends {
    client: Handle,
    server: Handle,
    client_task: JoinHandle<Result<(), ConnectionFault>>,
    server_task: JoinHandle<Result<(), ConnectionFault>>,
}

fn ends<F>(config: Config, serve_by: impl Fn(RequestHead, Stream) -> F + 'static) -> Ends
where
    F: Future<Output = Result<(), StreamError>> + 'static,
{
    let config = Arc::new(config);
    let (here, there) = tokio::io::duplex(64 << 10);
    let (server, server_handle) = serve(there, BytesMut::new(), config.clone());
    let (client, client_handle) = connect(here, config);
    Ends {
        client: client_handle,
        server: server_handle,
        client_task: spawn_local(client),
        server_task: spawn_local(accept_all(server, serve_by)),
    }
}

fn small() -> Config {
    Config {
        stream_window: WINDOW as u32,
        connection_window: 2 * WINDOW as u32,
        send_buffer: 32 << 10,
        max_concurrent_streams: 2000,
        ..Config::default()
    }
}

/// Lets everything happen that can.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

async fn local<T>(test: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(test).await
}

#[tokio::test]
async fn bodies_and_trailers_go_both_ways() {
    local(async {
        let ends = ends(small(), echo);
        let mut post = request(Method::POST, "/x?y");
        post.headers = headers(&[("x-a", "b"), ("cookie", "a=b")]);
        let stream = ends.client.open(&post, None, false).unwrap();
        let stream = Rc::new(std::cell::RefCell::new(stream));
        let sent = body(1 << 20);
        let sender = spawn_local({
            let (stream, mut left) = (stream.clone(), sent.clone());
            async move {
                while !left.is_empty() {
                    let capacity = poll_fn(|cx| stream.borrow_mut().poll_capacity(cx)).await.unwrap();
                    let piece = left.split_to(left.len().min(capacity));
                    stream.borrow_mut().send_data(piece, false).unwrap();
                }
                stream.borrow_mut().send_trailers(&headers(&[("x-sum", "7")])).unwrap();
            }
        });
        let mut got = Vec::new();
        let Head::Final(head) = poll_fn(|cx| stream.borrow_mut().poll_head(cx)).await.unwrap() else {
            panic!()
        };
        assert_eq!((head.status, &head.headers), (StatusCode::OK, &post.headers));
        let trailers = loop {
            match poll_fn(|cx| stream.borrow_mut().poll_body(cx)).await.unwrap() {
                Piece::Data(data) => got.extend_from_slice(&data),
                Piece::Trailers(trailers) => break trailers,
                Piece::End => panic!("no trailers"),
            }
        };
        sender.await.unwrap();
        assert!(got == sent);
        assert_eq!(trailers, headers(&[("x-sum", "7")]));
        assert!(stream.borrow().is_body_done());
        drop(stream);
        settle().await;
        assert!(ends.client.is_idle() && ends.server.is_idle());
        ends.client.graceful_shutdown();
        assert_eq!(ends.client_task.await.unwrap(), Ok(()));
        assert_eq!(ends.server_task.await.unwrap(), Ok(()));
    })
    .await;
}

#[tokio::test]
async fn a_thousand_streams_answered_in_reverse() {
    local(async {
        let held = Rc::new(std::cell::RefCell::new(Vec::new()));
        let ends = ends(small(), {
            let held = held.clone();
            move |head, stream| {
                held.borrow_mut().push((head, stream));
                std::future::ready(Ok(()))
            }
        });
        while ends.client.max_streams() == 100 {
            settle().await;
        }
        let mut streams = Vec::new();
        for number in 0..1000 {
            streams.push(ends.client.open(&request(Method::GET, &format!("/{number}")), None, true).unwrap());
        }
        while held.borrow().len() < 1000 {
            settle().await;
        }
        assert_eq!((ends.client.active_streams(), ends.server.active_streams()), (1000, 1000));
        for (head, mut stream) in held.take().into_iter().rev() {
            stream.send_response(StatusCode::OK, &Headers::default(), false).unwrap();
            stream.send_data(Bytes::copy_from_slice(head.request.path.as_bytes()), true).unwrap();
        }
        for (number, mut stream) in streams.into_iter().enumerate() {
            assert_eq!(head(&mut stream).await.unwrap().0, StatusCode::OK);
            let (body, _) = read_all(&mut stream).await.unwrap();
            assert_eq!(body, format!("/{number}").into_bytes());
        }
        assert!(ends.client.is_idle());
    })
    .await;
}

#[tokio::test]
async fn what_nobody_reads_is_bounded_by_the_windows() {
    local(async {
        let sent = Rc::new(std::cell::Cell::new(0));
        let ends = ends(small(), {
            let sent = sent.clone();
            move |_, mut stream| {
                let sent = sent.clone();
                async move {
                    stream.send_response(StatusCode::OK, &Headers::default(), false)?;
                    loop {
                        poll_fn(|cx| stream.poll_capacity(cx)).await?;
                        stream.send_data(Bytes::from(vec![0; 1000]), false)?;
                        sent.set(sent.get() + 1000);
                    }
                }
            }
        });
        let mut stream = ends.client.open(&request(Method::GET, "/"), None, true).unwrap();
        for _ in 0..20 {
            settle().await;
        }
        let first = sent.get();
        assert!((WINDOW..WINDOW + (32 << 10) + 1000).contains(&first), "{first}");
        head(&mut stream).await.unwrap();
        let mut read = 0;
        while read < 3 * WINDOW {
            match poll_fn(|cx| stream.poll_body(cx)).await.unwrap() {
                Piece::Data(data) => read += data.len(),
                other => panic!("{other:?}"),
            }
        }
        settle().await;
        let most = read + WINDOW + (32 << 10) + 1000;
        assert!(sent.get() > first && sent.get() <= most, "{} of {most}", sent.get());
        drop(stream);
        settle().await;
        let at_last = sent.get();
        settle().await;
        assert_eq!(sent.get(), at_last, "it was reset");
        assert!(ends.server.is_idle());
    })
    .await;
}

#[tokio::test]
async fn streams_that_are_not_read_leave_the_others_room() {
    local(async {
        // What a dropped stream had received is given back to the connection.
        let ends = ends(small(), |_, mut stream| async move {
            stream.send_response(StatusCode::OK, &Headers::default(), false)?;
            send_all(&mut stream, body(WINDOW)).await
        });
        for _ in 0..20 {
            let stream = ends.client.open(&request(Method::GET, "/"), None, true).unwrap();
            settle().await;
            drop(stream);
        }
        let mut stream = ends.client.open(&request(Method::GET, "/"), None, true).unwrap();
        head(&mut stream).await.unwrap();
        assert_eq!(read_all(&mut stream).await.unwrap().0.len(), WINDOW);
    })
    .await;
}

#[tokio::test]
async fn an_answer_before_the_requests_end() {
    local(async {
        let ends = ends(small(), |_, mut stream| async move {
            stream.send_response(StatusCode::FORBIDDEN, &Headers::default(), false)?;
            send_all(&mut stream, body(200_000)).await
        });
        let mut stream = ends.client.open(&request(Method::POST, "/"), None, false).unwrap();
        stream.send_data(Bytes::from_static(b"some"), false).unwrap();
        assert_eq!(head(&mut stream).await.unwrap().0, StatusCode::FORBIDDEN);
        assert_eq!(read_all(&mut stream).await.unwrap().0.len(), 200_000, "all of it");
        let reset = poll_fn(|cx| stream.poll_reset(cx)).await;
        let no_error = ErrorCode::NO_ERROR;
        assert_eq!(reset, StreamError::Reset { code: no_error, origin: Origin::Peer, unprocessed: false });
        assert_eq!(stream.send_data(Bytes::from_static(b"more"), false), Err(reset));
        assert!(matches!(poll_fn(|cx| stream.poll_body(cx)).await, Ok(Piece::End)), "what came stays");
    })
    .await;
}

#[tokio::test]
async fn resets_reach_the_other_side() {
    local(async {
        let seen = Rc::new(std::cell::RefCell::new(Vec::new()));
        let ends = ends(small(), {
            let seen = seen.clone();
            move |_, mut stream| {
                let seen = seen.clone();
                async move {
                    let reset = poll_fn(|cx| stream.poll_reset(cx)).await;
                    let sent = stream.send_response(StatusCode::OK, &Headers::default(), true);
                    seen.borrow_mut().push((reset, sent));
                    Ok(())
                }
            }
        });
        let mut stream = ends.client.open(&request(Method::GET, "/"), None, true).unwrap();
        settle().await;
        stream.reset(ErrorCode::INTERNAL_ERROR);
        drop(stream);
        let dropped = ends.client.open(&request(Method::GET, "/"), None, true).unwrap();
        settle().await;
        drop(dropped);
        settle().await;
        let of = |code| {
            let reset = StreamError::Reset { code, origin: Origin::Peer, unprocessed: false };
            (reset, Err(reset))
        };
        assert_eq!(seen.take(), [of(ErrorCode::INTERNAL_ERROR), of(ErrorCode::CANCEL)]);
        assert!(ends.server.is_idle());
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_gives_up_cancels() {
    local(async {
        let ends = ends(small(), |head, mut stream| async move {
            if head.request.path == "/late" {
                stream.send_response(StatusCode::OK, &Headers::default(), false)?;
                stream.send_data(Bytes::from_static(b"part"), false)?;
            }
            Ok(())
        });
        let mut early = ends.client.open(&request(Method::GET, "/"), None, true).unwrap();
        let reset = StreamError::Reset { code: ErrorCode::CANCEL, origin: Origin::Peer, unprocessed: false };
        assert_eq!(head(&mut early).await, Err(reset));
        let mut late = ends.client.open(&request(Method::GET, "/late"), None, true).unwrap();
        assert!(head(&mut late).await.is_ok());
        assert_eq!(read_all(&mut late).await, Err(reset));
    })
    .await;
}

#[tokio::test]
async fn a_drain_lets_streams_end_and_takes_no_more() {
    local(async {
        let ends = ends(small(), echo);
        let mut stream = ends.client.open(&request(Method::POST, "/"), None, false).unwrap();
        head(&mut stream).await.unwrap();
        ends.server.graceful_shutdown();
        while ends.client.can_open() {
            assert_ne!(poll_fn(|cx| ends.client.poll_change(cx)).await, Change::Closed);
        }
        assert_eq!(
            ends.client.open(&request(Method::GET, "/"), None, true).unwrap_err(),
            OpenError::GoingAway
        );
        send_all(&mut stream, body(100_000)).await.unwrap();
        assert_eq!(read_all(&mut stream).await.unwrap().0.len(), 100_000);
        drop(stream);
        assert_eq!(ends.client_task.await.unwrap(), Ok(()));
        assert_eq!(ends.server_task.await.unwrap(), Ok(()));
        assert!(ends.client.is_closed());
        while poll_fn(|cx| ends.client.poll_change(cx)).await != Change::Closed {}
    })
    .await;
}

#[tokio::test]
async fn a_close_ends_everything_and_says_why() {
    local(async {
        let ends = ends(small(), echo);
        let mut stream = ends.client.open(&request(Method::POST, "/"), None, false).unwrap();
        head(&mut stream).await.unwrap();
        ends.server.close(ErrorCode::ENHANCE_YOUR_CALM);
        let fault = ConnectionFault::Local(ErrorCode::ENHANCE_YOUR_CALM);
        let error = read_all(&mut stream).await.unwrap_err();
        assert_eq!(error, StreamError::Connection(ConnectionFault::Closed));
        assert_eq!(ends.client_task.await.unwrap(), Err(ConnectionFault::Closed));
        assert_eq!(ends.server_task.await.unwrap(), Err(fault));
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_vanishes_takes_its_streams_along() {
    local(async {
        let seen = Rc::new(std::cell::Cell::new(None));
        let ends = ends(small(), {
            let seen = seen.clone();
            move |_, mut stream| {
                let seen = seen.clone();
                async move {
                    let error = poll_fn(|cx| stream.poll_body(cx)).await.unwrap_err();
                    seen.set(Some(error));
                    Err(error)
                }
            }
        });
        let mut stream = ends.client.open(&request(Method::POST, "/"), None, false).unwrap();
        ends.client.ping();
        settle().await;
        ends.client_task.abort();
        let closed = StreamError::Connection(ConnectionFault::Closed);
        assert_eq!(poll_fn(|cx| stream.poll_reset(cx)).await, closed);
        assert_eq!(head(&mut stream).await, Err(closed));
        assert_eq!(ends.server_task.await.unwrap(), Err(ConnectionFault::Closed));
        settle().await;
        assert_eq!(seen.get(), Some(closed));
        assert!(!ends.client.can_open() && ends.client.open_slots() == 0);
    })
    .await;
}

#[tokio::test]
async fn pings_are_answered_and_changes_told() {
    local(async {
        let ends = ends(small(), echo);
        ends.client.ping();
        poll_fn(|cx| ends.client.poll_pong(cx)).await;
        assert!(ends.client.frames_received() >= 3);
        let mut stream = ends.client.open(&request(Method::GET, "/"), None, true).unwrap();
        head(&mut stream).await.unwrap();
        read_all(&mut stream).await.unwrap();
        let mut changes = Vec::new();
        let last = poll_fn(|cx| {
            while let Poll::Ready(change) = ends.client.poll_change(cx) {
                changes.push(change);
                if change == Change::Idle {
                    return Poll::Ready(change);
                }
            }
            Poll::Pending
        })
        .await;
        assert_eq!(last, Change::Idle);
        assert!(changes.contains(&Change::Slots));
    })
    .await;
}

#[tokio::test]
async fn interim_heads_come_before_the_final_one() {
    local(async {
        let ends = ends(small(), |_, mut stream| async move {
            for code in [100, 103] {
                stream.send_interim(StatusCode::from_u16(code).unwrap(), &headers(&[("x", "y")]))?;
            }
            stream.send_response(StatusCode::NO_CONTENT, &Headers::default(), true)?;
            assert_eq!(
                stream.send_interim(StatusCode::CONTINUE, &Headers::default()),
                Err(StreamError::OutOfOrder)
            );
            Ok(())
        });
        let mut stream = ends.client.open(&request(Method::GET, "/"), None, true).unwrap();
        let mut heads = Vec::new();
        loop {
            match poll_fn(|cx| stream.poll_head(cx)).await.unwrap() {
                Head::Interim(head) => heads.push(head.status.as_u16()),
                Head::Final(head) => {
                    heads.push(head.status.as_u16());
                    break;
                }
            }
        }
        assert_eq!(heads, [100, 103, 204]);
        assert!(stream.is_body_done());
    })
    .await;
}

#[tokio::test]
async fn heads_that_are_too_large_are_answered() {
    local(async {
        let config = Arc::new(small());
        let (here, there) = tokio::io::duplex(64 << 10);
        let (server, handle) =
            serve(there, BytesMut::new(), Arc::new(Config { head_bytes: 1000, ..small() }));
        let (client, client_handle) = connect(here, config);
        spawn_local(client);
        spawn_local(accept_all(server, echo));
        let mut large = request(Method::POST, "/");
        large.headers.append("x-large".try_into().unwrap(), "v".repeat(2000).try_into().unwrap());
        let mut stream = client_handle.open(&large, None, false).unwrap();
        assert_eq!(head(&mut stream).await.unwrap().0, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert_eq!(handle.refused_heads(), 1);
        let mut next = client_handle.open(&request(Method::GET, "/"), None, true).unwrap();
        assert_eq!(head(&mut next).await.unwrap().0, StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn the_servers_limit_is_kept_and_told() {
    local(async {
        let ends = ends(Config { max_concurrent_streams: 2, ..small() }, echo);
        while ends.client.max_streams() != 2 {
            settle().await;
        }
        let open = || ends.client.open(&request(Method::POST, "/"), None, false);
        let (mut first, _second) = (open().unwrap(), open().unwrap());
        assert_eq!(open().unwrap_err(), OpenError::Full);
        first.send_data(Bytes::new(), true).unwrap();
        read_all(&mut first).await.unwrap();
        assert_eq!(ends.client.open_slots(), 1);
        open().unwrap();
    })
    .await;
}

/// A server whose answers nobody reads reads no more, so that what waits in it is bounded.
#[tokio::test]
async fn a_client_that_never_reads_is_not_read_without_end() {
    local(async {
        let (mut here, there) = tokio::io::duplex(4 << 10);
        let (server, handle) = serve(there, BytesMut::new(), Arc::new(small()));
        let long: &'static str = "v".repeat(4000).leak();
        let task = spawn_local(accept_all(server, move |_, mut stream| async move {
            stream.send_response(StatusCode::OK, &headers(&[("x-long", long)]), true)
        }));
        let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        // HEADERS of `GET / http`, without authority, each.
        let frame =
            |number: u32| [&[0, 0, 3, 1, 5][..], &(2 * number + 1).to_be_bytes(), b"\x82\x84\x86"].concat();
        let frames: Vec<u8> = (0..10_000).flat_map(frame).collect();
        let mut written = 0;
        here.write_all(hello).await.unwrap();
        let mut rest = &frames[..];
        for _ in 0..2000 {
            tokio::task::yield_now().await;
            let step = poll_fn(|cx| {
                Poll::Ready(match std::pin::Pin::new(&mut here).poll_write(cx, rest) {
                    Poll::Ready(result) => result.unwrap(),
                    Poll::Pending => 0,
                })
            })
            .await;
            written += step;
            rest = &rest[step..];
        }
        assert!(written < frames.len() / 2, "{written} of {}", frames.len());
        assert!(handle.counts().frames < 1000);
        assert!(!task.is_finished());
    })
    .await;
}

/// A server that is at fault as `fault` is, and what becomes of it.
async fn at_fault(fault: &[u8]) -> (ConnectionFault, Vec<u8>) {
    let (mut here, there) = tokio::io::duplex(4 << 10);
    let (client, handle) = connect(there, Arc::new(small()));
    let task = spawn_local(client);
    let mut stream = handle.open(&request(Method::GET, "/"), None, true).unwrap();
    here.write_all(fault).await.unwrap();
    let error = head(&mut stream).await.unwrap_err();
    let mut said = Vec::new();
    here.read_to_end(&mut said).await.unwrap();
    drop(here);
    let fault = task.await.unwrap().unwrap_err();
    assert_eq!(error, StreamError::Connection(fault));
    (fault, said)
}

#[tokio::test]
async fn a_server_that_breaks_a_rule_hears_why() {
    local(async {
        let (fault, said) = at_fault(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        assert!(
            matches!(fault, ConnectionFault::Protocol(error) if error.code == ErrorCode::FRAME_SIZE_ERROR)
        );
        assert!(said.windows(4).any(|bytes| bytes == b"\0\0\0\x06"), "GOAWAY with its code");
        let (fault, _) = at_fault(b"\0\0\x08\x06\0\0\0\0\0pingping").await;
        assert!(matches!(fault, ConnectionFault::Protocol(error) if error.code == ErrorCode::PROTOCOL_ERROR));
    })
    .await;
}

/// A client and a server of the `h2` crate at the other ends of real sockets.
#[tokio::test]
async fn over_sockets_with_the_h2_crate() {
    local(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        spawn_local(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (server, _) = serve(socket, BytesMut::new(), Arc::new(small()));
                spawn_local(accept_all(server, echo));
            }
        });
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let (send, connection) = h2::client::handshake(socket).await.unwrap();
        spawn_local(async move { connection.await.unwrap() });
        let mut tasks = Vec::new();
        for number in 0..50 {
            let mut send = send.clone().ready().await.unwrap();
            tasks.push(spawn_local(async move {
                let request = http::Request::post(format!("http://a/{number}")).body(()).unwrap();
                let (response, mut stream) = send.send_request(request, false).unwrap();
                let sent = body(200_000 + number);
                stream.send_data(sent.clone(), true).unwrap();
                let mut body = response.await.unwrap().into_body();
                let mut got = Vec::new();
                while let Some(data) = body.data().await {
                    let data = data.unwrap();
                    body.flow_control().release_capacity(data.len()).unwrap();
                    got.extend_from_slice(&data);
                }
                assert!(got == sent);
                assert_eq!(body.trailers().await.unwrap().unwrap()["x-end"], "1");
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    })
    .await;
}

async fn h2_server(socket: tokio::net::TcpStream) {
    let mut connection = h2::server::handshake(socket).await.unwrap();
    while let Some(accepted) = connection.accept().await {
        let (request, mut respond) = accepted.unwrap();
        tokio::spawn(async move {
            let mut send = respond.send_response(http::Response::new(()), false).unwrap();
            let mut body = request.into_body();
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                send.send_data(data, false).unwrap();
            }
            send.send_data(Bytes::new(), true).unwrap();
        });
    }
}

#[tokio::test]
async fn our_client_over_a_socket_with_an_h2_server() {
    local(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { h2_server(listener.accept().await.unwrap().0).await });
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let (client, handle) = connect(socket, Arc::new(small()));
        let client = spawn_local(client);
        let mut tasks = Vec::new();
        for number in 0..50 {
            let stream = handle.open(&request(Method::POST, &format!("/{number}")), None, false).unwrap();
            tasks.push(spawn_local(exchange(stream, body(100_000 + number))));
        }
        for task in tasks {
            task.await.unwrap();
        }
        handle.graceful_shutdown();
        assert_eq!(client.await.unwrap(), Ok(()));
        server.await.unwrap();
    })
    .await;
}

/// Sends a body and reads it back, both at a time.
async fn exchange(mut stream: Stream, sent: Bytes) {
    let (mut left, mut got) = (sent.clone(), Vec::new());
    poll_fn(|cx| {
        while !left.is_empty() {
            let Poll::Ready(capacity) = stream.poll_capacity(cx) else { break };
            let piece = left.split_to(left.len().min(capacity.unwrap()));
            stream.send_data(piece, left.is_empty()).unwrap();
        }
        loop {
            match stream.poll_body(cx) {
                Poll::Ready(Ok(Piece::Data(data))) => got.extend_from_slice(&data),
                Poll::Ready(other) => {
                    other.unwrap();
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    assert!(got == sent);
}

/// Bytes that a peer sends one by one are kept as bytes, not as a buffer each.
#[tokio::test]
async fn single_bytes_are_put_together() {
    local(async {
        let held = Rc::new(std::cell::RefCell::new(None));
        let ends = ends(small(), {
            let held = held.clone();
            move |_, stream| {
                *held.borrow_mut() = Some(stream);
                std::future::ready(Ok(()))
            }
        });
        let mut stream = ends.client.open(&request(Method::POST, "/"), None, false).unwrap();
        for _ in 0..3000 {
            stream.send_data(Bytes::from_static(b"x"), false).unwrap();
            tokio::task::yield_now().await;
        }
        settle().await;
        let mut theirs = held.take().unwrap();
        let (mut bytes, mut pieces) = (0, 0);
        while bytes < 3000 {
            match poll_fn(|cx| theirs.poll_body(cx)).await.unwrap() {
                Piece::Data(data) => (bytes, pieces) = (bytes + data.len(), pieces + 1),
                other => panic!("{other:?}"),
            }
        }
        assert!(pieces < 5, "{pieces}");
    })
    .await;
}
