//! One seed's world: lives of the server, one after another, on one disk.

use std::sync::Arc;

use fastrand::Rng;
use leveret_broker::{Effect, Input, NameKey};
use leveret_engine::{CrashPlan, Disk, Error, Fsync, Settings, SimDisk, Step, Store, Workers};
use leveret_server::host::Host;

use super::bodies::Bodies;
use super::bug::Bug;
use super::clients::Clients;
use super::features::Features;
use super::grpc::Grpc;
use super::judging::refused;
use super::reached::Reached;
use super::wire::{self, Wires};
use crate::checker::{Checker, Violation};
use crate::history::{Event, Recorder};

/// What a seed came to.
#[derive(Debug)]
pub struct Outcome {
    /// The broken invariant, if one was.
    pub violation: Option<Violation>,
    /// What it reached.
    pub reached: Reached,
    /// Hash over every call to the disk and every effect.
    pub trace: u64,
}

/// A seed's world.
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) disk: SimDisk,
    pub(super) settings: Settings,
    /// A deliberate bug of the core.
    pub(super) control: Option<leveret_broker::Control>,
    pub(super) memory_bytes: u64,
    /// Only with fsync=always does a power loss keep what was confirmed.
    power_may_fail: bool,
    pub(super) recorder: Recorder,
    pub(super) checker: Checker,
    pub(super) clients: Clients,
    /// Clients that speak AMQP, in some seeds.
    pub(super) wires: Option<Wires>,
    /// Clients that speak gRPC, in some seeds.
    pub(super) grpc: Option<Grpc>,
    pub(super) reached: Reached,
    pub(super) wall_ms: u64,
    pub(super) worker_ms: u64,
    /// Somebody else fills the disk now and then, and makes room.
    crowded: bool,
    /// A worker that hardly gets on in this life, so that the others overtake it.
    slow: Option<Worker>,
    trace: u64,
    /// What the core told its operator to be lost.
    pub(super) lost: Option<String>,
    /// What was listed and delivered, where that is asked for.
    pub(super) found: Option<Vec<Event>>,
}

/// The store's workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worker {
    Writer,
    Reader,
    Keeper,
    Settler,
    Scrub,
    Blobs,
}

/// A running server.
pub(super) struct Life {
    pub(super) host: Host,
    pub(super) workers: Workers,
    /// On their way to the core.
    pub(super) inputs: std::collections::VecDeque<Input>,
    /// Behind large bodies.
    bodies: Bodies,
    /// On their way to the clients.
    effects: std::collections::VecDeque<Effect>,
}

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Crashed,
    Stopped,
}

/// Runs one seed, with a deliberate bug if asked for.
pub fn run(seed: u64, bug: Option<Bug>) -> Outcome {
    let mut world = World::new(seed, bug);
    let violation = world.play().err();
    world.reached.seen = world.checker.counts();
    world.reached.commits = world.clients.commits;
    world.reached.rollbacks = world.clients.rollbacks;
    Outcome { violation, reached: world.reached, trace: world.trace ^ world.disk.stats().trace }
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut rng = Rng::with_seed(seed);
        let fsync = match rng.u8(..12) {
            0 => Fsync::Interval { ms: 30 },
            1 => Fsync::Never,
            _ => Fsync::Always,
        };
        let crowded = rng.u8(..4) == 0;
        let settings = Settings {
            fsync,
            segment_bytes: 16384 * rng.u64(2..6),
            frame_bytes_max: 4096 * rng.u64(1..4),
            checkpoint_bytes: 16384 * rng.u64(1..4),
            spares: rng.usize(0..3),
            log_budget_bytes: 32768 * rng.u64(0..6),
            settle_strip_bytes: *rng.choice(&[3_000, 50_000, 1 << 20]).unwrap_or(&3_000),
            extents_joined: *rng.choice(&[1, 1 << 16]).unwrap_or(&1),
            extents_crowded: *rng.choice(&[1, 1 << 20]).unwrap_or(&1),
            settled_bytes: *rng.choice(&[20_000, 200_000, 1 << 20]).unwrap_or(&20_000),
            blob_bytes_min: *rng
                .choice(&[80, 300, 1_500, 6_000, u64::MAX, u64::MAX, u64::MAX])
                .unwrap_or(&300),
            blob_file_bytes: 4096 * rng.u64(2..8),
            idle_checkpoint_ms: 300,
            scrub_bytes_per_s: 10 << 20,
            scrub_pass_ms: 30,
            disk_low_bytes: if crowded { 100_000 } else { 0 },
            // Not drawn, so that the seeds stay what they were.
            zeros_ahead_bytes: if seed.is_multiple_of(2) { 65_536 } else { 0 },
            large_frame_bytes: if seed.is_multiple_of(3) { 4096 } else { u64::MAX },
            new_store_id: seed | 1,
            control: bug.and_then(Bug::of_engine),
            ..Settings::default()
        };
        let mut world = Self::of(SimDisk::default(), settings, rng);
        world.control = bug.and_then(Bug::of_core);
        world.memory_bytes = *world.rng.choice(&[2_000, 20_000, 10_000_000]).unwrap_or(&2_000);
        world.power_may_fail = fsync == Fsync::Always;
        world.crowded = crowded;
        let features = Features::of(seed);
        world.clients.kinds = features.kinds;
        world.wires = features.wires.then(|| Wires::new(world.recorder.clone(), seed, features.kinds));
        world.grpc = features.grpc.then(|| Grpc::new(world.recorder.clone(), seed));
        world
    }

    /// A world in which nothing has happened yet.
    pub(super) fn of(disk: SimDisk, settings: Settings, rng: Rng) -> Self {
        let recorder = Recorder::default();
        Self {
            disk,
            settings,
            control: None,
            memory_bytes: 20_000,
            power_may_fail: true,
            clients: Clients::new(recorder.clone()),
            wires: None,
            grpc: None,
            recorder,
            checker: Checker::new(),
            reached: Reached { seeds: 1, ..Reached::default() },
            wall_ms: 1_700_000_000_000,
            worker_ms: 0,
            slow: None,
            crowded: false,
            trace: 0xcbf2_9ce4_8422_2325,
            lost: None,
            found: None,
            rng,
        }
    }

    fn play(&mut self) -> Result<(), Violation> {
        let lives = self.rng.u32(3..6);
        for _ in 0..lives {
            let mut life = self.start(true)?;
            self.inspect(&mut life)?;
            // A read that takes long meets most of what may go wrong.
            let reads = [Worker::Reader; 3];
            let others = [Worker::Writer, Worker::Keeper, Worker::Settler, Worker::Scrub, Worker::Blobs];
            let slow: Vec<Worker> = reads.into_iter().chain(others).collect();
            self.slow = if self.rng.bool() { self.rng.choice(slow) } else { None };
            let planned = self.rng.u8(..5) > 0;
            if planned {
                let calls = if self.rng.bool() { 60 } else { 500 };
                self.disk.plan(CrashPlan::AtCall(self.disk.stats().calls + self.rng.u64(1..calls)));
            }
            match self.serve(&mut life)? {
                End::Crashed => self.crash(life),
                End::Stopped => self.stop(life),
            }
            self.recorder.record(Event::Crash);
            self.clients.forget();
            self.wires.iter_mut().for_each(Wires::forget);
            self.grpc.iter_mut().for_each(Grpc::forget);
            self.judge()?;
        }
        let mut life = self.start(false)?;
        self.slow = None;
        self.inspect(&mut life)?;
        self.drain(&mut life)?;
        self.all_is_readable(&life)
    }

    /// Opens the store, with crashes inside the recovery up to a few times in a row.
    pub(super) fn start(&mut self, may_crash: bool) -> Result<Life, Violation> {
        let mut crashes = 0;
        loop {
            if may_crash && crashes < 3 && self.rng.u8(..3) == 0 {
                self.disk.plan(CrashPlan::AtCall(self.disk.stats().calls + self.rng.u64(1..30)));
            }
            let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
            match Store::open(&disk, self.settings.clone()) {
                Ok((store, workers, recovered)) => {
                    self.disk.plan(CrashPlan::Never);
                    let report = &recovered.report;
                    if std::env::var_os("LEVERET_SIM_TRACE").is_some() {
                        eprintln!("opened: {report:?} {:?}", recovered.queues);
                    }
                    if !report.damaged.is_empty() || !report.lost.is_empty() {
                        return Err(refused(&format!("{:?}, lost {:?}", report.damaged, report.lost)));
                    }
                    self.reached.cuts += u64::from(recovered.report.cut.is_some());
                    self.reached.frames_copied += recovered.report.frames_copied;
                    let settings = leveret_broker::Settings {
                        memory_budget_bytes: self.memory_bytes,
                        message_bytes_max: 1 << 20,
                        append_bytes_max: u64::MAX,
                        name_key: name_key(self.rng.fork()),
                    };
                    let host = Host::new(settings, store, recovered, self.wall_ms);
                    let mut host = host.map_err(|e| refused(&e.to_string()))?;
                    self.control.into_iter().for_each(|control| host.switch_on(control));
                    if (self.wires.is_some() || self.grpc.is_some()) && !host.defaults_made() {
                        host.turn([wire::defaults()], self.wall_ms, &mut Vec::new());
                    }
                    let bodies = Bodies::default();
                    return Ok(Life { host, workers, inputs: [].into(), bodies, effects: [].into() });
                }
                Err(error) if self.disk.crashed() => {
                    drop(error);
                    crashes += 1;
                    self.reached.crashes_in_recovery += 1;
                    self.lose();
                }
                Err(Error::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::StorageFull && self.reserve() == 0 =>
                {
                    self.disk.resize(u64::MAX);
                }
                Err(error @ (Error::Damage { .. } | Error::Io { .. })) => {
                    return Err(refused(&error.to_string()));
                }
                Err(error) => return Err(refused(&format!("unexpected: {error}"))),
            }
        }
    }

    fn serve(&mut self, life: &mut Life) -> Result<End, Violation> {
        self.clients.begin(life, &mut self.rng);
        self.grpc.iter_mut().for_each(|grpc| grpc.begin(&life.host));
        let steps = self.rng.u32(200..1500);
        for _ in 0..steps {
            if self.crowded && self.rng.u8(..60) == 0 {
                self.fill_or_empty();
            }
            // Also when only a read has met the crash so far: nobody lives on to tell of it.
            if self.disk.crashed() || life.host.failure().is_some() {
                return Ok(End::Crashed);
            }
            self.step(life);
            self.judge()?;
            self.all_is_readable(life)?;
        }
        if self.rng.u8(..3) > 0 {
            return Ok(End::Crashed);
        }
        Ok(self.close(life))
    }

    /// A clean close, as far as the disk lets it come.
    pub(super) fn close(&mut self, life: &mut Life) -> End {
        life.host.close();
        for step in 0..10_000 {
            if step == 5_000 {
                // What was accepted waits for room.
                self.disk.resize(u64::MAX);
            }
            if self.disk.crashed() || life.host.failure().is_some() {
                return End::Crashed;
            }
            self.worker_ms += 1;
            life.workers.writer.step(self.worker_ms);
            life.workers.reader.step();
            life.workers.spiller.step(self.worker_ms);
            if life.workers.keeper.step(self.worker_ms) == Step::Done && life.host.failure().is_none() {
                return End::Stopped;
            }
        }
        panic!("a clean close came to no end");
    }

    /// Pieces of the store's reserve.
    fn reserve(&self) -> usize {
        self.disk.names().iter().filter(|(name, _)| name.starts_with("reserve-")).count()
    }

    /// Somebody else fills the disk, or makes room.
    fn fill_or_empty(&mut self) {
        let room = if self.rng.bool() { 0 } else { self.rng.u64(..200_000) };
        let full = self.rng.u8(..3) > 0;
        self.disk.resize(if full { self.disk.used() + room } else { u64::MAX });
    }

    fn step(&mut self, life: &mut Life) {
        if let Some(wires) = &mut self.wires {
            wires.act(life, self.worker_ms, &mut self.reached);
        }
        if let Some(grpc) = &mut self.grpc {
            grpc.act((self.worker_ms, self.wall_ms), &mut self.reached);
        }
        match self.rng.u8(..20) {
            0..5 => {
                self.reached.operations += 1;
                self.clients.act(life, &mut self.rng, &mut self.reached);
            }
            5..8 => self.turn(life),
            8..12 if self.gets_on(Worker::Writer) => drop(life.workers.writer.step(self.worker_ms)),
            12 if self.gets_on(Worker::Reader) => drop(life.workers.reader.step()),
            13 if self.gets_on(Worker::Keeper) => drop(life.workers.keeper.step(self.worker_ms)),
            14 if self.gets_on(Worker::Settler) => drop(life.workers.settler.step(self.worker_ms)),
            15 if self.gets_on(Worker::Scrub) => drop(life.workers.scrub.step(self.worker_ms)),
            16..18 if self.gets_on(Worker::Blobs) => {
                // A body takes a few of them.
                for _ in 0..self.rng.u8(1..8) {
                    life.workers.blobs.step(self.worker_ms);
                }
            }
            8..18 => {}
            18 => {
                let ms = self.rng.u64(..40);
                self.worker_ms += ms;
                // The wall clock may jump either way.
                self.wall_ms = match self.rng.u8(..50) {
                    0 => self.wall_ms - 5_000,
                    1 => self.wall_ms + 3_600_000,
                    _ => self.wall_ms + ms,
                };
            }
            _ => {
                self.pass_effects(life);
                // Beside the others: it shares nothing with them that is durable, and their odds stay as they are.
                life.workers.spiller.step(self.worker_ms);
            }
        }
    }

    fn gets_on(&mut self, worker: Worker) -> bool {
        self.slow != Some(worker) || self.rng.u8(..if worker == Worker::Writer { 80 } else { 24 }) == 0
    }

    /// One turn of the host, with some of what waits.
    pub(super) fn turn(&mut self, life: &mut Life) {
        let count = self.rng.usize(0..=life.inputs.len());
        let inputs: Vec<Input> = life.inputs.drain(..count).collect();
        let mut inputs = life.bodies.pass(&life.host.store().blobs(), inputs);
        // These have their large bodies written themselves.
        inputs.extend(self.grpc.iter_mut().flat_map(Grpc::inputs));
        let tracing = std::env::var_os("LEVERET_SIM_TRACE").is_some();
        if tracing {
            inputs.iter().for_each(|input| eprintln!("  -> {input:?}"));
        }
        let mut effects = Vec::new();
        life.host.turn(inputs, self.wall_ms, &mut effects);
        if life.host.failure().is_some() {
            return;
        }
        self.grpc.iter_mut().for_each(|grpc| grpc.after_turn(&life.host));
        if tracing {
            effects.iter().for_each(|effect| eprintln!("  <- {effect:?}"));
        }
        self.note_losses(&effects);
        for effect in &effects {
            for byte in format!("{effect:?}").bytes() {
                self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        life.effects.extend(effects);
    }

    /// Some of what is on its way to the clients arrives.
    pub(super) fn pass_effects(&mut self, life: &mut Life) {
        let count = self.rng.usize(0..=life.effects.len());
        let effects: Vec<Effect> = life.effects.drain(..count).collect();
        for effect in effects {
            let others = match &mut self.grpc {
                Some(grpc) => grpc.receive(effect),
                None => Some(effect),
            };
            let others = match &mut self.wires {
                Some(wires) => others.and_then(|effect| wires.receive(effect)),
                None => others,
            };
            others.into_iter().for_each(|effect| self.clients.receive(effect, life));
        }
        self.grpc.iter_mut().for_each(Grpc::flush);
    }

    /// Runs until nothing is under way, without a crash.
    pub(super) fn settle_down(&mut self, life: &mut Life) {
        for _ in 0..20_000 {
            let before = (life.inputs.len(), life.effects.len());
            let inputs: Vec<Input> = life.inputs.drain(..).collect();
            let inputs = life.bodies.pass(&life.host.store().blobs(), inputs);
            let mut effects = Vec::new();
            life.host.turn(inputs, self.wall_ms, &mut effects);
            self.note_losses(&effects);
            life.effects.extend(effects);
            self.worker_ms += 1;
            let busy = life.workers.writer.step(self.worker_ms) == Step::Worked
                || life.workers.reader.step() == Step::Worked
                || life.workers.keeper.step(self.worker_ms) == Step::Worked
                || life.workers.settler.step(self.worker_ms) == Step::Worked
                || life.workers.spiller.step(self.worker_ms) == Step::Worked
                || life.workers.blobs.step(self.worker_ms) == Step::Worked
                || !life.bodies.is_empty();
            life.workers.scrub.step(self.worker_ms);
            let effects: Vec<Effect> = life.effects.drain(..).collect();
            for effect in effects {
                self.clients.receive(effect, life);
            }
            if before == (0, 0) && !busy && life.inputs.is_empty() && self.clients.waits_for_nothing() {
                return;
            }
        }
    }

    fn count(&mut self, life: &Life) {
        self.reached.count(&life.host.store().stats());
    }

    pub(super) fn crash(&mut self, life: Life) {
        self.count(&life);
        drop(life);
        self.reached.crashes += 1;
        self.lose();
    }

    /// The power is lost, and with it all that is not durable.
    pub(super) fn crash_hard(&mut self, life: Life) {
        self.count(&life);
        drop(life);
        self.disk.lose_power(|| false);
    }

    pub(super) fn stop(&mut self, life: Life) {
        self.count(&life);
        drop(life);
        self.reached.clean_stops += 1;
        self.disk.kill();
    }

    /// The process is gone, or the machine.
    fn lose(&mut self) {
        if !self.power_may_fail || self.rng.u8(..3) == 0 {
            self.disk.kill();
            return;
        }
        let mut rng = self.rng.fork();
        let odds = rng.u8(0..=10);
        self.disk.lose_power(|| rng.u8(0..10) < odds);
    }
}

fn name_key(mut rng: Rng) -> NameKey {
    let mut key = [0; NameKey::BYTES];
    rng.fill(&mut key);
    NameKey::new(key)
}
