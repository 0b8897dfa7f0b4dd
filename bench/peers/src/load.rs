//! Writers, each with one record under way: it appends the next one when the last one is on the disk.

use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Error;
use crate::machine::{Disk, cpu_time};
use crate::peer::{Append, Kind};

/// After the fill: what an engine does behind it comes to rest.
const REST: Duration = Duration::from_millis(300);
/// Time before the count begins.
const WARM_UP: Duration = Duration::from_millis(300);
/// Of a record of the fill.
const FILL_RECORD_BYTES: usize = 1 << 20;

/// What is asked of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Load {
    pub(crate) writers: usize,
    pub(crate) bytes: usize,
}

/// What a run gave.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Outcome {
    /// Appends per second.
    pub(crate) rate: f64,
    /// Microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    /// Flushes of the disk's cache per second, by whomever; None where the kernel counts none.
    pub(crate) flushes: Option<f64>,
    /// Cores that the process took.
    pub(crate) cores: f64,
}

const WARMING: u8 = 0;
const COUNTING: u8 = 1;
const OVER: u8 = 2;

/// How long, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) seconds: f64,
    /// Empty.
    pub(crate) directory: &'a Path,
    /// Where a writer that is alone runs; None: wherever the system likes.
    pub(crate) cpu: Option<usize>,
}

/// One run.
pub(crate) fn run(kind: Kind, load: Load, place: Place<'_>) -> Result<Outcome, Error> {
    let Place { seconds, directory, cpu } = place;
    let open = kind.open(directory, load.writers)?;
    let threads = kind.writers(load.writers);
    let mut writers = (0..threads).map(|index| open.writer(index)).collect::<Result<Vec<_>, _>>()?;
    fill(writers[0].as_mut(), kind.fill_bytes())?;
    thread::sleep(REST);
    let (phase, barrier) = (Arc::new(AtomicU8::new(WARMING)), Arc::new(Barrier::new(threads + 1)));
    let cpu = cpu.filter(|_| threads == 1);
    let start = |(index, mut writer): (usize, Box<dyn Append>)| {
        let (phase, barrier, record) = (Arc::clone(&phase), Arc::clone(&barrier), noise(index, load.bytes));
        thread::spawn(move || {
            let pinned = cpu.map_or(Ok(()), pin);
            barrier.wait();
            pinned?;
            write(writer.as_mut(), record, &phase).map_err(|error| error.to_string())
        })
    };
    let handles: Vec<_> = writers.into_iter().enumerate().map(start).collect();
    barrier.wait();
    thread::sleep(WARM_UP);
    let (disk, pid) = (Disk::of(directory)?, std::process::id());
    let (begun, used, flushes) = (Instant::now(), cpu_time(pid)?, disk.flushes());
    phase.store(COUNTING, Ordering::Release);
    thread::sleep(Duration::from_secs_f64(seconds));
    phase.store(OVER, Ordering::Release);
    let (elapsed, after) = (begun.elapsed().as_secs_f64(), disk.flushes());
    let cores = cpu_time(pid)?.saturating_sub(used).as_secs_f64() / elapsed;
    let mut latencies = Histogram::<u64>::new(3)?;
    for handle in handles {
        latencies.add(handle.join().map_err(|_| "a writer panicked")??)?;
    }
    drop(open);
    let us = |quantile| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Outcome {
        rate: latencies.len() as f64 / elapsed,
        p50: us(0.5),
        p99: us(0.99),
        max: us(1.0),
        flushes: after.zip(flushes).map(|(after, before)| (after - before) as f64 / elapsed),
        cores,
    })
}

fn pin(cpu: usize) -> Result<(), String> {
    let mut one = CpuSet::new();
    if cpu >= CpuSet::MAX_CPU {
        return Err(format!("there is no processor {cpu}"));
    }
    one.set(cpu);
    sched_setaffinity(None, &one).map_err(|error| format!("processor {cpu}: {error}"))
}

/// Appends until it is over; the latencies of what became durable while it counted, in nanoseconds.
fn write(writer: &mut dyn Append, mut record: Vec<u8>, phase: &AtomicU8) -> Result<Histogram<u64>, Error> {
    let mut latencies = Histogram::new(3)?;
    for number in 0u64.. {
        record[..8].copy_from_slice(&number.to_be_bytes());
        let begun = Instant::now();
        writer.append(&record)?;
        match phase.load(Ordering::Acquire) {
            WARMING => {}
            COUNTING => latencies.record(u64::try_from(begun.elapsed().as_nanos())?)?,
            _ => break,
        }
    }
    Ok(latencies)
}

fn fill(writer: &mut dyn Append, bytes: usize) -> Result<(), Error> {
    let record = noise(usize::MAX, FILL_RECORD_BYTES);
    (0..bytes / FILL_RECORD_BYTES).try_for_each(|_| writer.append(&record))
}

/// Bytes that do not compress.
fn noise(seed: usize, bytes: usize) -> Vec<u8> {
    let mut state = seed as u64 | 1;
    let next = || {
        // Xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(bytes.max(8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_counts_what_became_durable_while_it_counted() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place { seconds: 0.2, directory: directory.path(), cpu: Some(0) };
        let outcome = run(Kind::Bare, Load { writers: 1, bytes: 100 }, place).unwrap();
        assert!(outcome.rate > 0.0 && outcome.p50 > 0.0 && outcome.p50 <= outcome.p99);
        assert!(outcome.p99 <= outcome.max);
    }

    #[test]
    fn a_processor_that_is_not_there_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place { seconds: 0.1, directory: directory.path(), cpu: Some(usize::MAX) };
        assert!(run(Kind::Bare, Load { writers: 1, bytes: 100 }, place).is_err());
    }

    #[test]
    fn noise_does_not_repeat_itself() {
        let bytes = noise(3, 64);
        assert_eq!(bytes.len(), 64);
        assert!((1..32).all(|period| bytes[..32] != bytes[period..period + 32]));
        assert_ne!(noise(5, 64), bytes);
    }
}
