//! Kinds of queues beside plain classic ones.

use fastrand::Rng;
use leveret_broker::Value;

use crate::history::{Event, QueueRef};
use crate::payload::MsgId;

/// What a queue is, beside its limits and where its dead letters go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of type classic, without priorities.
    Plain,
    /// Of type classic, with priorities up to this one.
    Priorities(u8),
}

impl Kind {
    pub(super) fn any(rng: &mut Rng) -> Self {
        match rng.u8(..5) {
            0 | 1 => Self::Priorities(rng.u8(1..8)),
            _ => Self::Plain,
        }
    }

    /// What it is declared with.
    pub(super) fn arguments(self) -> Vec<(&'static str, Value)> {
        match self {
            Self::Plain => Vec::new(),
            Self::Priorities(max) => vec![("x-max-priority", Value::I64(max.into()))],
        }
    }

    /// What the record says of a queue before it is used.
    pub(super) fn recorded(self, queue: QueueRef) -> Option<Event> {
        match self {
            Self::Plain => None,
            Self::Priorities(max) => Some(Event::Priorities { queue, max }),
        }
    }
}

/// The priority that a message asks for, if it asks for one. It follows from the message's name: who sends it on need
/// not remember.
pub(super) fn priority_of(id: MsgId) -> Option<u8> {
    let mut rng = Rng::with_seed((u64::from(id.publisher) << 48) ^ id.seq);
    (rng.u8(..4) > 0).then(|| rng.u8(..10))
}
