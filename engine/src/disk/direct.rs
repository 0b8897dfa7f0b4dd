//! Large writes past the page cache.
//!
//! Copying a megabyte into pages that the system has to find first takes the processor several times as long as having
//! the disk fetch it from where it is; and what is in no cache no sync of somebody else has to write.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::real::full_is_full;

/// A second way into a file. A flag on the one that others have would break their reads.
#[derive(Debug)]
pub(super) struct RealDirect {
    direct: File,
    /// It cannot be written to like that: of a part of the file systems only a write tells.
    refused: AtomicBool,
}

impl RealDirect {
    /// None where there is no such way.
    pub(super) fn open(file: &File) -> Option<Self> {
        let flags = OFlags::DIRECT.bits() as i32;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let direct = OpenOptions::new().write(true).custom_flags(flags).open(path).ok()?;
        Some(Self { direct, refused: AtomicBool::new(false) })
    }

    /// Writes whole blocks; None where they have to go the other way.
    pub(super) fn write_at(&self, offset: u64, bytes: &[u8]) -> Option<io::Result<()>> {
        if self.refused.load(Ordering::Relaxed) {
            return None;
        }
        self.unless_refused(self.direct.write_all_at(bytes, offset))
    }

    /// The same for blocks from several places.
    pub(super) fn write_parts(&self, mut offset: u64, parts: &[IoSlice<'_>]) -> Option<io::Result<()>> {
        if self.refused.load(Ordering::Relaxed) {
            return None;
        }
        let mut parts = parts.to_vec();
        let mut rest = parts.as_mut_slice();
        while !rest.is_empty() {
            match rustix::io::pwritev(&self.direct, rest, offset) {
                Ok(0) => return Some(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    IoSlice::advance_slices(&mut rest, count);
                    offset += count as u64;
                }
                Err(Errno::INTR) => {}
                // What was written is written again.
                Err(error) => return self.unless_refused(Err(error.into())),
            }
        }
        Some(Ok(()))
    }

    fn unless_refused(&self, written: io::Result<()>) -> Option<io::Result<()>> {
        match written {
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                self.refused.store(true, Ordering::Relaxed);
                None
            }
            written => Some(written.map_err(full_is_full)),
        }
    }
}
