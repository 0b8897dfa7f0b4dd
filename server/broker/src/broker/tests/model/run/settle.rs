//! Settlements, by delivery tag and by ack id.

use super::*;

impl Run {
    pub(super) fn settle(&mut self, slot: usize, delivery: usize, multiple: bool, how: Settle) {
        let id = self.slots[slot];
        let chan = self.chans.get_mut(&id).expect("slots are open");
        let tag = match delivery % 10 {
            0 => 0,
            1 => 1,
            _ => pick(chan.out.keys(), delivery).copied().unwrap_or(7),
        };
        let known = chan.out.contains_key(&tag) || (tag == 0 && multiple);
        let tags: Vec<u64> = match (known, multiple, tag) {
            (false, _, _) => Vec::new(),
            (true, true, 0) => chan.out.keys().copied().collect(),
            (true, true, _) => chan.out.range(..=tag).map(|(tag, _)| *tag).collect(),
            (true, false, _) => vec![tag],
        };
        let places: Vec<_> = tags.iter().filter_map(|tag| chan.out.remove(tag)).collect();
        let requeue = how == Settle::Requeue;
        chan.settlements.push(if requeue { Vec::new() } else { places.clone() });
        if !known {
            chan.unknown.push((chan.settlements.len() as u64, tag));
        }
        for (queue, no) in places {
            self.oracle.settle(queue, no, requeue);
            self.forget((queue, no));
        }
        self.input(settlement(id, tag, multiple, how));
    }

    /// No consumer has it out any more.
    pub(super) fn forget(&mut self, place: (QueueId, No)) {
        for consumer in self.consumers.values_mut() {
            consumer.out.remove(&place);
        }
    }

    pub(super) fn settle_id(&mut self, delivery: usize, how: Settle) {
        let Some(&(id, no)) = pick(self.oracle.ids.iter(), delivery) else { return };
        let place = (id.queue, no);
        let state = self.oracle.queues.get(&id.queue).and_then(|q| q.messages.get(&no)).cloned();
        let requeue = how == Settle::Requeue;
        let mut gone = Vec::new();
        let expected = match state {
            // Whether the place was given anew after a crash that is not the last one cannot be known; then the
            // answer may be that the id is stale. It never settles the new message.
            None if id.epoch.0 + 1 < self.broker.epoch.0 => {
                let op = Op::SettleIds { ids: vec![id], how };
                return self.request(op, Asked::Nothing);
            }
            None => Ok(()),
            Some(m)
                if m.state != State::Ready && m.attempts == id.attempt && id.epoch == self.broker.epoch =>
            {
                if let State::OnChannel(chan, tag) = m.state {
                    let chan = self.chans.get_mut(&chan).expect("it holds");
                    chan.out.remove(&tag);
                    chan.in_tx.remove(&tag);
                }
                self.oracle.settle(id.queue, no, requeue);
                self.forget(place);
                if !requeue {
                    gone.push(place);
                }
                Ok(())
            }
            Some(_) => Err(RefusalKind::AckIdStale),
        };
        self.request(Op::SettleIds { ids: vec![id], how }, Asked::Settled(expected, gone));
    }
}
