//! Bodies of messages, of either HTTP, as they pass through.

use bytes::Bytes;
use ostro_engine::Headers;

/// What comes next of a body. After [`Trailers`](Piece::Trailers) or [`End`](Piece::End) nothing comes.
#[derive(Debug)]
pub enum Piece {
    /// Part of it, never empty.
    Data(Bytes),
    /// The end, with trailers.
    Trailers(Headers),
    /// The end.
    End,
}
