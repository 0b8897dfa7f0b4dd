//! Methods that ask the core for something: exchange, queue, consumers, get, confirm, tx.

use std::sync::Arc;

use leveret_broker::{
    Binding, Consume, DeclareExchange, DeclareQueue, DestinationKind, Get, Hold, Op, Table, Value,
};

use super::answer::Answer;
use super::channel::Mode;
use super::{Session, failed};
use crate::amqp::method::Method;
use crate::amqp::reply_code::{Failure, ReplyCode};

impl Session {
    pub(super) fn request(&mut self, number: u16, method: &Method<'_>) -> Result<(), Failure> {
        let Some(chan) = self.channels.get(&number).map(|channel| channel.chan) else { return Ok(()) };
        let (op, answer) = match *method {
            Method::ExchangeDeclare {
                exchange,
                kind,
                passive,
                durable,
                auto_delete,
                internal,
                nowait,
                ref arguments,
                ..
            } => {
                let declare = DeclareExchange {
                    name: exchange.into(),
                    kind: kind.into(),
                    durable,
                    auto_delete,
                    internal,
                    passive,
                    arguments: arguments.clone(),
                };
                (Op::DeclareExchange(declare), plain(Method::ExchangeDeclareOk {}, nowait))
            }
            Method::ExchangeDelete { exchange, if_unused, nowait, .. } => {
                let op = Op::DeleteExchange { name: exchange.into(), if_unused };
                (op, plain(Method::ExchangeDeleteOk {}, nowait))
            }
            Method::ExchangeBind { destination, source, routing_key, nowait, ref arguments, .. } => {
                let op = Op::Bind(exchange_binding(destination, source, routing_key, arguments));
                (op, plain(Method::ExchangeBindOk {}, nowait))
            }
            Method::ExchangeUnbind { destination, source, routing_key, nowait, ref arguments, .. } => {
                let op = Op::Unbind(exchange_binding(destination, source, routing_key, arguments));
                (op, plain(Method::ExchangeUnbindOk {}, nowait))
            }
            Method::QueueDeclare {
                queue,
                passive,
                durable,
                exclusive,
                auto_delete,
                nowait,
                ref arguments,
                ..
            } => {
                let declare = DeclareQueue {
                    name: queue.into(),
                    durable,
                    exclusive,
                    auto_delete,
                    passive,
                    arguments: arguments.clone(),
                };
                (Op::DeclareQueue(declare), Answer::QueueDeclared { nowait })
            }
            Method::QueueBind { queue, exchange, routing_key, nowait, ref arguments, .. } => {
                let binding = self.queue_binding(number, queue, exchange, routing_key, arguments)?;
                (Op::Bind(binding), plain(Method::QueueBindOk {}, nowait))
            }
            Method::QueueUnbind { queue, exchange, routing_key, ref arguments, .. } => {
                let binding = self.queue_binding(number, queue, exchange, routing_key, arguments)?;
                (Op::Unbind(binding), plain(Method::QueueUnbindOk {}, false))
            }
            Method::QueuePurge { queue, nowait, .. } => {
                (Op::PurgeQueue { name: self.queue_name(number, queue)? }, Answer::Purged { nowait })
            }
            Method::QueueDelete { queue, if_unused, if_empty, nowait, .. } => {
                let name = self.queue_name(number, queue)?;
                (Op::DeleteQueue { name, if_unused, if_empty }, Answer::QueueDeleted { nowait })
            }
            Method::BasicQos { prefetch_size, prefetch_count, global } => {
                if prefetch_size != 0 {
                    let text = format!("prefetch_size!=0 ({prefetch_size})");
                    return Err(failed(ReplyCode::NotImplemented, text));
                }
                if !global {
                    if let Some(channel) = self.channels.get_mut(&number) {
                        channel.prefetch = prefetch_count;
                    }
                    self.answer_behind(number, method.ids(), Method::BasicQosOk {});
                    return Ok(());
                }
                let op = Op::ChannelPrefetch { chan, messages: prefetch_count.into() };
                (op, plain(Method::BasicQosOk {}, false))
            }
            Method::BasicConsume { .. } => self.consume(number, method)?,
            Method::BasicCancel { consumer_tag, nowait } => {
                let tag: Arc<str> = consumer_tag.into();
                (Op::Cancel { chan, consumer_tag: Arc::clone(&tag) }, Answer::Cancelled { tag, nowait })
            }
            Method::BasicGet { queue, no_ack, .. } => {
                let hold = if no_ack { Hold::AutoAckOn(chan) } else { Hold::Channel(chan) };
                let queue = self.queue_name(number, queue)?;
                if let Some(channel) = self.channels.get_mut(&number) {
                    channel.owes_acks |= !no_ack;
                }
                (Op::Get(Get { queue, count: 1, bytes_max: u64::MAX, hold }), Answer::Got)
            }
            Method::BasicRecover { requeue } | Method::BasicRecoverAsync { requeue } => {
                if !requeue {
                    return Err(failed(ReplyCode::NotImplemented, "requeue=false"));
                }
                let nowait = matches!(method, Method::BasicRecoverAsync { .. });
                (Op::Recover { chan }, plain(Method::BasicRecoverOk {}, nowait))
            }
            Method::ConfirmSelect { nowait } => return self.confirm_select(number, method.ids(), nowait),
            Method::TxSelect {} => {
                self.check_mode(number, |mode| !matches!(mode, Mode::Confirm { .. }), CONFIRM_TO_TX)?;
                (Op::TxSelect { chan }, Answer::TxSelected)
            }
            Method::TxCommit {} => {
                self.check_mode(number, |mode| mode == Mode::Tx, NOT_TX)?;
                (Op::TxCommit { chan }, plain(Method::TxCommitOk {}, false))
            }
            Method::TxRollback {} => {
                self.check_mode(number, |mode| mode == Mode::Tx, NOT_TX)?;
                (Op::TxRollback { chan }, plain(Method::TxRollbackOk {}, false))
            }
            // Methods of the connection, and those that only a server sends.
            _ => {
                let text = format!("{} is not expected on a channel from a client", method.name());
                return Err(failed(ReplyCode::CommandInvalid, text));
            }
        };
        self.ask(number, method.ids(), op, answer);
        Ok(())
    }

    fn consume(&mut self, number: u16, method: &Method<'_>) -> Result<(Op, Answer), Failure> {
        let Method::BasicConsume { queue, consumer_tag, no_ack, exclusive, nowait, ref arguments, .. } =
            *method
        else {
            return Err(failed(ReplyCode::InternalError, "not basic.consume"));
        };
        let queue = self.queue_name(number, queue)?;
        let priority = consumer_priority(arguments)?;
        let Some(channel) = self.channels.get_mut(&number) else {
            return Err(failed(ReplyCode::ChannelError, "expected 'channel.open'"));
        };
        channel.owes_acks |= !no_ack;
        let consume = Consume {
            chan: channel.chan,
            queue,
            consumer_tag: consumer_tag.into(),
            prefetch_messages: channel.prefetch.into(),
            prefetch_bytes: 0,
            auto_ack: no_ack,
            exclusive,
            priority,
            arguments: arguments.clone(),
        };
        Ok((Op::Consume(consume), Answer::Consuming { nowait }))
    }

    fn confirm_select(&mut self, number: u16, ids: (u16, u16), nowait: bool) -> Result<(), Failure> {
        self.check_mode(number, |mode| mode != Mode::Tx, TX_TO_CONFIRM)?;
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        if channel.mode == Mode::Plain {
            channel.mode = Mode::Confirm { before: channel.published };
        }
        if !nowait {
            self.answer_behind(number, ids, Method::ConfirmSelectOk {});
        }
        Ok(())
    }

    /// Answers what needs nothing of the core: behind all that the core still has to say of what came before.
    fn answer_behind(&mut self, number: u16, ids: (u16, u16), method: Method<'static>) {
        if self.channels.get(&number).is_some_and(|channel| channel.unheard) {
            self.ask(number, ids, Op::Barrier, Answer::Plain(method));
        } else {
            self.send(number, &method);
        }
    }

    fn check_mode(&self, number: u16, good: impl Fn(Mode) -> bool, text: &str) -> Result<(), Failure> {
        match self.channels.get(&number) {
            Some(channel) if !good(channel.mode) => Err(failed(ReplyCode::PreconditionFailed, text)),
            _ => Ok(()),
        }
    }

    /// A queue's name; an empty one means the queue that was declared last on the channel.
    fn queue_name(&self, number: u16, name: &str) -> Result<Arc<str>, Failure> {
        if !name.is_empty() {
            return Ok(name.into());
        }
        let last = self.channels.get(&number).and_then(|channel| channel.last_queue.clone());
        last.ok_or_else(|| failed(ReplyCode::NotFound, "no previously declared queue"))
    }

    fn queue_binding(
        &self,
        number: u16,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: &Table,
    ) -> Result<Binding, Failure> {
        let destination = self.queue_name(number, queue)?;
        let both_empty = queue.is_empty() && routing_key.is_empty();
        let routing_key = if both_empty { Arc::clone(&destination) } else { routing_key.into() };
        Ok(Binding {
            source: exchange.into(),
            destination_kind: DestinationKind::Queue,
            destination,
            routing_key,
            arguments: arguments.clone(),
        })
    }
}

const CONFIRM_TO_TX: &str = "cannot switch from confirm to tx mode";
const TX_TO_CONFIRM: &str = "cannot switch from tx to confirm mode";
const NOT_TX: &str = "channel is not transactional";

fn plain(method: Method<'static>, nowait: bool) -> Answer {
    if nowait { Answer::Nothing } else { Answer::Plain(method) }
}

fn exchange_binding(destination: &str, source: &str, routing_key: &str, arguments: &Table) -> Binding {
    Binding {
        source: source.into(),
        destination_kind: DestinationKind::Exchange,
        destination: destination.into(),
        routing_key: routing_key.into(),
        arguments: arguments.clone(),
    }
}

/// Argument x-priority: any integer that fits.
fn consumer_priority(arguments: &Table) -> Result<i32, Failure> {
    let number = match arguments.get("x-priority") {
        None => return Ok(0),
        Some(Value::I8(v)) => i64::from(*v),
        Some(Value::U8(v)) => i64::from(*v),
        Some(Value::I16(v)) => i64::from(*v),
        Some(Value::U16(v)) => i64::from(*v),
        Some(Value::I32(v)) => i64::from(*v),
        Some(Value::U32(v)) => i64::from(*v),
        Some(Value::I64(v)) => *v,
        Some(_) => {
            return Err(failed(ReplyCode::PreconditionFailed, "invalid arg 'x-priority': not an integer"));
        }
    };
    number.try_into().map_err(|_| {
        failed(ReplyCode::PreconditionFailed, format!("invalid arg 'x-priority': {number} is out of range"))
    })
}
