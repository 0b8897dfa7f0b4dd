//! The scrub: reads what the store keeps for long, slowly, so that media that went bad show before somebody needs what
//! stood there: settled segments whole, log segments that have ended and in which something lives, bodies in blob files,
//! checkpoints. One waiting call to the disk per step (but for a footer). It changes nothing; what it finds it tells once.
//!
//! ```text
//! pass = every settled segment: footer, every record, marks | every such log segment: every frame and its records
//!      | every blob file: its header, every body that lives | every checkpoint: its checksum
//!      then it rests until a pass's time is over
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::checkpoint::Verify;
use crate::disk::DiskFile;
use crate::format::checkpoint_name;
use crate::ids::{FileId, QueueId, SegmentNo};
use crate::shared::{Counters, Shared, Step, lock};

mod blobs;
mod log;
mod settled;
#[cfg(all(test, feature = "sim"))]
mod tests;

use blobs::BlobScrub;
use log::LogScrub;
use settled::SettledScrub;

/// Bytes read by one step, about.
const READ_BYTES: u64 = 256 << 10;
/// The first pass begins so long after the open, or after a pass's time if that is shorter.
const FIRST_MS: u64 = 600_000;
/// How long it stands back while publishers are held: then the disk is needed for other things.
const GIVE_WAY_MS: u64 = 1_000;
/// Findings that are remembered so that they are not told again.
const TOLD_MAX: usize = 10_000;
/// Queues that a finding names.
const QUEUES_NAMED: usize = 5;

/// Work in the background.
#[derive(Debug)]
pub struct Scrub {
    shared: Arc<Shared>,
    job: Job,
    todo: VecDeque<Todo>,
    /// A pass is under way; when it began.
    pass_from_ms: Option<u64>,
    /// Not before.
    next_ms: Option<u64>,
    told: BTreeSet<(String, u64)>,
}

#[derive(Debug, Clone, Copy)]
enum Todo {
    Settled(FileId),
    Log(SegmentNo),
    Blobs(FileId),
    Checkpoint(FileId),
}

#[derive(Debug)]
enum Job {
    None,
    Settled(Box<SettledScrub>),
    Log(Box<LogScrub>),
    Blobs(Box<BlobScrub>),
    Checkpoint { name: String, file: Arc<dyn DiskFile>, bytes: u64, verify: Verify },
}

/// What a step came to.
#[derive(Debug, Default)]
struct Read {
    bytes: u64,
    damage: Vec<Damage>,
    done: bool,
}

/// Something that is not what was written.
#[derive(Debug)]
struct Damage {
    file: String,
    offset: u64,
    what: String,
    /// Per queue, live messages that stand there.
    concerned: Vec<(QueueId, u64)>,
}

impl Scrub {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let told = BTreeSet::new();
        Self { shared, job: Job::None, todo: VecDeque::new(), pass_from_ms: None, next_ms: None, told }
    }

    /// Does the next bit of work.
    pub fn step(&mut self, now_ms: u64) -> Step {
        if self.shared.failure().is_some() || self.shared.writer_done.load(Ordering::Acquire) {
            return Step::Done;
        }
        let settings = &self.shared.settings;
        let rate = settings.scrub_bytes_per_s;
        if rate == 0 {
            return Step::Idle { again_ms: None };
        }
        let next_ms = *self.next_ms.get_or_insert(now_ms + settings.scrub_pass_ms.min(FIRST_MS));
        if now_ms < next_ms {
            return Step::Idle { again_ms: Some(next_ms - now_ms) };
        }
        if self.shared.pressure.load(Ordering::Acquire) != 0 {
            self.next_ms = Some(now_ms + GIVE_WAY_MS);
            return Step::Idle { again_ms: Some(GIVE_WAY_MS) };
        }
        let read = self.advance(now_ms);
        Counters::add(&self.shared.counters.scrub_bytes, read.bytes);
        read.damage.into_iter().for_each(|damage| self.tell(damage));
        if read.done {
            self.job = Job::None;
        }
        let rest_ms = (u128::from(read.bytes) * 1_000 / u128::from(rate)) as u64;
        self.next_ms = self.next_ms.map(|next_ms| next_ms.max(now_ms + rest_ms));
        Step::Worked
    }

    fn advance(&mut self, now_ms: u64) -> Read {
        match &mut self.job {
            Job::None => {
                self.next_job(now_ms);
                Read::default()
            }
            Job::Settled(scrub) => scrub.advance(&self.shared),
            Job::Log(scrub) => scrub.advance(&self.shared),
            Job::Blobs(scrub) => scrub.advance(&self.shared),
            Job::Checkpoint { name, file, bytes, verify } => read_checkpoint(name, file, *bytes, verify),
        }
    }

    fn next_job(&mut self, now_ms: u64) {
        let Some(todo) = self.todo.pop_front() else {
            if let Some(began_ms) = self.pass_from_ms.take() {
                Counters::add(&self.shared.counters.scrub_passes, 1);
                self.next_ms = Some(began_ms + self.shared.settings.scrub_pass_ms);
            } else {
                self.pass_from_ms = Some(now_ms);
                self.begin_pass();
            }
            return;
        };
        // What is gone by now is not read.
        self.job = match todo {
            Todo::Settled(file) => {
                let open = lock(&self.shared.settled).get(&file).cloned();
                open.map_or(Job::None, |file| Job::Settled(Box::new(SettledScrub::new(file))))
            }
            Todo::Log(no) => Job::Log(Box::new(LogScrub::new(no))),
            Todo::Blobs(file) => Job::Blobs(Box::new(BlobScrub::new(file))),
            Todo::Checkpoint(file) => {
                let name = checkpoint_name(file);
                let opened = self.shared.disk.open(&name).and_then(|file| Ok((file.len()?, file)));
                opened.map_or(Job::None, |(bytes, file)| Job::Checkpoint {
                    name,
                    file,
                    bytes,
                    verify: Verify::default(),
                })
            }
        };
    }

    fn begin_pass(&mut self) {
        let settled = lock(&self.shared.settled).keys().map(|file| Todo::Settled(*file)).collect::<Vec<_>>();
        let below = lock(&self.shared.ledger).settled_below;
        let log = lock(&self.shared.log);
        let ended = log.segments.range(below..).filter(|(_, segment)| segment.end.is_some());
        let ended: Vec<Todo> = ended.map(|(no, _)| Todo::Log(*no)).collect();
        drop(log);
        let blobs: Vec<Todo> = lock(&self.shared.blobs).files.keys().map(|id| Todo::Blobs(*id)).collect();
        let checkpoints = self.shared.manifest.state().checkpoints;
        let checkpoints = checkpoints.iter().map(|entry| Todo::Checkpoint(entry.file));
        self.todo = settled.into_iter().chain(ended).chain(blobs).chain(checkpoints).collect();
    }

    fn tell(&mut self, damage: Damage) {
        let place = (damage.file.clone(), damage.offset);
        if self.told.len() >= TOLD_MAX || !self.told.insert(place) {
            return;
        }
        Counters::add(&self.shared.counters.scrub_findings, 1);
        self.shared.find_damage(damage.sentence());
    }
}

/// Reads a part of a checkpoint; the checksum is judged at its end.
fn read_checkpoint(name: &str, file: &Arc<dyn DiskFile>, bytes: u64, verify: &mut Verify) -> Read {
    let offset = verify.read();
    let mut part = vec![0; READ_BYTES.min(bytes - offset) as usize];
    let damage = |offset: u64, what: String| Damage {
        file: name.to_owned(),
        offset,
        what: format!("{what}; a start would refuse it"),
        concerned: Vec::new(),
    };
    if let Err(error) = file.read_at(offset, &mut part) {
        return Read { bytes: 0, damage: vec![damage(offset, cannot_be_read(&error))], done: true };
    }
    file.will_not_read(offset, part.len() as u64);
    verify.take(&part);
    let done = verify.read() == bytes;
    let bad = done && !verify.matches();
    let damage = bad.then(|| damage(0, "its checksum does not match".to_owned()));
    Read { bytes: part.len() as u64, damage: damage.into_iter().collect(), done }
}

fn cannot_be_read(error: &std::io::Error) -> String {
    format!("it cannot be read: {error}")
}

impl Damage {
    fn sentence(&self) -> String {
        let mut concerned = self.concerned.iter().filter(|(_, count)| *count > 0);
        let named: Vec<String> = concerned
            .by_ref()
            .take(QUEUES_NAMED)
            .map(|(queue, count)| format!("{count} of queue {queue}"))
            .collect();
        let (queues, count) = concerned.fold((0, 0), |(queues, sum), (_, count)| (queues + 1, sum + count));
        let mut text =
            format!("{} is damaged at offset {} (found by the scrub): {}", self.file, self.offset, self.what);
        if named.is_empty() {
            text.push_str("; no message that lives stands there");
        } else {
            text.push_str("; live messages there: ");
            text.push_str(&named.join(", "));
            if queues > 0 {
                text.push_str(&format!(", and {count} of {queues} other queues"));
            }
        }
        text
    }
}
