//! One trial: a server starts on what a crash left, everything that is there is taken out, and the checker judges it by
//! what the clients knew at the crash.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use fastrand::Rng;
use leveret_engine::{Moment, Settings, SimDisk};

use super::script::Known;
use crate::checker::Violation;
use crate::history::{Event, QueueRef};
use crate::sim::bug::Bug;
use crate::sim::reached::Reached;
use crate::sim::world::World;

/// What a trial is to do beside starting and looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing.
    Look,
    /// Keep every moment of the start, for crashes within it.
    Watch,
    /// Publish, lose the power with all that is not durable, and start once more.
    Work,
}

/// What a trial found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Hash over all that was listed and delivered, in order. None after work, which adds to it.
    pub(super) digest: Option<u64>,
    /// The moments of the start that differ, each with the call that came next.
    pub(super) moments: Vec<(&'static str, Moment)>,
    pub(super) reached: Reached,
}

/// Starts a server on that disk. `Err`: the invariant that is broken.
pub(super) fn judge(
    disk: SimDisk,
    settings: &Settings,
    bug: Option<Bug>,
    known: &Known,
    then: Then,
) -> Result<Found, Violation> {
    let mut world = World::of(disk, settings.clone(), Rng::with_seed(1));
    world.control = bug.and_then(Bug::of_core);
    world.wall_ms = known.wall_ms;
    world.checker = known.checker.clone();
    world.recorder = known.clients.recorder().successor();
    world.clients = known.clients.successors(world.recorder.clone());
    world.found = Some(Vec::new());
    world.end_of_life()?;
    let moments: Arc<Mutex<Vec<(&'static str, Moment)>>> = Arc::default();
    if then == Then::Watch {
        let (moments, mut last) = (Arc::clone(&moments), world.disk.moment().version());
        world.disk.watch(move |call, moment| {
            // Before the first change the crash leaves what the last one left.
            if moment.version() != last {
                last = moment.version();
                moments.lock().unwrap_or_else(PoisonError::into_inner).push((call, moment));
            }
        });
    }
    let mut life = world.start(false)?;
    world.inspect(&mut life)?;
    world.disk.unwatch();
    if then == Then::Work {
        let mut rng = Rng::with_seed(2);
        world.clients.perform(crate::sim::clients::Deed::Batch, &mut life, &mut rng, &mut world.reached);
        world.settle_down(&mut life);
        world.judge()?;
        world.crash_hard(life);
        world.end_of_life()?;
        life = world.start(false)?;
        world.inspect(&mut life)?;
    }
    world.drain(&mut life)?;
    world.all_is_readable(&life)?;
    world.reached.count(&life.host.store().stats());
    let digest =
        (then != Then::Work).then(|| digest(&world.found.unwrap_or_default(), &world.clients.flows()));
    let moments = std::mem::take(&mut *moments.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Found { digest, moments, reached: world.reached })
}

impl World {
    /// Everybody notices that the server is gone.
    fn end_of_life(&mut self) -> Result<(), Violation> {
        self.recorder.record(Event::Crash);
        self.clients.forget();
        self.judge()
    }
}

/// What was there, without what one crash more may change: whether a delivery is a first one, and how far messages have
/// gone on by the rules of their queues.
fn digest(found: &[Event], flows: &[(QueueRef, QueueRef)]) -> u64 {
    let mut names = Vec::new();
    let mut messages = Vec::new();
    for event in found {
        match event {
            Event::Listing { queues, bindings } => {
                names.extend(queues.iter().map(|queue| queue.name.clone()));
                names.extend(bindings.iter().map(|binding| format!("{binding:?}")));
            }
            Event::Delivered { queue, body, length, .. } => {
                messages.push(format!("{:?} {body:?} {length}", head(*queue, flows)));
            }
            _ => {}
        }
    }
    messages.sort_unstable();
    if std::env::var_os("LEVERET_SIM_TRACE").is_some() {
        eprintln!("found {names:?}, {messages:?}");
    }
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in names.iter().chain(&messages).flat_map(|text| text.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    hash
}

/// The same queue for all those that messages flow between by themselves.
fn head(queue: QueueRef, flows: &[(QueueRef, QueueRef)]) -> QueueRef {
    let mut all = BTreeSet::from([queue]);
    loop {
        let before = all.len();
        for (from, to) in flows {
            if all.contains(from) || all.contains(to) {
                all.extend([*from, *to]);
            }
        }
        if all.len() == before {
            return all.first().copied().unwrap_or(queue);
        }
    }
}
