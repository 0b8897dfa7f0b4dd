//! Subscribe: deliveries for people and simple clients, settled by unary calls.

use std::collections::VecDeque;
use std::sync::Arc;

use leveret_broker::{Consume, Deliver, Op, Reply, Table};
use leveret_proto::v1::{SubscribeRequest, SubscribeResponse};
use tonic::Status;

use super::consume::queue_gone;
use super::convert::BodyAs;
use super::deliver::delivery;
use super::errors;
use super::lane::{Collect, Lane, LaneStream};
use super::names;
use crate::hub::{Caller, Channel, Hub, Output, Outputs};
use crate::stage;

/// Messages that may be out when the request does not say.
const PREFETCH_DEFAULT: u32 = 100;
/// Credit goes back when so much has come together, or when nothing waits.
const CREDIT_BYTES: u64 = 16 * 1024;

/// Response stream of Subscribe.
pub(super) type SubscribeResponses = LaneStream<Subscription>;

/// Starts the consumer, then the stream: a queue that does not exist is the call's error.
pub(super) async fn open(
    hub: &Hub,
    caller: Caller,
    (channel, outputs): (Channel, Outputs),
    request: SubscribeRequest,
    stage: stage::Receiver,
) -> Result<SubscribeResponses, Status> {
    let vhost = names::vhost(&request.vhost).map_err(errors::status)?;
    let queue = names::some_name("queue", &request.queue).map_err(errors::status)?;
    let prefetch = request.prefetch_messages;
    let consume = Consume {
        chan: channel.id(),
        queue: Arc::clone(&queue),
        consumer_tag: names::name("consumer_tag", &request.consumer_tag).map_err(errors::status)?,
        prefetch_messages: if prefetch == 0 { PREFETCH_DEFAULT } else { prefetch },
        prefetch_bytes: 0,
        auto_ack: request.auto_ack,
        exclusive: false,
        priority: 0,
        arguments: Table::default(),
    };
    match hub.request(caller, vhost, Op::Consume(consume)).await.map_err(errors::status)? {
        Reply::Consuming { .. } => {}
        other => return Err(errors::unexpected(&other)),
    }
    let body = BodyAs::from_flag(request.text);
    let lane =
        Lane::new(channel, outputs, Subscription { queue, body, waiting: VecDeque::new(), passed_bytes: 0 });
    // There is no request half: only the broker's end, the queue's or the client's ends the stream.
    Ok(lane.start(stage, std::future::pending()))
}

/// What the client is still to get.
#[derive(Debug)]
pub(super) struct Subscription {
    queue: Arc<str>,
    body: BodyAs,
    waiting: VecDeque<Deliver>,
    /// Passed on, and not yet given back as credit.
    passed_bytes: u64,
}

impl Collect for Subscription {
    type Response = SubscribeResponse;

    fn add(&mut self, output: Output) -> Option<Status> {
        match output {
            Output::Deliver(deliver) => self.waiting.push_back(deliver),
            Output::ConsumerCancelled { .. } => return Some(queue_gone(&self.queue)),
            _ => {}
        }
        None
    }

    fn take(&mut self, channel: &Channel) -> Option<SubscribeResponse> {
        let next = self.waiting.pop_front()?;
        self.passed_bytes += next.message.cost_bytes();
        if self.waiting.is_empty() || self.passed_bytes >= CREDIT_BYTES {
            channel.writable(std::mem::take(&mut self.passed_bytes));
        }
        Some(SubscribeResponse { delivery: Some(delivery(&next, self.body)) })
    }

    fn answered(&self) -> bool {
        true
    }

    fn waiting_bytes(&self) -> usize {
        0
    }
}
