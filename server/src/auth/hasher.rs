//! Argon2, on threads of its own: a few, so that logins take no more than a part of the machine, and of low priority, so
//! that they take it when nobody else wants it. Jobs have their turns by address and user: a storm of wrong passwords
//! waits for itself.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::{io, thread};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::oneshot;
use tracing::{debug, error};

use super::turns::{Turns, Whose};
use super::{Password, Refused};

/// Memory in KiB, passes and lanes of new hashes, as OWASP advises. About 20 ms of a processor.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
/// Threads at most; each takes [`MEMORY_KIB`] while it works.
const THREADS_MAX: usize = 4;
/// How far the threads stand back behind the others.
const NICE: i32 = 10;

/// Verified in place of the hash of a user who does not exist, so that it takes as long.
pub(super) const DECOY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGlzIGluIGhlcg$ub1BRW5uhGMq5MGCl3o5j6LRE5JmFtpgdRs0oJ6d6sI";

/// The threads. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Hasher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Debug)]
struct State {
    turns: Turns<Job>,
    closed: bool,
}

/// What is to be done, and who waits for it. Refused when there is no place for it.
#[derive(Debug)]
enum Job {
    Verify { password: Password, hash: Arc<str>, done: oneshot::Sender<Result<bool, Refused>> },
    Hash { password: Password, done: oneshot::Sender<Result<String, Refused>> },
}

impl Hasher {
    /// Starts the threads: for half of the processors.
    pub(super) fn start() -> io::Result<Self> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self::with_threads((processors / 2).clamp(1, THREADS_MAX))
    }

    pub(super) fn with_threads(count: usize) -> io::Result<Self> {
        let state = State { turns: Turns::new(), closed: false };
        let hasher = Self { shared: Arc::new(Shared { state: Mutex::new(state), ready: Condvar::new() }) };
        for _ in 0..count {
            let shared = Arc::clone(&hasher.shared);
            thread::Builder::new().name("leveret-login".into()).spawn(move || shared.work())?;
        }
        Ok(hasher)
    }

    /// Whether the password is the one of the hash.
    pub(super) async fn verify(
        &self,
        whose: Whose,
        password: Password,
        hash: Arc<str>,
    ) -> Result<bool, Refused> {
        let (done, result) = oneshot::channel();
        self.push(whose, Job::Verify { password, hash, done });
        result.await.unwrap_or(Err(Refused::Gone))
    }

    /// The hash of a new password.
    pub(super) async fn hash(&self, whose: Whose, password: Password) -> Result<String, Refused> {
        let (done, result) = oneshot::channel();
        self.push(whose, Job::Hash { password, done });
        result.await.unwrap_or(Err(Refused::Gone))
    }

    fn push(&self, whose: Whose, job: Job) {
        let without_place = self.shared.lock().turns.push(whose, job);
        self.shared.ready.notify_one();
        if let Some(job) = without_place {
            job.refuse();
        }
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.ready.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        // Of this thread alone: that is how Linux counts.
        if let Err(error) = rustix::process::nice(NICE) {
            debug!(%error, "the priority of a login thread");
        }
        while let Some(job) = self.next() {
            job.carry_out();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.turns.pop() {
                return Some(job);
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Job {
    fn carry_out(self) {
        match self {
            Self::Verify { password, hash, done } => drop(done.send(Ok(verify(&password, &hash)))),
            Self::Hash { password, done } => drop(done.send(hash(&password).ok_or(Refused::Gone))),
        }
    }

    fn refuse(self) {
        match self {
            Self::Verify { done, .. } => drop(done.send(Err(Refused::Busy))),
            Self::Hash { done, .. } => drop(done.send(Err(Refused::Busy))),
        }
    }
}

/// The hash of a new password, as a PHC string; None when the operating system gives no chance for its salt.
pub(super) fn hash(password: &Password) -> Option<String> {
    let mut salt = [0; SALT_BYTES];
    let hash = getrandom::fill(&mut salt)
        .map_err(|error| error.to_string())
        .and_then(|()| hash_with_salt(password, &salt).map_err(|error| error.to_string()));
    hash.map_err(|error| error!(error, "a password cannot be hashed")).ok()
}

fn hash_with_salt(password: &Password, salt: &[u8]) -> Result<String, argon2::password_hash::Error> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|_| argon2::password_hash::Error::ParamsInvalid)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_with_salt(password.bytes(), salt).map(|hash: PasswordHash| hash.to_string())
}

/// Whether the password is the one of the hash.
fn verify(password: &Password, hash: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else {
        error!("a user's password hash cannot be read");
        return false;
    };
    Argon2::default().verify_password(password.bytes(), &hash).is_ok()
}
