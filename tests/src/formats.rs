//! Fuzzing without any tool: inputs that are made of those of a corpus, from a seed, for every parser of bytes that come from
//! outside or from the disk. `fuzz/` has the same targets for libFuzzer; the corpora are there.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fastrand::Rng;

use crate::binary::workspace;

mod memory;

pub use memory::{Watched, watch};

/// A parser: its name, which is that of its corpus, and what it is fed by. True where the input was accepted.
type Target = (&'static str, fn(&[u8]) -> bool);

/// Every parser.
pub const TARGETS: [Target; 11] = [
    ("amqp_frames", |data| {
        leveret_server::amqp::fuzz::frames(data);
        true
    }),
    ("amqp_session", |data| {
        leveret_server::amqp::fuzz::session(data);
        true
    }),
    ("blob", leveret_engine::fuzz::blob),
    ("checkpoint", leveret_engine::fuzz::checkpoint),
    ("fact", leveret_broker::fuzz::fact),
    ("log_segment", leveret_engine::fuzz::log_segment),
    ("manifest", leveret_engine::fuzz::manifest),
    ("message", leveret_broker::fuzz::message),
    ("records", leveret_engine::fuzz::records),
    ("settled", leveret_engine::fuzz::settled),
    ("volatile", leveret_engine::fuzz::volatile),
];

/// Bytes that a parser may have at once for each byte of its input, and whatever that is: a simulated disk holds the input
/// several times, a session has buffers.
const BYTES_PER_BYTE: usize = 200;
const BYTES_ALWAYS: usize = 4 << 20;

/// What a campaign reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reached {
    /// Inputs.
    pub inputs: u64,
    /// Per target, inputs that were accepted, at least where checksums are not compared.
    pub accepted: BTreeMap<&'static str, u64>,
    /// The most bytes that a parser had at once; 0 where nobody watches.
    pub bytes_max: usize,
}

/// Inputs of a corpus, in order of their names.
pub fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = workspace().join("fuzz/corpus").join(target);
    let read =
        |path: &Path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let entries =
        std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths = entries.map(|entry| entry.expect("listed").path());
    let mut inputs: Vec<_> = paths.map(|path| (path.display().to_string(), read(&path))).collect();
    inputs.sort();
    inputs
}

/// Feeds inputs, each to the target whose turn it is. Err: what fell, and the number that repeats it.
pub fn campaign(from: u64, inputs: u64, until: Instant, threads: usize) -> Result<Reached, String> {
    let corpora: Vec<Vec<Vec<u8>>> =
        TARGETS.iter().map(|(name, _)| corpus(name).into_iter().map(|(_, input)| input).collect()).collect();
    let next = AtomicU64::new(from);
    let sum = Mutex::new(Reached::default());
    let failure: Mutex<Option<String>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut reached = Reached::default();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let failed = failure.lock().expect("no panic holds it").is_some();
                    if number >= from + inputs || failed || Instant::now() > until {
                        break;
                    }
                    let index = (number % TARGETS.len() as u64) as usize;
                    if let Err(why) = feed(number, index, &corpora[index], &mut reached) {
                        failure.lock().expect("no panic holds it").get_or_insert(why);
                    }
                }
                sum.lock().expect("no panic holds it").add(&reached);
            });
        }
    });
    match failure.into_inner().expect("threads have ended") {
        Some(why) => Err(why),
        None => {
            let reached = sum.into_inner().expect("threads have ended");
            reached.floors().map(|()| reached)
        }
    }
}

fn feed(number: u64, index: usize, corpus: &[Vec<u8>], reached: &mut Reached) -> Result<(), String> {
    let (name, run) = TARGETS[index];
    let mut rng = Rng::with_seed(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x6675_7a7a);
    let input = mutate(&mut rng, corpus);
    let (survived, bytes) = watch(|| std::panic::catch_unwind(|| run(&input)));
    let hex = || input.iter().take(2_000).map(|byte| format!("{byte:02x}")).collect::<String>();
    let Ok(accepted) = survived else {
        return Err(format!("input {number}: {name} falls over {} bytes: {}", input.len(), hex()));
    };
    let most = BYTES_PER_BYTE * input.len() + BYTES_ALWAYS;
    if bytes > most {
        return Err(format!(
            "input {number}: {name} has {bytes} bytes at once for {} bytes, at most {most} are due: {}",
            input.len(),
            hex()
        ));
    }
    reached.inputs += 1;
    reached.bytes_max = reached.bytes_max.max(bytes);
    *reached.accepted.entry(name).or_default() += u64::from(accepted);
    Ok(())
}

/// One input of the corpus, or pieces of several, and some damage.
fn mutate(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = corpus[rng.usize(..corpus.len())].clone();
    if rng.u8(..4) == 0 {
        input.truncate(rng.usize(..=input.len()));
        for _ in 0..rng.usize(1..3) {
            let other = &corpus[rng.usize(..corpus.len())];
            let from = rng.usize(..=other.len());
            input.extend_from_slice(&other[from..rng.usize(from..=other.len())]);
        }
    }
    for _ in 0..rng.usize(..6) {
        if input.is_empty() {
            break;
        }
        // What decides stands at the front and at the end, and much else is the same byte again and again.
        let at = match rng.u8(..4) {
            0 => rng.usize(..input.len().min(128)),
            1 => input.len() - 1 - rng.usize(..input.len().min(128)),
            _ => rng.usize(..input.len()),
        };
        match rng.u8(..7) {
            0 => input[at] = rng.u8(..),
            1 => input[at] ^= 1 << rng.u8(..8),
            2 => drop(input.remove(at)),
            3 => input.insert(at, rng.u8(..)),
            _ => {
                // A field of four or eight bytes with a number that is small, large, or nearly too large.
                let wide =
                    [0, 1, u64::MAX, u64::MAX / 2, 1 << 32, u64::from(u32::MAX), 4_096, rng.u64(..300)];
                let field = wide[rng.usize(..wide.len())].to_le_bytes();
                let length = if rng.bool() { 4 } else { 8 };
                let at = if rng.bool() { at / 4 * 4 } else { at };
                input.iter_mut().skip(at).zip(&field[..length]).for_each(|(byte, new)| *byte = *new);
            }
        }
    }
    input
}

impl Reached {
    fn add(&mut self, other: &Self) {
        self.inputs += other.inputs;
        self.bytes_max = self.bytes_max.max(other.bytes_max);
        for (name, count) in &other.accepted {
            *self.accepted.entry(name).or_default() += count;
        }
    }

    /// Of the inputs of each target a part is accepted: a parser that refuses everything was not tried.
    fn floors(&self) -> Result<(), String> {
        if self.inputs < 10_000 {
            return Ok(());
        }
        let floor = self.inputs / TARGETS.len() as u64 / 20;
        for (name, _) in TARGETS {
            let accepted = self.accepted.get(name).copied().unwrap_or(0);
            if accepted < floor {
                return Err(format!(
                    "an empty run: {accepted} inputs of {name} were accepted, at least {floor} wanted"
                ));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} inputs: at most {} bytes at once; accepted:", self.inputs, self.bytes_max)?;
        self.accepted.iter().try_for_each(|(name, count)| write!(f, " {name} {count}"))
    }
}
