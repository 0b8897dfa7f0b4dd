//! The two bidirectional streams, as tests drive them: one step at a time.

use std::collections::VecDeque;
use std::time::Duration;

use leveret_proto::v1::{
    ConsumeOpen, ConsumeRequest, ConsumeResponse, ConsumeSettle, ConsumeSettled, Delivery, PublishMessage,
    PublishStreamRequest, PublishStreamResponse, SettleKind, consume_request,
};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

use crate::client::Client;

/// How long a step may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long nothing must come for a test to believe that nothing comes.
const QUIET: Duration = Duration::from_millis(300);

/// A PublishStream.
#[derive(Debug)]
pub struct PublishLane {
    requests: mpsc::UnboundedSender<PublishStreamRequest>,
    responses: Streaming<PublishStreamResponse>,
    confirmed: u64,
}

impl PublishLane {
    /// Opens it.
    pub async fn open(client: &Client) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        let mut rpc = client.rpc.clone();
        let response = timeout(PATIENCE, rpc.publish_stream(UnboundedReceiverStream::new(receiver)));
        let responses = response.await.expect("headers come at once").expect("PublishStream").into_inner();
        Self { requests, responses, confirmed: 0 }
    }

    /// Sends one request.
    pub fn send(&self, messages: Vec<PublishMessage>) {
        self.requests.send(PublishStreamRequest { vhost: String::new(), messages }).expect("an open stream");
    }

    /// The next response.
    pub async fn next(&mut self) -> Result<Option<PublishStreamResponse>, Status> {
        timeout(PATIENCE, self.responses.message()).await.expect("a response in time")
    }

    /// Reads responses until everything up to `number` is confirmed, asserting that the numbers only rise.
    pub async fn confirmed(&mut self, number: u64) -> Vec<PublishStreamResponse> {
        let mut all = Vec::new();
        while self.confirmed < number {
            let response = self.next().await.expect("PublishStream").expect("an open stream");
            assert!(
                response.confirmed_upto >= self.confirmed,
                "{} after {}",
                response.confirmed_upto,
                self.confirmed
            );
            self.confirmed = response.confirmed_upto;
            all.push(response);
        }
        all
    }

    /// Closes the client's side and reads to the end.
    pub async fn finish(self) -> Result<Vec<PublishStreamResponse>, Status> {
        let Self { requests, mut responses, .. } = self;
        drop(requests);
        let mut all = Vec::new();
        while let Some(response) = timeout(PATIENCE, responses.message()).await.expect("an end in time")? {
            all.push(response);
        }
        Ok(all)
    }
}

/// A Consume stream.
#[derive(Debug)]
pub struct ConsumeLane {
    requests: Option<mpsc::UnboundedSender<ConsumeRequest>>,
    responses: Streaming<ConsumeResponse>,
    waiting: VecDeque<Delivery>,
    settles_sent: u64,
    /// The newest notice.
    pub settled: u64,
    /// Refused settles, all so far.
    pub notices: Vec<ConsumeSettled>,
    /// The consumer's tag, as the server said it.
    pub tag: String,
}

impl ConsumeLane {
    /// Opens it and waits until the consumer exists.
    pub async fn open(client: &Client, open: ConsumeOpen) -> Self {
        Self::try_open(client, open).await.expect("Consume")
    }

    /// Opens it, or gives the error.
    pub async fn try_open(client: &Client, open: ConsumeOpen) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::unbounded_channel();
        let mut rpc = client.rpc.clone();
        // The headers must come before the first message is sent: the specification of the stream says so.
        let response = timeout(PATIENCE, rpc.consume(UnboundedReceiverStream::new(receiver)));
        let responses = response.await.expect("headers come at once")?.into_inner();
        let _ = requests.send(ConsumeRequest { action: Some(consume_request::Action::Open(open)) });
        let mut lane = Self {
            requests: Some(requests),
            responses,
            waiting: VecDeque::new(),
            settles_sent: 0,
            settled: 0,
            notices: Vec::new(),
            tag: String::new(),
        };
        while lane.tag.is_empty() {
            if !lane.read().await? {
                return Err(Status::unknown("the stream ended before the consumer existed"));
            }
        }
        Ok(lane)
    }

    /// A consumer of a queue with a prefetch.
    pub async fn on(client: &Client, queue: &str, prefetch_messages: u32) -> Self {
        Self::open(client, ConsumeOpen { queue: queue.into(), prefetch_messages, ..Default::default() }).await
    }

    /// The next delivery.
    pub async fn next(&mut self) -> Delivery {
        self.next_or_end().await.expect("Consume").expect("an open stream")
    }

    /// The next delivery, or the end of the stream.
    pub async fn next_or_end(&mut self) -> Result<Option<Delivery>, Status> {
        while self.waiting.is_empty() {
            if !self.read().await? {
                return Ok(None);
            }
        }
        Ok(self.waiting.pop_front())
    }

    /// So many deliveries.
    pub async fn take(&mut self, count: usize) -> Vec<Delivery> {
        let mut all = Vec::new();
        while all.len() < count {
            all.push(self.next().await);
        }
        all
    }

    /// Asserts that no delivery comes for a while.
    pub async fn quiet(&mut self) {
        assert!(self.waiting.is_empty(), "a delivery that was not expected: {:?}", self.waiting);
        if let Ok(delivery) = timeout(QUIET, self.next()).await {
            panic!("a delivery that was not expected: {delivery:?}");
        }
    }

    /// Settles and does not wait.
    pub fn settle(&mut self, delivery_tag: u64, multiple: bool, kind: SettleKind) {
        let settle = ConsumeSettle { delivery_tag, multiple, kind: kind.into() };
        let request = ConsumeRequest { action: Some(consume_request::Action::Settle(settle)) };
        self.requests.as_ref().expect("not closed").send(request).expect("an open stream");
        self.settles_sent += 1;
    }

    /// Settles one delivery and waits for the notice.
    pub async fn settle_and_wait(&mut self, delivery: &Delivery, kind: SettleKind) {
        self.settle(delivery.delivery_tag, false, kind);
        self.all_settled().await;
    }

    /// Waits for the notices of all settles.
    pub async fn all_settled(&mut self) {
        while self.settled < self.settles_sent {
            assert!(self.read().await.expect("Consume"), "the stream ended before the notice");
        }
    }

    /// Closes the client's side: no more deliveries begin.
    pub fn half_close(&mut self) {
        self.requests = None;
    }

    /// Reads one response; false at the end.
    async fn read(&mut self) -> Result<bool, Status> {
        let Some(response) =
            timeout(PATIENCE, self.responses.message()).await.expect("a response in time")?
        else {
            return Ok(false);
        };
        if let Some(opened) = response.opened {
            assert!(self.tag.is_empty(), "opened comes once");
            self.tag = opened.consumer_tag;
        }
        assert!(response.deliveries.is_empty() || !self.tag.is_empty(), "opened comes before deliveries");
        self.waiting.extend(response.deliveries);
        if let Some(settled) = response.settled {
            assert!(settled.upto >= self.settled && settled.upto <= self.settles_sent, "{settled:?}");
            self.settled = settled.upto;
            self.notices.push(settled);
        }
        Ok(true)
    }
}
