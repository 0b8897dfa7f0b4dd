//! Numbers that must not be confused with each other.
//!
//! The core has its own ids; the shell converts them to the engine's and the protocols'.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// One client connection, or one gRPC `Session`. Chosen by the shell, never reused while the process lives.
    ConnId
);
id!(
    /// One ordered lane of publishes, deliveries and settlements: an AMQP channel or one gRPC stream.
    /// Chosen by the shell, never reused while the process lives.
    ChanId
);
id!(
    /// One request that waits for an answer. Chosen by the shell; answered exactly once.
    ReqId
);
id!(
    /// One incarnation of a queue in the store. Never reused: a queue declared again gets a new one.
    QueueId
);
id!(
    /// Place of a message in one queue, counted from 1 in publish order.
    Seq
);
id!(
    /// Place of one atomic append in the order of all appends, counted from 1 at every start.
    Ticket
);
id!(
    /// Number of the opening of the store that this process is. Raised by every start.
    Epoch
);

/// Names one delivery of one message, so that it can be settled from any connection. A stale one never settles
/// another message (E9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AckId {
    /// The opening of the store in which the delivery was made.
    pub epoch: Epoch,
    /// The queue's incarnation.
    pub queue: QueueId,
    /// The message's place in it.
    pub seq: Seq,
    /// Which delivery of this message it was, counted from 1 in this epoch.
    pub attempt: u32,
}
