//! Manifests that are not what was written.

use proptest::prelude::*;

use super::*;
use crate::ids::{Epoch, FileId, FrameNo, SegmentNo};

fn sample() -> (Vec<u8>, Vec<(EditNo, Edit)>) {
    let entry = |no| SegmentEntry {
        no: SegmentNo(no),
        file: FileId(no + 10),
        first_frame: FrameNo(no * 100),
        prev_crc: 0xabcd,
        end: None,
    };
    let state = State {
        store_id: 9,
        epoch: Epoch(2),
        clean: Epoch(1),
        recovered_upto: FrameNo(7),
        next_segment: SegmentNo(1),
        next_file: FileId(11),
        ..State::default()
    };
    let end = SegmentEnd { last_frame: FrameNo(150), bytes: 8192 };
    let edits = vec![
        Edit::State(Box::new(state)),
        Edit::SegmentAdded(entry(1)),
        Edit::SegmentEnded { no: SegmentNo(1), end },
        Edit::SegmentAdded(entry(2)),
        Edit::CheckpointAdded(CheckpointEntry { file: FileId(20), cut: FrameNo(140) }),
        Edit::SegmentRemoved { no: SegmentNo(1) },
        Edit::CheckpointRemoved { file: FileId(20) },
        Edit::CleanClose { epoch: Epoch(2) },
    ];
    let mut bytes = header(EditNo(5), MANIFEST_VERSION);
    let (mut number, mut crc) = (EditNo(4), 0);
    let mut numbered = Vec::new();
    for edit in edits {
        number = number.next();
        crc = encode_edit(number, crc, &edit, &mut bytes);
        numbered.push((number, edit));
    }
    (bytes, numbered)
}

fn header(first: EditNo, version: u16) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    LittleEndian::write_u16(&mut bytes[8..], version);
    LittleEndian::write_u64(&mut bytes[16..], 9);
    LittleEndian::write_u64(&mut bytes[24..], first.0);
    let crc = crc32fast::hash(&bytes);
    LittleEndian::write_u32(&mut bytes[12..], crc);
    bytes
}

#[test]
fn every_edit_comes_back() {
    let (bytes, edits) = sample();
    let loaded = parse(bytes.into()).expect("sound");
    assert_eq!(loaded.edits, edits);
    assert!(loaded.tail.is_none() && loaded.last == EditNo(12));
    assert_eq!(loaded.state.segments.len(), 1);
    assert!(loaded.state.checkpoints.is_empty() && loaded.state.clean == Epoch(2));
}

#[test]
fn every_flipped_byte_and_every_cut_is_told() {
    let (bytes, edits) = sample();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x41;
        match parse(bad.into()) {
            Ok(loaded) => {
                let tail = loaded.tail.unwrap_or_else(|| panic!("byte {at} went unseen"));
                assert!(tail.offset as usize <= at, "byte {at}: {tail:?}");
                assert_eq!(loaded.edits[..], edits[..loaded.edits.len()]);
            }
            Err(Error::Damage { file, .. }) => assert_eq!(file, MANIFEST_NAME),
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    let ends: Vec<usize> = {
        let mut ends = vec![];
        let mut at = HEADER_BYTES;
        while at < bytes.len() {
            at += EDIT_HEADER_BYTES + LittleEndian::read_u32(&bytes[at..]) as usize;
            ends.push(at);
        }
        ends
    };
    for length in 0..bytes.len() {
        match parse(Bytes::copy_from_slice(&bytes[..length])) {
            // At the end of an edit only the log can tell what is missing (E5).
            Ok(loaded) => assert!(loaded.tail.is_some() || ends.contains(&length), "cut at {length}"),
            Err(Error::Damage { .. }) => assert!(length < ends[0], "cut at {length}"),
            Err(error) => panic!("cut at {length}: {error}"),
        }
    }
}

#[test]
fn edits_out_of_order_end_the_file() {
    let (bytes, _) = sample();
    let first = HEADER_BYTES + EDIT_HEADER_BYTES + LittleEndian::read_u32(&bytes[HEADER_BYTES..]) as usize;
    let second = first + EDIT_HEADER_BYTES + LittleEndian::read_u32(&bytes[first..]) as usize;
    let mut swapped = bytes[..first].to_vec();
    swapped.extend_from_slice(&bytes[second..]);
    let loaded = parse(swapped.into()).expect("its first edit is sound");
    assert!(loaded.tail.is_some_and(|tail| tail.why.contains("does not follow")));
}

#[test]
fn an_edit_that_does_not_fit_is_damage() {
    let (_, edits) = sample();
    let mut bytes = header(EditNo(5), MANIFEST_VERSION);
    let crc = encode_edit(EditNo(5), 0, &edits[0].1, &mut bytes);
    encode_edit(EditNo(6), crc, &Edit::SegmentRemoved { no: SegmentNo(3) }, &mut bytes);
    assert!(matches!(parse(bytes.into()), Err(Error::Damage { what, .. }) if what.contains("segment 3")));
}

#[test]
fn a_newer_version_is_told_as_such() {
    let bytes = header(EditNo(1), MANIFEST_VERSION + 1);
    let error = parse(bytes.into()).expect_err("newer");
    assert!(matches!(error, Error::NewerFormat { found: 4, known: 3, .. }), "{error}");
}

/// Guards against edits in a file of which nothing is known, taken for durable because a second sync said nothing.
#[cfg(feature = "sim")]
#[test]
fn after_a_failed_sync_or_rewrite_nothing_is_written_or_synced_any_more() {
    use std::io::ErrorKind;

    use crate::disk::{Fails, SimDisk};

    for (call, name) in [("sync", "MANIFEST"), ("sync_dir", "")] {
        let sim = SimDisk::default();
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let state = State { store_id: 9, epoch: Epoch(1), ..State::default() };
        let manifest = Manifest::write(&disk, state, EditNo(0)).expect("written");
        let clean = [Edit::CleanClose { epoch: Epoch(1) }];
        let appended = manifest.append(&clean).expect("appended");
        sim.fail(call, name, Fails::With(ErrorKind::Other), 1);
        let failed = if call == "sync" { manifest.sync() } else { manifest.rewrite() };
        let why = failed.expect_err("it was to fail").to_string();
        assert_eq!(sim.mend(), 0);
        // Also for those who come later, although the disk says nothing more.
        for refused in [manifest.sync(), manifest.append(&clean).map(drop), manifest.rewrite()] {
            let error = refused.expect_err("nothing is known of the file");
            assert!(error.to_string().contains(&why) && !error.is_full(), "{error}");
        }
        assert!(manifest.durable() < appended);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(Bytes::from(bytes.clone()));
        // Behind a sound header, and as an edit whose checksum holds.
        let mut file = header(EditNo(1), MANIFEST_VERSION);
        file.extend_from_slice(&bytes);
        let _ = parse(file.into());
        let mut file = header(EditNo(1), MANIFEST_VERSION);
        let mut body = 1_u64.to_le_bytes().to_vec();
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(&bytes);
        file.extend_from_slice(&(body.len() as u32).to_le_bytes());
        file.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        file.extend_from_slice(&body);
        let _ = parse(file.into());
        let _ = Edit::decode(&mut Reader::new(bytes.into()));
    }
}
