//! What lives of each settled segment, as far as merging wants to know it: counted anew every second, and read through
//! where counting says little (see `ledger::live`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::{FileId, QueueId, Seq};
use crate::ledger::{Ledger, LiveCount, Settled, Weight, Weights};
use crate::settled::SettledFile;
use crate::shared::{Shared, lock};

/// How often it is counted, unless that takes long...
pub(super) const SURVEY_MS: u64 = 1_000;
/// ...and then after so many times as long as it took.
const SURVEY_SHARE: u64 = 20;
/// Bytes of extents that are begun to be read through between two counts; what is left waits for the next.
const WEIGHED_BYTES_MAX: u64 = 64 << 20;
/// Bytes read through by one step.
const READ_BYTES: u64 = 1 << 20;

/// The survey. See the module.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The queue to go on with; None when no count is under way.
    next: Option<QueueId>,
    /// What lives of those that were there when it began: others may have extents of queues that were passed already.
    live_bytes: BTreeMap<FileId, u64>,
    began_ms: u64,
    /// Not again before.
    from_ms: u64,
    weights: Weights,
    /// Extents to read through.
    unweighed: Vec<Settled>,
    weighing: Option<Weighing>,
    /// Bytes of the extents that were read through since the last count.
    weighed_bytes: u64,
}

/// An extent that is being read through.
#[derive(Debug)]
struct Weighing {
    here: Settled,
    file: Arc<SettledFile>,
    from: Seq,
    found: Weight,
}

impl Survey {
    /// A count is under way.
    pub(super) fn is_counting(&self) -> bool {
        self.next.is_some()
    }

    /// Begins a count, if it is time and there is something to count.
    pub(super) fn begin(&mut self, shared: &Shared, now_ms: u64) -> bool {
        if now_ms < self.from_ms {
            return false;
        }
        self.live_bytes = lock(&shared.settled).keys().map(|file| (*file, 0)).collect();
        self.next = (!self.live_bytes.is_empty()).then_some(QueueId(0));
        (self.began_ms, self.from_ms) = (now_ms, now_ms + SURVEY_MS);
        self.unweighed.clear();
        self.weighed_bytes = 0;
        self.is_counting()
    }

    /// Counts some; true when all are counted.
    pub(super) fn count(&mut self, ledger: &mut Ledger, now_ms: u64) -> bool {
        let Some(queue) = self.next else { return true };
        let mut count =
            LiveCount { bytes: &mut self.live_bytes, weights: &self.weights, unweighed: &mut self.unweighed };
        self.next = ledger.count_live(&mut count, queue);
        if self.next.is_some() {
            return false;
        }
        std::mem::take(&mut self.live_bytes)
            .into_iter()
            .for_each(|(file, bytes)| ledger.set_live(file, bytes));
        // Where there is much to count, it is not all that is done.
        let took = now_ms.saturating_sub(self.began_ms);
        self.from_ms = now_ms + SURVEY_MS.max(took * SURVEY_SHARE);
        true
    }

    /// Reads a bit of an extent that counting says little of; false when there is none. What it finds is for the next
    /// count.
    pub(super) fn weigh(&mut self, shared: &Shared) -> bool {
        let Some(mut weighing) = self.weighing.take().or_else(|| self.next_unweighed(shared)) else {
            return false;
        };
        if !weighing.advance(shared) {
            self.weighing = Some(weighing);
            return true;
        }
        let Settled { file, extent } = weighing.here;
        self.weights.insert((file, extent.queue, extent.first), weighing.found);
        true
    }

    /// These settled segments are gone.
    pub(super) fn forget(&mut self, removed: &[FileId]) {
        self.weights.retain(|(file, ..), _| !removed.contains(file));
        self.unweighed.retain(|here| !removed.contains(&here.file));
        self.weighing.take_if(|weighing| removed.contains(&weighing.here.file));
    }

    fn next_unweighed(&mut self, shared: &Shared) -> Option<Weighing> {
        let here = self.unweighed.pop().filter(|_| self.weighed_bytes < WEIGHED_BYTES_MAX)?;
        self.weighed_bytes += here.extent.bytes;
        let file = Arc::clone(lock(&shared.settled).get(&here.file)?);
        Some(Weighing { here, file, from: here.extent.first, found: Weight { live: 0, bytes: 0 } })
    }
}

impl Weighing {
    /// Reads on; true when the extent was read through.
    fn advance(&mut self, shared: &Shared) -> bool {
        let extent = self.here.extent;
        let window = self.file.window(&extent, self.from, READ_BYTES);
        let ledger = lock(&shared.ledger);
        let Some(queue) = ledger.queues.get(&extent.queue) else { return true };
        let live = queue.live_between(extent.first, extent.last.next());
        let Some(window) = window.ok().filter(|window| window.broken.is_none()) else {
            // What is damaged is told by whoever wants it. Here it counts by records, and is not read again and again.
            let bytes = u128::from(extent.bytes) * u128::from(live) / u128::from(extent.records.max(1));
            self.found = Weight { live, bytes: bytes as u64 };
            return true;
        };
        for (_, kept) in window.records.iter().filter(|(seq, _)| queue.is_live(*seq)) {
            self.found.live += 1;
            self.found.bytes += kept.stored().put_bytes() as u64;
        }
        self.from = window.upto.unwrap_or(self.from);
        window.upto.is_none()
    }
}
