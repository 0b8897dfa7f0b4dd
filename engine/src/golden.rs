//! Files as this version of the formats writes them, kept in `testdata`: today's code must read them as what they
//! were, and write exactly these bytes. They are made once and never again; a new version of a format gets files of its
//! own beside them.

use bytes::Bytes;

use crate::batch::{Batch, Payload, Put};
use crate::blobs::{BlobHeader, BlobPlace, BlobRef};
use crate::checkpoint;
use crate::codec::Writer;
use crate::format::{BLOCK_BYTES, FrameHeader, SegmentHeader};
use crate::ids::{EditNo, Epoch, FileId, FrameNo, QueueId, SegmentNo, Seq};
use crate::ledger::{Ledger, Queue};
use crate::manifest::{self, CheckpointEntry, Edit, SegmentEnd, SegmentEntry, SettledEntry, State};
use crate::ranges::Places;
use crate::record::{self, Encoded, Record, Stored};
use crate::settled::{Builder, Kept, SettledFile, SettledHeader};
use crate::volatile;

const STORE: u64 = 0x0123_4567_89ab_cdef;

fn golden(name: &str) -> Vec<u8> {
    let path = format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn a_manifest_of_version_1() {
    let bytes = golden("manifest-1");
    let loaded = manifest::parse(bytes.into()).expect("readable");
    assert!(loaded.tail.is_none());
    assert_eq!(loaded.edits, edits().into_iter().zip(4..).map(|(e, n)| (EditNo(n), e)).collect::<Vec<_>>());
    assert_eq!(loaded.last, EditNo(10));
    assert_eq!(loaded.state.segments.len(), 2);
    assert_eq!(loaded.state.checkpoints, [CheckpointEntry { file: FileId(9), cut: FrameNo(25) }]);
    assert_eq!((loaded.state.epoch, loaded.state.clean), (Epoch(3), Epoch(3)));
}

#[test]
fn a_manifest_of_version_2() {
    let bytes = golden("manifest-2");
    let edits = settling_edits();
    let loaded = manifest::parse(bytes.into()).expect("readable");
    assert!(loaded.tail.is_none());
    assert_eq!(loaded.edits, edits.into_iter().zip(4..).map(|(e, n)| (EditNo(n), e)).collect::<Vec<_>>());
    assert_eq!(loaded.state.settled_below, SegmentNo(2));
    let files: Vec<_> = loaded.state.settled.iter().map(|entry| (entry.file.0, entry.bytes)).collect();
    assert_eq!(files, [(6, 999), (12, 2_000)]);
    assert_eq!(loaded.state.next_file, FileId(13));
}

#[test]
fn a_manifest_of_version_3() {
    let bytes = golden("manifest-3");
    let edits = blob_edits();
    assert_eq!(manifest::encode_file(STORE, EditNo(4), &edits), bytes, "today's code writes other bytes");
    let loaded = manifest::parse(bytes.into()).expect("readable");
    assert!(loaded.tail.is_none());
    assert_eq!(loaded.edits, edits.into_iter().zip(4..).map(|(e, n)| (EditNo(n), e)).collect::<Vec<_>>());
    assert_eq!(loaded.state.settled_below, SegmentNo(2));
    assert_eq!((loaded.state.blobs, loaded.state.next_file), (vec![FileId(14), FileId(16)], FileId(17)));
}

#[test]
fn a_blob_file_of_version_1() {
    let bytes = golden("blob-1");
    assert_eq!(blob_bytes(), bytes, "today's code writes other bytes");
    assert_eq!(BlobHeader::decode(&bytes), Ok(blob_header()));
    let disk = tempfile::tempdir().expect("a directory");
    std::fs::write(disk.path().join("blob-0000000014.blb"), &bytes).expect("written");
    let real = crate::RealDisk::open(disk.path()).expect("opens");
    let file = crate::Disk::open(&real, "blob-0000000014.blb").expect("there");
    let mut body = vec![0; 9_000];
    assert_eq!(blob_place().read(file.as_ref(), &mut body), Ok(()));
    assert_eq!(body, large());
}

#[test]
fn a_record_that_names_a_blob_of_version_1() {
    let bytes = golden("blob-put-1");
    let encoded = record::encode_batch(blob_batch());
    assert_eq!(encoded.count, 1);
    assert_eq!(encoded.records, bytes, "today's code writes other bytes");
    let record = Record::Put {
        targets: vec![(QueueId(1), Seq(3)), (QueueId(2), Seq(9))],
        payload: Bytes::from("head"),
        blob: Some(blob_place()),
    };
    assert_eq!(record::decode_group(bytes.into()), Ok(vec![record]));
}

#[test]
fn a_checkpoint_of_version_2() {
    let bytes = golden("checkpoint-2");
    assert_eq!(
        checkpoint::encode(STORE, Epoch(3), &blob_ledger()).concat(),
        bytes,
        "today's code writes other bytes"
    );
    let found = checkpoint::decode("checkpoint-2", bytes.into()).expect("readable");
    assert_eq!(found.ledger.queues, blob_ledger().queues);
    assert_eq!(found.ledger.blobs, blob_ledger().blobs);
    assert!(found.ledger.blobs.lives(blob_place()));
}

#[test]
fn a_settled_segment_of_version_1() {
    let bytes = golden("settled-1");
    assert_eq!(settled_bytes().0, bytes, "today's code writes other bytes");
    let disk = tempfile::tempdir().expect("a directory");
    std::fs::write(disk.path().join("settled-0000000006.set"), &bytes).expect("written");
    let real = crate::RealDisk::open(disk.path()).expect("opens");
    let (file, extents) = SettledFile::open(&real, STORE, settled_bytes().1).expect("readable");
    let told: Vec<_> = extents.iter().map(|e| (e.queue.0, e.first.0, e.last.0, e.records, e.marks)).collect();
    assert_eq!(told, [(1, 3, 3, 1, 1), (2, 9, 407, 200, 2), (2, 500, 500, 1, 1)]);
    let window = file.window(&extents[1], Seq(400), 1 << 20).expect("readable");
    let body = |seq: u64| (Seq(seq), Kept { payload: Bytes::from(format!("message {seq}")), blob: None });
    assert_eq!(window.records, [401, 403, 405, 407].map(body));
}

#[test]
fn a_volatile_segment_of_version_1() {
    let bytes = golden("volatile-1");
    let mut written = Writer(volatile::encode_header(STORE, Epoch(3)));
    let targets = [(QueueId(1), Seq(3)), (QueueId(2), Seq(9))];
    let payload = Payload { head: Bytes::from_static(b"head"), body: Bytes::from_static(b"body") };
    record::encode_message(&targets, None, &mut written, |out| payload.write_to(out));
    assert_eq!(written.0, bytes, "today's code writes other bytes");
    let disk = tempfile::tempdir().expect("a directory");
    std::fs::write(disk.path().join("volatile-0000000006.vol"), &bytes).expect("written");
    let real = crate::RealDisk::open(disk.path()).expect("opens");
    let is_ours = |store| volatile::is_ours(&real, "volatile-0000000006.vol", store).expect("readable");
    assert_eq!((is_ours(STORE), is_ours(STORE + 1)), (true, false));
}

#[test]
fn a_checkpoint_of_version_1() {
    let bytes = golden("checkpoint-1");
    let found = checkpoint::decode("checkpoint-1", bytes.into()).expect("readable");
    assert_eq!((found.store_id, found.epoch, found.ledger.cut), (STORE, Epoch(3), FrameNo(25)));
    assert_eq!((found.ledger.next_queue, &found.ledger.facts), (QueueId(12), &ledger().facts));
    assert_eq!(found.ledger.queues, ledger().queues);
}

#[test]
fn a_segment_of_version_1() {
    let bytes = golden("segment-1");
    assert_eq!(segment_bytes(), bytes, "today's code writes other bytes");
    assert_eq!(SegmentHeader::decode(&bytes), Ok(Some(segment_header())));
    let mut at = BLOCK_BYTES;
    let mut crc = segment_header().prev_crc;
    let mut headers = Vec::new();
    let mut payload = Vec::new();
    let mut groups = Vec::new();
    while at < bytes.len() {
        let header = FrameHeader::decode(&bytes[at..]).expect("a frame");
        assert_eq!(header.prev_crc, crc);
        crc = header.verify(&bytes[at..]).expect("whole");
        payload.extend_from_slice(&bytes[at + 80..at + 80 + header.payload_bytes as usize]);
        if header.closes {
            groups.push(record::decode_group(std::mem::take(&mut payload).into()).expect("records"));
        }
        at += header.frame_bytes();
        headers.push(header);
    }
    let told: Vec<_> = headers.iter().map(|h| (h.number.0, h.group_first.0, h.closes, h.records)).collect();
    // One frame, a group of three frames, an empty one, and one behind numbers that were left out.
    assert_eq!(
        told,
        [
            (20, 20, true, 7),
            (21, 21, false, 1),
            (22, 21, false, 0),
            (23, 21, true, 0),
            (24, 24, true, 0),
            (27, 27, true, 1)
        ]
    );
    assert_eq!(headers.iter().map(|h| h.durable_upto.0).collect::<Vec<_>>(), [19, 20, 20, 20, 23, 24]);
    assert_eq!(groups[0], records());
    let large = Record::Put { targets: vec![(QueueId(2), Seq(10))], payload: large(), blob: None };
    assert_eq!(groups[1], [large]);
    assert!(groups[2].is_empty());
    assert_eq!(groups[3], [Record::QueueDeleted { queue: QueueId(2) }]);
}

#[test]
fn a_piece_of_the_reserve_of_version_1() {
    let bytes = golden("reserve-1");
    assert_eq!(crate::reserve::header(STORE), bytes, "today's code writes other bytes");
}

/// Makes what is missing: run once, by hand, when a format gets a new version.
#[test]
#[ignore = "writes into testdata"]
fn write_what_is_missing() {
    let dir = format!("{}/testdata", env!("CARGO_MANIFEST_DIR"));
    let files = [
        ("manifest-3", manifest::encode_file(STORE, EditNo(4), &blob_edits())),
        ("blob-1", blob_bytes()),
        ("blob-put-1", record::encode_batch(blob_batch()).records),
        ("settled-1", settled_bytes().0),
        ("checkpoint-2", checkpoint::encode(STORE, Epoch(3), &blob_ledger()).concat()),
        ("segment-1", segment_bytes()),
        ("reserve-1", crate::reserve::header(STORE)),
    ];
    for (name, bytes) in files {
        let path = format!("{dir}/{name}");
        if !std::path::Path::new(&path).exists() {
            std::fs::write(&path, bytes).unwrap_or_else(|e| panic!("{path}: {e}"));
        }
    }
}

fn edits() -> Vec<Edit> {
    let entry = |no, first_frame, end| SegmentEntry {
        no: SegmentNo(no),
        file: FileId(no + 3),
        first_frame: FrameNo(first_frame),
        prev_crc: 0xdead_beef,
        end,
    };
    let end = SegmentEnd { last_frame: FrameNo(19), bytes: 65_536 };
    let state = State {
        store_id: STORE,
        epoch: Epoch(3),
        clean: Epoch(2),
        recovered_upto: FrameNo(11),
        next_segment: SegmentNo(3),
        next_file: FileId(8),
        segments: vec![
            entry(1, 1, Some(SegmentEnd { last_frame: FrameNo(9), bytes: 40_960 })),
            entry(2, 12, None),
        ],
        checkpoints: vec![CheckpointEntry { file: FileId(7), cut: FrameNo(8) }],
        ..State::default()
    };
    vec![
        Edit::State(Box::new(state)),
        Edit::SegmentEnded { no: SegmentNo(2), end },
        Edit::SegmentAdded(entry(3, 20, None)),
        Edit::CheckpointAdded(CheckpointEntry { file: FileId(9), cut: FrameNo(25) }),
        Edit::CheckpointRemoved { file: FileId(7) },
        Edit::SegmentRemoved { no: SegmentNo(1) },
        Edit::CleanClose { epoch: Epoch(3) },
    ]
}

fn settling_edits() -> Vec<Edit> {
    let entry = |file, bytes| SettledEntry { file: FileId(file), bytes, footer_crc: 0xcafe_f00d };
    let mut edits = edits();
    if let Edit::State(state) = &mut edits[0] {
        state.settled_below = SegmentNo(1);
        state.settled = vec![entry(5, 1_000), entry(6, 999)];
    }
    edits.truncate(1);
    let (below, added, removed) = (SegmentNo(2), vec![entry(12, 2_000)], vec![FileId(5)]);
    edits.push(Edit::Settled { below, added, removed });
    edits
}

fn blob_edits() -> Vec<Edit> {
    let mut edits = settling_edits();
    if let Edit::State(state) = &mut edits[0] {
        state.blobs = vec![FileId(13), FileId(14)];
    }
    edits.push(Edit::Blobs { added: vec![FileId(16)], removed: vec![FileId(13)] });
    edits
}

fn blob_header() -> BlobHeader {
    BlobHeader { store_id: STORE, epoch: Epoch(3), file: FileId(14), edit: EditNo(6) }
}

fn blob_place() -> BlobPlace {
    BlobPlace { file: FileId(14), offset: 4_096, bytes: 9_000, crc: crc32fast::hash(&large()) }
}

fn blob_bytes() -> Vec<u8> {
    let mut bytes = blob_header().encode();
    bytes.extend_from_slice(&blob_place().encode_header());
    bytes.extend_from_slice(&large());
    bytes
}

fn blob_batch() -> Batch {
    let payload = Payload { head: Bytes::from("head"), body: Bytes::new() };
    let targets = vec![(QueueId(1), Seq(3)), (QueueId(2), Seq(9))];
    Batch { puts: vec![Put { targets, payload, blob: Some(BlobRef::to(blob_place())) }], ..Batch::default() }
}

fn blob_ledger() -> Ledger {
    let mut ledger = ledger();
    for seq in [11, 41, 69] {
        ledger.name_blob(QueueId(2), Seq(seq), blob_place());
    }
    ledger
}

fn settled_bytes() -> (Vec<u8>, SettledEntry) {
    let header = SettledHeader { store_id: STORE, epoch: Epoch(3), file: FileId(6), below: SegmentNo(2) };
    let mut out = Writer::default();
    let mut builder = Builder::new(header, &mut out);
    builder.push(QueueId(1), Seq(3), Stored::whole(b"hello"), &mut out);
    // Every other place lives.
    for seq in (9..=408).step_by(2) {
        builder.push(QueueId(2), Seq(seq), Stored::whole(format!("message {seq}").as_bytes()), &mut out);
    }
    builder.close_extent();
    builder.push(QueueId(2), Seq(500), Stored::whole(&[]), &mut out);
    let (entry, _) = builder.finish(&mut out);
    (out.0, entry)
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::new();
    (ledger.cut, ledger.next_queue) = (FrameNo(25), QueueId(12));
    ledger.facts.insert(Box::from(*b"exchange/logs"), Box::from(*b"fanout"));
    ledger.facts.insert(Box::from(*b"nothing"), Box::default());
    let mut dead = Places::default();
    dead.insert(Seq(12), Seq(40));
    dead.insert(Seq(70_000), Seq(70_000));
    dead.insert(Seq(1 << 33), Seq(1 << 33));
    let mut marks = Places::default();
    marks.insert(Seq(41), Seq(42));
    ledger.queues.insert(QueueId(2), Box::new(Queue::restored(Seq(1 << 34), Seq(11), dead, Seq(11), marks)));
    ledger.queues.insert(QueueId(11), Box::default());
    ledger
}

fn segment_header() -> SegmentHeader {
    SegmentHeader {
        store_id: STORE,
        epoch: Epoch(3),
        segment: SegmentNo(3),
        file: FileId(6),
        first_frame: FrameNo(20),
        prev_crc: 0xdead_beef,
        blocks: 16,
        edit: EditNo(6),
    }
}

fn records() -> Vec<Record> {
    vec![
        Record::QueueCreated { queue: QueueId(2) },
        Record::Ack { queue: QueueId(2), first: Seq(5), last: Seq(8) },
        Record::Put {
            targets: vec![(QueueId(1), Seq(3)), (QueueId(2), Seq(9))],
            payload: Bytes::from("hello"),
            blob: None,
        },
        Record::Ack { queue: QueueId(1), first: Seq(1), last: Seq(2) },
        Record::Fact { key: Bytes::from("key"), value: Bytes::from("value") },
        Record::Unfact { key: Bytes::from("old key") },
        Record::QueueDeleted { queue: QueueId(7) },
    ]
}

fn first_batch() -> Batch {
    let payload = Payload { head: Bytes::from("hel"), body: Bytes::from("lo") };
    Batch {
        messages: crate::batch::Messages::default(),
        queues_created: vec![QueueId(2)],
        holes: vec![(QueueId(2), Seq(5), Seq(8))],
        puts: vec![Put { targets: vec![(QueueId(1), Seq(3)), (QueueId(2), Seq(9))], payload, blob: None }],
        acks: vec![(QueueId(1), Seq(1), Seq(2))],
        facts: vec![(Bytes::from("key"), Some(Bytes::from("value"))), (Bytes::from("old key"), None)],
        queues_deleted: vec![QueueId(7)],
    }
}

fn large() -> Bytes {
    (0..9_000_u32).map(|i| (i % 251) as u8).collect::<Vec<_>>().into()
}

fn segment_bytes() -> Vec<u8> {
    let large = Put {
        targets: vec![(QueueId(2), Seq(10))],
        payload: Payload { head: Bytes::new(), body: large() },
        blob: None,
    };
    let groups = [
        (20, 19, first_batch()),
        (21, 20, Batch { puts: vec![large], ..Batch::default() }),
        (24, 23, Batch::default()),
        (27, 24, Batch { queues_deleted: vec![QueueId(2)], ..Batch::default() }),
    ];
    let mut bytes = segment_header().encode();
    let mut prev_crc = segment_header().prev_crc;
    for (first, durable_upto, batch) in groups {
        let Encoded { records: payload, count, .. } = record::encode_batch(batch);
        let parts: Vec<&[u8]> =
            if payload.is_empty() { vec![&[]] } else { payload.chunks(4096 - 84).collect() };
        for (index, part) in parts.iter().enumerate() {
            let header = FrameHeader {
                store_id: STORE,
                epoch: Epoch(3),
                number: FrameNo(first + index as u64),
                prev_crc,
                payload_bytes: part.len() as u32,
                records: if index == 0 { count } else { 0 },
                group_first: FrameNo(first),
                closes: index + 1 == parts.len(),
                durable_upto: FrameNo(durable_upto),
                edit: EditNo(6),
            };
            let (frame, crc) = header.encode(part);
            bytes.extend_from_slice(&frame);
            prev_crc = crc;
        }
    }
    bytes
}
