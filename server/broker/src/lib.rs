//! The core of the Leveret broker, pure: [`Broker::step`] takes one [`Input`] and says what is to be done as
//! [`Effect`]s. No I/O, clock, randomness, threads or async; the same inputs give the same effects, always.

mod effect;
mod ids;
mod input;
mod message;
pub mod properties;
mod recovered;
mod refusal;
pub mod table_codec;
mod value;

pub use effect::*;
pub use ids::*;
pub use input::*;
pub use message::{MESSAGE_OVERHEAD_BYTES, Message};
pub use recovered::{Recovered, RecoveredQueue};
pub use refusal::{Refusal, RefusalKind};
pub use value::{Table, Value};

/// Settings of the core. Bad values are refused by whoever reads the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bodies kept in memory, in bytes; beyond it stored messages are read back from the log.
    pub memory_budget_bytes: u64,
    /// Largest body, in bytes.
    pub message_bytes_max: u64,
    /// Seed for server-chosen names (queues, consumer tags). The only source of chance.
    pub seed: u64,
}
