//! Steps that are one method and, mostly, its answer.

use super::Run;
use crate::amqp::codec::Writer;
use crate::amqp::method::{self, Id};
use crate::scenario::step::{Argument, At, ExchangeDeclare, Fault, Frame, QueueDeclare, Send, Step};
use crate::scenario::value::{Table, Value, unhex};

const CHANNEL_FLOW: (Id, Id) = ((20, 20), (20, 21));
pub(super) const EXCHANGE_DELETE: (Id, Id) = ((40, 20), (40, 21));
const EXCHANGE_BIND: (Id, Id) = ((40, 30), (40, 31));
const EXCHANGE_UNBIND: (Id, Id) = ((40, 40), (40, 51));
const BASIC_CANCEL: (Id, Id) = ((60, 30), (60, 31));
const BASIC_RECOVER_ASYNC: Id = (60, 100);
const BASIC_RECOVER: (Id, Id) = ((60, 110), (60, 111));

/// Bits as they are packed, the first one lowest.
fn bits(all: &[bool]) -> u8 {
    all.iter().enumerate().fold(0, |bits, (place, bit)| bits | u8::from(*bit) << place)
}

impl Run {
    pub(super) async fn request(&mut self, step: &Step) -> Result<(), String> {
        let (at, error) = (step.at(), step.error());
        let (ids, arguments) = match step {
            Step::ExchangeDeclare(step) => return self.exchange_declare(step).await,
            Step::QueueDeclare(step) => return self.queue_declare(step).await,
            Step::ChannelFlow(step) => (CHANNEL_FLOW, Writer::new().octet(step.active.into())),
            Step::ExchangeDelete(step) => {
                let arguments =
                    Writer::new().short(0).shortstr(&step.exchange).octet(bits(&[step.if_unused, false]));
                (EXCHANGE_DELETE, arguments)
            }
            Step::ExchangeBind(step) => {
                let arguments = exchanges(&step.destination, &step.source, &step.key, &step.arguments);
                (EXCHANGE_BIND, arguments)
            }
            Step::ExchangeUnbind(step) => {
                let arguments = exchanges(&step.destination, &step.source, &step.key, &step.arguments);
                (EXCHANGE_UNBIND, arguments)
            }
            Step::QueueDelete(step) => {
                let flags = bits(&[step.if_unused, step.if_empty, false]);
                let arguments = Writer::new().short(0).shortstr(&self.names.named(&step.queue)?).octet(flags);
                let ids = (method::QUEUE_DELETE, method::QUEUE_DELETE_OK);
                return self.counted(at, ids, &arguments, error, step.messages).await;
            }
            Step::QueuePurge(step) => {
                let arguments = Writer::new().short(0).shortstr(&self.names.named(&step.queue)?).octet(0);
                let ids = (method::QUEUE_PURGE, method::QUEUE_PURGE_OK);
                return self.counted(at, ids, &arguments, error, step.messages).await;
            }
            Step::QueueBind(step) => {
                let arguments =
                    Writer::new().short(0).shortstr(&self.names.named(&step.queue)?).shortstr(&step.exchange);
                let arguments =
                    step.arguments.write(arguments.shortstr(&self.names.named(&step.key)?).octet(0));
                ((method::QUEUE_BIND, method::QUEUE_BIND_OK), arguments)
            }
            Step::QueueUnbind(step) => {
                let arguments =
                    Writer::new().short(0).shortstr(&self.names.named(&step.queue)?).shortstr(&step.exchange);
                let arguments = step.arguments.write(arguments.shortstr(&self.names.named(&step.key)?));
                ((method::QUEUE_UNBIND, method::QUEUE_UNBIND_OK), arguments)
            }
            Step::Qos(step) => {
                let arguments = Writer::new().long(step.size).short(step.count).octet(step.global.into());
                ((method::BASIC_QOS, method::BASIC_QOS_OK), arguments)
            }
            Step::Consume(step) => {
                let flags = bits(&[step.no_local, step.no_ack, step.exclusive, false]);
                let arguments =
                    Writer::new().short(0).shortstr(&self.names.named(&step.queue)?).shortstr(&step.tag);
                let arguments = step.arguments.write(arguments.octet(flags));
                let ids = (method::BASIC_CONSUME, method::BASIC_CONSUME_OK);
                if step.no_wait {
                    return self.channel(at).await?.wire.method(at.channel, ids.0, &arguments).await;
                }
                let Some(mut answer) = self.call(at, ids, &arguments, error).await? else { return Ok(()) };
                let tag = answer.shortstr();
                let start = step.tagged.as_deref().unwrap_or(&step.tag);
                return if tag.starts_with(start) {
                    Ok(())
                } else {
                    Err(format!("the consumer tag is '{tag}'"))
                };
            }
            Step::Cancel(step) => {
                let arguments = Writer::new().shortstr(&step.tag).octet(0);
                if step.no_wait {
                    return self.channel(at).await?.wire.method(at.channel, BASIC_CANCEL.0, &arguments).await;
                }
                (BASIC_CANCEL, arguments)
            }
            Step::Ack(step) => {
                let arguments = Writer::new().longlong(step.tag).octet(step.multiple.into());
                return self.settle(at, method::BASIC_ACK, &arguments, error).await;
            }
            Step::Nack(step) => {
                let flags = bits(&[step.multiple, step.requeue.unwrap_or(true)]);
                let arguments = Writer::new().longlong(step.tag).octet(flags);
                return self.settle(at, method::BASIC_NACK, &arguments, error).await;
            }
            Step::Reject(step) => {
                let arguments = Writer::new().longlong(step.tag).octet(step.requeue.unwrap_or(false).into());
                return self.settle(at, method::BASIC_REJECT, &arguments, error).await;
            }
            Step::Recover(step) => {
                let arguments = Writer::new().octet(step.requeue.into());
                if step.asynchronous {
                    return self.settle(at, BASIC_RECOVER_ASYNC, &arguments, error).await;
                }
                (BASIC_RECOVER, arguments)
            }
            Step::ConfirmSelect(_) => {
                let ids = (method::CONFIRM_SELECT, method::CONFIRM_SELECT_OK);
                if self.call(at, ids, &Writer::new().octet(0), error).await?.is_some() {
                    self.channel(at).await?.wire.confirms(at.channel);
                }
                return Ok(());
            }
            Step::TxSelect(_) => ((method::TX_SELECT, method::TX_SELECT_OK), Writer::new()),
            Step::TxCommit(_) => ((method::TX_COMMIT, method::TX_COMMIT_OK), Writer::new()),
            Step::TxRollback(_) => ((method::TX_ROLLBACK, method::TX_ROLLBACK_OK), Writer::new()),
            other => return Err(format!("{} is not for AMQP", other.name())),
        };
        self.call(at, ids, &arguments, error).await.map(drop)
    }

    async fn exchange_declare(&mut self, step: &ExchangeDeclare) -> Result<(), String> {
        let flags = [step.passive, step.durable.unwrap_or(true), step.auto_delete, step.internal, false];
        let kind = step.r#type.as_deref().unwrap_or(if step.passive { "" } else { "direct" });
        let arguments = Writer::new().short(0).shortstr(&step.exchange).shortstr(kind).octet(bits(&flags));
        let arguments = step.arguments.write(arguments);
        let ids = (method::EXCHANGE_DECLARE, method::EXCHANGE_DECLARE_OK);
        self.names.made_exchange(&step.exchange);
        self.call(&step.at, ids, &arguments, step.error.as_ref()).await.map(drop)
    }

    async fn queue_declare(&mut self, step: &QueueDeclare) -> Result<(), String> {
        let durable = step.durable.unwrap_or(!step.exclusive);
        let flags = [step.passive, durable, step.exclusive, step.auto_delete, false];
        let name = self.names.named(&step.queue)?;
        let arguments = step.arguments.write(Writer::new().short(0).shortstr(&name).octet(bits(&flags)));
        let ids = (method::QUEUE_DECLARE, method::QUEUE_DECLARE_OK);
        let Some(mut answer) = self.call(&step.at, ids, &arguments, step.error.as_ref()).await? else {
            return Ok(());
        };
        let (named, ready, consumers) = (answer.shortstr(), answer.long(), answer.long());
        self.names.made_queue(&named);
        if let Some(save) = &step.save {
            self.names.save(save, &named);
        }
        let right = match &step.named {
            Some(start) => named.starts_with(start.as_str()),
            None => name.is_empty() || named == name,
        };
        if !right {
            return Err(format!("the queue is named '{named}'"));
        }
        same("ready messages", step.ready, ready)?;
        same("consumers", step.consumers, consumers)
    }

    /// A method whose answer is a count.
    async fn counted(
        &mut self,
        at: &At,
        ids: (Id, Id),
        arguments: &Writer,
        error: Option<&Fault>,
        wanted: Option<u64>,
    ) -> Result<(), String> {
        match self.call(at, ids, arguments, error).await? {
            Some(mut answer) => same("messages", wanted, answer.long()),
            None => Ok(()),
        }
    }

    /// A method without an answer; where it is to be refused, the refusal.
    async fn settle(
        &mut self,
        at: &At,
        id: Id,
        arguments: &Writer,
        error: Option<&Fault>,
    ) -> Result<(), String> {
        self.channel(at).await?.wire.method(at.channel, id, arguments).await?;
        let Some(fault) = error else { return Ok(()) };
        let event = self.wire(at).await?.wire.answer(at.channel, &[]).await?;
        self.refused(at, event, fault, id).await
    }

    pub(super) async fn send(&mut self, step: &Send) -> Result<(), String> {
        let mut out = Writer::new();
        for argument in &step.arguments {
            out = match argument {
                Argument::Octet(value) => out.octet(*value),
                Argument::Short(value) => out.short(*value),
                Argument::Long(value) => out.long(*value),
                Argument::Longlong(value) => out.longlong(*value),
                Argument::Shortstr(text) => out.shortstr(text),
                Argument::Longstr(text) => out.longstr(text.as_bytes()),
                Argument::Table(table) => table.write(out),
            };
        }
        let at = &step.at;
        self.wire(at).await?.wire.method(at.channel, step.method, &out).await?;
        let Some(fault) = &step.error else { return Ok(()) };
        let event = self.wire(at).await?.wire.answer(at.channel, &[]).await?;
        self.refused(at, event, fault, step.method).await
    }

    pub(super) async fn frame(&mut self, step: &Frame) -> Result<(), String> {
        let payload = match step.payload_bytes {
            Some(count) => vec![b'x'; count],
            None => unhex(&step.payload)?,
        };
        let channel = step.channel.unwrap_or(step.at.channel);
        let mut frame = crate::amqp::codec::frame(step.kind, channel, &payload);
        if let (Some(end), Some(last)) = (step.end, frame.last_mut()) {
            *last = end;
        }
        let open = match step.channel {
            Some(_) => self.wire(&step.at).await?,
            None => self.channel(&step.at).await?,
        };
        open.wire.send(&frame).await?;
        let Some(fault) = &step.error else { return Ok(()) };
        let event = self.wire(&step.at).await?.wire.answer(channel, &[]).await?;
        self.refused(&step.at, event, fault, (0, 0)).await
    }

    /// A value in which "$name" is replaced.
    pub(super) fn named_headers(&self, table: &Table) -> Result<Table, String> {
        let entries = table.0.iter().map(|(name, value)| match value {
            Value::Text(text) => Ok((name.clone(), Value::Text(self.names.named(text)?))),
            other => Ok((name.clone(), other.clone())),
        });
        entries.collect::<Result<_, String>>().map(Table)
    }
}

fn exchanges(destination: &str, source: &str, key: &str, arguments: &Table) -> Writer {
    arguments.write(Writer::new().short(0).shortstr(destination).shortstr(source).shortstr(key).octet(0))
}

fn same(what: &str, wanted: Option<u64>, found: u32) -> Result<(), String> {
    match wanted {
        Some(wanted) if wanted != u64::from(found) => Err(format!("{found} {what}, not {wanted}")),
        _ => Ok(()),
    }
}
