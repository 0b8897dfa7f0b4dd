//! What fuzzing feeds to the formats on the disk: one entry point for each. They panic where something that must hold does
//! not: nothing that stands in a file brings the reader down, what is refused is refused by the file's name, and what is
//! accepted is written back as something that reads the same. `fuzz/` calls them with new inputs, tests with those that
//! were kept and with inputs like them.
//!
//! Each input is read twice, with checksums compared and without: chance finds no checksum, and what stands behind one must be
//! bounded all the same. They say whether it was accepted, with or without.

use bytes::Bytes;

use crate::batch::{Batch, Payload, Put};
use crate::blobs::{BlobHeader, BlobRef, blob_name, open_listed, read_header};
use crate::checkpoint;
use crate::codec::Writer;
use crate::controls::ignore_crcs;
use crate::disk::{Disk, SimDisk};
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, SegmentHeader, segment_name, settled_name, volatile_name};
use crate::group::Gather;
use crate::ids::{FileId, FrameNo};
use crate::manifest::{self, MANIFEST_NAME, SegmentEntry, SettledEntry};
use crate::record::{self, Record, Stored};
use crate::scan::Scan;
use crate::settled::{SettledFile, read_footer};
use crate::volatile;

/// Blocks of a log segment that need not be in the input.
const PADDED_BLOCKS_MAX: u32 = 64;
/// Extents of a settled segment that are read.
const EXTENTS_READ: usize = 50;

/// A log segment: header, frames, groups, records.
pub fn log_segment(data: &[u8]) -> bool {
    twice(|| segment(data))
}

/// The records of a group of frames, or of a settled segment.
pub fn records(data: &[u8]) -> bool {
    twice(|| group(Bytes::copy_from_slice(data)) | one_put(data))
}

/// A settled segment: header, footer, marks, records.
pub fn settled(data: &[u8]) -> bool {
    twice(|| settled_segment(data))
}

/// A blob file.
pub fn blob(data: &[u8]) -> bool {
    twice(|| blob_file(data))
}

/// A volatile segment.
pub fn volatile(data: &[u8]) -> bool {
    let name = volatile_name(FileId(1));
    let disk = SimDisk::default();
    disk.put(&name, data.to_vec());
    twice(|| {
        let ours = volatile::is_ours(&disk, &name, 1).expect("any file can be read");
        let records = data.get(32..).unwrap_or_default();
        let (messages, _) = record::decode_messages(Bytes::copy_from_slice(records));
        ours || !messages.is_empty()
    })
}

/// A manifest.
pub fn manifest(data: &[u8]) -> bool {
    twice(|| {
        let Some(loaded) = named(MANIFEST_NAME, manifest::parse(Bytes::copy_from_slice(data))) else {
            return false;
        };
        let edits: Vec<_> = loaded.edits.iter().map(|(_, edit)| edit.clone()).collect();
        let first = loaded.edits[0].0;
        let back = manifest::encode_file(loaded.state.store_id, first, &edits);
        let again = manifest::parse(back.into()).expect("what was written can be read");
        assert!(again.tail.is_none(), "all of it");
        assert_eq!((again.state, again.edits), (loaded.state, loaded.edits), "a manifest that changes");
        true
    })
}

/// A checkpoint.
pub fn checkpoint(data: &[u8]) -> bool {
    let name = "checkpoint-0000000001.ckp";
    twice(|| {
        let Some(found) = named(name, checkpoint::decode(name, Bytes::copy_from_slice(data))) else {
            return false;
        };
        let back = checkpoint::encode(found.store_id, found.epoch, &found.ledger).concat();
        let again = checkpoint::decode(name, back.into()).expect("what was written can be read");
        assert_eq!((again.store_id, again.epoch), (found.store_id, found.epoch));
        let (again, found) = (again.ledger, found.ledger);
        assert_eq!((again.cut, again.next_queue), (found.cut, found.next_queue));
        assert_eq!((again.facts, again.queues), (found.facts, found.queues), "a checkpoint that changes");
        assert_eq!(again.blobs, found.blobs);
        true
    })
}

fn twice(read: impl Fn() -> bool) -> bool {
    ignore_crcs(false);
    let strictly = read();
    ignore_crcs(true);
    let loosely = read();
    ignore_crcs(false);
    strictly | loosely
}

/// What is refused names its file.
fn named<T>(name: &str, result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::Damage { file, .. } | Error::NewerFormat { file, .. }) => {
            assert_eq!(file, name, "another file is blamed");
            None
        }
        Err(error) => panic!("any bytes can be read, but: {error}"),
    }
}

fn segment(data: &[u8]) -> bool {
    let Ok(Some(header)) = SegmentHeader::decode(data) else { return false };
    assert_eq!(SegmentHeader::decode(&header.encode()), Ok(Some(header)), "a header that changes");
    let name = segment_name(header.file);
    let disk = SimDisk::default();
    let mut bytes = data.to_vec();
    // A segment is as long as it was made; what follows the frames is zeros.
    bytes.resize(bytes.len().max((header.blocks.min(PADDED_BLOCKS_MAX) as usize) * BLOCK_BYTES), 0);
    disk.put(&name, bytes);
    let (no, file) = (header.segment, header.file);
    let (first_frame, prev_crc) = (header.first_frame, header.prev_crc);
    let entry = SegmentEntry { no, file, first_frame, prev_crc, end: None };
    let Some(mut scan) = named(&name, Scan::open(&disk, header.store_id, entry)) else { return false };
    let (mut gather, mut end) = (Gather::default(), scan.offset);
    while let Some(Some((offset, frame))) = named(&name, scan.next_frame()) {
        assert_eq!(offset, end, "frames follow each other");
        end += frame.bytes;
        if let Some(payload) = gather.push(&frame) {
            group(payload);
        }
    }
    drop(scan.cut());
    named(&name, scan.judge(FrameNo(1)));
    true
}

fn group(payload: Bytes) -> bool {
    let walked = record::walk_group(&payload, |_| ());
    let Ok(records) = record::decode_group(payload) else { return false };
    assert_eq!(walked, Ok(()), "what is whole can be walked over");
    for record in &records {
        let back = record::encode_batch(batch(record)).records;
        assert_eq!(record::decode_group(back.into()).as_deref(), Ok(std::slice::from_ref(record)));
    }
    !records.is_empty()
}

/// A batch of that record alone.
fn batch(record: &Record) -> Batch {
    let mut batch = Batch::default();
    match record.clone() {
        Record::Put { targets, payload, blob } => {
            let payload = Payload { head: payload, body: Bytes::new() };
            batch.puts.push(Put { targets, payload, blob: blob.map(BlobRef::to) });
        }
        Record::Ack { queue, first, last } => batch.acks.push((queue, first, last)),
        Record::Fact { key, value } => batch.facts.push((key, Some(value))),
        Record::Unfact { key } => batch.facts.push((key, None)),
        Record::QueueCreated { queue } => batch.queues_created.push(queue),
        Record::QueueDeleted { queue } => batch.queues_deleted.push(queue),
    }
    batch
}

fn one_put(data: &[u8]) -> bool {
    let Ok(Ok(put)) = record::parse_put(data) else { return false };
    let mut back = Writer::default();
    record::encode_put(put.queue, put.seq, Stored { ..put.stored }, &mut back);
    assert_eq!(back.0.len(), put.bytes, "as long as it was");
    assert_eq!(record::parse_put(&back.0), Ok(Ok(put)), "a message that changes");
    true
}

fn settled_segment(data: &[u8]) -> bool {
    let name = settled_name(FileId(6));
    let disk = SimDisk::default();
    disk.put(&name, data.to_vec());
    let (file, bytes) = (disk.open(&name).expect("there"), data.len() as u64);
    let Some((header, _, footer_crc)) = named(&name, read_footer(file.as_ref(), &name, bytes)) else {
        return false;
    };
    let name = settled_name(header.file);
    disk.put(&name, data.to_vec());
    let entry = SettledEntry { file: header.file, bytes, footer_crc };
    let opened = named(&name, SettledFile::open(&disk, header.store_id, entry));
    let Some((settled, extents)) = opened else { return false };
    for extent in extents.iter().take(EXTENTS_READ) {
        let mut from = extent.first;
        for _ in 0..4 {
            let Ok(window) = settled.window(extent, from, 4_096) else { break };
            let within = |seq| seq >= extent.first && seq <= extent.last;
            assert!(window.records.iter().all(|(seq, _)| within(*seq)), "of its own extent");
            let Some(upto) = window.upto.filter(|upto| *upto > from) else { break };
            from = upto;
        }
    }
    true
}

fn blob_file(data: &[u8]) -> bool {
    let name = blob_name(FileId(14));
    let disk = SimDisk::default();
    disk.put(&name, data.to_vec());
    let file = disk.open(&name).expect("there");
    let read = named(&name, read_header(file.as_ref(), &name, data.len() as u64));
    let Some(Ok(header)) = read else { return false };
    assert_eq!(BlobHeader::decode(&header.encode()), Ok(header), "a header that changes");
    let opened = named(&name, open_listed(&disk, header.store_id, FileId(14)));
    opened.is_some_and(|opened| opened.is_ok())
}
