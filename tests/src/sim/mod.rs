//! The simulator: the real core and the real engine on a simulated disk, in one thread, from one seed. Everything
//! that threads, sockets and clocks would decide, the seed decides: which worker steps next, when an input reaches the
//! core, when an effect reaches its client, when the process is killed or the power fails, and what the disk keeps.
//!
//! Simulated clients publish, consume, get, ack, nack, work in transactions, purge, declare and delete; what they do and
//! see goes through the same checker as the crash harness's record of the real server. In every fifth seed there are AMQP
//! clients, too, with the server's real sessions between them and the core, and bytes on their way in both directions; in
//! every fifth gRPC clients, with the server's real service; and in three of ten some queues have priorities or are of type
//! quorum.

mod bodies;
mod bug;
pub mod points;

mod campaign;
mod clients;
mod features;
mod grpc;
mod judging;
mod kinds;
mod reached;
mod wire;
mod world;

pub use bug::Bug;
pub use campaign::{campaign, controls};
pub use reached::Reached;
pub use world::{Outcome, run};
