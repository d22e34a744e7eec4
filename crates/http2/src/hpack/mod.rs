//! HPACK: header lists to blocks and back (RFC 7541).
//!
//! Decoding yields names and values that are known to be valid, or says that they are not: a block whose compression is
//! right and whose content is wrong is the stream's matter, and leaves the table as the peer has it.

mod decoder;
mod encoder;
mod huffman;
mod integer;
mod name;
mod statics;
mod text;

pub use decoder::{Decoder, Sink};
pub use encoder::Encoder;
pub use name::{Class, Name, Pseudo};

/// What a table holds until something else is agreed (RFC 9113 section 6.5.2).
pub const TABLE_BYTES_DEFAULT: usize = 4096;
/// What an entry costs beside its text (RFC 7541 section 4.1).
const ENTRY_OVERHEAD: usize = 32;

/// A block that cannot be decoded. The peer's fault; the connection cannot go on (RFC 9113 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header block cannot be decoded")]
pub struct HpackError;
