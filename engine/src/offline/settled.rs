//! Settled segments as the tools see them: every record verified, and what is sound of a damaged one found by looking
//! for records at every byte behind the damage.

use std::collections::BTreeMap;

use super::survey::{Survey, list};
use super::{Finding, FindingKind, Progress};
use crate::blobs::BlobPlace;
use crate::codec::Writer;
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};
use crate::format::{NoFrame, parse_name, settled_name};
use crate::ids::{Epoch, FileId, QueueId, SegmentNo, Seq};
use crate::manifest::{SettledEntry, State};
use crate::ranges::Places;
use crate::record::{self, OnePut, Stored};
use crate::settled::{
    Builder, Extent, HEADER_BYTES, SETTLED_VERSION, SettledFile, SettledHeader, read_footer,
};

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
    /// Between the first and the last place of each extent: what lived there when the file was made is in it.
    pub(super) spans: BTreeMap<QueueId, Places>,
    /// How many records those are.
    pub(super) count: u64,
    /// Bodies in blob files that they name.
    blobs: Vec<(QueueId, Seq, BlobPlace)>,
    /// Where the records end, as far as is known.
    end: u64,
    /// It must be written anew.
    pub(super) damaged: bool,
    /// Of each queue, the records that are sound stand in order. They do in what was written; not where parts of it have
    /// changed places.
    in_order: bool,
}

impl Looked {
    /// Bodies in blob files, with the places that name them.
    pub(super) fn named(&self) -> impl Iterator<Item = (QueueId, Seq, BlobPlace)> {
        self.blobs.iter().copied()
    }

    /// What finds records in it is not sound.
    fn blame(&mut self, survey: &mut Survey, bad_marks: Option<(u64, String)>) {
        if let Some((at, what)) = bad_marks {
            survey.findings.push(Finding::new(FindingKind::Damage, &self.name, at, what));
            self.damaged = true;
        }
    }

    /// Adds the places that it holds.
    pub(super) fn add_to(&self, held: &mut BTreeMap<QueueId, Places>) {
        for (queue, places) in &self.places {
            held.entry(*queue).or_default().add(places);
        }
    }

    /// What is sound of it, as a settled segment of its own, handed to `sink` part by part; None where nothing is.
    /// `others`: what all other settled segments hold, which keeps the two sides of it apart; `held`: what of that is there
    /// already.
    pub(super) fn rewrite(
        &self,
        disk: &dyn Disk,
        header: SettledHeader,
        others: &BTreeMap<QueueId, Places>,
        held: &BTreeMap<QueueId, Places>,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Option<SettledEntry>> {
        if self.count == 0 {
            return Ok(None);
        }
        let file = disk.open(&self.name).map_err(Error::io("open", &self.name))?;
        let mut copy = Copier::new(header, others, sink).without(held);
        if self.in_order {
            // In the order of the file: the extents of a queue rise in it.
            each_record(file.as_ref(), &self.name, self.end, &mut |_, put| {
                copy.push(put.queue, put.seq, put.stored)
            })?;
            return copy.finish().map(Some);
        }
        let mut places = Vec::new();
        each_record(file.as_ref(), &self.name, self.end, &mut |at, put| {
            places.push((put.queue, put.seq, at, put.bytes));
            Ok(())
        })?;
        places.sort_unstable();
        for (_, _, at, bytes) in places {
            let mut record = vec![0; bytes];
            file.read_at(at, &mut record).map_err(Error::io("read", &self.name))?;
            if let Ok(Ok(put)) = record::parse_put(&record) {
                copy.push(put.queue, put.seq, put.stored)?;
            }
        }
        copy.finish().map(Some)
    }
}

/// A settled segment on its way out.
pub(super) struct Copier<'a> {
    builder: Builder,
    others: &'a BTreeMap<QueueId, Places>,
    /// What is in other settled segments already, and must not be there twice.
    held: Option<&'a BTreeMap<QueueId, Places>>,
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
        let builder = Builder::new(header, &mut out);
        Self { builder, others, held: None, sink, out, newest: BTreeMap::new() }
    }

    fn without(self, held: &'a BTreeMap<QueueId, Places>) -> Self {
        Self { held: Some(held), ..self }
    }

    /// Takes a message in; one at or below a queue's newest place is there already.
    pub(super) fn push(&mut self, queue: QueueId, seq: Seq, stored: Stored<'_>) -> Result<()> {
        if self.held.and_then(|held| held.get(&queue)).is_some_and(|held| held.contains(seq)) {
            return Ok(());
        }
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
        let mut bad_marks = None;
        let sound = match SettledFile::open(disk, state.store_id, *entry) {
            Ok((file, extents)) => {
                bad_marks = self::bad_marks(&file, &extents);
                true
            }
            Err(error) => {
                survey.damage(error)?;
                false
            }
        };
        let name = settled_name(entry.file);
        if list(disk)?.iter().any(|(file, _)| *file == name) {
            let mut looked = look(survey, disk, &name, sound.then_some(*entry), entry.bytes)?;
            looked.blame(survey, bad_marks);
            survey.settled.push(looked);
        } else if let Some(other) = find_renamed(disk, state, *entry)? {
            let what = format!("it is {name} under another name");
            survey.findings.push(Finding::new(FindingKind::Note, &other, 0, what));
            // It is written anew under a name of its own.
            let looked = look(survey, disk, &other, Some(*entry), entry.bytes)?;
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
    let mut headers = BTreeMap::new();
    for (id, bytes) in &files {
        headers.insert(*id, header_of(disk, &settled_name(*id), *bytes)?);
    }
    let mut held: BTreeMap<QueueId, Places> = BTreeMap::new();
    let mut below = SegmentNo(0);
    for (id, bytes) in files.into_iter().rev() {
        let name = settled_name(id);
        let mut renamed = false;
        match headers[&id] {
            Some(header) if header.store_id != store_id => continue,
            Some(header) => {
                // A copy under another number, unless it is all there is.
                let original =
                    |other: &SettledHeader| (other.store_id, other.file) == (store_id, header.file);
                renamed = header.file != id;
                if renamed
                    && headers.get(&header.file).is_some_and(|other| other.is_some_and(|h| original(&h)))
                {
                    continue;
                }
                below = below.max(header.below);
                survey.epoch_max = survey.epoch_max.max(header.epoch);
            }
            // What of the log it settled is not known any more: all of the log counts as settled then, and what is not in a
            // settled segment is taken from there.
            None => below = survey.state.next_segment,
        }
        let file = disk.open(&name).map_err(Error::io("open", &name))?;
        let entry = match read_footer(file.as_ref(), &name, bytes) {
            Ok((_, _, footer_crc)) => Some(SettledEntry { file: id, bytes, footer_crc }),
            Err(error) => {
                survey.damage(error)?;
                None
            }
        };
        let sound = entry.and_then(|entry| SettledFile::open(disk, store_id, entry).ok());
        let bad_marks = sound.and_then(|(file, extents)| bad_marks(&file, &extents));
        let mut looked = look(survey, disk, &name, entry, u64::MAX)?;
        if renamed {
            // It is written anew under a name of its own.
            (looked.entry, looked.damaged) = (None, true);
        }
        looked.blame(survey, bad_marks);
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

/// The first extent whose marks are not sound: where they stand, and what is wrong.
fn bad_marks(file: &SettledFile, extents: &[Extent]) -> Option<(u64, String)> {
    extents.iter().find_map(|extent| Some((extent.marks_at, file.marks(extent).err()?)))
}

/// What a file says it is at its front; None where that cannot be told.
fn header_of(disk: &dyn Disk, name: &str, length: u64) -> Result<Option<SettledHeader>> {
    if length < HEADER_BYTES as u64 {
        return Ok(None);
    }
    let file = disk.open(name).map_err(Error::io("open", name))?;
    let mut header = vec![0; HEADER_BYTES];
    file.read_at(0, &mut header).map_err(Error::io("read", name))?;
    match SettledHeader::decode(&header) {
        Err(NoFrame::Newer(found)) => {
            Err(Error::NewerFormat { file: name.into(), found, known: SETTLED_VERSION })
        }
        header => Ok(header.ok()),
    }
}

/// Verifies every record of a file. With a sound footer they end where it says; else they are looked for to the end.
/// What stands behind `bytes_max` was not written there.
fn look(
    survey: &mut Survey,
    disk: &dyn Disk,
    name: &str,
    entry: Option<SettledEntry>,
    bytes_max: u64,
) -> Result<Looked> {
    let file = disk.open(name).map_err(Error::io("open", name))?;
    let length = file.len().map_err(Error::io("read the length of", name))?;
    let (mut end, mut told) = (length.min(bytes_max), None);
    let mut spans: BTreeMap<QueueId, Places> = BTreeMap::new();
    if entry.is_some() {
        let (_, extents, _) = read_footer(file.as_ref(), name, length)?;
        end = extents.iter().map(|extent| extent.offset + extent.bytes).max().unwrap_or(HEADER_BYTES as u64);
        told = Some(extents.iter().map(|extent| u64::from(extent.records)).sum::<u64>());
        for extent in &extents {
            spans.entry(extent.queue).or_default().insert(extent.first, extent.last);
        }
    }
    let (mut places, mut count): (BTreeMap<QueueId, Places>, u64) = (BTreeMap::new(), 0);
    let mut run: Option<(QueueId, Seq, Seq)> = None;
    let mut blobs = Vec::new();
    let (mut newest, mut in_order) = (BTreeMap::new(), true);
    let (bad, first_bad) = each_record(file.as_ref(), name, end, &mut |_, put| {
        count += 1;
        in_order &= newest.insert(put.queue, put.seq).is_none_or(|before| before < put.seq);
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
    let mut looked =
        Looked { name: name.to_owned(), entry, places, spans, count, blobs, end, damaged, in_order };
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
