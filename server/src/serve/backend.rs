//! What the server's life needs from the broker behind the front ends. Store, core thread and services are plugged
//! in here.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tonic::service::Routes;

use super::Phases;
use crate::config::ServeSettings;
use crate::exit::Exit;
use crate::http::MetricsSource;
use crate::hub::Hub;

/// The broker: store, core thread, and the services over them.
pub trait Backend: MetricsSource {
    /// The way to the core. It exists before the store is open; what is asked for before waits.
    fn hub(&self) -> &Hub;

    /// Opens the store, recovers and starts the core thread. Blocks. Called once.
    fn open(&self) -> Result<Recovery, Stopped>;

    /// The gRPC services, but health. Streams end with UNAVAILABLE "shutting down" when `phases` says
    /// [`super::Phase::Ending`]. Called once, before [`Backend::open`].
    fn grpc(&self, phases: Phases) -> Routes;

    /// Ready when the core has stopped by itself, as after a failed write; says why.
    fn failed(&self) -> FailureFuture<'_>;

    /// Requeues what is out, writes a checkpoint, closes the store and ends the core thread. Blocks. Called once,
    /// after the front ends are gone.
    fn close(&self) -> Result<(), Stopped>;
}

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

/// Builds the broker for these settings; opens nothing yet.
pub(super) fn plug(_settings: &Arc<ServeSettings>) -> Arc<dyn Backend> {
    // SEAM: store, core thread and gRPC services go here.
    Arc::new(unplugged::Unplugged::new())
}

/// SEAM: goes away with the real one.
mod unplugged {
    use super::{Arc, Backend, FailureFuture, Hub, Phases, Recovery, Routes, Stopped};
    use crate::http::{MetricsSnapshot, MetricsSource, SnapshotFuture};
    use crate::inbox::Inbox;

    pub(super) struct Unplugged(Hub);

    impl Unplugged {
        pub(super) fn new() -> Self {
            Self(Hub::new(Arc::new(Inbox::default()), 1 << 20, 1 << 20))
        }
    }

    impl MetricsSource for Unplugged {
        fn snapshot(&self) -> SnapshotFuture<'_> {
            Box::pin(std::future::ready(MetricsSnapshot::default()))
        }
    }

    impl Backend for Unplugged {
        fn hub(&self) -> &Hub {
            &self.0
        }

        fn open(&self) -> Result<Recovery, Stopped> {
            Err(Stopped::refused("the store is not available yet"))
        }

        fn grpc(&self, _phases: Phases) -> Routes {
            Routes::builder().routes()
        }

        fn failed(&self) -> FailureFuture<'_> {
            Box::pin(std::future::pending())
        }

        fn close(&self) -> Result<(), Stopped> {
            Ok(())
        }
    }
}
