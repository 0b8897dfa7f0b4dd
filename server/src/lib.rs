//! The shell of the Leveret broker: front ends, the core thread and the command line around the pure core and the
//! durable store.

pub mod grpc;
pub mod hub;
pub mod inbox;
