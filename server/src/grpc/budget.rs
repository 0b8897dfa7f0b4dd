//! A budget for the bytes of requests that are being decoded, over all connections.
//!
//! tonic gathers a message in memory until it is whole. This body layer reads the length that stands before each
//! message (`flag u8 | length u32 big-endian | message`), and before it lets more of a large message in than came
//! with its first piece, it takes permits for all of it. All at once: whoever has its permits needs no others to
//! come to the end, so that nothing can wait in a circle. Meanwhile HTTP/2 flow control holds the client back.
//! Small messages go free, and those that came whole in one piece.
//!
//! A request that waits for permits keeps its first piece (16 KiB as a rule) in memory. Only so many may wait; more are
//! refused, so that a flood of requests that begin and do not end has a bound, too, whatever its connections and streams.
//!
//! Whoever has begun a message must go on with it: the client has to send at a least rate (see [`pace`]). Callers whose
//! login was not checked get no permits, so that nobody holds the budget who may not even call: their messages have to be
//! small.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;

use pace::{Pace, Waited};

mod pace;

/// Messages up to this size need no permits.
const FREE_BYTES_MAX: usize = 4 * 1024;
/// Requests that may wait for permits at a time.
const WAITING_MAX: usize = 1024;
const HEADER_BYTES: usize = 5;

/// Methods that take many messages in one request; the others take one, and keep its permits while they are
/// handled.
const STREAMING: [&str; 2] = ["/leveret.v1.Broker/PublishStream", "/leveret.v1.Broker/Consume"];

/// The budget.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    permits: Arc<Semaphore>,
    /// Places to wait for them.
    waiting: Arc<Semaphore>,
    bytes: u32,
    pace: Pace,
}

/// Permits of a message that was decoded. Goes along with a unary request; whoever keeps the message keeps this.
#[derive(Debug, Clone, Default)]
pub(super) struct Held(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Held {
    fn set(&self, permit: Option<OwnedSemaphorePermit>) {
        let before = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), permit);
        drop(before);
    }
}

impl Budget {
    pub(super) fn new(bytes: u32) -> Self {
        let permits = Arc::new(Semaphore::new(bytes as usize));
        Self { permits, waiting: Arc::new(Semaphore::new(WAITING_MAX)), bytes, pace: Pace::default() }
    }

    /// Puts the budget around the body of a request whose caller is known.
    pub(super) fn wrap(&self, request: http::Request<Body>) -> http::Request<Body> {
        self.wrap_of(request, true)
    }

    /// Lets only small messages into a request that anybody may make.
    pub(super) fn wrap_of_anybody(&self, request: http::Request<Body>) -> http::Request<Body> {
        self.wrap_of(request, false)
    }

    fn wrap_of(&self, request: http::Request<Body>, known: bool) -> http::Request<Body> {
        let held = Held::default();
        let one_message = !STREAMING.contains(&request.uri().path());
        let (mut parts, body) = request.into_parts();
        if one_message {
            parts.extensions.insert(held.clone());
        }
        let body = Budgeted {
            body,
            budget: self.clone(),
            framing: Framing::default(),
            held,
            known,
            holding: false,
            held_bytes: 0,
            one_message,
            wanted: None,
            acquiring: None,
            waited: Waited::default(),
        };
        http::Request::from_parts(parts, Body::new(body))
    }
}

type Acquiring = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// A body under the budget.
struct Budgeted {
    body: Body,
    budget: Budget,
    framing: Framing,
    held: Held,
    /// Who makes the request is known.
    known: bool,
    holding: bool,
    /// Length of the message for which there are permits.
    held_bytes: usize,
    one_message: bool,
    /// Permits to ask for before more is let in.
    wanted: Option<u32>,
    acquiring: Option<Acquiring>,
    /// For the client, since there are permits for the message that is under way, or since it began where it needs none.
    waited: Waited,
}

impl Budgeted {
    /// Settles the permits before more is let in.
    fn poll_permits(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        if let Some(bytes) = self.wanted.take() {
            let permits = Arc::clone(&self.budget.permits);
            if let Ok(permit) = Arc::clone(&permits).try_acquire_many_owned(bytes) {
                self.hold(Some(permit));
                return Poll::Ready(Ok(()));
            }
            let Ok(place) = Arc::clone(&self.budget.waiting).try_acquire_owned() else {
                let text = format!(
                    "{} bytes of requests are being received, and {WAITING_MAX} requests wait for room \
                     (grpc-decode-budget); try again later",
                    self.budget.bytes
                );
                return Poll::Ready(Err(Status::resource_exhausted(text)));
            };
            self.acquiring = Some(Box::pin(async move {
                let permit = permits.acquire_many_owned(bytes).await;
                drop(place);
                permit
            }));
        }
        if let Some(acquiring) = &mut self.acquiring {
            let permit = ready!(acquiring.as_mut().poll(cx));
            self.acquiring = None;
            self.hold(permit.ok());
        }
        Poll::Ready(Ok(()))
    }

    fn hold(&mut self, permit: Option<OwnedSemaphorePermit>) {
        self.held.set(permit);
        self.holding = true;
        self.held_bytes = self.framing.unfinished();
        self.waited = Waited::default();
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            self.passed(data);
        }
        Poll::Ready(frame)
    }

    /// Looks at what comes in. The message before is out of the buffer by now, since more was asked for.
    fn passed(&mut self, data: &[u8]) {
        let ended = self.framing.pass(data);
        if ended && self.holding && !self.one_message {
            self.holding = false;
        }
        if ended && !self.holding {
            self.waited = Waited::default();
        }
        if self.known && !self.holding && self.framing.unfinished() > FREE_BYTES_MAX {
            let bytes = u32::try_from(self.framing.unfinished()).unwrap_or(u32::MAX).min(self.budget.bytes);
            self.wanted = Some(bytes);
        }
    }
}

impl HttpBody for Budgeted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if !this.holding && !this.one_message {
            this.held.set(None);
        }
        if let Err(status) = ready!(this.poll_permits(cx)) {
            return Poll::Ready(Some(Err(status)));
        }
        let unfinished = this.framing.unfinished();
        if !this.known && unfinished > FREE_BYTES_MAX {
            let text = format!("a call without a login takes messages of up to {FREE_BYTES_MAX} bytes");
            return Poll::Ready(Some(Err(Status::resource_exhausted(text))));
        }
        if !this.holding && unfinished == 0 {
            return this.poll_body(cx);
        }
        // It is the client's turn: to go on with its message, or to end a request that has its one message and holds permits.
        let came = if unfinished > 0 { unfinished - this.framing.left } else { this.held_bytes };
        let waker = this.waited.watch(cx.waker());
        match this.poll_body(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                let status = ready!(this.waited.poll_too_long(&this.budget.pace, came, cx));
                Poll::Ready(Some(Err(status)))
            }
            ready => ready,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Where in the gRPC framing the body is.
#[derive(Debug, Default)]
struct Framing {
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    /// Length of the message that is under way; 0 between messages.
    length: usize,
    left: usize,
}

impl Framing {
    /// Moves on over `data`. True when a message came to its end in it.
    fn pass(&mut self, mut data: &[u8]) -> bool {
        let mut ended = false;
        while !data.is_empty() {
            if self.left > 0 {
                let step = self.left.min(data.len());
                self.left -= step;
                data = &data[step..];
            } else {
                let step = (HEADER_BYTES - self.header_filled).min(data.len());
                self.header[self.header_filled..self.header_filled + step].copy_from_slice(&data[..step]);
                self.header_filled += step;
                data = &data[step..];
                if self.header_filled < HEADER_BYTES {
                    break;
                }
                let [_flag, length @ ..] = self.header;
                self.length = u32::from_be_bytes(length) as usize;
                self.left = self.length;
                self.header_filled = 0;
            }
            if self.left == 0 {
                self.length = 0;
                ended = true;
            }
        }
        ended
    }

    /// Length of the message that is under way and not whole yet; 0 when there is none.
    fn unfinished(&self) -> usize {
        self.length
    }
}

#[cfg(test)]
mod tests;
