//! What is known of logins, so that argon2 runs once for each. Logins are named by a keyed digest: neither the password
//! nor anything that it could be guessed from is kept.
//!
//! What is known holds for one generation (see `Inbox::access_generation`) and against one hash. When users, permissions or
//! vhosts have changed, the core is asked for the user's hash again; argon2 runs again only if that has changed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use blake2::Blake2bMac;
use blake2::digest::consts::U32;
use blake2::digest::{FixedOutput, KeyInit, Update};

use super::Login;

/// Good logins kept: more than there are users on most brokers.
const GOOD_MAX: usize = 10_000;
/// Wrong ones kept: those of clients that try the same again and again.
const WRONG_MAX: usize = 1_000;

/// Blake2b takes this much of a key.
const KEY_BYTES: usize = 64;

/// A login's name.
pub(super) type Digest = [u8; 32];

/// See the module.
#[derive(Debug)]
pub(super) struct Cache {
    key: [u8; KEY_BYTES],
    good: RwLock<Shelf>,
    wrong: RwLock<Shelf>,
}

/// What was found out about a login.
#[derive(Debug, Clone)]
struct Entry {
    user: Arc<str>,
    /// The hash that the password was verified against.
    hash: Arc<str>,
    /// When.
    generation: u64,
}

/// Entries, of which the oldest make room.
#[derive(Debug)]
struct Shelf {
    entries: HashMap<Digest, Entry>,
    order: VecDeque<Digest>,
    most: usize,
}

/// What is known of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// It is good, for this user.
    Good(Arc<str>),
    /// It is wrong.
    Wrong,
}

impl Cache {
    /// With a key of its own.
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key)?;
        let shelf = |most| RwLock::new(Shelf { entries: HashMap::new(), order: VecDeque::new(), most });
        Ok(Self { key, good: shelf(GOOD_MAX), wrong: shelf(WRONG_MAX) })
    }

    /// The name of a login.
    pub(super) fn digest(&self, login: Login<'_>) -> Digest {
        let mut mac = Blake2bMac::<U32>::new((&self.key).into());
        mac.update(&(login.user.len() as u64).to_le_bytes());
        mac.update(login.user.as_bytes());
        mac.update(login.password);
        mac.finalize_fixed().into()
    }

    /// What is known in this generation.
    pub(super) fn look(&self, digest: &Digest, generation: u64) -> Option<Known> {
        let current = |entry: &&Entry| entry.generation == generation;
        let good = self.good.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = good.entries.get(digest).filter(current) {
            return Some(Known::Good(Arc::clone(&entry.user)));
        }
        drop(good);
        let wrong = self.wrong.read().unwrap_or_else(PoisonError::into_inner);
        wrong.entries.get(digest).filter(current).map(|_| Known::Wrong)
    }

    /// Whether it was good when it was last checked.
    pub(super) fn was_good(&self, digest: &Digest) -> bool {
        self.good.read().unwrap_or_else(PoisonError::into_inner).entries.contains_key(digest)
    }

    /// What is known against this hash: it holds in this generation, too.
    pub(super) fn renew(&self, digest: &Digest, hash: &str, generation: u64) -> Option<Known> {
        for (shelf, good) in [(&self.good, true), (&self.wrong, false)] {
            let mut shelf = shelf.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(entry) = shelf.entries.get_mut(digest).filter(|entry| *entry.hash == *hash) {
                entry.generation = entry.generation.max(generation);
                return Some(if good { Known::Good(Arc::clone(&entry.user)) } else { Known::Wrong });
            }
        }
        None
    }

    /// Keeps what was found out.
    pub(super) fn put(&self, digest: Digest, known: &Known, user: Arc<str>, hash: Arc<str>, generation: u64) {
        let (shelf, other) = match known {
            Known::Good(_) => (&self.good, &self.wrong),
            Known::Wrong => (&self.wrong, &self.good),
        };
        other.write().unwrap_or_else(PoisonError::into_inner).entries.remove(&digest);
        let mut shelf = shelf.write().unwrap_or_else(PoisonError::into_inner);
        shelf.put(digest, Entry { user, hash, generation });
    }
}

impl Shelf {
    fn put(&mut self, digest: Digest, entry: Entry) {
        if self.entries.insert(digest, entry).is_none() {
            self.order.push_back(digest);
        }
        while self.order.len() > self.most {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }
}
