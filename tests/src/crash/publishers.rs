//! The publishers: two streams, one of them into a fan-out, and unary batches over several queues.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use leveret_proto::v1::{PublishOutcome, PublishRequest, PublishStreamRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::message::{Target, new_message};
use super::world::{Outcome, World};
use crate::client::Client;
use crate::history::{Event, Keep};
use crate::payload::MsgId;

/// Publishes of one stream that may be unconfirmed.
const WINDOW: usize = 64;

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
                permit.send(PublishStreamRequest { vhost: String::new(), messages: vec![message.into_grpc()] });
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
            messages.push(message.into_grpc());
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
