//! The way into the core thread: many senders, one taker that takes all that waits.
//!
//! A sender that will wait for its answer, and finds the taker asleep and nothing waiting, may make the taker's turn
//! itself ([`Inbox::push_or_turn`]): two changes of thread less. While it does nobody else is the taker.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use leveret_broker::{ConnId, Input, Refusal, Reply, ReqId};
use tokio::sync::{mpsc, oneshot};

use crate::hub::{LaneId, Output, Permit};

/// One input with what the shell ties to it.
#[derive(Debug)]
pub enum Envelope {
    /// Nothing tied to it.
    Input(Input),
    /// What a front end read at once, in order: one push, one lock, one wake-up for all of it.
    Batch {
        /// Channels opened in it belong to this lane, and requests in it are answered on it.
        lane: LaneId,
        /// The inputs.
        inputs: Vec<Input>,
        /// Room for the publishes among them; comes back when all of them have their outcome.
        permit: Option<Permit>,
    },
    /// A request and where its answer goes.
    Request {
        /// The input.
        input: Input,
        /// Its name in the core.
        req: ReqId,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Reply, Refusal>>,
        /// Comes back when the request is answered.
        permit: Option<Permit>,
    },
    /// A way back from the core.
    OpenLane {
        /// Its name.
        lane: LaneId,
        /// Its connection.
        conn: ConnId,
        /// Where the outputs go.
        sender: mpsc::UnboundedSender<Vec<Output>>,
    },
    /// Nobody listens on this lane any more.
    CloseLane {
        /// Its name.
        lane: LaneId,
    },
    /// End the core thread after this turn, with a clean close.
    Close,
}

/// Makes the taker's turns on another thread while the taker sleeps.
pub trait Turner: Send + Sync {
    /// A turn of `envelope`, then turns of nothing for as long as `heard` says that the store has something to say.
    fn turn(&self, envelope: Envelope, heard: &dyn Fn() -> bool);
}

/// The inbox. Unbounded in count: what enters is bounded by permits and by what each connection may have in
/// flight.
#[derive(Default)]
pub struct Inbox {
    state: Mutex<State>,
    ready: Condvar,
    access_generation: AtomicU64,
    turner: OnceLock<Box<dyn Turner>>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Envelope>,
    woken: bool,
    sleeping: bool,
    /// A sender makes the sleeping taker's turn.
    turning: bool,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Inbox {
    /// Puts one envelope in and wakes the taker if it sleeps.
    pub fn push(&self, envelope: Envelope) {
        let mut state = self.lock();
        state.waiting.push_back(envelope);
        self.rouse(state);
    }

    /// Who makes turns for a sleeping taker. The first counts.
    pub fn set_turner(&self, turner: Box<dyn Turner>) {
        drop(self.turner.set(turner));
    }

    /// Whether senders may make turns.
    #[cfg(test)]
    pub(crate) fn has_turner(&self) -> bool {
        self.turner.get().is_some()
    }

    /// Puts one envelope in like [`Inbox::push`], or, where the taker sleeps and nothing waits, makes a turn of it on this
    /// thread. That may take as long as a sync of the disk: for those who wait for the outcome and have nothing else to do,
    /// on a thread that is not the only one of its runtime.
    /// What others put in meanwhile is the taker's, behind it.
    pub fn push_or_turn(&self, envelope: Envelope) {
        let Some(turner) = self.turner.get() else { return self.push(envelope) };
        let mut state = self.lock();
        if !state.sleeping || state.turning || state.woken || !state.waiting.is_empty() {
            state.waiting.push_back(envelope);
            return self.rouse(state);
        }
        state.turning = true;
        drop(state);
        let _turning = Turning(self);
        turner.turn(envelope, &|| {
            let mut state = self.lock();
            // With others' inputs waiting it is the taker's turn.
            state.waiting.is_empty() && std::mem::take(&mut state.woken)
        });
    }

    /// Wakes the taker although nothing was put in: the store has something to say.
    pub fn wake(&self) {
        let mut state = self.lock();
        state.woken = true;
        self.rouse(state);
    }

    /// Counts the changes of users, permissions and virtual hosts, like the core, but never ahead of it. What was learned about a user holds for as long as
    /// the number is the one that was read before asking.
    pub fn access_generation(&self) -> u64 {
        self.access_generation.load(Ordering::Acquire)
    }

    /// So many changes were made before anybody could ask.
    pub fn access_changed_before(&self, changes: u64) {
        self.access_generation.store(changes, Ordering::Release);
    }

    /// Users, permissions or virtual hosts have changed.
    pub fn access_changed(&self) {
        self.access_generation.fetch_add(1, Ordering::Release);
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Takes all that waits into `into`, sleeping up to `timeout` when there is nothing and nobody woke it.
    pub fn take(&self, into: &mut VecDeque<Envelope>, timeout: Duration) {
        debug_assert!(into.is_empty());
        let mut state = self.lock();
        if state.waiting.is_empty() && !state.woken {
            state.sleeping = true;
            loop {
                let (awake, _) =
                    self.ready.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner);
                state = awake;
                if !state.turning {
                    break;
                }
            }
            state.sleeping = false;
        }
        state.woken = false;
        std::mem::swap(&mut state.waiting, into);
    }

    fn rouse(&self, state: MutexGuard<'_, State>) {
        let rouse = state.sleeping && !state.turning;
        drop(state);
        if rouse {
            self.ready.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sender that makes a turn. Its end, also by a panic, gives the turns back to the taker.
struct Turning<'a>(&'a Inbox);

impl Drop for Turning<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.turning = false;
        // A panic has left the core in the middle of a turn: the taker is to find that.
        state.woken |= std::thread::panicking();
        if state.woken || !state.waiting.is_empty() {
            self.0.rouse(state);
        }
    }
}

#[cfg(test)]
mod tests;
