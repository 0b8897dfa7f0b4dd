//! What the ledger takes of memory, by part, about. Counted where somebody asks: a walk over all queues.

use super::{Chunk, Ledger, Queue, Run};
use crate::ids::QueueId;

/// A place in a tree, beside what stands there: trees that grow at their end are half full.
const TREE_SLACK: u64 = 2;
/// What a fact's two pieces take beside their bytes.
const FACT_BYTES: u64 = 160;

/// Bytes of memory, about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LedgerMemory {
    /// Where messages of the unsettled log stand.
    pub log_index: u64,
    /// Where messages of settled segments stand.
    pub extents: u64,
    /// Which places are dead, or were delivered before.
    pub dead_sets: u64,
    /// What each queue takes beside these.
    pub queues: u64,
    /// Facts.
    pub facts: u64,
}

impl Ledger {
    /// See [`LedgerMemory`].
    pub(crate) fn memory(&self) -> LedgerMemory {
        let chunk = |chunk: &Chunk| (size_of::<Chunk>() + chunk.runs.capacity() * size_of::<Run>()) as u64;
        let mut memory = LedgerMemory { log_index: self.blobs.index_bytes(), ..LedgerMemory::default() };
        for queue in self.queues.values() {
            memory.log_index += queue.chunks.values().map(chunk).sum::<u64>();
            memory.extents += size_of_val(queue.extents()) as u64;
            memory.dead_sets += queue.dead.memory_bytes() + queue.redelivered.memory_bytes();
        }
        memory.queues = self.queues.len() as u64 * size_of::<(QueueId, Queue)>() as u64 * TREE_SLACK;
        let bytes: usize = self.facts.iter().map(|(key, value)| key.len() + value.len()).sum();
        memory.facts = bytes as u64 + self.facts.len() as u64 * FACT_BYTES;
        memory
    }
}
