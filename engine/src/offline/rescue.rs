//! Messages that were lost with a settled segment, but whose log segments have not been recycled yet.

use super::salvage::Salvage;
use super::settled::Copier;
use super::survey::Survey;
use super::walk::Walked;
use crate::error::{Error, Result};
use crate::group::Gather;
use crate::ids::{QueueId, Seq};
use crate::manifest::SettledEntry;
use crate::record::{self, Record, Stored};

/// Where a message stands: in a group of a segment, by their indexes.
pub(super) type Place = (QueueId, Seq, usize, usize);

/// Finds all of them, by queue and place.
pub(super) fn places(survey: &Survey, salvage: &Salvage) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for (segment, (walked, groups)) in survey.segments.iter().zip(&salvage.groups).enumerate() {
        if walked.entry.no >= survey.state.settled_below {
            continue;
        }
        for (group, range) in groups.iter().enumerate() {
            for record in records(walked, *range)? {
                let Record::Put { targets, .. } = record else { continue };
                let wanted = targets.into_iter().filter(|(queue, seq)| {
                    salvage.rescued.get(queue).is_some_and(|places| places.contains(*seq))
                });
                places.extend(wanted.map(|(queue, seq)| (queue, seq, segment, group)));
            }
        }
    }
    places.sort_unstable();
    // One that a recovery copied stands there twice.
    places.dedup_by_key(|(queue, seq, ..)| (*queue, *seq));
    Ok(places)
}

/// Writes them into a settled segment of their own.
pub(super) fn write(
    survey: &Survey,
    salvage: &Salvage,
    places: &[Place],
    mut copy: Copier<'_>,
) -> Result<SettledEntry> {
    let mut last: Option<((usize, usize), Vec<Record>)> = None;
    for &(queue, seq, segment, group) in places {
        let here = (segment, group);
        let read = match last.take().filter(|(there, _)| *there == here) {
            Some((_, read)) => read,
            None => records(&survey.segments[segment], salvage.groups[segment][group])?,
        };
        for record in &read {
            if let Record::Put { targets, payload, blob } = record
                && targets.contains(&(queue, seq))
            {
                copy.push(queue, seq, Stored { payload, blob: *blob })?;
            }
        }
        last = Some((here, read));
    }
    copy.finish()
}

/// The records of a group.
fn records(walked: &Walked, (first, last): (usize, usize)) -> Result<Vec<Record>> {
    let mut gather = Gather::default();
    for good in &walked.frames[first..=last] {
        if let Some(payload) = gather.push(&walked.read(good)?) {
            return record::decode_group(payload)
                .map_err(|why| Error::damage(&walked.name, good.offset, why.to_string()));
        }
    }
    Ok(Vec::new())
}
