//! mrecordlog: a queue for each writer. One thread at a time may write to it, and it does not group; so either writers
//! take turns, or its owner appends all that lies on the desk and then persists once.

use std::path::Path;

use mrecordlog::{MultiRecordLog, PersistAction, PersistPolicy};

use super::Log;
use crate::Error;
use crate::desk::Group;

pub(super) struct Records {
    log: MultiRecordLog,
    queues: Vec<String>,
    grouped: bool,
}

impl Records {
    pub(super) fn open(directory: &Path, writers: usize) -> Result<Self, Error> {
        Self::new(directory, writers, PersistPolicy::Always(PersistAction::FlushAndFsync), false)
    }

    pub(super) fn open_grouped(directory: &Path, writers: usize) -> Result<Self, Error> {
        Self::new(directory, writers, PersistPolicy::DoNothing, true)
    }

    fn new(directory: &Path, writers: usize, policy: PersistPolicy, grouped: bool) -> Result<Self, Error> {
        let mut log = MultiRecordLog::open_with_prefs(directory, policy)?;
        let queues: Vec<String> = (0..writers).map(|index| format!("queue-{index}")).collect();
        for queue in &queues {
            log.create_queue(queue)?;
        }
        Ok(Self { log, queues, grouped })
    }
}

impl Log for Records {
    fn commit(&mut self, group: &Group) -> Result<(), Error> {
        for (writer, record) in group.records() {
            self.log.append_record(&self.queues[writer], None, record)?;
        }
        if self.grouped {
            self.log.persist(PersistAction::FlushAndFsync)?;
        }
        Ok(())
    }
}
