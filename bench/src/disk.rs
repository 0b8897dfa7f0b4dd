//! The bare disk: files that are there already, overwritten; small blocks with an fdatasync each, and as fast as it goes.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Error;

const BLOCK_BYTES: usize = 4 << 10;
const BLOCKS: u64 = 4096;

/// Latencies in nanoseconds.
pub(crate) fn fdatasync(directory: &Path, duration: Duration) -> Result<Histogram<u64>, Error> {
    let path = directory.join("fdatasync");
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path)?;
    for block in 0..BLOCKS {
        file.write_all_at(&[0; BLOCK_BYTES], block * BLOCK_BYTES as u64)?;
    }
    file.sync_all()?;
    let mut latencies = Histogram::new(3)?;
    let end = Instant::now() + duration;
    let mut block = 0;
    while Instant::now() < end {
        let started = Instant::now();
        file.write_all_at(&[block as u8; BLOCK_BYTES], block * BLOCK_BYTES as u64)?;
        file.sync_data()?;
        latencies.record(u64::try_from(started.elapsed().as_nanos())?)?;
        block = (block + 1) % BLOCKS;
    }
    std::fs::remove_file(path)?;
    Ok(latencies)
}

const LARGE_BYTES: usize = 1 << 20;
/// Of the file that is written from begin to end, over and over.
const LARGE: u64 = 256;
/// Writes after which it is synced: few enough that the page cache does not pass for a disk.
const LARGE_SYNC_EVERY: u64 = 64;

/// Writes of 1 MiB per second, in order; and the latencies of the fdatasyncs in between, in nanoseconds.
pub(crate) fn sequential(directory: &Path, duration: Duration) -> Result<(f64, Histogram<u64>), Error> {
    let path = directory.join("sequential");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    let block = vec![7; LARGE_BYTES];
    for number in 0..LARGE {
        file.write_all_at(&block, number * LARGE_BYTES as u64)?;
    }
    file.sync_all()?;
    let mut latencies = Histogram::new(3)?;
    let (begun, mut written) = (Instant::now(), 0);
    while begun.elapsed() < duration {
        for number in written..written + LARGE_SYNC_EVERY {
            file.write_all_at(&block, number % LARGE * LARGE_BYTES as u64)?;
        }
        let started = Instant::now();
        file.sync_data()?;
        latencies.record(u64::try_from(started.elapsed().as_nanos())?)?;
        written += LARGE_SYNC_EVERY;
    }
    let rate = written as f64 / begun.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok((rate, latencies))
}
