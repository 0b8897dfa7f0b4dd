//! What some seeds have beyond the rest. Their numbers tell which, so that a seed that failed once goes on meaning what
//! it meant: those that are kept end with other digits.

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Features {
    /// AMQP clients.
    pub(super) wires: bool,
    /// gRPC clients.
    pub(super) grpc: bool,
    /// Queues that are not plain classic ones.
    pub(super) kinds: bool,
}

impl Features {
    pub(super) fn of(seed: u64) -> Self {
        let last = seed % 10;
        Self { wires: matches!(last, 6 | 7), grpc: matches!(last, 7 | 8), kinds: matches!(last, 5 | 6 | 8) }
    }
}
