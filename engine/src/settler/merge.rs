//! Settled segments on their way into one new one.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Listing, Output};
use crate::error::{Error, Result};
use crate::ids::{FileId, Seq};
use crate::ledger::Settled;
use crate::settled::SettledFile;
use crate::shared::{Shared, lock};

/// Bytes read of an extent by one step.
const READ_BYTES: u64 = 1 << 20;

/// Extents that are written anew, without what is dead.
#[derive(Debug)]
pub(super) struct Merge {
    files: Vec<FileId>,
    inputs: VecDeque<Input>,
    pub(super) output: Output,
    unreadable: Option<FileId>,
}

#[derive(Debug)]
struct Input {
    here: Settled,
    file: Arc<SettledFile>,
    /// Nothing of the queue stands between it and the extent before it: they become one.
    joins: bool,
    from: Seq,
    read: u32,
}

impl Merge {
    pub(super) fn begin(shared: &Shared, files: Vec<FileId>) -> Self {
        let ledger = lock(&shared.ledger);
        let mut extents: Vec<Settled> = files.iter().flat_map(|file| ledger.extents_of(*file)).collect();
        extents.sort_unstable_by_key(|here| (here.extent.queue, here.extent.first));
        let open = lock(&shared.settled);
        let mut inputs: VecDeque<Input> = VecDeque::with_capacity(extents.len());
        for here in extents {
            let Some(file) = open.get(&here.file) else { continue };
            let before = inputs.back().map(|input| input.here.extent);
            let joins = before.is_some_and(|before| {
                let queue = ledger.queues.get(&before.queue);
                // What lives in between is in a settled segment that is missing, and may come back.
                before.queue == here.extent.queue
                    && queue.is_some_and(|queue| {
                        queue.next_extent(before.first) == Some(here.extent.first)
                            && queue.live_between(before.last.next(), here.extent.first) == 0
                    })
            });
            let from = here.extent.first;
            inputs.push_back(Input { here, file: Arc::clone(file), joins, from, read: 0 });
        }
        let below = ledger.settled_below;
        drop(open);
        drop(ledger);
        Self { files, inputs, output: Output::new(shared, below), unreadable: None }
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
            let file = input.here.file;
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
        let extent = self.here.extent;
        let damage = |what: String| Error::damage(&self.file.name, extent.offset, what);
        let lives = lock(&shared.ledger)
            .queues
            .get(&extent.queue)
            .is_some_and(|queue| queue.live_between(self.from, extent.last.next()) > 0);
        if !self.joins && self.from == extent.first {
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
