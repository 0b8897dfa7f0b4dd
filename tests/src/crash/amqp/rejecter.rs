//! The client that rejects what it gets, whereupon it must turn up in the queue of dead letters, and acks it there.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::{CHANNEL, end};
use crate::amqp::{Connection, Settle, method};
use crate::crash::line::Why;
use crate::crash::message::{Target, new_message};
use crate::crash::world::{DEAD, LETTERS, Outcome, World};
use crate::history::{ConsumerRef, Event, Keep, QueueRef, Share};
use crate::payload::MsgId;

/// Publishes, rejects and acks until the server is gone.
pub(in crate::crash) async fn work(world: Arc<World>, port: u16, publisher: u32, seed: u64) -> Outcome {
    let consumers = [world.letters, world.dead].map(|queue| {
        let consumer = world.recorder.new_consumer();
        world.recorder.record(Event::ConsumerStarted { consumer, queue, share: Share::Sole });
        consumer
    });
    let ended = async {
        let mut connection = Connection::open(port).await?;
        connection.channel(CHANNEL).await?;
        connection.confirm_select(CHANNEL).await?;
        let rng = Rng::with_seed(seed);
        let mut rejecter = Rejecter { world: &world, consumers, publisher, published: 0, connection, rng };
        loop {
            rejecter.round().await?;
            tokio::time::sleep(Duration::from_micros(rejecter.rng.u64(..1000))).await;
        }
    };
    match ended.await {
        Ok(()) => Ok(()),
        Err(why) => end(&world, "an AMQP client with dead letters", why),
    }
}

struct Rejecter<'a> {
    world: &'a World,
    consumers: [ConsumerRef; 2],
    publisher: u32,
    published: u64,
    connection: Connection,
    rng: Rng,
}

impl Rejecter<'_> {
    async fn round(&mut self) -> Result<(), Why> {
        let (letters, dead) = (self.world.letters, self.world.dead);
        self.publish(letters).await?;
        let got = self.get(LETTERS, letters, self.consumers[0]).await?;
        let recorder = &self.world.recorder;
        let mut bytes = Vec::new();
        for (tag, id) in got {
            let (settle, event) = match self.rng.u32(..4) {
                0 => (Settle::Ack, Event::AckSent { queue: letters, id }),
                _ => {
                    let (to, batch) = (Arc::from([dead]), recorder.new_batch());
                    (Settle::Reject, Event::MoveSent { id, from: letters, to, batch })
                }
            };
            recorder.record(event);
            bytes.extend(settle.bytes(CHANNEL, tag, false));
        }
        self.connection.send(&bytes).await?;
        // Fewer than come, so that the kill finds some there.
        if self.rng.u32(..3) > 0 {
            let got = self.get(DEAD, dead, self.consumers[1]).await?;
            let mut bytes = Vec::new();
            for (tag, id) in got {
                self.world.recorder.record(Event::AckSent { queue: dead, id });
                bytes.extend(Settle::Ack.bytes(CHANNEL, tag, false));
            }
            self.connection.send(&bytes).await?;
        }
        Ok(())
    }

    async fn publish(&mut self, letters: QueueRef) -> Result<(), Why> {
        let target = Target { exchange: "", key: LETTERS, queues: Arc::from([letters]) };
        let (mut ids, mut bytes) = (Vec::new(), Vec::new());
        for _ in 0..self.rng.usize(1..6) {
            let batch = self.world.recorder.new_batch();
            let (id, message) =
                new_message(self.world, &mut self.rng, self.publisher, &target, Keep::Persistent, batch);
            ids.push(id);
            bytes.extend(message.amqp_bytes(CHANNEL, true));
        }
        self.connection.send(&bytes).await?;
        self.published += ids.len() as u64;
        let mut confirmed = 0;
        while confirmed < self.published {
            confirmed = self.connection.expect(CHANNEL, method::BASIC_ACK).await?.longlong();
        }
        self.world.recorder.record_all(ids.into_iter().map(|id| Event::Confirmed { id }));
        Ok(())
    }

    async fn get(
        &mut self,
        name: &str,
        queue: QueueRef,
        consumer: ConsumerRef,
    ) -> Result<Vec<(u64, MsgId)>, Why> {
        let mut got = Vec::new();
        for _ in 0..self.rng.u32(..6) {
            let Some(content) = self.connection.get(CHANNEL, name).await? else { break };
            let (tag, redelivered) = content.delivery();
            let id = self.world.recorder.delivered(consumer, queue, &content.body, redelivered);
            got.extend(id.map(|id| (tag, id)));
        }
        Ok(got)
    }
}
