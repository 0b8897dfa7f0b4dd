//! PublishStream: messages in, cumulative confirms out.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem::size_of;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use leveret_broker::{Input, Outcome, Refusal};
use leveret_proto::v1::{
    PublishException, PublishOutcome, PublishStreamRequest, PublishStreamResponse, ReturnedMessage,
};
use tokio_stream::{Stream, StreamExt};
use tonic::{Status, Streaming};

use super::convert::{PublishReader, publish_message_to};
use super::errors;
use super::lane::{Collect, End, Lane, LaneStream};
use super::names;
use crate::bodies::{NoBodies, publishes};
use crate::held::{Held, Ready};
use crate::hub::{Channel, Hub, Output, Outputs};
use crate::publish_in::publish_cost_bytes;
use crate::recent::Recent;
use crate::stage::{self, Stage};

/// What has come goes to the core in batches of at most about so many bytes...
const BATCH_BYTES: usize = 64 * 1024;
/// ...and so many messages. Between two batches the reader looks after the rest of the world.
const BATCH_MESSAGES: usize = 256;
/// A response is cut after about so many bytes.
const RESPONSE_BYTES: usize = 64 * 1024;

/// Response stream of PublishStream.
pub(super) type PublishResponses = LaneStream<Confirms>;

/// Opens the stream. Nothing is read before the response headers are out.
pub(super) fn open(
    hub: Hub,
    (channel, outputs): (Channel, Outputs),
    requests: Streaming<PublishStreamRequest>,
    message_bytes_max: u64,
    stage: stage::Receiver,
) -> PublishResponses {
    let lane = Lane::new(channel, outputs, Confirms::default());
    let reader = Reader {
        lane: Arc::clone(&lane),
        held: Held::new(hub),
        batch: Vec::new(),
        batch_bytes: 0,
        publishes: PublishReader::new(message_bytes_max),
        vhost: None,
        numbered: 0,
        sent: 0,
    };
    lane.start(stage.clone(), reader.run(requests, stage))
}

/// The request half.
struct Reader {
    lane: Arc<Lane<Confirms>>,
    /// Read, but waiting for room, or for large bodies that are written.
    held: Held,
    /// Read, but not sent to the core yet.
    batch: Vec<Input>,
    batch_bytes: usize,
    publishes: PublishReader,
    vhost: Option<Recent>,
    /// Number of the last message read.
    numbered: u64,
    /// Number of the last message that went to the core.
    sent: u64,
}

impl Reader {
    /// Reads to the end. What was taken before an error is still confirmed before the stream ends with it.
    async fn run(mut self, mut requests: Streaming<PublishStreamRequest>, stage: stage::Receiver) -> End {
        let read = self.read(&mut requests, stage).await;
        let result = self.send_all().await.and(read);
        let sent = self.sent;
        self.lane.update(|confirms| confirms.sent = Some(sent));
        End::WhenAnswered(result)
    }

    async fn read(
        &mut self,
        requests: &mut Streaming<PublishStreamRequest>,
        stage: stage::Receiver,
    ) -> Result<(), Status> {
        let mut draining = std::pin::pin!(stage::reached(stage.clone(), Stage::Draining));
        loop {
            let next = match at_once(requests).await {
                Some(next) => next,
                None => {
                    self.send().await?;
                    tokio::select! {
                        biased;
                        () = &mut draining => return Err(errors::status(errors::shutting_down())),
                        // Before reading, or who always has more to say would wait for ever.
                        ready = self.held.next() => {
                            self.let_in(ready)?;
                            continue;
                        }
                        next = requests.next() => next,
                    }
                }
            };
            match next.transpose()? {
                Some(request) => self.publish(request).await?,
                None => return Ok(()),
            }
            if self.batch.len() >= BATCH_MESSAGES {
                self.send().await?;
                if *stage.borrow() >= Stage::Draining {
                    return Err(errors::status(errors::shutting_down()));
                }
                self.lane.uncrowded().await;
                tokio::task::yield_now().await;
            }
        }
    }

    async fn publish(&mut self, request: PublishStreamRequest) -> Result<(), Status> {
        let vhost = match &mut self.vhost {
            Some(vhost) => vhost,
            None => self.vhost.insert(names::vhost(&request.vhost).map_err(errors::status)?.into()),
        };
        let vhost = vhost.again();
        let alone = request.messages.len() == 1;
        for message in request.messages {
            let number = self.numbered + 1;
            let publish = self.publishes.read(message, alone).map_err(|refusal| numbered(refusal, number))?;
            self.batch_bytes += publish_cost_bytes(&publish);
            self.batch.push(self.lane.channel.publish(Arc::clone(&vhost), number, publish));
            self.numbered = number;
            if self.batch_bytes >= BATCH_BYTES {
                self.send().await?;
            }
        }
        Ok(())
    }

    /// Sends what was read to the core as soon as it may enter, and waits until more may be read. What cannot be sent is
    /// dropped: the stream ends with the error, and nothing of it is ever confirmed.
    async fn send(&mut self) -> Result<(), Status> {
        let (batch, bytes) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.batch_bytes));
        if !batch.is_empty() {
            self.publishes.part();
            self.vhost.iter_mut().for_each(Recent::part);
        }
        if !batch.is_empty()
            && let Some(ready) = self.held.push(batch, bytes)
        {
            self.let_in(Ok(ready))?;
        }
        while let Some(ready) = self.held.at_once().await {
            self.let_in(ready)?;
        }
        while !self.held.accepts() {
            let ready = self.held.next().await;
            self.let_in(ready)?;
        }
        Ok(())
    }

    /// The same to the end.
    async fn send_all(&mut self) -> Result<(), Status> {
        self.send().await?;
        while !self.held.is_empty() {
            let ready = self.held.next().await;
            self.let_in(ready)?;
        }
        Ok(())
    }

    fn let_in(&mut self, ready: Result<Ready, NoBodies>) -> Result<(), Status> {
        let Ready { inputs, permit } = ready.map_err(|why| {
            self.held.clear();
            errors::no_bodies(why)
        })?;
        self.sent += publishes(&inputs).count() as u64;
        self.lane.channel.send(inputs, permit);
        Ok(())
    }
}

/// What the stream gives without waiting.
async fn at_once<S: Stream + Unpin>(stream: &mut S) -> Option<Option<S::Item>> {
    poll_fn(|cx| match Pin::new(&mut *stream).poll_next(cx) {
        Poll::Ready(next) => Poll::Ready(Some(next)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn numbered(mut refusal: Refusal, number: u64) -> Status {
    refusal.text = format!("message {number} of the stream: {}", refusal.text);
    errors::status(refusal.with("number", number.to_string()))
}

/// What the client is still to be told.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    /// Messages that went to the core, once there will be no more: each of them is answered.
    sent: Option<u64>,
    upto: u64,
    told_upto: u64,
    exceptions: VecDeque<PublishException>,
    returned: VecDeque<Returned>,
    returned_bytes: usize,
}

#[derive(Debug)]
struct Returned {
    message: ReturnedMessage,
    cost_bytes: u64,
}

impl Collect for Confirms {
    type Response = PublishStreamResponse;

    fn add(&mut self, output: Output) -> Option<Status> {
        match output {
            Output::Confirms { upto, others, .. } => {
                self.upto = upto;
                self.exceptions
                    .extend(others.into_iter().filter_map(|(number, outcome)| exception(number, outcome)));
            }
            Output::Return { tag, message, .. } => {
                let cost_bytes = message.cost_bytes();
                let message = ReturnedMessage { number: tag, message: Some(publish_message_to(&message)) };
                self.returned_bytes += cost_bytes as usize;
                self.returned.push_back(Returned { message, cost_bytes });
            }
            _ => {}
        }
        None
    }

    fn take(&mut self, channel: &Channel) -> Option<PublishStreamResponse> {
        if self.upto == self.told_upto && self.returned.is_empty() {
            return None;
        }
        let mut response = PublishStreamResponse { confirmed_upto: self.upto, ..Default::default() };
        let mut cost_bytes = 0;
        while let Some(next) = self.returned.pop_front() {
            cost_bytes += next.cost_bytes;
            response.returned.push(next.message);
            if cost_bytes >= RESPONSE_BYTES as u64 {
                break;
            }
        }
        if cost_bytes > 0 {
            self.returned_bytes -= cost_bytes as usize;
            channel.writable(cost_bytes);
        }
        // A confirm never overtakes a return that did not fit.
        if let Some(left) = self.returned.front() {
            response.confirmed_upto = response.confirmed_upto.min(left.message.number - 1);
        }
        let count_max = RESPONSE_BYTES / size_of::<PublishException>();
        while let Some(next) = self.exceptions.front() {
            if next.number > response.confirmed_upto {
                break;
            }
            if response.exceptions.len() == count_max {
                response.confirmed_upto = next.number - 1;
                break;
            }
            response.exceptions.extend(self.exceptions.pop_front());
        }
        self.told_upto = response.confirmed_upto;
        Some(response)
    }

    fn answered(&self) -> bool {
        self.sent == Some(self.told_upto)
    }

    fn waiting_bytes(&self) -> usize {
        self.returned_bytes + self.exceptions.len() * size_of::<PublishException>()
    }
}

fn exception(number: u64, outcome: Outcome) -> Option<PublishException> {
    let (outcome, error) = match outcome {
        Outcome::Routed { .. } => return None,
        Outcome::Unrouted => (PublishOutcome::Unrouted, None),
        Outcome::Rejected(kind) => (PublishOutcome::Rejected, Some(errors::publish_entry(kind))),
    };
    Some(PublishException { number, outcome: outcome.into(), error })
}
