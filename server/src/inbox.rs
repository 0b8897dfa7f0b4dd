//! The way into the core thread: many senders, one taker that takes all that waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
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

/// The inbox. Unbounded in count: what enters is bounded by permits and by what each connection may have in
/// flight.
#[derive(Debug, Default)]
pub struct Inbox {
    state: Mutex<State>,
    ready: Condvar,
    access_generation: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Envelope>,
    woken: bool,
    sleeping: bool,
}

impl Inbox {
    /// Puts one envelope in and wakes the taker if it sleeps.
    pub fn push(&self, envelope: Envelope) {
        let mut state = self.lock();
        state.waiting.push_back(envelope);
        self.rouse(state);
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
            let (awake, _) = self.ready.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner);
            state = awake;
            state.sleeping = false;
        }
        state.woken = false;
        std::mem::swap(&mut state.waiting, into);
    }

    fn rouse(&self, state: MutexGuard<'_, State>) {
        let sleeping = state.sleeping;
        drop(state);
        if sleeping {
            self.ready.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
