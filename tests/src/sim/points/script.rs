//! The script, and every point of it at which it can crash.

use std::sync::{Arc, Mutex, PoisonError};

use fastrand::Rng;
use leveret_engine::{Moment, Settings, SimDisk};

use crate::checker::{Checker, Violation};
use crate::history::Event;
use crate::sim::bug::Bug;
use crate::sim::clients::{Clients, Deed};
use crate::sim::reached::Reached;
use crate::sim::world::{End, Life, World};

/// A step of the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Do(Deed),
    /// Nothing, for so long that the store tidies up.
    Rest,
    /// A crash, and the next start.
    Crash,
    /// A clean stop, and the next start.
    Stop,
}

/// What is done, one after the other. Which queue, how large, how far the workers get in between: the variant says.
const SCRIPT: [Act; 64] = {
    use Act::{Crash, Do, Rest, Stop};
    use Deed::{
        Batch, Bind, Close, Commit, Consume, Declare, Delete, Get, Publish, Purge, Settle, SettleLease,
    };
    [
        Do(Declare),
        Do(Declare),
        Do(Declare),
        Do(Bind),
        Do(Publish),
        Do(Batch),
        Do(Consume),
        Do(Publish),
        Do(Settle),
        Do(Batch),
        Do(Commit),
        Do(Publish),
        Do(Get),
        Do(Batch),
        Do(SettleLease),
        Rest,
        Do(Settle),
        Do(Publish),
        Do(Batch),
        Do(Commit),
        Do(Delete),
        Do(Publish),
        Do(Batch),
        Do(Settle),
        Crash,
        Do(Purge),
        Do(Publish),
        Do(Consume),
        Do(Batch),
        Do(Commit),
        Do(Settle),
        Do(Declare),
        Do(Bind),
        Do(Batch),
        Do(Publish),
        Do(Get),
        Do(SettleLease),
        Do(Settle),
        Do(Delete),
        Do(Batch),
        Do(Close),
        Do(Commit),
        Rest,
        Stop,
        Do(Publish),
        Do(Batch),
        Do(Purge),
        Do(Consume),
        Do(Settle),
        Do(Publish),
        Do(Batch),
        Do(Commit),
        Do(Settle),
        Do(Batch),
        Do(Delete),
        Do(Settle),
        Do(Publish),
        Do(Batch),
        Do(Settle),
        Rest,
        Do(Batch),
        Do(Commit),
        Rest,
        Stop,
    ]
};

/// What everybody but the disk knew at a moment.
#[derive(Debug)]
pub(super) struct Known {
    /// Counts what the clients came to know.
    pub(super) number: u32,
    pub(super) checker: Checker,
    pub(super) clients: Clients,
    pub(super) wall_ms: u64,
}

/// A moment at which everything may end.
#[derive(Debug)]
pub(super) struct Point {
    pub(super) moment: Moment,
    pub(super) known: Arc<Known>,
    /// Step of the script, calls of the disk so far, and which call comes next, if one does at once.
    pub(super) place: String,
}

/// The script, played to its end.
pub(super) struct Played {
    pub(super) settings: Settings,
    pub(super) points: Vec<Point>,
    /// Calls of the disk.
    pub(super) calls: u64,
    pub(super) reached: Reached,
    /// Deeds for which nothing was there to do them with.
    pub(super) left_out: u64,
}

type Tape = Arc<Mutex<Vec<(&'static str, Moment)>>>;

struct Player {
    world: World,
    rng: Rng,
    tape: Tape,
    known: Arc<Known>,
    points: Vec<Point>,
    /// The last point's version of the disk and number of what was known.
    last: Option<(u64, u32)>,
    step: usize,
    left_out: u64,
}

/// Plays a variant of the script.
pub(super) fn play(variant: u64, bug: Option<Bug>) -> Result<Played, Violation> {
    let mut rng = Rng::with_seed(variant);
    let settings = Settings {
        segment_bytes: 16_384,
        frame_bytes_max: 4096 * rng.u64(1..3),
        checkpoint_bytes: 16_384 * rng.u64(1..3),
        spares: rng.usize(0..2),
        log_budget_bytes: 16_384,
        settle_strip_bytes: *rng.choice(&[3_000, 50_000]).unwrap_or(&3_000),
        extents_joined: 1,
        settled_bytes: 20_000,
        blob_bytes_min: 300,
        blob_file_bytes: 8_192,
        idle_checkpoint_ms: 300,
        scrub_bytes_per_s: 0,
        new_store_id: variant | 1,
        control: bug.and_then(Bug::of_engine),
        ..Settings::default()
    };
    let mut world = World::of(SimDisk::default(), settings.clone(), rng.fork());
    world.control = bug.and_then(Bug::of_core);
    let tape = Tape::default();
    let writes = Arc::clone(&tape);
    world.disk.watch(move |call, moment| {
        writes.lock().unwrap_or_else(PoisonError::into_inner).push((call, moment));
    });
    let known = Arc::new(Known {
        number: 0,
        checker: world.checker.clone(),
        clients: world.clients.successors(world.recorder.successor()),
        wall_ms: world.wall_ms,
    });
    let mut player = Player { world, rng, tape, known, points: Vec::new(), last: None, step: 0, left_out: 0 };
    player.play()?;
    let Player { mut world, points, left_out, .. } = player;
    world.disk.unwatch();
    world.reached.seen = world.checker.counts();
    world.reached.commits = world.clients.commits;
    Ok(Played { settings, points, calls: world.disk.stats().calls, reached: world.reached, left_out })
}

impl Player {
    fn play(&mut self) -> Result<(), Violation> {
        let mut life = self.begin()?;
        for (step, act) in SCRIPT.into_iter().enumerate() {
            self.step = step;
            match act {
                Act::Do(deed) => self.perform(deed, &mut life)?,
                Act::Rest => {
                    for _ in 0..8 {
                        self.world.worker_ms += 100;
                        self.world.wall_ms += 100;
                        self.round(&mut life, true)?;
                    }
                }
                Act::Crash => {
                    self.world.crash(life);
                    life = self.next_life()?;
                }
                Act::Stop => {
                    let end = self.world.close(&mut life);
                    assert!(end == End::Stopped, "nothing fails here");
                    self.world.stop(life);
                    life = self.next_life()?;
                }
            }
        }
        self.world.inspect(&mut life)?;
        self.note()?;
        Ok(())
    }

    fn begin(&mut self) -> Result<Life, Violation> {
        let mut life = self.world.start(false)?;
        self.note()?;
        self.world.inspect(&mut life)?;
        self.note()?;
        let mut rng = self.rng.fork();
        self.world.clients.begin(&mut life, &mut rng);
        self.note()?;
        Ok(life)
    }

    fn next_life(&mut self) -> Result<Life, Violation> {
        // What the disk did on its way down, nobody knew of.
        self.note()?;
        self.world.recorder.record(Event::Crash);
        self.world.clients.forget();
        self.note()?;
        self.begin()
    }

    /// Does it as soon as there is something to do it with.
    fn perform(&mut self, deed: Deed, life: &mut Life) -> Result<(), Violation> {
        let mut done = false;
        for _ in 0..40 {
            let world = &mut self.world;
            done = world.clients.perform(deed, life, &mut self.rng, &mut world.reached);
            self.note()?;
            if done {
                break;
            }
            self.round(life, false)?;
        }
        self.left_out += u64::from(!done);
        self.world.reached.operations += u64::from(done);
        for _ in 0..self.rng.u8(1..3) {
            self.round(life, false)?;
        }
        self.world.all_is_readable(life)
    }

    /// Everybody gets on a little; some do not, unless `all` do.
    fn round(&mut self, life: &mut Life, all: bool) -> Result<(), Violation> {
        self.world.worker_ms += 3;
        self.world.wall_ms += 3;
        let steps = |rng: &mut Rng, most: u8| if all { most } else { rng.u8(..=most) };
        self.world.turn(life);
        self.note()?;
        for _ in 0..steps(&mut self.rng, 6) {
            life.workers.blobs.step(self.world.worker_ms);
            self.note()?;
        }
        for _ in 0..steps(&mut self.rng, 3) {
            life.workers.writer.step(self.world.worker_ms);
            self.note()?;
        }
        self.world.turn(life);
        self.note()?;
        self.world.pass_effects(life);
        self.note()?;
        for _ in 0..steps(&mut self.rng, 2) {
            life.workers.reader.step();
            life.workers.keeper.step(self.world.worker_ms);
            self.note()?;
        }
        for _ in 0..steps(&mut self.rng, 4) {
            life.workers.settler.step(self.world.worker_ms);
            self.note()?;
        }
        life.workers.spiller.step(self.world.worker_ms);
        self.note()
    }

    /// Makes points of what has happened since the last call: before each call of the disk, with what was known then;
    /// and now. A step either calls the disk or tells the clients something, never both.
    fn note(&mut self) -> Result<(), Violation> {
        let calls = std::mem::take(&mut *self.tape.lock().unwrap_or_else(PoisonError::into_inner));
        let count = self.world.disk.stats().calls - calls.len() as u64;
        for (index, (call, moment)) in calls.into_iter().enumerate() {
            self.point(moment, count + index as u64, call);
        }
        let events = self.world.recorder.take();
        if std::env::var_os("LEVERET_SIM_TRACE").is_some() {
            events.iter().for_each(|event| eprintln!("{event:?} (point {})", self.points.len()));
        }
        self.world.checker.apply_all(&events)?;
        if !events.is_empty() {
            self.point(self.world.disk.moment(), self.world.disk.stats().calls, "");
            self.known = Arc::new(Known {
                number: self.known.number + 1,
                checker: self.world.checker.clone(),
                clients: self.world.clients.successors(self.world.recorder.successor()),
                wall_ms: self.world.wall_ms,
            });
        }
        self.point(self.world.disk.moment(), self.world.disk.stats().calls, "");
        Ok(())
    }

    fn point(&mut self, moment: Moment, calls: u64, call: &str) {
        let now = (moment.version(), self.known.number);
        if self.last == Some(now) {
            return;
        }
        self.last = Some(now);
        let act = SCRIPT[self.step];
        let then = if call.is_empty() { String::new() } else { format!(", before its {call}") };
        let place = format!("step {} ({act:?}), after call {calls}{then}", self.step);
        self.points.push(Point {
            moment: moment.without_idle_changes(),
            known: Arc::clone(&self.known),
            place,
        });
    }
}
