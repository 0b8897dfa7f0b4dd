//! The list of a store's files, made up from the files themselves, for where the manifest cannot be trusted.
//!
//! Segments say in their headers which ones they are. Those of the log stand together without a gap in their numbers
//! (segments leave from the old end only), so the newest run of numbers is the log. A segment ends with the frame whose
//! checksum the header of the next one names: what a recovery cut behind it does not come back. The two newest
//! checkpoint files are the ones kept. Settled segments are taken in unless a newer one was merged from them. A segment that was recycled but not yet used again may be taken in as well: it
//! lies before the checkpoint's cut, and nothing in it lives.

use std::collections::BTreeMap;

use super::survey::{Sound, Survey, list, read_any_checkpoint};
use super::walk::walk;
use super::{Finding, FindingKind, Gap, Progress, blobs, settled};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, FrameHeader, SegmentHeader, checkpoint_name, parse_name, segment_name};
use crate::ids::{FileId, FrameNo, SegmentNo};
use crate::manifest::{SegmentEnd, SegmentEntry, State};
use crate::scan::{self, Scan};

/// Fills in what the manifest would have said.
pub(super) fn rebuild(
    survey: &mut Survey,
    disk: &dyn Disk,
    files: &[(String, u64)],
    progress: Progress<'_>,
) -> Result<()> {
    let mut headers: BTreeMap<SegmentNo, (SegmentHeader, String)> = BTreeMap::new();
    let mut stores: Vec<u64> = Vec::new();
    for (name, _) in files {
        if parse_name(name, "log-", ".seg").is_none() {
            continue;
        }
        let Ok(Some(header)) = scan::read_header(disk, name)? else { continue };
        stores.push(header.store_id);
        // Two of one number: a recovery that found nothing proven in one made it anew.
        let newer = headers.get(&header.segment).is_none_or(|(other, _)| other.epoch < header.epoch);
        survey.edit_max = survey.edit_max.max(header.edit);
        survey.epoch_max = survey.epoch_max.max(header.epoch);
        survey.number_max = survey.number_max.max(FrameNo(header.first_frame.0.saturating_sub(1)));
        if newer {
            headers.insert(header.segment, (header, name.clone()));
        }
    }
    checkpoints(survey, disk, &mut stores)?;
    stores.sort_unstable();
    stores.dedup();
    let [store_id] = stores[..] else {
        survey.beyond_repair = Some(match stores.len() {
            0 => "no log segment and no checkpoint is left".to_owned(),
            _ => "the files belong to different stores; take those of the others away".to_owned(),
        });
        return Ok(());
    };
    let log = newest_run(headers);
    survey.state = State {
        store_id,
        epoch: survey.epoch_max,
        next_segment: log.last().map_or(SegmentNo(1), |(header, _)| header.segment.next()),
        next_file: survey.next_file,
        ..State::default()
    };
    settled::found(survey, disk, store_id)?;
    // What is written from here on is not settled, also where the newest segments of the log are not to be found.
    survey.state.next_segment = survey.state.next_segment.max(survey.state.settled_below);
    blobs::found(survey, disk, store_id)?;
    let total = files.iter().filter(|(name, _)| log.iter().any(|(_, file)| file == name)).map(|f| f.1).sum();
    let mut done = 0;
    for (index, (header, name)) in log.iter().enumerate() {
        progress(done, total);
        segment(survey, disk, header, name, log.get(index + 1).map(|(next, _)| next))?;
        done += files.iter().find(|(file, _)| file == name).map_or(0, |file| file.1);
    }
    progress(total, total);
    headless(survey, disk, files)?;
    survey.proven = survey.number_max;
    Ok(())
}

/// Segments whose headers are gone: nobody knows which ones they were, but their frames tell what is missing at the end.
fn headless(survey: &mut Survey, disk: &dyn Disk, files: &[(String, u64)]) -> Result<()> {
    for (name, length) in files.iter().filter(|(name, _)| parse_name(name, "log-", ".seg").is_some()) {
        if matches!(scan::read_header(disk, name)?, Ok(Some(_))) {
            continue;
        }
        let file = disk.open(name).map_err(Error::io("open", name))?;
        let (mut newest, mut block) = (FrameNo(0), vec![0; BLOCK_BYTES]);
        for offset in (0..length / BLOCK_BYTES as u64).map(|block| block * BLOCK_BYTES as u64) {
            file.read_at(offset, &mut block).map_err(Error::io("read", name))?;
            if let Ok(header) = FrameHeader::decode(&block)
                && header.store_id == survey.state.store_id
            {
                newest = newest.max(header.number);
            }
        }
        if newest > survey.number_max {
            let why = format!("its header is gone, and it held frames up to {newest}");
            survey.findings.push(Finding::new(FindingKind::Damage, name, 0, why.clone()));
            let first = survey.number_max.next();
            survey.lost_frames.push(Gap {
                file: name.clone(),
                offset: 0,
                bytes: *length,
                first,
                last: Some(newest),
                why,
            });
            survey.number_max = newest;
        }
    }
    Ok(())
}

/// The two newest checkpoint files.
fn checkpoints(survey: &mut Survey, disk: &dyn Disk, stores: &mut Vec<u64>) -> Result<()> {
    let mut ids: Vec<FileId> =
        list(disk)?.iter().filter_map(|(name, _)| parse_name(name, "checkpoint-", ".ckp")).collect();
    ids.sort_unstable();
    survey.never_checkpointed = ids.is_empty();
    for id in ids.into_iter().rev().take(2) {
        let name = checkpoint_name(id);
        match read_any_checkpoint(disk, &name)? {
            Some(checkpoint) => {
                stores.push(checkpoint.store_id);
                survey.epoch_max = survey.epoch_max.max(checkpoint.epoch);
                survey.number_max = survey.number_max.max(checkpoint.ledger.cut);
                survey.checkpoints.push(Sound { name, checkpoint });
            }
            None => {
                survey.findings.push(Finding::new(
                    FindingKind::Damage,
                    &name,
                    0,
                    "it is no sound checkpoint",
                ));
                survey.bad_checkpoints.push(name);
            }
        }
    }
    survey.checkpoints.sort_by_key(|sound| sound.checkpoint.ledger.cut);
    Ok(())
}

/// Segments from the newest one back to the first gap in their numbers, in order.
fn newest_run(headers: BTreeMap<SegmentNo, (SegmentHeader, String)>) -> Vec<(SegmentHeader, String)> {
    let mut run: Vec<(SegmentHeader, String)> = Vec::new();
    for (_, (header, name)) in headers.into_iter().rev() {
        if run.last().is_some_and(|(newer, _)| newer.segment != header.segment.next()) {
            break;
        }
        run.push((header, name));
    }
    run.reverse();
    run
}

/// Reads one segment and finds where it ended.
fn segment(
    survey: &mut Survey,
    disk: &dyn Disk,
    header: &SegmentHeader,
    name: &str,
    next: Option<&SegmentHeader>,
) -> Result<()> {
    let file = parse_name(name, "log-", ".seg").unwrap_or(header.file);
    let mut entry = SegmentEntry {
        no: header.segment,
        file,
        first_frame: header.first_frame,
        prev_crc: header.prev_crc,
        end: None,
    };
    let cut = survey.checkpoints.last().map_or(FrameNo(0), |sound| sound.checkpoint.ledger.cut);
    // The newest segment ends like any open one; of an older one all is wanted that may belong to it.
    let mut short = None;
    let proven = match next {
        Some(next) => FrameNo(next.first_frame.0.saturating_sub(1)),
        None => match Scan::open(disk, survey.state.store_id, entry) {
            Ok(mut scan) => {
                while scan.next_frame()?.is_some() {}
                cut.max(scan.durable_upto)
            }
            Err(error) => {
                short = Some(error);
                FrameNo(u64::MAX)
            }
        },
    };
    let mut walked = walk(disk, survey.state.store_id, entry, name, proven)?;
    if let Some(error) = short {
        survey.damage(error)?;
        walked.damaged = true;
        if !walked.ends_open() {
            walked.open_gap(walked.end());
        }
    }
    walked.edit_max = walked.edit_max.max(header.edit);
    walked.epoch_max = walked.epoch_max.max(header.epoch);
    if let Some(next) = next {
        let ended = walked.frames.iter().rposition(|good| good.crc == next.prev_crc);
        let sound_upto = walked.gaps.first().map_or(u64::MAX, |gap| gap.offset);
        let kept = match ended {
            Some(index) => index + 1,
            None if walked.entry.prev_crc == next.prev_crc => 0,
            None => {
                let what = format!("the frame that segment {} follows is not in it", next.segment);
                survey.findings.push(Finding::new(FindingKind::Damage, name, walked.end(), what));
                walked.damaged = true;
                walked
                    .frames
                    .partition_point(|good| good.offset < sound_upto && good.number < next.first_frame)
            }
        };
        walked.frames.truncate(kept);
        let end = walked.end();
        walked.gaps.retain(|gap| gap.offset < end || walked.damaged);
        if walked.damaged && walked.gaps.is_empty() {
            walked.gap_before(next.first_frame);
        }
        let last_frame = walked.frames.last().map_or(FrameNo(entry.first_frame.0 - 1), |good| good.number);
        entry.end = Some(SegmentEnd { last_frame, bytes: end });
    } else if let Some(gap) = walked.gaps.first() {
        let what = format!("no sound frame stands there ({})", gap.why);
        survey.findings.push(Finding::new(FindingKind::Damage, name, gap.offset, what));
        walked.damaged = true;
    }
    if file != header.file {
        // It is written anew under a number of its own.
        let what = format!("it is {} under another number", segment_name(header.file));
        survey.findings.push(Finding::new(FindingKind::Damage, name, 0, what));
        walked.damaged = true;
    }
    walked.damaged |= !walked.gaps.is_empty();
    walked.entry = entry;
    survey.take(walked);
    Ok(())
}
