//! RocksDB: a key of writer and number for each record, in its write-ahead log and its memtable.

use std::path::Path;
use std::sync::Arc;

use rocksdb::{DB, Options, WriteOptions};

use super::{Append, Engine};
use crate::Error;

/// With logs that are used again: small enough that one is full, and its memtable written out, within a run.
const RECYCLED_BYTES: usize = 32 << 20;
/// Otherwise large enough that no memtable is written out within a run: it is the log that is measured.
const LARGE_BYTES: usize = 1 << 30;

pub(super) struct Rocks(Arc<DB>);

impl Rocks {
    pub(super) fn open(directory: &Path, recycled: bool) -> Result<Self, Error> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_write_buffer_size(if recycled { RECYCLED_BYTES } else { LARGE_BYTES });
        if recycled {
            options.set_recycle_log_file_num(4);
        }
        Ok(Self(Arc::new(DB::open(&options, directory)?)))
    }
}

impl Engine for Rocks {
    fn writer(&self, index: usize) -> Result<Box<dyn Append>, Error> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(Box::new(Writer { db: Arc::clone(&self.0), options, index, number: 0 }))
    }
}

struct Writer {
    db: Arc<DB>,
    options: WriteOptions,
    index: usize,
    number: u64,
}

impl Append for Writer {
    fn append(&mut self, record: &[u8]) -> Result<(), Error> {
        self.number += 1;
        Ok(self.db.put_opt(super::key(self.index, self.number), record, &self.options)?)
    }
}
