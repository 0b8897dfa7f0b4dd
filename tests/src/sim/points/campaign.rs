//! All points of a variant, or a slice of them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use fastrand::Rng;
use leveret_engine::{Moment, SimDisk};

use super::losses::{Loss, states};
use super::script::{Played, Point, play};
use super::trial::{Found, Then, judge};
use crate::checker::{Invariant, Violation};
use crate::sim::{Bug, Reached};

/// How much is tried at one depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Of the states one level up, how many are crashed again while a server starts on them.
    pub starts: usize,
    /// Of the moments of such a start, how many are tried.
    pub moments: usize,
    /// States that each may leave.
    pub states: usize,
}

/// What is to be run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The variant of the script.
    pub variant: u64,
    /// Number of the first point.
    pub from: usize,
    /// Points after which it ends.
    pub points: usize,
    /// States after which no other point is begun.
    pub trials: u64,
    /// States that a crash at a point may leave, at most.
    pub states: usize,
    /// Crashes while the server starts again, and while it starts after those.
    pub nested: [Depth; 2],
    /// When no other point is begun.
    pub until: Instant,
    /// Threads.
    pub threads: usize,
    /// A deliberate bug.
    pub bug: Option<Bug>,
}

impl Plan {
    /// What every run of the tests has, of a variant.
    pub fn ci(variant: u64, until: Instant) -> Self {
        Self {
            variant,
            from: 0,
            points: usize::MAX,
            trials: u64::MAX,
            states: 8,
            nested: [Depth { starts: 1, moments: 2, states: 2 }, Depth { starts: 1, moments: 1, states: 1 }],
            until,
            threads: 2,
            bug: None,
        }
    }

    /// What is published: 4,096 states of every point.
    pub fn full(variant: u64, until: Instant) -> Self {
        Self {
            states: 4096,
            nested: [
                Depth { starts: 16, moments: 16, states: 16 },
                Depth { starts: 1, moments: 4, states: 4 },
            ],
            ..Self::ci(variant, until)
        }
    }
}

/// What a run came to.
#[derive(Debug, Default, Clone, Copy)]
pub struct Report {
    /// Variants of the script.
    pub variants: u64,
    /// Calls of the disk that the script makes.
    pub calls: u64,
    /// Points at which it can crash: they differ in what was on the disk, in what of it was durable, or in what the clients
    /// knew.
    pub points: u64,
    /// Points that were tried.
    pub tried: u64,
    /// Those of them of which every state was tried.
    pub exhausted: u64,
    /// Different states that were judged, by depth: crashes of the script, of the next start, of the one after it.
    pub states: [u64; 3],
    /// States that came up again.
    pub again: u64,
    /// States in which a start within a start had to find what the first would have found (I11).
    pub compared: u64,
    /// Operations that found nothing to be done with.
    pub left_out: u64,
    /// What the script reached.
    pub script: Reached,
    /// What the starts reached.
    pub starts: Reached,
    /// The next point, or none if that was the last.
    pub next: Option<usize>,
}

/// A state, and what it is to be judged by.
struct Trying<'a> {
    plan: &'a Plan,
    played: &'a Played,
    point: &'a Point,
    judged: &'a Mutex<HashMap<(u64, u32), Option<u64>>>,
    report: Report,
    rng: Rng,
}

/// Runs it. `Err`: what broke, and how to repeat it.
pub fn run(plan: &Plan) -> Result<Report, String> {
    let played = play(plan.variant, plan.bug).map_err(|violation| {
        format!("variant {}: the script itself, without a crash: {violation}", plan.variant)
    })?;
    let report = tries(plan, &played).map_err(|(number, text)| {
        format!("variant {}, point {number} ({}): {text}", plan.variant, played.points[number].place)
    })?;
    Ok(report)
}

fn tries(plan: &Plan, played: &Played) -> Result<Report, (usize, String)> {
    let until = plan.from.saturating_add(plan.points).min(played.points.len());
    let next = AtomicUsize::new(plan.from);
    let judged = Mutex::default();
    let sum = Mutex::new(Report::default());
    let failure: Mutex<Option<(usize, String)>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..plan.threads {
            scope.spawn(|| {
                loop {
                    let enough = lock(&sum).states.iter().sum::<u64>() >= plan.trials;
                    if lock(&failure).is_some() || enough || Instant::now() > plan.until {
                        return;
                    }
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(point) = played.points.get(number).filter(|_| number < until) else { return };
                    let rng = Rng::with_seed(plan.variant.wrapping_mul(0x9e37_79b9) ^ number as u64);
                    let report = Report::default();
                    let mut trying = Trying { plan, played, point, judged: &judged, report, rng };
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| trying.point()));
                    lock(&sum).add(&trying.report);
                    let broken = match outcome {
                        Ok(result) => result.err(),
                        Err(_) => Some("a panic, see above".to_owned()),
                    };
                    if let Some(text) = broken {
                        lock(&failure).get_or_insert((number, text));
                    }
                }
            });
        }
    });
    if let Some(failure) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(failure);
    }
    let mut report = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    let reached = next.into_inner().min(until);
    report.next = (reached < played.points.len()).then_some(reached);
    report.variants = 1;
    report.calls = played.calls;
    report.points = played.points.len() as u64;
    report.script = played.reached;
    report.left_out = played.left_out;
    Ok(report)
}

impl Trying<'_> {
    /// Tries the states that a crash at the point may leave.
    fn point(&mut self) -> Result<(), String> {
        self.report.tried += 1;
        let (mut tries, all) = states(&self.point.moment, self.plan.states, &mut self.rng);
        self.report.exhausted += u64::from(all);
        let again = self.pick(tries.len(), self.plan.nested[0].starts);
        for (index, (loss, disk, mark)) in tries.drain(..).enumerate() {
            let told = loss.to_string();
            let durable = loss != Loss::Kill;
            self.state(disk, mark, durable, again.contains(&index), 0, None)
                .map_err(|text| format!("{told}: {text}"))?;
        }
        Ok(())
    }

    /// Judges a state, unless it was; and if it is to crash again, what the crashes of its start leave.
    fn state(
        &mut self,
        disk: SimDisk,
        mark: u64,
        durable: bool,
        again: bool,
        depth: usize,
        wanted: Option<u64>,
    ) -> Result<(), String> {
        let key = (mark, self.point.known.number);
        let before = lock(self.judged).get(&key).copied();
        let then = match (again, before) {
            (true, _) => Then::Watch,
            // Some go on working; where the digest is wanted, nothing may be added.
            (false, None) if depth == 0 && mark.is_multiple_of(4) => Then::Work,
            (false, None) => Then::Look,
            (false, Some(digest)) => {
                self.report.again += 1;
                return self.same(wanted, digest);
            }
        };
        let Found { digest, moments, reached } =
            judge(disk, &self.played.settings, self.plan.bug, &self.point.known, then)
                .map_err(|violation| violation.to_string())?;
        self.report.starts.add(&reached);
        let new = lock(self.judged).insert(key, digest).is_none();
        self.report.states[depth] += u64::from(new);
        self.report.again += u64::from(!new);
        self.same(wanted, digest)?;
        if again {
            let wanted = if durable { digest } else { None };
            self.again(&moments, depth + 1, wanted)?;
        }
        Ok(())
    }

    /// I11: what a start finds does not depend on how often it was tried.
    fn same(&mut self, wanted: Option<u64>, found: Option<u64>) -> Result<(), String> {
        let (Some(wanted), Some(found)) = (wanted, found) else { return Ok(()) };
        self.report.compared += 1;
        if wanted == found {
            return Ok(());
        }
        let text = "a start that crashed and was tried again found other messages than it would have at once";
        Err(Violation { invariant: Invariant::I11, text: text.to_owned() }.to_string())
    }

    /// Crashes in a start.
    fn again(
        &mut self,
        moments: &[(&'static str, Moment)],
        depth: usize,
        wanted: Option<u64>,
    ) -> Result<(), String> {
        let Depth { moments: count, states: each, .. } = self.plan.nested[depth - 1];
        let starts = self.plan.nested.get(depth).map_or(0, |below| below.starts);
        let chosen = self.pick(moments.len(), count);
        for (index, (call, moment)) in moments.iter().enumerate().filter(|(index, _)| chosen.contains(index))
        {
            let moment = moment.clone().without_idle_changes();
            let (mut tries, _) = states(&moment, each, &mut self.rng);
            let again = self.pick(tries.len(), starts);
            for (number, (loss, disk, mark)) in tries.drain(..).enumerate() {
                let told = format!("the next start, at change {index}, before its {call}: {loss}");
                let durable = loss != Loss::Kill;
                self.state(disk, mark, durable, again.contains(&number), depth, wanted)
                    .map_err(|text| format!("{told}: {text}"))?;
            }
        }
        Ok(())
    }

    fn pick(&mut self, of: usize, count: usize) -> Vec<usize> {
        if count >= of {
            return (0..of).collect();
        }
        let mut all: Vec<usize> = (0..of).collect();
        self.rng.shuffle(&mut all);
        all.truncate(count);
        all
    }
}

impl Report {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.variants += other.variants;
        self.calls += other.calls;
        self.points += other.points;
        self.left_out += other.left_out;
        self.script.add(&other.script);
        self.tried += other.tried;
        self.exhausted += other.exhausted;
        for (sum, more) in self.states.iter_mut().zip(other.states) {
            *sum += more;
        }
        self.again += other.again;
        self.compared += other.compared;
        self.starts.add(&other.starts);
    }

    /// Different states that were judged.
    pub fn trials(&self) -> u64 {
        self.states.iter().sum()
    }

    /// The floors against empty runs, of runs of all points. What a script reaches is judged over three variants or more.
    ///
    /// # Errors
    /// Names the first that is missed.
    pub fn floors(&self) -> Result<(), String> {
        let (script, starts) = (&self.script, &self.starts);
        let thirds = self.variants / 3;
        let floors = [
            ("calls of the disk", self.calls, 600 * self.variants),
            ("points", self.points, 400 * self.variants),
            ("points tried", self.tried, self.points),
            ("states of crashes in the script", self.states[0], 2 * self.points),
            ("states of crashes in a start", self.states[1], self.points),
            ("states of crashes in a start after those", self.states[2], self.points),
            ("states compared with those of an undisturbed start", self.compared, self.points),
            ("torn tails that starts cut", starts.cuts, 10 * self.variants),
            ("frames that starts copied", starts.frames_copied, 100 * self.variants),
            ("operations", script.operations, 45 * self.variants),
            ("rotations", script.rotations, 6 * self.variants),
            ("checkpoints", script.checkpoints, 8 * self.variants),
            ("recycled segments", script.recycled, 6 * self.variants),
            ("settled log segments", script.settled, 6 * self.variants),
            ("bytes merged", script.merged_bytes, thirds),
            ("settled segments removed", script.settled_removed, 3 * thirds),
            ("bodies in blob files", script.blobs, 10 * thirds),
            ("blob files removed", script.blob_files_removed, thirds),
            ("confirms", script.seen.confirmed, 30 * self.variants),
            ("acks", script.seen.acked, 6 * thirds),
            ("commits", script.commits, 6 * thirds),
            ("moves", script.seen.moved, thirds),
            ("purges", script.seen.purges, thirds),
            ("deletes", script.seen.deletes, thirds),
        ];
        match floors.into_iter().find(|(_, reached, floor)| reached < floor) {
            Some((what, reached, floor)) => {
                Err(format!("an empty run: {reached} {what}, at least {floor} wanted; {self}"))
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third] = self.states;
        write!(
            f,
            "{} variants: {} calls of the disk, {} points, {} tried ({} with every state); {} states judged: {first} of crashes, {second} \
             of crashes in the start after, {third} of crashes in the start after those, {} compared; {} came up again, \
             {} operations left out\nscript: {}\nstarts: {}",
            self.variants,
            self.calls,
            self.points,
            self.tried,
            self.exhausted,
            self.trials(),
            self.compared,
            self.again,
            self.left_out,
            self.script,
            self.starts
        )
    }
}

/// Switches deliberate bugs on, one after the other, and tries variants until an invariant catches each; the same variant
/// without the bug must pass. Gives a line for each that was caught, and one for each that went unnoticed.
pub fn controls(
    bugs: impl IntoIterator<Item = Bug>,
    plan: &Plan,
    variants: u64,
) -> (Vec<String>, Vec<String>) {
    let (mut caught, mut missed) = (Vec::new(), Vec::new());
    let mut sound: BTreeMap<u64, bool> = BTreeMap::new();
    for bug in bugs {
        let told = (plan.variant..plan.variant + variants).find_map(|variant| {
            let with = Plan { variant, bug: Some(bug), ..*plan };
            // A panic is no catch: only a named invariant counts.
            let text = std::panic::catch_unwind(|| run(&with)).ok()?.err()?;
            let passes = || run(&Plan { bug: None, ..with }).is_ok();
            let caught = text.contains(" is broken: ") && *sound.entry(variant).or_insert_with(passes);
            caught.then_some(text)
        });
        match told {
            Some(text) => caught.push(format!("{bug:?}: caught by {text}")),
            None => missed.push(format!("{bug:?} went unnoticed over {variants} variants")),
        }
    }
    (caught, missed)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
