//! The shell of the Leveret broker: front ends, the core thread and the command line around the pure core and the
//! durable store.

pub mod cli;
pub mod config;
pub mod exit;
pub mod http;
pub mod hub;
pub mod inbox;
pub mod offline;
pub mod serve;
pub mod version;
