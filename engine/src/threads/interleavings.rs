//! The shared pieces under a scheduler that decides who gets on at every lock, atomic and call to the disk (T8): the hand-over
//! of what is committed, the watermarks, pins against recycling, and syncs that several workers share. Time-outs of bells never
//! come, so that a wake-up that is lost is a deadlock, which fails.
//!
//! `LEVERET_ENGINE_FROM`: the first seed; `LEVERET_ENGINE_SCHEDULES`: how many schedules of each scene. What fails prints
//! both.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::time::Duration as RealDuration;

use bytes::Bytes;
use shuttle::rand::Rng as _;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, Runner};

use super::*;
use crate::disk::{Disk, Fails, SimDisk};
use crate::manifest::Edit;
use crate::sync::atomic::AtomicBool;
use crate::{Batch, Control, Fetch, Fetched, Payload, Put, QueueId, Seq, Settings, Ticket, Urgency};

const QUEUE: QueueId = QueueId(1);
/// Schedules of each scene that every run of the tests has.
const SCHEDULES: usize = 1_000;
/// Schedules within which a deliberate bug has to show.
const SCHEDULES_OF_A_BUG: usize = 2_000;
const BODY_BYTES: usize = 3_500;
/// Messages of the scene that recycles: three of them fill a segment.
const MESSAGES: u64 = 14;

/// What scenes reached: those that reach nothing prove nothing. Not the scheduler's, which knows one schedule at a time.
#[derive(Debug, Default)]
struct Reached {
    inline: AtomicU64,
    kicked: AtomicU64,
    slept: AtomicU64,
    rotations: AtomicU64,
    recycled: AtomicU64,
    settled: AtomicU64,
    slow_reads: AtomicU64,
}

static REACHED: Reached = Reached {
    inline: AtomicU64::new(0),
    kicked: AtomicU64::new(0),
    slept: AtomicU64::new(0),
    rotations: AtomicU64::new(0),
    recycled: AtomicU64::new(0),
    settled: AtomicU64::new(0),
    slow_reads: AtomicU64::new(0),
};

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Runs a scene under so many schedules: half of them random, half of them with few changes of priority, which find other
/// bugs.
fn explore(seed: u64, schedules: usize, scene: fn(Option<Control>), bug: Option<Control>) {
    let mut config = Config::new();
    config.stack_size = 512 << 10;
    config.failure_persistence = FailurePersistence::None;
    config.silence_warnings = true;
    let random = RandomScheduler::new_from_seed(seed, schedules.div_ceil(2));
    Runner::new(random, config.clone()).run(move || scene(bug));
    let few_changes = PctScheduler::new_from_seed(seed, 4, schedules / 2);
    Runner::new(few_changes, config).run(move || scene(bug));
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// `floors`: what is to be reached, per 100 schedules at least.
fn explore_sound(name: &str, scene: fn(Option<Control>), floors: &[(&str, &AtomicU64, u64)]) {
    let from = number("LEVERET_ENGINE_FROM").unwrap_or(1);
    let schedules = number("LEVERET_ENGINE_SCHEDULES").map_or(SCHEDULES, |count| count as usize);
    eprintln!("{name}: LEVERET_ENGINE_FROM={from} LEVERET_ENGINE_SCHEDULES={schedules}");
    explore(from, schedules, scene, None);
    let reached: Vec<_> =
        floors.iter().map(|(what, counter, _)| (*what, counter.load(Ordering::Relaxed))).collect();
    eprintln!("{name}: {schedules} schedules, {reached:?}");
    for ((what, reached), (.., floor)) in reached.iter().zip(floors) {
        let floor = floor * schedules as u64 / 100;
        assert!(*reached >= floor, "an empty run: {reached} {what}, at least {floor} wanted");
    }
}

/// The bug is caught by what the scene promises, and not by any other panic.
fn explore_with(bug: Control, scene: fn(Option<Control>), promise: &str) {
    let caught = catch_unwind(AssertUnwindSafe(|| explore(1, SCHEDULES_OF_A_BUG, scene, Some(bug))));
    let told = caught.expect_err("the bug shows in no schedule");
    let told = told.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(told.contains(promise), "{bug:?} was told of as {told:?}, not as {promise:?}");
}

fn settings(control: Option<Control>) -> Settings {
    Settings {
        segment_bytes: 4 * 4096,
        frame_bytes_max: 4096,
        log_budget_bytes: 0,
        checkpoint_bytes: 4096,
        idle_checkpoint_ms: 1,
        spares: 0,
        reserve: false,
        scrub_bytes_per_s: 0,
        control,
        ..Settings::default()
    }
}

fn open(disk: &SimDisk, control: Option<Control>) -> (Store, Workers) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (store, workers, recovered) = Store::open(&disk, settings(control)).expect("opens");
    assert!(recovered.report.damaged.is_empty() && recovered.report.lost.is_empty());
    (store, workers)
}

fn body(seq: u64) -> Bytes {
    Bytes::from([&seq.to_le_bytes()[..], &vec![seq as u8 | 0x80; BODY_BYTES]].concat())
}

fn message(seq: u64) -> Batch {
    let payload = Payload { head: Bytes::new(), body: body(seq) };
    let put = Put { targets: vec![(QUEUE, Seq(seq))], payload, blob: None };
    Batch { puts: vec![put], ..Batch::default() }
}

fn acks(first: u64, last: u64) -> Batch {
    Batch { acks: vec![(QUEUE, Seq(first), Seq(last))], ..Batch::default() }
}

fn fetch(from: u64, upto: u64, after: Ticket) -> Fetch {
    let (from, upto) = (Seq(from), Seq(upto));
    Fetch { queue: QUEUE, generation: 0, from, upto, count_max: 100, bytes_max: 1 << 20, after }
}

/// Whether a power loss now would leave a message on the disk.
fn is_durable(disk: &SimDisk, seq: u64) -> bool {
    let left = disk.moment().after_loss(|| false);
    let wanted = body(seq);
    let holds = |name: &String| {
        let bytes = left.contents(name).unwrap_or_default();
        bytes.windows(8 + 16).any(|part| part == &wanted[..8 + 16])
    };
    left.names().iter().any(|(name, _)| holds(name))
}

/// No message is another one's, and none that must be there is missing.
fn check(answer: &Fetched, live: std::ops::RangeInclusive<u64>) {
    assert!(answer.lost.is_empty(), "promise broken: a message that lives cannot be read: {:?}", answer.lost);
    for (seq, bytes) in &answer.messages {
        assert_eq!(*bytes, body(seq.0), "promise broken: {seq:?} is answered with another message");
    }
    for seq in live.filter(|seq| (answer.from.0..answer.upto.0).contains(seq)) {
        let here = answer.messages.iter().any(|(at, _)| at.0 == seq);
        assert!(here, "promise broken: {seq} lives and is not in the answer");
    }
}

/// Real threads: an owner commits, by itself or through the writer's thread, waits to be woken, and reads back, while
/// somebody watches the watermarks and the others settle, checkpoint and recycle.
fn hand_over(control: Option<Control>) {
    let disk = SimDisk::default();
    let (mut store, workers) = open(&disk, control);
    let bell = Arc::new(Bell::default());
    let rings = Arc::clone(&bell);
    let threads = start_threads(&store, workers, move || rings.ring()).expect("starts");
    let shared = Arc::clone(&store.shared);
    let watcher = shuttle::thread::spawn(move || {
        let (mut durable, mut confirmable) = (0, 0);
        for _ in 0..12 {
            let now = shared.durable.load(Ordering::Acquire);
            assert!(now >= durable, "promise broken: the durable watermark falls from {durable} to {now}");
            durable = now;
            let now = shared.confirmable.load(Ordering::Acquire);
            assert!(now >= confirmable, "promise broken: confirmable falls from {confirmable} to {now}");
            assert!(now >= durable, "promise broken: {durable} is durable, and only {now} confirmable");
            confirmable = now;
        }
    });
    let mut rng = shuttle::rand::thread_rng();
    let created = Batch { queues_created: vec![QUEUE], ..Batch::default() };
    store.commit(created, Urgency::Now).expect("small");
    let mut last = Ticket(0);
    let mut next = 1;
    for _ in 0..4 {
        // One finds room in a frame, two do not.
        let (first, behind) = (next, next + rng.gen_range(1..=2_u64));
        next = behind;
        for seq in first..behind {
            last = store.commit(message(seq), Urgency::Now).expect("small");
        }
        if rng.gen_bool(0.5) && threads.write_inline() {
            count(&REACHED.inline, 1);
        } else {
            count(&REACHED.kicked, 1);
            store.kick();
        }
        let asked = rng.gen_bool(0.5);
        if asked {
            store.fetch(fetch(first, behind, last));
        }
        while store.confirmable() < last {
            assert!(store.failure().is_none(), "{:?}", store.failure());
            count(&REACHED.slept, 1);
            bell.wait(None);
        }
        for seq in first..behind {
            assert!(is_durable(&disk, seq), "promise broken: {seq} is confirmed before it is durable");
        }
        if asked {
            answers(&store, &bell, 1).iter().for_each(|answer| check(answer, first..=behind - 1));
        }
    }
    store.fetch(fetch(1, next, last));
    store.commit(acks(1, 2), Urgency::Now).expect("small");
    store.kick();
    answers(&store, &bell, 1).iter().for_each(|answer| check(answer, 3..=next - 1));
    watcher.join().expect("it keeps its promises");
    store.close(Vec::new());
    threads.join();
    assert!(store.failure().is_none(), "{:?}", store.failure());
}

/// Waits for so many answers.
fn answers(store: &Store, bell: &Bell, count: usize) -> Vec<Fetched> {
    let mut all = Vec::new();
    while all.len() < count {
        assert!(store.failure().is_none(), "{:?}", store.failure());
        all.extend(store.answers());
        if all.len() < count {
            bell.wait(None);
        }
    }
    all
}

/// Lets a worker go on until it is told to stop, with so many turns of the others between two steps.
fn go_on(
    stop: &Arc<AtomicBool>,
    turns: usize,
    mut step: impl FnMut(u64) -> Step + Send + 'static,
) -> shuttle::thread::JoinHandle<()> {
    let stop = Arc::clone(stop);
    shuttle::thread::spawn(move || {
        let mut now_ms = 0;
        while !stop.load(Ordering::Acquire) {
            now_ms += 5;
            step(now_ms);
            for _ in 0..=turns {
                shuttle::thread::yield_now();
            }
        }
    })
}

/// Messages are read from the log while they are settled, their segments recycled, and written anew.
fn read_and_recycle(control: Option<Control>) {
    let disk = SimDisk::default();
    let (mut store, workers) = open(&disk, control);
    let Workers { mut writer, mut reader, mut keeper, mut settler, .. } = workers;
    let created = Batch { queues_created: vec![QUEUE], ..Batch::default() };
    store.commit(created, Urgency::Now).expect("small");
    let last = (1..=4).map(|seq| store.commit(message(seq), Urgency::Now).expect("small")).last();
    let last = last.expect("four");
    while store.durable() < last {
        writer.step(0);
    }
    let stop = Arc::new(AtomicBool::new(false));
    // A read may take as long as all that the others do to a segment.
    let slow = if shuttle::rand::thread_rng().gen_bool(0.5) { 150 } else { 0 };
    count(&REACHED.slow_reads, u64::from(slow > 0));
    let threads = [
        go_on(&stop, 0, move |now_ms| writer.step(now_ms)),
        go_on(&stop, slow, move |_| reader.step()),
        go_on(&stop, 0, move |now_ms| keeper.step(now_ms)),
        go_on(&stop, 0, move |now_ms| settler.step(now_ms)),
    ];
    store.fetch(fetch(1, 5, last));
    let mut last = last;
    for seq in 5..=MESSAGES {
        last = store.commit(message(seq), Urgency::Now).expect("small");
        while store.durable() < last {
            assert!(store.failure().is_none(), "{:?}", store.failure());
            shuttle::thread::yield_now();
        }
    }
    store.fetch(fetch(1, MESSAGES + 1, last));
    let mut all = Vec::new();
    while all.len() < 2 {
        assert!(store.failure().is_none(), "{:?}", store.failure());
        all.extend(store.answers());
        shuttle::thread::yield_now();
    }
    stop.store(true, Ordering::Release);
    for thread in threads {
        thread.join().expect("no worker panics");
    }
    let stats = store.stats();
    count(&REACHED.rotations, stats.rotations_total);
    count(&REACHED.recycled, stats.recycled_total);
    count(&REACHED.settled, stats.settled_logs_total);
    check(&all[0], 1..=4);
    check(&all[1], 1..=MESSAGES);
    assert_eq!(store.unreadable(), 0, "promise broken: a message that lives cannot be read");
}

/// Two workers sync the directory, or the manifest, and the first such call fails: the system tells one of them, and
/// neither may take what it wrote for durable.
fn shared_syncs(_: Option<Control>) {
    let disk = SimDisk::default();
    let (store, workers) = open(&disk, None);
    drop(workers);
    let names = shuttle::rand::thread_rng().gen_bool(0.5);
    let (call, file) = if names { ("sync_dir", "") } else { ("sync", "MANIFEST") };
    disk.fail(call, file, Fails::With(std::io::ErrorKind::Other), 1);
    let workers = [100, 101].map(|id| {
        let shared = Arc::clone(&store.shared);
        let disk = disk.clone();
        shuttle::thread::spawn(move || {
            if names {
                disk.create(&format!("file-{id}"), 0).expect("made");
                return shared.sync_dir().is_ok();
            }
            let edit = Edit::SegmentRemoved { no: crate::ids::SegmentNo(1) };
            let written = shared.manifest.append(&[edit]);
            shared.manifest.sync().is_ok() && written.is_ok()
        })
    });
    for worker in workers {
        let ok = worker.join().expect("no panic");
        assert!(!ok, "promise broken: a sync that fails is taken for a success by somebody");
    }
}

#[test]
fn what_is_confirmed_is_durable_and_nobody_sleeps_through_it() {
    let floors = [
        ("writes by the owner itself", &REACHED.inline, 20),
        ("writes by the writer's thread", &REACHED.kicked, 150),
        ("sleeps of the owner", &REACHED.slept, 100),
    ];
    explore_sound("hand_over", hand_over, &floors);
}

#[test]
fn what_is_read_is_not_recycled() {
    let floors = [
        ("rotations", &REACHED.rotations, 300),
        ("recycled segments", &REACHED.recycled, 100),
        ("settled segments", &REACHED.settled, 100),
        ("slow readers", &REACHED.slow_reads, 30),
    ];
    explore_sound("read_and_recycle", read_and_recycle, &floors);
}

#[test]
fn a_failed_sync_is_a_failure_for_everybody() {
    explore_sound("shared_syncs", shared_syncs, &[]);
}

#[test]
fn deliberate_bugs_show_in_some_schedule() {
    explore_with(Control::ConfirmBeforeSync, hand_over, "is confirmed before it is durable");
    explore_with(Control::RecycleUnderReader, read_and_recycle, "promise broken: ");
}

#[test]
fn a_bell_that_rings_before_anybody_waits_is_heard() {
    let ring_and_wait = |_: Option<Control>| {
        let bell = Arc::new(Bell::default());
        let rings = Arc::clone(&bell);
        let ringer = shuttle::thread::spawn(move || rings.ring());
        bell.wait(Some(RealDuration::from_secs(1)));
        ringer.join().expect("no panic");
    };
    explore(1, 100, ring_and_wait, None);
}
