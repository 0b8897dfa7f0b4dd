//! Messages as publishers make them, for either protocol.

use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use leveret_proto::v1::PublishMessage;

use super::world::{FAN, LEASED, WORK, World};
use crate::amqp::calls;
use crate::client;
use crate::history::{BatchRef, Event, Keep, QueueRef};
use crate::payload::{self, MsgId};

/// Bytes of a frame, well below what any broker allows.
const FRAME_BYTES_MAX: usize = 16 << 10;

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

    pub(super) fn leased(world: &World) -> Self {
        Self { exchange: "", key: LEASED, queues: Arc::from([world.leased]) }
    }
}

/// A message that is about to leave.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    exchange: &'static str,
    key: &'static str,
    keep: Keep,
    body: Bytes,
}

impl Outgoing {
    /// For a gRPC publish.
    pub(super) fn into_grpc(self) -> PublishMessage {
        let mut message = client::to_exchange(self.exchange, self.key, self.body);
        if let Some(inner) = &mut message.message {
            inner.persistent = (self.keep == Keep::Transient).then_some(false);
        }
        message
    }

    /// The frames of an AMQP publish.
    pub(super) fn amqp_bytes(&self, channel: u16, mandatory: bool) -> Vec<u8> {
        let properties = calls::delivery_mode(self.keep == Keep::Persistent);
        let to = (self.exchange, self.key);
        calls::publish(channel, to, u8::from(mandatory), &properties, &self.body, FRAME_BYTES_MAX)
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
) -> (MsgId, Outgoing) {
    let id = world.next(publisher);
    let length = match rng.u32(..100) {
        0..80 => rng.usize(payload::HEADER_BYTES..1000),
        80..97 => rng.usize(1000..8 << 10),
        97..99 => rng.usize(8 << 10..64 << 10),
        // Beyond what goes into the log itself.
        _ if keep == Keep::Persistent && rng.u8(..2) == 0 => rng.usize(256 << 10..400 << 10),
        _ => rng.usize(8 << 10..64 << 10),
    };
    let body = payload::encode(id, length);
    let queues = Arc::clone(&target.queues);
    world.recorder.record(Event::Sent {
        id,
        length: u32::try_from(length).unwrap_or(u32::MAX),
        keep,
        priority: 0,
        batch,
        queues,
    });
    (id, Outgoing { exchange: target.exchange, key: target.key, keep, body })
}
