//! raft-engine: a raft group for each writer, an entry for each record.

use std::path::Path;
use std::sync::Arc;

use protobuf::descriptor::UninterpretedOption;
use raft_engine::{Config, LogBatch, MessageExt, ReadableSize};

use super::{Append, Engine};
use crate::Error;

/// Prepared before: more than a run writes.
const PREFILLED: u64 = 768;

pub(super) struct Raft(Arc<raft_engine::Engine>);

impl Raft {
    pub(super) fn open(directory: &Path, prefilled: bool) -> Result<Self, Error> {
        let config = Config {
            dir: directory.to_str().ok_or("a directory with an odd name")?.to_owned(),
            prefill_for_recycle: prefilled,
            prefill_limit: prefilled.then_some(ReadableSize::mb(PREFILLED)),
            ..Config::default()
        };
        Ok(Self(Arc::new(raft_engine::Engine::open(config)?)))
    }
}

impl Engine for Raft {
    fn writer(&self, index: usize) -> Result<Box<dyn Append>, Error> {
        let entry = UninterpretedOption::new();
        Ok(Box::new(Writer { engine: Arc::clone(&self.0), group: index as u64 + 1, entry }))
    }
}

/// An entry, as the engine wants one: a message with a number. Of those that come with protobuf, this one has a number and
/// bytes.
struct Entry;

impl MessageExt for Entry {
    type Entry = UninterpretedOption;

    fn index(entry: &UninterpretedOption) -> u64 {
        entry.get_positive_int_value()
    }
}

struct Writer {
    engine: Arc<raft_engine::Engine>,
    group: u64,
    entry: UninterpretedOption,
}

impl Append for Writer {
    fn append(&mut self, record: &[u8]) -> Result<(), Error> {
        self.entry.set_positive_int_value(self.entry.get_positive_int_value() + 1);
        let bytes = self.entry.mut_string_value();
        bytes.clear();
        bytes.extend_from_slice(record);
        let mut batch = LogBatch::with_capacity(1);
        batch.add_entries::<Entry>(self.group, std::slice::from_ref(&self.entry))?;
        self.engine.write(&mut batch, true)?;
        Ok(())
    }
}
