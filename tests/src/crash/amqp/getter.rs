//! The client that gets and settles on a channel, and purges now and then.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::{CHANNEL, end};
use crate::amqp::codec::Writer;
use crate::amqp::{Connection, Settle, method};
use crate::crash::line::Why;
use crate::crash::world::{LEASED, Outcome, World};
use crate::history::{ConsumerRef, Event, QueueRef, Share};
use crate::payload::MsgId;

/// Gets and settles until the server is gone.
pub(in crate::crash) async fn get_and_settle(world: Arc<World>, port: u16, seed: u64) -> Outcome {
    let consumer = world.recorder.new_consumer();
    let queue = world.leased;
    world.recorder.record(Event::ConsumerStarted { consumer, queue, share: Share::Sole });
    let ended = async {
        let mut connection = Connection::open(port).await?;
        connection.channel(CHANNEL).await?;
        let mut getter = Getter { world: &world, consumer, queue, connection, rng: Rng::with_seed(seed) };
        loop {
            getter.round().await?;
        }
    };
    match ended.await {
        Ok(()) => Ok(()),
        Err(why) => end(&world, "Get, Ack, Nack or Purge over AMQP", why),
    }
}

struct Getter<'a> {
    world: &'a World,
    consumer: ConsumerRef,
    queue: QueueRef,
    connection: Connection,
    rng: Rng,
}

impl Getter<'_> {
    async fn round(&mut self) -> Result<(), Why> {
        if self.rng.u32(..80) == 0 {
            self.world.recorder.record(Event::PurgeSent { queue: self.queue });
            self.connection.purge(CHANNEL, LEASED).await?;
            self.world.recorder.record(Event::Purged { queue: self.queue });
            return Ok(());
        }
        let mut got = Vec::new();
        for _ in 0..self.rng.u32(1..20) {
            let Some(content) = self.connection.get(CHANNEL, LEASED).await? else { break };
            let (tag, redelivered) = content.delivery();
            let recorder = &self.world.recorder;
            let Some(id) = recorder.delivered(self.consumer, self.queue, &content.body, redelivered) else {
                return Ok(());
            };
            got.push((tag, id));
        }
        let Some((last, _)) = got.last().copied() else {
            tokio::time::sleep(Duration::from_millis(2)).await;
            return Ok(());
        };
        let ids: Vec<MsgId> = got.iter().map(|(_, id)| *id).collect();
        match self.rng.u32(..10) {
            0 => self.give_back_all(&ids).await,
            1 => self.give_back(last, &ids).await,
            // All at once, or one by one.
            2..6 => {
                self.ack_sent(&ids);
                Ok(self.connection.settle(CHANNEL, Settle::Ack, last, true).await?)
            }
            _ => {
                self.ack_sent(&ids);
                let bytes: Vec<u8> =
                    got.iter().flat_map(|(tag, _)| Settle::Ack.bytes(CHANNEL, *tag, false)).collect();
                Ok(self.connection.send(&bytes).await?)
            }
        }
    }

    /// By a nack of many.
    async fn give_back(&mut self, last: u64, ids: &[MsgId]) -> Result<(), Why> {
        self.return_sent(ids);
        self.connection.settle(CHANNEL, Settle::Requeue, last, true).await?;
        // Answered when the requeue is done.
        self.connection.qos(CHANNEL, 0, true).await?;
        self.returned(ids);
        Ok(())
    }

    /// By the end of the channel.
    async fn give_back_all(&mut self, ids: &[MsgId]) -> Result<(), Why> {
        self.return_sent(ids);
        let close = Writer::new().short(200).shortstr("").short(0).short(0);
        self.connection.call(CHANNEL, method::CHANNEL_CLOSE, &close, method::CHANNEL_CLOSE_OK).await?;
        self.returned(ids);
        Ok(self.connection.channel(CHANNEL).await?)
    }

    fn ack_sent(&self, ids: &[MsgId]) {
        let sent = |id: &MsgId| Event::AckSent { queue: self.queue, id: *id };
        self.world.recorder.record_all(ids.iter().map(sent));
    }

    fn return_sent(&self, ids: &[MsgId]) {
        let sent = |id: &MsgId| Event::ReturnSent { consumer: self.consumer, queue: self.queue, id: *id };
        self.world.recorder.record_all(ids.iter().map(sent));
    }

    fn returned(&self, ids: &[MsgId]) {
        let (consumer, queue) = (self.consumer, self.queue);
        let returned = |id: &MsgId| Event::Returned { consumer, queue, id: *id, under_way: 0 };
        self.world.recorder.record_all(ids.iter().map(returned));
    }
}
