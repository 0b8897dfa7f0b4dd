//! Settled segments as the tools see them: every record verified, and what is sound of a damaged one found by looking
//! for records at every byte behind the damage.

use std::collections::BTreeMap;

use super::survey::{Survey, list};
use super::{Finding, FindingKind, Progress};
use crate::blobs::BlobPlace;
use crate::codec::Writer;
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};
use crate::format::{parse_name, settled_name};
use crate::ids::{Epoch, FileId, QueueId, SegmentNo, Seq};
use crate::manifest::{SettledEntry, State};
use crate::ranges::Places;
use crate::record::{self, OnePut, Stored};
use crate::settled::{Builder, HEADER_BYTES, SettledFile, SettledHeader, read_footer};

/// Bytes read at a time, unless a record is longer.
const READ_BYTES: usize = 4 << 20;

/// Bytes of a new settled segment that are handed on at a time.
const WRITE_BYTES: usize = 1 << 20;

/// A settled segment that was looked at. What its records hold is not kept, only which places are there: memory is by
/// queues and ranges, not by messages.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) name: String,
    /// None where its footer is not sound.
    pub(super) entry: Option<SettledEntry>,
    /// Places whose records are sound.
    pub(super) places: BTreeMap<QueueId, Places>,
    /// How many records those are.
    pub(super) count: u64,
    /// Bodies in blob files that they name.
    blobs: Vec<(QueueId, Seq, BlobPlace)>,
    /// Where the records end, as far as is known.
    end: u64,
    /// It must be written anew.
    pub(super) damaged: bool,
}

impl Looked {
    /// Bodies in blob files, with the places that name them.
    pub(super) fn named(&self) -> impl Iterator<Item = (QueueId, Seq, BlobPlace)> {
        self.blobs.iter().copied()
    }

    /// What is sound of it, as a settled segment of its own, handed to `sink` part by part; None where nothing is.
    /// `others`: what all other settled segments hold, which keeps the two sides of it apart.
    pub(super) fn rewrite(
        &self,
        disk: &dyn Disk,
        header: SettledHeader,
        others: &BTreeMap<QueueId, Places>,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Option<SettledEntry>> {
        if self.count == 0 {
            return Ok(None);
        }
        let file = disk.open(&self.name).map_err(Error::io("open", &self.name))?;
        let mut copy = Copier::new(header, others, sink);
        // In the order of the file: the extents of a queue rise in it.
        each_record(file.as_ref(), &self.name, self.end, &mut |_, put| {
            copy.push(put.queue, put.seq, put.stored)
        })?;
        copy.finish().map(Some)
    }
}

/// A settled segment on its way out.
pub(super) struct Copier<'a> {
    builder: Builder,
    others: &'a BTreeMap<QueueId, Places>,
    sink: &'a mut dyn FnMut(&[u8]) -> Result<()>,
    out: Writer,
    /// The newest place of each queue.
    newest: BTreeMap<QueueId, Seq>,
}

impl<'a> Copier<'a> {
    pub(super) fn new(
        header: SettledHeader,
        others: &'a BTreeMap<QueueId, Places>,
        sink: &'a mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Self {
        let mut out = Writer::default();
        Self { builder: Builder::new(header, &mut out), others, sink, out, newest: BTreeMap::new() }
    }

    /// Takes a message in; one at or below a queue's newest place is there already.
    pub(super) fn push(&mut self, queue: QueueId, seq: Seq, stored: Stored<'_>) -> Result<()> {
        let before = self.newest.insert(queue, seq);
        if before.is_some_and(|before| before >= seq) {
            self.newest.extend(before.map(|before| (queue, before)));
            return Ok(());
        }
        let apart = |before: Seq| {
            let held = self.others.get(&queue);
            seq > before.next() && held.is_some_and(|held| held.count(before.next(), Seq(seq.0 - 1)) > 0)
        };
        if before.is_some_and(apart) {
            self.builder.close_extent();
        }
        self.builder.push(queue, seq, stored, &mut self.out);
        if self.out.0.len() >= WRITE_BYTES {
            (self.sink)(&self.out.0)?;
            self.out.0.clear();
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<SettledEntry> {
        let (entry, _) = self.builder.finish(&mut self.out);
        (self.sink)(&self.out.0)?;
        Ok(entry)
    }
}

/// Reads all that a manifest lists.
pub(super) fn listed(
    survey: &mut Survey,
    disk: &dyn Disk,
    state: &State,
    (mut done, total): (u64, u64),
    progress: Progress<'_>,
) -> Result<()> {
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
        } else if let Some(other) = find_renamed(disk, state, *entry)? {
            let what = format!("it is {name} under another name");
            survey.findings.push(Finding::new(FindingKind::Note, &other, 0, what));
            // It is written anew under a name of its own.
            let looked = look(survey, disk, &other, Some(*entry))?;
            survey.settled.push(Looked { damaged: true, ..looked });
        }
        done += entry.bytes;
        progress(done, total);
    }
    Ok(())
}

/// Looks for a missing settled segment under another name: its header and its footer say which one it is.
fn find_renamed(disk: &dyn Disk, state: &State, entry: SettledEntry) -> Result<Option<String>> {
    for (name, bytes) in list(disk)? {
        let listed = state.settled.iter().any(|entry| settled_name(entry.file) == name);
        if listed || bytes != entry.bytes {
            continue;
        }
        let file = disk.open(&name).map_err(Error::io("open", &name))?;
        if let Ok((header, _, crc)) = read_footer(file.as_ref(), &name, bytes)
            && (header.store_id, header.file, crc) == (state.store_id, entry.file, entry.footer_crc)
        {
            return Ok(Some(name));
        }
    }
    Ok(None)
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
        let meets =
            |(queue, places): (&QueueId, &Places)| held.get(queue).is_some_and(|held| held.meets(places));
        if looked.places.iter().any(meets) {
            continue;
        }
        for (queue, places) in &looked.places {
            held.entry(*queue).or_default().add(places);
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
    let (mut places, mut count): (BTreeMap<QueueId, Places>, u64) = (BTreeMap::new(), 0);
    let mut run: Option<(QueueId, Seq, Seq)> = None;
    let mut blobs = Vec::new();
    let (bad, first_bad) = each_record(file.as_ref(), name, end, &mut |_, put| {
        count += 1;
        blobs.extend(put.stored.blob.map(|blob| (put.queue, put.seq, blob)));
        match &mut run {
            Some((queue, _, last)) if *queue == put.queue && put.seq == last.next() => *last = put.seq,
            run => {
                let ended = run.replace((put.queue, put.seq, put.seq));
                if let Some((queue, first, last)) = ended {
                    places.entry(queue).or_default().insert(first, last);
                }
            }
        }
        Ok(())
    })?;
    if let Some((queue, first, last)) = run {
        places.entry(queue).or_default().insert(first, last);
    }
    let queues = places.len();
    let damaged = entry.is_none();
    let mut looked = Looked { name: name.to_owned(), entry, places, count, blobs, end, damaged };
    if entry.is_some() && (bad > 0 || told != Some(count)) {
        let what = format!(
            "{bad} bytes of it are no whole record; {count} of its {} records are sound, of {} queues",
            told.unwrap_or(count),
            queues
        );
        survey.findings.push(Finding::new(FindingKind::Damage, name, first_bad.unwrap_or(end), what));
        looked.damaged = true;
    }
    Ok(looked)
}

/// Hands on every sound record before `end`, with its offset. Says how many bytes are no whole record, and where the
/// first of them stands: behind it the next record may begin at any byte.
fn each_record(
    file: &dyn DiskFile,
    name: &str,
    end: u64,
    take: &mut dyn FnMut(u64, OnePut<'_>) -> Result<()>,
) -> Result<(u64, Option<u64>)> {
    let (mut at, mut bad, mut first_bad) = (HEADER_BYTES as u64, 0, None);
    let mut part = Vec::new();
    let mut part_at = at;
    while at < end {
        let from = (at - part_at) as usize;
        match record::parse_put(part.get(from..).unwrap_or(&[])) {
            Ok(Ok(put)) => {
                let bytes = put.bytes as u64;
                take(at, put)?;
                at += bytes;
            }
            Ok(Err(wanted)) if at + wanted as u64 <= end && from + wanted > part.len() => {
                let bytes = READ_BYTES.max(wanted).min((end - at) as usize);
                part.resize(bytes, 0);
                file.read_at(at, &mut part).map_err(Error::io("read", name))?;
                part_at = at;
            }
            _ => {
                first_bad.get_or_insert(at);
                at += 1;
                bad += 1;
            }
        }
    }
    Ok((bad, first_bad))
}

/// The header of what a repair writes in the place of a damaged settled segment.
pub(super) fn header(store_id: u64, epoch: Epoch, file: FileId, below: SegmentNo) -> SettledHeader {
    SettledHeader { store_id, epoch, file, below }
}
