//! One stream, one message per request, a window of unconfirmed ones: messages per second.
//!
//! Two kinds of client: `channel` is what tonic's documentation shows, a task that sends into a channel whose other
//! end is the request stream; `direct` makes requests as HTTP/2 asks for them, which costs the client far less. The
//! broker and the bare service are always measured with the same one.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use leveret_proto::v1::broker_client::BrokerClient;
use leveret_proto::v1::{Message, PublishMessage, PublishStreamRequest, message};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Channel;

use crate::Error;
use crate::echo::pb::echo_service_client::EchoServiceClient;
use crate::echo::pb::{LeanStreamRequest, StreamRequest};
use crate::load::clock::Meter;

/// Time before the count begins.
const WARM_UP: Duration = Duration::from_millis(500);
/// Requests in the channel of a [`Client::Channel`].
const CHANNEL_MESSAGES: usize = 128;

/// Confirmed messages per second through the broker.
pub(crate) async fn broker(channel: Channel, queue: &str, load: Load) -> Result<f64, Error> {
    let window = Arc::new(Window::default());
    let request = PublishStreamRequest { vhost: String::new(), messages: vec![publish(queue, load.bytes)] };
    let requests = requests(request, &window, load);
    let mut responses = BrokerClient::new(channel).publish_stream(requests).await?.into_inner();
    let mut meter = Stopwatch::start(WARM_UP);
    while let Some(response) = responses.message().await? {
        if !response.exceptions.is_empty() {
            return Err(format!("publishes were not routed: {:?}", response.exceptions).into());
        }
        window.confirm(response.confirmed_upto);
        meter.count(response.confirmed_upto);
    }
    Ok(meter.rate()?.1)
}

/// Messages per second through the bare service.
pub(crate) async fn bare(channel: Channel, load: Load) -> Result<f64, Error> {
    let window = Arc::new(Window::default());
    let requests = requests(StreamRequest { body: vec![7; load.bytes].into() }, &window, load);
    let mut responses = EchoServiceClient::new(channel).stream(requests).await?.into_inner();
    let mut meter = Stopwatch::start(WARM_UP);
    while let Some(response) = responses.message().await? {
        window.confirm(response.count);
        meter.count(response.count);
    }
    Ok(meter.rate()?.1)
}

/// Messages per second through the lean form of the bare service, with a lean client.
pub(crate) async fn lean(channel: Channel, load: Load) -> Result<f64, Error> {
    let window = Arc::new(Window::default());
    let request = LeanStreamRequest { body: vec![7; load.bytes].into() };
    let requests = requests(request, &window, Load { client: Client::Direct, ..load });
    let mut responses = EchoServiceClient::new(channel).lean_stream(requests).await?.into_inner();
    let mut meter = Stopwatch::start(WARM_UP);
    while let Some(response) = responses.message().await? {
        window.confirm(response.count);
        meter.count(response.count);
    }
    Ok(meter.rate()?.1)
}

/// How requests get into the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Client {
    /// A task sends them into a channel.
    Channel,
    /// The stream makes them.
    Direct,
}

fn requests<T>(request: T, window: &Arc<Window>, load: Load) -> Pin<Box<dyn Stream<Item = T> + Send>>
where
    T: Clone + Unpin + Send + 'static,
{
    let mut direct = Requests::new(request, 1, window, load.window, load.end());
    match load.client {
        Client::Direct => Box::pin(direct),
        Client::Channel => {
            let (sender, receiver) = mpsc::channel(CHANNEL_MESSAGES);
            tokio::spawn(async move {
                while let Some(request) = direct.next().await {
                    if sender.send(request).await.is_err() {
                        break;
                    }
                }
            });
            Box::pin(ReceiverStream::new(receiver))
        }
    }
}

/// A persistent message to a queue.
pub(crate) fn publish(queue: &str, bytes: usize) -> PublishMessage {
    let body = Some(message::Body::Bytes(vec![7; bytes].into()));
    PublishMessage {
        routing_key: queue.into(),
        message: Some(Message { body, persistent: None, properties: None }),
        ..Default::default()
    }
}

/// What is sent for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) bytes: usize,
    pub(crate) window: u64,
    pub(crate) duration: Duration,
    pub(crate) client: Client,
}

impl Load {
    fn end(self) -> Instant {
        Instant::now() + WARM_UP + self.duration
    }
}

/// What is confirmed, and who waits for more.
#[derive(Debug, Default)]
pub(crate) struct Window {
    confirmed: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

impl Window {
    pub(crate) fn confirm(&self, upto: u64) {
        self.confirmed.store(upto, Ordering::Release);
        let waiting = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    fn open(&self, sent: u64, size: u64, cx: &Context<'_>) -> bool {
        let has_room = || sent - self.confirmed.load(Ordering::Acquire) < size;
        if has_room() {
            return true;
        }
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        // A confirm may have come between the two.
        has_room()
    }
}

/// The same request again and again, as fast as the window allows.
pub(crate) struct Requests<T> {
    request: T,
    /// Messages in it.
    messages: u64,
    window: Arc<Window>,
    size: u64,
    sent: u64,
    /// Looks at the clock that are to come before the next one.
    looks: u32,
    end: Instant,
}

impl<T> Requests<T> {
    /// With at most `size` messages unconfirmed, until `end`.
    pub(crate) fn new(request: T, messages: u64, window: &Arc<Window>, size: u64, end: Instant) -> Self {
        Self { request, messages, window: Arc::clone(window), size, sent: 0, looks: 0, end }
    }
}

impl<T: Clone + Unpin> Stream for Requests<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        // A request goes out whole.
        if !self.window.open(self.sent + self.messages - 1, self.size, cx) {
            return Poll::Pending;
        }
        // The clock is dear; a look now and then is enough.
        self.looks = match self.looks {
            0 if Instant::now() >= self.end => return Poll::Ready(None),
            0 => 256 / self.messages.min(256) as u32,
            looks => looks - 1,
        };
        self.sent += self.messages;
        Poll::Ready(Some(self.request.clone()))
    }
}

/// Counts from the end of the warm-up on.
pub(crate) struct Stopwatch {
    start: Instant,
    meter: Meter,
}

impl Stopwatch {
    pub(crate) fn start(warm_up: Duration) -> Self {
        Self { start: Instant::now(), meter: Meter::after(warm_up) }
    }

    /// Whether the count begins here.
    pub(crate) fn count(&mut self, total: u64) -> bool {
        self.meter.count(self.start.elapsed().as_nanos() as u64, total)
    }

    /// Seconds that counted, and units per second.
    pub(crate) fn rate(&self) -> Result<(f64, f64), Error> {
        let (seconds, units) = self.meter.counted().ok_or("the run ended during its warm-up")?;
        Ok((seconds, units as f64 / seconds))
    }
}
