//! What clients have sent in part, over all connections: a bound that one setting gives, however many there are.
//!
//! Nobody waits for it: a client that waits while it holds a part could wait for one that does the same. Where the
//! bound is passed, the part that began first goes, with its connection: whoever sends at an ordinary pace is long
//! done by then.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

/// What a connection holds counts in steps of so many bytes; less than one is free.
const STEP_BYTES: u64 = 16 * 1024;

/// The parts of all connections. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct HalfSent {
    bytes_max: u64,
    parts: Arc<Mutex<Parts>>,
    /// For who looks at it from outside.
    shown: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Parts {
    bytes: u64,
    next: u64,
    by_age: BTreeMap<Age, Part>,
}

/// Since when, and a number that no two share.
type Age = (Instant, u64);

#[derive(Debug)]
struct Part {
    bytes: u64,
    owner: Arc<Owner>,
}

#[derive(Debug, Default)]
struct Owner {
    evicted: AtomicBool,
    told: Notify,
}

/// One connection's part. Dropping it gives its bytes back.
#[derive(Debug)]
pub(super) struct Share {
    pool: HalfSent,
    owner: Arc<Owner>,
    held: Option<(Age, u64)>,
}

impl HalfSent {
    /// A pool in which all parts together have at most so many bytes. It shows how many they have.
    pub(super) fn new(bytes_max: u64, shown: Arc<AtomicU64>) -> Self {
        Self { bytes_max, parts: Arc::default(), shown }
    }

    /// The share of a new connection.
    pub(super) fn share(&self) -> Share {
        Share { pool: self.clone(), owner: Arc::default(), held: None }
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// The connection holds so many bytes of what is not whole, the oldest of it `since` then.
    pub(super) fn hold(&mut self, since: Instant, bytes: u64) {
        let bytes = bytes / STEP_BYTES * STEP_BYTES;
        let same = match self.held {
            Some(((before, _), held)) => before == since && held == bytes,
            None => bytes == 0,
        };
        if same || self.is_evicted() {
            return;
        }
        let mut parts = self.pool.parts();
        if let Some((age, _)) = self.held.take() {
            parts.remove(age);
        }
        if bytes == 0 {
            self.pool.shown.store(parts.bytes, Ordering::Relaxed);
            return;
        }
        let age = (since, parts.next);
        parts.next += 1;
        parts.bytes += bytes;
        parts.by_age.insert(age, Part { bytes, owner: Arc::clone(&self.owner) });
        self.held = Some((age, bytes));
        while parts.bytes > self.pool.bytes_max {
            let Some((age, part)) = parts.by_age.first_key_value() else { break };
            let (age, owner) = (*age, Arc::clone(&part.owner));
            parts.remove(age);
            owner.evicted.store(true, Ordering::Release);
            owner.told.notify_one();
        }
        self.pool.shown.store(parts.bytes, Ordering::Relaxed);
    }

    /// Its part has to go: nothing more of it is counted.
    pub(super) fn is_evicted(&self) -> bool {
        self.owner.evicted.load(Ordering::Acquire)
    }

    /// Ready when its part has to go.
    pub(super) async fn evicted(&self) {
        while !self.is_evicted() {
            self.owner.told.notified().await;
        }
    }

    /// The most that all may hold, for the words to the client.
    pub(super) fn bytes_max(&self) -> u64 {
        self.pool.bytes_max
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some((age, _)) = self.held {
            let mut parts = self.pool.parts();
            parts.remove(age);
            self.pool.shown.store(parts.bytes, Ordering::Relaxed);
        }
    }
}

impl Parts {
    /// It may have been evicted meanwhile.
    fn remove(&mut self, age: Age) {
        if let Some(part) = self.by_age.remove(&age) {
            self.bytes -= part.bytes;
        }
    }
}

#[cfg(test)]
mod tests;
