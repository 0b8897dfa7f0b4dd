//! The consumers on Consume streams: one that acks, one that also requeues and rejects, one that never settles.

use std::sync::Arc;

use fastrand::Rng;
use leveret_proto::v1::{ConsumeOpen, ConsumeRequest, SettleKind, consume_request};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::settler::{PREFETCH, Settler};
use super::world::{Outcome, World};
use crate::client::{self, Client};
use crate::history::{Event, QueueRef, Share};

/// What a consumer does with what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    /// Acks, one by one and many at once.
    Acks,
    /// Acks, requeues some, rejects a few.
    Returns,
    /// Keeps everything.
    Hoards,
}

/// A consumer's job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) queue: QueueRef,
    pub(super) name: &'static str,
    pub(super) habit: Habit,
    pub(super) share: Share,
}

/// Consumes until the server is gone; now and then drops its stream and opens another.
pub(super) async fn consume(world: Arc<World>, port: u16, job: Job, seed: u64) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let mut job = job;
    loop {
        let leave_after = if rng.u32(..4) == 0 { rng.u32(1..2000) } else { u32::MAX };
        if one_stream(&world, port, job, leave_after, &mut rng).await? == Left::Gone {
            return Ok(());
        }
        // The server may see the new stream before it sees the end of the old one, whose messages then come back
        // among later ones: order within this queue is no longer this consumer's to judge.
        job.share = Share::Shared;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Left {
    /// The server is gone.
    Gone,
    /// By the consumer's own will.
    Willingly,
}

async fn one_stream(
    world: &World,
    port: u16,
    job: Job,
    leave_after: u32,
    rng: &mut Rng,
) -> Result<Left, String> {
    let Ok(mut client) = Client::try_connect(port).await else {
        return world.ended("a connection").map(|()| Left::Gone);
    };
    let (requests, receiver) = mpsc::unbounded_channel();
    let open = ConsumeOpen { queue: job.name.into(), prefetch_messages: PREFETCH, ..Default::default() };
    let _ = requests.send(ConsumeRequest { action: Some(consume_request::Action::Open(open)) });
    let consumer = world.recorder.new_consumer();
    world.recorder.record(Event::ConsumerStarted { consumer, queue: job.queue, share: job.share });
    let mut responses = match client.rpc.consume(UnboundedReceiverStream::new(receiver)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return world.failed("Consume", &status).map(|()| Left::Gone),
    };
    let mut settler = Settler::new(world.recorder.clone(), consumer, job.queue, requests);
    let mut taken = 0;
    loop {
        let response = match responses.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return world.ended("Consume").map(|()| Left::Gone),
            Err(status) => return world.failed("Consume", &status).map(|()| Left::Gone),
        };
        for delivery in &response.deliveries {
            taken += 1;
            let body = client::body(delivery);
            if let Some(id) = world.recorder.delivered(consumer, job.queue, &body, delivery.redelivered) {
                settler.took(delivery.delivery_tag, id);
                act(&mut settler, job.habit, delivery.delivery_tag, rng);
            }
        }
        // After the deliveries: within one response they may have left before the settles were done.
        if let Some(notice) = &response.settled {
            settler.settled(notice)?;
        }
        if taken >= leave_after && !world.killing() {
            world.recorder.record(Event::ConsumerGone { consumer });
            return Ok(Left::Willingly);
        }
    }
}

fn act(settler: &mut Settler, habit: Habit, tag: u64, rng: &mut Rng) {
    match (habit, rng.u32(..100)) {
        (Habit::Hoards, _) => {}
        (Habit::Acks, 0..70) => settler.settle(tag, SettleKind::Ack),
        // Left for a later settle of many.
        (Habit::Acks, 70..95) => {}
        (Habit::Acks, _) => settler.settle_upto(tag, SettleKind::Ack),
        (Habit::Returns, 0..15) => settler.settle(tag, SettleKind::Requeue),
        (Habit::Returns, 15..18) => settler.settle(tag, SettleKind::Reject),
        (Habit::Returns, 18..20) => settler.settle_upto(tag, SettleKind::Requeue),
        (Habit::Returns, _) => settler.settle(tag, SettleKind::Ack),
    }
}
