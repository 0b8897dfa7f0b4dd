//! The shell of the Leveret broker: front ends, the core thread and the command line around the pure core and the
//! durable store.
//!
//! ```text
//! grpc, amqp -> Hub -> Inbox -> core thread: Host.turn(inputs, now) -> outputs -> channels' writers, answers
//!                                      Host = Broker (decides) + Store (keeps)
//! ```

pub mod amqp;
pub mod auth;
mod bodies;
pub mod cli;
pub mod config;
mod core_thread;
pub mod exit;
pub mod grpc;
mod held;
pub mod host;
pub mod http;
pub mod hub;
pub mod inbox;
mod memory;
pub mod offline;
mod publish_in;
mod recent;
pub mod serve;
pub mod stage;
pub mod version;
