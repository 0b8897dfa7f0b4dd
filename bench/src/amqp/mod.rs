//! AMQP 0-9-1 as a client speaks it that is in nobody's way: frames as bytes, and a blocking connection for what is not measured.

pub(crate) mod codec;
pub(crate) mod link;
pub(crate) mod publisher;
