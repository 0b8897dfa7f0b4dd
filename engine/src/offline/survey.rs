//! Everything in a data directory, read and judged as an open does, but not given up at the first bad byte.

use std::collections::BTreeSet;

use super::rebuild;
use super::settled::{self, Looked};
use super::walk::{Walked, walk};
use super::{Finding, FindingKind, Gap, Progress, SET_ASIDE};
use crate::blobs::{BLOB_TMP_NAME, BlobPlace, blob_name};
use crate::checkpoint::{self, Checkpoint};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, checkpoint_name, parse_name, segment_name};
use crate::ids::{EditNo, Epoch, FileId, FrameNo};
use crate::keeper::CHECKPOINT_TMP_NAME;
use crate::manifest::{self, CheckpointEntry, MANIFEST_NAME, MANIFEST_TMP_NAME, SegmentEntry, State};
use crate::recovery;
use crate::reserve::{self, parse_reserve_name};
use crate::scan::{self, Scan};
use crate::settler::SETTLED_TMP_NAME;

/// What a data directory holds.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// As the manifest says, or as the files' headers do.
    pub(super) state: State,
    /// There is no store here.
    pub(super) empty: bool,
    /// The manifest cannot be trusted; `state` was made up from the other files.
    pub(super) rebuilt: bool,
    pub(super) edits: u64,
    /// The newest edit that anything names.
    pub(super) edit_max: EditNo,
    pub(super) epoch_max: Epoch,
    /// The highest frame number that anything names.
    pub(super) number_max: FrameNo,
    /// The newest frame that anything says was durable.
    pub(super) proven: FrameNo,
    pub(super) next_file: FileId,
    /// Sound checkpoints that may be started from, oldest cut first.
    pub(super) checkpoints: Vec<Sound>,
    /// How many of the checkpoints are sound.
    pub(super) sound_checkpoints: u64,
    /// Checkpoints' names that are damaged and there.
    pub(super) bad_checkpoints: Vec<String>,
    /// The store never had a checkpoint, as far as can be told.
    pub(super) never_checkpointed: bool,
    pub(super) segments: Vec<Walked>,
    pub(super) settled: Vec<Looked>,
    /// Bodies that are not sound, in blob files that are.
    pub(super) bad_bodies: Vec<BlobPlace>,
    /// Frames that stood in segments of which nobody knows which ones they were.
    pub(super) lost_frames: Vec<Gap>,
    pub(super) findings: Vec<Finding>,
    /// Why nothing can be made of it.
    pub(super) beyond_repair: Option<String>,
}

/// A sound checkpoint.
#[derive(Debug)]
pub(super) struct Sound {
    pub(super) name: String,
    pub(super) checkpoint: Checkpoint,
}

/// Reads all.
pub(super) fn survey(disk: &dyn Disk, progress: Progress<'_>) -> Result<Survey> {
    let mut survey = Survey::default();
    let files = list(disk)?;
    for (name, _) in &files {
        let id = parse_name(name, "log-", ".seg").or_else(|| parse_name(name, "checkpoint-", ".ckp"));
        let id = id.or_else(|| parse_name(name, "settled-", ".set"));
        let id = id.or_else(|| parse_name(name, "blob-", ".blb"));
        survey.next_file = survey.next_file.max(id.map_or(FileId(1), FileId::next));
    }
    match manifest::load(disk) {
        Ok(Some(loaded)) => {
            survey.edits = loaded.edits.len() as u64;
            survey.edit_max = loaded.last;
            survey.number_max = recovery::frontier(&loaded.state);
            survey.epoch_max = loaded.state.epoch;
            let listed = survey.listed(disk, loaded, progress);
            if let Err(error) = listed.and_then(|()| survey.refuse_older_manifest(disk, &files)) {
                // The list itself is not to be trusted (E5).
                survey.damage(error)?;
                survey.rebuild(disk, &files, progress)?;
            }
        }
        Ok(None) => match recovery::refuse_lost_manifest(disk) {
            Ok(()) => survey.empty = true,
            Err(error) => {
                survey.damage(error)?;
                survey.rebuild(disk, &files, progress)?;
            }
        },
        Err(error) => {
            survey.damage(error)?;
            survey.rebuild(disk, &files, progress)?;
        }
    }
    survey.never_checkpointed &= survey.bad_checkpoints.is_empty();
    survey.sound_checkpoints = survey.checkpoints.len() as u64;
    survey.other_files(disk, &files)?;
    survey.findings.sort_by_key(|finding| finding.kind);
    Ok(survey)
}

impl Survey {
    /// Reads what a manifest lists. An error when the log knows of edits that the manifest lacks.
    fn listed(&mut self, disk: &dyn Disk, loaded: manifest::Loaded, progress: Progress<'_>) -> Result<()> {
        let state = loaded.state;
        let mut scans = Vec::new();
        let mut walks = Vec::new();
        let settled: u64 = state.settled.iter().map(|entry| entry.bytes).sum();
        let log = state.segments.iter().map(|entry| entry.end.map_or(0, |end| end.bytes));
        let total = log.sum::<u64>() + settled;
        let mut done = 0;
        for entry in &state.segments {
            progress(done, total);
            match Scan::open(disk, state.store_id, *entry) {
                Ok(mut scan) => {
                    let mut walked = Walked::new(*entry);
                    while let Some((offset, frame)) = scan.next_frame()? {
                        walked.push(offset, &frame);
                    }
                    walked.file = Some(std::sync::Arc::clone(&scan.file));
                    walked.edit_max = walked.edit_max.max(scan.edit_max);
                    walked.number_max = walked.number_max.max(scan.number_max);
                    walked.durable_upto = scan.durable_upto;
                    done += scan.offset;
                    scans.push(scan);
                    walks.push((walked, None));
                }
                Err(error @ Error::Damage { .. }) => walks.push((Walked::new(*entry), Some(error))),
                Err(error) => return Err(error),
            }
        }
        // The open segment's length was not known; what is left is settled.
        let total = done + settled;
        progress(done, total);
        let mut report = recovery::Report::default();
        recovery::check_manifest_tail(disk, &state, &loaded.tail, loaded.last, &scans, &mut report)?;
        for note in report.notes {
            self.findings.push(Finding::new(FindingKind::TornTail, MANIFEST_NAME, 0, note));
        }
        let said = walks.iter().map(|(walked, _)| walked.durable_upto).max().unwrap_or_default();
        self.proven = recovery::frontier(&state).max(said);

        let mut scans = scans.into_iter();
        for (walked, error) in walks {
            // What could not be opened was not searched for what its frames prove of each other: no end is taken for torn.
            let (error, proven) = match error {
                Some(error) => (Some(error), FrameNo(u64::MAX)),
                None => {
                    let scan = scans.next().expect("one for each that could be opened");
                    (self.judged(scan), self.proven)
                }
            };
            let walked = match error {
                None => walked,
                Some(error) => {
                    self.damage(error)?;
                    self.walk_damaged(disk, &state, walked.entry, proven)?
                }
            };
            self.take(walked);
        }
        for entry in &state.checkpoints {
            self.listed_checkpoint(disk, &state, *entry)?;
        }
        settled::listed(self, disk, &state, (done, total), progress)?;
        self.never_checkpointed = state.checkpoints.is_empty();
        self.checkpoints.sort_by_key(|sound| sound.checkpoint.ledger.cut);
        self.state = state;
        Ok(())
    }

    /// A manifest that lost its last edits before any frame named them lists checkpoints that are gone by now, and not those
    /// that took their place.
    fn refuse_older_manifest(&self, disk: &dyn Disk, files: &[(String, u64)]) -> Result<()> {
        let there = |name: &str| files.iter().any(|(file, _)| file == name);
        if self.state.checkpoints.iter().all(|entry| there(&checkpoint_name(entry.file))) {
            return Ok(());
        }
        let listed =
            |name: &str| self.state.checkpoints.iter().any(|entry| checkpoint_name(entry.file) == name);
        for (name, _) in files.iter().filter(|(name, _)| !listed(name)) {
            if parse_name(name, "checkpoint-", ".ckp").is_some_and(|id| id >= self.state.next_file)
                && read_any_checkpoint(disk, name)?.is_some_and(|found| found.store_id == self.state.store_id)
            {
                let what = format!(
                    "a checkpoint that it lists is gone, and it does not list {name}, which came later"
                );
                return Err(Error::damage(MANIFEST_NAME, 0, what));
            }
        }
        Ok(())
    }

    /// What an open would say of a segment: None when it is sound.
    fn judged(&mut self, scan: Scan) -> Option<Error> {
        if let Err(error) = scan.judge(self.proven) {
            return Some(error);
        }
        if scan.entry.end.is_none()
            && let Some(cut) = scan.cut()
        {
            let what =
                format!("{} bytes are no whole frame ({}); the next open cuts them", cut.bytes, cut.why);
            self.findings.push(Finding::new(FindingKind::TornTail, cut.file, cut.offset, what));
        }
        None
    }

    /// Reads a damaged segment, from wherever its bytes are.
    fn walk_damaged(
        &mut self,
        disk: &dyn Disk,
        state: &State,
        entry: SegmentEntry,
        proven: FrameNo,
    ) -> Result<Walked> {
        let name = segment_name(entry.file);
        let there = list(disk)?.iter().any(|(file, _)| *file == name);
        let found = if there { Some(name) } else { self.find_renamed(disk, state, entry)? };
        let Some(name) = found else { return Ok(Walked::missing(entry)) };
        let mut walked = Walked { damaged: true, ..walk(disk, state.store_id, entry, &name, proven)? };
        let length = list(disk)?.iter().find(|(file, _)| *file == name).map_or(0, |(_, bytes)| *bytes);
        let made = scan::read_header(disk, &name)?.ok().flatten().map_or(0, |header| header.blocks);
        let short = length < u64::from(made) * BLOCK_BYTES as u64;
        if entry.end.is_none() && !walked.ends_open() && (short || walked.frames.is_empty()) {
            walked.open_gap(length);
        }
        Ok(walked)
    }

    /// Looks for a missing segment under another name: its header says which one it is.
    fn find_renamed(
        &mut self,
        disk: &dyn Disk,
        state: &State,
        entry: SegmentEntry,
    ) -> Result<Option<String>> {
        for (name, _) in list(disk)? {
            let listed = state.segments.iter().any(|entry| segment_name(entry.file) == name);
            if listed || name.starts_with(SET_ASIDE) {
                continue;
            }
            if let Ok(Some(header)) = scan::read_header(disk, &name)?
                && header.store_id == state.store_id
                && (header.segment, header.file) == (entry.no, entry.file)
                && (header.first_frame, header.prev_crc) == (entry.first_frame, entry.prev_crc)
            {
                let what = format!("it is {} under another name", segment_name(entry.file));
                self.findings.push(Finding::new(FindingKind::Note, &name, 0, what));
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    fn listed_checkpoint(&mut self, disk: &dyn Disk, state: &State, entry: CheckpointEntry) -> Result<()> {
        let name = checkpoint_name(entry.file);
        match recovery::read_checkpoint(disk, state.store_id, entry) {
            Ok(checkpoint) => {
                self.checkpoints.push(Sound { name, checkpoint });
                return Ok(());
            }
            Err(error) => self.damage(error)?,
        }
        let files = list(disk)?;
        if files.iter().any(|(file, _)| *file == name) {
            self.bad_checkpoints.push(name);
            return Ok(());
        }
        // Under another name, perhaps.
        for (other, _) in files.iter().filter(|(other, _)| !other.starts_with(SET_ASIDE)) {
            let listed = state.checkpoints.iter().any(|entry| checkpoint_name(entry.file) == *other);
            let segment = parse_name(other, "log-", ".seg").is_some();
            if listed || other == MANIFEST_NAME || segment || parse_reserve_name(other).is_some() {
                continue;
            }
            if let Some(checkpoint) = read_any_checkpoint(disk, other)?
                && (checkpoint.store_id, checkpoint.ledger.cut) == (state.store_id, entry.cut)
            {
                self.findings.push(Finding::new(
                    FindingKind::Note,
                    other,
                    0,
                    format!("it is {name} under another name"),
                ));
                self.checkpoints.push(Sound { name: other.clone(), checkpoint });
                break;
            }
        }
        Ok(())
    }

    /// Makes up the list of files from what they say themselves.
    fn rebuild(&mut self, disk: &dyn Disk, files: &[(String, u64)], progress: Progress<'_>) -> Result<()> {
        let keep = (self.edit_max, self.epoch_max, self.number_max, self.next_file);
        let findings = std::mem::take(&mut self.findings);
        let edits = self.edits;
        *self = Self { findings, edits, rebuilt: true, ..Self::default() };
        (self.edit_max, self.epoch_max, self.number_max, self.next_file) = keep;
        rebuild::rebuild(self, disk, files, progress)
    }

    /// Takes a segment that was read into account.
    pub(super) fn take(&mut self, walked: Walked) {
        self.edit_max = self.edit_max.max(walked.edit_max);
        self.epoch_max = self.epoch_max.max(walked.epoch_max);
        let said = walked.entry.end.map_or(FrameNo(0), |end| end.last_frame);
        self.number_max = self.number_max.max(walked.number_max).max(walked.durable_upto).max(said);
        self.segments.push(walked);
    }

    /// Damage is a finding; anything else is an error.
    pub(super) fn damage(&mut self, error: Error) -> Result<()> {
        match error {
            Error::Damage { file, offset, what } => {
                self.findings.push(Finding::new(FindingKind::Damage, file, offset, what));
                Ok(())
            }
            other => Err(other),
        }
    }

    /// What else is in the directory.
    fn other_files(&mut self, disk: &dyn Disk, files: &[(String, u64)]) -> Result<()> {
        let segments: BTreeSet<String> = self.segments.iter().map(|walked| walked.name.clone()).collect();
        let ours = |name: &str| {
            segments.contains(name)
                || self.checkpoints.iter().any(|sound| sound.name == name)
                || self.bad_checkpoints.iter().any(|bad| bad == name)
                || self.settled.iter().any(|looked| looked.name == name)
                || self.state.blobs.iter().any(|id| blob_name(*id) == name)
        };
        let mut notes = Vec::new();
        for (name, _) in files {
            let reserve =
                parse_reserve_name(name).is_some() && reserve::is_ours(disk, name, self.state.store_id)?;
            let what = if ours(name) || name == MANIFEST_NAME || reserve {
                continue;
            } else if name.starts_with(SET_ASIDE) {
                "it was set aside and is not read"
            } else if [MANIFEST_TMP_NAME, CHECKPOINT_TMP_NAME, SETTLED_TMP_NAME, BLOB_TMP_NAME]
                .contains(&name.as_str())
            {
                "it is cut-off work"
            } else if parse_name(name, "log-", ".seg").is_some() {
                match scan::read_header(disk, name)? {
                    Ok(Some(header)) if header.store_id != self.state.store_id => {
                        "it belongs to another store"
                    }
                    _ => "it is no part of the log: a spare, or cut-off work",
                }
            } else if parse_name(name, "checkpoint-", ".ckp").is_some()
                || parse_name(name, "settled-", ".set").is_some()
                || parse_name(name, "blob-", ".blb").is_some()
            {
                "it is not listed: cut-off work"
            } else if parse_name(name, "volatile-", ".vol").is_some() {
                "it holds transient messages, which end with the process that took them: the next open removes it"
            } else {
                "it is not part of the store"
            };
            notes.push(Finding::new(FindingKind::Note, name, 0, what));
        }
        self.findings.extend(notes);
        Ok(())
    }
}

/// Reads a checkpoint from a file of any name; None when it is none, or not sound.
pub(super) fn read_any_checkpoint(disk: &dyn Disk, name: &str) -> Result<Option<Checkpoint>> {
    let file = disk.open(name).map_err(Error::io("open", name))?;
    let length = file.len().map_err(Error::io("read the length of", name))?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_at(0, &mut bytes).map_err(Error::io("read", name))?;
    match checkpoint::decode(name, bytes.into()) {
        Ok(checkpoint) => Ok(Some(checkpoint)),
        Err(Error::Damage { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn list(disk: &dyn Disk) -> Result<Vec<(String, u64)>> {
    disk.list().map_err(Error::io("list", "the data directory"))
}
