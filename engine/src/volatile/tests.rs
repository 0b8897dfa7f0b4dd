//! Spilled messages: their index against a plain map, and a store that spills, reads and releases, with a disk that is
//! full now and then.

mod index;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use super::*;
use crate::disk::{Disk, SimDisk};
use crate::fetch::{Fetch, Fetched};
use crate::ids::Ticket;
use crate::settings::Settings;
use crate::store::{Store, Workers};
use crate::{Batch as Commit, Urgency};

struct World {
    disk: SimDisk,
    store: Store,
    workers: Workers,
    now_ms: u64,
}

fn settings() -> Settings {
    Settings {
        segment_bytes: 16 * 4096,
        frame_bytes_max: 8192,
        spares: 0,
        new_store_id: 7,
        ..Settings::default()
    }
}

impl World {
    fn new() -> Self {
        Self::on(SimDisk::default(), settings())
    }

    fn on(disk: SimDisk, settings: Settings) -> Self {
        let real: Arc<dyn Disk> = Arc::new(disk.clone());
        let (store, workers, _) = Store::open(&real, settings).expect("opens");
        Self { disk, store, workers, now_ms: 0 }
    }

    fn reopen(self) -> Self {
        let disk = self.disk.clone();
        drop((self.store, self.workers));
        disk.kill();
        Self::on(disk, settings())
    }

    /// Spills until nothing is left to do, and says which places came to be.
    fn spill_all(&mut self) -> Vec<(u64, u64)> {
        for _ in 0..100_000 {
            if self.workers.spiller.step(self.now_ms) != Step::Worked {
                return self.store.spilled().into_iter().map(|(queue, seq)| (queue.0, seq.0)).collect();
            }
        }
        panic!("the spiller comes to no end");
    }

    fn volatile_files(&self) -> Vec<(String, u64)> {
        self.disk.names().into_iter().filter(|(name, _)| name.starts_with("volatile-")).collect()
    }

    fn commit(&mut self, batch: Commit) {
        let ticket = self.store.commit(batch, Urgency::Now).expect("small");
        while self.store.durable() < ticket {
            assert_eq!(self.workers.writer.step(0), Step::Worked, "{:?}", self.store.failure());
        }
    }

    fn fetch(&mut self, queue: u64, (from, upto): (u64, u64), count_max: u32, bytes_max: u64) -> Fetched {
        let (queue, from, upto) = (QueueId(queue), Seq(from), Seq(upto));
        let after = Ticket(0);
        self.store.fetch(Fetch { queue, generation: 3, from, upto, count_max, bytes_max, after });
        for _ in 0..100_000 {
            self.workers.reader.step();
            if let Some(answer) = self.store.answers().pop() {
                assert_eq!((answer.queue, answer.generation, answer.from), (queue, 3, from));
                return answer;
            }
        }
        panic!("the reader comes to no end");
    }

    /// All of a queue, with so much at a time.
    fn read(&mut self, queue: u64, upto: u64, count_max: u32, bytes_max: u64) -> Vec<(u64, Bytes)> {
        let (mut from, mut all) = (1, Vec::new());
        while from < upto {
            let answer = self.fetch(queue, (from, upto), count_max, bytes_max);
            assert_eq!(answer.lost, []);
            assert!(answer.upto.0 > from, "it gets on");
            assert!(answer.messages.len() <= count_max as usize);
            all.extend(answer.messages.into_iter().map(|(seq, payload)| (seq.0, payload)));
            from = answer.upto.0;
        }
        all
    }
}

fn body(queue: u64, seq: u64, bytes: usize) -> Bytes {
    let mut body = format!("{queue}/{seq} ").into_bytes();
    body.resize(body.len().max(bytes), b'.');
    body.into()
}

fn message(targets: &[(u64, u64)], body: Bytes) -> Put {
    let targets = targets.iter().map(|(queue, seq)| (QueueId(*queue), Seq(*seq))).collect();
    Put { targets, payload: Payload { head: body.slice(..2), body: body.slice(2..) }, blob: None }
}

#[test]
fn what_is_spilled_is_read_in_order_until_it_is_released() {
    let mut world = World::new();
    for seq in 1..=100 {
        world.store.spill(message(&[(1, seq)], body(1, seq, 100)));
        world.store.spill(message(&[(2, seq), (3, seq)], body(2, seq, 50)));
    }
    assert_eq!(world.store.spilled(), []);
    let spilled: BTreeSet<_> = world.spill_all().into_iter().collect();
    assert_eq!(spilled.len(), 300);
    let expected = |queue: u64, size| (1..=100).map(|seq| (seq, body(queue, seq, size))).collect::<Vec<_>>();
    assert_eq!(world.read(1, 101, 7, u64::MAX), expected(1, 100));
    assert_eq!(world.read(2, 101, 1_000, 170), expected(2, 50));
    assert_eq!(world.read(3, 101, 1_000, 1), expected(2, 50), "one at least");
    world.store.release(QueueId(3), Seq(20), Seq(100));
    world.store.release(QueueId(3), Seq(1), Seq(10));
    assert_eq!(world.read(3, 101, 5, 1_000), expected(2, 50)[10..19]);
    assert_eq!(world.read(2, 101, 100, 100_000), expected(2, 50));
    for queue in 1..=3 {
        world.store.release(QueueId(queue), Seq(0), Seq(u64::MAX));
    }
    assert_eq!(world.read(2, 101, 100, 100_000), []);
    assert_eq!(world.volatile_files().len(), 1, "the newest lingers");
    world.spill_all();
    world.now_ms += LINGER_MS;
    world.spill_all();
    assert_eq!(world.volatile_files(), []);
    let stats = world.store.stats();
    assert_eq!((stats.spilled_messages, stats.spilled_bytes, stats.spill_index_bytes), (0, 0, 0));
}

#[test]
fn spilled_places_stand_among_logged_ones() {
    let mut world = World::new();
    world.commit(Commit { queues_created: vec![QueueId(1)], ..Commit::default() });
    for seq in 1..=60 {
        let put = message(&[(1, seq)], body(1, seq, 200));
        if seq % 3 == 0 || seq > 50 {
            world.store.spill(put);
        } else {
            world.commit(Commit { puts: vec![put], ..Commit::default() });
        }
    }
    world.spill_all();
    let expected: Vec<_> = (1..=60).map(|seq| (seq, body(1, seq, 200))).collect();
    for (count, bytes) in [(1, 1), (7, 100_000), (100, 1_000), (4_096, 1 << 20)] {
        assert_eq!(world.read(1, 61, count, bytes), expected, "{count} messages or {bytes} bytes at a time");
    }
    let answer = world.fetch(1, (4, 20), 4_096, 1 << 20);
    assert_eq!(answer.messages.len(), 16);
    assert_eq!(answer.upto, Seq(20));
}

/// The place between two of a run is spilled, elsewhere, after so many steps of the read.
#[test]
fn a_place_that_is_spilled_into_a_run_while_that_is_read_is_not_lost() {
    for steps in 0..8 {
        let mut world = World::new();
        for seq in [1, 3, 4] {
            world.store.spill(message(&[(1, seq)], body(1, seq, 100)));
        }
        world.spill_all();
        let (queue, from, upto) = (QueueId(1), Seq(1), Seq(5));
        let (generation, count_max, bytes_max, after) = (3, 10, 1 << 20, Ticket(0));
        world.store.fetch(Fetch { queue, generation, from, upto, count_max, bytes_max, after });
        for _ in 0..steps {
            world.workers.reader.step();
        }
        world.store.spill(message(&[(1, 2)], body(1, 2, 100)));
        assert_eq!(world.spill_all(), [(1, 2)]);
        let answer = (0..10).find_map(|_| {
            world.workers.reader.step();
            world.store.answers().pop()
        });
        let answer = answer.expect("an answer");
        assert_eq!(answer.lost, [], "after {steps} steps");
        assert_eq!(world.store.stats().unreadable_total, 0);
        // An answer that was complete before is one without it, and the core reads that place again.
        let places: Vec<_> = answer.messages.iter().map(|(seq, _)| seq.0).collect();
        assert!(places == [1, 2, 3, 4] || places == [1, 3, 4], "{places:?} after {steps} steps");
        assert_eq!(world.read(1, 5, 10, 1 << 20).len(), 4);
    }
}

#[test]
fn what_is_released_before_it_is_written_is_not_written() {
    let mut world = World::new();
    for seq in 1..=10 {
        world.store.spill(message(&[(1, seq), (2, seq)], body(1, seq, 100)));
    }
    world.store.release(QueueId(1), Seq(1), Seq(9));
    world.store.release(QueueId(2), Seq(3), Seq(u64::MAX));
    let spilled: BTreeSet<_> = world.spill_all().into_iter().collect();
    assert_eq!(spilled, BTreeSet::from([(1, 10), (2, 1), (2, 2)]));
    assert!(world.volatile_files()[0].1 < 500, "three messages of ten");
    // Released between the write and its end: nobody is told of it.
    world.store.spill(message(&[(1, 11), (2, 11)], body(1, 11, 100)));
    assert_eq!(world.workers.spiller.step(0), Step::Worked);
    world.store.release(QueueId(1), Seq(11), Seq(11));
    assert_eq!(world.spill_all(), [(2, 11)]);
}

#[test]
fn the_next_open_removes_what_was_spilled_and_a_close_does() {
    let mut world = World::new();
    world.store.spill(message(&[(1, 1)], body(1, 1, 100)));
    world.spill_all();
    let (name, _) = world.volatile_files().remove(0);
    // What did not come to the disk at all, what is another store's, and what is none of ours.
    let mut foreign = encode_header(8, crate::Epoch(1));
    world.disk.put("volatile-0000000090.vol", Vec::new());
    world.disk.put("volatile-0000000091.vol", vec![0; 2_000]);
    world.disk.put("volatile-0000000092.vol", foreign.clone());
    foreign[20] ^= 1;
    world.disk.put("volatile-0000000093.vol", foreign);
    world.disk.put("volatile-0000000094.vol", b"notes".to_vec());
    let mut world = world.reopen();
    assert!(world.disk.contents(&name).is_none());
    assert_eq!(world.volatile_files(), []);
    let aside = |no| world.disk.contents(&format!("set-aside.volatile-00000000{no}.vol")).is_some();
    assert_eq!([90, 91, 92, 93, 94].map(aside), [false, false, true, true, true]);
    assert_eq!(world.read(1, 2, 1, 1), []);

    world.store.spill(message(&[(1, 2)], body(1, 2, 100)));
    world.spill_all();
    assert_eq!(world.volatile_files().len(), 1);
    world.store.close(Vec::new());
    while world.workers.writer.step(0) != Step::Done {}
    while world.workers.spiller.step(0) != Step::Done {}
    assert_eq!(world.volatile_files(), []);
}

#[test]
fn a_full_disk_loses_nothing_and_holds_publishers() {
    let mut world = World::on(SimDisk::default(), Settings { spill_waiting_bytes: 20_000, ..settings() });
    world.disk.full_says(std::io::ErrorKind::QuotaExceeded);
    world.disk.resize(world.disk.names().iter().map(|(_, bytes)| bytes).sum::<u64>() + 3_000);
    for seq in 1..=10 {
        world.store.spill(message(&[(1, seq)], body(1, seq, 1_000)));
    }
    assert_eq!(world.store.pressure(), None);
    assert_eq!(world.spill_all(), []);
    assert_eq!(world.store.pressure(), None, "there is room to wait");
    for seq in 11..=20 {
        world.store.spill(message(&[(1, seq)], body(1, seq, 1_000)));
    }
    assert_eq!(world.store.pressure(), Some(Pressure::DiskLow));
    assert!(world.store.findings().iter().any(|finding| finding.contains("stay in memory")));
    assert!(world.store.failure().is_none());
    // What is acked meanwhile makes room, too.
    world.store.release(QueueId(1), Seq(1), Seq(13));
    assert_eq!(world.store.pressure(), None);
    world.disk.resize(u64::MAX);
    assert_eq!(world.spill_all(), [], "not at once");
    world.now_ms += RETRY_MS;
    assert_eq!(world.spill_all(), (14..=20).map(|seq| (1, seq)).collect::<Vec<_>>());
    assert_eq!(
        world.read(1, 21, 100, 100_000),
        (14..=20).map(|seq| (seq, body(1, seq, 1_000))).collect::<Vec<_>>()
    );
    assert_eq!(world.volatile_files().len(), 1, "nothing is left of what could not be written");
}

#[test]
fn publishers_wait_while_spilling_lags() {
    let mut world = World::on(SimDisk::default(), Settings { spill_waiting_bytes: 5_000, ..settings() });
    for seq in 1..=5 {
        world.store.spill(message(&[(1, seq)], body(1, seq, 1_000)));
    }
    assert_eq!(world.store.pressure(), Some(Pressure::SpillingLags));
    world.spill_all();
    assert_eq!(world.store.pressure(), None);
}

#[test]
fn a_damaged_message_is_lost_and_told_and_the_rest_is_served() {
    let mut world = World::new();
    for seq in 1..=3 {
        world.store.spill(message(&[(1, seq)], body(1, seq, 100)));
        world.spill_all();
    }
    let (name, _) = world.volatile_files().remove(0);
    let mut bytes = world.disk.contents(&name).expect("it is there");
    let place = bytes.windows(4).position(|at| at == b"1/2 ").expect("the second message");
    bytes[place + 50] ^= 1;
    let disk = Arc::new(world.disk.clone());
    disk.open(&name).expect("it is there").write_at(0, &bytes).expect("a disk");
    let answer = world.fetch(1, (1, 4), 100, 100_000);
    assert_eq!(answer.messages, [(Seq(1), body(1, 1, 100)), (Seq(3), body(1, 3, 100))]);
    let [(Seq(2), why)] = &answer.lost[..] else { panic!("{:?}", answer.lost) };
    assert!(why.contains(&name) && why.contains("checksum"), "{why}");
    assert_eq!(world.store.unreadable(), 1);
    assert_eq!(world.fetch(1, (1, 4), 100, 100_000).lost, [], "nobody asks for it again");
}

/// One queue keeps all it has while others flow past it: the disk takes about what lives.
#[test]
fn dead_messages_give_their_room_back() {
    let mut world = World::new();
    let (mut kept, mut most) = (Vec::new(), 0);
    for seq in 1..=4_000 {
        world.store.spill(message(&[(1, seq)], body(1, seq, 500)));
        if seq % 40 == 0 {
            world.store.spill(message(&[(2, seq)], body(2, seq, 500)));
            kept.push((seq, body(2, seq, 500)));
        }
        if seq % 20 == 0 {
            world.spill_all();
            world.store.release(QueueId(1), Seq(0), Seq(seq));
            world.spill_all();
        }
        most = most.max(world.store.stats().spilled_bytes);
    }
    let live = 100 * 600;
    assert!(most < 2 * live + settings().segment_bytes, "{most} bytes for {live}");
    assert_eq!(world.read(2, 4_001, 1_000, 1 << 20), kept);
    let moved = world.store.stats().spill_moved_bytes_total;
    assert!((1..4_100 * 600 / 2).contains(&moved), "{moved} bytes moved");
}

#[test]
fn what_is_read_in_order_is_not_moved_before_it_goes() {
    let mut world = World::new();
    for seq in 1..=2_000 {
        world.store.spill(message(&[(1, seq)], body(1, seq, 500)));
        if seq % 20 == 0 {
            world.spill_all();
        }
    }
    assert!(world.volatile_files().len() > 10);
    let mut most = 0.0f64;
    for seq in 1..=2_000 {
        world.store.release(QueueId(1), Seq(0), Seq(seq));
        world.spill_all();
        let live = (2_000 - seq) * 560;
        let over = world.store.stats().spilled_bytes.saturating_sub(live);
        most = most.max(over as f64 / (settings().segment_bytes / 4) as f64);
    }
    assert_eq!(world.store.stats().spill_moved_bytes_total, 0);
    assert!(most < 2.5, "{most} segments more than lived");
}

/// What a run reached: a run that reached nothing proves nothing.
#[derive(Debug, Default)]
struct Counts {
    spilled: u64,
    read: u64,
    failed: u64,
    moved: u64,
    removed: u64,
}

#[test]
fn any_history_agrees_with_a_plain_map() {
    let mut counts = Counts::default();
    for seed in 0..1_000 {
        history(seed, &mut counts);
    }
    let floors = [
        (counts.spilled, 100_000),
        (counts.read, 25_000),
        (counts.failed, 1_000),
        (counts.moved, 100_000),
        (counts.removed, 1_000),
    ];
    assert!(floors.iter().all(|(count, floor)| count >= floor), "an empty run: {counts:?}");
}

fn history(seed: u64, counts: &mut Counts) {
    let mut rng = Rng::with_seed(seed);
    let mut world = World::new();
    let full = world.disk.names().iter().map(|(_, bytes)| bytes).sum::<u64>();
    // What was spilled and not released; what of it the store has told of.
    let (mut wanted, mut told) = (BTreeMap::new(), BTreeSet::new());
    let mut next = [1u64; 4];
    let large = if rng.bool() { 30_000 } else { 300 };
    for _ in 0..rng.usize(50..400) {
        match rng.u8(..12) {
            0..5 => {
                let payload = body(seed, rng.u64(..1_000_000), rng.usize(2..large));
                let mut targets = Vec::new();
                for queue in 0..4 {
                    if targets.is_empty() || rng.u8(..4) == 0 {
                        let queue = if targets.is_empty() { rng.usize(..4) } else { queue };
                        next[queue] += rng.u64(0..3);
                        targets.push((queue as u64, next[queue]));
                        next[queue] += 1;
                    }
                }
                targets.sort_unstable();
                targets.dedup_by_key(|(queue, _)| *queue);
                wanted.extend(targets.iter().map(|place| (*place, payload.clone())));
                rng.shuffle(&mut targets);
                world.store.spill(message(&targets, payload));
            }
            5..8 => {
                for _ in 0..rng.u8(1..6) {
                    world.workers.spiller.step(world.now_ms);
                }
            }
            8 => {
                let (queue, first) = (rng.u64(..4), rng.u64(..200));
                let last = if rng.u8(..8) == 0 { u64::MAX } else { first + rng.u64(..60) };
                world.store.release(QueueId(queue), Seq(first), Seq(last));
                wanted.retain(|(of, seq), _| *of != queue || !(first..=last).contains(seq));
            }
            9 => {
                let (from, upto) = (rng.u64(1..100), rng.u64(100..300));
                let (queue, count, bytes) = (rng.u64(..4), rng.u32(1..30), rng.u64(1..50_000));
                told.extend(world.store.spilled());
                let answer = world.fetch(queue, (from, upto), count, bytes);
                let upto = answer.upto.0;
                let range = (queue, from)..(queue, upto);
                let live = wanted.range(range);
                let expected: Vec<_> = live.map(|((_, seq), body)| (Seq(*seq), body.clone())).collect();
                let is_told = |(seq, _): &&(Seq, Bytes)| told.contains(&(QueueId(queue), *seq));
                // What is written and not told yet may be among them.
                for message in expected.iter().filter(is_told) {
                    assert!(answer.messages.contains(message), "seed {seed}: place {} is missing", message.0);
                }
                assert!(answer.messages.iter().all(|message| expected.contains(message)), "seed {seed}");
                assert!(answer.messages.is_sorted_by_key(|(seq, _)| *seq), "seed {seed}");
                assert_eq!(answer.lost, [], "seed {seed}");
                counts.read += answer.messages.len() as u64;
            }
            10 => world.now_ms += rng.u64(..700),
            _ => {
                let room = if rng.bool() { u64::MAX } else { full + rng.u64(..200_000) };
                world.disk.resize(room);
            }
        }
        counts.failed += world.store.findings().len() as u64;
    }
    world.disk.resize(u64::MAX);
    world.now_ms += RETRY_MS;
    told.extend(world.store.spilled());
    let places = world.spill_all().into_iter().map(|(queue, seq)| (QueueId(queue), Seq(seq)));
    told.extend(places);
    for queue in 0..4 {
        let expected: Vec<_> =
            wanted.range((queue, 0)..(queue, 10_000)).map(|((_, seq), body)| (*seq, body.clone())).collect();
        assert!(
            expected.iter().all(|(seq, _)| told.contains(&(QueueId(queue), Seq(*seq)))),
            "seed {seed}: all told"
        );
        assert_eq!(world.read(queue, 10_000, 100, 1 << 20), expected, "seed {seed}");
    }
    let stats = world.store.stats();
    let live: u64 = wanted.values().map(|body| body.len() as u64 + 80).sum();
    let chunk = CHUNK_BYTES.max(settings().segment_bytes);
    assert!(stats.spilled_bytes <= 2 * live + 2 * chunk, "seed {seed}: {stats:?}");
    assert_eq!(stats.spilled_messages, wanted.len() as u64);
    counts.spilled += told.len() as u64;
    counts.moved += stats.spill_moved_bytes_total;
    (0..4).for_each(|queue| world.store.release(QueueId(queue), Seq(0), Seq(u64::MAX)));
    let files = world.volatile_files().len() as u64;
    world.spill_all();
    world.now_ms += LINGER_MS;
    world.spill_all();
    assert_eq!(world.volatile_files(), [], "seed {seed}");
    assert_eq!(world.store.stats().spill_index_bytes, 0, "seed {seed}");
    counts.removed += files;
}
