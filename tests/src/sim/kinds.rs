//! Kinds of queues beside plain classic ones.

use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use leveret_broker::Value;

use crate::history::{Event, QueueRef};
use crate::payload::MsgId;

/// The limit of a queue of type quorum that says none.
const DELIVERY_LIMIT_DEFAULT: i64 = 20;

/// What a queue is, beside its limits and where its dead letters go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of type classic, without priorities.
    Plain,
    /// Of type classic, with priorities up to this one.
    Priorities(u8),
    /// Of type quorum, with x-delivery-limit if that is said.
    Quorum(Option<i64>),
}

impl Kind {
    pub(super) fn any(rng: &mut Rng) -> Self {
        match rng.u8(..6) {
            0 | 1 => Self::Priorities(rng.u8(1..8)),
            2 | 3 => Self::Quorum((rng.u8(..8) > 0).then(|| rng.i64(-1..4))),
            _ => Self::Plain,
        }
    }

    /// What it is declared with.
    pub(super) fn arguments(self) -> Vec<(&'static str, Value)> {
        match self {
            Self::Plain => Vec::new(),
            Self::Priorities(max) => vec![("x-max-priority", Value::I64(max.into()))],
            Self::Quorum(limit) => {
                let limit = limit.map(|limit| ("x-delivery-limit", Value::I64(limit)));
                let queue_type = ("x-queue-type", Value::Bytes(Bytes::from_static(b"quorum")));
                [queue_type].into_iter().chain(limit).collect()
            }
        }
    }

    /// What the record says of a queue before it is used. `to`: where its dead letters go.
    pub(super) fn recorded(self, queue: QueueRef, to: &Arc<[QueueRef]>) -> Option<Event> {
        match self {
            Self::Plain => None,
            Self::Priorities(max) => Some(Event::Priorities { queue, max }),
            Self::Quorum(limit) => {
                let limit = u32::try_from(limit.unwrap_or(DELIVERY_LIMIT_DEFAULT)).ok();
                Some(Event::Quorum { queue, limit, to: Arc::clone(to) })
            }
        }
    }
}

/// The priority that a message asks for, if it asks for one. It follows from the message's name: who sends it on need
/// not remember.
pub(super) fn priority_of(id: MsgId) -> Option<u8> {
    let mut rng = Rng::with_seed((u64::from(id.publisher) << 48) ^ id.seq);
    (rng.u8(..4) > 0).then(|| rng.u8(..10))
}
