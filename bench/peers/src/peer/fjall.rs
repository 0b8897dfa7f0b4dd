//! fjall: a key of writer and number for each record. It syncs under the lock of its journal, each commit by itself; so
//! either writers take turns there, or its owner puts all that lies on the desk into one batch.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Append, Engine, Log};
use crate::Error;
use crate::desk::Group;

#[derive(Clone)]
pub(super) struct Fjall {
    database: Database,
    keyspace: Keyspace,
    /// Of the owner's, over all writers.
    number: u64,
}

impl Fjall {
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        let database = Database::builder(directory).open()?;
        let keyspace = database.keyspace("records", KeyspaceCreateOptions::default)?;
        Ok(Self { database, keyspace, number: 0 })
    }

    fn commit<'a>(&self, records: impl Iterator<Item = ([u8; 16], &'a [u8])>) -> Result<(), Error> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (key, record) in records {
            batch.insert(&self.keyspace, key, record);
        }
        Ok(batch.commit()?)
    }
}

impl Engine for Fjall {
    fn writer(&self, index: usize) -> Result<Box<dyn Append>, Error> {
        Ok(Box::new(Writer { engine: self.clone(), index, number: 0 }))
    }
}

struct Writer {
    engine: Fjall,
    index: usize,
    number: u64,
}

impl Append for Writer {
    fn append(&mut self, record: &[u8]) -> Result<(), Error> {
        self.number += 1;
        self.engine.commit(std::iter::once((super::key(self.index, self.number), record)))
    }
}

impl Log for Fjall {
    fn commit(&mut self, group: &Group) -> Result<(), Error> {
        let first = self.number + 1;
        self.number += group.len() as u64;
        let keyed = group.records().zip(first..);
        Fjall::commit(self, keyed.map(|((writer, record), number)| (super::key(writer, number), record)))
    }
}
