//! The only door to the outside. Every call may block, fail, or, in a test, be the last one before a crash.
//!
//! What a call promises after a power loss: file contents survive once [`DiskFile::sync`] returned, names once
//! [`Disk::sync_dir`] returned. Nothing else does.

use std::borrow::Cow;
use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::sync::Arc;

mod blocks;
mod direct;
mod map;
mod real;
#[cfg(feature = "sim")]
mod sim;
#[cfg(test)]
mod tests;

pub(crate) use blocks::{Blocks, ZEROS};
pub use real::RealDisk;
#[cfg(feature = "sim")]
pub use sim::{CrashPlan, Fails, Moment, SimDisk, SimStats};

/// One directory of files.
pub trait Disk: Send + Sync + Debug {
    /// Names and lengths of all files, in order of names.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Makes a new file of that length, with its space allocated, reading as zeros. An error if the name exists.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file that exists.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a name.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals so far durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Bytes that can still be written.
    fn free_space(&self) -> io::Result<u64>;
    /// How long syncs of files took so far.
    fn sync_times(&self) -> SyncTimes {
        SyncTimes::default()
    }
}

/// Times of syncs since the disk was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncTimes {
    /// Bucket i counts those of 2^i to 2^(i+1) microseconds; the first one also the shorter, the last one the longer.
    pub buckets: [u64; 32],
    /// All together, in microseconds.
    pub total_us: u64,
}

/// One open file.
#[expect(clippy::len_without_is_empty, reason = "a length on a disk, not a collection")]
pub trait DiskFile: Send + Sync + Debug {
    /// Writes all of `bytes` at `offset`, growing the file if need be.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// The same, at less cost to the processor where there is such a way, for whole blocks of 4 KiB that stand on such a
    /// boundary in the file and in memory. They take the same sync.
    fn write_blocks(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(offset, bytes)
    }
    /// The same for blocks that stand in several places in memory, each of them on such a boundary.
    fn write_parts(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let whole: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.write_at(offset, &whole)
    }
    /// Writes zeros in a file that nobody else uses yet. What they cost the processor and the page cache, commits pay.
    fn write_zeros(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.write_at(offset, &vec![0; bytes as usize])
    }
    /// Fills `into` from `offset`; an error at the end of the file.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
    /// Makes the contents so far durable (fdatasync). After a failure nothing is known about what was written, and
    /// calling it again proves nothing.
    fn sync(&self) -> io::Result<()>;
    /// Its length.
    fn len(&self) -> io::Result<u64>;
    /// Makes it that long: cuts its end off, or adds zeros.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Sees to it that writes up to that length find room, without making the file longer. What cannot be done is not
    /// done: then those writes may find the disk full.
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }
    /// Gives the space of a range back; it reads as zeros.
    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()>;
    /// A hint that a range will be read soon. Costs no waiting, and nothing if it is not followed.
    fn will_read(&self, offset: u64, bytes: u64) {
        let _ = (offset, bytes);
    }
    /// A hint that a range will not be read again soon.
    fn will_not_read(&self, offset: u64, bytes: u64) {
        let _ = (offset, bytes);
    }
    /// Maps a file that is never written again.
    fn map(&self) -> io::Result<Box<dyn DiskMap>>;
}

/// A file in memory, as far as the system keeps it there.
pub trait DiskMap: Send + Sync + Debug {
    /// The bytes from `offset`, read from the medium if need be: media that cannot be read are an error here, not a
    /// signal later. An error at the end of the file.
    fn read(&self, offset: u64, bytes: usize) -> io::Result<Cow<'_, [u8]>>;
}
