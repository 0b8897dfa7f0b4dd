//! The harness of the black-box tests: it starts the real binary, talks to it over real sockets, records what was
//! sent, told and received, and checks that record against the named invariants I1 to I7.

pub mod amqp;
pub mod binary;
pub mod checker;
pub mod client;
pub mod crash;
#[cfg(feature = "damage")]
pub mod damage;
pub mod faultfs;
#[cfg(feature = "sim")]
pub mod formats;
pub mod history;
pub mod payload;
pub mod proof;
pub mod scenario;
pub mod script;
pub mod server;
#[cfg(feature = "sim")]
pub mod sim;
pub mod streams;
pub mod tally;
