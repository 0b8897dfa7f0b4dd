//! The publishers: two streams, one of them into a fan-out, and unary batches over several queues.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use leveret_proto::v1::{PublishMessage, PublishOutcome, PublishRequest, PublishStreamRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::world::{FAN, LEASED, Outcome, WORK, World};
use crate::client::{self, Client};
use crate::history::{BatchRef, Event, Keep, QueueRef};
use crate::payload::{self, MsgId};

/// Publishes of one stream that may be unconfirmed.
const WINDOW: usize = 64;

/// Where a publisher sends.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) exchange: &'static str,
    pub(super) key: &'static str,
    pub(super) queues: Arc<[QueueRef]>,
}

impl Target {
    pub(super) fn work(world: &World) -> Self {
        Self { exchange: "", key: WORK, queues: Arc::from([world.work]) }
    }

    pub(super) fn fan(world: &World) -> Self {
        Self { exchange: FAN, key: "", queues: Arc::from([world.fan_a, world.fan_b]) }
    }

    fn leased(world: &World) -> Self {
        Self { exchange: "", key: LEASED, queues: Arc::from([world.leased]) }
    }
}

/// Publishes on one stream until the server is gone.
pub(super) async fn stream(
    world: Arc<World>,
    port: u16,
    publisher: u32,
    target: Target,
    seed: u64,
) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let mut client = Client::connect(port).await;
    let (requests, receiver) = mpsc::channel(WINDOW);
    let mut responses = match client.rpc.publish_stream(ReceiverStream::new(receiver)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return world.failed("PublishStream", &status),
    };
    let mut unconfirmed: VecDeque<MsgId> = VecDeque::new();
    let mut confirmed = 0u64;
    loop {
        tokio::select! {
            response = responses.message() => {
                let response = match response {
                    Ok(Some(response)) => response,
                    Ok(None) => return world.ended("PublishStream"),
                    Err(status) => return world.failed("PublishStream", &status),
                };
                if !response.exceptions.is_empty() {
                    return Err(format!("publishes were not routed: {:?}", response.exceptions));
                }
                let newly = response.confirmed_upto.saturating_sub(confirmed);
                if newly > unconfirmed.len() as u64 {
                    return Err(format!("confirmed up to {}, {confirmed} before, {} were in flight",
                        response.confirmed_upto, unconfirmed.len()));
                }
                confirmed += newly;
                let ids = unconfirmed.drain(..newly as usize);
                world.recorder.record_all(ids.map(|id| Event::Confirmed { id }));
            }
            permit = requests.reserve(), if unconfirmed.len() < WINDOW => {
                let Ok(permit) = permit else { return world.ended("PublishStream") };
                let keep = if rng.u32(..20) == 0 { Keep::Transient } else { Keep::Persistent };
                let (id, message) = new_message(&world, &mut rng, publisher, &target, keep, world.recorder.new_batch());
                unconfirmed.push_back(id);
                permit.send(PublishStreamRequest { vhost: String::new(), messages: vec![message] });
                if id.seq % 8 == 0 {
                    // A pace that lets the consumers follow; the kill is to hit a live system, not a full one.
                    tokio::time::sleep(Duration::from_micros(rng.u64(..2000))).await;
                }
            }
        }
    }
}

/// Publishes atomic batches over several queues, one at a time, until the server is gone.
pub(super) async fn batches(world: Arc<World>, port: u16, publisher: u32, seed: u64) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let mut client = Client::connect(port).await;
    let targets = [Target::leased(&world), Target::work(&world), Target::fan(&world)];
    loop {
        let batch = world.recorder.new_batch();
        let mut ids = Vec::new();
        let mut messages = Vec::new();
        for _ in 0..rng.usize(1..=6) {
            // The queue that is got from is slowest, and gets every second message all the same.
            let target = &targets[rng.usize(..4) % 3];
            let (id, message) = new_message(&world, &mut rng, publisher, target, Keep::Persistent, batch);
            ids.push(id);
            messages.push(message);
        }
        let results = match client.rpc.publish(PublishRequest { vhost: String::new(), messages }).await {
            Ok(response) => response.into_inner().results,
            Err(status) => return world.failed("Publish", &status),
        };
        if results.len() != ids.len() || results.iter().any(|r| r.outcome() != PublishOutcome::Routed) {
            return Err(format!("a batch of {} was answered by {results:?}", ids.len()));
        }
        world.recorder.record_all(ids.into_iter().map(|id| Event::Confirmed { id }));
        tokio::time::sleep(Duration::from_micros(rng.u64(..1000))).await;
    }
}

/// A message, recorded as sent.
pub(super) fn new_message(
    world: &World,
    rng: &mut Rng,
    publisher: u32,
    target: &Target,
    keep: Keep,
    batch: BatchRef,
) -> (MsgId, PublishMessage) {
    let id = world.next(publisher);
    let length = match rng.u32(..100) {
        0..80 => rng.usize(payload::HEADER_BYTES..1000),
        80..97 => rng.usize(1000..8 << 10),
        _ => rng.usize(8 << 10..64 << 10),
    };
    let body = payload::encode(id, length);
    let queues = Arc::clone(&target.queues);
    world.recorder.record(Event::Sent {
        id,
        length: u32::try_from(length).unwrap_or(u32::MAX),
        keep,
        batch,
        queues,
    });
    let mut message = client::to_exchange(target.exchange, target.key, body);
    if let Some(inner) = &mut message.message {
        inner.persistent = (keep == Keep::Transient).then_some(false);
    }
    (id, message)
}
