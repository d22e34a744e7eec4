//! Frames on the wire (RFC 9113 sections 4 and 6).

/// What a client sends first (section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 9;

/// Types of frames.
pub mod kind {
    pub const DATA: u8 = 0x0;
    pub const HEADERS: u8 = 0x1;
    pub const PRIORITY: u8 = 0x2;
    pub const RST_STREAM: u8 = 0x3;
    pub const SETTINGS: u8 = 0x4;
    pub const PUSH_PROMISE: u8 = 0x5;
    pub const PING: u8 = 0x6;
    pub const GOAWAY: u8 = 0x7;
    pub const WINDOW_UPDATE: u8 = 0x8;
    pub const CONTINUATION: u8 = 0x9;
}

/// Flags of frames.
pub mod flag {
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes that follow.
    pub length: usize,
    /// Type; see [`kind`].
    pub kind: u8,
    /// Flags; see [`flag`].
    pub flags: u8,
    /// Stream, 0 for the connection. The reserved bit is gone.
    pub stream: u32,
}

impl FrameHeader {
    /// Reads a header off the front; `None` if it is not all there.
    pub fn read(input: &[u8]) -> Option<FrameHeader> {
        let [a, b, c, kind, flags, s @ ..] = *input.first_chunk::<HEADER_BYTES>()?;
        Some(FrameHeader {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes(s) & !(1 << 31),
        })
    }

    /// As it is on the wire.
    pub fn bytes(self) -> [u8; HEADER_BYTES] {
        let [_, a, b, c] = (self.length as u32).to_be_bytes();
        let [w, x, y, z] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, w, x, y, z]
    }

    /// Whether a flag is set.
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Cuts off the padding that a payload says it has. `None`: it is longer than the payload.
pub fn unpadded(header: FrameHeader, payload: &[u8]) -> Option<&[u8]> {
    if !header.has(flag::PADDED) {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

/// Reads four bytes off the front, without the reserved bit.
pub fn number(payload: &[u8]) -> Option<u32> {
    payload.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes) & !(1 << 31))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_out_as_they_went_in() {
        let header = FrameHeader { length: 0x01_0203, kind: 9, flags: 0x2c, stream: 0x7fff_fffe };
        let bytes = header.bytes();
        assert_eq!(bytes, [1, 2, 3, 9, 0x2c, 0x7f, 0xff, 0xff, 0xfe]);
        assert_eq!(FrameHeader::read(&bytes), Some(header));
        assert_eq!(FrameHeader::read(&bytes[..8]), None);
        let reserved = [0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(FrameHeader::read(&reserved).unwrap().stream, (1 << 31) - 1);
    }

    #[test]
    fn padding_is_cut_off() {
        let header = FrameHeader { length: 0, kind: kind::DATA, flags: flag::PADDED, stream: 1 };
        assert_eq!(unpadded(header, &[2, b'a', 0, 0]), Some(&b"a"[..]));
        assert_eq!(unpadded(header, &[3, 0, 0, 0]), Some(&b""[..]));
        assert_eq!(unpadded(header, &[4, 0, 0, 0]), None);
        assert_eq!(unpadded(header, &[]), None);
    }
}
