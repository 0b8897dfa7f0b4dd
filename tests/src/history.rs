//! What clients did, were told and received, in one order: the record that the checker judges.
//!
//! An event that starts something ("sent") is recorded before the bytes leave, one that ends something
//! ("confirmed", "delivered") after they came. So the record never claims less time for a step than it took, and a
//! checker that allows everything that fits between the two is never wrong to complain.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::payload::{self, BadPayload, MsgId};

/// One life of a queue name: a name that is declared again after a delete is another queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueRef(pub u32);

/// One consumer, or one task that gets; never used again after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerRef(pub u32);

/// Messages of one atomic publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchRef(pub u64);

/// A binding of a queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingName {
    /// Source exchange.
    pub exchange: String,
    /// Queue name.
    pub queue: String,
    /// Routing key.
    pub key: String,
}

/// Whether a message asks to survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It does.
    Persistent,
    /// It may vanish with the process.
    Transient,
}

/// Whether a consumer is the only one on its queue in this run, so that what it sees is the queue's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Nobody else takes from the queue.
    Sole,
    /// Others do.
    Shared,
}

/// What a listing said of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Ready and unacknowledged messages.
    pub messages: u64,
}

/// One step of the record.
#[derive(Debug, Clone)]
pub enum Event {
    /// A queue that did not exist is about to be declared.
    DeclareSent {
        /// The new queue.
        queue: QueueRef,
        /// Its name.
        name: String,
    },
    /// The new queue has a rule by which its messages go on to others, each by itself at any time at which nobody has
    /// it: they expire, or find the queue full.
    DeadLetters {
        /// The queue.
        queue: QueueRef,
        /// Every queue that such a message goes to.
        to: Arc<[QueueRef]>,
    },
    /// The new queue hands out by priority.
    Priorities {
        /// The queue.
        queue: QueueRef,
        /// The highest priority: messages that ask for more count as these.
        max: u8,
    },
    /// The new queue is of type quorum: it keeps every message whatever its mode.
    Quorum {
        /// The queue.
        queue: QueueRef,
        /// How often a message may come back in one run of the server.
        limit: Option<u32>,
        /// Every queue that a message goes to when it came back too often. None: it is dropped.
        to: Arc<[QueueRef]>,
    },
    /// It was declared, and said to hold so many ready messages.
    Declared {
        /// The queue.
        queue: QueueRef,
        /// Ready messages.
        ready: u64,
    },
    /// It is about to be deleted.
    DeleteSent {
        /// The queue.
        queue: QueueRef,
    },
    /// It was deleted.
    Deleted {
        /// The queue.
        queue: QueueRef,
    },
    /// It is about to be purged.
    PurgeSent {
        /// The queue.
        queue: QueueRef,
    },
    /// It was purged.
    Purged {
        /// The queue.
        queue: QueueRef,
    },
    /// A binding is about to be made.
    BindSent {
        /// The binding.
        binding: BindingName,
    },
    /// It was made.
    Bound {
        /// The binding.
        binding: BindingName,
    },
    /// A binding is about to be removed.
    UnbindSent {
        /// The binding.
        binding: BindingName,
    },
    /// It was removed.
    Unbound {
        /// The binding.
        binding: BindingName,
    },
    /// A message is about to be published.
    Sent {
        /// Its name.
        id: MsgId,
        /// Its payload's length.
        length: u32,
        /// Whether it asks to survive.
        keep: Keep,
        /// The priority that it asks for; 0 if for none.
        priority: u8,
        /// What it shares its fate with.
        batch: BatchRef,
        /// Every queue that it goes to.
        queues: Arc<[QueueRef]>,
    },
    /// Its publish was confirmed.
    Confirmed {
        /// Its name.
        id: MsgId,
    },
    /// A message is about to leave a queue for others, and perhaps more with it: a transaction that settles it is about
    /// to be committed, or it is about to be rejected where its queue has dead letters.
    MoveSent {
        /// The message.
        id: MsgId,
        /// The queue that it leaves.
        from: QueueRef,
        /// Every queue that it goes to. None: it is only acked.
        to: Arc<[QueueRef]>,
        /// What it shares its fate with; messages that are published with it are sent with the same.
        batch: BatchRef,
    },
    /// Everything that was to move as one was confirmed.
    Moved {
        /// What it was.
        batch: BatchRef,
    },
    /// It was refused: nothing of it is, or will be, done.
    MoveRefused {
        /// What it was.
        batch: BatchRef,
    },
    /// A consumer starts.
    ConsumerStarted {
        /// The consumer.
        consumer: ConsumerRef,
        /// Its queue.
        queue: QueueRef,
        /// Whether it is alone there.
        share: Share,
    },
    /// A consumer is about to go; what it has out goes back.
    ConsumerGone {
        /// The consumer.
        consumer: ConsumerRef,
    },
    /// A message came.
    Delivered {
        /// Who got it.
        consumer: ConsumerRef,
        /// From which queue.
        queue: QueueRef,
        /// Its name as read from the body, or what is wrong with the body.
        body: Result<MsgId, BadPayload>,
        /// The body's length.
        length: u32,
        /// As flagged.
        redelivered: bool,
    },
    /// The newest delivery of a message said how often it had come back before.
    Counted {
        /// The queue.
        queue: QueueRef,
        /// The message.
        id: MsgId,
        /// None: its queue does not count that.
        count: Option<u32>,
    },
    /// An ack is about to leave.
    AckSent {
        /// The queue.
        queue: QueueRef,
        /// The message.
        id: MsgId,
    },
    /// The ack was confirmed.
    Acked {
        /// The queue.
        queue: QueueRef,
        /// The message.
        id: MsgId,
    },
    /// The ack, by an id from an earlier delivery, was confirmed: the message is not there any more, by this ack or
    /// because it was moved before.
    Gone {
        /// The queue.
        queue: QueueRef,
        /// The message.
        id: MsgId,
    },
    /// The ack was refused as stale: the message is not settled by it.
    AckRefused {
        /// The queue.
        queue: QueueRef,
        /// The message.
        id: MsgId,
    },
    /// A requeue is about to leave, or a lease that may end at any time was taken.
    ReturnSent {
        /// Who had it.
        consumer: ConsumerRef,
        /// The queue.
        queue: QueueRef,
        /// The message.
        id: MsgId,
    },
    /// The requeue was confirmed: from here on the message stands before all later ones.
    Returned {
        /// Who had it.
        consumer: ConsumerRef,
        /// The queue.
        queue: QueueRef,
        /// The message.
        id: MsgId,
        /// Deliveries to this consumer that may have been under way when the requeue was done: on a stream, the
        /// notice of a settle may overtake as many as the prefetch allows.
        under_way: u32,
    },
    /// The server was killed, and every client noticed.
    Crash,
    /// What exists, listed while no client was at work.
    Listing {
        /// All queues.
        queues: Vec<Listed>,
        /// All bindings of named exchanges.
        bindings: Vec<BindingName>,
    },
    /// The queue is empty; everything that came from it is acked.
    Drained {
        /// The queue.
        queue: QueueRef,
    },
    /// All queues are empty, and no publish is in flight.
    AllDrained,
}

/// The record that all tasks of a harness write.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    events: Mutex<Vec<Event>>,
    confirms: AtomicU64,
    next_ref: AtomicU32,
    next_batch: AtomicU64,
}

impl Recorder {
    /// Adds a step.
    pub fn record(&self, event: Event) {
        if matches!(event, Event::Confirmed { .. }) {
            self.inner.confirms.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    /// Adds several steps that nothing comes between.
    pub fn record_all(&self, events: impl IntoIterator<Item = Event>) {
        let mut all = self.inner.events.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.len();
        all.extend(events);
        let confirms = all[before..].iter().filter(|event| matches!(event, Event::Confirmed { .. })).count();
        self.inner.confirms.fetch_add(confirms as u64, Ordering::Relaxed);
    }

    /// Records a delivery and gives the message's name, if it has one.
    pub fn delivered(
        &self,
        consumer: ConsumerRef,
        queue: QueueRef,
        body: &[u8],
        redelivered: bool,
    ) -> Option<MsgId> {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let body = payload::decode(body);
        let id = body.as_ref().ok().copied();
        self.record(Event::Delivered { consumer, queue, body, length, redelivered });
        id
    }

    /// Confirms recorded so far.
    pub fn confirms(&self) -> u64 {
        self.inner.confirms.load(Ordering::Relaxed)
    }

    /// A queue that was not there before.
    pub fn new_queue(&self) -> QueueRef {
        QueueRef(self.inner.next_ref.fetch_add(1, Ordering::Relaxed))
    }

    /// A consumer that was not there before.
    pub fn new_consumer(&self) -> ConsumerRef {
        ConsumerRef(self.inner.next_ref.fetch_add(1, Ordering::Relaxed))
    }

    /// An atomic publish that was not there before.
    pub fn new_batch(&self) -> BatchRef {
        BatchRef(self.inner.next_batch.fetch_add(1, Ordering::Relaxed))
    }

    /// An empty record whose numbers go on from this one's.
    #[must_use]
    pub fn successor(&self) -> Self {
        let next = Self::default();
        next.inner.next_ref.store(self.inner.next_ref.load(Ordering::Relaxed), Ordering::Relaxed);
        next.inner.next_batch.store(self.inner.next_batch.load(Ordering::Relaxed), Ordering::Relaxed);
        next
    }

    /// Takes what was recorded since the last call.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.inner.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
