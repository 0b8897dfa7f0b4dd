//! A stream over a channel of the core: outputs are merged until the client takes them, one response at a time.
//!
//! Two halves share a lane. The response half ([`LaneStream`]) is polled when HTTP/2 has room, so that a client
//! that does not read costs no more than what it has asked for. The request half is a task that reads what the
//! client sends; it ends with the response half. When the response half is not polled, the request half merges
//! outputs in its stead, and stops reading while too much waits.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tonic::Status;

use super::errors;
use crate::hub::{Channel, Output, Outputs};
use crate::stage::{self, Stage};

/// Bytes of notices (not deliveries) that may wait for the client before its requests wait too.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// What a kind of stream makes of outputs.
pub(super) trait Collect: Send + 'static {
    /// What the client gets.
    type Response: Send + 'static;

    /// Merges one output in. A status ends the stream after what waits.
    fn add(&mut self, output: Output) -> Option<Status>;
    /// The next response, if there is something to say. Gives credit back for the deliveries in it.
    fn take(&mut self, channel: &Channel) -> Option<Self::Response>;
    /// Everything that the client asked for is answered.
    fn answered(&self) -> bool;
    /// Memory of what waits and is not bounded by credit.
    fn waiting_bytes(&self) -> usize;
}

/// How a stream ends.
#[derive(Debug)]
pub(super) enum End {
    /// After everything is answered.
    WhenAnswered(Result<(), Status>),
    /// After what waits.
    Now(Result<(), Status>),
}

/// What the two halves share.
pub(super) struct Lane<C> {
    pub(super) channel: Channel,
    state: Mutex<State<C>>,
    /// The response half has taken something.
    taken: Notify,
}

struct State<C> {
    outputs: Outputs,
    collect: C,
    end: Option<End>,
    /// Of the response half, when it waits.
    waker: Option<Waker>,
}

impl<C: Collect> Lane<C> {
    pub(super) fn new(channel: Channel, outputs: Outputs, collect: C) -> Arc<Self> {
        let state = State { outputs, collect, end: None, waker: None };
        Arc::new(Self { channel, state: Mutex::new(state), taken: Notify::new() })
    }

    /// Changes what is collected, and has the response half look at it.
    pub(super) fn update(&self, change: impl FnOnce(&mut C)) {
        let mut state = self.lock();
        change(&mut state.collect);
        wake(state);
    }

    /// Ends the stream. The first end holds, but `Now` overtakes `WhenAnswered`.
    pub(super) fn end(&self, end: End) {
        let mut state = self.lock();
        if !matches!((&state.end, &end), (Some(End::Now(_)), _) | (Some(_), End::WhenAnswered(_))) {
            state.end = Some(end);
        }
        wake(state);
    }

    /// Waits while the client has left too many notices unread.
    pub(super) async fn uncrowded(&self) {
        loop {
            let taken = self.taken.notified();
            {
                let mut state = self.lock();
                while let Ok(batch) = state.outputs.try_recv() {
                    state.merge(batch);
                }
                if state.collect.waiting_bytes() <= WAITING_BYTES_MAX {
                    return;
                }
            }
            taken.await;
        }
    }

    /// Starts the request half, which says how the stream ends, and makes the response half.
    pub(super) fn start<F>(self: Arc<Self>, stage: stage::Receiver, requests: F) -> LaneStream<C>
    where
        F: Future<Output = End> + Send + 'static,
    {
        let lane = Arc::clone(&self);
        let task = tokio::spawn(async move {
            let mut ending = std::pin::pin!(stage::reached(stage, Stage::Ending));
            tokio::select! {
                biased;
                () = &mut ending => {}
                end = requests => {
                    lane.end(end);
                    ending.await;
                }
            }
            lane.end(End::Now(Err(errors::status(errors::shutting_down()))));
        });
        LaneStream { lane: self, task, over: false }
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Collect> State<C> {
    fn merge(&mut self, batch: Vec<Output>) {
        for output in batch {
            let ends = match output {
                Output::ConnectionForced { refusal } => Some(errors::status(refusal)),
                output => self.collect.add(output),
            };
            if let Some(status) = ends {
                self.end = Some(End::Now(Err(status)));
            }
        }
    }
}

fn wake<C>(mut state: MutexGuard<'_, State<C>>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The response half. Dropping it ends the request half, and with it the channel: what was out is requeued.
pub(super) struct LaneStream<C> {
    lane: Arc<Lane<C>>,
    task: JoinHandle<()>,
    over: bool,
}

impl<C: Collect> Stream for LaneStream<C> {
    type Item = Result<C::Response, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { lane, over, .. } = self.get_mut();
        if *over {
            return Poll::Ready(None);
        }
        let mut state = lane.lock();
        let mut closed = false;
        loop {
            match state.outputs.poll_recv(cx) {
                Poll::Ready(Some(batch)) => state.merge(batch),
                Poll::Ready(None) => {
                    closed = true;
                    break;
                }
                Poll::Pending => break,
            }
        }
        if let Some(response) = state.collect.take(&lane.channel) {
            drop(state);
            lane.taken.notify_one();
            return Poll::Ready(Some(Ok(response)));
        }
        let result = match state.end.take() {
            Some(End::Now(result)) => result,
            Some(End::WhenAnswered(result)) if state.collect.answered() => result,
            unanswered => {
                state.end = unanswered;
                if !closed {
                    state.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Err(Status::unavailable("the connection, the session or the broker is gone"))
            }
        };
        drop(state);
        *over = true;
        Poll::Ready(result.err().map(Err))
    }
}

impl<C> Drop for LaneStream<C> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
