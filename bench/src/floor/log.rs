//! The floor's file: written over and over, never read.
//!
//! record = length u32 | CRC-32 of the rest u32 | key length u8 | key | body
//! all little-endian

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::Error;

/// Of the file, all of it written before the first message comes, so that a sync has no metadata to write.
const FILE_BYTES: usize = 256 << 20;
const CHUNK_BYTES: usize = 4 << 20;

/// A record that is not whole.
#[derive(Debug)]
pub(super) struct Partial {
    bytes: Vec<u8>,
    crc: crc32fast::Hasher,
}

/// Records, in memory and on the disk.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    at: usize,
    buffer: Vec<u8>,
    /// Where the record begins that is being written.
    begun: usize,
    /// Its CRC so far.
    crc: crc32fast::Hasher,
}

impl Log {
    /// A new file in a directory, which is made.
    pub(super) fn create(directory: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join("floor");
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
        for at in (0..FILE_BYTES).step_by(CHUNK_BYTES) {
            file.write_all_at(&vec![0; CHUNK_BYTES], at as u64)?;
        }
        file.sync_all()?;
        let buffer = Vec::with_capacity(16 << 20);
        Ok(Self { file, at: 0, buffer, begun: 0, crc: crc32fast::Hasher::new() })
    }

    /// Bytes that are not on the disk.
    pub(super) fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// Begins a record.
    pub(super) fn begin(&mut self, key: &[u8]) {
        self.begun = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 8]);
        self.crc = crc32fast::Hasher::new();
        self.append(&[key.len() as u8]);
        self.append(key);
    }

    /// A part of its body.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.buffer.extend_from_slice(bytes);
    }

    /// Ends it.
    pub(super) fn end(&mut self) {
        let length = (self.buffer.len() - self.begun) as u32;
        let crc = std::mem::take(&mut self.crc).finalize();
        self.buffer[self.begun..self.begun + 4].copy_from_slice(&length.to_le_bytes());
        self.buffer[self.begun + 4..self.begun + 8].copy_from_slice(&crc.to_le_bytes());
        self.begun = self.buffer.len();
    }

    /// Takes the record that is not whole out, so that another connection can write its own.
    pub(super) fn suspend(&mut self) -> Partial {
        let bytes = self.buffer.split_off(self.begun);
        Partial { bytes, crc: std::mem::take(&mut self.crc) }
    }

    /// Goes on with it.
    pub(super) fn resume(&mut self, partial: Partial) {
        self.begun = self.buffer.len();
        self.buffer.extend_from_slice(&partial.bytes);
        self.crc = partial.crc;
    }

    /// Puts all records on the disk.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if self.at + self.buffer.len() > FILE_BYTES {
            self.at = 0;
        }
        self.file.write_all_at(&self.buffer, self.at as u64)?;
        self.file.sync_data()?;
        self.at += self.buffer.len();
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_reach_the_file_whole_with_their_crc() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::create(directory.path()).unwrap();
        log.begin(b"key");
        log.append(b"bo");
        let partial = log.suspend();
        log.begin(b"other");
        log.end();
        log.resume(partial);
        log.append(b"dy");
        log.end();
        log.sync().unwrap();
        let record = |rest: &[u8]| {
            [&(rest.len() as u32 + 8).to_le_bytes()[..], &crc32fast::hash(rest).to_le_bytes(), rest].concat()
        };
        let wanted = [record(b"\x05other"), record(b"\x03keybody"), vec![0; 4]].concat();
        let mut found = vec![1; wanted.len()];
        log.file.read_exact_at(&mut found, 0).unwrap();
        assert_eq!(found, wanted);
        assert_eq!(log.pending(), 0);
    }
}
