//! Bytes on their way to the socket: small frames in one buffer, large bodies shared and not copied, and where in the
//! stream the credit of deliveries falls due.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};
use leveret_broker::ChanId;

/// Parts of bodies from this size on are not copied.
const SHARED_BYTES_MIN: usize = 16 * 1024;
/// Deliveries of one channel share a mark up to so many bytes.
const MARK_BYTES: u64 = 16 * 1024;
/// What has gone is cut off the buffer once it is so much, and half of it.
const GONE_BYTES_MAX: usize = 64 * 1024;
/// An empty buffer that is larger is given back.
const KEPT_BYTES_MAX: usize = 256 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What was written before `open`.
    chunks: VecDeque<Bytes>,
    open: Vec<u8>,
    /// How much of `open` has been handed to the kernel.
    open_gone: usize,
    /// Bytes ever put in, and ever handed to the kernel.
    put: u64,
    gone: u64,
    marks: VecDeque<Mark>,
}

/// So much credit of a channel is due once the stream has been written to here.
#[derive(Debug)]
struct Mark {
    from: u64,
    at: u64,
    chan: ChanId,
    bytes: u64,
}

impl Outbox {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        (self.put - self.gone) as usize
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.put == self.gone
    }

    /// Lets `write` append to the stream.
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.open.len();
        write(&mut self.open);
        self.put += (self.open.len() - before) as u64;
    }

    /// Appends a part of a body, shared if it is large.
    pub fn body(&mut self, part: Bytes) {
        if part.len() < SHARED_BYTES_MIN {
            return self.write(|out| out.extend_from_slice(&part));
        }
        self.put += part.len() as u64;
        if self.open.len() > self.open_gone {
            let mut open = Bytes::from(std::mem::take(&mut self.open));
            open.advance(std::mem::take(&mut self.open_gone));
            self.chunks.push_back(open);
        }
        self.chunks.push_back(part);
    }

    /// What was put in up to now includes deliveries that cost so much credit.
    pub fn mark(&mut self, chan: ChanId, bytes: u64) {
        let at = self.put;
        match self.marks.back_mut() {
            Some(last) if last.chan == chan && at - last.from < MARK_BYTES => {
                last.at = at;
                last.bytes += bytes;
            }
            _ => self.marks.push_back(Mark { from: at, at, chan, bytes }),
        }
    }

    /// What waits, in order, as far as `slices` takes it; how many were filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let open = &self.open[self.open_gone..];
        let parts = self.chunks.iter().map(|chunk| &chunk[..]).chain(std::iter::once(open));
        let mut filled = 0;
        for (slice, part) in slices.iter_mut().zip(parts.filter(|part| !part.is_empty())) {
            *slice = IoSlice::new(part);
            filled += 1;
        }
        filled
    }

    /// The kernel has taken `count` bytes. `credit` hears what is due now.
    pub fn advance(&mut self, mut count: usize, mut credit: impl FnMut(ChanId, u64)) {
        self.gone += count as u64;
        debug_assert!(self.gone <= self.put);
        while let Some(first) = self.chunks.front_mut() {
            let step = first.len().min(count);
            first.advance(step);
            count -= step;
            if !first.is_empty() {
                break;
            }
            self.chunks.pop_front();
        }
        self.open_gone += count;
        if self.open_gone == self.open.len() {
            self.open_gone = 0;
            self.open.clear();
            if self.open.capacity() > KEPT_BYTES_MAX {
                self.open = Vec::new();
            }
        } else if self.open_gone >= GONE_BYTES_MAX.max(self.open.len() / 2) {
            self.open.drain(..std::mem::take(&mut self.open_gone));
        }
        while self.marks.front().is_some_and(|mark| mark.at <= self.gone) {
            if let Some(mark) = self.marks.pop_front() {
                credit(mark.chan, mark.bytes);
            }
        }
    }

    /// Gives memory back that an idle connection does not need.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            self.open = Vec::new();
            self.chunks.shrink_to_fit();
            self.marks.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests;
