//! What a client consumes by a stream, and settles there.

use std::collections::{BTreeMap, VecDeque};

use leveret_proto::v1::consume_request::Action;
use leveret_proto::v1::{ConsumeOpen, ConsumeRequest, ConsumeResponse, ConsumeSettle, SettleKind};
use leveret_server::grpc::Socket;

use super::Shared;
use super::call::{Call, Heard};
use super::client::came;
use crate::history::{ConsumerRef, Event, QueueRef, Recorder, Share};
use crate::payload::MsgId;
use crate::sim::kinds::Kind;

/// A Consume stream.
pub(super) struct Consuming {
    call: Call,
    consumer: ConsumerRef,
    queue: (QueueRef, Kind),
    /// Deliveries that the notice of a settlement may overtake.
    prefetch: u32,
    /// Settles little: others have to wait for what it has.
    hoards: bool,
    opened: bool,
    out: BTreeMap<u64, MsgId>,
    /// Settlements that were not answered yet, and of which messages.
    settling: VecDeque<(SettleKind, Vec<MsgId>)>,
    settled: u64,
}

impl Consuming {
    /// Opens the stream, if there is a queue for it.
    pub(super) fn begin(shared: &mut Shared<'_>, socket: &Socket, prefetch: u32) -> Option<Self> {
        let index = shared.rng.usize(..shared.queues.len());
        let queue = &mut shared.queues[index];
        if !queue.ready || queue.taken == Some(Share::Sole) {
            return None;
        }
        let alone = queue.taken.is_none() && shared.rng.bool();
        let share = if alone { Share::Sole } else { Share::Shared };
        queue.taken = Some(share);
        let consumer = shared.recorder.new_consumer();
        shared.recorder.record(Event::ConsumerStarted { consumer, queue: queue.queue, share });
        let mut call = Call::new(shared.server, socket, "Consume");
        let open = ConsumeOpen {
            queue: queue.name.to_string(),
            prefetch_messages: prefetch,
            ..ConsumeOpen::default()
        };
        call.send(&ConsumeRequest { action: Some(Action::Open(open)) });
        Some(Self {
            call,
            consumer,
            queue: (queue.queue, queue.kind),
            prefetch,
            hoards: shared.rng.u8(..4) == 0,
            opened: false,
            out: BTreeMap::new(),
            settling: VecDeque::new(),
            settled: 0,
        })
    }

    pub(super) fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    /// It is over: what it has out goes back.
    pub(super) fn goes(&self, recorder: &Recorder) {
        recorder.record(Event::ConsumerGone { consumer: self.consumer });
    }

    pub(super) fn settle(&mut self, shared: &mut Shared<'_>) {
        if self.out.is_empty() || (self.hoards && shared.rng.u8(..8) > 0) {
            return;
        }
        let tags: Vec<u64> = self.out.keys().copied().collect();
        let delivery_tag = tags[shared.rng.usize(..tags.len())];
        let multiple = shared.rng.u8(..3) == 0;
        let kind = match shared.rng.u8(..8) {
            0 | 1 => SettleKind::Requeue,
            2 => SettleKind::Reject,
            _ => SettleKind::Ack,
        };
        let ids: Vec<MsgId> = if multiple {
            let later = self.out.split_off(&(delivery_tag + 1));
            std::mem::replace(&mut self.out, later).into_values().collect()
        } else {
            self.out.remove(&delivery_tag).into_iter().collect()
        };
        let (consumer, queue) = (self.consumer, self.queue.0);
        shared.recorder.record_all(ids.iter().map(|id| match kind {
            SettleKind::Requeue => Event::ReturnSent { consumer, queue, id: *id },
            // A reject drops the message: gone like an acked one.
            _ => Event::AckSent { queue, id: *id },
        }));
        self.settling.push_back((kind, ids));
        let settle = ConsumeSettle { delivery_tag, multiple, kind: kind.into() };
        self.call.send(&ConsumeRequest { action: Some(Action::Settle(settle)) });
    }

    /// Reads what came. True: it is over.
    pub(super) fn read(&mut self, pieces: usize, shared: &mut Shared<'_>) -> bool {
        for answer in self.call.read::<ConsumeResponse>(pieces) {
            let Heard::Message(ConsumeResponse { opened, deliveries, settled }) = answer else {
                return true;
            };
            assert!(!(self.opened && opened.is_some()), "a stream is opened once");
            self.opened |= opened.is_some();
            assert!(self.opened, "opened comes before everything else");
            shared.reached.grpc_deliveries += deliveries.len() as u64;
            for delivery in deliveries {
                if let Some(id) = came(shared.recorder, self.consumer, self.queue, &delivery) {
                    self.out.insert(delivery.delivery_tag, id);
                }
            }
            let Some(settled) = settled else { continue };
            assert!(settled.exceptions.is_empty(), "settlements were refused: {settled:?}");
            let newly = settled.upto.saturating_sub(self.settled) as usize;
            assert!(newly > 0 && newly <= self.settling.len(), "{settled:?} after {}", self.settled);
            self.settled = settled.upto;
            let (consumer, queue, under_way) = (self.consumer, self.queue.0, self.prefetch);
            for (kind, ids) in self.settling.drain(..newly) {
                shared.recorder.record_all(ids.into_iter().map(|id| match kind {
                    SettleKind::Requeue => Event::Returned { consumer, queue, id, under_way },
                    _ => Event::Acked { queue, id },
                }));
            }
        }
        false
    }
}
