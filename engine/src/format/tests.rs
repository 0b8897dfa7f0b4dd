//! Segment headers and frames that are not what was written.

use proptest::prelude::*;

use super::*;

fn header() -> SegmentHeader {
    SegmentHeader {
        store_id: 7,
        epoch: Epoch(2),
        segment: SegmentNo(3),
        file: FileId(4),
        first_frame: FrameNo(50),
        prev_crc: 0x1234_5678,
        blocks: 16,
        edit: EditNo(9),
    }
}

fn frame(payload: &[u8]) -> FrameHeader {
    FrameHeader {
        store_id: 7,
        epoch: Epoch(2),
        number: FrameNo(50),
        prev_crc: 0x1234_5678,
        payload_bytes: payload.len() as u32,
        records: 1,
        group_first: FrameNo(50),
        closes: true,
        durable_upto: FrameNo(49),
        edit: EditNo(9),
    }
}

/// As a reader does: header, then the payload's checksum.
fn read(bytes: &[u8]) -> Result<FrameHeader, NoFrame> {
    let header = FrameHeader::decode(bytes)?;
    header.verify(bytes)?;
    Ok(header)
}

#[test]
fn every_flipped_byte_of_a_segment_header_is_told() {
    let block = header().encode();
    assert_eq!(block.len(), BLOCK_BYTES);
    assert_eq!(SegmentHeader::decode(&block), Ok(Some(header())));
    for at in 0..SEGMENT_HEADER_BYTES {
        let mut bad = block.clone();
        bad[at] ^= 0x10;
        assert!(matches!(SegmentHeader::decode(&bad), Err(NoFrame::Broken(_))), "byte {at}");
        assert!(SegmentHeader::decode(&block[..at]).is_err(), "cut at {at}");
    }
    assert_eq!(SegmentHeader::decode(&[0; BLOCK_BYTES]), Ok(None));
}

#[test]
fn every_flipped_byte_of_a_frame_is_told() {
    let payload = [0x5a; 333];
    let (bytes, _) = frame(&payload).encode(&payload);
    assert_eq!(read(&bytes), Ok(frame(&payload)));
    let end = FRAME_HEADER_BYTES + payload.len() + FRAME_TRAILER_BYTES;
    for at in 0..end {
        let mut bad = bytes.clone();
        bad[at] ^= 0x08;
        assert!(matches!(read(&bad), Err(NoFrame::Broken(_) | NoFrame::Absent)), "byte {at}");
        assert!(read(&bytes[..at]).is_err(), "cut at {at}");
    }
    assert!(bytes[end..].iter().all(|&byte| byte == 0), "padding");
    assert_eq!(read(&[0; BLOCK_BYTES]), Err(NoFrame::Absent));
}

/// The payload's checksum is seeded with the header's: a payload under another frame's header is no frame.
#[test]
fn header_and_payload_belong_together() {
    let payload = [1; 100];
    let (one, _) = frame(&payload).encode(&payload);
    let (mut other, _) = FrameHeader { number: FrameNo(51), ..frame(&payload) }.encode(&payload);
    other[..FRAME_HEADER_BYTES].copy_from_slice(&one[..FRAME_HEADER_BYTES]);
    assert!(matches!(read(&other), Err(NoFrame::Broken(_))));
}

#[test]
fn newer_versions_are_told_as_such() {
    let mut block = header().encode();
    LittleEndian::write_u16(&mut block[8..], FORMAT_VERSION + 1);
    LittleEndian::write_u32(&mut block[12..], 0);
    let crc = crc32fast::hash(&block[..SEGMENT_HEADER_BYTES]);
    LittleEndian::write_u32(&mut block[12..], crc);
    assert_eq!(SegmentHeader::decode(&block), Err(NoFrame::Newer(FORMAT_VERSION + 1)));

    let (mut bytes, _) = frame(&[]).encode(&[]);
    LittleEndian::write_u16(&mut bytes[4..], FORMAT_VERSION + 1);
    let crc = crc32fast::hash(&bytes[..76]);
    LittleEndian::write_u32(&mut bytes[76..], crc);
    assert_eq!(read(&bytes), Err(NoFrame::Newer(FORMAT_VERSION + 1)));
}

#[test]
fn names_are_read_back() {
    assert_eq!(parse_name(&segment_name(FileId(7)), "log-", ".seg"), Some(FileId(7)));
    assert_eq!(parse_name(&checkpoint_name(FileId(u64::MAX)), "checkpoint-", ".ckp"), Some(FileId(u64::MAX)));
    for name in ["log-7.seg", "log-000000000x.seg", "log-0000000007", "log-99999999999999999999999.seg"] {
        assert_eq!(parse_name(name, "log-", ".seg"), None, "{name}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = SegmentHeader::decode(&bytes);
        prop_assert!(read(&bytes).is_err());
        // A header whose checksum holds, with anything in it.
        let mut frame = vec![0; FRAME_HEADER_BYTES];
        for (into, from) in frame.iter_mut().zip(&bytes) {
            *into = *from;
        }
        LittleEndian::write_u32(&mut frame, FRAME_MAGIC);
        LittleEndian::write_u16(&mut frame[4..], FORMAT_VERSION);
        let crc = crc32fast::hash(&frame[..76]);
        LittleEndian::write_u32(&mut frame[76..], crc);
        frame.extend_from_slice(&bytes);
        if let Ok(header) = FrameHeader::decode(&frame) {
            let _ = header.frame_bytes();
            let _ = header.verify(&frame);
        }
    }

    #[test]
    fn frames_come_back(payload in prop::collection::vec(any::<u8>(), 0..9000), number in 1_u64.., closes: bool) {
        let header = FrameHeader {
            number: FrameNo(number), group_first: FrameNo(number), closes, ..frame(&payload)
        };
        let (bytes, _) = header.encode(&payload);
        prop_assert_eq!(bytes.len() % BLOCK_BYTES, 0);
        prop_assert_eq!(bytes.len(), header.frame_bytes());
        prop_assert_eq!(read(&bytes), Ok(header));
    }
}
