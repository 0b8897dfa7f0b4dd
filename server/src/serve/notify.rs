//! What systemd is told of a service of Type=notify: that it is ready, and that it stops. Elsewhere nobody listens, and
//! nothing is done.

use sd_notify::NotifyState;
use tracing::warn;

/// Recovery is over and the ports are served.
pub(super) fn ready() {
    tell(NotifyState::Ready);
}

/// The stop has begun.
pub(super) fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "NOTIFY_SOCKET does not take notice");
    }
}
