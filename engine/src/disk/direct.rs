//! Large writes past the page cache.
//!
//! Copying a megabyte into pages that the system has to find first takes the processor several times as long as having
//! the disk fetch it from where it is; and what is in no cache no sync of somebody else has to write.

use std::fs::{File, OpenOptions};
use std::io;
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
        match self.direct.write_all_at(bytes, offset) {
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                self.refused.store(true, Ordering::Relaxed);
                None
            }
            written => Some(written.map_err(full_is_full)),
        }
    }
}
