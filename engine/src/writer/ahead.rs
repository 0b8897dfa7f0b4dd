//! Zeros ahead of small frames, in a segment that holds none: the first one of a store, one that was made in haste, or ahead of
//! large frames.
//!
//! The first write to a block that is only allocated changes the file's list of extents, which the next sync has to write as
//! well, by itself or through the file system's journal. A frame of 4 KiB took half as long again.

use std::io::{self, IoSlice};

use super::LogEnd;
use crate::disk::ZEROS;
use crate::error::is_full;
use crate::settings::{Fsync, Settings};

/// Frames up to this part of the zeros take them along. For larger ones there are too few that gain by them.
const FRAME_PART_MAX: u64 = 16;

impl LogEnd {
    /// Writes a frame where it belongs, and zeros behind it where it comes upon blocks that were never written.
    pub(super) fn write_frame(&mut self, offset: u64, frame: &[u8], settings: &Settings) -> io::Result<()> {
        let end = offset + frame.len() as u64;
        let zeros = self.zeros_behind(end, frame.len() as u64, settings);
        if zeros > 0 {
            let pieces = (0..zeros).step_by(ZEROS.len());
            let pieces = pieces.map(|from| &ZEROS[..ZEROS.len().min((zeros - from) as usize)]);
            let parts: Vec<_> = std::iter::once(frame).chain(pieces).map(IoSlice::new).collect();
            match self.file.write_parts(offset, &parts) {
                // Where even what is allocated needs room to be written; the frame alone may find it.
                Err(error) if is_full(error.kind()) => {}
                written => {
                    self.written_upto = end + zeros;
                    return written;
                }
            }
        }
        self.written_upto = self.written_upto.max(end);
        self.file.write_blocks(offset, frame)
    }

    /// How many.
    fn zeros_behind(&self, end: u64, frame_bytes: u64, settings: &Settings) -> u64 {
        let ahead = settings.zeros_ahead_bytes;
        if end <= self.written_upto || settings.fsync != Fsync::Always || frame_bytes > ahead / FRAME_PART_MAX
        {
            return 0;
        }
        ahead.min(settings.segment_bytes - end)
    }
}
