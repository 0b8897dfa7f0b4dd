//! What threads wait on: a bell for one, a gate for many. Both are a word that the kernel knows (futex), so that to open
//! a gate for a whole group is one call.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::futex::{self, Flags};

const QUIET: u32 = 0;
const WAITED_FOR: u32 = 1;
const RUNG: u32 = 2;

/// One thread waits, others ring. A ring that comes first is not lost.
#[derive(Debug, Default)]
pub(crate) struct Bell(AtomicU32);

impl Bell {
    pub(crate) fn ring(&self) {
        if self.0.swap(RUNG, Ordering::AcqRel) == WAITED_FOR {
            // Nothing but a wrong address could fail.
            let _ = futex::wake(&self.0, Flags::PRIVATE, 1);
        }
    }

    /// Until the next ring, or the one that nobody has heard yet.
    pub(crate) fn wait(&self) {
        let quiet = self.0.compare_exchange(QUIET, WAITED_FOR, Ordering::AcqRel, Ordering::Acquire);
        if quiet.is_ok() {
            wait_while(&self.0, WAITED_FOR);
        }
        self.0.store(QUIET, Ordering::Release);
    }
}

const CLOSED: u32 = 0;
const OPEN: u32 = 1;
const FAILED: u32 = 2;

/// Many wait until it is opened, once.
#[derive(Debug, Default)]
pub(crate) struct Gate(AtomicU32);

impl Gate {
    /// Lets all through; `good`: what they waited for has come about.
    pub(crate) fn open(&self, good: bool) {
        self.0.store(if good { OPEN } else { FAILED }, Ordering::Release);
        // Nothing but a wrong address could fail.
        let _ = futex::wake(&self.0, Flags::PRIVATE, u32::MAX >> 1);
    }

    /// Whether what was waited for has come about.
    pub(crate) fn wait(&self) -> bool {
        wait_while(&self.0, CLOSED);
        self.0.load(Ordering::Acquire) == OPEN
    }
}

fn wait_while(word: &AtomicU32, value: u32) {
    while word.load(Ordering::Acquire) == value {
        // Interrupted or too late: it is looked at again.
        let _ = futex::wait(word, Flags::PRIVATE, value, None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn a_ring_that_comes_first_is_heard_once() {
        let bell = Arc::new(Bell::default());
        bell.ring();
        bell.wait();
        assert_eq!(bell.0.load(Ordering::Acquire), QUIET);
        let ringer = Arc::clone(&bell);
        let thread = thread::spawn(move || {
            while ringer.0.load(Ordering::Acquire) != WAITED_FOR {
                thread::yield_now();
            }
            ringer.ring();
        });
        bell.wait();
        thread.join().unwrap();
        assert_eq!(bell.0.load(Ordering::Acquire), QUIET);
    }

    #[test]
    fn a_gate_lets_all_through_and_says_how_it_went() {
        for good in [true, false] {
            let gate = Arc::new(Gate::default());
            let waiting = |_| {
                let gate = Arc::clone(&gate);
                thread::spawn(move || gate.wait())
            };
            let threads: Vec<_> = (0..4).map(waiting).collect();
            gate.open(good);
            assert!(threads.into_iter().all(|thread| thread.join().unwrap() == good));
            assert_eq!(gate.wait(), good);
        }
    }
}
