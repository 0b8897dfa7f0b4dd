//! The floor: no record format, no index, no file but one that is written over and over.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Log;
use crate::Error;
use crate::desk::Group;

/// Of the file, all of it written before the first record comes, so that a sync has no metadata to write.
const FILE_BYTES: usize = 256 << 20;
const CHUNK_BYTES: usize = 4 << 20;
const BLOCK_BYTES: usize = 4 << 10;

pub(super) struct Bare {
    file: File,
    at: usize,
    block: Vec<u8>,
}

impl Bare {
    pub(super) fn create(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("bare");
        let file = OpenOptions::new().create_new(true).read(true).write(true).open(path)?;
        for at in (0..FILE_BYTES).step_by(CHUNK_BYTES) {
            file.write_all_at(&vec![0; CHUNK_BYTES], at as u64)?;
        }
        file.sync_all()?;
        // What was written at large stands in large pieces in the page cache, which a small write then takes longer for.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        Ok(Self { file, at: 0, block: Vec::new() })
    }
}

impl Log for Bare {
    fn commit(&mut self, group: &Group) -> Result<(), Error> {
        self.block.clear();
        self.block.extend_from_slice(group.bytes());
        self.block.resize(group.bytes().len().next_multiple_of(BLOCK_BYTES), 0);
        if self.at + self.block.len() > FILE_BYTES {
            self.at = 0;
        }
        self.file.write_all_at(&self.block, self.at as u64)?;
        self.file.sync_data()?;
        self.at += self.block.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stand_in_blocks_one_behind_the_other() {
        let directory = tempfile::tempdir().unwrap();
        let mut bare = Bare::create(directory.path()).unwrap();
        for records in [&[&b"ab"[..], b"c"][..], &[b"d"]] {
            let mut group = Group::default();
            records.iter().for_each(|record| group.push(0, record));
            bare.commit(&group).unwrap();
        }
        let mut found = [1; 4];
        bare.file.read_exact_at(&mut found, 0).unwrap();
        assert_eq!(&found, b"abc\0");
        bare.file.read_exact_at(&mut found[..2], BLOCK_BYTES as u64).unwrap();
        assert_eq!(&found[..2], b"d\0");
    }
}
