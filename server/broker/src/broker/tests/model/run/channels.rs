//! Channels and consumers that come and go.

use super::*;

impl Run {
    pub(super) fn open_channel(&mut self, slot: usize) {
        self.last.chan += 1;
        self.slots[slot] = self.last.chan;
        self.chans.insert(self.last.chan, Chan::default());
        let strict = slot == tx::TX;
        let (conn, chan) = (ConnId(1), ChanId(self.last.chan));
        self.input(Input::ChannelOpened { conn, chan, credit_bytes: CREDIT_BYTES, strict });
        if strict {
            self.select();
        }
    }

    pub(super) fn close_channel(&mut self, slot: usize) {
        let closed = self.slots[slot];
        self.forget_channel(closed);
        self.input(Input::ChannelClosed { chan: ChanId(closed) });
        self.open_channel(slot);
    }

    /// A channel is about to end: what it has is ready again.
    pub(super) fn forget_channel(&mut self, closed: u64) {
        self.chans.remove(&closed);
        self.consumers.retain(|_, c| c.chan != closed);
        self.elect();
        for (queue, no) in self.oracle.out_where(|s| matches!(s, State::OnChannel(c, _) if c == closed)) {
            self.oracle.settle(queue, no, true);
            self.forget((queue, no));
        }
    }

    /// The single active consumer of the second queue may have gone.
    pub(super) fn elect(&mut self) {
        if self.active.as_ref().is_some_and(|active| self.consumers.contains_key(active)) {
            return;
        }
        let queue = self.broker.queue_id(QUEUES[1]);
        let waiting = self.consumers.iter().filter(|(_, c)| Some(c.queue) == queue);
        let next = waiting.min_by_key(|(_, c)| (std::cmp::Reverse(c.priority), c.number));
        let next = next.map(|(tag, _)| tag.clone());
        self.reached.takeovers += u64::from(self.active.is_some() && next.is_some());
        self.active = next;
    }

    pub(super) fn consume(
        &mut self,
        slot: usize,
        queue: usize,
        prefetch: u32,
        auto_ack: bool,
        priority: i32,
    ) {
        if self.consumers.len() >= 5 {
            return;
        }
        self.last.consumer += 1;
        let (chan, tag) = (self.slots[slot], format!("c{}", self.last.consumer));
        let number = self.last.consumer;
        let (id, out) = (self.queue(queue), BTreeSet::new());
        let known = Consumer { number, priority, chan, queue: id, auto_ack, prefetch, out };
        self.consumers.insert(tag.clone(), known);
        self.elect();
        let consume = Consume {
            prefetch_messages: prefetch,
            auto_ack,
            priority,
            ..consumer(chan, QUEUES[queue], &tag)
        };
        self.request(Op::Consume(consume), Asked::Nothing);
    }

    pub(super) fn cancel(&mut self, which: usize) {
        let Some(tag) = pick(self.consumers.keys(), which).cloned() else { return };
        // As with a delete: a request lets out what was on its way.
        self.finish();
        let chan = ChanId(self.consumers.remove(&tag).expect("picked").chan);
        self.elect();
        self.request(Op::Cancel { chan, consumer_tag: tag.into() }, Asked::Nothing);
    }
}
