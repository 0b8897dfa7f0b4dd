//! The bare disk: overwrite 4 KiB that are there already, fdatasync, again.

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
