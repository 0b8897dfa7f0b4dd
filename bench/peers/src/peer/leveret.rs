//! Leveret's engine: its owner commits what lies on the desk, each record a batch of its own, and writes it itself
//! (`Threads::write_inline`); where the engine would rather have its writer do that, it waits for the writer's word.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use leveret_engine::{
    Batch, Disk, Fsync, Payload, Put, QueueId, RealDisk, Seq, Settings, Store, Threads, Ticket, Urgency,
    start_threads,
};

use super::Log;
use crate::Error;
use crate::desk::Group;
use crate::sync::Bell;

pub(super) struct Leveret {
    store: Store,
    /// None once they have ended.
    threads: Option<Threads>,
    /// Rung when a watermark has moved.
    moved: Arc<Bell>,
    /// Of each writer its queue and the next place in it.
    queues: Vec<(QueueId, Seq)>,
}

impl Leveret {
    pub(super) fn open(directory: &Path, writers: usize) -> Result<Self, Error> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(directory)?);
        let settings = Settings { fsync: Fsync::Always, ..Settings::default() };
        let (store, workers, recovered) = Store::open(&disk, settings)?;
        let moved = Arc::new(Bell::default());
        let bell = Arc::clone(&moved);
        let threads = start_threads(&store, workers, move || bell.ring())?;
        let first = recovered.next_queue.0;
        let queues: Vec<_> = (first..).take(writers).map(|id| (QueueId(id), Seq(1))).collect();
        let mut batch = Batch::default();
        batch.queues_created.extend(queues.iter().map(|(queue, _)| *queue));
        let mut open = Self { store, threads: Some(threads), moved, queues };
        let ticket = open.store.commit(batch, Urgency::Now)?;
        open.make_durable(ticket)?;
        Ok(open)
    }

    fn make_durable(&self, ticket: Ticket) -> Result<(), Error> {
        if !self.threads.as_ref().is_some_and(Threads::write_inline) {
            self.store.kick();
        }
        while self.store.confirmable() < ticket {
            if let Some(failure) = self.store.failure() {
                return Err(failure.to_string().into());
            }
            self.moved.wait();
        }
        Ok(())
    }
}

impl Log for Leveret {
    fn commit(&mut self, group: &Group) -> Result<(), Error> {
        let bytes = Bytes::copy_from_slice(group.bytes());
        let mut last = Ticket::default();
        for (writer, begin, end) in group.places() {
            let (queue, seq) = &mut self.queues[writer];
            let payload = Payload { head: Bytes::new(), body: bytes.slice(begin..end) };
            let mut batch = Batch::default();
            batch.puts.push(Put { targets: vec![(*queue, *seq)], payload, blob: None });
            *seq = seq.next();
            last = self.store.commit(batch, Urgency::Now)?;
        }
        self.make_durable(last)
    }
}

impl Drop for Leveret {
    fn drop(&mut self) {
        self.store.close(Vec::new());
        if let Some(threads) = self.threads.take() {
            threads.join();
        }
    }
}
