//! Where the server is in its life, for the front ends.

use tokio::sync::watch;

/// Where the server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Starting or serving.
    Serving,
    /// No new connections and no deliveries; acks are taken, accepted publishes are confirmed.
    Draining,
    /// Streams and calls end.
    Ending,
}

/// Says where the server is. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Phases(watch::Receiver<Phase>);

/// Sets where the server is.
#[derive(Debug)]
pub(super) struct Switch(watch::Sender<Phase>);

impl Switch {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Phase::Serving))
    }

    pub(super) fn watch(&self) -> Phases {
        Phases(self.0.subscribe())
    }

    pub(super) fn set(&self, phase: Phase) {
        self.0.send_replace(phase);
    }
}

impl Phases {
    /// Where it is now.
    pub fn now(&self) -> Phase {
        *self.0.borrow()
    }

    /// Ready once the server is in `phase` or beyond it, or gone.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that the switch is gone: the server has ended.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}
