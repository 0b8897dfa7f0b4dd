//! Why a request was not done. Each protocol has one table from kind to its own code.

/// The kind of a refusal, from which each protocol derives its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// The queue, exchange or vhost does not exist (AMQP 404).
    NotFound,
    /// Exclusive to another connection (AMQP 405).
    ResourceLocked,
    /// Exists with other properties, or a condition of the request does not hold (AMQP 406).
    PreconditionFailed,
    /// A reserved name, an internal exchange, an exclusive consumer in the way, or no permission (AMQP 403).
    AccessRefused,
    /// There is one of that name already, and it would have to be changed.
    AlreadyExists,
    /// The connection's user or virtual host is gone, and the connection with it (AMQP 320).
    ConnectionForced,
    /// Not allowed in this state, as a consumer tag in use (AMQP 530).
    NotAllowed,
    /// A feature that is not there (AMQP 540).
    NotImplemented,
    /// A value that can never be right: a name too long, an argument of the wrong type (AMQP 406 or 502).
    InvalidArgument,
    /// An ack id that no longer names a delivery that is out (gRPC ACK_ID_STALE, AMQP 406).
    AckIdStale,
    /// An exclusive declare outside any connection or session.
    SessionRequired,
    /// Too large for a configured limit.
    TooLarge,
    /// A queue is full and refuses more (a publish's outcome only: AMQP nacks it).
    Overflow,
    /// The process is stopping.
    ShuttingDown,
    /// The data could not be read back from the disk; other data is served.
    DataLoss,
}

/// One refused request: names the thing and says what to do. The text is AMQP's explanation, without the code's
/// name before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// Its kind.
    pub kind: RefusalKind,
    /// One sentence, as RabbitMQ words it where it has the case.
    pub text: String,
    /// Facts for programs: ("queue", "jobs"), ("field", "durable"), ("expected", "true"), ("actual", "false").
    pub details: Vec<(&'static str, String)>,
}

impl Refusal {
    /// A refusal without details.
    pub fn new(kind: RefusalKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), details: Vec::new() }
    }

    /// The same with one detail more.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.details.push((key, value.into()));
        self
    }
}
