//! How far the process is on its way to a stop. Front ends are told through a watch channel.

use tokio::sync::watch;

/// Where the process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stage {
    /// Everything is served.
    #[default]
    Serving,
    /// No new connections. gRPC: no new calls but Ack, Nack and Reject; publish streams end when what they took is
    /// confirmed. AMQP: connections with nothing to settle are closed when what they published is confirmed. What is
    /// out with consumers can be settled.
    Draining,
    /// Every stream and connection ends.
    Ending,
}

/// Tells the stage.
pub type Receiver = watch::Receiver<Stage>;

/// Waits until the stage is `wanted` or later. A sender that is gone counts as the end.
pub(crate) async fn reached(mut stage: Receiver, wanted: Stage) {
    let _ = stage.wait_for(|now| *now >= wanted).await;
}
