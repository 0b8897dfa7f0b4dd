//! What the server's life needs from the broker behind the front ends, and the broker itself: store and core thread.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::StatusSource;
use crate::exit::Exit;
use crate::http::MetricsSource;
use crate::hub::Hub;

/// The broker: store, core thread, and the services over them.
pub trait Backend: MetricsSource + StatusSource {
    /// The way to the core. It exists before the store is open; what is asked for before waits.
    fn hub(&self) -> &Hub;

    /// Opens the store, recovers and starts the core thread. Blocks. Called once.
    fn open(&self) -> Result<Recovery, Stopped>;

    /// Ready when the outcomes of everything that entered the core have gone out to the channels' writers.
    fn settled(&self) -> SettledFuture<'_>;

    /// Ready when the core has stopped by itself, as after a failed write; says why.
    fn failed(&self) -> FailureFuture<'_>;

    /// Requeues what is out, writes a checkpoint, closes the store and ends the core thread. Blocks. Called once,
    /// after the front ends are gone.
    fn close(&self) -> Result<(), Stopped>;
}

/// Everything has its outcome.
pub type SettledFuture<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// The reason for which the core stopped, once it did.
pub type FailureFuture<'a> = Pin<Box<dyn Future<Output = String> + Send + 'a>>;

/// What was found in the data directory.
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// Exchanges.
    pub exchanges: u64,
    /// Queues.
    pub queues: u64,
    /// Bindings.
    pub bindings: u64,
    /// Messages.
    pub messages: u64,
    /// The previous run ended by a clean stop.
    pub clean: bool,
    /// Time that it took.
    pub took: Duration,
}

/// Why the server does not start, or stopped by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Stopped {
    /// The exit code.
    pub exit: Exit,
    /// A sentence that says what to do.
    pub text: String,
}

impl Stopped {
    /// With exit code 1.
    pub fn refused(text: impl Into<String>) -> Self {
        Self { exit: Exit::Refused, text: text.into() }
    }

    pub(super) fn panicked(e: tokio::task::JoinError) -> Self {
        Self::refused(format!("a bug in the server: {e}"))
    }
}
