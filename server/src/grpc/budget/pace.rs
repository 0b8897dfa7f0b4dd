//! How long a client may hold what it does not fill.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use tonic::Status;

/// The least rate at which a message has to come, once there is room for it.
///
/// A link of 128 kbit/s: slower than what anybody publishes large messages over, and yet the largest message of 16 MiB
/// comes to its end within twenty minutes. Who does not even send that holds its room for no longer than the grace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// In bytes a second.
    pub(super) rate: u32,
    /// The client may be silent for so long beside, in all: links break down for a moment, machines are busy.
    pub(super) grace: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { rate: 16 * 1024, grace: Duration::from_secs(30) }
    }
}

impl Pace {
    /// How long so many bytes may take.
    fn time_for(&self, bytes: usize) -> Duration {
        self.grace + Duration::from_secs_f64(bytes as f64 / f64::from(self.rate))
    }
}

/// The time that was spent on waiting for one message of a client. What the broker lets wait does not count: the waiting
/// ends when something comes, whether or not somebody looks at it.
#[derive(Debug, Default)]
pub(super) struct Waited {
    before: Duration,
    since: Option<Instant>,
    came: Arc<Came>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// When something came, with who is to be woken then.
#[derive(Debug)]
struct Came {
    waker: Waker,
    at: Mutex<Option<Instant>>,
}

impl Default for Came {
    fn default() -> Self {
        Self { waker: Waker::noop().clone(), at: Mutex::default() }
    }
}

impl Wake for Came {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
        self.waker.wake_by_ref();
    }
}

impl Waited {
    /// Ends a waiting, and makes the waker for the next one.
    pub(super) fn watch(&mut self, waker: &Waker) -> Waker {
        if let Some(since) = self.since.take() {
            let came = *self.came.at.lock().unwrap_or_else(PoisonError::into_inner);
            self.before += came.unwrap_or_else(Instant::now).saturating_duration_since(since);
        }
        self.came = Arc::new(Came { waker: waker.clone(), at: Mutex::default() });
        Waker::from(Arc::clone(&self.came))
    }

    /// Waits for more of a message of which so many bytes have come. Ready with the refusal when that takes too long.
    pub(super) fn poll_too_long(&mut self, pace: &Pace, bytes: usize, cx: &mut Context<'_>) -> Poll<Status> {
        let now = Instant::now();
        self.since = Some(now);
        let left = pace.time_for(bytes).saturating_sub(self.before);
        let deadline = now + left;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        if !left.is_zero() {
            ready!(timer.as_mut().poll(cx));
        }
        let text = format!(
            "the message did not come at {} bytes a second, with {} s of grace",
            pace.rate,
            pace.grace.as_secs_f32()
        );
        Poll::Ready(Status::deadline_exceeded(text))
    }
}
