//! The run: cycles of load and kills, drains, and the verdict.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fastrand::Rng;
use leveret_proto::v1::StatusRequest;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::amqp as over_amqp;
use super::churn::{self, Churn};
use super::consumers::{self, Habit, Job};
use super::death::{self, Death, Reaper};
use super::line::{Line, Over};
use super::message::Target;
use super::report::Report;
use super::world::{FAN_A, FAN_B, Outcome, WORK, World};
use super::{drain, evidence, getter, publishers};
use crate::amqp::Connection;
use crate::checker::{Checker, Violation};
use crate::client::Client;
use crate::history::{Event, Share};
use crate::server::{Home, Options, Server, tail};

/// How long a run may wait for its confirms, and for its workers to notice a kill.
const PATIENCE: Duration = Duration::from_secs(60);

/// Part of the line that a server writes when its recovery is done.
const SERVING_LINE: &str = "leveret is serving";

/// Which front ends the workers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// All of them gRPC.
    Grpc,
    /// All of them AMQP, but for the atomic batches, the listings and the drains; and with them transactions and dead
    /// letters.
    Amqp,
    /// Each worker either, anew in every cycle; and transactions and dead letters over AMQP.
    Mixed,
}

impl Protocol {
    fn choose(self, rng: &mut Rng) -> Over {
        match self {
            Self::Grpc => Over::Grpc,
            Self::Amqp => Over::Amqp,
            Self::Mixed if rng.bool() => Over::Amqp,
            Self::Mixed => Over::Grpc,
        }
    }
}

/// A run's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Cycles that must be reached.
    pub cycles: u64,
    /// Decides delays, sizes and habits; the server's timing stays its own.
    pub seed: u64,
    /// Confirms before each kill.
    pub confirms_min: u64,
    /// Cycles between two complete drains.
    pub drain_every: u64,
    /// The workers' front ends.
    pub protocol: Protocol,
    /// How the servers end.
    pub death: Death,
    /// The server's.
    pub options: Options,
}

impl Settings {
    /// A run of so many cycles.
    pub fn new(cycles: u64, seed: u64) -> Self {
        let (protocol, options) = (Protocol::Grpc, Options::default());
        Self { cycles, seed, confirms_min: 500, drain_every: 5, protocol, death: Death::Kill, options }
    }
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The checker's verdict.
    #[error("{0}")]
    Violation(#[from] Violation),
    /// A worker saw what no client should see.
    #[error("{0}")]
    Worker(String),
    /// It proves nothing.
    #[error("below the floors: {}", .0.join("; "))]
    BelowFloor(Vec<String>),
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Worker(text)
    }
}

/// Runs and judges; calls `progress` after each cycle.
pub async fn run(settings: &Settings, mut progress: impl FnMut(&Report)) -> Result<Report, Failure> {
    let (reaper, home) = Reaper::new(settings.death, settings.seed)?;
    let mut run = Run::new(settings.clone(), reaper, home);
    match run.all_cycles(&mut progress).await {
        Ok(()) => {}
        Err(failure) => {
            let (seed, cycle, stderr) = (settings.seed, run.report.cycles, tail(&run.home.stderr()));
            let mut more = format!("seed {seed}, cycle {cycle}\n{stderr}");
            // What a control is to find needs nobody's reading.
            if !run.reaper.is_control() {
                more = format!("{more}\n{}", evidence::keep(&run.home, seed, &run.judged));
            }
            return Err(match failure {
                Failure::Violation(Violation { invariant, text }) => {
                    Failure::Violation(Violation { invariant, text: format!("{text}\n{more}") })
                }
                other => Failure::Worker(format!("{other}\n{more}")),
            });
        }
    }
    let below = run.report.below_floor(settings.cycles, settings.confirms_min);
    if below.is_empty() { Ok(run.report) } else { Err(Failure::BelowFloor(below)) }
}

struct Run {
    settings: Settings,
    reaper: Reaper,
    home: Home,
    world: Arc<World>,
    churns: [Arc<Mutex<Churn>>; 2],
    checker: Checker,
    report: Report,
    rng: Rng,
    /// How long a recovery takes, as last seen.
    recovery: Duration,
    /// The events of the last verdict.
    judged: Vec<Event>,
}

impl Run {
    fn new(settings: Settings, reaper: Reaper, home: Home) -> Self {
        let mut rng = Rng::with_seed(settings.seed);
        let churns = [Churn::new("churn.0", 4, rng.u64(..)), Churn::new("churn.1", 5, rng.u64(..))];
        let with_moves = settings.protocol != Protocol::Grpc;
        Self {
            settings,
            reaper,
            home,
            world: World::new(),
            churns,
            checker: Checker::new(),
            report: Report { with_moves, ..Report::default() },
            rng,
            recovery: Duration::from_millis(10),
            judged: Vec::new(),
        }
    }

    async fn all_cycles(&mut self, progress: &mut impl FnMut(&Report)) -> Result<(), Failure> {
        let server = self.start().await?;
        let mut line = self.line(&server).await?;
        self.world.set_up(&mut line).await.map_err(|why| format!("set-up: {why:?}"))?;
        drop(line);
        self.reaper.end(server)?;
        self.crashed()?;
        self.reaper.begin_lying();
        // A cycle without a publish in flight does not count, and there must not be many of those.
        for _ in 0..self.settings.cycles * 2 {
            self.cycle().await?;
            progress(&self.report);
            if self.report.cycles.is_multiple_of(self.settings.drain_every) {
                self.drain().await?;
            }
            // Not every trouble is met, some calls come rarely, and many a kill comes too late: it goes on until enough
            // was reached. The drain at the end counts.
            let report = Report { drains: self.report.drains + 1, ..self.report };
            if report.below_floor(self.settings.cycles, self.settings.confirms_min).is_empty() {
                break;
            }
        }
        self.drain().await
    }

    /// Load, one kill under load, perhaps kills of the next starts.
    async fn cycle(&mut self) -> Result<(), Failure> {
        let server = self.start().await?;
        self.list(&server).await?;
        if self.settings.protocol != Protocol::Grpc {
            // The first login of a start takes as long as its hash; without it the AMQP workers would have no part in
            // most lives.
            let login = Connection::open(server.amqp_port()).await;
            login.map_err(|why| self.complaint(format!("the first login of a start: {why}")))?;
        }
        self.world.set_killing(false);
        let mut workers = self.put_to_work(&server);
        let before = self.world.recorder.confirms();
        let end = Instant::now() + PATIENCE;
        while self.world.recorder.confirms() - before < self.settings.confirms_min {
            if let Some(ended) = workers.try_join_next() {
                return Err(self.complaint(ended_early(ended)));
            }
            if Instant::now() > end {
                let confirms = self.world.recorder.confirms() - before;
                return Err(format!("only {confirms} confirms in {PATIENCE:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_micros(self.rng.u64(..150_000))).await;
        self.world.set_killing(true);
        if let Err(why) = self.reaper.end_under_load(server, &self.home).await {
            return Err(self.complaint(why));
        }
        self.report.kills_under_load += 1;
        self.join(workers).await?;
        self.crashed()?;
        self.kill_starts().await
    }

    fn put_to_work(&mut self, server: &Server) -> JoinSet<Outcome> {
        let mut workers = JoinSet::new();
        let world = || Arc::clone(&self.world);
        let (grpc, amqp) = (server.grpc_port(), server.amqp_port());
        let (rng, protocol) = (&mut self.rng, self.settings.protocol);
        let mut draw = || (protocol.choose(rng), rng.u64(..));
        for (publisher, target) in [(1, Target::work(&self.world)), (2, Target::fan(&self.world))] {
            match draw() {
                (Over::Grpc, seed) => {
                    workers.spawn(publishers::stream(world(), grpc, publisher, target, seed))
                }
                (Over::Amqp, seed) => {
                    workers.spawn(over_amqp::publish(world(), amqp, publisher, target, seed))
                }
            };
        }
        workers.spawn(publishers::batches(world(), grpc, 3, draw().1));
        let jobs = [
            Job { queue: self.world.work, name: WORK, habit: Habit::Acks, share: Share::Sole },
            Job { queue: self.world.fan_a, name: FAN_A, habit: Habit::Returns, share: Share::Sole },
            Job { queue: self.world.fan_b, name: FAN_B, habit: Habit::Hoards, share: Share::Sole },
        ];
        for job in jobs {
            match draw() {
                (Over::Grpc, seed) => workers.spawn(consumers::consume(world(), grpc, job, seed)),
                (Over::Amqp, seed) => workers.spawn(over_amqp::consume(world(), amqp, job, seed)),
            };
        }
        match draw() {
            (Over::Grpc, seed) => workers.spawn(getter::get_and_settle(world(), grpc, seed)),
            (Over::Amqp, seed) => workers.spawn(over_amqp::get_and_settle(world(), amqp, seed)),
        };
        for churn in &self.churns {
            let (over, _) = draw();
            let port = if over == Over::Amqp { amqp } else { grpc };
            workers.spawn(churn::work(world(), port, over, Arc::clone(churn)));
        }
        if protocol != Protocol::Grpc {
            workers.spawn(over_amqp::mover::work(world(), amqp, 6, draw().1));
            workers.spawn(over_amqp::rejecter::work(world(), amqp, 7, draw().1));
        }
        workers.spawn(watch(world(), grpc));
        workers
    }

    /// A connection for what the harness does itself.
    async fn line(&mut self, server: &Server) -> Result<Line, Failure> {
        let over = self.settings.protocol.choose(&mut self.rng);
        let port = if over == Over::Amqp { server.amqp_port() } else { server.grpc_port() };
        Line::open(over, port).await.map_err(|why| Failure::Worker(format!("{why:?}")))
    }

    async fn join(&mut self, mut workers: JoinSet<Outcome>) -> Result<(), Failure> {
        let all = async {
            while let Some(ended) = workers.join_next().await {
                ended.map_err(|panic| format!("a worker panicked: {panic}"))??;
            }
            Ok::<(), String>(())
        };
        match tokio::time::timeout(PATIENCE, all).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(text)) => Err(self.complaint(text)),
            Err(_) => Err(self.complaint("workers did not notice the kill".into())),
        }
    }

    /// Everything recorded in this run is judged.
    fn crashed(&mut self) -> Result<(), Failure> {
        self.world.recorder.record(Event::Crash);
        self.judge()?;
        self.report.cycles = self.report.checked.crashes_in_flight;
        self.report.checkpoints += self.world.checkpoints.swap(0, Ordering::Relaxed);
        self.report.recycled += self.world.recycled.swap(0, Ordering::Relaxed);
        self.report.settled_bytes += self.world.settled_bytes.swap(0, Ordering::Relaxed);
        self.report.merged_bytes += self.world.merged_bytes.swap(0, Ordering::Relaxed);
        self.report.errors = self.reaper.errors;
        self.report.points = self.reaper.points;
        let losses = matches!(self.settings.death, Death::PowerLoss { .. } | Death::Errors { .. });
        self.report.losses = losses.then_some(self.reaper.losses);
        Ok(())
    }

    fn judge(&mut self) -> Result<(), Failure> {
        let events = self.world.recorder.take();
        let verdict = self.checker.apply_all(&events);
        self.report.checked = self.checker.counts();
        if !events.is_empty() {
            self.judged = events;
        }
        Ok(verdict?)
    }

    /// Kills none to five of the next starts before they serve. Some of the kills come too late for that, so a run that
    /// is to have three in a row tries for more.
    async fn kill_starts(&mut self) -> Result<(), Failure> {
        let row = match self.rng.u32(..100) {
            0..50 => 0,
            50..65 => 1,
            65..75 => 2,
            _ => 5,
        };
        // What a lying disk leaves may not be opened at all before it is repaired.
        let row = if self.reaper.is_control() { 0 } else { row };
        let mut deep = 0;
        let troubled = self.reaper.trouble_a_start(&self.home, &self.settings.options).await;
        troubled.map_err(|why| self.complaint(format!("a start that met an error: {why}")))?;
        for _ in 0..row {
            let before = self.home.stderr_bytes();
            let aimed = self.reaper.aim_at_start();
            let mut server = Server::spawn(&self.home, self.settings.options.clone());
            if let Err(why) = server.wait_listening().await {
                self.reaper.end(server)?;
                return Err(format!("a start that was to be killed: {why}").into());
            }
            if aimed {
                self.reaper.wait_for_aim().await;
            } else {
                let micros = u64::try_from(self.recovery.as_micros()).unwrap_or(u64::MAX);
                // A long row aims at the first half: it ends where one comes too late.
                let micros = if row == 5 { micros / 2 } else { micros };
                tokio::time::sleep(Duration::from_micros(self.rng.u64(..=micros))).await;
            }
            self.reaper.end(server)?;
            let serves = self.home.stderr_from(before).contains(SERVING_LINE);
            if serves {
                self.report.kills_after_recovery += 1;
                deep = 0;
            } else {
                self.report.kills_in_recovery += 1;
                deep += 1;
            }
            self.report.deepest = self.report.deepest.max(deep);
        }
        Ok(())
    }

    async fn drain(&mut self) -> Result<(), Failure> {
        let server = self.start().await?;
        self.list(&server).await?;
        let mut line = self.line(&server).await?;
        let mut queues = self.world.fixed().to_vec();
        for churn in &self.churns {
            queues.extend(churn.lock().await.finish(&self.world, &mut line).await?);
        }
        let mut client = server.client().await;
        for (name, queue) in queues {
            drain::queue(&self.world, &mut client, name, queue).await?;
        }
        self.world.recorder.record(Event::AllDrained);
        self.judge()?;
        self.report.drains += 1;
        self.reaper.end(server)?;
        // Nothing was in flight: this kill is not one of the cycles.
        self.crashed()
    }

    async fn list(&mut self, server: &Server) -> Result<(), Failure> {
        let mut client = server.client().await;
        self.world.list(&mut client).await.map_err(|status| format!("listing: {status:?}"))?;
        self.judge()
    }

    /// A worker's complaint; but an invariant that is broken by then explains more.
    fn complaint(&mut self, text: String) -> Failure {
        match self.judge() {
            Ok(()) => Failure::Worker(text),
            Err(violation) => violation,
        }
    }

    async fn start(&mut self) -> Result<Server, Failure> {
        let started = death::start(&self.home, &self.settings.options, self.reaper.is_control()).await;
        let server = started.map_err(|why| self.complaint(why))?;
        self.recovery = server.recovery();
        Ok(server)
    }
}

/// Notes the store's progress, which is gone with the process.
async fn watch(world: Arc<World>, port: u16) -> Outcome {
    let mut client = Client::connect(port).await;
    loop {
        match client.rpc.status(StatusRequest {}).await {
            Ok(response) => {
                let status = response.into_inner();
                world.checkpoints.store(status.checkpoints_total, Ordering::Relaxed);
                world.recycled.store(status.recycled_total, Ordering::Relaxed);
                world.settled_bytes.store(status.settle_bytes_total, Ordering::Relaxed);
                world.merged_bytes.store(status.merge_bytes_total, Ordering::Relaxed);
            }
            Err(status) => return world.failed("Status", &status),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn ended_early(ended: Result<Outcome, tokio::task::JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "a worker ended before the kill".into(),
        Ok(Err(text)) => text,
        Err(panic) => format!("a worker panicked: {panic}"),
    }
}
