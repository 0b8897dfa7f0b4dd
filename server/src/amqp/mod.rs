//! The AMQP 0-9-1 front end: a listener, a task per connection, and in it a session that knows no socket.
//!
//! ```text
//! listener -> connection (socket, permits, time) -> session (frames, channels; pure) -> Hub
//! ```
//!
//! The codec is our own: the crate that has one brings clients' sockets and TLS along, and its frames own their strings,
//! where here a publish or a delivery borrows them.

mod connection;
mod frame;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod half_sent;
mod listener;
mod method;
mod outbox;
mod reply_code;
mod sasl;
mod session;
mod wire;

pub use frame::{Frame, FrameError, Kind};
pub use listener::serve;
pub use method::{Method, MethodError};
pub use outbox::Outbox;
pub use reply_code::{Failure, ReplyCode};
pub use sasl::Credentials;
pub use session::{End, ForCore, Ids, Session, SessionSettings};
pub use wire::WireError;

/// Protocol name in listings.
const PROTOCOL: &str = "amqp 0-9-1";

#[cfg(test)]
mod tests;
