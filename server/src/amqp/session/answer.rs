//! What the core says, as methods for the client.

use std::sync::Arc;

use leveret_broker::properties::with_delivery_count;
use leveret_broker::{Cause, ChanId, Deliver, GotMessage, Message, Outcome, Refusal, Reply, ReqId, Settle};

use super::channel::Mode;
use super::{Phase, Session, failed};
use crate::amqp::method::Method;
use crate::amqp::reply_code::{Failure, ReplyCode};
use crate::hub::Output;

/// A request that is on its way.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) req: ReqId,
    /// The method, for its refusal.
    pub(super) ids: (u16, u16),
    pub(super) answer: Answer,
}

/// What the client gets when the request is done.
#[derive(Debug)]
pub(super) enum Answer {
    Nothing,
    Plain(Method<'static>),
    QueueDeclared { nowait: bool },
    Purged { nowait: bool },
    QueueDeleted { nowait: bool },
    Consuming { nowait: bool },
    Cancelled { tag: Arc<str>, nowait: bool },
    Got,
    TxSelected,
    ChannelClosed,
}

impl Session {
    /// Makes frames of one output.
    pub(super) fn answer(&mut self, output: Output) {
        match output {
            Output::Reply { req, result } => self.reply(req, result),
            // What was meant for a channel that is closed meanwhile is left out.
            Output::Deliver(deliver) => self.deliver(&deliver),
            Output::Confirms { chan, upto, others } => self.confirms(chan, upto, &others),
            Output::Return { chan, message, .. } => self.return_message(chan, &message),
            Output::ConsumerCancelled { chan, consumer_tag } => self.consumer_cancelled(chan, consumer_tag),
            Output::ChannelFailed { chan, cause, refusal } => self.channel_failed(chan, cause, refusal),
            Output::ConnectionForced { refusal } => match self.phase {
                // It wanted an end itself.
                Phase::ClosedByClient(_) => self.closed_by_client(),
                _ => self.close_connection(Failure::refused(refusal, (0, 0))),
            },
            // Settlements of strict channels are not answered.
            Output::Settled { .. } => {}
        }
    }

    /// Merges the newest output with the one before, where both are confirms of one channel.
    pub(super) fn merge_confirms(&mut self) {
        let Some(last) = self.waiting.pop_back() else { return };
        if let (
            Some(Output::Confirms { chan, upto, others }),
            Output::Confirms { chan: chan_2, upto: upto_2, others: others_2 },
        ) = (self.waiting.back_mut(), &last)
            && chan == chan_2
        {
            *upto = *upto_2;
            others.extend_from_slice(others_2);
            return;
        }
        self.waiting.push_back(last);
    }

    fn consumer_cancelled(&mut self, chan: ChanId, consumer_tag: Arc<str>) {
        let Some(number) = self.number(chan) else { return };
        if !self.client.consumer_cancel_notify {
            return;
        }
        if let Some(channel) = self.channels.get_mut(&number)
            && let Some(Asked { answer: Answer::QueueDeleted { .. }, .. }) = channel.asked
        {
            channel.cancelled.push(consumer_tag);
            return;
        }
        self.send(number, &Method::BasicCancel { consumer_tag: &consumer_tag, nowait: true });
    }

    fn number(&self, chan: ChanId) -> Option<u16> {
        if self.phase == Phase::Running { self.numbers.get(&chan).copied() } else { None }
    }

    fn deliver(&mut self, deliver: &Deliver) {
        let message = &deliver.message;
        if let Some(number) = self.number(deliver.chan) {
            let method = Method::BasicDeliver {
                consumer_tag: &deliver.consumer_tag,
                delivery_tag: deliver.delivery_tag,
                redelivered: deliver.redelivered,
                exchange: &message.exchange,
                routing_key: &message.routing_key,
            };
            let properties = with_delivery_count(&message.properties, deliver.delivery_count);
            self.send_content(number, &method, &properties, &message.body);
            self.out.mark(deliver.chan, message.cost_bytes());
        }
    }

    fn return_message(&mut self, chan: ChanId, message: &Message) {
        let Some(number) = self.number(chan) else { return };
        let method = Method::BasicReturn {
            reply_code: ReplyCode::NoRoute.number(),
            reply_text: ReplyCode::NoRoute.name(),
            exchange: &message.exchange,
            routing_key: &message.routing_key,
        };
        self.send_content(number, &method, &message.properties, &message.body);
    }

    /// Acks cumulatively, with the nacks where they belong.
    fn confirms(&mut self, chan: ChanId, upto: u64, others: &[(u64, Outcome)]) {
        let Some(number) = self.number(chan) else { return };
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let told = std::mem::replace(&mut channel.confirmed, upto);
        let Mode::Confirm { before } = channel.mode else { return };
        let from = told.max(before);
        let mut told = from;
        let rejected =
            |(tag, outcome): &(u64, Outcome)| matches!(outcome, Outcome::Rejected(_)).then_some(*tag);
        let mut rejections = others.iter().filter_map(rejected).filter(|tag| *tag > from).peekable();
        while let Some(first) = rejections.next() {
            self.confirm(number, before, &mut told, first - 1, true);
            let mut last = first;
            while rejections.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            self.confirm(number, before, &mut told, last, false);
        }
        self.confirm(number, before, &mut told, upto, true);
    }

    /// Confirms everything behind `told` up to `upto` in one way.
    fn confirm(&mut self, number: u16, before: u64, told: &mut u64, upto: u64, ack: bool) {
        if upto <= *told {
            return;
        }
        let (delivery_tag, multiple) = (upto - before, upto - *told > 1);
        *told = upto;
        self.send(
            number,
            &match ack {
                true => Method::BasicAck { delivery_tag, multiple },
                false => Method::BasicNack { delivery_tag, multiple, requeue: false },
            },
        );
    }

    fn channel_failed(&mut self, chan: ChanId, cause: Cause, refusal: Refusal) {
        let Some(number) = self.number(chan) else { return };
        let Some(channel) = self.channels.get(&number) else { return };
        let ids = match cause {
            Cause::Publish { .. } => PUBLISH,
            Cause::Settle { how: Settle::Ack, .. } => ACK,
            Cause::Settle { .. } => channel.refused_by,
        };
        self.fail(number, Failure::refused(refusal, ids));
    }

    fn reply(&mut self, req: ReqId, result: Result<Reply, Refusal>) {
        if self.phase == Phase::ClosedByClient(req) {
            return self.closed_by_client();
        }
        let Some(number) = self.requests.remove(&req) else { return };
        if self.phase != Phase::Running {
            return;
        }
        let Some(asked) = self.channels.get_mut(&number).and_then(|channel| {
            // Answers come behind what the core had to say of all that went before.
            channel.unheard = false;
            channel.asked.take()
        }) else {
            return;
        };
        let done = match result {
            Ok(reply) => self.done(number, asked.answer, reply),
            Err(refusal) => Err(Failure::refused(refusal, (0, 0))),
        };
        if let Err(failure) = done {
            self.fail(number, Failure { ids: asked.ids, ..failure });
        }
        self.resume(number);
    }

    fn done(&mut self, number: u16, answer: Answer, reply: Reply) -> Result<(), Failure> {
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        match (answer, reply) {
            (Answer::Nothing, _) => {}
            (Answer::Plain(method), _) => self.send(number, &method),
            (Answer::TxSelected, _) => {
                channel.mode = Mode::Tx;
                self.send(number, &Method::TxSelectOk {});
            }
            (Answer::ChannelClosed, _) => {
                let chan = channel.chan;
                // The lane forgets it, too.
                self.for_core.inputs.push(leveret_broker::Input::ChannelClosed { chan });
                self.send(number, &Method::ChannelCloseOk {});
                self.remove_channel(number);
            }
            (Answer::QueueDeclared { nowait }, Reply::QueueDeclared { name, messages_ready, consumers }) => {
                channel.last_queue = Some(Arc::clone(&name));
                let (message_count, consumer_count) = (count(messages_ready), count(consumers));
                if !nowait {
                    self.send(
                        number,
                        &Method::QueueDeclareOk { queue: &name, message_count, consumer_count },
                    );
                }
            }
            (Answer::Purged { nowait: false }, Reply::Removed { messages }) => {
                self.send(number, &Method::QueuePurgeOk { message_count: count(messages) });
            }
            (Answer::QueueDeleted { nowait }, Reply::Removed { messages }) => {
                let cancelled = std::mem::take(&mut channel.cancelled);
                if !nowait {
                    self.send(number, &Method::QueueDeleteOk { message_count: count(messages) });
                }
                for consumer_tag in cancelled {
                    self.send(number, &Method::BasicCancel { consumer_tag: &consumer_tag, nowait: true });
                }
            }
            (Answer::Purged { .. }, Reply::Removed { .. }) => {}
            (Answer::Consuming { nowait }, Reply::Consuming { consumer_tag, reply_to }) => {
                if reply_to.is_some() {
                    channel.reply_to = reply_to;
                }
                if !nowait {
                    self.send(number, &Method::BasicConsumeOk { consumer_tag: &consumer_tag });
                }
            }
            (Answer::Cancelled { tag, nowait }, _) => {
                if !nowait {
                    self.send(number, &Method::BasicCancelOk { consumer_tag: &tag });
                }
            }
            (Answer::Got, Reply::Got(got)) => match got.messages.first() {
                Some(message) => self.got(number, message, got.messages_ready),
                None => self.send(number, &Method::BasicGetEmpty { reserved_1: "" }),
            },
            (answer, reply) => {
                let text = format!("the broker answered {answer:?} with {reply:?}");
                return Err(failed(ReplyCode::InternalError, text));
            }
        }
        Ok(())
    }

    fn got(&mut self, number: u16, got: &GotMessage, messages_ready: u64) {
        let message = &got.message;
        let method = Method::BasicGetOk {
            delivery_tag: got.delivery_tag,
            redelivered: got.redelivered,
            exchange: &message.exchange,
            routing_key: &message.routing_key,
            message_count: count(messages_ready),
        };
        let properties = with_delivery_count(&message.properties, got.delivery_count);
        self.send_content(number, &method, &properties, &message.body);
    }

    pub(super) fn tell_blocked(&mut self, blocked: bool) {
        if !self.client.connection_blocked {
            return;
        }
        let reason = "publishes wait for the disk";
        let method =
            if blocked { Method::ConnectionBlocked { reason } } else { Method::ConnectionUnblocked {} };
        self.send(0, &method);
    }
}

/// What an output that waits costs, unless the core has taken it off a channel's credit.
pub(super) fn unbounded_bytes(output: &Output) -> u64 {
    match output {
        Output::Return { message, .. } => message.cost_bytes(),
        Output::Reply { result: Ok(Reply::Got(got)), .. } => {
            got.messages.iter().map(|got| got.message.cost_bytes()).sum()
        }
        _ => 0,
    }
}

const PUBLISH: (u16, u16) = (60, 40);
const ACK: (u16, u16) = (60, 80);

/// Counts go out as 32 bits.
fn count(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
