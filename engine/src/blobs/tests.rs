//! Blob files: written before their messages, beside everything else; shared, settled past, freed; missing or damaged.

mod waiting;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;

use crate::blobs::{BlobRef, BodyBuffer};
use crate::disk::{Fails, SimDisk};
use crate::offline::{LeaveOut, check, repair};
use crate::shared::{Bells, Shared, lock};
use crate::store::*;
use crate::{Batch, Disk, Error, Fetch, Payload, Put, QueueId, Seq, Settings, Step, Ticket, Urgency};

const SEGMENT: u64 = 16 * 4096;

struct Rig {
    disk: SimDisk,
    store: Store,
    workers: Workers,
    recovered: Recovered,
    now_ms: u64,
}

type Done = Arc<Mutex<Vec<BlobRef>>>;

fn settings() -> Settings {
    Settings {
        segment_bytes: SEGMENT,
        frame_bytes_max: 8192,
        log_budget_bytes: 2 * SEGMENT,
        blob_bytes_min: 1_000,
        blob_file_bytes: 40_000,
        checkpoint_bytes: 2 * SEGMENT,
        idle_checkpoint_ms: 500,
        spares: 0,
        new_store_id: 77,
        ..Settings::default()
    }
}

fn body(seed: u8, length: usize) -> Bytes {
    (0..length).map(|i| seed.wrapping_add((i % 251) as u8)).collect::<Vec<_>>().into()
}

fn put(blob: Option<&BlobRef>, targets: &[(u64, u64)]) -> Batch {
    let targets = targets.iter().map(|(queue, seq)| (QueueId(*queue), Seq(*seq))).collect();
    let payload = Payload { head: Bytes::from("head "), body: Bytes::new() };
    Batch { puts: vec![Put { targets, payload, blob: blob.cloned() }], ..Batch::default() }
}

fn ack(queue: u64, seq: u64) -> Batch {
    Batch { acks: vec![(QueueId(queue), Seq(seq), Seq(seq))], ..Batch::default() }
}

impl Rig {
    fn open(disk: &SimDisk) -> Self {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let (store, workers, recovered) = Store::open(&shared, settings()).expect("opens");
        Self { disk: disk.clone(), store, workers, recovered, now_ms: 0 }
    }

    fn new() -> Self {
        let mut rig = Self::open(&SimDisk::default());
        let queues_created = vec![QueueId(1), QueueId(2)];
        rig.commit(Batch { queues_created, ..Batch::default() });
        rig
    }

    fn reopen(self) -> Self {
        let disk = self.disk.clone();
        drop(self);
        disk.kill();
        Self::open(&disk)
    }

    fn write(&mut self, body: &Bytes) -> Done {
        let done = Done::default();
        let told = Arc::clone(&done);
        self.store.blobs().put(body.clone(), move |blob| lock(&told).extend(blob));
        done
    }

    /// Writes a body to its end.
    fn written(&mut self, body: &Bytes) -> BlobRef {
        let done = self.write(body);
        self.blobs();
        lock(&done).pop().expect("written")
    }

    /// Steps the blob writer until it has nothing to do.
    fn blobs(&mut self) {
        while self.workers.blobs.step(self.now_ms) == Step::Worked {}
    }

    fn commit(&mut self, batch: Batch) {
        let ticket = self.store.commit(batch, Urgency::Now).expect("small");
        while self.store.durable() < ticket {
            assert_eq!(self.workers.writer.step(self.now_ms), Step::Worked, "{:?}", self.store.failure());
        }
    }

    /// Lets all workers go on for so long.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.now_ms += 100;
            let mut busy = true;
            while busy {
                busy = self.workers.writer.step(self.now_ms) == Step::Worked
                    || self.workers.keeper.step(self.now_ms) == Step::Worked
                    || self.workers.settler.step(self.now_ms) == Step::Worked
                    || self.workers.blobs.step(self.now_ms) == Step::Worked;
            }
        }
    }

    fn fetch(&mut self, queue: u64) -> Fetched {
        let (queue, from, upto) = (QueueId(queue), Seq(1), Seq(100));
        let fetch =
            Fetch { queue, generation: 0, from, upto, count_max: 100, bytes_max: 1 << 30, after: Ticket(0) };
        self.store.fetch(fetch);
        while self.workers.reader.step() == Step::Worked {}
        self.store.answers().pop().expect("one answer")
    }

    fn bodies(&mut self, queue: u64) -> BTreeMap<u64, Bytes> {
        let fetched = self.fetch(queue);
        assert!(fetched.lost.is_empty(), "{:?}", fetched.lost);
        fetched.messages.into_iter().map(|(seq, body)| (seq.0, body.slice(5..))).collect()
    }

    fn files(&self) -> Vec<String> {
        let names = self.disk.names().into_iter().map(|(name, _)| name);
        names.filter(|name| name.starts_with("blob-")).collect()
    }
}

use crate::fetch::Fetched;
use crate::sync::Mutex;

#[test]
fn while_a_large_body_is_written_small_confirms_of_others_go_on() {
    let mut rig = Rig::new();
    let large = body(3, 16 << 20);
    let done = rig.write(&large);
    let (mut steps, mut confirmed) = (0, 0);
    while lock(&done).is_empty() {
        assert_eq!(rig.workers.blobs.step(0), Step::Worked);
        steps += 1;
        confirmed += 1;
        rig.commit(put(None, &[(1, confirmed)]));
        assert!(rig.disk.stats().syncs > 0);
    }
    // A write of 1 MiB or a sync at a time; each left room for a confirm.
    assert!(steps > 20 && confirmed == steps, "{steps}");
    let blob = lock(&done).pop().expect("written");
    rig.commit(put(Some(&blob), &[(2, 1)]));
    assert_eq!(rig.bodies(2), BTreeMap::from([(1, large)]));
}

#[test]
fn a_message_with_a_blob_survives_a_power_loss_as_soon_as_it_is_confirmed() {
    let mut rig = Rig::new();
    let large = body(1, 9_000);
    let blob = rig.written(&large);
    rig.commit(put(Some(&blob), &[(1, 1), (2, 1)]));
    drop(blob);
    let disk = rig.disk.clone();
    drop(rig);
    disk.lose_power(|| false);
    let mut rig = Rig::open(&disk);
    assert_eq!(rig.bodies(1), BTreeMap::from([(1, large.clone())]));
    assert_eq!(rig.bodies(2), BTreeMap::from([(1, large)]));
}

#[test]
fn a_body_stays_until_its_last_place_is_dead_and_nobody_holds_it_and_then_its_file_goes() {
    let mut rig = Rig::new();
    let large = body(1, 9_000);
    let blob = rig.written(&large);
    rig.commit(put(Some(&blob), &[(1, 1), (2, 1)]));
    drop(blob);
    rig.commit(ack(1, 1));
    rig.pass(2_000);
    assert_eq!(rig.bodies(2), BTreeMap::from([(1, large.clone())]));
    // A read holds it, and whoever has its answer: a dead letter takes it on.
    let held = rig.fetch(2).blobs.pop().expect("a handle").1;
    rig.commit(ack(2, 1));
    rig.pass(2_000);
    assert_eq!(rig.store.stats().blob_live_bytes, 9_000);
    rig.commit(put(Some(&held), &[(1, 2)]));
    drop(held);
    rig.pass(2_000);
    let mut rig = rig.reopen();
    rig.pass(2_000);
    assert_eq!(rig.bodies(1), BTreeMap::from([(2, large)]));
    rig.commit(ack(1, 2));
    rig.pass(2_000);
    let stats = rig.store.stats();
    assert_eq!((stats.blob_files, stats.blob_bytes, stats.blob_live_bytes), (0, 0, 0));
    assert!(rig.files().is_empty());
}

#[test]
fn dead_bodies_of_a_file_with_live_ones_are_given_back() {
    let mut rig = Rig::new();
    for seq in 1..=4 {
        let blob = rig.written(&body(seq as u8, 9_000));
        rig.commit(put(Some(&blob), &[(1, seq)]));
    }
    let before = rig.store.stats().blob_bytes;
    rig.commit(ack(1, 2));
    rig.pass(200);
    assert_eq!(rig.store.stats().blob_bytes, before - 12_288);
    let name = rig.files().remove(0);
    let bytes = rig.disk.contents(&name).expect("there");
    assert!(bytes[4096 + 12_288..4096 + 2 * 12_288].iter().all(|byte| *byte == 0));
    // After an open as well, of those that were named by nothing yet.
    drop(rig.written(&body(9, 9_000)));
    let mut rig = rig.reopen();
    rig.pass(200);
    assert_eq!(rig.bodies(1).keys().copied().collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(rig.store.stats().blob_live_bytes, 27_000);
}

#[test]
fn a_blob_is_not_settled_again_and_is_read_by_its_settled_record() {
    let mut rig = Rig::new();
    let large = body(1, 30_000);
    let blob = rig.written(&large);
    rig.commit(put(Some(&blob), &[(1, 1), (2, 1)]));
    drop(blob);
    for seq in 2..40 {
        let payload = Payload { head: Bytes::from("head "), body: body(seq as u8, 7_000) };
        let targets = vec![(QueueId(2), Seq(seq))];
        rig.commit(Batch { puts: vec![Put { targets, payload, blob: None }], ..Batch::default() });
        rig.commit(ack(2, seq));
        rig.pass(100);
    }
    let stats = rig.store.stats();
    assert!(stats.settled_segments > 0 && stats.settled_bytes < 10_000, "{stats:?}");
    let mut rig = rig.reopen();
    assert_eq!(rig.bodies(1), BTreeMap::from([(1, large.clone())]));
    assert_eq!(rig.bodies(2), BTreeMap::from([(1, large)]));
}

#[test]
fn a_full_disk_makes_a_body_wait_and_loses_nothing() {
    for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
        waits_for_room(kind);
    }
}

fn waits_for_room(kind: ErrorKind) {
    let mut rig = Rig::new();
    let used: u64 = rig.disk.names().iter().map(|(_, bytes)| bytes).sum();
    rig.disk.full_says(kind);
    rig.disk.resize(used + 10_000);
    let large = body(5, 20_000);
    let done = rig.write(&large);
    rig.pass(1_000);
    assert!(lock(&done).is_empty() && rig.store.failure().is_none());
    assert!(rig.store.stats().out_of_space_total >= 1);
    rig.disk.resize(u64::MAX);
    rig.pass(1_000);
    let blob = lock(&done).pop().expect("written");
    rig.commit(put(Some(&blob), &[(1, 1)]));
    assert_eq!(rig.bodies(1), BTreeMap::from([(1, large)]));
}

#[test]
fn a_missing_or_damaged_blob_file_costs_its_messages_alone_and_a_repair_keeps_the_rest() {
    let mut rig = Rig::new();
    // Each file takes two bodies.
    for seq in 1..=6 {
        let blob = rig.written(&body(seq as u8, 24_000));
        rig.commit(put(Some(&blob), &[(1, seq)]));
    }
    let files = rig.files();
    assert_eq!(files.len(), 3);
    let disk = rig.disk.clone();
    drop(rig);
    disk.kill();
    disk.take(&files[0]);
    let mut bytes = disk.contents(&files[2]).expect("there");
    bytes[4096 + 100] ^= 1;
    disk.put(&files[2], bytes);

    let mut rig = Rig::open(&disk);
    let report = &rig.recovered.report;
    assert!(report.damaged.len() == 1 && report.damaged[0].contains("missing"), "{report:?}");
    assert_eq!(report.lost, [(QueueId(1), 2)]);
    let fetched = rig.fetch(1);
    let found: Vec<_> = fetched.messages.iter().map(|(seq, _)| seq.0).collect();
    let lost: Vec<_> = fetched.lost.iter().map(|(seq, _)| seq.0).collect();
    assert_eq!((found, lost), (vec![3, 4, 6], vec![1, 2, 5]));
    assert!(fetched.lost[2].1.contains("checksum"), "{:?}", fetched.lost);
    drop(rig);
    disk.kill();

    let checked = check(&disk, &mut |_, _| ()).expect("readable");
    assert!(!checked.sound && checked.blobs == 3, "{checked:?}");
    assert_eq!(checked.loss.messages, [(QueueId(1), 3)]);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let done = repair(&shared, &mut |_, _| (), &mut |_| Some(LeaveOut::default())).expect("readable");
    assert!(done.changed, "{done:?}");
    let aside = format!("set-aside.{}.4096", files[2]);
    assert_eq!(done.set_aside, std::slice::from_ref(&aside));
    let bad = disk.contents(&files[2]).expect("there")[4096..4096 + 40 + 24_000].to_vec();
    assert_eq!(disk.contents(&aside), Some(bad), "with the header before it, as it was found");
    assert!(check(&disk, &mut |_, _| ()).expect("readable").sound);
    let mut rig = Rig::open(&disk);
    assert_eq!(rig.bodies(1).keys().copied().collect::<Vec<_>>(), [3, 4, 6]);
}

#[test]
fn a_repair_without_a_manifest_finds_the_blob_files() {
    let mut rig = Rig::new();
    let blob = rig.written(&body(1, 24_000));
    rig.commit(put(Some(&blob), &[(1, 1)]));
    drop(blob);
    rig.store.close(Vec::new());
    while rig.workers.writer.step(1) != Step::Done {}
    while rig.workers.keeper.step(1) != Step::Done {}
    let disk = rig.disk.clone();
    drop(rig);
    disk.kill();
    disk.take("MANIFEST");
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    assert!(Store::open(&shared, settings()).is_err(), "data without a manifest");
    let done = repair(&shared, &mut |_, _| (), &mut |_| Some(LeaveOut::default())).expect("readable");
    assert!(done.changed && done.found.loss.is_empty(), "{done:?}");
    let mut rig = Rig::open(&disk);
    assert_eq!(rig.bodies(1), BTreeMap::from([(1, body(1, 24_000))]));
}

#[test]
fn bodies_that_keep_coming_do_not_keep_dead_ones_in_their_place() {
    let mut rig = Rig::new();
    let (mut under_way, mut seq) = (Vec::new(), 0);
    for _ in 0..600 {
        // Whenever it looks there is a body that waits.
        if lock(&rig.store.shared.bodies).is_empty() {
            under_way.push(rig.write(&body(1, 30_000)));
        }
        assert_eq!(rig.workers.blobs.step(rig.now_ms), Step::Worked);
        for blob in under_way.iter().filter_map(|done| lock(done).pop()).collect::<Vec<_>>() {
            seq += 1;
            rig.commit(put(Some(&blob), &[(1, seq)]));
            drop(blob);
            rig.commit(ack(1, seq));
        }
    }
    let stats = rig.store.stats();
    assert!(seq > 20 && stats.blob_files < 5, "{seq} bodies: {stats:?}");
    assert!(stats.blob_files_removed_total > 10, "{stats:?}");
}

/// Notes whether the store had failed already when somebody let go of a body.
#[derive(Default)]
struct Ears(Arc<Mutex<Vec<bool>>>, std::sync::OnceLock<std::sync::Weak<Shared>>);

impl Bells for Ears {
    fn ring_blobs(&self) {
        let shared = self.1.get().and_then(std::sync::Weak::upgrade);
        lock(&self.0).push(shared.is_some_and(|shared| shared.failure().is_some()));
    }
    fn ring_writer(&self) {}
    fn ring_reader(&self) {}
    fn ring_keeper(&self) {}
    fn ring_settler(&self) {}
    fn ring_spiller(&self) {}
    fn ring_scrub(&self) {}
    fn ring_owner(&self) {}
}

/// Guards against a body that is freed although the next open finds a message with it.
#[test]
fn a_write_that_fails_lets_go_of_its_bodies_only_when_nothing_is_freed_any_more() {
    let fails = Fails::With(ErrorKind::Other);
    for (call, fails) in
        [("write", fails), ("sync", fails), ("write", Fails::Panics), ("sync", Fails::Panics)]
    {
        let mut rig = Rig::new();
        let blob = rig.written(&body(1, 9_000));
        rig.store.commit(put(Some(&blob), &[(1, 1)]), Urgency::Now).expect("small");
        drop(blob);
        let ears = Ears::default();
        let heard = Arc::clone(&ears.0);
        ears.1.set(Arc::downgrade(&rig.store.shared)).expect("first");
        assert!(rig.store.shared.bells.set(Box::new(ears)).is_ok());
        rig.disk.fail(call, "log-", fails, 1);
        let write = || while rig.workers.writer.step(rig.now_ms) == Step::Worked {};
        if catch_unwind(AssertUnwindSafe(write)).is_err() {
            assert_eq!(fails, Fails::Panics);
            // As the thread does whose step panicked.
            rig.store.shared.fail(Error::Panicked { thread: "leveret-writer" });
        }
        assert!(rig.store.failure().is_some());
        let Rig { store: _store, workers, .. } = rig;
        drop(workers);
        let heard = lock(&heard);
        assert!(!heard.is_empty() && heard.iter().all(|failed| *failed), "{call}: {heard:?}");
    }
}

/// Guards against bodies that are cut where one write ends and the next begins, or that lose their place in a group.
#[test]
fn bodies_that_are_written_together_stand_whole_whatever_their_lengths() {
    let block = 4096 - super::BODY_HEADER_BYTES;
    let lengths = [1, block - 1, block, block + 1, (1 << 20) + 17, 2 << 20, 3, 1 << 20, 5 * block, 700_000];
    let bodies = lengths.iter().zip(1..).map(|(length, seed)| body(seed, *length));
    let anywhere: Vec<Bytes> =
        bodies.map(|body| [&[0], &body[..]].concat()).map(|all| Bytes::from(all).slice(1..)).collect();
    let placed: Vec<Bytes> = anywhere.iter().map(placed).collect();
    let mixed = anywhere.iter().zip(&placed).enumerate();
    let mixed: Vec<_> = mixed.map(|(i, (one, other))| if i % 2 == 0 { one } else { other }.clone()).collect();
    let traces = [anywhere, placed, mixed].map(|bodies| {
        let mut rig = Rig::new();
        let done: Vec<_> = bodies.iter().map(|body| rig.write(body)).collect();
        rig.blobs();
        for (seq, done) in (1..).zip(&done) {
            let blob = lock(done).pop().expect("written");
            rig.commit(put(Some(&blob), &[(1, seq)]));
        }
        let trace = rig.disk.stats().trace;
        let mut rig = rig.reopen();
        assert!(rig.recovered.report.damaged.is_empty());
        assert!(rig.bodies(1).into_values().eq(bodies), "not what was written");
        assert!(check(&rig.disk, &mut |_, _| ()).expect("readable").sound);
        trace
    });
    assert!(
        traces.iter().all(|trace| *trace == traces[0]),
        "where a body stands in memory shows on the disk"
    );
}

/// The same body where it need not be copied.
fn placed(body: &Bytes) -> Bytes {
    let mut buffer = BodyBuffer::default();
    buffer.make_room((64 << 10).max(body.len()));
    body.chunks(1000).for_each(|part| buffer.extend(part));
    assert_eq!(buffer.len(), body.len());
    let bytes = buffer.into_bytes();
    assert!(super::buffer::is_placed(&bytes), "not in its place");
    bytes
}
