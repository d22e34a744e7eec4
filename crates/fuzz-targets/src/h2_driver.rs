//! HTTP/2 as the proxy drives it: a connection over a pipe, its streams echoed, whatever comes on it.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::BytesMut;
use http::{HeaderValue, Method, StatusCode};
use ostro_engine::Request;
use ostro_proxy::Piece;
use ostro_proxy::h2::{Config, Head, RequestHead, Stream, StreamError, connect, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::{LocalSet, spawn_local};

use crate::cut::Cut;
use crate::http2::{GET, frame, hello};

/// What the pipe holds: little, so that writers wait.
const PIPE: usize = 512;

/// How often the runtime may be asked to go on before a connection whose peer is gone counts as stuck.
const TURNS: usize = 10_000;

/// No panic, and once the peer is gone, the connection is over.
pub(crate) fn run(input: &[u8]) {
    let mut cut = Cut::new(input);
    let (kind, piece) = (cut.byte(), usize::from(cut.byte()) + 1);
    let bytes = cut.rest();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let (here, there) = tokio::io::duplex(PIPE);
        let peer = spawn_local(peer(here, kind, bytes.to_vec(), piece));
        let driven = if kind % 3 == 2 { spawn_local(client(there)) } else { spawn_local(server(there)) };
        for _ in 0..TURNS {
            if driven.is_finished() && peer.is_finished() {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(driven.is_finished() && peer.is_finished(), "a connection that goes on without its peer");
        driven.await.expect("the connection's task ends by itself");
    });
}

fn config() -> Arc<Config> {
    Arc::new(Config {
        stream_window: 65_535,
        connection_window: 65_535,
        max_concurrent_streams: 4,
        head_bytes: 4_096,
        head_fields: 32,
        send_buffer: 1_024,
        ..Config::default()
    })
}

/// Sends the bytes in pieces and reads what comes, both to the end.
async fn peer(socket: DuplexStream, kind: u8, bytes: Vec<u8>, piece: usize) {
    let (mut reading, mut writing) = tokio::io::split(socket);
    let sending = async move {
        let begin = match kind % 3 {
            0 => Vec::new(),
            1 => hello(),
            _ => hello().split_off(ostro_http2::PREFACE.len()),
        };
        for part in std::iter::once(&begin[..]).chain(bytes.chunks(piece)) {
            // The other end may have had enough.
            if writing.write_all(part).await.is_err() {
                break;
            }
        }
        let _ = writing.shutdown().await;
    };
    let receiving = async move {
        let mut sink = [0; 256];
        while matches!(reading.read(&mut sink).await, Ok(length) if length > 0) {}
    };
    tokio::join!(sending, receiving);
}

async fn server(socket: DuplexStream) {
    let (mut server, handle) = serve(socket, BytesMut::new(), config());
    while let Ok(Some((head, stream))) = server.accept().await {
        spawn_local(async move {
            // The peer may end a stream as it likes.
            let _ = echo(head, stream).await;
        });
    }
    assert!(handle.is_closed());
}

async fn echo(head: RequestHead, mut stream: Stream) -> Result<(), StreamError> {
    stream.send_response(StatusCode::OK, &head.request.headers, false)?;
    loop {
        match poll_fn(|cx| stream.poll_body(cx)).await? {
            Piece::Data(data) => {
                poll_fn(|cx| stream.poll_capacity(cx)).await?;
                stream.send_data(data, false)?;
            }
            Piece::Trailers(trailers) => return stream.send_trailers(&trailers),
            Piece::End => return stream.send_data(bytes::Bytes::new(), true),
        }
    }
}

async fn client(socket: DuplexStream) {
    let (client, handle) = connect(socket, config());
    let asking = spawn_local(client);
    for method in [Method::GET, Method::HEAD, Method::POST] {
        let request = Request::new(method, HeaderValue::from_static("a"), HeaderValue::from_static("/"));
        if let Ok(stream) = handle.open(&request, None, true) {
            spawn_local(async move {
                let _ = hear(stream).await;
            });
        }
    }
    let _ = asking.await.expect("the connection's task ends by itself");
    assert!(handle.is_closed());
}

async fn hear(mut stream: Stream) -> Result<(), StreamError> {
    while let Head::Interim(_) = poll_fn(|cx| stream.poll_head(cx)).await? {}
    while let Piece::Data(_) = poll_fn(|cx| stream.poll_body(cx)).await? {}
    Ok(())
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let get = frame(1, 5, 1, GET);
    let post =
        [frame(1, 4, 1, b"\x83\x86\x84\x41\x01a"), frame(0, 0, 1, &[b'x'; 300]), frame(0, 1, 1, b"end")]
            .concat();
    let reset = [frame(1, 4, 1, b"\x83\x86\x84\x41\x01a"), frame(3, 0, 1, &[0, 0, 0, 8])].concat();
    let small = [frame(4, 0, 0, b"\0\x04\0\0\0\x05"), post.clone(), frame(8, 0, 1, &[0, 0, 0, 200])].concat();
    let answers =
        [frame(1, 4, 1, b"\x88"), frame(0, 1, 1, b"hello"), frame(1, 5, 3, b"\x89"), frame(7, 0, 0, &[0; 8])];
    vec![
        [&[0, 9][..], &hello(), &get].concat(),
        [&[1, 50][..], &post].concat(),
        [&[1, 255][..], &reset].concat(),
        [&[1, 1][..], &small].concat(),
        [&[2, 30][..], &answers.concat()].concat(),
    ]
}
