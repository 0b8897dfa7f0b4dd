//! Settled segments on their way into one new one.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Listing, Output};
use crate::error::{Error, Result};
use crate::ids::{FileId, QueueId, Seq};
use crate::ledger::Part;
use crate::settled::SettledFile;
use crate::shared::{Shared, lock};

/// Bytes read of an extent by one step.
const READ_BYTES: u64 = 1 << 20;

/// Extents that are written anew, without what is dead.
#[derive(Debug)]
pub(super) struct Merge {
    files: Vec<FileId>,
    /// Of the queues that were looked at.
    inputs: VecDeque<Input>,
    /// The queue to look at next, if there are more.
    next: Option<QueueId>,
    pub(super) output: Output,
    unreadable: Option<FileId>,
}

#[derive(Debug)]
struct Input {
    part: Part,
    file: Arc<SettledFile>,
    from: Seq,
    read: u32,
}

impl Merge {
    pub(super) fn begin(shared: &Shared, files: Vec<FileId>) -> Self {
        let below = lock(&shared.ledger).settled_below;
        let next = Some(QueueId(0));
        let output = Output::new(shared, below);
        Self { files, inputs: VecDeque::new(), next, output, unreadable: None }
    }

    /// Looks up what stands in the files of some more queues: with very many of them, all at once would be much to hold.
    fn look(&mut self, shared: &Shared, from: QueueId) {
        let (parts, next) = lock(&shared.ledger).parts(&self.files, from);
        self.next = next;
        let open = lock(&shared.settled);
        let input = |part: Part| {
            let file = Arc::clone(open.get(&part.here.file)?);
            Some(Input { part, file, from: part.here.extent.first, read: 0 })
        };
        self.inputs.extend(parts.into_iter().filter_map(input));
    }

    /// The file that could not be read, if that is why it failed.
    pub(super) fn unreadable(&self) -> Option<FileId> {
        self.unreadable
    }

    /// Goes on; Some when the new settled segment stands, or none is needed.
    pub(super) fn advance(&mut self, shared: &Shared) -> Result<Option<Listing>> {
        if self.output.is_full() {
            self.output.flush(shared)?;
            return Ok(None);
        }
        if let Some(input) = self.inputs.front_mut() {
            let file = input.part.here.file;
            match input.copy(shared, &mut self.output) {
                Ok(true) => drop(self.inputs.pop_front()),
                Ok(false) => {}
                Err(error) => {
                    self.unreadable = Some(file);
                    return Err(error);
                }
            }
            return Ok(None);
        }
        if let Some(from) = self.next {
            self.look(shared, from);
            return Ok(None);
        }
        let finished = if self.output.is_empty() {
            None
        } else {
            match self.output.finish(shared)? {
                Some(finished) => Some(finished),
                None => return Ok(None),
            }
        };
        Ok(Some(Listing { finished, removed: std::mem::take(&mut self.files), ..Listing::nothing() }))
    }
}

impl Input {
    /// Copies a window of the extent; true when it was the last one.
    fn copy(&mut self, shared: &Shared, output: &mut Output) -> Result<bool> {
        let extent = self.part.here.extent;
        let damage = |what: String| Error::damage(&self.file.name, extent.offset, what);
        let lives = lock(&shared.ledger)
            .queues
            .get(&extent.queue)
            .is_some_and(|queue| queue.live_between(self.from, extent.last.next()) > 0);
        if !self.part.joins && self.from == extent.first {
            // Also when nothing of this one is copied: what stands in between keeps the two sides of it apart.
            output.append(|builder, _| builder.close_extent());
        }
        if !lives {
            return Ok(true);
        }
        let window = self.file.window(&extent, self.from, READ_BYTES).map_err(damage)?;
        if let Some(broken) = window.broken {
            return Err(damage(broken));
        }
        self.read += window.records.len() as u32;
        if window.upto.is_none() && self.read != extent.records {
            return Err(damage(format!("{} of its {} records are there", self.read, extent.records)));
        }
        let ledger = lock(&shared.ledger);
        let queue = ledger.queues.get(&extent.queue);
        let lives = |seq: Seq| queue.is_some_and(|queue| queue.is_live(seq));
        let live: Vec<bool> = window.records.iter().map(|(seq, _)| lives(*seq)).collect();
        drop(ledger);
        output.append(|builder, out| {
            for ((seq, kept), _) in window.records.iter().zip(live).filter(|(_, live)| *live) {
                builder.push(extent.queue, *seq, kept.stored(), out);
            }
        });
        let Some(upto) = window.upto else { return Ok(true) };
        self.from = upto;
        Ok(false)
    }
}
