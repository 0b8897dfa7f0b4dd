//! The settler: when the log passes its budget, moves what lives of its oldest segments, grouped by queue, into settled
//! segments; merges settled segments of which little lives; drops those of which nothing does. One waiting call to the
//! disk per step (but for a fetch of pages). What lives is asked of the ledger, and so as of the durable log (E3).
//!
//! ```text
//! Settle | Merge -> Output: tmp file, synced, renamed, directory synced -> List: one manifest edit, synced
//!     -> Install: the index, queue by queue -> Remove: what is listed no more
//! ```
//!
//! Log segments are left to the keeper, which recycles what nothing lives in once both checkpoints cover it (E2). A
//! failed read or write here fails nothing: the work is given up, told, and tried again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::codec::Malformed;
use crate::controls::Control;
use crate::error::{Error, Result};
use crate::format::settled_name;
use crate::ids::{FileId, QueueId, SegmentNo};
use crate::manifest::Edit;
use crate::settled::Extent;
use crate::shared::{Counters, Shared, Step, lock};

mod merge;
mod output;
mod pick;
mod strip;
mod survey;

use merge::Merge;
pub(crate) use output::SETTLED_TMP_NAME;
use output::{Finished, Output, WRITE_BYTES};
use strip::{LogInput, Strip};
use survey::{SURVEY_MS, Survey};

/// How long to wait before trying again what failed; settling waits twice as long after each failure, so many times.
const RETRY_MS: u64 = 1_000;
const RETRY_DOUBLINGS: u32 = 5;
/// Queues whose index is changed while the ledger is held once.
const INSTALL_QUEUES: usize = 256;

/// Work in the background.
#[derive(Debug)]
pub struct Settler {
    shared: Arc<Shared>,
    job: Job,
    /// No settling before this time: the last one failed, so many times in a row.
    settle_from_ms: u64,
    settle_failures: u32,
    /// No merging before this time: the last one failed.
    merge_from_ms: u64,
    survey: Survey,
    /// They could not be read as a whole, and stay as they are.
    damaged: BTreeSet<FileId>,
}

#[derive(Debug)]
enum Job {
    None,
    Settle(Box<Settle>),
    Merge(Box<Merge>),
    List(Box<Listing>),
    ListSync(Box<Listing>),
    Install(Box<Installing>),
    Remove(Vec<String>),
}

/// Log segments on their way into a settled one.
#[derive(Debug)]
struct Settle {
    inputs: VecDeque<LogInput>,
    /// Log segments below it are settled then.
    below: SegmentNo,
    /// Read so far of it.
    strip: Strip,
    /// The strip is sorted and on its way out.
    emitting: bool,
    output: Output,
    pinned: Vec<SegmentNo>,
}

/// What the manifest is to say.
#[derive(Debug)]
struct Listing {
    below: SegmentNo,
    finished: Option<Finished>,
    removed: Vec<FileId>,
    pinned: Vec<SegmentNo>,
    /// The manifest says it, durably.
    listed: bool,
}

/// What the index is to say: the manifest says so already.
#[derive(Debug)]
struct Installing {
    listing: Listing,
    queues: VecDeque<QueueId>,
    extents: BTreeMap<QueueId, Vec<Extent>>,
}

impl Settler {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            job: Job::None,
            settle_from_ms: 0,
            settle_failures: 0,
            merge_from_ms: 0,
            survey: Survey::default(),
            damaged: BTreeSet::new(),
        }
    }

    /// Does the next bit of work.
    pub fn step(&mut self, now_ms: u64) -> Step {
        if self.shared.failure().is_some() || self.shared.writer_done.load(Ordering::Acquire) {
            return Step::Done;
        }
        let listing = matches!(self.job, Job::List(_) | Job::ListSync(_));
        match self.advance(now_ms) {
            Ok(step) => step,
            // The edit is still to be made. (After a failed sync nothing is known.)
            Err(error) if matches!(self.job, Job::List(_)) && error.is_full() => {
                Step::Idle { again_ms: Some(RETRY_MS) }
            }
            Err(error) if listing => {
                self.shared.fail(error);
                Step::Done
            }
            Err(error) => {
                self.give_up(&error, now_ms);
                Step::Worked
            }
        }
    }

    fn advance(&mut self, now_ms: u64) -> Result<Step> {
        // The job stays in place while it may fail, so that it can be given up properly.
        match &mut self.job {
            Job::None => return Ok(self.next_job(now_ms)),
            Job::Settle(settle) => {
                if let Some(listing) = settle.advance(&self.shared)? {
                    self.settle_failures = 0;
                    Counters::add(
                        &self.shared.counters.settled_bytes,
                        listing.finished.as_ref().map_or(0, |finished| finished.entry.bytes),
                    );
                    self.job = self.list(listing);
                }
            }
            Job::Merge(merge) => {
                if let Some(listing) = merge.advance(&self.shared)? {
                    Counters::add(
                        &self.shared.counters.merged_bytes,
                        listing.finished.as_ref().map_or(0, |finished| finished.entry.bytes),
                    );
                    self.job = Job::List(Box::new(listing));
                }
            }
            Job::List(listing) => {
                let added = listing.finished.as_ref().map(|finished| finished.entry);
                self.shared.edit(&[Edit::Settled {
                    below: listing.below,
                    added: added.into_iter().collect(),
                    removed: listing.removed.clone(),
                }])?;
                let Job::List(listing) = std::mem::replace(&mut self.job, Job::None) else { unreachable!() };
                self.job = Job::ListSync(listing);
            }
            Job::ListSync(_) => {
                self.shared.manifest.sync()?;
                let Job::ListSync(mut listing) = std::mem::replace(&mut self.job, Job::None) else {
                    unreachable!()
                };
                listing.listed = true;
                self.job = self.begin_install(*listing);
            }
            Job::Install(installing) => {
                if installing.advance(&self.shared) {
                    let removed = std::mem::take(&mut installing.listing.removed);
                    let installed = std::mem::replace(&mut installing.listing, Listing::nothing());
                    if !installed.listed {
                        // The bug: the index, and with it the keeper, was first.
                        self.job = Job::List(Box::new(installed));
                    } else {
                        self.job = self.forget(&removed);
                    }
                }
            }
            Job::Remove(names) => {
                let Some(name) = names.pop() else {
                    self.job = Job::None;
                    return Ok(Step::Worked);
                };
                match self.shared.disk.remove(&name) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Error::Io { op: "remove", file: name, source: error });
                    }
                    _ => {}
                }
            }
        }
        Ok(Step::Worked)
    }

    fn next_job(&mut self, now_ms: u64) -> Step {
        if now_ms >= self.merge_from_ms
            && let Some(job) = self.begin_crowded()
        {
            self.job = job;
            return Step::Worked;
        }
        // Where settling fails, on a full disk, dropping what is dead is what makes room: it does not wait for it.
        if now_ms >= self.settle_from_ms
            && let Some(settle) = self.begin_settle()
        {
            self.job = Job::Settle(Box::new(settle));
            return Step::Worked;
        }
        if self.survey.is_counting() {
            if self.survey.count(&mut lock(&self.shared.ledger), now_ms) {
                self.job = self.begin_merge(now_ms >= self.merge_from_ms);
            }
            return Step::Worked;
        }
        if self.survey.weigh(&self.shared) || self.survey.begin(&self.shared, now_ms) {
            return Step::Worked;
        }
        Step::Idle { again_ms: Some(SURVEY_MS) }
    }

    fn list(&self, listing: Listing) -> Job {
        if self.shared.settings.has(Control::SettleBeforeManifest) {
            return self.begin_install(listing);
        }
        Job::List(Box::new(listing))
    }

    /// The manifest lists it: it can be read from here on.
    fn begin_install(&self, mut listing: Listing) -> Job {
        let mut extents: BTreeMap<QueueId, Vec<Extent>> = BTreeMap::new();
        if let Some(finished) = &mut listing.finished {
            for extent in std::mem::take(&mut finished.extents) {
                extents.entry(extent.queue).or_default().push(extent);
            }
        }
        let mut queues: BTreeSet<QueueId> = extents.keys().copied().collect();
        let mut ledger = lock(&self.shared.ledger);
        for no in ledger.settled_below.0..listing.below.0 {
            queues.extend(ledger.queues_in(SegmentNo(no)));
        }
        // Any queue may have dead extents in what goes.
        if !listing.removed.is_empty() {
            queues.extend(ledger.queues.keys());
        }
        if let Some(finished) = &listing.finished {
            ledger.add_settled(finished.entry.file);
        }
        drop(ledger);
        Job::Install(Box::new(Installing { listing, queues: queues.into_iter().collect(), extents }))
    }

    /// The manifest does not list these settled segments any more, and the index names them no more.
    fn forget(&mut self, removed: &[FileId]) -> Job {
        self.survey.forget(removed);
        let mut ledger = lock(&self.shared.ledger);
        removed.iter().for_each(|file| ledger.forget_settled(*file));
        drop(ledger);
        let mut settled = lock(&self.shared.settled);
        removed.iter().for_each(|file| drop(settled.remove(file)));
        Counters::add(&self.shared.counters.settled_removed, removed.len() as u64);
        Job::Remove(removed.iter().map(|file| settled_name(*file)).collect())
    }

    /// Gives work up that could not be done, and says so.
    fn give_up(&mut self, error: &Error, now_ms: u64) {
        Counters::add(&self.shared.counters.background_errors, 1);
        let full = error.is_full();
        // The next try is made out of the reserve, if there is one.
        let soon = full && !self.shared.reserve.is_short() && self.shared.reserve.pieces() > 0;
        if full {
            self.shared.reserve.found_full();
            Counters::add(&self.shared.counters.out_of_space, 1);
        }
        let (what, leftover) = match std::mem::replace(&mut self.job, Job::None) {
            Job::Settle(settle) => {
                self.unpin(&settle.pinned);
                // Each try writes all of it anew.
                if !soon {
                    self.settle_from_ms = now_ms + (RETRY_MS << self.settle_failures.min(RETRY_DOUBLINGS));
                    self.settle_failures += 1;
                }
                ("settling the log", settle.output.leftover())
            }
            Job::Merge(merge) => {
                self.damaged.extend(merge.unreadable());
                self.merge_from_ms = now_ms + RETRY_MS;
                ("merging settled segments", merge.output.leftover())
            }
            Job::Remove(names) => {
                // One that cannot be removed now goes at the next open; the others go on.
                if !names.is_empty() {
                    self.job = Job::Remove(names);
                }
                ("removing a settled segment", None)
            }
            _ => ("settling", None),
        };
        self.shared.find(format!("{what} was given up for now: {error}"));
        if let Some(name) = leftover {
            self.job = Job::Remove(vec![name]);
        }
    }

    fn unpin(&self, pinned: &[SegmentNo]) {
        self.shared.unpin_log(pinned);
    }
}

impl Settle {
    /// Goes on; Some when the settled segment stands.
    fn advance(&mut self, shared: &Shared) -> Result<Option<Listing>> {
        if self.output.is_full() {
            self.output.flush(shared)?;
            return Ok(None);
        }
        if self.emitting {
            let strip = &mut self.strip;
            let mut done = false;
            self.output.append(|builder, out| done = strip.emit(builder, out, WRITE_BYTES));
            self.emitting = !done;
            return Ok(None);
        }
        let full = self.strip.bytes() >= shared.settings.settle_strip_bytes;
        if full || (self.inputs.is_empty() && !self.strip.is_empty()) {
            self.strip.sort();
            self.emitting = true;
            return Ok(None);
        }
        if let Some(input) = self.inputs.front_mut() {
            let offset = input.offset;
            match input.next_group()? {
                Some(group) => {
                    let damage = |why: Malformed| Error::damage(&input.name, offset, why.to_string());
                    self.strip.take(&group, &shared.ledger).map_err(damage)?;
                }
                None => drop(self.inputs.pop_front()),
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
        let pinned = std::mem::take(&mut self.pinned);
        Ok(Some(Listing { below: self.below, finished, pinned, ..Listing::nothing() }))
    }
}

impl Listing {
    fn nothing() -> Self {
        Self { below: SegmentNo(0), finished: None, removed: Vec::new(), pinned: Vec::new(), listed: false }
    }
}

impl Installing {
    /// Goes on; true when all is in the index.
    fn advance(&mut self, shared: &Shared) -> bool {
        let Listing { below, finished, removed, pinned, listed: _ } = &mut self.listing;
        if let Some(finished) = finished {
            let mut settled = lock(&shared.settled);
            settled.entry(finished.entry.file).or_insert_with(|| Arc::clone(&finished.file));
        }
        let file = finished.as_ref().map_or(FileId(0), |finished| finished.entry.file);
        let count = self.queues.len().min(INSTALL_QUEUES);
        let mut ledger = lock(&shared.ledger);
        for queue in self.queues.drain(..count) {
            let extents = self.extents.remove(&queue).unwrap_or_default();
            ledger.replace(queue, *below, removed, file, &extents);
        }
        if !self.queues.is_empty() {
            return false;
        }
        ledger.settled_below = ledger.settled_below.max(*below);
        drop(ledger);
        shared.unpin_log(pinned);
        pinned.clear();
        shared.ring(|bells| bells.ring_keeper());
        true
    }
}
