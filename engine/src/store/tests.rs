//! The engine on a simulated disk against an obvious model, with crashes anywhere, in recovery too. What survives
//! must be a prefix of the commits, at least as long as what was confirmable.

mod bodies;
mod cut_off;
mod failing;
mod full;
mod policies;
mod pressure;
mod reads;
mod settling;
mod spares;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use super::*;
use crate::disk::{CrashPlan, SimDisk};
use crate::settings::Fsync;
use crate::{Payload, Put, Step};
use bodies::Bodies;

/// What a store holds, as its owner sees it.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    facts: BTreeMap<Bytes, Bytes>,
    queues: BTreeMap<QueueId, ModelQueue>,
    next_queue: u64,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct ModelQueue {
    next: u64,
    live: BTreeMap<u64, Bytes>,
}

struct World {
    rng: Rng,
    disk: SimDisk,
    settings: Settings,
    /// After each commit of this life; the first is what was recovered.
    history: Vec<Model>,
    /// Places given out, transient ones included.
    given: BTreeMap<QueueId, u64>,
    store: Option<(Store, Workers)>,
    /// Every payload that was put at a place in this life or recovered at its start.
    put: BTreeMap<(QueueId, u64), Bytes>,
    /// Bodies that were written, or come back with a fetch: messages may be put with them.
    bodies: Bodies,
    now_ms: u64,
    counts: Counts,
}

/// What a run reached: a run that reached nothing proves nothing.
#[derive(Debug, Default)]
struct Counts {
    commits: u64,
    crashes: u64,
    crashes_in_recovery: u64,
    rotations: u64,
    checkpoints: u64,
    recycled: u64,
    cuts: u64,
    copied: u64,
    fetched: u64,
    clean: u64,
    settled: u64,
    merged: u64,
    removed: u64,
    fetched_under_way: u64,
    /// Opens and whole lives on a disk without room, and what was found to be full.
    opened_full: u64,
    found_full: u64,
    blobs: u64,
    blob_puts: u64,
    blob_files_removed: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let settings = Settings {
            fsync: match rng.u8(..10) {
                0 => Fsync::Never,
                1 => Fsync::Interval { ms: 20 },
                _ => Fsync::Always,
            },
            segment_bytes: 16384 * rng.u64(3..6),
            frame_bytes_max: 8192,
            checkpoint_bytes: 16384 * rng.u64(1..4),
            spares: rng.usize(0..4),
            log_budget_bytes: 49152 * rng.u64(0..6),
            settle_strip_bytes: *rng.choice(&[2_000, 20_000, 1 << 20]).expect("three"),
            extents_joined: *rng.choice(&[1, 1 << 16]).expect("two"),
            extents_crowded: *rng.choice(&[1, 1 << 20]).expect("two"),
            settled_bytes: *rng.choice(&[10_000, 100_000, 1 << 20]).expect("three"),
            blob_bytes_min: 1,
            blob_file_bytes: 4096 * rng.u64(1..8),
            idle_checkpoint_ms: 200,
            new_store_id: seed | 1,
            ..Settings::default()
        };
        let model = Model { next_queue: 1, ..Model::default() };
        let disk = SimDisk::default();
        let (history, given) = (vec![model], BTreeMap::new());
        let (put, counts) = (BTreeMap::new(), Counts::default());
        Self {
            rng,
            disk,
            settings,
            history,
            given,
            store: None,
            put,
            bodies: Bodies::default(),
            now_ms: 0,
            counts,
        }
    }

    fn model(&mut self) -> Model {
        self.history.last().expect("never empty").clone()
    }

    /// Opens the store, crashing in it now and then, and checks what it holds.
    ///
    /// `lowest`: commits that survive the last crash, and those that survive a power loss on top of it.
    fn open(&mut self, (mut lowest, durable): (usize, usize)) {
        loop {
            if self.rng.u8(..4) == 0 {
                self.disk.plan(CrashPlan::AtCall(self.disk.stats().calls + self.rng.u64(1..40)));
            }
            let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
            match Store::open(&disk, self.settings.clone()) {
                Ok((store, workers, recovered)) => {
                    self.counts.cuts += u64::from(recovered.report.cut.is_some());
                    self.counts.copied += recovered.report.frames_copied;
                    self.counts.clean += u64::from(recovered.report.clean);
                    self.store = Some((store, workers));
                    self.counts.opened_full +=
                        u64::from(self.disk.free_space().is_ok_and(|free| free < 50_000));
                    match self.read_back(&recovered) {
                        Some(found) => return self.accept(found, lowest, &recovered),
                        None => lowest = if self.crash_now() { durable } else { lowest },
                    }
                }
                Err(error) if error.is_full() && !self.disk.crashed() => {
                    let pieces = self.disk.names().iter().filter(|(name, _)| name.ends_with(".spc")).count();
                    assert_eq!(
                        pieces, 0,
                        "an open failed on a full disk and left the reserve alone: {error}"
                    );
                    self.disk.resize(u64::MAX);
                    continue;
                }
                Err(error) => {
                    assert!(self.disk.crashed(), "open failed without a crash: {error}");
                    lowest = if self.crash_now() { durable } else { lowest };
                }
            }
            self.counts.crashes_in_recovery += 1;
        }
    }

    /// Everything the store holds, fetched; None if the disk crashed meanwhile.
    fn read_back(&mut self, recovered: &Recovered) -> Option<Model> {
        let mut model = Model { next_queue: recovered.next_queue.0, ..Model::default() };
        model.facts.extend(recovered.facts.iter().cloned());
        for queue in &recovered.queues {
            let live = self.fetch_all(queue.queue, queue.next)?;
            assert_eq!(live.len() as u64, queue.live, "count of queue {}", queue.queue);
            model.queues.insert(queue.queue, ModelQueue { next: queue.next.0, live });
        }
        Some(model)
    }

    /// What was found must be one of the states since the last confirmable one.
    fn accept(&mut self, found: Model, lowest: usize, recovered: &Recovered) {
        let at = self.history.iter().skip(lowest).position(|model| *model == found);
        if at.is_none() {
            panic!(
                "recovered what is no state from commit {lowest} to {}; {:?}\nfound {}\nleast {}\nnewest {}",
                self.history.len() - 1,
                recovered.report,
                brief(&found),
                brief(&self.history[lowest]),
                brief(self.history.last().expect("never empty"))
            );
        }
        for queue in &recovered.queues {
            if !recovered.report.clean {
                assert_eq!(queue.redelivered_below, queue.next, "E10");
            }
            self.given.insert(queue.queue, queue.next.0);
        }
        assert!(recovered.report.damaged.is_empty() && recovered.report.lost.is_empty(), "{recovered:?}");
        self.put.clear();
        for (id, queue) in &found.queues {
            self.put.extend(queue.live.iter().map(|(seq, body)| ((*id, *seq), body.clone())));
        }
        self.history = vec![found];
    }

    /// Says whether the power was lost.
    fn crash_now(&mut self) -> bool {
        self.store = None;
        lock(&self.bodies).clear();
        self.counts.crashes += 1;
        let power = self.rng.u8(..3) > 0;
        if !power {
            self.disk.kill();
        } else {
            let mut rng = self.rng.fork();
            let odds = rng.u8(0..=10);
            self.disk.lose_power(|| rng.u8(0..10) < odds);
        }
        power
    }

    fn commit(&mut self) {
        let mut model = self.model();
        let mut batch = Batch::default();
        let ids: Vec<QueueId> = model.queues.keys().copied().collect();
        if ids.len() < 2 || (ids.len() < 6 && self.rng.u8(..20) == 0) {
            let id = QueueId(model.next_queue);
            model.next_queue += 1;
            model.queues.insert(id, ModelQueue { next: 1, live: BTreeMap::new() });
            self.given.insert(id, 1);
            batch.queues_created.push(id);
        }
        let ids: Vec<QueueId> = model.queues.keys().copied().collect();
        for _ in 0..self.rng.u8(0..4) {
            let mut targets = BTreeSet::new();
            for _ in 0..self.rng.u8(1..4) {
                targets.insert(ids[self.rng.usize(..ids.len())]);
            }
            let length = match self.rng.u8(..12) {
                0 => self.rng.usize(8000..14000),
                1..4 => self.rng.usize(500..3000),
                _ => self.rng.usize(0..80),
            };
            let mut body = vec![0; length];
            self.rng.fill(&mut body);
            let body = Bytes::from(body);
            let mut put = Put {
                targets: Vec::new(),
                payload: Payload { head: body.slice(..length / 3), body: body.slice(length / 3..) },
                blob: None,
            };
            let mut body = body;
            if self.rng.u8(..3) == 0
                && let Some((blob, large)) = self.take_body()
            {
                // The record holds a head, the blob file the rest.
                put.payload.body = Bytes::new();
                body = [&put.payload.head[..], &large].concat().into();
                put.blob = Some(blob);
                self.counts.blob_puts += 1;
            }
            for id in targets {
                let given = self.given.get_mut(&id).expect("given out before");
                // Transient messages take places that are never logged.
                *given += if self.rng.u8(..4) == 0 { self.rng.u64(1..4) } else { 0 };
                let queue = model.queues.get_mut(&id).expect("listed");
                queue.live.insert(*given, body.clone());
                self.put.insert((id, *given), body.clone());
                put.targets.push((id, Seq(*given)));
                *given += 1;
                queue.next = *given;
            }
            batch.puts.push(put);
        }
        if self.rng.bool() {
            let id = ids[self.rng.usize(..ids.len())];
            let queue = model.queues.get_mut(&id).expect("listed");
            let first = if self.rng.u8(..3) > 0 {
                queue.live.keys().next().copied().unwrap_or(1)
            } else {
                self.rng.u64(1..=queue.next)
            };
            let last = first + self.rng.u64(0..12);
            queue.live.retain(|seq, _| *seq < first || *seq > last);
            batch.acks.push((id, Seq(first), Seq(last)));
        }
        if self.rng.u8(..6) == 0 {
            let key = Bytes::from(vec![self.rng.u8(..5)]);
            let value = self.rng.bool().then(|| Bytes::from(vec![self.rng.u8(..); 9]));
            match &value {
                Some(value) => drop(model.facts.insert(key.clone(), value.clone())),
                None => drop(model.facts.remove(&key)),
            }
            batch.facts.push((key, value));
        }
        if self.rng.u8(..40) == 0 {
            let id = ids[self.rng.usize(..ids.len())];
            model.queues.remove(&id);
            self.given.remove(&id);
            batch.queues_deleted.push(id);
        }
        let urgency = if self.rng.u8(..4) == 0 { Urgency::Lazy } else { Urgency::Now };
        let (store, _) = self.store.as_mut().expect("open");
        let ticket = store.commit(batch, urgency).expect("small batches");
        assert_eq!(ticket.0 as usize, self.history.len(), "tickets count commits");
        self.history.push(model);
        self.counts.commits += 1;
    }

    /// Somebody else fills the disk, or makes room.
    fn fill_or_empty(&mut self) {
        let used: u64 = self.disk.used();
        let room = if self.rng.bool() { 0 } else { self.rng.u64(..100_000) };
        self.disk.resize(if self.rng.u8(..3) > 0 { used + room } else { u64::MAX });
    }

    /// Runs until a crash or a clean close; says how many commits must have survived.
    fn live(&mut self) -> (usize, usize) {
        if self.rng.u8(..8) > 0 {
            self.disk.plan(CrashPlan::AtCall(self.disk.stats().calls + self.rng.u64(1..400)));
        }
        let mut budget = self.rng.u32(50..400);
        let closing = self.rng.u8(..4) == 0;
        let lowest = loop {
            if self.rng.u8(..60) == 0 {
                self.fill_or_empty();
            }
            let (store, workers) = self.store.as_mut().expect("open");
            if store.failure().is_some() || self.disk.crashed() {
                assert!(self.disk.crashed(), "a full disk is no failure: {:?}", store.failure());
                break store.confirmable();
            }
            budget -= 1;
            if budget == 0 && !closing {
                break store.confirmable();
            }
            if budget == 0 {
                store.close(Vec::new());
                let (mut done, mut steps) = (false, 0);
                while !done && store.failure().is_none() {
                    self.now_ms += 1;
                    workers.writer.step(self.now_ms);
                    done = workers.keeper.step(self.now_ms) == Step::Done;
                    steps += 1;
                    if steps == 5_000 {
                        // What was committed waits for room.
                        self.disk.resize(u64::MAX);
                    }
                }
                break if store.failure().is_none() {
                    Ticket(self.history.len() as u64 - 1)
                } else {
                    store.confirmable()
                };
            }
            self.now_ms += u64::from(self.rng.u8(..8) == 0) * self.rng.u64(1..120);
            let choice = self.rng.u8(..20);
            match choice {
                0..3 => self.commit(),
                3..7 => drop(workers.writer.step(self.now_ms)),
                7 => self.fetch_some(),
                8 => drop(workers.reader.step()),
                9..11 => drop(workers.keeper.step(self.now_ms)),
                11..14 => drop(workers.blobs.step(self.now_ms)),
                14 => self.write_body(),
                _ => drop(workers.settler.step(self.now_ms)),
            }
            self.look_at_answers();
        };
        let stats = self.store.as_ref().map(|(store, _)| store.stats()).unwrap_or_default();
        self.counts.found_full += stats.out_of_space_total;
        self.counts.rotations += stats.rotations_total;
        self.counts.checkpoints += stats.checkpoints_total;
        self.counts.recycled += stats.recycled_total;
        self.counts.settled += stats.settled_logs_total;
        self.counts.merged += u64::from(stats.merge_bytes_total > 0);
        self.counts.removed += stats.settled_removed_total;
        self.counts.blobs += stats.blobs_total;
        self.counts.blob_files_removed += stats.blob_files_removed_total;
        let durable = stats.durable;
        let lowest = if self.crash_now() { durable } else { lowest };
        (lowest.0 as usize, durable.0 as usize)
    }
}

fn brief(model: &Model) -> String {
    let queue = |(id, queue): (&QueueId, &ModelQueue)| {
        format!("q{id} next {} live {:?}; ", queue.next, queue.live.keys().collect::<Vec<_>>())
    };
    format!(
        "{} facts {:?}; next queue {}",
        model.queues.iter().map(queue).collect::<String>(),
        model.facts,
        model.next_queue
    )
}

fn run(seed: u64) -> Counts {
    let mut world = World::new(seed);
    let mut lowest = (0, 0);
    for _ in 0..6 {
        world.open(lowest);
        lowest = world.live();
    }
    world.disk.plan(CrashPlan::Never);
    world.open(lowest);
    world.counts
}

fn run_many(seeds: std::ops::Range<u64>) -> Counts {
    let mut sum = Counts::default();
    for seed in seeds {
        let result = std::panic::catch_unwind(|| run(seed));
        let counts = result.unwrap_or_else(|_| panic!("seed {seed} failed"));
        sum.commits += counts.commits;
        sum.crashes += counts.crashes;
        sum.crashes_in_recovery += counts.crashes_in_recovery;
        sum.rotations += counts.rotations;
        sum.checkpoints += counts.checkpoints;
        sum.recycled += counts.recycled;
        sum.cuts += counts.cuts;
        sum.copied += counts.copied;
        sum.fetched += counts.fetched;
        sum.clean += counts.clean;
        sum.settled += counts.settled;
        sum.merged += counts.merged;
        sum.removed += counts.removed;
        sum.fetched_under_way += counts.fetched_under_way;
        sum.opened_full += counts.opened_full;
        sum.found_full += counts.found_full;
        bodies::add(&mut sum, &counts);
    }
    sum
}

#[test]
fn what_survives_is_a_prefix_at_least_as_long_as_what_was_confirmed() {
    let seeds = std::env::var("LEVERET_ENGINE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let from = std::env::var("LEVERET_ENGINE_FROM").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let counts = run_many(from..from + seeds);
    eprintln!("{seeds} seeds: {counts:?}");
    assert!(counts.commits > seeds * 50, "{counts:?}");
    assert!(counts.crashes_in_recovery > seeds / 5, "{counts:?}");
    assert!(
        counts.rotations > seeds && counts.checkpoints > seeds && counts.recycled > seeds / 4,
        "{counts:?}"
    );
    assert!(counts.cuts > seeds / 10 && counts.copied > seeds / 10 && counts.clean > 0, "{counts:?}");
    assert!(
        counts.settled > seeds && counts.removed > seeds / 10 && counts.merged > seeds / 20,
        "{counts:?}"
    );
    assert!(counts.fetched_under_way > seeds, "{counts:?}");
    assert!(counts.opened_full > seeds / 4 && counts.found_full > seeds, "{counts:?}");
    bodies::check(&counts, seeds);
}

#[test]
fn the_same_seed_makes_the_same_calls() {
    for seed in 0..50 {
        let trace = |seed| {
            let mut world = World::new(seed);
            world.open((0, 0));
            let lowest = world.live();
            world.open(lowest);
            world.disk.stats().trace
        };
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
}
