//! SIGTERM and SIGINT.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Stopped;

/// The signals that stop the server.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// One that came.
#[derive(Debug, Clone, Copy)]
pub(super) enum StopSignal {
    Interrupt,
    Terminate,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Stopped> {
        let listen =
            |kind| signal(kind).map_err(|e| Stopped::refused(format!("cannot listen to signals: {e}")));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    pub(super) async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.interrupt.recv() => StopSignal::Interrupt,
            _ = self.terminate.recv() => StopSignal::Terminate,
        }
    }

    /// Ends the process at the next signal. Safe at any time: it is no worse than a crash.
    pub(super) async fn exit_at_next(mut self) {
        let signal = self.next().await;
        std::process::exit(signal.exit_code());
    }
}

impl StopSignal {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// As shells say it: 128 and the signal's number.
    fn exit_code(self) -> i32 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}
