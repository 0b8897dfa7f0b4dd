//! `repair`: makes a store that opens from what is sound.
//!
//! What is kept: the state of the newest sound checkpoint; every sound frame behind it, in order, on both sides of what
//! is damaged; every message whose record is sound and that no sound record made dead. What is given up is what
//! [`super::Loss`] names. Everything that is left is redelivered, since the repair counts as an unclean end.
//!
//! In this order, so that an end at any point loses nothing: copies of the damaged files are set aside and synced; the
//! sound frames of damaged segments, and of the open one, go into fresh segments; a fresh checkpoint says what is dead;
//! the new manifest names all of it; then the damaged files themselves take the place of their copies. Before the
//! manifest has its name the store is as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::check::{checked, look};
use super::rescue;
use super::salvage::Salvage;
use super::settled::Copier;
use super::survey::{Survey, list};
use super::walk::Walked;
use super::{Checked, Progress, SET_ASIDE, settled};
use crate::blobs::{BlobPlace, blob_name};
use crate::checkpoint;
use crate::disk::{Disk, DiskFile};
use crate::error::{DIRECTORY, Error, Result};
use crate::format::{
    BLOCK_BYTES, FrameHeader, SegmentHeader, checkpoint_name, frame_bytes, parse_name, segment_blocks,
    segment_name, settled_name,
};
use crate::ids::{Epoch, FileId, FrameNo, QueueId};
use crate::ledger::Ledger;
use crate::manifest::{
    self, CheckpointEntry, MANIFEST_NAME, Manifest, SegmentEnd, SegmentEntry, SettledEntry, State,
};
use crate::ranges::Places;
use crate::recovery;
use crate::settings::Settings;
use crate::settled::SettledHeader;

/// Bytes copied at a time.
const COPY_BYTES: usize = 1 << 20;
/// Ending of files that are not whole yet.
const UNFINISHED: &str = ".repairing";

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// What was found before it.
    pub found: Checked,
    /// What was set aside, by its new names. Empty when nothing was done.
    pub set_aside: Vec<String>,
    /// The store was changed.
    pub changed: bool,
    /// Why nothing was done although something is damaged.
    pub refused: Option<String>,
}

/// What a repair is to leave out besides: what the damage left without what it speaks of, which only the store's owner
/// can know. A binding to a queue whose declaration is lost, for one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaveOut {
    /// Keys of facts.
    pub facts: Vec<Bytes>,
    /// Queues.
    pub queues: Vec<QueueId>,
}

/// Repairs a store. `agree` is told what was found and decides: None is a no. It is not asked when nothing is damaged,
/// or when nothing can be done.
///
/// # Errors
/// When a file cannot be read or written. The store is then as it was before, or repaired.
pub fn repair(
    disk: &Arc<dyn Disk>,
    progress: Progress<'_>,
    agree: &mut dyn FnMut(&Checked) -> Option<LeaveOut>,
) -> Result<Repaired> {
    let (survey, mut salvage) = look(disk.as_ref(), progress)?;
    let found = checked(&survey, &salvage);
    if found.sound || survey.beyond_repair.is_some() {
        let refused = survey.beyond_repair.clone();
        return Ok(Repaired { found, refused, ..Repaired::default() });
    }
    let Some(leave_out) = agree(&found) else {
        let refused = Some("not agreed to".to_owned());
        return Ok(Repaired { found, refused, ..Repaired::default() });
    };
    for key in &leave_out.facts {
        salvage.ledger.facts.remove(&key[..]);
    }
    for queue in &leave_out.queues {
        salvage.ledger.queues.remove(queue);
    }
    let work = Work::new(disk, &survey)?;
    let set_aside = work.carry_out(survey, salvage)?;
    // What was made must open.
    recovery::read(disk.as_ref(), &Settings::default())?;
    Ok(Repaired { found, set_aside, changed: true, refused: None })
}

/// Hands a settled segment's bytes on, part by part.
type WriteSettled<'a> =
    dyn FnMut(SettledHeader, &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<Option<SettledEntry>> + 'a;

struct Work<'a> {
    disk: &'a Arc<dyn Disk>,
    epoch: Epoch,
    next_file: FileId,
    /// Damaged files and the names that they get.
    aside: Vec<(String, String)>,
    /// Bodies in blob files that are not sound, and the names that their copies get.
    bodies: Vec<(BlobPlace, String)>,
}

impl<'a> Work<'a> {
    fn new(disk: &'a Arc<dyn Disk>, survey: &Survey) -> Result<Self> {
        let names: BTreeSet<String> = list(disk.as_ref())?.into_iter().map(|(name, _)| name).collect();
        let mut damaged: Vec<&str> = survey.bad_checkpoints.iter().map(String::as_str).collect();
        damaged.extend(
            survey.segments.iter().filter(|walked| walked.damaged).map(|walked| walked.name.as_str()),
        );
        damaged
            .extend(survey.settled.iter().filter(|looked| looked.damaged).map(|looked| looked.name.as_str()));
        if survey.rebuilt {
            damaged.push(MANIFEST_NAME);
        }
        damaged.retain(|name| names.contains(*name));
        let aside = damaged.into_iter().map(|name| (name.to_owned(), free_name(&names, name))).collect();
        // A blob file stays where it is, for the bodies that are sound; the others, which the next open gives back, are
        // copied, each with the header before it.
        let body = |place: &BlobPlace| {
            (*place, free_name(&names, &format!("{}.{}", blob_name(place.file), place.offset)))
        };
        let bodies = survey.bad_bodies.iter().map(body).collect();
        Ok(Self { disk, epoch: survey.epoch_max.next(), next_file: survey.next_file, aside, bodies })
    }

    fn carry_out(mut self, survey: Survey, salvage: Salvage) -> Result<Vec<String>> {
        for (name, _) in list(self.disk.as_ref())? {
            // Left by a repair that was cut off: nothing in it is the only copy.
            if name.ends_with(UNFINISHED) {
                self.disk.remove(&name).map_err(Error::io("remove", name))?;
            }
        }
        for (name, aside) in &self.aside {
            self.copy(name, 0, u64::MAX, aside)?;
        }
        for (place, aside) in &self.bodies {
            self.copy(&blob_name(place.file), place.offset, place.bytes_end(), aside)?;
        }
        self.sync_dir()?;

        let mut segments = Vec::new();
        let mut fresh = Vec::new();
        for (walked, groups) in survey.segments.iter().zip(&salvage.groups) {
            // An open segment may hold what is not on the disk, a damaged one what cannot be read through.
            if walked.damaged || walked.entry.end.is_none() {
                segments.extend(self.rewrite(&survey, walked, groups, &mut fresh)?);
            } else {
                segments.push(walked.entry);
            }
        }
        let mut next_segment = survey.state.next_segment;
        if segments.is_empty() {
            segments.push(self.empty_segment(&survey, &mut fresh)?);
            next_segment = next_segment.next();
        }
        let mut settled = self.settled(&survey, &salvage, &mut fresh)?;
        settled.extend(self.rescued(&survey, &salvage, &mut fresh)?);
        let mut ledger = salvage.ledger;
        ledger.mark_all_redelivered();
        let checkpoints = self.checkpoints(&survey, &ledger, &mut fresh)?;

        for name in fresh {
            let unfinished = format!("{name}{UNFINISHED}");
            self.disk.rename(&unfinished, &name).map_err(Error::io("rename", unfinished))?;
        }
        self.sync_dir()?;
        let state = State {
            store_id: survey.state.store_id,
            epoch: self.epoch,
            clean: Epoch(0),
            recovered_upto: survey.number_max.max(ledger.cut),
            next_segment,
            next_file: self.next_file,
            segments,
            checkpoints,
            settled_below: survey.state.settled_below,
            settled,
            blobs: survey.state.blobs.clone(),
        };
        Manifest::write(self.disk, state, survey.edit_max)?;

        for (name, aside) in &self.aside {
            // The manifest's own name is taken by the new one; its copy is all there is.
            if name != MANIFEST_NAME {
                self.disk.rename(name, aside).map_err(Error::io("rename", name))?;
            }
        }
        self.spare_the_unlisted(&survey)?;
        self.sync_dir()?;
        let bodies = self.bodies.into_iter().map(|(_, aside)| aside);
        Ok(self.aside.into_iter().map(|(_, aside)| aside).chain(bodies).collect())
    }

    /// The sound settled segments, and in the place of damaged ones what is sound of them.
    fn settled(
        &mut self,
        survey: &Survey,
        salvage: &Salvage,
        fresh: &mut Vec<String>,
    ) -> Result<Vec<SettledEntry>> {
        let mut entries = Vec::new();
        let mut held: BTreeMap<QueueId, Places> = BTreeMap::new();
        for looked in survey.settled.iter().filter(|looked| !looked.damaged) {
            looked.add_to(&mut held);
        }
        for (index, looked) in survey.settled.iter().enumerate() {
            if let (false, Some(entry)) = (looked.damaged, looked.entry) {
                entries.push(entry);
                continue;
            }
            let mut others: BTreeMap<QueueId, Places> = BTreeMap::new();
            for (_, other) in survey.settled.iter().enumerate().filter(|(other, _)| *other != index) {
                for (queue, places) in &other.places {
                    others.entry(*queue).or_default().add(places);
                }
            }
            for (queue, places) in &salvage.rescued {
                others.entry(*queue).or_default().add(places);
            }
            if looked.count > 0 {
                let disk = Arc::clone(self.disk);
                let entry = self.new_settled(survey, fresh, &mut |header, sink| {
                    looked.rewrite(disk.as_ref(), header, &others, &held, sink)
                })?;
                entries.extend(entry);
                looked.add_to(&mut held);
            }
        }
        Ok(entries)
    }

    /// What was lost with settled segments and stands in the log still, as a settled segment of its own.
    fn rescued(
        &mut self,
        survey: &Survey,
        salvage: &Salvage,
        fresh: &mut Vec<String>,
    ) -> Result<Option<SettledEntry>> {
        if salvage.rescued.is_empty() {
            return Ok(None);
        }
        let mut others: BTreeMap<QueueId, Places> = BTreeMap::new();
        for (queue, places) in survey.settled.iter().flat_map(|looked| &looked.places) {
            others.entry(*queue).or_default().add(places);
        }
        let places = rescue::places(survey, salvage)?;
        self.new_settled(survey, fresh, &mut |header, sink| {
            rescue::write(survey, salvage, &places, Copier::new(header, &others, sink)).map(Some)
        })
    }

    /// Writes a settled segment under a name that is not in force yet.
    fn new_settled(
        &mut self,
        survey: &Survey,
        fresh: &mut Vec<String>,
        write: &mut WriteSettled<'_>,
    ) -> Result<Option<SettledEntry>> {
        let id = self.new_file();
        let header = settled::header(survey.state.store_id, self.epoch, id, survey.state.settled_below);
        let name = settled_name(id);
        let file = self.create(&name, 0, fresh)?;
        let mut offset = 0;
        let entry = write(header, &mut |part| {
            file.write_at(offset, part).map_err(Error::io("write", &name))?;
            offset += part.len() as u64;
            Ok(())
        })?;
        file.sync().map_err(Error::io("sync", &name))?;
        Ok(entry)
    }

    /// Two checkpoints of what is left. An older one is of no use any more: with what is lost in between, the log does
    /// not lead from there to here.
    fn checkpoints(
        &mut self,
        survey: &Survey,
        ledger: &Ledger,
        fresh: &mut Vec<String>,
    ) -> Result<Vec<CheckpointEntry>> {
        let encoded = checkpoint::encode(survey.state.store_id, self.epoch, ledger);
        let mut entries = Vec::new();
        for _ in 0..2 {
            let entry = CheckpointEntry { file: self.new_file(), cut: ledger.cut };
            let name = checkpoint_name(entry.file);
            let file = self.create(&name, 0, fresh)?;
            let mut offset = 0;
            for part in encoded.parts() {
                file.write_at(offset, part).map_err(Error::io("write", &name))?;
                offset += part.len() as u64;
            }
            file.sync().map_err(Error::io("sync", &name))?;
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Checkpoints that are not listed any more, and after a manifest was made up also segments that it does not list,
    /// are no cut-off work to be removed by the next open.
    fn spare_the_unlisted(&mut self, survey: &Survey) -> Result<()> {
        let state = match manifest::load(self.disk.as_ref())? {
            Some(loaded) => loaded.state,
            None => return Ok(()),
        };
        let files = list(self.disk.as_ref())?;
        let names: BTreeSet<String> = files.iter().map(|(name, _)| name.clone()).collect();
        for (name, _) in files {
            let segment = parse_name(&name, "log-", ".seg");
            let checkpoint = parse_name(&name, "checkpoint-", ".ckp");
            let settled = parse_name(&name, "settled-", ".set");
            let blob = parse_name(&name, "blob-", ".blb");
            let unlisted = segment
                .is_some_and(|id| survey.rebuilt && state.segments.iter().all(|entry| entry.file != id))
                || checkpoint.is_some_and(|id| state.checkpoints.iter().all(|entry| entry.file != id))
                || settled.is_some_and(|id| state.settled.iter().all(|entry| entry.file != id))
                || blob.is_some_and(|id| !state.blobs.contains(&id));
            if unlisted {
                let aside = free_name(&names, &name);
                self.disk.rename(&name, &aside).map_err(Error::io("rename", &name))?;
                self.aside.push((name, aside));
            }
        }
        Ok(())
    }

    /// Copies a segment's whole groups, chained anew, into a fresh file; None when there are none.
    fn rewrite(
        &mut self,
        survey: &Survey,
        walked: &Walked,
        groups: &[(usize, usize)],
        fresh: &mut Vec<String>,
    ) -> Result<Option<SegmentEntry>> {
        if groups.is_empty() {
            return Ok(None);
        }
        let frames = || groups.iter().flat_map(|&(first, last)| &walked.frames[first..=last]);
        let bytes = BLOCK_BYTES as u64 + frames().map(|good| good.bytes).sum::<u64>();
        let (entry, file, name) = self.new_segment(survey, walked.entry, bytes, fresh)?;
        let (mut offset, mut prev_crc, mut last_frame) = (BLOCK_BYTES as u64, entry.prev_crc, FrameNo(0));
        for good in frames() {
            let frame = walked.read(good)?;
            let header = FrameHeader { prev_crc, ..frame.header };
            let (bytes, crc) = header.encode(&frame.payload);
            file.write_at(offset, &bytes).map_err(Error::io("write", &name))?;
            offset += frame_bytes(frame.payload.len()) as u64;
            (prev_crc, last_frame) = (crc, good.number);
        }
        file.sync().map_err(Error::io("sync", &name))?;
        Ok(Some(SegmentEntry { end: Some(SegmentEnd { last_frame, bytes: offset }), ..entry }))
    }

    /// A log must have a segment.
    fn empty_segment(&mut self, survey: &Survey, fresh: &mut Vec<String>) -> Result<SegmentEntry> {
        let first_frame = survey.number_max.next();
        let entry = SegmentEntry { no: survey.state.next_segment, first_frame, ..SegmentEntry::default() };
        let (entry, file, name) = self.new_segment(survey, entry, BLOCK_BYTES as u64, fresh)?;
        file.sync().map_err(Error::io("sync", &name))?;
        let end = SegmentEnd { last_frame: survey.number_max, bytes: BLOCK_BYTES as u64 };
        Ok(SegmentEntry { end: Some(end), ..entry })
    }

    fn new_segment(
        &mut self,
        survey: &Survey,
        old: SegmentEntry,
        bytes: u64,
        fresh: &mut Vec<String>,
    ) -> Result<(SegmentEntry, Arc<dyn DiskFile>, String)> {
        let entry = SegmentEntry { file: self.new_file(), end: None, ..old };
        let name = segment_name(entry.file);
        let file = self.create(&name, bytes, fresh)?;
        let header = SegmentHeader {
            store_id: survey.state.store_id,
            epoch: self.epoch,
            segment: entry.no,
            file: entry.file,
            first_frame: entry.first_frame,
            prev_crc: entry.prev_crc,
            blocks: segment_blocks(bytes),
            edit: survey.edit_max,
        };
        file.write_at(0, &header.encode()).map_err(Error::io("write", &name))?;
        Ok((entry, file, name))
    }

    /// Makes a file that gets its name later.
    fn create(&self, name: &str, bytes: u64, fresh: &mut Vec<String>) -> Result<Arc<dyn DiskFile>> {
        fresh.push(name.to_owned());
        let unfinished = format!("{name}{UNFINISHED}");
        self.disk.create(&unfinished, bytes).map_err(Error::io("create", unfinished))
    }

    /// Copies what there is of a file between two offsets. What the medium does not give back any more is zeros.
    fn copy(&self, from: &str, start: u64, end: u64, to: &str) -> Result<()> {
        let source = self.disk.open(from).map_err(Error::io("open", from))?;
        let end = end.min(source.len().map_err(Error::io("read the length of", from))?);
        let unfinished = format!("{to}{UNFINISHED}");
        let length = end.saturating_sub(start);
        let copy = self.disk.create(&unfinished, length).map_err(Error::io("create", &unfinished))?;
        let mut part = vec![0; COPY_BYTES];
        let mut offset = start;
        while offset < end {
            let bytes = COPY_BYTES.min((end - offset) as usize);
            let part = &mut part[..bytes];
            if source.read_at(offset, part).is_err() {
                for (at, block) in (offset..).step_by(BLOCK_BYTES).zip(part.chunks_mut(BLOCK_BYTES)) {
                    if source.read_at(at, block).is_err() {
                        block.fill(0);
                    }
                }
            }
            copy.write_at(offset - start, part).map_err(Error::io("write", &unfinished))?;
            offset += bytes as u64;
        }
        copy.sync().map_err(Error::io("sync", &unfinished))?;
        self.disk.rename(&unfinished, to).map_err(Error::io("rename", unfinished))
    }

    fn new_file(&mut self) -> FileId {
        let id = self.next_file;
        self.next_file = id.next();
        id
    }

    fn sync_dir(&self) -> Result<()> {
        self.disk.sync_dir().map_err(Error::io("sync", DIRECTORY))
    }
}

/// "set-aside.NAME", or with a number behind it when that is taken.
fn free_name(names: &BTreeSet<String>, name: &str) -> String {
    let plain = format!("{SET_ASIDE}{name}");
    let numbered = (2..).map(|number| format!("{plain}.{number}"));
    std::iter::once(plain.clone()).chain(numbered).find(|aside| !names.contains(aside)).unwrap_or(plain)
}
