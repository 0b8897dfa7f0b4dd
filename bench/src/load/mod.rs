//! The load generator: one thread, raw sockets under epoll, messages encoded before the run and written out of one buffer,
//! answers looked at where they lie. Nothing is allocated, and no task woken, for a message.

pub(crate) mod amqp;
pub(crate) mod batch;
pub(crate) mod clock;
pub(crate) mod flight;
pub(crate) mod grpc;
mod input;
pub(crate) mod nats;
pub(crate) mod publisher;
pub(crate) mod redis;
pub(crate) mod swarm;
#[cfg(test)]
mod tests;

pub(crate) use amqp::AmqpScan;
pub(crate) use batch::{Batch, Message};
pub(crate) use clock::Schedule;
pub(crate) use publisher::{Pace, Publisher};
pub(crate) use swarm::{Acks, Consumer, Count, Plan, Role, Sample, Swarm, Until};

use crate::Error;

/// What answers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A publish is confirmed, or all up to it are.
    Confirm {
        /// Its number, from 1.
        tag: u64,
        /// All up to it.
        multiple: bool,
    },
    /// A message was delivered, to its last byte.
    Delivery {
        /// What an ack of it names.
        tag: u64,
        /// The first eight bytes of its body.
        stamp: u64,
    },
}

/// Reads a protocol's answers.
pub(crate) trait Scan {
    /// Tells of everything that is whole in `bytes`; how many of them that was. What is left comes again, with more behind it.
    fn scan(&mut self, bytes: &[u8], found: &mut impl FnMut(Event)) -> Result<usize, Error>;
}
