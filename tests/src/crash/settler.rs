//! Settles on a Consume stream: numbers them, records them, and matches the server's notices.

use std::collections::{BTreeMap, VecDeque};

use leveret_proto::v1::{ConsumeRequest, ConsumeSettle, ConsumeSettled, SettleKind, consume_request};
use tokio::sync::mpsc;

use crate::history::{ConsumerRef, Event, QueueRef, Recorder};
use crate::payload::MsgId;

/// Messages that may be out on a stream.
pub(super) const PREFETCH: u32 = 200;

/// Deliveries out on one stream and settles under way.
#[derive(Debug)]
pub(super) struct Settler {
    recorder: Recorder,
    consumer: ConsumerRef,
    queue: QueueRef,
    requests: mpsc::UnboundedSender<ConsumeRequest>,
    out: BTreeMap<u64, MsgId>,
    sent: VecDeque<(SettleKind, Vec<MsgId>)>,
    done: u64,
}

impl Settler {
    pub(super) fn new(
        recorder: Recorder,
        consumer: ConsumerRef,
        queue: QueueRef,
        requests: mpsc::UnboundedSender<ConsumeRequest>,
    ) -> Self {
        Self { recorder, consumer, queue, requests, out: BTreeMap::new(), sent: VecDeque::new(), done: 0 }
    }

    /// A delivery came.
    pub(super) fn took(&mut self, tag: u64, id: MsgId) {
        self.out.insert(tag, id);
    }

    /// Settles one delivery.
    pub(super) fn settle(&mut self, tag: u64, kind: SettleKind) {
        let ids: Vec<MsgId> = self.out.remove(&tag).into_iter().collect();
        self.send(tag, false, kind, ids);
    }

    /// Settles everything up to a delivery.
    pub(super) fn settle_upto(&mut self, tag: u64, kind: SettleKind) {
        let later = self.out.split_off(&(tag + 1));
        let ids = std::mem::replace(&mut self.out, later).into_values().collect();
        self.send(tag, true, kind, ids);
    }

    /// The server's notice.
    pub(super) fn settled(&mut self, notice: &ConsumeSettled) -> Result<(), String> {
        if !notice.exceptions.is_empty() {
            return Err(format!("settles were refused: {:?}", notice.exceptions));
        }
        while self.done < notice.upto {
            let Some((kind, ids)) = self.sent.pop_front() else {
                return Err(format!("settled up to {}, only {} were sent", notice.upto, self.done));
            };
            self.done += 1;
            self.recorder.record_all(ids.into_iter().map(|id| match kind {
                SettleKind::Requeue => {
                    let (consumer, queue) = (self.consumer, self.queue);
                    Event::Returned { consumer, queue, id, under_way: PREFETCH }
                }
                _ => Event::Acked { queue: self.queue, id },
            }));
        }
        Ok(())
    }

    fn send(&mut self, delivery_tag: u64, multiple: bool, kind: SettleKind, ids: Vec<MsgId>) {
        self.recorder.record_all(ids.iter().map(|id| match kind {
            SettleKind::Requeue => Event::ReturnSent { consumer: self.consumer, queue: self.queue, id: *id },
            // A reject drops the message: gone like an acked one.
            _ => Event::AckSent { queue: self.queue, id: *id },
        }));
        self.sent.push_back((kind, ids));
        let settle = ConsumeSettle { delivery_tag, multiple, kind: kind.into() };
        // A closed stream is noticed where it is read.
        let _ = self.requests.send(ConsumeRequest { action: Some(consume_request::Action::Settle(settle)) });
    }
}
