//! The black-box tests: the real binary over real sockets. One binary, a module per group; tests/expected.toml
//! names the groups and their counts.
#![allow(missing_docs, reason = "tests say what they guard by their names")]

mod access;
mod amqp;
mod architecture;
mod bad_input;
mod cli;
mod crash;
mod expected;
mod features;
mod grpcurl;
mod lapin;
mod memory;
mod pika;
mod readme;
mod real_binary;
#[cfg(feature = "sim")]
mod sim;
mod skip;
