//! Consume: opens a consumer, delivers, and takes settlements on the same stream.

use std::collections::VecDeque;
use std::mem::size_of;
use std::sync::Arc;

use leveret_broker::{Consume, Deliver, Op, Refusal, RefusalKind, Reply, Settle};
use leveret_proto::v1::consume_request::Action;
use leveret_proto::v1::{
    ConsumeOpen, ConsumeOpened, ConsumeRequest, ConsumeResponse, ConsumeSettle, ConsumeSettled,
    SettleException, SettleKind,
};
use tonic::{Status, Streaming};

use super::convert::{BodyAs, arguments_from};
use super::deliver::delivery;
use super::errors::{self, invalid};
use super::lane::{Collect, End, Lane, LaneStream};
use super::names;
use crate::hub::{Caller, Channel, Hub, Output, Outputs};
use crate::stage;

/// A response is cut after about so many bytes, so that no client has to raise its limit for many small messages.
const RESPONSE_BYTES: u64 = 64 * 1024;
/// After so many settlements the reader looks after the rest of the world.
const SETTLES_PER_PAUSE: u64 = 512;

/// Response stream of Consume.
pub(super) type ConsumeResponses = LaneStream<Deliveries>;

/// Opens the stream. Nothing is read before the response headers are out.
pub(super) fn open(
    hub: Hub,
    caller: Caller,
    (channel, outputs): (Channel, Outputs),
    requests: Streaming<ConsumeRequest>,
    stage: stage::Receiver,
) -> ConsumeResponses {
    let lane = Lane::new(channel, outputs, Deliveries::default());
    let reader = Reader { hub, caller, lane: Arc::clone(&lane), sent: 0 };
    lane.start(stage, reader.run(requests))
}

/// The request half.
struct Reader {
    hub: Hub,
    caller: Caller,
    lane: Arc<Lane<Deliveries>>,
    /// Settlements sent.
    sent: u64,
}

impl Reader {
    async fn run(mut self, mut requests: Streaming<ConsumeRequest>) -> End {
        match self.read(&mut requests).await {
            Ok(()) => End::WhenAnswered(Ok(())),
            Err(status) => End::Now(Err(status)),
        }
    }

    async fn read(&mut self, requests: &mut Streaming<ConsumeRequest>) -> Result<(), Status> {
        let Some(Action::Open(open)) = requests.message().await?.and_then(|first| first.action) else {
            return Err(errors::status(invalid("open", "the first message of the stream must be open")));
        };
        let vhost = names::vhost(&open.vhost).map_err(errors::status)?;
        let consume = consume_from(open, &self.lane.channel).map_err(errors::status)?;
        let queue = Arc::clone(&consume.queue);
        let consumer_tag = match self.request(&vhost, Op::Consume(consume)).await? {
            Reply::Consuming { consumer_tag, .. } => consumer_tag,
            other => return Err(errors::unexpected(&other)),
        };
        self.lane.update(|deliveries| deliveries.opened(queue, Arc::clone(&consumer_tag)));
        while let Some(request) = requests.message().await? {
            match request.action {
                Some(Action::Settle(settle)) => self.settle(&settle).map_err(errors::status)?,
                Some(Action::Open(_)) => {
                    return Err(errors::status(invalid("open", "the stream is open already")));
                }
                None => return Err(errors::status(invalid("action", "action must be set"))),
            }
            if self.sent.is_multiple_of(SETTLES_PER_PAUSE) {
                self.lane.uncrowded().await;
            }
        }
        let sent = self.sent;
        self.lane.update(|deliveries| deliveries.settles_sent = Some(sent));
        self.request(&vhost, Op::Cancel { chan: self.lane.channel.id(), consumer_tag }).await?;
        // The client cannot settle on this stream any more, but by ack id it can, and only the core knows.
        self.request(&vhost, Op::WhenIdle { chan: self.lane.channel.id() }).await?;
        Ok(())
    }

    fn settle(&mut self, settle: &ConsumeSettle) -> Result<(), Refusal> {
        let how = match settle.kind() {
            SettleKind::Ack => Settle::Ack,
            SettleKind::Requeue => Settle::Requeue,
            SettleKind::Reject => Settle::Drop,
            SettleKind::Unspecified => {
                let text = format!("kind is {}; it must be ACK, REQUEUE or REJECT", settle.kind);
                return Err(invalid("kind", text));
            }
        };
        self.lane.channel.settle(settle.delivery_tag, settle.multiple, how);
        self.sent += 1;
        Ok(())
    }

    async fn request(&self, vhost: &Arc<str>, op: Op) -> Result<Reply, Status> {
        self.hub.request(self.caller.clone(), Arc::clone(vhost), op).await.map_err(errors::status)
    }
}

fn consume_from(open: ConsumeOpen, channel: &Channel) -> Result<Consume, Refusal> {
    Ok(Consume {
        chan: channel.id(),
        queue: names::some_name("queue", &open.queue)?,
        consumer_tag: names::name("consumer_tag", &open.consumer_tag)?,
        prefetch_messages: open.prefetch_messages,
        prefetch_bytes: open.prefetch_bytes,
        auto_ack: open.auto_ack,
        exclusive: open.exclusive,
        priority: open.priority,
        arguments: arguments_from(open.arguments)?,
    })
}

/// The end of a stream whose queue was deleted.
pub(super) fn queue_gone(queue: &str) -> Status {
    let text = format!("queue '{queue}' was deleted, or its consumer cancelled");
    errors::status(Refusal::new(RefusalKind::NotFound, text).with("queue", queue))
}

/// What the client is still to get.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    /// Queue and consumer tag, once the consumer exists.
    consumer: Option<(Arc<str>, Arc<str>)>,
    opened_told: bool,
    waiting: VecDeque<Deliver>,
    /// Settlements read, once there will be no more.
    settles_sent: Option<u64>,
    settled_upto: u64,
    settled_told: u64,
    unknown: VecDeque<(u64, u64)>,
}

impl Deliveries {
    fn opened(&mut self, queue: Arc<str>, consumer_tag: Arc<str>) {
        self.consumer = Some((queue, consumer_tag));
    }

    fn take_settled(&mut self) -> Option<ConsumeSettled> {
        if self.settled_upto == self.settled_told {
            return None;
        }
        let mut settled = ConsumeSettled { upto: self.settled_upto, exceptions: Vec::new() };
        let count_max = RESPONSE_BYTES as usize / size_of::<SettleException>();
        while let Some((number, delivery_tag)) = self.unknown.pop_front() {
            if settled.exceptions.len() == count_max {
                settled.upto = number - 1;
                self.unknown.push_front((number, delivery_tag));
                break;
            }
            let error = Some(errors::unknown_delivery_tag(delivery_tag));
            settled.exceptions.push(SettleException { number, delivery_tag, error });
        }
        self.settled_told = settled.upto;
        Some(settled)
    }
}

impl Collect for Deliveries {
    type Response = ConsumeResponse;

    fn add(&mut self, output: Output) -> Option<Status> {
        match output {
            Output::Deliver(deliver) => self.waiting.push_back(deliver),
            Output::Settled { upto, unknown, .. } => {
                self.settled_upto = upto;
                self.unknown.extend(unknown);
            }
            Output::ConsumerCancelled { .. } => {
                return Some(queue_gone(self.consumer.as_ref().map_or("", |(queue, _)| queue)));
            }
            _ => {}
        }
        None
    }

    fn take(&mut self, channel: &Channel) -> Option<ConsumeResponse> {
        let mut response = ConsumeResponse::default();
        if !self.opened_told {
            let (_, consumer_tag) = self.consumer.as_ref()?;
            response.opened = Some(ConsumeOpened { consumer_tag: consumer_tag.as_ref().to_owned() });
            self.opened_told = true;
        }
        let mut cost_bytes = 0;
        while let Some(next) = self.waiting.front() {
            let next_bytes = next.message.cost_bytes();
            if cost_bytes > 0 && cost_bytes + next_bytes > RESPONSE_BYTES {
                break;
            }
            cost_bytes += next_bytes;
            response.deliveries.push(delivery(next, BodyAs::Bytes));
            self.waiting.pop_front();
        }
        if cost_bytes > 0 {
            channel.writable(cost_bytes);
        }
        response.settled = self.take_settled();
        let says_something =
            response.opened.is_some() || !response.deliveries.is_empty() || response.settled.is_some();
        says_something.then_some(response)
    }

    fn answered(&self) -> bool {
        self.settles_sent == Some(self.settled_told)
    }

    fn waiting_bytes(&self) -> usize {
        self.unknown.len() * size_of::<SettleException>()
    }
}
