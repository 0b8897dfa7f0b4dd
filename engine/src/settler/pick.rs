//! What is settled or merged next.

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
        let chosen: Vec<SegmentNo> = unsettled.map(|(no, _)| *no).take(at_once as usize).collect();
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
        if files.is_empty() { Job::None } else { Job::Merge(Box::new(Merge::begin(&self.shared, files))) }
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
        shares.retain(|share| share.bytes < full / SMALL_FILES as u64);
        if shares.len() >= SMALL_FILES { take(shares) } else { Vec::new() }
    }
}
