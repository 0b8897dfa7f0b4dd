//! Blob files at an open: which are there, and which of the bodies that live stand in them. One that is missing or
//! damaged does not stop the open (E12): what else there is is served, and what is lost with it is told.

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use crate::blobs::{BlobFile, BlobFiles, BlobHeader, BlobPlace, blob_name, open_listed, read_header};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::parse_name;
use crate::ids::QueueId;
use crate::ledger::Ledger;
use crate::manifest::State;

/// Opens what the manifest lists. Bodies themselves are verified when they are read.
pub(super) fn read(
    disk: &dyn Disk,
    state: &State,
    ledger: &Ledger,
    report: &mut Report,
) -> Result<BlobFiles> {
    let mut files = BTreeMap::new();
    for id in &state.blobs {
        let opened = open_listed(disk, state.store_id, *id)?;
        let live: Vec<BlobPlace> = ledger.blobs.of_file(*id).collect();
        if let Err(why) = &opened
            && !live.is_empty()
        {
            report.damaged.push(format!("{} is damaged at offset 0: {why}", blob_name(*id)));
        }
        files.insert(*id, BlobFile::found(opened, live.into_iter()));
    }
    let mut missing = BTreeSet::new();
    let mut lost: BTreeMap<QueueId, u64> = report.lost.iter().copied().collect();
    for (id, queue) in &ledger.queues {
        for place in queue.blobs.values() {
            let file = files.get(&place.file);
            let there = file.is_some_and(|file| file.file.is_some());
            if file.is_none() {
                missing.insert(place.file);
            } else if file.is_some_and(|file| there && place.bytes_end() > file.end) {
                let name = blob_name(place.file);
                report.damaged.push(format!("{name} ends before the body at offset {}", place.offset));
            } else if there {
                continue;
            }
            *lost.entry(*id).or_default() += 1;
        }
    }
    for file in missing {
        let name = blob_name(file);
        report.damaged.push(format!("{name} is not listed, but messages name bodies in it"));
    }
    report.damaged.dedup();
    report.lost = lost.into_iter().collect();
    Ok(BlobFiles::found(files))
}

/// What a file of that name says it is; None when it is no blob file.
pub(super) fn header(disk: &dyn Disk, name: &str) -> Result<Option<BlobHeader>> {
    if parse_name(name, "blob-", ".blb").is_none() {
        return Ok(None);
    }
    let file = disk.open(name).map_err(Error::io("open", name))?;
    let length = file.len().map_err(Error::io("read the length of", name))?;
    Ok(read_header(file.as_ref(), name, length)?.ok())
}
