//! What is settled or merged next.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::merge::Merge;
use super::{Job, Listing, LogInput, Output, Settle, Settler, Strip};
use crate::format::{BLOCK_BYTES, segment_name};
use crate::group::Gather;
use crate::ids::{FileId, SegmentNo};
use crate::ledger::SettledShare;
use crate::shared::{Counters, Pressure, lock};

/// Most log segments that are settled at a time.
const SEGMENTS_MAX: usize = 8;
/// A merge reads at most so many times the length of a settled segment.
const MERGE_READ: u64 = 8;
/// So many settled segments that are a fraction of the usual length are merged into one.
const SMALL_FILES: usize = 8;
/// An extent that is shorter costs too much in memory, and as a read of its own, for what it holds.
const SHORT_EXTENT_BYTES: u64 = 16 << 10;
/// So many settled segments of about the same length, with short extents, are merged into one with longer ones...
const JOINED_FILES: usize = 4;
/// ...unless they are so many times the usual length.
const JOINED_LENGTHS: u64 = 2;
/// Most extents that settling makes at a time: each is held in memory until it is listed.
const EXTENTS_MAX: u64 = 1 << 18;

impl Settler {
    /// The oldest log segments, if the log is over its budget and something lives in them.
    pub(super) fn begin_settle(&self) -> Option<Settle> {
        let settings = &self.shared.settings;
        // The ledger first, as everywhere: whoever recycles holds both.
        let mut ledger = lock(&self.shared.ledger);
        let mut log = lock(&self.shared.log);
        let mut below = ledger.settled_below;
        let segments = log.segments.range(below..).count() as u64;
        let over = (segments * settings.segment_bytes).saturating_sub(settings.log_budget_bytes);
        let unsettled = log.segments.range(below..).filter(|(_, segment)| segment.end.is_some());
        let at_once = (settings.log_budget_bytes / 4 / settings.segment_bytes).clamp(1, SEGMENTS_MAX as u64);
        // On a disk that is low a small step is one that can be taken.
        let at_once = if self.disk_is_low() { 1 } else { at_once };
        // With very many queues each strip of a log segment makes an extent of each.
        let strips = (2 * settings.segment_bytes / settings.settle_strip_bytes.max(1)).max(1);
        let mut extents = 0;
        let few = |(count, no): &(usize, SegmentNo)| {
            extents += ledger.queues_in(*no).len() as u64 * strips;
            *count == 0 || extents <= EXTENTS_MAX
        };
        let unsettled = unsettled.map(|(no, _)| *no).take(at_once as usize).enumerate();
        let chosen: Vec<SegmentNo> = unsettled.take_while(few).map(|(_, no)| no).collect();
        if over == 0 || chosen.iter().all(|no| ledger.is_dead(*no)) {
            return None;
        }
        let mut inputs = Vec::new();
        for no in chosen {
            below = no.next();
            let Some(segment) = log.segments.get_mut(&no) else { continue };
            let Some(end) = segment.end else { continue };
            if ledger.is_dead(no) {
                continue;
            }
            segment.pins += 1;
            inputs.push(LogInput {
                no,
                name: segment_name(segment.file_id),
                file: std::sync::Arc::clone(&segment.file),
                last: end.last_frame,
                end: end.bytes,
                offset: BLOCK_BYTES as u64,
                gather: Gather::default(),
            });
        }
        drop(log);
        drop(ledger);
        Counters::add(&self.shared.counters.settled_logs, inputs.len() as u64);
        Some(Settle {
            below,
            pinned: inputs.iter().map(|input| input.no).collect(),
            inputs: inputs.into(),
            strip: Strip::with_room(settings.settle_strip_bytes),
            emitting: false,
            output: Output::new(&self.shared, below),
        })
    }

    /// Settled segments in which nothing lives, if there are any; else, with `merging`, those worth writing anew.
    pub(super) fn begin_merge(&self, merging: bool) -> Job {
        let mut shares = lock(&self.shared.ledger).settled_shares();
        // One that could not be opened stays listed: its file may come back.
        let open = lock(&self.shared.settled);
        shares.retain(|share| open.contains_key(&share.file));
        drop(open);
        let dead: Vec<FileId> =
            shares.iter().filter(|share| share.live_bytes == 0).map(|share| share.file).collect();
        if !dead.is_empty() {
            return Job::List(Box::new(Listing { removed: dead, ..Listing::nothing() }));
        }
        let mut files = if merging { self.worth_merging(shares) } else { Vec::new() };
        if self.disk_is_low() {
            files.truncate(1);
        }
        if files.is_empty() { Job::None } else { self.merge(files) }
    }

    /// With so many extents in memory that it is time to have fewer: settled segments whose extents are to be joined, if
    /// there are any. The log waits meanwhile, and publishers for it: what else would bound the index?
    pub(super) fn begin_crowded(&self) -> Option<Job> {
        if self.disk_is_low() {
            return None;
        }
        let shares = lock(&self.shared.ledger).settled_shares();
        if shares.iter().map(|share| share.extents).sum::<u64>() < self.shared.settings.extents_crowded {
            return None;
        }
        let files = self.worth_joining(&self.open(shares));
        (!files.is_empty()).then(|| self.merge(files))
    }

    fn merge(&self, files: Vec<FileId>) -> Job {
        Job::Merge(Box::new(Merge::begin(&self.shared, files)))
    }

    /// One that could not be opened stays listed: its file may come back. One that is damaged stays as it is.
    fn open(&self, mut shares: Vec<SettledShare>) -> Vec<SettledShare> {
        let open = lock(&self.shared.settled);
        shares.retain(|share| open.contains_key(&share.file) && !self.damaged.contains(&share.file));
        shares
    }

    /// Oldest first, some of about the same length whose extents are short: what a queue has in them stands together
    /// then. Each message is written again once for each length, not once for each neighbour.
    fn worth_joining(&self, shares: &[SettledShare]) -> Vec<FileId> {
        let settings = &self.shared.settings;
        let short = |share: &&SettledShare| {
            share.bytes < share.extents * SHORT_EXTENT_BYTES
                && share.bytes < JOINED_LENGTHS * settings.settled_bytes
        };
        let mut alike: BTreeMap<u32, Vec<&SettledShare>> = BTreeMap::new();
        for share in shares.iter().filter(short) {
            alike.entry(share.bytes.max(1).ilog(JOINED_FILES as u64)).or_default().push(share);
        }
        let enough = |shares: &&Vec<&SettledShare>| {
            shares.len() >= JOINED_FILES
                && shares.iter().map(|share| share.extents).sum::<u64>() >= settings.extents_joined
        };
        let mut files: Vec<FileId> = match alike.values().find(enough) {
            Some(shares) => shares.iter().map(|share| share.file).collect(),
            None => Vec::new(),
        };
        files.sort_unstable();
        files.truncate(2 * JOINED_FILES);
        files
    }

    fn disk_is_low(&self) -> bool {
        let held = self.shared.pressure.load(Ordering::Acquire);
        held == Pressure::number(Some(Pressure::DiskLow)) || self.shared.reserve.is_short()
    }

    /// Those under half live, emptiest and oldest first, until what lives of them fills one; or many small ones.
    fn worth_merging(&self, shares: Vec<SettledShare>) -> Vec<FileId> {
        let full = self.shared.settings.settled_bytes;
        let mut shares: Vec<SettledShare> =
            shares.into_iter().filter(|share| !self.damaged.contains(&share.file)).collect();
        let thousandths = |share: &SettledShare| share.live_bytes * 1_000 / share.bytes.max(1);
        shares.sort_by_key(|share| (thousandths(share), share.file));
        // The first one in any case: a large one that is sparse is written anew like any other. What is read is bounded as
        // well, for the log waits meanwhile.
        let take = |shares: Vec<SettledShare>| {
            let (mut live, mut read) = (0, 0);
            let mut fits = |share: &SettledShare| {
                let first = read == 0;
                let fits =
                    first || (live + share.live_bytes <= full && read + share.bytes <= MERGE_READ * full);
                if fits {
                    (live, read) = (live + share.live_bytes, read + share.bytes);
                }
                fits
            };
            shares.into_iter().filter(|share| fits(share)).map(|share| share.file).collect::<Vec<_>>()
        };
        let sparse: Vec<_> =
            shares.iter().filter(|share| share.live_bytes * 2 < share.bytes).copied().collect();
        if !sparse.is_empty() {
            return take(sparse);
        }
        // One at a time would only be written as it is.
        if self.disk_is_low() {
            return Vec::new();
        }
        let joined = self.worth_joining(&shares);
        if !joined.is_empty() {
            return joined;
        }
        shares.retain(|share| share.bytes < full / SMALL_FILES as u64);
        if shares.len() >= SMALL_FILES { take(shares) } else { Vec::new() }
    }
}
