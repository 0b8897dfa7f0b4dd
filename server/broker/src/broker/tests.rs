//! The core as a whole, against a store that a test holds in its hand.

mod access;
mod access_model;
mod confirm;
mod connection;
mod consume;
mod dead_letter;
mod declare;
mod exchanges;
mod expiry;
mod forced;
mod get;
mod lengths;
mod model;
mod parts;
mod permit;
mod permit_channels;
mod priority;
mod publish;
mod queues;
mod quorum;
mod recovery;
mod replies;
mod settle;
mod settle_permit;
mod single_active;
mod spill;
pub(crate) mod store;
mod strict;
mod tx;
mod tx_queues;
mod vhosts;
mod waiting_letters;
mod window;
pub(crate) mod world;

/// The core is moved to a thread of its own.
#[test]
fn a_broker_can_be_sent() {
    fn sendable<T: Send>() {}
    sendable::<crate::Broker>();
}
