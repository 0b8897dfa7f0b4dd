//! Every effect against what the oracle expects.

use super::{Asked, LEASE_MS, QUEUES, Run, number};
use crate::broker::tests::model::oracle::State;
use crate::effect::{Effect, Outcome, Reply};
use crate::ids::ReqId;
use crate::input::Hold as Held;
use crate::refusal::Refusal;

impl Run {
    pub(super) fn take_in(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            for byte in format!("{effect:?}").into_bytes() {
                self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
            match effect {
                Effect::Append { ticket, batch, .. } => {
                    self.store.apply(ticket, &batch);
                    self.batches.push(batch);
                }
                Effect::Fetch(fetch) => {
                    self.reached.fetches += 1;
                    self.fetches.push(fetch);
                }
                Effect::Spill(put) => self.spills.push(put),
                Effect::Release { places } => self.release(&places),
                Effect::Deliver(d) => {
                    let consumer = self.consumers.get_mut(&*d.consumer_tag).expect("the consumer is there");
                    let no = number(&d.message);
                    let holder = (!consumer.auto_ack).then_some(State::OnChannel(d.chan.0, d.delivery_tag));
                    assert_eq!((consumer.chan, consumer.queue), (d.chan.0, d.ack_id.queue));
                    if Some(consumer.queue) == self.broker.queue_id(QUEUES[1]) {
                        assert_eq!(Some(&*d.consumer_tag), self.active.as_deref(), "not the active one");
                    }
                    if holder.is_some() {
                        consumer.out.insert((d.ack_id.queue, no));
                        let chan = self.chans.get_mut(&d.chan.0).expect("the channel is open");
                        chan.out.insert(d.delivery_tag, (d.ack_id.queue, no));
                    }
                    let over = consumer.prefetch > 0 && consumer.out.len() > consumer.prefetch as usize;
                    assert!(!over, "more out than the prefetch allows");
                    self.reached.deliveries += 1;
                    self.reached.redeliveries += u64::from(d.redelivered);
                    self.oracle.take(d.ack_id, no, d.redelivered, d.attempt, holder);
                }
                Effect::Reply { req, result } => self.reply(req, result),
                Effect::Confirms { chan, upto, others } => self.confirms(chan.0, upto, &others),
                Effect::Settled { chan, upto, unknown } => {
                    let chan = self.chans.get_mut(&chan.0).expect("the channel is open");
                    let done = chan.settlements[chan.settled as usize..upto as usize].iter().flatten();
                    self.promises.gone.extend(done.copied());
                    let expected: Vec<_> = chan
                        .unknown
                        .iter()
                        .filter(|(n, _)| *n > chan.settled && *n <= upto)
                        .copied()
                        .collect();
                    assert_eq!(unknown, expected);
                    chan.settled = upto;
                }
                Effect::ConsumerCancelled { .. } => {}
                Effect::Return { .. } => panic!("nothing is mandatory"),
                Effect::ChannelFailed { chan, .. } => {
                    assert_eq!(self.failing.take(), Some(chan.0), "it does so only when it is made to");
                }
                // No get of these histories names the channel that it is made on.
                Effect::Dropped { .. } => panic!("nothing waits on a channel that fails"),
                Effect::Warn { text } => panic!("{text}"),
                Effect::ConnectionForced { .. } | Effect::AccessChanged => {
                    panic!("nothing of the kind is asked for")
                }
            }
        }
    }

    fn confirms(&mut self, chan: u64, upto: u64, others: &[(u64, Outcome)]) {
        let chan = self.chans.get_mut(&chan).expect("the channel is open");
        assert!(upto > chan.confirmed);
        let new = &chan.publishes[chan.confirmed as usize..upto as usize];
        let tags = chan.confirmed + 1..;
        let expected: Vec<_> = tags
            .zip(new)
            .filter(|(_, (outcome, _))| !matches!(outcome, Outcome::Routed { .. }))
            .map(|(tag, (outcome, _))| (tag, *outcome))
            .collect();
        assert_eq!(others, expected);
        self.promises.stored.extend(new.iter().flat_map(|(_, promised)| promised).copied());
        chan.confirmed = upto;
    }

    fn reply(&mut self, req: ReqId, result: Result<Reply, Refusal>) {
        let asked = self.asked.remove(&req.0).expect("one answer to each request");
        match (asked, result) {
            (Asked::Nothing, Ok(_)) => {}
            // Ids of transient queues are not in the store, which may give them out again after a start.
            (Asked::Declared(id), Ok(Reply::QueueDeclared { .. })) => {
                if self.oracle.queues.get(&id).is_some_and(|q| q.durable) {
                    self.promises.declared.insert(id);
                }
            }
            (Asked::Deleted(id, durable), Ok(Reply::Removed { .. })) => {
                if durable {
                    self.promises.deleted.insert(id);
                }
            }
            (Asked::Published(promised), Ok(Reply::Published(_))) => self.promises.stored.extend(promised),
            (Asked::Committed { stored, gone }, Ok(Reply::Done)) => {
                self.promises.stored.extend(stored);
                self.promises.gone.extend(gone);
            }
            (Asked::Removed(count, gone), Ok(Reply::Removed { messages })) => {
                assert_eq!(messages, count);
                self.promises.gone.extend(gone);
            }
            (Asked::Settled(expected, gone), Ok(Reply::SettledIds(results))) => {
                let result = results.into_iter().next().expect("one id").map_err(|r| r.kind);
                self.reached.stale += u64::from(result.is_err());
                assert_eq!(result, expected);
                self.promises.gone.extend(gone);
            }
            (Asked::Got { queue, .. }, Err(refusal)) => {
                assert!(!self.oracle.queues.contains_key(&queue), "{refusal}");
            }
            (Asked::Got { queue, count, hold }, Ok(Reply::Got(got))) => {
                assert!(got.messages.len() <= count);
                for m in &got.messages {
                    let no = number(&m.message);
                    let state = match hold {
                        Held::AutoAck | Held::AutoAckOn(_) => None,
                        Held::Lease { .. } => Some(State::Leased(self.now_ms + LEASE_MS)),
                        Held::Channel(chan) => {
                            let known = self.chans.get_mut(&chan.0).expect("the channel is open");
                            known.out.insert(m.delivery_tag, (queue, no));
                            Some(State::OnChannel(chan.0, m.delivery_tag))
                        }
                    };
                    self.oracle.take(m.ack_id, no, m.redelivered, m.attempt, state);
                }
                let open = match hold {
                    Held::Channel(chan) => self.chans.contains_key(&chan.0),
                    _ => true,
                };
                assert_eq!(got.messages_ready, self.oracle.queues[&queue].ready());
                assert!(!got.messages.is_empty() || got.messages_ready == 0 || !open, "an empty answer lies");
            }
            (_, result) => panic!("unexpected answer {result:?}"),
        }
    }
}
