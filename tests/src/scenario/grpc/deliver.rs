//! Steps that carry messages: publish, get, consume, settle.

use std::time::Duration;

use leveret_proto::v1::{
    AckRequest, ConsumeOpen, Delivery, GetRequest, NackRequest, PublishMessage, PublishOutcome,
    PublishRequest, RejectRequest, SettleKind,
};
use tokio::time::timeout;
use tonic::Code;

use super::convert::{message, properties, table};
use super::{Out, Run, answered, refused};
use crate::client::body;
use crate::scenario::came::Came;
use crate::scenario::step::{At, Cancel, Consume, Content, ExpectDeliver, Get, Publish};
use crate::streams::{ConsumeLane, PublishLane};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settle {
    Ack,
    Requeue,
    Reject,
}

impl Settle {
    pub(super) fn of(requeue: bool) -> Self {
        if requeue { Self::Requeue } else { Self::Reject }
    }
}

impl Run {
    pub(super) async fn publish(&mut self, step: &Publish) -> Result<(), String> {
        let mut bodies: Vec<Vec<u8>> = step.bodies.iter().map(|body| body.clone().into_bytes()).collect();
        if let Some(count) = step.body_bytes {
            bodies.push(vec![b'x'; count]);
        }
        if bodies.is_empty() {
            bodies.push(step.body.clone().into_bytes());
        }
        for body in bodies {
            let message = PublishMessage {
                exchange: step.exchange.clone(),
                routing_key: self.names.named(&step.key)?,
                message: Some(message(step, body)),
                mandatory: step.mandatory,
            };
            if step.mandatory {
                self.publish_mandatory(&step.at, message).await?;
                continue;
            }
            let open = self.open(&step.at).await?;
            let request = open.request(PublishRequest { vhost: String::new(), messages: vec![message] })?;
            let result = open.client.rpc.publish(request).await;
            // A refusal of the whole call, or of the message.
            let results = match result {
                Ok(answer) => answer.into_inner().results,
                Err(status) => return answered::<()>(Err(status), step.error.as_ref()).map(drop),
            };
            let result = results.first().ok_or("no result")?;
            match (&result.error, &step.error) {
                (Some(error), Some(fault)) => {
                    return refused(Code::from(error.code), &error.reason, &error.message, fault);
                }
                (None, Some(fault)) => return Err(format!("it was to be refused with {}", fault.code)),
                (error, None) => {
                    let rejected = result.outcome() == PublishOutcome::Rejected;
                    let full = error.as_ref().is_some_and(|error| error.reason == "QUEUE_FULL");
                    let right = match step.confirm.as_deref() {
                        Some("ack") => !rejected,
                        Some(_) => rejected && full,
                        None => !rejected || full,
                    };
                    if !right {
                        return Err(format!("the outcome is {result:?}"));
                    }
                }
            }
        }
        Ok(())
    }

    async fn publish_mandatory(&mut self, at: &At, message: PublishMessage) -> Result<(), String> {
        let client = self.open(at).await?.client.clone();
        let channel = self.channel(at).await?;
        let mut open = match channel.publishes.take() {
            Some(open) => open,
            None => (PublishLane::open(&client).await, 0),
        };
        open.0.send(vec![message]);
        open.1 += 1;
        for response in open.0.confirmed(open.1).await {
            for returned in response.returned {
                let message = returned.message.unwrap_or_default();
                let inner = message.message.unwrap_or_default();
                channel.returned.push_back(Came {
                    tag: None,
                    redelivered: None,
                    consumer: None,
                    exchange: message.exchange,
                    key: message.routing_key,
                    left: None,
                    returned: None,
                    properties: properties(&inner),
                    body: super::convert::body(&inner),
                });
            }
        }
        channel.publishes = Some(open);
        Ok(())
    }

    pub(super) async fn get(&mut self, step: &Get) -> Result<(), String> {
        let message = GetRequest {
            queue: self.names.named(&step.queue)?,
            count: 1,
            auto_ack: step.no_ack,
            ..Default::default()
        };
        let open = self.open(&step.at).await?;
        let request = open.request(message)?;
        let Some(mut answer) = answered(open.client.rpc.get(request).await, step.error.as_ref())? else {
            return Ok(());
        };
        let channel = self.channel(&step.at).await?;
        match (answer.deliveries.pop(), &step.expect) {
            (None, None) => Ok(()),
            (None, Some(expected)) => Err(format!("the queue is empty, where {expected:?} was to be")),
            (Some(delivery), expected) => {
                channel.delivered += 1;
                let tag = channel.delivered;
                if !step.no_ack {
                    channel.out.insert(tag, Out::Id(delivery.ack_id.clone()));
                }
                let came = came(delivery, tag, Some(answer.messages_ready));
                match expected {
                    Some(expected) => came.is(expected, &mut self.names),
                    None => Err(format!("the queue was to be empty, and had {:?}", came.body)),
                }
            }
        }
    }

    pub(super) async fn consume(&mut self, step: &Consume) -> Result<(), String> {
        let queue = self.names.named(&step.queue)?;
        let client = self.open(&step.at).await?.client.clone();
        let channel = self.channel(&step.at).await?;
        let priority = step.arguments.0.iter().find(|(name, _)| name == "x-priority");
        let open = ConsumeOpen {
            vhost: String::new(),
            queue,
            consumer_tag: step.tag.clone(),
            prefetch_messages: channel.prefetch,
            prefetch_bytes: 0,
            auto_ack: step.no_ack,
            priority: priority.and_then(|(_, value)| value.number()).unwrap_or(0) as i32,
            exclusive: step.exclusive,
            arguments: Some(table(&step.arguments)),
        };
        match (ConsumeLane::try_open(&client, open).await, &step.error) {
            (Ok(lane), None) => {
                channel.consumers.insert(lane.tag.clone(), lane);
                Ok(())
            }
            (Ok(_), Some(fault)) => Err(format!("it was to be refused with {}", fault.code)),
            (Err(status), fault) => answered::<()>(Err(status), fault.as_ref()).map(drop),
        }
    }

    /// Ends a consumer; what is out with it can still be settled.
    pub(super) async fn cancel(&mut self, step: &Cancel) -> Result<(), String> {
        let channel = self.channel(&step.at).await?;
        let mut owes = false;
        for out in channel.out.values_mut() {
            if let Out::Stream { consumer, id, .. } = out
                && *consumer == step.tag
            {
                (owes, *out) = (true, Out::Id(id.clone()));
            }
        }
        let lane = channel.consumers.get_mut(&step.tag).ok_or_else(|| format!("no consumer {}", step.tag))?;
        lane.half_close();
        if owes {
            return Ok(());
        }
        let ended = timeout(PATIENCE, lane.next_or_end()).await.map_err(|_| "the stream does not end")?;
        channel.consumers.remove(&step.tag);
        match ended {
            Ok(None) => Ok(()),
            other => Err(format!("the stream was to end, there came {other:?}")),
        }
    }

    pub(super) async fn expect_deliver(&mut self, step: &ExpectDeliver) -> Result<(), String> {
        let bodies =
            step.bodies.iter().map(|body| Content { body: Some(body.clone()), ..step.content.clone() });
        let mut expected: Vec<Content> = bodies.collect();
        if expected.is_empty() {
            expected.push(step.content.clone());
        }
        for expected in expected {
            let channel = self.channel(&step.at).await?;
            let (tag, lane) = match &expected.consumer {
                Some(tag) => channel.consumers.get_key_value(tag).map(|(tag, _)| tag.clone()),
                None if channel.consumers.len() == 1 => channel.consumers.keys().next().cloned(),
                None => return Err("name the consumer, where there are several".into()),
            }
            .and_then(|tag| Some((tag.clone(), channel.consumers.get_mut(&tag)?)))
            .ok_or("there is no such consumer")?;
            let delivery = timeout(PATIENCE, lane.next_or_end()).await.map_err(|_| "nothing came in time")?;
            let delivery = delivery.map_err(|status| status.to_string())?.ok_or("the stream ended")?;
            channel.delivered += 1;
            let number = channel.delivered;
            let out = Out::Stream { consumer: tag, tag: delivery.delivery_tag, id: delivery.ack_id.clone() };
            channel.out.insert(number, out);
            came(delivery, number, None).is(&expected, &mut self.names)?;
        }
        Ok(())
    }

    pub(super) async fn settle(
        &mut self,
        at: &At,
        tag: u64,
        multiple: bool,
        how: Settle,
    ) -> Result<(), String> {
        let channel = self.channel(at).await?;
        let covers = |other: &u64| *other == tag || multiple && (tag == 0 || *other < tag);
        let tags: Vec<u64> = channel.out.keys().copied().filter(covers).collect();
        let settled: Vec<Out> = tags.iter().filter_map(|tag| channel.out.remove(tag)).collect();
        if settled.is_empty() && !multiple {
            return Err(format!("delivery {tag} is not out"));
        }
        let mut ack_ids = Vec::new();
        for out in settled {
            match out {
                Out::Id(id) => ack_ids.push(id),
                Out::Stream { consumer, tag, .. } => {
                    let lane = channel.consumers.get_mut(&consumer).ok_or("its consumer is gone")?;
                    let kind = match how {
                        Settle::Ack => SettleKind::Ack,
                        Settle::Requeue => SettleKind::Requeue,
                        Settle::Reject => SettleKind::Reject,
                    };
                    lane.settle(tag, false, kind);
                    lane.all_settled().await;
                }
            }
        }
        if ack_ids.is_empty() {
            return Ok(());
        }
        let open = self.open(at).await?;
        let rpc = &mut open.client.rpc;
        let results = match how {
            Settle::Ack => rpc.ack(AckRequest { ack_ids }).await.map(|answer| answer.into_inner().results),
            Settle::Requeue => {
                let request = NackRequest { ack_ids, requeue: Some(true) };
                rpc.nack(request).await.map(|answer| answer.into_inner().results)
            }
            Settle::Reject => {
                let request = RejectRequest { ack_ids, requeue: Some(false) };
                rpc.reject(request).await.map(|answer| answer.into_inner().results)
            }
        };
        let results = results.map_err(|status| status.to_string())?;
        match results.into_iter().find_map(|result| result.error) {
            None => Ok(()),
            Some(error) => Err(format!("not settled: {error:?}")),
        }
    }

    /// Nothing comes on any consumer of the connection.
    pub(super) async fn quiet(&mut self, at: &At, time: Duration) -> Result<(), String> {
        let open = self.open(at).await?;
        let mut first = true;
        for channel in open.channels.values_mut() {
            for (tag, lane) in &mut channel.consumers {
                let time = if first { time } else { Duration::from_millis(1) };
                first = false;
                if let Ok(Ok(Some(delivery))) = timeout(time, lane.next_or_end()).await {
                    return Err(format!(
                        "nothing was to come to {tag}, but there came {:?}",
                        body(&delivery)
                    ));
                }
            }
            if let Some(returned) = channel.returned.pop_front() {
                return Err(format!("{:?} was returned, and no step expects it", returned.body));
            }
        }
        if first {
            tokio::time::sleep(time).await;
        }
        Ok(())
    }
}

fn came(delivery: Delivery, tag: u64, left: Option<u64>) -> Came {
    let message = delivery.message.unwrap_or_default();
    Came {
        tag: Some(tag),
        redelivered: Some(delivery.redelivered),
        consumer: Some(delivery.consumer_tag),
        exchange: delivery.exchange,
        key: delivery.routing_key,
        left,
        returned: None,
        properties: properties(&message),
        body: super::convert::body(&message),
    }
}
