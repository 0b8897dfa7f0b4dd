//! A disk without any room cannot lock the store (E11): it opens, takes acks, and makes room again.

use std::io::ErrorKind;

use fastrand::Rng;

use crate::disk::{Fails, SimDisk};
use crate::reserve::{PIECES, header, is_ours, reserve_name};
use crate::store::*;
use crate::{Payload, Put, Step};

const SEGMENT: u64 = 8 * 4096;
const BUDGET: u64 = 3 * SEGMENT;

struct Scene {
    rng: Rng,
    disk: SimDisk,
    store: Store,
    workers: Workers,
    now_ms: u64,
}

fn settings() -> Settings {
    Settings {
        segment_bytes: SEGMENT,
        frame_bytes_max: 8192,
        log_budget_bytes: BUDGET,
        checkpoint_bytes: SEGMENT,
        settled_bytes: 4 * SEGMENT,
        disk_low_bytes: SEGMENT,
        spares: 1,
        idle_checkpoint_ms: 500,
        ..Settings::default()
    }
}

fn open(disk: &SimDisk) -> (Store, Workers, Recovered) {
    let handle: Arc<dyn Disk> = Arc::new(disk.clone());
    Store::open(&handle, settings()).expect("it opens on a full disk, too")
}

fn message(seq: u64) -> Batch {
    let payload = Payload { head: Bytes::new(), body: Bytes::from(vec![seq as u8; 3_000]) };
    let put = Put { targets: vec![(QueueId(1 + seq % 2), Seq(seq.div_ceil(2)))], payload, blob: None };
    Batch { puts: vec![put], ..Batch::default() }
}

impl Scene {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::default();
        disk.full_says(if seed.is_multiple_of(2) {
            ErrorKind::StorageFull
        } else {
            ErrorKind::QuotaExceeded
        });
        let (store, workers, _) = open(&disk);
        let mut scene = Self { rng: Rng::with_seed(seed), disk, store, workers, now_ms: 0 };
        scene.commit(Batch { queues_created: vec![QueueId(1), QueueId(2)], ..Batch::default() });
        scene
    }

    fn used(&self) -> u64 {
        self.disk.used()
    }

    /// One step of one of the workers.
    fn step(&mut self) {
        self.now_ms += self.rng.u64(..40);
        match self.rng.u8(..4) {
            0 | 1 => drop(self.workers.writer.step(self.now_ms)),
            2 => drop(self.workers.keeper.step(self.now_ms)),
            _ => drop(self.workers.settler.step(self.now_ms)),
        }
        assert!(self.store.failure().is_none(), "{:?}", self.store.failure());
    }

    fn steps(&mut self, count: u32) {
        (0..count).for_each(|_| self.step());
    }

    fn commit(&mut self, batch: Batch) {
        let ticket = self.store.commit(batch, Urgency::Now).expect("small");
        for _ in 0..20_000 {
            if self.store.durable() >= ticket {
                return;
            }
            self.step();
        }
        panic!("the store is locked: {:?}", self.store.stats());
    }

    fn publish(&mut self, count: u64) {
        (1..=count).for_each(|seq| self.commit(message(seq)));
    }

    fn reopen(&mut self) -> Recovered {
        if self.rng.bool() {
            self.disk.kill();
        } else {
            self.disk.lose_power(|| false);
        }
        let (store, workers, recovered) = open(&self.disk);
        (self.store, self.workers) = (store, workers);
        assert!(recovered.report.damaged.is_empty() && recovered.report.lost.is_empty(), "{recovered:?}");
        recovered
    }
}

#[test]
fn a_full_disk_opens_takes_acks_and_makes_room_again() {
    for seed in 0..40 {
        let mut scene = Scene::new(seed);
        scene.publish(120);
        scene.steps(4_000);
        assert_eq!(scene.store.stats().reserve_bytes, PIECES as u64 * SEGMENT);
        // Somebody else takes every byte that is free, and will not give it back.
        let full = scene.used();
        scene.disk.resize(full);
        for _ in 0..3 {
            let live: u64 = scene.reopen().queues.iter().map(|queue| queue.live).sum();
            assert_eq!(live, 120, "seed {seed}");
            scene.steps(200);
        }
        for seq in 1..=60 {
            for queue in [1, 2] {
                let acks = vec![(QueueId(queue), Seq(seq), Seq(seq))];
                scene.commit(Batch { acks, ..Batch::default() });
            }
        }
        scene.steps(20_000);
        let stats = scene.store.stats();
        assert_eq!(stats.settled_bytes, 0, "seed {seed}: {stats:?}");
        assert_eq!(stats.reserve_bytes, PIECES as u64 * SEGMENT, "seed {seed}: made again: {stats:?}");
        let used: u64 = scene.disk.names().iter().map(|(_, bytes)| bytes).sum();
        assert!(used <= BUDGET + (PIECES as u64 + 4) * SEGMENT, "seed {seed}: {used} of {full}: {stats:?}");
        let recovered = scene.reopen();
        assert!(recovered.queues.iter().all(|queue| queue.live == 0), "seed {seed}");
    }
}

#[test]
fn each_piece_is_left_to_who_needs_it_more() {
    let mut scene = Scene::new(1);
    scene.steps(2_000);
    let shared = Arc::clone(&scene.store.shared);
    use crate::reserve::Purpose::{Checkpoint, Log, Root, Settling};
    let gives = |purpose| (0..10).take_while(|_| shared.make_room(purpose)).count();
    assert_eq!([gives(Log), gives(Checkpoint), gives(Settling), gives(Root)], [2, 1, 1, 1]);
    assert_eq!(scene.store.stats().reserve_bytes, 0);
    scene.steps(2_000);
    assert_eq!(scene.store.stats().reserve_bytes, PIECES as u64 * SEGMENT, "made again while there is room");
}

#[test]
fn a_manifest_without_room_waits_and_a_close_without_room_is_no_clean_one() {
    let mut scene = Scene::new(2);
    scene.publish(4);
    scene.steps(2_000);
    scene.disk.resize(scene.used());
    while scene.store.shared.make_room(crate::reserve::Purpose::Root) {}
    scene.disk.resize(scene.used());
    let batch = Batch { acks: vec![(QueueId(1), Seq(1), Seq(1))], ..Batch::default() };
    scene.commit(batch);
    scene.store.close(vec![(QueueId(1), vec![])]);
    let mut done = false;
    for _ in 0..10_000 {
        scene.now_ms += 1;
        scene.workers.writer.step(scene.now_ms);
        done = scene.workers.keeper.step(scene.now_ms) == Step::Done;
        if done {
            break;
        }
    }
    assert!(done && scene.store.failure().is_none(), "{:?}", scene.store.failure());
    scene.disk.resize(u64::MAX);
    let recovered = scene.reopen();
    assert!(!recovered.report.clean, "what was delivered could not be written down (E10)");
    assert!(recovered.queues.iter().all(|queue| queue.redelivered_below == queue.next));
}

/// Guards against a server that cannot be stopped.
#[test]
fn a_close_without_room_for_what_came_last_ends_and_says_so() {
    for edit in [false, true] {
        let mut scene = Scene::new(4);
        scene.publish(3);
        scene.steps(2_000);
        while scene.store.shared.make_room(crate::reserve::Purpose::Root) {}
        lock(&scene.store.shared.log).spares.truncate(usize::from(edit));
        scene.disk.resize(scene.used());
        if edit {
            // There is a file, but no room to list it.
            scene.disk.fail("write", "MANIFEST", Fails::With(ErrorKind::StorageFull), u32::MAX);
        }
        let durable = scene.store.durable();
        let ticket = (4..40).map(|seq| scene.store.commit(message(seq), Urgency::Now).expect("small")).last();
        let mut closed_ms = 0;
        for now_ms in (scene.now_ms..).step_by(100).take(200) {
            if scene.workers.writer.step(now_ms) != Step::Worked && closed_ms == 0 {
                assert!(scene.store.failure().is_none(), "it waits while it is open");
                scene.store.close(Vec::new());
                closed_ms = now_ms;
            }
            if scene.store.failure().is_some() {
                assert!((4_000..8_000).contains(&(now_ms - closed_ms)), "{}", now_ms - closed_ms);
                break;
            }
        }
        let failure = scene.store.failure().expect("it ended").to_string();
        assert!(failure.contains("no room for what came last"), "{failure}");
        assert!(scene.store.confirmable() >= durable && Some(scene.store.confirmable()) < ticket);
        assert_eq!(scene.workers.keeper.step(scene.now_ms), Step::Done);
        let stored = scene.store.durable().0 - durable.0;
        scene.disk.mend();
        scene.disk.resize(u64::MAX);
        let recovered = scene.reopen();
        let live: u64 = recovered.queues.iter().map(|queue| queue.live).sum();
        assert_eq!((live, recovered.report.clean), (3 + stored, false));
    }
}

/// Guards against a keeper that waits for ever for an edit.
#[test]
fn a_close_without_room_for_an_edit_is_no_clean_one() {
    let mut scene = Scene::new(5);
    scene.publish(4);
    scene.steps(2_000);
    while scene.store.shared.make_room(crate::reserve::Purpose::Root) {}
    scene.disk.fail("write", "MANIFEST", Fails::With(ErrorKind::StorageFull), u32::MAX);
    scene.store.close(Vec::new());
    while scene.workers.writer.step(scene.now_ms) != Step::Done {}
    let ended = (0..10_000).any(|ms| scene.workers.keeper.step(scene.now_ms + ms) == Step::Done);
    assert!(ended && scene.store.failure().is_none(), "{:?}", scene.store.failure());
    let findings = scene.store.findings();
    assert!(findings.iter().any(|finding| finding.contains("may be marked as redelivered")), "{findings:?}");
    scene.disk.mend();
    let recovered = scene.reopen();
    let live: u64 = recovered.queues.iter().map(|queue| queue.live).sum();
    assert_eq!((live, recovered.report.clean), (4, false));
}

#[test]
fn below_the_mark_nothing_is_made_ahead() {
    let disk = SimDisk::default();
    let handle: Arc<dyn Disk> = Arc::new(disk.clone());
    let low = 20 * SEGMENT;
    let settings = Settings { disk_low_bytes: low, spares: 2, ..settings() };
    let (store, mut workers, _) = Store::open(&handle, settings).expect("opens");
    let used = disk.used();
    disk.resize(used + low + SEGMENT / 2);
    for now_ms in (0..10_000).step_by(50) {
        workers.keeper.step(now_ms);
    }
    let stats = store.stats();
    assert_eq!((stats.spare_segments, stats.reserve_bytes > 0), (0, true), "{stats:?}");
}

#[test]
fn a_reserve_of_another_store_is_set_aside_and_one_of_another_length_made_anew() {
    let mut scene = Scene::new(3);
    scene.steps(2_000);
    let mut foreign = header(4711);
    foreign.resize(SEGMENT as usize, 0);
    scene.disk.put(&reserve_name(2), foreign);
    scene.disk.put(&reserve_name(3), vec![0; 4096]);
    let notes = scene.reopen().report.notes;
    assert!(
        notes.iter().any(|note| note.contains("is set aside as set-aside.reserve-0002.spc")),
        "{notes:?}"
    );
    assert!(
        notes.iter().any(|note| note.contains("reserve-0003.spc was a reserve of another length")),
        "{notes:?}"
    );
    scene.steps(2_000);
    assert_eq!(scene.store.stats().reserve_bytes, PIECES as u64 * SEGMENT);
    assert!(is_ours(&scene.disk, &reserve_name(2), settings().new_store_id).expect("readable"));
}
