//! Bodies of answers: whole, or a stream whose reader sets the pace.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::view::Refusal;

/// Pieces of a stream that its reader has not taken: the one who writes waits.
const PIECES_MAX: usize = 4;

/// A body.
#[derive(Debug)]
pub enum Answer {
    /// All of it.
    Whole(Option<Bytes>),
    /// As it comes. Holds one of the places that streams have.
    Stream(mpsc::Receiver<Bytes>, OwnedSemaphorePermit),
}

impl Answer {
    /// A stream and where to write it. When the reader is gone, writing fails.
    pub fn stream(place: OwnedSemaphorePermit) -> (mpsc::Sender<Bytes>, Self) {
        let (sender, receiver) = mpsc::channel(PIECES_MAX);
        (sender, Self::Stream(receiver, place))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(pieces, _) => {
                pieces.poll_recv(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Stream(..) => SizeHint::default(),
        }
    }
}

/// An answer of one JSON value.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response<Answer> {
    // Only maps with keys that are not text cannot be written; none of ours is.
    let text = serde_json::to_vec(value).unwrap_or_default();
    with(status, "application/json", Answer::Whole(Some(text.into())))
}

/// An answer with a body of the given type.
pub fn with(status: StatusCode, kind: &'static str, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

/// Why a request is not met, and with which status.
#[derive(Debug)]
pub struct Refused {
    /// The HTTP status.
    pub status: StatusCode,
    /// The words.
    pub refusal: Refusal,
}

impl Refused {
    /// In one sentence.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, refusal: Refusal { error: error.into(), details: Vec::new() } }
    }

    /// As an answer.
    pub fn answer(&self) -> Response<Answer> {
        json(self.status, &self.refusal)
    }
}
