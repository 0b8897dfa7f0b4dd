//! The client that works in transactions: publishes, moves what it gets from one queue to the next, acks there; and
//! commits all of it or rolls it back.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::{CHANNEL, end};
use crate::amqp::codec::Writer;
use crate::amqp::{Connection, Settle, calls, method};
use crate::crash::line::Why;
use crate::crash::message::{Target, new_message};
use crate::crash::world::{MOVE_FROM, MOVE_TO, Outcome, World};
use crate::history::{ConsumerRef, Event, Keep, QueueRef, Share};
use crate::payload::MsgId;

/// Frames of the messages that it moves.
const FRAME_BYTES: usize = 16 << 10;

/// Works in transactions until the server is gone.
pub(in crate::crash) async fn work(world: Arc<World>, port: u16, publisher: u32, seed: u64) -> Outcome {
    let consumers = [world.move_from, world.move_to].map(|queue| {
        let consumer = world.recorder.new_consumer();
        world.recorder.record(Event::ConsumerStarted { consumer, queue, share: Share::Sole });
        consumer
    });
    let ended = async {
        let mut connection = Connection::open(port).await?;
        connection.channel(CHANNEL).await?;
        connection.tx_select(CHANNEL).await?;
        let mut mover = Mover { world: &world, consumers, publisher, connection, rng: Rng::with_seed(seed) };
        loop {
            mover.round().await?;
            tokio::time::sleep(Duration::from_micros(mover.rng.u64(..1000))).await;
        }
    };
    match ended.await {
        Ok(()) => Ok(()),
        Err(why) => end(&world, "an AMQP transaction", why),
    }
}

struct Mover<'a> {
    world: &'a World,
    /// Of the queue that it moves from, and of the one that it moves to.
    consumers: [ConsumerRef; 2],
    publisher: u32,
    connection: Connection,
    rng: Rng,
}

impl Mover<'_> {
    /// One transaction.
    async fn round(&mut self) -> Result<(), Why> {
        let (from, to) = (self.world.move_from, self.world.move_to);
        let moved = self.get(MOVE_FROM, from, self.consumers[0]).await?;
        let acked = self.get(MOVE_TO, to, self.consumers[1]).await?;
        let mut bytes = Vec::new();
        for (tag, _, body) in &moved {
            let persistent = calls::delivery_mode(true);
            bytes.extend(calls::publish(CHANNEL, ("", MOVE_TO), 1, &persistent, body, FRAME_BYTES));
            bytes.extend(Settle::Ack.bytes(CHANNEL, *tag, false));
        }
        for (tag, _, _) in &acked {
            bytes.extend(Settle::Ack.bytes(CHANNEL, *tag, false));
        }
        if self.rng.u32(..8) == 0 {
            return self.roll_back(&bytes, &moved, &acked).await;
        }
        let batch = self.world.recorder.new_batch();
        let target = Target { exchange: "", key: MOVE_FROM, queues: Arc::from([from]) };
        let mut sent = Vec::new();
        for _ in 0..self.rng.usize(1..5) {
            let (id, message) =
                new_message(self.world, &mut self.rng, self.publisher, &target, Keep::Persistent, batch);
            sent.push(id);
            bytes.extend(message.amqp_bytes(CHANNEL, true));
        }
        let recorder = &self.world.recorder;
        recorder.record_all(moved.iter().map(|(_, id, _)| Event::MoveSent {
            id: *id,
            from,
            to: Arc::from([to]),
            batch,
        }));
        recorder.record_all(acked.iter().map(|(_, id, _)| Event::MoveSent {
            id: *id,
            from: to,
            to: Arc::from([]),
            batch,
        }));
        self.connection.send(&bytes).await?;
        self.connection.tx_commit(CHANNEL).await?;
        recorder.record(Event::Moved { batch });
        recorder.record_all(sent.into_iter().map(|id| Event::Confirmed { id }));
        Ok(())
    }

    async fn get(
        &mut self,
        name: &str,
        queue: QueueRef,
        consumer: ConsumerRef,
    ) -> Result<Vec<(u64, MsgId, bytes::Bytes)>, Why> {
        let mut got = Vec::new();
        for _ in 0..self.rng.u32(..5) {
            let Some(content) = self.connection.get(CHANNEL, name).await? else { break };
            let (tag, redelivered) = content.delivery();
            if let Some(id) = self.world.recorder.delivered(consumer, queue, &content.body, redelivered) {
                got.push((tag, id, content.body));
            }
        }
        Ok(got)
    }

    /// None of it is done; the end of the channel gives back what is out.
    async fn roll_back(
        &mut self,
        bytes: &[u8],
        moved: &[(u64, MsgId, bytes::Bytes)],
        acked: &[(u64, MsgId, bytes::Bytes)],
    ) -> Result<(), Why> {
        self.connection.send(bytes).await?;
        self.connection.call(CHANNEL, method::TX_ROLLBACK, &Writer::new(), method::TX_ROLLBACK_OK).await?;
        let (from, to) = (self.world.move_from, self.world.move_to);
        let [first, second] = self.consumers;
        let back = |&(_, id, _): &(u64, MsgId, bytes::Bytes), consumer, queue| (consumer, queue, id);
        let all: Vec<_> = moved
            .iter()
            .map(|got| back(got, first, from))
            .chain(acked.iter().map(|got| back(got, second, to)))
            .collect();
        let recorder = &self.world.recorder;
        recorder.record_all(all.iter().map(|&(consumer, queue, id)| Event::ReturnSent {
            consumer,
            queue,
            id,
        }));
        let close = Writer::new().short(200).shortstr("").short(0).short(0);
        self.connection.call(CHANNEL, method::CHANNEL_CLOSE, &close, method::CHANNEL_CLOSE_OK).await?;
        recorder.record_all(all.iter().map(|&(consumer, queue, id)| Event::Returned {
            consumer,
            queue,
            id,
            under_way: 0,
        }));
        self.connection.channel(CHANNEL).await?;
        Ok(self.connection.tx_select(CHANNEL).await?)
    }
}
