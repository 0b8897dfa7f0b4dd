//! The core of the Leveret broker, pure: [`Broker::step`] takes one [`Input`] and says what is to be done as
//! [`Effect`]s. No I/O, clock, randomness, threads or async; the same inputs give the same effects, always.
//!
//! A turn is any number of steps and one [`Broker::finish`], which hands out messages, appends the turn's acks as
//! one batch and lets go what became confirmable. Where to look: `broker` (what follows from which input),
//! `vhosts`, `topology` and `topic` (from a publish to its queues), `access` (who may do what), `queue` (what is
//! ready, out and in memory), `consumers` (whose turn it is), `dispatch` (deliveries and gets), `channel`
//! (deliveries out, outcomes in order), `death` (what a dead letter carries), `tickets` (the one order of
//! confirms), `record` (messages and facts as bytes), `replay` (from facts to state).

mod access;
mod arguments;
mod blob;
mod broker;
mod budget;
mod channel;
mod consumers;
mod controls;
mod death;
mod dispatch;
mod effect;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod hash;
mod ids;
mod input;
mod message;
mod names;
pub mod properties;
mod queue;
pub mod record;
mod recovered;
mod refusal;
mod replay;
mod seldom;
pub mod table_codec;
mod tickets;
mod topic;
mod topology;
mod track;
mod value;
mod vhosts;

pub use access::words::*;
pub use blob::Blob;
pub use broker::Broker;
pub use controls::Control;
pub use effect::*;
pub use ids::*;
pub use input::*;
pub use message::{MESSAGE_OVERHEAD_BYTES, Message};
pub use names::NameKey;
pub use recovered::{Recovered, RecoveredQueue};
pub use refusal::{Refusal, RefusalKind};
pub use replay::RecoverError;
pub use value::{Table, Value};

/// Settings of the core. Bad values are refused by whoever reads the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bodies kept in memory, in bytes; beyond it stored messages are read back from the log.
    pub memory_budget_bytes: u64,
    /// Largest body, in bytes.
    pub message_bytes_max: u64,
    /// Largest append that the store takes, in bytes of records.
    pub append_bytes_max: u64,
    /// Key of server-chosen names (queues, consumer tags). The only source of chance.
    pub name_key: NameKey,
}
