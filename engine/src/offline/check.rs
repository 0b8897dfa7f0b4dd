//! `check`: says what a store holds and what is wrong with it. Changes nothing.

use std::collections::BTreeSet;

use super::salvage::{Salvage, salvage};
use super::survey::{Survey, survey};
use super::{Checked, CheckedQueue, Finding, FindingKind, Progress, blobs};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::recovery;
use crate::settings::Settings;

/// Verifies everything in a data directory.
///
/// # Errors
/// When a file cannot be read, or was written by a newer program. Damage is no error but a finding.
pub fn check(disk: &dyn Disk, progress: Progress<'_>) -> Result<Checked> {
    let (survey, salvage) = look(disk, progress)?;
    Ok(checked(&survey, &salvage))
}

/// Reads all, replays what is sound, and asks the open itself whether it agrees.
pub(super) fn look(disk: &dyn Disk, progress: Progress<'_>) -> Result<(Survey, Salvage)> {
    let mut survey = survey(disk, progress)?;
    let mut salvage = salvage(&mut survey)?;
    blobs::verify(disk, &mut survey, &mut salvage, progress)?;
    if !salvage.loss.messages.is_empty() && survey.segments.iter().all(|walked| walked.gaps.is_empty()) {
        for (queue, count) in &salvage.loss.messages {
            let what = format!("{count} messages of queue {queue} should live, but no record holds them");
            survey.findings.push(Finding::new(FindingKind::Damage, "the store", 0, what));
        }
    }
    for (queue, places) in &salvage.rescued {
        let what = format!(
            "{} messages of queue {queue} are lost with a settled segment but stand in the log still: a repair takes \
             them from there",
            places.len()
        );
        survey.findings.push(Finding::new(FindingKind::Damage, "the store", 0, what));
    }
    // The open's word is the last one, whatever was found above.
    match recovery::read(disk, &Settings::default()) {
        Err(Error::Damage { file, offset, what }) => {
            if !survey.findings.iter().any(|finding| finding.kind == FindingKind::Damage) {
                survey.findings.push(Finding::new(FindingKind::Damage, file, offset, what));
            }
        }
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    survey.findings.sort_by_key(|finding| finding.kind);
    Ok((survey, salvage))
}

pub(super) fn checked(survey: &Survey, salvage: &Salvage) -> Checked {
    let state = &survey.state;
    let sound = !survey.findings.iter().any(|finding| finding.kind == FindingKind::Damage);
    let lost = |id| salvage.loss.messages.iter().find(|(lost, _)| *lost == id).map_or(0, |(_, count)| *count);
    let queues = salvage.ledger.queues.iter().map(|(id, queue)| CheckedQueue {
        queue: *id,
        live: queue.live(),
        lost: lost(*id),
    });
    let checkpoints: BTreeSet<_> = state.checkpoints.iter().map(|entry| entry.file).collect();
    Checked {
        sound,
        store_id: state.store_id,
        epoch: state.epoch,
        clean: sound && !survey.empty && state.clean == state.epoch,
        files: if survey.empty {
            0
        } else {
            1 + (checkpoints.len() + survey.segments.len() + survey.settled.len() + state.blobs.len()) as u64
        },
        edits: survey.edits,
        checkpoints: survey.sound_checkpoints,
        segments: survey.segments.len() as u64,
        settled_segments: survey.settled.len() as u64,
        settled_records: salvage.settled_records,
        blob_files: state.blobs.len() as u64,
        blobs: salvage.blobs,
        frames: survey.segments.iter().map(|walked| walked.frames.len() as u64).sum(),
        records: salvage.records,
        log_bytes: survey.segments.iter().flat_map(|walked| &walked.frames).map(|good| good.bytes).sum(),
        replay_compared: salvage.replay_compared,
        facts: salvage.ledger.facts_in_one_piece(),
        queues: queues.collect(),
        findings: survey.findings.clone(),
        loss: salvage.loss.clone(),
        beyond_repair: survey.beyond_repair.clone(),
    }
}
