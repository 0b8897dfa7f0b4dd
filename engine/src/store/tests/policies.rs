//! Fsync policies (E6), and a disk that is full (P10).

use crate::disk::SimDisk;
use crate::settings::Fsync;
use crate::store::*;
use crate::{Payload, Put, Step};

const SEGMENT: u64 = 16 * 4096;

fn open(disk: &SimDisk, settings: Settings) -> (Store, Workers, Recovered) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Store::open(&disk, settings).expect("opens")
}

fn settings(fsync: Fsync) -> Settings {
    Settings {
        fsync,
        segment_bytes: SEGMENT,
        frame_bytes_max: 8192,
        checkpoint_bytes: u64::MAX,
        idle_checkpoint_ms: u64::MAX,
        spares: 0,
        ..Settings::default()
    }
}

fn message(seq: u64) -> Batch {
    let payload = Payload { head: Bytes::new(), body: Bytes::from(seq.to_le_bytes().to_vec()) };
    Batch {
        puts: vec![Put { targets: vec![(QueueId(1), Seq(seq))], payload, blob: None }],
        ..Batch::default()
    }
}

fn first() -> Batch {
    Batch { queues_created: vec![QueueId(1)], ..message(1) }
}

/// Steps the writer until it has nothing to do; gives what it said then.
fn settle(workers: &mut Workers, now_ms: u64) -> Step {
    loop {
        match workers.writer.step(now_ms) {
            Step::Worked => {}
            idle => return idle,
        }
    }
}

fn wanted(after: Ticket) -> Fetch {
    Fetch {
        queue: QueueId(1),
        generation: 0,
        from: Seq(1),
        upto: Seq(9),
        count_max: 9,
        bytes_max: 999,
        after,
    }
}

#[test]
fn under_always_nothing_is_confirmable_before_it_is_durable() {
    let disk = SimDisk::default();
    let (mut store, mut workers, _) = open(&disk, settings(Fsync::Always));
    let ticket = store.commit(first(), Urgency::Now).expect("small");
    while store.confirmable() < ticket {
        assert_eq!(store.confirmable(), store.durable());
        assert_eq!(workers.writer.step(0), Step::Worked);
    }
    assert_eq!(store.durable(), ticket);
}

#[test]
fn under_interval_the_sync_comes_when_it_is_due() {
    let disk = SimDisk::default();
    let (mut store, mut workers, _) = open(&disk, settings(Fsync::Interval { ms: 40 }));
    let one = store.commit(first(), Urgency::Now).expect("small");
    assert_eq!(settle(&mut workers, 10), Step::Idle { again_ms: Some(40) });
    assert_eq!((store.confirmable(), store.durable()), (one, Ticket(0)));
    let two = store.commit(message(2), Urgency::Now).expect("small");
    settle(&mut workers, 39);
    assert_eq!((store.confirmable(), store.durable()), (two, Ticket(0)));
    settle(&mut workers, 40);
    assert_eq!((store.confirmable(), store.durable()), (two, two));
}

#[test]
fn under_never_only_what_needs_durable_state_forces_a_sync() {
    let disk = SimDisk::default();
    let (mut store, mut workers, _) = open(&disk, settings(Fsync::Never));
    let one = store.commit(first(), Urgency::Now).expect("small");
    assert_eq!(settle(&mut workers, 10), Step::Idle { again_ms: None });
    assert_eq!(settle(&mut workers, 1_000_000), Step::Idle { again_ms: None });
    assert_eq!((store.confirmable(), store.durable()), (one, Ticket(0)));

    store.fetch(wanted(one));
    assert!(matches!(workers.reader.step(), Step::Idle { .. }), "not before it is durable (E3)");
    assert!(store.answers().is_empty());
    settle(&mut workers, 1_000_001);
    assert_eq!(store.durable(), one);
    while workers.reader.step() == Step::Worked {}
    let answers = store.answers();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].messages.len(), 1);

    // And a rotation syncs what it leaves behind.
    let mut last = one;
    for seq in 2..=20 {
        last = store.commit(message(seq), Urgency::Now).expect("small");
        settle(&mut workers, 1_000_002);
    }
    assert_eq!(store.stats().rotations_total, 1);
    assert!(store.durable() > one && store.durable() < last, "{:?}", store.durable());
}

/// Guards against a wish for a sync that is forgotten because what it is about was not written yet.
#[test]
fn a_fetch_that_comes_before_the_writer_is_answered_all_the_same() {
    let disk = SimDisk::default();
    let (mut store, mut workers, _) = open(&disk, settings(Fsync::Never));
    let one = store.commit(first(), Urgency::Now).expect("small");
    store.fetch(wanted(one));
    assert!(matches!(workers.reader.step(), Step::Idle { .. }));
    settle(&mut workers, 0);
    assert_eq!(store.durable(), one);
    while workers.reader.step() == Step::Worked {}
    assert_eq!(store.answers()[0].messages.len(), 1);
}

/// What was confirmed but not durable is lost by a power loss, never by the end of the process.
#[test]
fn under_never_a_kill_loses_nothing_and_a_power_loss_only_what_was_not_durable() {
    for power in [false, true] {
        let disk = SimDisk::default();
        let (mut store, mut workers, _) = open(&disk, settings(Fsync::Never));
        let one = store.commit(first(), Urgency::Now).expect("small");
        store.fetch(wanted(one));
        workers.reader.step();
        settle(&mut workers, 0);
        store.commit(message(2), Urgency::Now).expect("small");
        settle(&mut workers, 0);
        drop((store, workers));
        if power {
            disk.lose_power(|| false)
        } else {
            disk.kill()
        }
        let (_, _, recovered) = open(&disk, settings(Fsync::Never));
        assert_eq!(recovered.queues[0].live, if power { 1 } else { 2 });
    }
}

#[test]
fn a_full_disk_stalls_the_rotation_and_loses_nothing() {
    let disk = SimDisk::new(SEGMENT + 3 * 4096);
    let (mut store, mut workers, _) = open(&disk, settings(Fsync::Always));
    let mut last = store.commit(first(), Urgency::Now).expect("small");
    let mut stalled = Step::Worked;
    for seq in 2..=30 {
        last = store.commit(message(seq), Urgency::Now).expect("small");
        stalled = settle(&mut workers, seq);
    }
    assert!(matches!(stalled, Step::Idle { again_ms: Some(1..) }), "it tries again by itself: {stalled:?}");
    assert!(store.failure().is_none(), "a full disk is no failure");
    let durable = store.durable();
    assert!(durable >= Ticket(10) && durable < last, "{durable}");
    assert!(store.stats().out_of_space_total >= 1);
    // It stays so for as long as nothing changes, and what is there can be read.
    assert!(matches!(settle(&mut workers, 500), Step::Idle { again_ms: Some(1..) }));
    store.fetch(wanted(durable));
    while workers.reader.step() == Step::Worked {}
    assert_eq!(store.answers()[0].messages.len(), 8);

    disk.resize(8 * SEGMENT);
    settle(&mut workers, 600);
    assert_eq!(store.durable(), last);
    drop((store, workers));
    disk.lose_power(|| false);
    let (_, _, recovered) = open(&disk, settings(Fsync::Always));
    assert_eq!((recovered.queues[0].live, recovered.queues[0].next), (30, Seq(31)));
}

#[test]
fn a_crash_while_the_disk_is_full_loses_nothing_that_was_confirmed() {
    let disk = SimDisk::new(SEGMENT + 3 * 4096);
    let (mut store, mut workers, _) = open(&disk, settings(Fsync::Always));
    store.commit(first(), Urgency::Now).expect("small");
    for seq in 2..=30 {
        store.commit(message(seq), Urgency::Now).expect("small");
        settle(&mut workers, seq);
    }
    let durable = store.durable();
    drop((store, workers));
    disk.lose_power(|| false);
    let full: Arc<dyn Disk> = Arc::new(disk.clone());
    let error = Store::open(&full, settings(Fsync::Always)).expect_err("no room for a segment");
    assert!(matches!(error, Error::Io { op: "create", .. }), "{error}");
    disk.resize(8 * SEGMENT);
    let (_, _, recovered) = open(&disk, settings(Fsync::Always));
    assert_eq!(recovered.queues[0].live, durable.0);
}

#[test]
fn a_checkpoint_that_finds_the_disk_full_is_tried_again() {
    let disk = SimDisk::new(SEGMENT + 4096);
    let settings = Settings { idle_checkpoint_ms: 100, ..settings(Fsync::Always) };
    let (mut store, mut workers, _) = open(&disk, settings.clone());
    let facts = vec![(Bytes::from("k"), Some(Bytes::from(vec![7; 5000])))];
    let last = store.commit(Batch { facts, ..first() }, Urgency::Now).expect("small");
    settle(&mut workers, 0);
    assert_eq!(store.durable(), last);
    let keep = |workers: &mut Workers, now_ms| while workers.keeper.step(now_ms) == Step::Worked {};
    keep(&mut workers, 0);
    keep(&mut workers, 200);
    assert!(store.failure().is_none(), "{:?}", store.failure());
    assert_eq!((store.stats().checkpoints_total, store.stats().out_of_space_total), (0, 1));
    assert!(disk.names().iter().all(|(name, _)| !name.starts_with("checkpoint")), "no half one stays");
    // Not at once again, but later, and then it works.
    keep(&mut workers, 300);
    assert_eq!(store.stats().out_of_space_total, 1);
    disk.resize(8 * SEGMENT);
    keep(&mut workers, 1300);
    assert_eq!(store.stats().checkpoints_total, 1);
    drop((store, workers));
    disk.kill();
    let (_, _, recovered) = open(&disk, settings);
    assert_eq!((recovered.queues[0].live, recovered.facts.len()), (1, 1));
}

/// Guards against a spare whose length is not durable: two are found at an open, cut-off work of keeper and writer; the
/// second one is used at the next rotation, and the power fails before the new segment's first sync.
#[test]
fn a_spare_found_at_an_open_is_durable_before_it_is_used() {
    let settings = Settings { spares: 2, ..settings(Fsync::Always) };
    let mut rotated = 0;
    for steps in 0..70 {
        let disk = SimDisk::default();
        let (mut store, mut workers, _) = open(&disk, settings.clone());
        store.commit(first(), Urgency::Now).expect("small");
        settle(&mut workers, 0);
        let files = disk.names().len();
        while disk.names().len() == files {
            workers.keeper.step(0);
        }
        let mut seq = 1;
        while disk.names().len() == files + 1 {
            seq += 1;
            store.commit(message(seq), Urgency::Now).expect("small");
            while disk.names().len() == files + 1 && workers.writer.step(0) == Step::Worked {}
        }
        drop((store, workers));
        disk.kill();
        let (mut store, mut workers, recovered) = open(&disk, settings.clone());
        let mut next = recovered.queues[0].next;
        for _ in 0..steps {
            if workers.writer.step(0) != Step::Worked {
                store.commit(message(next.0), Urgency::Now).expect("small");
                next = next.next();
            }
        }
        rotated += store.stats().rotations_total;
        let durable = recovered.queues[0].live + store.durable().0;
        drop((store, workers));
        disk.lose_power(|| false);
        let (_, _, recovered) = open(&disk, settings.clone());
        assert_eq!(recovered.queues[0].live, durable, "after {steps} steps");
    }
    assert!(rotated > 0);
}
