//! The black-box tests: the real binary over real sockets. One binary, a module per group; tests/expected.toml
//! names the groups and their counts.
#![allow(missing_docs, reason = "tests say what they guard by their names")]

mod access;
mod aio_pika;
mod amqp;
mod amqp091_go;
mod amqp_tools;
mod amqplib;
mod architecture;
mod bad_input;
mod celery;
mod cli;
mod crash;
#[cfg(feature = "damage")]
mod damage;
mod examples;
mod expected;
mod features;
#[cfg(feature = "sim")]
mod flood;
mod formats;
mod grpcurl;
mod instructions;
mod java_client;
mod lapin;
mod memory;
mod packaging;
mod pika;
#[cfg(feature = "sim")]
mod points;
mod power;
mod readme;
mod real_binary;
mod scenarios;
#[cfg(feature = "sim")]
mod sim;
mod skip;
mod syserr;
