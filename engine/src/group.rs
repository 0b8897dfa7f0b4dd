//! Reading groups of frames back from a segment.

use bytes::{Bytes, BytesMut};

use crate::disk::DiskFile;
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, FRAME_HEADER_BYTES, FrameHeader, NoFrame};
use crate::ids::FrameNo;
use crate::record::{self, Record};

/// Bytes read at first, in the hope that a frame is no longer.
const FIRST_READ_BYTES: u64 = 64 << 10;

/// One frame as it stands in a segment, verified.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) header: FrameHeader,
    pub(crate) crc: u32,
    pub(crate) payload: Bytes,
    /// The whole frame with its padding.
    pub(crate) bytes: u64,
}

/// Reads and verifies the frame at `offset` of a segment that is `end` bytes long.
pub(crate) fn read_frame(
    file: &dyn DiskFile,
    offset: u64,
    end: u64,
) -> std::io::Result<Result<Frame, NoFrame>> {
    if offset + BLOCK_BYTES as u64 > end {
        return Ok(Err(NoFrame::Absent));
    }
    let mut bytes = BytesMut::zeroed(FIRST_READ_BYTES.min(end - offset) as usize);
    file.read_at(offset, &mut bytes)?;
    let header = match FrameHeader::decode(&bytes) {
        Ok(header) => header,
        Err(no) => return Ok(Err(no)),
    };
    let length = header.frame_bytes();
    if length as u64 > end - offset {
        return Ok(Err(NoFrame::Broken("the frame runs over the end of its segment".into())));
    }
    if length > bytes.len() {
        let have = bytes.len();
        bytes.resize(length, 0);
        file.read_at(offset + have as u64, &mut bytes[have..])?;
    }
    let crc = match header.verify(&bytes) {
        Ok(crc) => crc,
        Err(no) => return Ok(Err(no)),
    };
    let payload_end = FRAME_HEADER_BYTES + header.payload_bytes as usize;
    let payload = bytes.freeze().slice(FRAME_HEADER_BYTES..payload_end);
    Ok(Ok(Frame { header, crc, payload, bytes: length as u64 }))
}

/// Collects the frames of a group until it closes.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    first: Option<FrameNo>,
    parts: Vec<Bytes>,
}

impl Gather {
    /// Takes the next frame; the payload of the whole group once it closes. A part whose next frame is not of its
    /// own group is void and forgotten (E4).
    pub(crate) fn push(&mut self, frame: &Frame) -> Option<Bytes> {
        if self.first != Some(frame.header.group_first) {
            self.parts.clear();
            // The first frame of a group carries its own number; a part that lacks its front is void too.
            self.first =
                (frame.header.group_first == frame.header.number).then_some(frame.header.group_first);
        }
        self.first?;
        self.parts.push(frame.payload.clone());
        if !frame.header.closes {
            return None;
        }
        self.first = None;
        let parts = std::mem::take(&mut self.parts);
        if let [whole] = parts.as_slice() {
            return Some(whole.clone());
        }
        let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
        for part in parts {
            whole.extend_from_slice(&part);
        }
        Some(whole.freeze())
    }
}

/// Reads the records of the group that starts at `offset`. `name` is for errors.
pub(crate) fn read_group(file: &dyn DiskFile, name: &str, offset: u64, end: u64) -> Result<Vec<Record>> {
    let mut gather = Gather::default();
    let mut at = offset;
    loop {
        let frame = read_frame(file, at, end).map_err(Error::io("read", name))?;
        let frame = frame.map_err(|no| Error::damage(name, at, no.to_string()))?;
        let first = at == offset;
        at += frame.bytes;
        if first && frame.header.group_first != frame.header.number {
            return Err(Error::damage(
                name,
                offset,
                "a group of frames starts elsewhere than the index says",
            ));
        }
        if let Some(payload) = gather.push(&frame) {
            return record::decode_group(payload).map_err(|e| Error::damage(name, offset, e.to_string()));
        }
    }
}

impl std::fmt::Display for NoFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("no frame stands there"),
            Self::Newer(version) => write!(f, "a frame of format version {version} stands there"),
            Self::Broken(what) => f.write_str(what),
        }
    }
}
