//! How many bytes of settled segments live. Which places live is known without reading anything; how long each record is
//! is not, so what lives of an extent is taken for as long as the rest, unless its records differ much: such an extent is
//! read through when something of it has died, and what was found holds until much more has.

use std::collections::BTreeMap;

use super::Settled;
use crate::ids::{FileId, QueueId, Seq};

/// Extents that are named to be read through at a time.
const UNWEIGHED_MAX: usize = 1_024;

/// An extent is read through when over such a part of it may have died and not be known to have.
const UNKNOWN_SHARE: u64 = 4;

/// What was found when an extent was read through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Weight {
    /// Records that lived then,
    pub(crate) live: u64,
    /// and their bytes.
    pub(crate) bytes: u64,
}

/// By settled segment, queue and first place.
pub(crate) type Weights = BTreeMap<(FileId, QueueId, Seq), Weight>;

/// A count under way.
#[derive(Debug)]
pub(crate) struct LiveCount<'a> {
    /// The settled segments that are counted, and what lives of each so far.
    pub(crate) bytes: &'a mut BTreeMap<FileId, u64>,
    /// What is known of single extents.
    pub(crate) weights: &'a Weights,
    /// Extents that are worth reading through.
    pub(crate) unweighed: &'a mut Vec<Settled>,
}

impl LiveCount<'_> {
    /// So many records of an extent live.
    pub(super) fn add(&mut self, here: &Settled, live: u64) {
        let Settled { file, extent } = here;
        let Some(bytes) = self.bytes.get_mut(file) else { return };
        let records = u64::from(extent.records.max(1));
        let weight = self.weights.get(&(*file, extent.queue, extent.first));
        let known = weight.copied().unwrap_or(Weight { live: records, bytes: extent.bytes });
        let living = (u128::from(known.bytes) * u128::from(live) / u128::from(known.live.max(1))) as u64;
        // Never nothing where something lives: a settled segment of which nothing lives is dropped.
        *bytes += living.max(live);
        // What has died since may have been the longest ones.
        let died = known.live.saturating_sub(live).saturating_mul(extent.longest.into());
        if live > 0 && died > known.bytes / UNKNOWN_SHARE && self.unweighed.len() < UNWEIGHED_MAX {
            self.unweighed.push(*here);
        }
    }
}
