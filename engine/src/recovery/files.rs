//! The files of the data directory, at an open: those that must be there, and those that the manifest does not list.

use std::collections::BTreeSet;

use super::{Report, blobs};
use crate::blobs::BLOB_TMP_NAME;
use crate::checkpoint;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, NoFrame, parse_name};
use crate::group::read_frame;
use crate::ids::{EditNo, FileId};
use crate::keeper::CHECKPOINT_TMP_NAME;
use crate::manifest::{self, MANIFEST_NAME, MANIFEST_TMP_NAME, State};
use crate::reserve::{self, parse_reserve_name};
use crate::scan::{self, Scan};
use crate::settings::Settings;
use crate::settled::{self, SettledHeader};
use crate::settler::SETTLED_TMP_NAME;
use crate::shared::Spare;
use crate::volatile;

/// Without a manifest there must be no data either.
pub(crate) fn refuse_lost_manifest(disk: &dyn Disk) -> Result<()> {
    for (name, _) in disk.list().map_err(Error::io("list", "the data directory"))? {
        let is_checkpoint = parse_name(&name, "checkpoint-", ".ckp").is_some();
        let is_settled = parse_name(&name, "settled-", ".set").is_some();
        let is_blob = parse_name(&name, "blob-", ".blb").is_some();
        let is_segment = parse_name(&name, "log-", ".seg").is_some();
        let held_data = is_segment && holds_frames(disk, &name)?;
        if is_checkpoint || is_settled || is_blob || held_data {
            let what = format!("it is missing, but {name} is there");
            return Err(Error::damage(MANIFEST_NAME, 0, what));
        }
    }
    Ok(())
}

/// Whether a segment was ever more than made: its header names a manifest edit, or a frame stands in it. The first
/// segment of a store is made before its first manifest.
fn holds_frames(disk: &dyn Disk, name: &str) -> Result<bool> {
    let Ok(Some(header)) = scan::read_header(disk, name)? else { return Ok(false) };
    if header.edit > EditNo(0) {
        return Ok(true);
    }
    let file = disk.open(name).map_err(Error::io("open", name))?;
    let length = file.len().map_err(Error::io("read the length of", name))?;
    let first = read_frame(file.as_ref(), BLOCK_BYTES as u64, length).map_err(Error::io("read", name))?;
    Ok(first.is_ok_and(|frame| frame.header.store_id == header.store_id))
}

/// E5: the log may name no edit that the manifest lacks.
pub(crate) fn check_manifest_tail(
    disk: &dyn Disk,
    state: &State,
    tail: &Option<manifest::Tail>,
    last: EditNo,
    scans: &[Scan],
    report: &mut Report,
) -> Result<()> {
    let mut named = scans.iter().map(|scan| (scan.edit_max, scan.name.clone())).max();
    for (name, _) in disk.list().map_err(Error::io("list", "the data directory"))? {
        let listed = |id| state.segments.iter().any(|entry| entry.file == id);
        if parse_name(&name, "log-", ".seg").is_some_and(|id| !listed(id))
            && let Ok(Some(header)) = scan::read_header(disk, &name)?
            && header.store_id == state.store_id
        {
            named = named.max(Some((header.edit, name)));
        } else if let Some(header) = blobs::header(disk, &name)?
            && header.store_id == state.store_id
        {
            named = named.max(Some((header.edit, name)));
        }
    }
    if let Some((edit, name)) = named
        && edit > last
    {
        let offset = tail.as_ref().map_or(0, |tail| tail.offset);
        let what = format!("{name} names edit {edit}, but the last good one is {last}");
        return Err(Error::damage(MANIFEST_NAME, offset, what));
    }
    if let Some(tail) = tail {
        report.notes.push(format!(
            "{MANIFEST_NAME} had a torn tail of {} bytes at offset {} ({}); nothing depended on it",
            tail.bytes, tail.offset, tail.why
        ));
    }
    Ok(())
}

/// What was found beside what the manifest lists.
pub(super) struct Tidied {
    pub(super) spares: Vec<Spare>,
    pub(super) next_file: FileId,
    /// Pieces of the reserve.
    pub(super) reserve: BTreeSet<u32>,
}

/// E12: nothing listed is missing or damaged, so unlisted files of ours are cut-off work. Whole segments become
/// spares, the rest goes; what is not ours is set aside or left alone.
pub(super) fn tidy(
    disk: &dyn Disk,
    settings: &Settings,
    state: &State,
    report: &mut Report,
) -> Result<Tidied> {
    let mut spares = Vec::new();
    let mut pieces = BTreeSet::new();
    let mut next_file = state.next_file;
    let remove = |name: &str| disk.remove(name).map_err(Error::io("remove", name));
    for (name, bytes) in disk.list().map_err(Error::io("list", "the data directory"))? {
        if [MANIFEST_TMP_NAME, CHECKPOINT_TMP_NAME, SETTLED_TMP_NAME, BLOB_TMP_NAME].contains(&name.as_str())
        {
            remove(&name)?;
            report.notes.push(format!("{name} was cut-off work and is removed"));
        } else if let Some(id) = parse_name(&name, "log-", ".seg") {
            next_file = next_file.max(id.next());
            if state.segments.iter().any(|entry| entry.file == id) {
                continue;
            }
            // An empty first block is that of a segment that was made and never used.
            let header = scan::read_header(disk, &name)?;
            if !header.is_ok_and(|header| header.is_none_or(|header| header.store_id == state.store_id)) {
                set_aside(disk, &name, report)?;
            } else if bytes == settings.segment_bytes && spares.len() < settings.spares.max(1) {
                let file = disk.open(&name).map_err(Error::io("open", &name))?;
                // Whoever made it may have been cut off before its length was durable, and a rotation relies on that.
                file.sync().map_err(Error::io("sync", &name))?;
                spares.push(Spare { id, file, written: false });
            } else {
                remove(&name)?;
                report.notes.push(format!("{name} was a spare segment and is removed"));
            }
        } else if let Some(id) = parse_name(&name, "checkpoint-", ".ckp") {
            next_file = next_file.max(id.next());
            if state.checkpoints.iter().any(|entry| entry.file == id) {
                continue;
            }
            if unlisted_checkpoint_is_ours(disk, &name, state.store_id)? {
                remove(&name)?;
                report.notes.push(format!("{name} was not listed (cut-off work) and is removed"));
            } else {
                set_aside(disk, &name, report)?;
            }
        } else if let Some(id) = parse_name(&name, "blob-", ".blb") {
            next_file = next_file.max(id.next());
            if state.blobs.contains(&id) {
                continue;
            }
            if blobs::header(disk, &name)?.is_none_or(|header| header.store_id != state.store_id) {
                set_aside(disk, &name, report)?;
            } else {
                leave_or_remove(disk, &name, report)?;
            }
        } else if let Some(id) = parse_name(&name, "settled-", ".set") {
            next_file = next_file.max(id.next());
            if state.settled.iter().any(|entry| entry.file == id) {
                continue;
            }
            let ours = settled_header(disk, &name)?.is_some_and(|header| header.store_id == state.store_id);
            if !ours {
                set_aside(disk, &name, report)?;
            } else {
                leave_or_remove(disk, &name, report)?;
            }
        } else if let Some(piece) = parse_reserve_name(&name) {
            if !reserve::is_ours(disk, &name, state.store_id)? {
                set_aside(disk, &name, report)?;
            } else if bytes == settings.segment_bytes && settings.reserve {
                pieces.insert(piece);
            } else {
                remove(&name)?;
                report.notes.push(format!("{name} was a reserve of another length and is removed"));
            }
        } else if let Some(id) = parse_name(&name, "volatile-", ".vol") {
            next_file = next_file.max(id.next());
            match volatile::is_ours(disk, &name, state.store_id)? {
                true => remove(&name)?,
                false => set_aside(disk, &name, report)?,
            }
        } else if name != MANIFEST_NAME && !name.starts_with("set-aside.") {
            report.notes.push(format!("{name} is not part of the store and is left alone"));
        }
    }
    Ok(Tidied { spares, next_file, reserve: pieces })
}

/// An unlisted file of ours that may hold messages: cut-off work, unless something else is damaged (E12).
fn leave_or_remove(disk: &dyn Disk, name: &str, report: &mut Report) -> Result<()> {
    if report.damaged.is_empty() {
        disk.remove(name).map_err(Error::io("remove", name))?;
        report.notes.push(format!("{name} was not listed (cut-off work) and is removed"));
    } else {
        report.notes.push(format!("{name} is not listed and is left alone, since others are damaged"));
    }
    Ok(())
}

/// What a file says it is at its front; None when it is no settled segment.
fn settled_header(disk: &dyn Disk, name: &str) -> Result<Option<SettledHeader>> {
    let file = disk.open(name).map_err(Error::io("open", name))?;
    let length = file.len().map_err(Error::io("read the length of", name))?;
    if length < settled::HEADER_BYTES as u64 {
        return Ok(None);
    }
    let mut header = vec![0; settled::HEADER_BYTES];
    file.read_at(0, &mut header).map_err(Error::io("read", name))?;
    match SettledHeader::decode(&header) {
        Err(NoFrame::Newer(found)) => {
            Err(Error::NewerFormat { file: name.into(), found, known: settled::SETTLED_VERSION })
        }
        header => Ok(header.ok()),
    }
}

/// A checkpoint gets its name only once it is whole: one that does not decode is not cut-off work.
fn unlisted_checkpoint_is_ours(disk: &dyn Disk, name: &str, store_id: u64) -> Result<bool> {
    let file = disk.open(name).map_err(Error::io("open", name))?;
    let length = file.len().map_err(Error::io("read the length of", name))?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_at(0, &mut bytes).map_err(Error::io("read", name))?;
    Ok(checkpoint::decode(name, bytes.into()).is_ok_and(|checkpoint| checkpoint.store_id == store_id))
}

fn set_aside(disk: &dyn Disk, name: &str, report: &mut Report) -> Result<()> {
    let aside = format!("set-aside.{name}");
    disk.rename(name, &aside).map_err(Error::io("rename", name))?;
    report.notes.push(format!("{name} is not known to be this store's and is set aside as {aside}"));
    Ok(())
}
