//! Settled segments as the tools see them: every record verified, and what is sound of a damaged one found by looking
//! for records at every byte behind the damage.

use std::collections::{BTreeMap, BTreeSet};

use super::survey::{Survey, list};
use super::{Finding, FindingKind};
use crate::blobs::BlobPlace;
use crate::codec::Writer;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::{parse_name, settled_name};
use crate::ids::{Epoch, FileId, QueueId, SegmentNo, Seq};
use crate::manifest::{SettledEntry, State};
use crate::ranges::Places;
use crate::record;
use crate::settled::{Builder, HEADER_BYTES, SettledFile, SettledHeader, read_footer};

/// Bytes read at a time, unless a record is longer.
const READ_BYTES: usize = 4 << 20;

/// A settled segment that was looked at.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) name: String,
    /// None where its footer is not sound.
    pub(super) entry: Option<SettledEntry>,
    /// Sound records, in the order of the file.
    records: Vec<Place>,
    /// Bodies in blob files that they name.
    blobs: Vec<(QueueId, Seq, BlobPlace)>,
    /// It must be written anew.
    pub(super) damaged: bool,
}

/// Where a message's record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    queue: QueueId,
    seq: Seq,
    offset: u64,
    bytes: u32,
}

impl Looked {
    /// Places whose records are sound, by queue.
    pub(super) fn places(&self) -> BTreeMap<QueueId, Places> {
        let mut places: BTreeMap<QueueId, Places> = BTreeMap::new();
        for place in &self.records {
            places.entry(place.queue).or_default().insert(place.seq, place.seq);
        }
        places
    }

    /// Bodies in blob files, with the places that name them.
    pub(super) fn named(&self) -> impl Iterator<Item = (QueueId, Seq, BlobPlace)> {
        self.blobs.iter().copied()
    }

    /// Sound records.
    pub(super) fn count(&self) -> u64 {
        self.records.len() as u64
    }

    /// What is sound of it, as a settled segment of its own; None where nothing is.
    /// `others`: what all other settled segments hold, which keeps the two sides of it apart.
    pub(super) fn rewrite(
        &self,
        disk: &dyn Disk,
        header: SettledHeader,
        others: &BTreeMap<QueueId, Places>,
    ) -> Result<Option<(SettledEntry, Vec<u8>)>> {
        if self.records.is_empty() {
            return Ok(None);
        }
        let mut records = self.records.clone();
        records.sort_unstable();
        records.dedup_by_key(|place| (place.queue, place.seq));
        let file = disk.open(&self.name).map_err(Error::io("open", &self.name))?;
        let mut out = Writer::default();
        let mut builder = Builder::new(header, &mut out);
        let mut before: Option<Place> = None;
        for place in records {
            let apart = |before: Place| {
                before.queue == place.queue
                    && place.seq > before.seq.next()
                    && others
                        .get(&place.queue)
                        .is_some_and(|held| held.count(before.seq.next(), Seq(place.seq.0 - 1)) > 0)
            };
            if before.replace(place).is_some_and(apart) {
                builder.close_extent();
            }
            let mut bytes = vec![0; place.bytes as usize];
            file.read_at(place.offset, &mut bytes).map_err(Error::io("read", &self.name))?;
            let again = || Error::damage(&self.name, place.offset, "it reads differently the second time");
            let put = record::parse_put(&bytes).ok().and_then(std::result::Result::ok).ok_or_else(again)?;
            builder.push(place.queue, place.seq, put.stored, &mut out);
        }
        let (entry, _) = builder.finish(&mut out);
        Ok(Some((entry, out.0)))
    }
}

/// Reads all that a manifest lists.
pub(super) fn listed(survey: &mut Survey, disk: &dyn Disk, state: &State) -> Result<()> {
    for entry in &state.settled {
        let sound = match SettledFile::open(disk, state.store_id, *entry) {
            Ok(_) => true,
            Err(error) => {
                survey.damage(error)?;
                false
            }
        };
        let name = settled_name(entry.file);
        if list(disk)?.iter().any(|(file, _)| *file == name) {
            let looked = look(survey, disk, &name, sound.then_some(*entry))?;
            survey.settled.push(looked);
        }
    }
    Ok(())
}

/// Takes what settled segments a store of that identity has, where no manifest tells: one with a place that a newer one
/// holds was merged into it.
pub(super) fn found(survey: &mut Survey, disk: &dyn Disk, store_id: u64) -> Result<()> {
    let mut files: Vec<(FileId, u64)> = list(disk)?
        .iter()
        .filter_map(|(name, bytes)| Some((parse_name(name, "settled-", ".set")?, *bytes)))
        .collect();
    files.sort_unstable();
    let mut held: BTreeMap<QueueId, Places> = BTreeMap::new();
    let mut below = SegmentNo(0);
    for (id, bytes) in files.into_iter().rev() {
        let name = settled_name(id);
        let file = disk.open(&name).map_err(Error::io("open", &name))?;
        let entry = match read_footer(file.as_ref(), &name, bytes) {
            Ok((header, ..)) if header.store_id != store_id => continue,
            Ok((header, _, footer_crc)) => {
                below = below.max(header.below);
                survey.epoch_max = survey.epoch_max.max(header.epoch);
                Some(SettledEntry { file: id, bytes, footer_crc })
            }
            Err(error) => {
                survey.damage(error)?;
                None
            }
        };
        let looked = look(survey, disk, &name, entry)?;
        let places = looked.places();
        let merged =
            places.iter().any(|(queue, places)| held.get(queue).is_some_and(|held| held.meets(places)));
        if merged {
            continue;
        }
        for (queue, places) in places {
            held.entry(queue).or_default().add(&places);
        }
        survey.state.settled.extend(looked.entry);
        survey.settled.push(looked);
    }
    survey.state.settled_below = below;
    Ok(())
}

/// Verifies every record of a file. With a sound footer they end where it says; else they are looked for to the end.
fn look(survey: &mut Survey, disk: &dyn Disk, name: &str, entry: Option<SettledEntry>) -> Result<Looked> {
    let file = disk.open(name).map_err(Error::io("open", name))?;
    let length = file.len().map_err(Error::io("read the length of", name))?;
    let (mut end, mut told) = (length, None);
    if entry.is_some() {
        let (_, extents, _) = read_footer(file.as_ref(), name, length)?;
        end = extents.iter().map(|extent| extent.offset + extent.bytes).max().unwrap_or(HEADER_BYTES as u64);
        told = Some(extents.iter().map(|extent| u64::from(extent.records)).sum::<u64>());
    }
    let damaged = entry.is_none();
    let mut looked = Looked { name: name.to_owned(), entry, records: Vec::new(), blobs: Vec::new(), damaged };
    let mut queues = BTreeSet::new();
    let (mut at, mut bad) = (HEADER_BYTES as u64, 0);
    let mut part = Vec::new();
    let mut part_at = at;
    let mut first_bad = None;
    while at < end {
        let from = (at - part_at) as usize;
        match record::parse_put(part.get(from..).unwrap_or(&[])) {
            Ok(Ok(put)) => {
                let place = Place { queue: put.queue, seq: put.seq, offset: at, bytes: put.bytes as u32 };
                queues.insert(put.queue);
                looked.records.push(place);
                looked.blobs.extend(put.stored.blob.map(|blob| (put.queue, put.seq, blob)));
                at += put.bytes as u64;
            }
            Ok(Err(wanted)) if at + wanted as u64 <= end && from + wanted > part.len() => {
                let bytes = READ_BYTES.max(wanted).min((end - at) as usize);
                part.resize(bytes, 0);
                file.read_at(at, &mut part).map_err(Error::io("read", name))?;
                part_at = at;
            }
            _ => {
                // The next record may begin at any byte.
                first_bad.get_or_insert(at);
                at += 1;
                bad += 1;
            }
        }
    }
    let count = looked.count();
    if entry.is_some() && (bad > 0 || told != Some(count)) {
        let what = format!(
            "{bad} bytes of it are no whole record; {count} of its {} records are sound, of {} queues",
            told.unwrap_or(count),
            queues.len()
        );
        survey.findings.push(Finding::new(FindingKind::Damage, name, first_bad.unwrap_or(end), what));
        looked.damaged = true;
    }
    Ok(looked)
}

/// The header of what a repair writes in the place of a damaged settled segment.
pub(super) fn header(store_id: u64, epoch: Epoch, file: FileId, below: SegmentNo) -> SettledHeader {
    SettledHeader { store_id, epoch, file, below }
}
