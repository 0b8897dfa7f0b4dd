//! Records that are not what was written.

use proptest::prelude::*;

use super::*;
use crate::batch::{Payload, Put};

const PLACE: BlobPlace = BlobPlace { file: FileId(3), offset: 8192, bytes: 1 << 33, crc: 0xfeed_f00d };

fn batch() -> Batch {
    Batch {
        queues_created: vec![QueueId(5)],
        holes: vec![(QueueId(5), Seq(1), Seq(3))],
        messages: Messages::default(),
        puts: vec![
            Put {
                targets: vec![(QueueId(5), Seq(4)), (QueueId(2), Seq(9))],
                payload: Payload { head: Bytes::from("head"), body: Bytes::from("body") },
                blob: None,
            },
            Put {
                targets: vec![(QueueId(2), Seq(10))],
                payload: Payload { head: Bytes::from("head"), body: Bytes::new() },
                blob: Some(BlobRef::to(PLACE)),
            },
        ],
        acks: vec![(QueueId(2), Seq(8), Seq(9))],
        facts: vec![(Bytes::from("k"), Some(Bytes::from("v"))), (Bytes::from("gone"), None)],
        queues_deleted: vec![QueueId(1)],
    }
}

fn encoded() -> Vec<u8> {
    let encoded = encode_batch(batch());
    assert_eq!(encoded.count, 8);
    encoded.records
}

#[test]
fn a_batch_comes_back_in_the_order_in_which_it_takes_effect() {
    let records = decode_group(encoded().into()).expect("sound");
    let expected = [
        Record::QueueCreated { queue: QueueId(5) },
        Record::Ack { queue: QueueId(5), first: Seq(1), last: Seq(3) },
        Record::Put {
            targets: vec![(QueueId(5), Seq(4)), (QueueId(2), Seq(9))],
            payload: Bytes::from("headbody"),
            blob: None,
        },
        Record::Put { targets: vec![(QueueId(2), Seq(10))], payload: Bytes::from("head"), blob: Some(PLACE) },
        Record::Ack { queue: QueueId(2), first: Seq(8), last: Seq(9) },
        Record::Fact { key: Bytes::from("k"), value: Bytes::from("v") },
        Record::Unfact { key: Bytes::from("gone") },
        Record::QueueDeleted { queue: QueueId(1) },
    ];
    assert_eq!(records, expected);
}

#[test]
fn the_size_that_a_batch_tells_is_enough() {
    assert!(batch().bytes() >= encoded().len() as u64);
}

#[test]
fn every_flipped_byte_is_told() {
    let bytes = encoded();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x02;
        assert!(decode_group(bad.into()).is_err(), "byte {at}");
    }
}

#[test]
fn a_cut_is_told_unless_it_falls_between_records() {
    let bytes = encoded();
    let whole = decode_group(bytes.clone().into()).expect("sound");
    let mut between = 0;
    for length in 0..bytes.len() {
        if let Ok(records) = decode_group(Bytes::copy_from_slice(&bytes[..length])) {
            assert_eq!(records[..], whole[..records.len()]);
            between += 1;
        }
    }
    assert_eq!(between, whole.len(), "the frame's own checksum tells those");
}

#[test]
fn a_walked_message_is_copied_as_it_would_be_made_anew() {
    let group = Bytes::from(encoded());
    let mut copied = Vec::new();
    let walked = walk_group(&group, |walked| {
        let Walked::Put(put) = walked else { return };
        for (queue, seq) in put.targets.iter() {
            let (mut copy, mut anew) = (Writer::default(), Writer::default());
            put.copy_for(queue, seq, &mut copy);
            encode_put(queue, seq, put.stored, &mut anew);
            assert_eq!(copy, anew);
            assert_eq!(copy.0.len(), put.stored.put_bytes());
            copied.push((queue, seq));
        }
    });
    assert_eq!(walked, Ok(()));
    assert_eq!(copied, [(QueueId(5), Seq(4)), (QueueId(2), Seq(9)), (QueueId(2), Seq(10))]);
}

#[test]
fn a_walked_message_that_was_changed_is_told_by_its_own_checksum() {
    let group = encoded();
    let verified = |group: Vec<u8>| {
        let mut sound = Vec::new();
        let walked = walk_group(&group.into(), |walked| {
            if let Walked::Put(put) = walked {
                sound.push(put.verify().is_ok());
            }
        });
        walked.map(|()| sound)
    };
    assert_eq!(verified(group.clone()), Ok(vec![true, true]));
    let mut told = 0;
    for at in 0..group.len() {
        let mut bad = group.clone();
        bad[at] ^= 0x02;
        // What is no message's any more, or does not parse, is left out.
        told += usize::from(verified(bad).is_ok_and(|sound| sound.contains(&false)));
    }
    let payloads = "headbody".len() + "head".len();
    assert!(told > payloads, "{told} bytes changed show");
}

#[test]
fn kind_0_is_never_valid() {
    assert!(decode_group(Bytes::from_static(&[0; 12])).is_err());
    let mut out = Writer::default();
    encode(&mut out, 0, |_| ());
    assert!(decode_group(out.0.into()).is_err(), "not even under a sound checksum");
    let mut out = Writer::default();
    encode(&mut out, QUEUE_DELETED + 1, |_| ());
    assert!(decode_group(out.0.into()).is_err());
}

#[test]
fn an_ack_of_nothing_is_refused() {
    for (first, last) in [(0, 3), (4, 3)] {
        let mut out = Writer::default();
        encode(&mut out, ACK, |w| ack(w, QueueId(1), Seq(first), Seq(last)));
        assert!(decode_group(out.0.into()).is_err(), "{first} to {last}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(kind in 0_u8..9, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_group(Bytes::from(bytes.clone()));
        let _ = walk_put(&bytes);
        // As a body whose checksum holds.
        let mut out = Writer::default();
        encode(&mut out, kind, |w| w.0.extend_from_slice(&bytes));
        let group = Bytes::from(out.0);
        let _ = walk_group(&group, |walked| {
            if let Walked::Put(put) = walked {
                assert_eq!(put.verify(), Ok(()));
            }
        });
        let _ = decode_group(group);
    }
}
