//! kill -9 of the real server under load, at random moments and inside recoveries, judged by the checker; or power losses
//! of the disk below it, likewise.
//!
//! One cycle: start, list what is there, put every worker to work, wait for enough confirms, kill at a random
//! moment, and sometimes kill the next starts too, up to three in a row. Every few cycles, and at the end, all
//! queues are drained, and everything that was ever confirmed must have turned up.

mod amqp;
mod churn;
mod consumers;
mod cycle;
mod death;
mod drain;
mod errors;
mod evidence;
mod getter;
mod line;
mod message;
mod points;
mod publishers;
mod report;
mod settler;
mod world;

pub use cycle::{Failure, Protocol, Settings, run};
pub use death::{Death, Losses};
pub use errors::Errors;
pub use points::Points;
pub use report::Report;
