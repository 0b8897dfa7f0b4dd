//! How far the process is on its way to a stop. The front end is told through a watch channel.

use tokio::sync::watch;

/// Where the process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stage {
    /// Everything is served.
    #[default]
    Serving,
    /// No new connections, no new calls but Ack, Nack and Reject; publish streams end when what they took is
    /// confirmed; what is out with consumers can be settled.
    Draining,
    /// Every stream ends.
    Ending,
}

/// Tells the stage.
pub type Receiver = watch::Receiver<Stage>;

/// Waits until the stage is `wanted` or later. A sender that is gone counts as the end.
pub(super) async fn reached(mut stage: Receiver, wanted: Stage) {
    let _ = stage.wait_for(|now| *now >= wanted).await;
}
