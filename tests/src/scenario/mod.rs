//! Scenarios: what SEMANTICS.md says, rule by rule, as steps in TOML files that every front end must do in the same
//! way, and RabbitMQ too (T10).
//!
//! ```text
//! tests/scenarios/rules.toml        the rules, a sentence each
//! tests/scenarios/SECTION/*.toml    cases: the rules they are for, front ends, steps       (case, step, value)
//! a case --steps--> AMQP frames or gRPC calls --> broker; what comes is compared           (amqp, grpc, wire)
//! users, virtual hosts and permissions of a case                                           (access)
//! cases --> brokers of their own, or virtual hosts of one RabbitMQ --> outcomes            (run, rabbitmq)
//! ```
//!
//! A case fails with its file and the line of the step. What comes and no step expects is a failure too.

mod access;
mod amqp;
mod came;
mod case;
mod fault;
mod grpc;
mod properties;
mod rabbitmq;
mod rules;
mod run;
mod step;
#[cfg(test)]
mod tests;
mod value;
mod wire;

pub use case::{Case, load, parse};
pub use rules::{Coverage, Rule, State, coverage, rules};
pub use run::{Outcome, Target, Verdict, run};
