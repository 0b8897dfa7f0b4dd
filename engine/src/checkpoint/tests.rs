//! Checkpoints that are not what was written.

use proptest::prelude::*;

use super::*;

fn sample() -> Ledger {
    let mut ledger = Ledger::new();
    ledger.cut = FrameNo(42);
    ledger.next_queue = QueueId(9);
    ledger.facts.insert(Box::from(*b"key"), Box::from(*b"value"));
    ledger.facts.insert(Box::from(*b"empty"), Box::default());
    let mut dead = Places::default();
    dead.insert(Seq(20), Seq(29));
    dead.insert(Seq(40), Seq(40));
    let mut marks = Places::default();
    marks.insert(Seq(50), Seq(51));
    ledger.queues.insert(QueueId(3), Box::new(Queue::restored(Seq(100), Seq(10), dead, Seq(15), marks)));
    ledger.queues.insert(QueueId(8), Box::default());
    ledger
}

#[test]
fn a_ledger_comes_back() {
    let ledger = sample();
    let bytes = encode(7, Epoch(3), &ledger).concat();
    let found = decode("c", bytes.into()).expect("sound");
    assert_eq!((found.store_id, found.epoch), (7, Epoch(3)));
    assert_eq!((found.ledger.cut, found.ledger.next_queue), (FrameNo(42), QueueId(9)));
    assert_eq!(found.ledger.facts, ledger.facts);
    assert_eq!(found.ledger.queues, ledger.queues);
    assert_eq!(found.ledger.queues[&QueueId(3)].live(), 90 - 11);
}

/// The header's own fields too: a checkpoint whose version was flipped is damaged, not newer.
#[test]
fn every_flipped_byte_and_every_cut_is_damage() {
    let bytes = encode(7, Epoch(3), &sample()).concat();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x21;
        assert!(matches!(decode("c", bad.into()), Err(Error::Damage { .. })), "byte {at}");
        let cut = Bytes::copy_from_slice(&bytes[..at]);
        assert!(matches!(decode("c", cut), Err(Error::Damage { .. })), "cut at {at}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(matches!(decode("c", longer.into()), Err(Error::Damage { .. })));
}

#[test]
fn a_newer_version_is_told_as_such() {
    let mut bytes = encode(7, Epoch(3), &sample()).concat();
    LittleEndian::write_u16(&mut bytes[8..], CHECKPOINT_VERSION + 1);
    let crc = checksum(&bytes);
    LittleEndian::write_u32(&mut bytes[12..], crc);
    assert!(matches!(decode("c", bytes.into()), Err(Error::NewerFormat { found: 3, .. })));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode("c", Bytes::from(bytes.clone()));
        let _ = Places::decode(&bytes);
        // As a body whose checksum holds.
        let mut file = MAGIC.to_vec();
        file.extend_from_slice(&CHECKPOINT_VERSION.to_le_bytes());
        file.extend_from_slice(&[0; 6]);
        file.extend_from_slice(&bytes);
        let crc = checksum(&file);
        LittleEndian::write_u32(&mut file[12..], crc);
        let _ = decode("c", file.into());
    }

    /// Counts and lengths inside a sound file that say anything.
    #[test]
    fn a_changed_field_under_a_sound_checksum_makes_no_panic(at in 16_usize..200, value in any::<u32>()) {
        let mut file = encode(7, Epoch(3), &sample()).concat();
        let at = at.min(file.len() - 4);
        file[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let crc = checksum(&file);
        LittleEndian::write_u32(&mut file[12..], crc);
        let _ = decode("c", file.into());
    }
}

#[test]
fn a_large_checkpoint_is_one_file_in_parts() {
    let mut ledger = sample();
    for key in 0..30_000u32 {
        ledger.facts.insert(Box::from(key.to_be_bytes()), vec![7; 100].into());
    }
    let mut encoded = encode(7, Epoch(3), &ledger);
    let (whole, count) = (encoded.concat(), encoded.parts().count());
    assert!(count > 3 && encoded.bytes() == whole.len() as u64, "{count} parts");
    assert!(
        encoded.parts().all(|part| part.len() <= PART_BYTES + PART_SPARE),
        "nothing is copied while one grows"
    );
    let mut verify = Verify::default();
    while let Some(part) = encoded.first() {
        verify.take(part);
        encoded.drop_first();
    }
    assert!(verify.matches());
    let found = decode("checkpoint-0000000001.ckp", whole.into()).expect("whole");
    assert_eq!(found.ledger.facts, ledger.facts);
    assert_eq!(found.ledger.queues, ledger.queues);
}

/// Guards against a write of many megabytes, behind which the log's sync waits.
#[test]
fn a_long_part_is_written_in_pieces() {
    let mut ledger = sample();
    ledger.facts.insert(Box::from(*b"long"), vec![7; 5 * PART_BYTES].into());
    let mut encoded = encode(7, Epoch(3), &ledger);
    let (whole, mut written) = (encoded.concat(), Vec::new());
    while let Some(piece) = encoded.first() {
        assert!(!piece.is_empty() && piece.len() <= PART_BYTES + PART_SPARE);
        written.extend_from_slice(piece);
        encoded.drop_first();
        assert_eq!(encoded.concat(), whole[written.len()..]);
    }
    assert_eq!((written, encoded.bytes()), (whole.clone(), whole.len() as u64));
}
