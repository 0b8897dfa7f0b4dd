//! Check, repair and inspect beyond single damage.

use std::sync::Arc;

use bytes::Bytes;

use super::rig::{Rig, commit, fetch_all};
use crate::format::{BLOCK_BYTES, segment_name};
use crate::ids::{QueueId, Seq};
use crate::offline::{Checked, FindingKind, Inspected, LeaveOut, Repaired, check, inspect, repair};
use crate::{Batch, CrashPlan, Disk, Error, Payload, Put, RealDisk, SimDisk, Store};

fn checked(rig: &Rig) -> Checked {
    check(&rig.disk, &mut |_, _| ()).expect("readable")
}

fn repaired(rig: &Rig) -> Repaired {
    repair(&rig.disk(), &mut |_, _| (), &mut |_| Some(LeaveOut::default())).expect("readable")
}

fn message(queue: u64, seq: u64) -> Batch {
    let payload = Payload { head: Bytes::new(), body: Bytes::from("new") };
    Batch {
        puts: vec![Put { targets: vec![(QueueId(queue), Seq(seq))], payload, blob: None }],
        ..Batch::default()
    }
}

/// The open segment's file.
fn open_segment(rig: &Rig) -> String {
    segment_name(rig.state().segments.last().expect("listed").file)
}

#[test]
fn a_sound_store_is_told_as_it_is() {
    let rig = Rig::new();
    let before = rig.files();
    let mut told = Vec::new();
    let found = check(&rig.disk, &mut |done, total| told.push((done, total))).expect("readable");
    assert_eq!(rig.files(), before);
    assert!(found.sound && found.loss.is_empty() && found.replay_compared, "{found:?}");
    assert!(found.findings.iter().all(|finding| finding.kind == FindingKind::Note));
    let live = |queue| rig.live.keys().filter(|at| at.0 == queue).count() as u64;
    let counts: Vec<_> = found.queues.iter().map(|queue| (queue.queue.0, queue.live, queue.lost)).collect();
    assert_eq!(counts, [(1, live(1), 0), (2, live(2), 0)]);
    let state = rig.state();
    assert_eq!((found.segments, found.checkpoints, found.facts.len()), (state.segments.len() as u64, 2, 2));
    assert_eq!(found.files, 1 + 2 + found.segments);
    // 60 messages and the first batch; every seventh message takes two frames.
    assert_eq!(found.frames, 61 + 60 / 7);
    assert!(told.is_sorted() && !told.is_empty());

    let done = repaired(&rig);
    assert!(!done.changed && done.refused.is_none());
    assert_eq!(rig.files(), before, "there is nothing to repair");
}

#[test]
fn an_empty_directory_and_a_new_store_are_sound() {
    let disk = SimDisk::default();
    let found = check(&disk, &mut |_, _| ()).expect("readable");
    assert!(found.sound && found.files == 0);
    let rig = Rig { disk, ..Rig::new() };
    drop(rig.open().expect("new"));
    rig.disk.kill();
    assert!(checked(&rig).sound);
}

/// A checkpoint whose checksum holds and whose numbers are wrong is found by the replay.
#[test]
fn a_checkpoint_that_the_log_does_not_add_up_to_is_told() {
    let rig = Rig::new();
    let name = rig.checkpoints().pop().expect("two");
    rig.damage(&name, |bytes| {
        let mut checkpoint = crate::checkpoint::decode("c", Bytes::from(bytes.clone())).expect("sound");
        let queue = checkpoint.ledger.queues.get_mut(&QueueId(2)).expect("there");
        queue.kill(Seq(1), Seq(2));
        *bytes =
            crate::checkpoint::encode(checkpoint.store_id, checkpoint.epoch, &checkpoint.ledger).concat();
    });
    let found = checked(&rig);
    assert!(!found.sound);
    assert!(found.findings[0].what.contains("queue 2"), "{:?}", found.findings);
}

#[test]
fn a_repaired_store_goes_on() {
    let rig = Rig::new();
    let name = segment_name(rig.state().segments[2].file);
    let at = rig.frames(&name)[3].0;
    rig.damage(&name, |bytes| bytes[at + 90] ^= 1);
    assert!(repaired(&rig).changed);
    let (mut store, mut workers, recovered) = rig.open().expect("repaired");
    assert!(!recovered.report.clean);
    for queue in &recovered.queues {
        assert_eq!(queue.redelivered_below, queue.next, "all is redelivered");
    }
    let before = fetch_all(&mut store, &mut workers, &recovered);
    let next = recovered.queues[0].next;
    assert_eq!(next, Seq(61), "no place is given out twice");
    for seq in next.0..next.0 + 40 {
        commit(&mut store, &mut workers, message(1, seq));
    }
    assert!(store.stats().rotations_total > 0 && store.stats().checkpoints_total > 0);
    drop((store, workers));
    rig.disk.lose_power(|| false);
    assert!(checked(&rig).sound, "{:?}", checked(&rig).findings);
    assert_eq!(rig.read_back().len(), before.len() + 40);
}

/// Guards against a place that is dead before it is given out: the ack of a lost message names it.
#[test]
fn an_ack_behind_the_damage_keeps_its_place_from_being_given_out_again() {
    let rig = Rig::new();
    let (mut store, mut workers, recovered) = rig.open().expect("sound");
    let next = recovered.queues[1].next;
    commit(&mut store, &mut workers, message(2, next.0));
    for seq in 61..64 {
        commit(&mut store, &mut workers, message(1, seq));
    }
    let acks = vec![(QueueId(2), next, next)];
    commit(&mut store, &mut workers, Batch { acks, ..Batch::default() });
    commit(&mut store, &mut workers, message(1, 64));
    drop((store, workers));
    rig.disk.kill();
    let name = open_segment(&rig);
    let at = rig.frames(&name).iter().rev().nth(5).expect("six frames").0;
    rig.damage(&name, |bytes| bytes[at + 90] ^= 1);
    let done = repaired(&rig);
    assert!(done.changed, "{done:?}");
    let (_, _, recovered) = rig.open().expect("repaired");
    assert_eq!(recovered.queues[1].next, next.next());
}

#[test]
fn messages_of_a_queue_whose_creation_is_lost_are_told() {
    let rig = Rig::new();
    let (mut store, mut workers, _) = rig.open().expect("sound");
    let created = Batch { queues_created: vec![QueueId(3)], ..Batch::default() };
    commit(&mut store, &mut workers, created);
    for seq in 1..=4 {
        commit(&mut store, &mut workers, message(3, seq));
    }
    drop((store, workers));
    rig.disk.kill();
    let name = open_segment(&rig);
    let at = rig.frames(&name).iter().rev().nth(4).expect("five frames").0;
    rig.damage(&name, |bytes| bytes[at + 90] ^= 1);
    let found = checked(&rig);
    assert_eq!(found.loss.nameless, [(QueueId(3), 4)]);
    assert!(found.loss.unknown_changes);
    assert!(repaired(&rig).changed);
    let (_, _, recovered) = rig.open().expect("repaired");
    assert_eq!((recovered.queues.len(), recovered.next_queue), (2, QueueId(4)));
}

#[test]
fn what_the_owner_leaves_out_is_left_out() {
    let rig = Rig::new();
    rig.disk.take(&rig.checkpoints().pop().expect("two"));
    let leave_out = LeaveOut { facts: vec![Bytes::from("a")], queues: vec![QueueId(2)] };
    let done = repair(&rig.disk(), &mut |_, _| (), &mut |_| Some(leave_out.clone())).expect("readable");
    assert!(done.changed);
    let (_, _, recovered) = rig.open().expect("repaired");
    assert_eq!(recovered.facts, [(Bytes::from("b"), Bytes::from("2"))]);
    assert_eq!(recovered.queues.iter().map(|queue| queue.queue).collect::<Vec<_>>(), [QueueId(1)]);
    rig.disk.kill();
    assert!(checked(&rig).sound);
}

#[test]
fn two_damaged_segments_and_a_checkpoint() {
    let rig = Rig::new();
    let state = rig.state();
    for index in [1, 2] {
        let name = segment_name(state.segments[index].file);
        let at = rig.frames(&name)[5].0;
        rig.damage(&name, |bytes| bytes[at..at + 512].fill(0xff));
    }
    let name = rig.checkpoints().pop().expect("two");
    rig.damage(&name, |bytes| bytes[30] ^= 1);
    let found = checked(&rig);
    assert_eq!(found.findings.iter().filter(|finding| finding.kind == FindingKind::Damage).count(), 3);
    let done = repaired(&rig);
    assert_eq!(done.set_aside.len(), 3 + 1, "and the older checkpoint: {:?}", done.set_aside);
    assert!(checked(&rig).sound);
    let found = rig.read_back();
    let missing = rig.live.keys().filter(|at| !found.contains_key(at)).count() as u64;
    assert_eq!(missing, done.found.loss.messages.iter().map(|lost| lost.1).sum::<u64>());
    assert!((1..=4).contains(&missing), "{missing}");
}

#[test]
fn a_lost_manifest_and_a_damaged_segment() {
    for index in [0, 1, 2, 3] {
        let rig = Rig::new();
        let name = segment_name(rig.state().segments[index].file);
        let at = rig.frames(&name)[4].0;
        rig.damage(&name, |bytes| bytes[at + 90] ^= 1);
        rig.disk.take("MANIFEST");
        let done = repaired(&rig);
        assert!(done.changed, "{done:?}");
        assert!(checked(&rig).sound);
        let found = rig.read_back();
        let missing = rig.live.keys().filter(|at| !found.contains_key(at)).count();
        assert!(missing <= 4, "segment {index}: {missing}");
    }
}

/// What a recovery cut does not come back when the manifest is lost: its places were given out again.
#[test]
fn a_lost_manifest_brings_no_cut_frame_back() {
    let rig = Rig::new();
    let name = open_segment(&rig);
    let at = rig.frames(&name).pop().expect("frames").0;
    rig.damage(&name, |bytes| bytes[at + 90] ^= 1);
    let (mut store, mut workers, recovered) = rig.open().expect("a torn tail");
    assert!(recovered.report.cut.is_some());
    assert_eq!(recovered.queues[0].next, Seq(60));
    commit(&mut store, &mut workers, message(1, 60));
    commit(&mut store, &mut workers, message(1, 61));
    drop((store, workers));
    rig.disk.kill();
    // The cut frame is whole again, as if only its sector had been unreadable for a while.
    rig.damage(&name, |bytes| bytes[at + 90] ^= 1);
    let expected = rig.read_back();
    rig.disk.take("MANIFEST");
    assert!(repaired(&rig).changed);
    assert_eq!(rig.read_back(), expected);
    assert_eq!(expected[&(1, 60)], Bytes::from("new"));
}

#[test]
fn without_any_checkpoint_and_the_log_s_beginning_nothing_is_done() {
    let rig = Rig::new();
    for name in rig.checkpoints() {
        rig.damage(&name, |bytes| bytes[30] ^= 1);
    }
    // The log still begins with the first frame: all can be had back.
    let found = checked(&rig);
    assert!(!found.sound && found.beyond_repair.is_none() && found.loss.is_empty(), "{found:?}");

    // Nothing of the first segment lives any more: it goes.
    let rig = Rig::new();
    let (mut store, mut workers, _) = rig.open().expect("sound");
    let acks = vec![(QueueId(1), Seq(1), Seq(59)), (QueueId(2), Seq(1), Seq(11))];
    commit(&mut store, &mut workers, Batch { acks, ..Batch::default() });
    for seq in 61..120 {
        commit(&mut store, &mut workers, message(1, seq));
    }
    assert!(store.stats().recycled_total > 0);
    drop((store, workers));
    rig.disk.kill();
    for name in rig.checkpoints() {
        rig.damage(&name, |bytes| bytes[30] ^= 1);
    }
    let before = rig.files();
    let done = repaired(&rig);
    assert!(!done.changed && done.refused.is_some() && done.found.beyond_repair.is_some());
    assert_eq!(rig.files(), before);
}

#[test]
fn a_newer_format_is_no_damage() {
    let rig = Rig::new();
    rig.damage("MANIFEST", |bytes| {
        bytes[8] = 9;
        bytes[12..16].fill(0);
        let crc = crc32fast::hash(&bytes[..32]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    });
    assert!(matches!(check(&rig.disk, &mut |_, _| ()), Err(Error::NewerFormat { found: 9, .. })));
    assert!(matches!(rig.open(), Err(Error::NewerFormat { found: 9, .. })));

    let rig = Rig::new();
    let name = open_segment(&rig);
    rig.damage(&name, |bytes| {
        bytes[8] = 9;
        bytes[12..16].fill(0);
        let crc = crc32fast::hash(&bytes[..72]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    });
    assert!(matches!(rig.open(), Err(Error::NewerFormat { found: 9, .. })));
}

/// A segment that is used again keeps the bodies of its first use behind its frames, and clients write bodies.
#[test]
fn what_a_client_forged_behind_the_frames_is_no_newer_format() {
    let forge = |own: bool| {
        let rig = Rig::new();
        let name = open_segment(&rig);
        let mut forged = 0;
        rig.damage(&name, |bytes| {
            let store_id: [u8; 8] = bytes[BLOCK_BYTES + 8..BLOCK_BYTES + 16].try_into().expect("8 bytes");
            for block in
                bytes[BLOCK_BYTES..].chunks_exact_mut(BLOCK_BYTES).filter(|b| b.iter().all(|b| *b == 0))
            {
                block[..4].copy_from_slice(b"LFRM");
                block[4] = 9;
                block[8..16].copy_from_slice(if own { &store_id } else { b"whatever" });
                let crc = crc32fast::hash(&block[..76]);
                block[76..80].copy_from_slice(&crc.to_le_bytes());
                forged += 1;
            }
        });
        assert!(forged > 0, "there is room behind the frames");
        rig
    };
    let rig = forge(false);
    assert!(checked(&rig).sound);
    assert!(rig.open().is_ok());
    assert!(matches!(forge(true).open(), Err(Error::NewerFormat { found: 9, .. })));
}

/// Whatever call a repair is cut off at, by a kill or a power loss: the store is as damaged as before or repaired, and
/// repairing it again gives what one repair would have given.
#[test]
fn a_repair_that_is_cut_off_loses_nothing() {
    let damage: [fn(&Rig); 3] = [
        |rig| {
            let name = segment_name(rig.state().segments[1].file);
            let at = rig.frames(&name)[4].0;
            rig.damage(&name, |bytes| bytes[at + 90] ^= 1);
        },
        |rig| rig.disk.take("MANIFEST"),
        |rig| rig.disk.take(&rig.checkpoints().pop().expect("two")),
    ];
    for (case, damage) in damage.into_iter().enumerate() {
        let whole = Rig::new();
        damage(&whole);
        let before = whole.disk.stats().calls;
        repaired(&whole);
        let calls = whole.disk.stats().calls - before;
        let expected = whole.read_back();
        for stop in 1..=calls {
            let rig = Rig::new();
            damage(&rig);
            rig.disk.plan(CrashPlan::AtCall(rig.disk.stats().calls + stop));
            let cut = repair(&rig.disk(), &mut |_, _| (), &mut |_| Some(LeaveOut::default()));
            assert!(cut.is_err() || rig.disk.crashed(), "case {case}, call {stop}");
            let mut rng = fastrand::Rng::with_seed(stop);
            match stop % 3 {
                0 => rig.disk.kill(),
                1 => rig.disk.lose_power(|| false),
                _ => rig.disk.lose_power(|| rng.bool()),
            }
            let done = repaired(&rig);
            assert!(done.changed || done.found.sound, "case {case}, call {stop}: {done:?}");
            assert_eq!(rig.read_back(), expected, "case {case}, call {stop}");
        }
    }
}

#[test]
fn inspect_shows_edits_checkpoints_and_frames() {
    let rig = Rig::new();
    let (mut edits, mut checkpoints, mut segments, mut frames, mut puts, mut last) = (0, 0, 0, 0, 0, None);
    inspect(&rig.disk, &mut |piece| {
        match piece {
            Inspected::Edit(..) => edits += 1,
            Inspected::Checkpoint(checkpoint) => {
                checkpoints += 1;
                assert_eq!(checkpoint.queues.len(), 2);
            }
            Inspected::Segment(_) => segments += 1,
            Inspected::Frame(frame) => {
                frames += 1;
                puts += frame.kinds.puts;
                assert!(last < Some(frame.number) && frame.durable_upto < frame.number);
                last = Some(frame.number);
            }
            Inspected::Trouble(what) => panic!("{what}"),
        }
        true
    })
    .expect("readable");
    assert!(edits > 8, "{edits}");
    assert_eq!((checkpoints, frames, puts), (2, 61 + 60 / 7, 60));
    assert_eq!(segments, rig.state().segments.len());

    let mut pieces = 0;
    inspect(&rig.disk, &mut |_| {
        pieces += 1;
        pieces < 5
    })
    .expect("readable");
    assert_eq!(pieces, 5, "it ends when it is told to");
}

#[test]
fn inspect_shows_what_damage_leaves() {
    let rig = Rig::new();
    let name = segment_name(rig.state().segments[1].file);
    let at = rig.frames(&name)[4].0;
    rig.damage(&name, |bytes| bytes[at + 90] ^= 1);
    rig.disk.take(&rig.checkpoints()[0]);
    let (mut trouble, mut frames) = (Vec::new(), 0);
    inspect(&rig.disk, &mut |piece| {
        match piece {
            Inspected::Trouble(what) => trouble.push(what),
            Inspected::Frame(_) => frames += 1,
            _ => {}
        }
        true
    })
    .expect("readable");
    assert_eq!(trouble.len(), 2, "{trouble:?}");
    assert!(frames > 40, "the other segments are shown: {frames}");
}

/// The same on a directory of the machine.
#[test]
fn a_real_directory_is_repaired() {
    let rig = Rig::new();
    let name = segment_name(rig.state().segments[1].file);
    let at = rig.frames(&name)[4].0;
    let dir = tempfile::tempdir().expect("a directory");
    for (file, bytes) in rig.files() {
        std::fs::write(dir.path().join(file), bytes).expect("written");
    }
    let damaged = dir.path().join(&name);
    let mut bytes = std::fs::read(&damaged).expect("read");
    bytes[at + 90] ^= 1;
    std::fs::write(&damaged, &bytes).expect("written");

    let real: Arc<dyn Disk> = Arc::new(RealDisk::open_existing(dir.path()).expect("unlocked"));
    assert!(matches!(RealDisk::open_existing(dir.path()), Err(Error::Locked { .. })));
    let found = check(real.as_ref(), &mut |_, _| ()).expect("readable");
    assert!(!found.sound && found.findings[0].file == name);
    let done = repair(&real, &mut |_, _| (), &mut |_| Some(LeaveOut::default())).expect("readable");
    let aside = dir.path().join(format!("set-aside.{name}"));
    assert!(done.changed && std::fs::read(aside).expect("there") == bytes);
    assert!(!damaged.exists());
    let (mut store, mut workers, recovered) = Store::open(&real, rig.settings.clone()).expect("repaired");
    let left = fetch_all(&mut store, &mut workers, &recovered).len() as u64;
    let lost: u64 = done.found.loss.messages.iter().map(|lost| lost.1).sum();
    assert_eq!(left + lost, rig.live.len() as u64);
}
