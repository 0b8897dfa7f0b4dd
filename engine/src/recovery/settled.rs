//! Settled segments at an open: which are there, and where they say messages stand. One that is missing or damaged does
//! not stop the open (E12): what else there is is served, and what is lost with it is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Report;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::ids::{FileId, QueueId, SegmentNo};
use crate::ledger::{Ledger, LiveCount, Weights};
use crate::manifest::State;
use crate::settled::{Extent, SettledFile};

/// Opens what the manifest lists and takes it into the index. The log has been replayed: a queue that is not there is
/// deleted.
pub(super) fn read(
    disk: &dyn Disk,
    state: &State,
    ledger: &mut Ledger,
    report: &mut Report,
) -> Result<BTreeMap<FileId, Arc<SettledFile>>> {
    let mut files = BTreeMap::new();
    for entry in &state.settled {
        match SettledFile::open(disk, state.store_id, *entry) {
            Ok((file, extents)) => {
                let mut queues: BTreeMap<QueueId, Vec<Extent>> = BTreeMap::new();
                for extent in extents {
                    queues.entry(extent.queue).or_default().push(extent);
                }
                ledger.add_settled(entry.file);
                for (queue, mut extents) in queues {
                    // One in which nothing lives may lie within one that was merged while this file was missing.
                    let lives = |extent: &Extent| {
                        let queue = ledger.queues.get(&extent.queue);
                        queue.is_some_and(|queue| queue.live_between(extent.first, extent.last.next()) > 0)
                    };
                    extents.retain(lives);
                    ledger.replace(queue, SegmentNo(0), &[], entry.file, &extents);
                }
                files.insert(entry.file, Arc::new(file));
            }
            Err(Error::Damage { file, offset, what }) => {
                report.damaged.push(format!("{file} is damaged at offset {offset}: {what}"));
            }
            Err(error) => return Err(error),
        }
    }
    let mut live: BTreeMap<FileId, u64> = files.keys().map(|file| (*file, 0)).collect();
    let (weights, mut unweighed, mut from) = (Weights::new(), Vec::new(), Some(QueueId(0)));
    let mut count = LiveCount { bytes: &mut live, weights: &weights, unweighed: &mut unweighed };
    while let Some(queue) = from {
        from = ledger.count_live(&mut count, queue);
    }
    live.into_iter().for_each(|(file, bytes)| ledger.set_live(file, bytes));
    report.lost =
        ledger.queues.iter().map(|(id, queue)| (*id, queue.lost())).filter(|(_, lost)| *lost > 0).collect();
    Ok(files)
}
