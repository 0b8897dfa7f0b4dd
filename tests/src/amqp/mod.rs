//! A tiny AMQP 0-9-1 client of the tests' own: frames as they are on the wire, right or wrong, and on top of them
//! what the tests and the crash harness do all the time. It shares no code with the server.

pub mod calls;
pub mod codec;
mod connection;
pub mod method;

pub use calls::Settle;
pub use connection::{Connection, Content, Error, Tune};
