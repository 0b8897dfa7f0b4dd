//! The consumers over AMQP: one that acks, one that also requeues and rejects, one that never settles.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use fastrand::Rng;

use super::{CHANNEL, end};
use crate::amqp::codec::{self, Writer};
use crate::amqp::{Connection, Content, Settle, method};
use crate::crash::consumers::{Habit, Job};
use crate::crash::line::Why;
use crate::crash::settler::PREFETCH;
use crate::crash::world::{Outcome, World};
use crate::history::{ConsumerRef, Event, Share};
use crate::payload::MsgId;

/// Consumes until the server is gone; now and then drops its connection and opens another.
pub(in crate::crash) async fn consume(world: Arc<World>, port: u16, mut job: Job, seed: u64) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    loop {
        let leave_after = if rng.u32(..4) == 0 { rng.u32(1..2000) } else { u32::MAX };
        if let Err(why) = one_connection(&world, port, job, leave_after, &mut rng).await {
            return end(&world, "an AMQP consumer", why);
        }
        // The server may see the new connection before it sees the end of the old one, whose messages then come
        // back among later ones: order within this queue is no longer this consumer's to judge.
        job.share = Share::Shared;
    }
}

/// Ok when it left by its own will.
async fn one_connection(
    world: &World,
    port: u16,
    job: Job,
    leave_after: u32,
    rng: &mut Rng,
) -> Result<(), Why> {
    let mut connection = Connection::open(port).await?;
    connection.channel(CHANNEL).await?;
    connection.qos(CHANNEL, u16::try_from(PREFETCH).unwrap_or(u16::MAX), false).await?;
    let consumer = world.recorder.new_consumer();
    world.recorder.record(Event::ConsumerStarted { consumer, queue: job.queue, share: job.share });
    connection.consume(CHANNEL, job.name).await?;
    let mut hand = Hand { world, job, consumer, out: BTreeMap::new(), returning: VecDeque::new() };
    let mut taken = 0;
    loop {
        let frame = connection.next().await?;
        match frame.method() {
            Some(method::BASIC_DELIVER) => {
                let content = connection.content_of(frame).await?;
                taken += 1;
                let bytes = hand.took(&content, rng);
                connection.send(&bytes).await?;
            }
            Some(method::BASIC_QOS_OK) => hand.returned()?,
            _ => return Err(Why::Wrong(format!("a delivery was to come, not {frame:?}"))),
        }
        if taken >= leave_after && !world.killing() {
            world.recorder.record(Event::ConsumerGone { consumer });
            return Ok(());
        }
    }
}

/// What a consumer holds.
struct Hand<'a> {
    world: &'a World,
    job: Job,
    consumer: ConsumerRef,
    out: BTreeMap<u64, MsgId>,
    /// Requeued, and the method behind them is not answered yet.
    returning: VecDeque<Vec<MsgId>>,
}

impl Hand<'_> {
    /// A delivery came; the bytes of what is done.
    fn took(&mut self, content: &Content, rng: &mut Rng) -> Vec<u8> {
        let (tag, redelivered) = content.delivery();
        let recorder = &self.world.recorder;
        let Some(id) = recorder.delivered(self.consumer, self.job.queue, &content.body, redelivered) else {
            return Vec::new();
        };
        self.out.insert(tag, id);
        let (settle, multiple) = match (self.job.habit, rng.u32(..100)) {
            // Some of the second habit are left for a later ack of many.
            (Habit::Hoards, _) | (Habit::Acks, 70..95) => return Vec::new(),
            (Habit::Acks, 0..70) => (Settle::Ack, false),
            (Habit::Acks, _) => (Settle::Ack, true),
            (Habit::Returns, 0..15) => (Settle::Requeue, false),
            (Habit::Returns, 15..18) => (Settle::Reject, false),
            (Habit::Returns, 18..20) => (Settle::Requeue, true),
            (Habit::Returns, _) => (Settle::Ack, false),
        };
        self.settle(settle, tag, multiple)
    }

    fn settle(&mut self, settle: Settle, tag: u64, multiple: bool) -> Vec<u8> {
        let ids: Vec<MsgId> = match multiple {
            false => self.out.remove(&tag).into_iter().collect(),
            true => {
                let later = self.out.split_off(&(tag + 1));
                std::mem::replace(&mut self.out, later).into_values().collect()
            }
        };
        let (consumer, queue) = (self.consumer, self.job.queue);
        self.world.recorder.record_all(ids.iter().map(|id| match settle {
            Settle::Requeue => Event::ReturnSent { consumer, queue, id: *id },
            // A reject drops the message: gone like an acked one.
            Settle::Ack | Settle::Reject => Event::AckSent { queue, id: *id },
        }));
        let mut bytes = settle.bytes(CHANNEL, tag, multiple);
        if settle == Settle::Requeue {
            // Its answer comes when the requeue is done; no limit on the channel is what there was before.
            let no_limit = Writer::new().long(0).short(0).octet(1);
            bytes.extend(codec::method(CHANNEL, method::BASIC_QOS, &no_limit));
            self.returning.push_back(ids);
        }
        bytes
    }

    fn returned(&mut self) -> Result<(), Why> {
        let ids = self.returning.pop_front().ok_or_else(|| Why::Wrong("a qos-ok too many".into()))?;
        let (consumer, queue) = (self.consumer, self.job.queue);
        // Deliveries and answers of a channel come in one order: nothing is under way any more.
        let returned = |id| Event::Returned { consumer, queue, id, under_way: 0 };
        self.world.recorder.record_all(ids.into_iter().map(returned));
        Ok(())
    }
}
