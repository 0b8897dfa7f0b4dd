//! Frames: AMQP 0-9-1, section 4.2.3.
//!
//! ```text
//! frame = type u8 | channel u16 | size u32 | payload | 0xCE        all big-endian; frame_max counts all of it
//! type 1 method · 2 content header · 3 content body · 8 heartbeat
//! content header's payload = class u16 | weight u16 | body size u64 | property flags and list
//! ```

/// Bytes before the payload.
pub(super) const HEAD_BYTES: usize = 7;
/// Bytes around the payload.
pub(super) const FRAME_BYTES: usize = HEAD_BYTES + 1;
/// The last byte of each frame.
pub(super) const FRAME_END: u8 = 0xCE;
/// A content header's payload before the properties.
pub(super) const CONTENT_HEAD_BYTES: usize = 12;
/// No peer may say less of `frame_max`.
pub(super) const FRAME_MAX_MIN: u32 = 4096;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A method.
    Method,
    /// A content header.
    Header,
    /// A part of a body.
    Body,
    /// A sign of life.
    Heartbeat,
}

impl Kind {
    fn from_octet(octet: u8) -> Option<Self> {
        Some(match octet {
            1 => Self::Method,
            2 => Self::Header,
            3 => Self::Body,
            8 => Self::Heartbeat,
            _ => return None,
        })
    }

    fn octet(self) -> u8 {
        match self {
            Self::Method => 1,
            Self::Header => 2,
            Self::Body => 3,
            Self::Heartbeat => 8,
        }
    }
}

/// A frame in the buffer that it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: Kind,
    /// Channel number; 0 is the connection itself.
    pub channel: u16,
    /// The payload.
    pub payload: &'a [u8],
}

/// Why bytes are no frame. All of these are a FRAME_ERROR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Nobody's type.
    #[error("frame type {0} does not exist")]
    UnknownType(u8),
    /// Larger than was agreed.
    #[error("frame of {size} bytes on channel {channel} is larger than frame_max {most} allows")]
    TooLarge {
        /// The channel.
        channel: u16,
        /// Payload's length.
        size: u32,
        /// The agreed most, of whole frames.
        most: u32,
    },
    /// The last byte is not 0xCE.
    #[error("frame on channel {channel} ends with octet {found:#04x} instead of 0xce")]
    BadEnd {
        /// The channel.
        channel: u16,
        /// What stands there.
        found: u8,
    },
}

/// Takes a frame from the front of `bytes`, with its length in all; None when it is not there as a whole. `frame_max`
/// limits its payload: frames that count without what is around the payload are taken too, as some clients send them.
pub(super) fn split(bytes: &[u8], frame_max: u32) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        // What can be seen to be wrong is told early: a client that speaks another protocol may wait for an answer.
        return match bytes.first() {
            Some(octet) if Kind::from_octet(*octet).is_none() => Err(FrameError::UnknownType(*octet)),
            _ => Ok(None),
        };
    };
    let kind = Kind::from_octet(head[0]).ok_or(FrameError::UnknownType(head[0]))?;
    let channel = u16::from_be_bytes([head[1], head[2]]);
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    if size > frame_max {
        return Err(FrameError::TooLarge { channel, size, most: frame_max });
    }
    let size = size as usize;
    match rest.get(size) {
        None => Ok(None),
        Some(&FRAME_END) => Ok(Some((Frame { kind, channel, payload: &rest[..size] }, size + FRAME_BYTES))),
        Some(&found) => Err(FrameError::BadEnd { channel, found }),
    }
}

/// How long the frame at the front of `bytes` is in all, as far as its head can be seen.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let size = bytes.get(3..HEAD_BYTES)?.try_into().ok()?;
    Some(u32::from_be_bytes(size) as usize + FRAME_BYTES)
}

/// Appends a frame whose payload `write` appends.
pub(super) fn write(out: &mut Vec<u8>, kind: Kind, channel: u16, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(kind.octet());
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    write(out);
    let size = (out.len() - start - HEAD_BYTES) as u32;
    out[start + 3..start + HEAD_BYTES].copy_from_slice(&size.to_be_bytes());
    out.push(FRAME_END);
}

/// A frame's head, for a payload that is written by itself.
pub(super) fn head(kind: Kind, channel: u16, size: u32) -> [u8; HEAD_BYTES] {
    let ([c0, c1], [s0, s1, s2, s3]) = (channel.to_be_bytes(), size.to_be_bytes());
    [kind.octet(), c0, c1, s0, s1, s2, s3]
}
