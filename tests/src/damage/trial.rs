//! One trial: a store is damaged, and then checked, opened, read, scrubbed, written to, repaired.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use leveret_engine::offline::{Checked, LeaveOut, Repaired, check, repair};
use leveret_engine::{
    Batch, Control, Disk, Error, Fetch, Payload, Put, Recovered, Seq, Settings, SimDisk, Step, Store, Ticket,
    Urgency, Workers,
};

use super::PER_STORE;
use super::history::{Files, Image, files, make};
use super::inflict::{Damage, Kind, Together, inflict};
use super::judge::{Case, broken};
use super::layout::{Layout, Target};
use super::reached::Reached;
use crate::checker::{Invariant, Violation};

/// How often a place for another damage is looked for.
const ATTEMPTS: u32 = 500;

/// What a damage came to.
#[derive(Debug)]
pub struct Outcome {
    /// The broken invariant, if one was.
    pub violation: Option<Violation>,
    /// What it reached.
    pub reached: Reached,
}

/// A store that is damaged again and again, each time anew.
#[derive(Debug)]
pub(super) struct Base {
    image: Image,
    layout: Layout,
}

/// What a store gave back: payloads by queue and place, and why the rest could not be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) found: BTreeMap<(u64, u64), Bytes>,
    pub(super) lost: BTreeMap<(u64, u64), String>,
}

/// Runs one damage, with a deliberate bug if asked for.
pub fn run(number: u64, together: Together, control: Option<Control>) -> Outcome {
    Base::new(number / PER_STORE).trial(number, together, control)
}

/// In words, what a damage does.
pub fn show(number: u64, together: Together) -> String {
    Base::new(number / PER_STORE).show(number, together)
}

impl Base {
    /// The store of that number.
    pub(super) fn new(store: u64) -> Self {
        let image = make(store);
        let layout = Layout::of(&image);
        Self { image, layout }
    }

    /// In words, what stands in the log, what a damage does, and what a check says of it.
    pub(super) fn show(&self, number: u64, together: Together) -> String {
        let mut text = String::new();
        for frame in &self.layout.frames {
            let (from, upto) = frame.commits;
            let (number, file) = (frame.number, &frame.file);
            text += &format!(
                "frame {number}, commits {} to {upto}: {file} {}..{}\n",
                from + 1,
                frame.start,
                frame.end
            );
        }
        let mut rng = rng(number);
        let mut files = self.image.files.clone();
        for damage in self.damage(&mut rng, number, together, &mut files) {
            text += &format!("{damage}\n");
        }
        for (name, bytes) in &files {
            text += &format!("file {name}: {} bytes\n", bytes.len());
        }
        match check(&Image::disk(&files), &mut |_, _| ()) {
            Ok(Checked { findings, loss, .. }) => {
                text += &findings.iter().map(|finding| format!("{finding:?}\n")).collect::<String>();
                text += &format!("{loss:?}\n");
            }
            Err(error) => text += &format!("{error}\n"),
        }
        text
    }

    /// Damages it.
    pub(super) fn trial(&self, number: u64, together: Together, control: Option<Control>) -> Outcome {
        let mut rng = rng(number);
        let mut files = self.image.files.clone();
        let damages = self.damage(&mut rng, number, together, &mut files);
        let mut reached = Reached { damages: 1, ..Reached::default() };
        for damage in &damages {
            *reached.pairs.entry((damage.kind, damage.target)).or_default() += 1;
        }
        let mut trial = Trial { base: self, damages, files, control, reached, rng };
        let violation = trial.go().err();
        let told: Vec<String> = trial.damages.iter().map(ToString::to_string).collect();
        let violation = violation.map(|Violation { invariant, text }| Violation {
            invariant,
            text: format!("after {}: {text}", told.join(", and ")),
        });
        Outcome { violation, reached: trial.reached }
    }

    /// Each kind of damage at each kind of place in turn, and now and then more of them.
    fn damage(&self, rng: &mut Rng, number: u64, together: Together, files: &mut Files) -> Vec<Damage> {
        let pairs = Kind::ALL.len() * Target::ALL.len();
        let pair = |index: usize| (Kind::ALL[index % Kind::ALL.len()], Target::ALL[index / Kind::ALL.len()]);
        let mut next = pair((number % pairs as u64) as usize);
        let wanted = match rng.u8(..20) {
            0 => 3,
            1..4 => 2,
            _ => 1,
        };
        let mut damages = Vec::new();
        // A store may have nothing more that may be hit.
        for _ in 0..ATTEMPTS {
            if damages.len() == wanted {
                break;
            }
            let vital = damages.iter().any(|damage: &Damage| damage.target.is_vital());
            if together == Together::OneVital && vital && next.1.is_vital() {
                next = pair(rng.usize(..pairs));
                continue;
            }
            damages.extend(inflict(rng, &self.image, &self.layout, files, next));
            next = pair(rng.usize(..pairs));
        }
        damages
    }
}

fn rng(number: u64) -> Rng {
    Rng::with_seed(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

struct Trial<'a> {
    base: &'a Base,
    damages: Vec<Damage>,
    /// The damaged directory.
    files: Files,
    control: Option<Control>,
    reached: Reached,
    rng: Rng,
}

impl Trial<'_> {
    fn go(&mut self) -> Result<(), Violation> {
        let disk = Image::disk(&self.files);
        let checked = check(&disk, &mut |_, _| ())
            .map_err(|error| broken(Invariant::I12, format!("check ended with: {error}")))?;
        self.unchanged(&disk, "check")?;
        match open(&disk, &self.settings()) {
            Ok((store, workers, recovered)) => self.served(&disk, &checked, store, workers, &recovered),
            Err(error @ Error::Damage { .. }) => {
                self.reached.refused += 1;
                self.reached.live_hit += 1;
                self.refused(&disk, &checked, &error.to_string())
            }
            Err(error) => Err(broken(Invariant::I12, format!("the open ended with: {error}"))),
        }
    }

    fn settings(&self) -> Settings {
        self.base.image.settings(self.control)
    }

    fn case(&self) -> Case<'_> {
        Case::new(&self.base.image, &self.base.layout, &self.files, &self.damages)
    }

    fn refused(&mut self, disk: &SimDisk, checked: &Checked, why: &str) -> Result<(), Violation> {
        self.unchanged(disk, "an open that is refused")?;
        let names = |damage: &Damage| {
            let other = damage.other.as_ref().is_some_and(|other| why.contains(other));
            // A manifest that lost its end lists files that are gone by now: then one of them is named.
            let manifest = damage.target == Target::Manifest && why.contains("the manifest lists");
            why.contains(&damage.file) || other || manifest
        };
        if !self.damages.iter().any(names) || !why.contains("`leveret repair") {
            return Err(broken(Invariant::I12, format!("what was damaged is not named: {why}")));
        }
        if checked.sound {
            return Err(broken(Invariant::I12, format!("check finds nothing, the open says: {why}")));
        }
        self.repaired(disk)
    }

    fn served(
        &mut self,
        disk: &SimDisk,
        checked: &Checked,
        mut store: Store,
        mut workers: Workers,
        recovered: &Recovered,
    ) -> Result<(), Violation> {
        scrub(&store, &mut workers);
        let read = read_all(&mut store, &mut workers, recovered)?;
        let cut = self.case().served(recovered, &read)?;
        self.reached.cut += u64::from(cut);
        self.reached.told_lost += read.lost.len() as u64;
        let whole = read.lost.is_empty();
        self.reached.whole += u64::from(whole);
        self.reached.less += u64::from(!whole);
        self.reached.live_hit += u64::from(!whole || cut);
        // What was acked in a torn tail that is cut lives again, and may have been dropped since: nobody is to miss it.
        let missed = read.lost.keys().any(|at| self.case().lives(*at));
        if missed {
            if checked.sound {
                let text = format!("check finds nothing, but {} messages cannot be read", read.lost.len());
                return Err(broken(Invariant::I12, text));
            }
            let told = !recovered.report.damaged.is_empty() || !recovered.report.lost.is_empty();
            if store.damage_found() == 0 && !told {
                let text = format!(
                    "neither start nor scrub find anything, but {} messages cannot be read",
                    read.lost.len()
                );
                return Err(broken(Invariant::I12, text));
            }
            self.reached.scrubbed += u64::from(store.damage_found() > 0);
        }
        self.case().kept(checked, &files(disk), "an open")?;
        if checked.sound || self.rng.bool() {
            self.goes_on(disk, store, workers, recovered, read)?;
            if checked.sound {
                return Ok(());
            }
            return self.repaired(&Image::disk(&self.files));
        }
        drop((store, workers));
        disk.kill();
        self.repaired(disk)
    }

    /// Repairs, opens what was made, and judges it by what the repair said.
    fn repaired(&mut self, disk: &SimDisk) -> Result<(), Violation> {
        let before = files(disk);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let done = repair(&shared, &mut |_, _| (), &mut |_| Some(LeaveOut::default()))
            .map_err(|error| broken(Invariant::I12, format!("the repair ended with: {error}")))?;
        let Repaired { found, changed, refused, .. } = &done;
        if !changed {
            // Where both checkpoints are gone nothing can be done, and nothing is.
            if self.damages.len() < 2 || found.beyond_repair.is_none() || files(disk) != before {
                return Err(broken(Invariant::I12, format!("the repair refused: {refused:?}")));
            }
            self.reached.beyond_repair += 1;
            return Ok(());
        }
        self.reached.repaired += 1;
        self.case().kept(found, &files(disk), "a repair")?;
        let again = check(disk, &mut |_, _| ())
            .map_err(|error| broken(Invariant::I12, format!("check after the repair: {error}")))?;
        if !again.sound {
            let text = format!("a check after the repair still finds {:?}", again.findings);
            return Err(broken(Invariant::I12, text));
        }
        let (mut store, mut workers, recovered) = open(disk, &self.settings())
            .map_err(|error| broken(Invariant::I12, format!("the open after the repair: {error}")))?;
        let read = read_all(&mut store, &mut workers, &recovered)?;
        let told = self.case().repaired(&done.found, &recovered, &read)?;
        self.reached.told_lost += told;
        self.goes_on(disk, store, workers, &recovered, read)
    }

    /// What can be served goes on: each queue takes a message more and gives it out, the background works, and after
    /// another start all of it is there.
    fn goes_on(
        &mut self,
        disk: &SimDisk,
        mut store: Store,
        mut workers: Workers,
        recovered: &Recovered,
        mut read: Read,
    ) -> Result<(), Violation> {
        let stuck = |what: &str| broken(Invariant::I12, format!("the rest does not go on: {what}"));
        let mut batch = Batch::default();
        for queue in &recovered.queues {
            let body = Bytes::from(format!("one more for queue {}", queue.queue));
            read.found.insert((queue.queue.0, queue.next.0), body.clone());
            let payload = Payload { head: Bytes::new(), body };
            batch.puts.push(Put { targets: vec![(queue.queue, queue.next)], payload, blob: None });
        }
        batch.facts.push((Bytes::from("more"), Some(Bytes::from("1"))));
        let ticket = store.commit(batch, Urgency::Now).map_err(|error| stuck(&error.to_string()))?;
        for now_ms in 0..400 {
            workers.writer.step(now_ms);
            workers.settler.step(now_ms);
            workers.keeper.step(now_ms);
            workers.blobs.step(now_ms);
        }
        if let Some(failure) = store.failure() {
            return Err(stuck(&failure.to_string()));
        }
        if store.durable() < ticket {
            return Err(stuck("what was committed does not become durable"));
        }
        drop((store, workers));
        disk.kill();
        let (mut store, mut workers, recovered) =
            open(disk, &self.settings()).map_err(|error| stuck(&error.to_string()))?;
        let again = read_all(&mut store, &mut workers, &recovered)?;
        if again.found != read.found || !again.lost.keys().eq(read.lost.keys()) {
            let gone: Vec<_> = read.found.keys().filter(|at| !again.found.contains_key(at)).collect();
            let new: Vec<_> = again.found.keys().filter(|at| !read.found.contains_key(at)).collect();
            let lost: Vec<_> = again.lost.iter().collect();
            return Err(broken(
                Invariant::I12,
                format!("the next start finds other messages: {gone:?} are gone, {new:?} new, {lost:?} lost"),
            ));
        }
        Ok(())
    }

    fn unchanged(&self, disk: &SimDisk, who: &str) -> Result<(), Violation> {
        if files(disk) == self.files {
            return Ok(());
        }
        Err(broken(Invariant::I12, format!("{who} changed something")))
    }
}

fn open(disk: &SimDisk, settings: &Settings) -> Result<(Store, Workers, Recovered), Error> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Store::open(&disk, settings.clone())
}

/// A whole pass.
fn scrub(store: &Store, workers: &mut Workers) {
    for now_ms in 0..100_000 {
        workers.scrub.step(now_ms);
        if store.stats().scrub_passes_total > 0 {
            return;
        }
    }
    panic!("the scrub comes to no end");
}

/// Reads every queue from its beginning.
pub(super) fn read_all(
    store: &mut Store,
    workers: &mut Workers,
    recovered: &Recovered,
) -> Result<Read, Violation> {
    let mut read = Read::default();
    for queue in &recovered.queues {
        let id = queue.queue.0;
        let mut from = Seq(1);
        let before = read.found.len() + read.lost.len();
        while from < queue.next {
            let (upto, after) = (queue.next, Ticket(0));
            store.fetch(Fetch {
                queue: queue.queue,
                generation: 0,
                from,
                upto,
                count_max: 50,
                bytes_max: 1 << 20,
                after,
            });
            while workers.reader.step() == Step::Worked {}
            let answer = store.answers().pop();
            let Some(answer) = answer.filter(|answer| answer.upto > from) else {
                return Err(broken(
                    Invariant::I12,
                    format!("a read of queue {id} from {from} gets no answer"),
                ));
            };
            read.lost.extend(answer.lost.into_iter().map(|(seq, why)| ((id, seq.0), why)));
            read.found.extend(answer.messages.into_iter().map(|(seq, body)| ((id, seq.0), body)));
            from = answer.upto;
        }
        let count = (read.found.len() + read.lost.len() - before) as u64;
        if count != queue.live {
            let text = format!("queue {id} is said to hold {} messages, reads give {count}", queue.live);
            return Err(broken(Invariant::I12, text));
        }
    }
    Ok(read)
}
