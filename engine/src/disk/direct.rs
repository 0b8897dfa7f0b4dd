//! Large writes past the page cache.
//!
//! Copying a megabyte into pages that the system has to find first takes the processor several times as long as having
//! the disk fetch it from where it is; and what is in no cache no sync of somebody else has to write.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::DirectFile;
use super::real::full_is_full;

/// A file with a second way into it. A flag on the one that others have would break their reads.
#[derive(Debug)]
pub(super) struct RealDirect {
    direct: File,
    /// For a place that cannot be written to directly: of a part of the file systems only a write tells.
    file: Arc<File>,
    refused: AtomicBool,
}

impl RealDirect {
    /// None where there is no such way.
    pub(super) fn open(file: &Arc<File>) -> Option<Self> {
        let flags = OFlags::DIRECT.bits() as i32;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let direct = OpenOptions::new().write(true).custom_flags(flags).open(path).ok()?;
        Some(Self { direct, file: Arc::clone(file), refused: AtomicBool::new(false) })
    }
}

impl DirectFile for RealDirect {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if !self.refused.load(Ordering::Relaxed) {
            match self.direct.write_all_at(bytes, offset) {
                Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                    self.refused.store(true, Ordering::Relaxed);
                }
                written => return written.map_err(full_is_full),
            }
        }
        self.file.write_all_at(bytes, offset).map_err(full_is_full)
    }
}
