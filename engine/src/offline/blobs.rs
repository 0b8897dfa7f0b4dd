//! Blob files as the tools see them: every body that lives verified.

use std::collections::{BTreeMap, BTreeSet};

use super::salvage::Salvage;
use super::survey::{Survey, list};
use super::{Finding, FindingKind, Progress};
use crate::blobs::{BlobPlace, Opened, blob_name, open_listed, read_header};
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};
use crate::format::parse_name;
use crate::ids::{FileId, QueueId, Seq};

/// Takes what blob files a store of that identity has, where no manifest tells. What nothing names is free after the
/// next open.
pub(super) fn found(survey: &mut Survey, disk: &dyn Disk, store_id: u64) -> Result<()> {
    for (name, length) in list(disk)? {
        let Some(id) = parse_name(&name, "blob-", ".blb") else { continue };
        let file = disk.open(&name).map_err(Error::io("open", &name))?;
        if let Ok(header) = read_header(file.as_ref(), &name, length)?
            && header.store_id == store_id
            && header.file == id
        {
            survey.epoch_max = survey.epoch_max.max(header.epoch);
            survey.edit_max = survey.edit_max.max(header.edit);
            survey.state.blobs.push(id);
        }
    }
    survey.state.blobs.sort_unstable();
    Ok(())
}

/// Reads every body that lives. Messages whose body is not sound are lost.
pub(super) fn verify(
    disk: &dyn Disk,
    survey: &mut Survey,
    salvage: &mut Salvage,
    progress: Progress<'_>,
) -> Result<()> {
    let mut named: BTreeMap<BlobPlace, Vec<(QueueId, Seq)>> = BTreeMap::new();
    for (id, queue) in &salvage.ledger.queues {
        for (seq, place) in queue.blobs.iter().filter(|(seq, _)| queue.is_live(**seq)) {
            named.entry(*place).or_default().push((*id, *seq));
        }
    }
    let mut lost: BTreeMap<QueueId, u64> = salvage.loss.messages.iter().copied().collect();
    let mut open: Option<(FileId, Opened)> = None;
    let mut unlisted = BTreeSet::new();
    let (mut done, total) = (0, named.keys().map(|place| place.bytes).sum());
    for (place, targets) in named {
        progress(done, total);
        done += place.bytes;
        if open.as_ref().is_none_or(|(id, _)| *id != place.file) {
            open = Some((place.file, open_listed(disk, survey.state.store_id, place.file)?));
        }
        let read = match &open {
            Some((_, Ok((file, length)))) => verify_body(file.as_ref(), *length, place),
            Some((_, Err(why))) => Err(why.clone()),
            None => continue,
        };
        match read {
            Ok(()) => {
                salvage.blobs += 1;
                if !survey.state.blobs.contains(&place.file) {
                    unlisted.insert(place.file);
                }
            }
            Err(why) => {
                let what = format!("{} messages are lost with a body: {why}", targets.len());
                let name = blob_name(place.file);
                if matches!(&open, Some((_, Ok(_)))) {
                    survey.bad_bodies.push(place);
                }
                survey.findings.push(Finding::new(FindingKind::Damage, name, place.offset, what));
                for (queue, seq) in targets {
                    *lost.entry(queue).or_default() += 1;
                    salvage.ledger.ack(queue, seq, seq);
                }
            }
        }
    }
    if total > 0 {
        progress(total, total);
    }
    salvage.loss.messages = lost.into_iter().collect();
    // It was let go of when the last message that named it was acked, and with the log that said so lost, messages of it
    // live again. Its file is still there: a repair lists it.
    for id in unlisted {
        let what = "messages live whose bodies it holds, but the manifest does not list it".to_owned();
        survey.findings.push(Finding::new(FindingKind::Damage, blob_name(id), 0, what));
        survey.state.blobs.push(id);
    }
    survey.state.blobs.sort_unstable();
    // A listed file that is not there, or not one, is listed no more by a repair, which sets aside what is not listed; what
    // it held is told above.
    for id in std::mem::take(&mut survey.state.blobs) {
        if open_listed(disk, survey.state.store_id, id)?.is_ok() {
            survey.state.blobs.push(id);
        }
    }
    Ok(())
}

fn verify_body(file: &dyn DiskFile, length: u64, place: BlobPlace) -> Result<(), String> {
    if place.bytes_end() > length {
        return Err("its file ends before it does".into());
    }
    let mut body = vec![0; usize::try_from(place.bytes).unwrap_or(usize::MAX)];
    place.read(file, &mut body)
}
