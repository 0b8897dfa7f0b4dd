//! The workers of the same worlds over AMQP: publishers with confirms, consumers, one that gets.
//!
//! basic.ack has no answer: such an ack is recorded as sent and never as done. A requeue has none either; a
//! synchronous method behind it is answered when it is done, because a channel does one thing after another.

mod consumer;
mod getter;
mod publisher;

pub(super) use consumer::consume;
pub(super) use getter::get_and_settle;
pub(super) use publisher::publish;

use super::line::Why;
use super::world::{Outcome, World};

/// The one channel of a worker.
const CHANNEL: u16 = 1;

/// How a worker ends whose step did not end well.
fn end(world: &World, what: &str, why: Why) -> Outcome {
    match why {
        Why::Call(text) => world.failed(what, &text),
        // The end of the socket may also show as a call that was cut off.
        Why::Wrong(text) => Err(format!("{what}: {text}")),
    }
}
