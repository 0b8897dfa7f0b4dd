//! Steps that carry messages: publish, get; and what is compared of a message that comes.

use bytes::Bytes;

use super::{Run, told};
use crate::amqp::codec::{self, BODY, OVERHEAD, Reader, Writer};
use crate::amqp::{calls, method};
use crate::scenario::came::Came;
use crate::scenario::properties::Properties;
use crate::scenario::step::{Get, Publish};
use crate::scenario::wire::Event;

impl Came {
    /// From a method's arguments and its content.
    pub(super) fn read(id: method::Id, mut from: Reader, properties: Properties, body: Bytes) -> Self {
        let returned = (id == method::BASIC_RETURN).then(|| (from.short(), from.shortstr()));
        let consumer = (id == method::BASIC_DELIVER).then(|| from.shortstr());
        let tag = (id != method::BASIC_RETURN).then(|| from.longlong());
        let redelivered = (id != method::BASIC_RETURN).then(|| from.octet() != 0);
        let (exchange, key) = (from.shortstr(), from.shortstr());
        let left = (id == method::BASIC_GET_OK).then(|| from.long().into());
        Self { tag, redelivered, consumer, exchange, key, left, returned, properties, body }
    }
}

impl Run {
    pub(super) async fn publish(&mut self, step: &Publish) -> Result<(), String> {
        let mut bodies: Vec<Vec<u8>> = step.bodies.iter().map(|body| body.clone().into_bytes()).collect();
        if let Some(count) = step.body_bytes {
            bodies.push(vec![b'x'; count]);
        }
        if bodies.is_empty() {
            bodies.push(step.body.clone().into_bytes());
        }
        let mut properties = step.properties.clone();
        let mode = if step.persistent.unwrap_or(true) { 2 } else { 1 };
        properties.delivery_mode = properties.delivery_mode.or(Some(mode));
        if let Some(reply_to) = &properties.reply_to {
            properties.reply_to = Some(self.names.named(reply_to)?);
        }
        if let Some(headers) = &properties.headers {
            properties.headers = Some(self.named_headers(headers)?);
        }
        let properties = properties.write();
        let (at, key) = (&step.at, self.names.named(&step.key)?);
        let flags = u8::from(step.mandatory) | u8::from(step.immediate) << 1;
        let arguments = Writer::new().short(0).shortstr(&step.exchange).shortstr(&key).octet(flags);
        let open = self.channel(at).await?;
        let part = open.frame_max - OVERHEAD;
        let mut tags = Vec::new();
        for body in &bodies {
            let mut out = codec::method(at.channel, method::BASIC_PUBLISH, &arguments);
            out.extend(calls::header(at.channel, body.len() as u64, &properties));
            for chunk in body.chunks(part) {
                out.extend(codec::frame(BODY, at.channel, chunk));
            }
            open.wire.send(&out).await?;
            tags.extend(open.wire.published(at.channel));
        }
        if let Some(fault) = &step.error {
            let event = open.wire.answer(at.channel, &[]).await?;
            return self.refused(at, event, fault, method::BASIC_PUBLISH).await;
        }
        let Some(wanted) = &step.confirm else { return Ok(()) };
        if tags.is_empty() {
            return Err("there are no confirms without confirm.select".into());
        }
        for tag in tags {
            match open.wire.confirm(at.channel, tag).await? {
                Event::Confirm { ack, .. } if (wanted == "ack") == ack => {}
                other => {
                    return Err(format!(
                        "publish {tag} was to be confirmed by {wanted}; there came {}",
                        told(&other)
                    ));
                }
            }
        }
        Ok(())
    }

    pub(super) async fn get(&mut self, step: &Get) -> Result<(), String> {
        let at = &step.at;
        let arguments =
            Writer::new().short(0).shortstr(&self.names.named(&step.queue)?).octet(step.no_ack.into());
        let open = self.channel(at).await?;
        open.wire.method(at.channel, method::BASIC_GET, &arguments).await?;
        let answers = [method::BASIC_GET_OK, method::BASIC_GET_EMPTY];
        let event = open.wire.answer(at.channel, &answers).await?;
        match (event, &step.expect, &step.error) {
            (event, _, Some(fault)) => self.refused(at, event, fault, method::BASIC_GET).await,
            (Event::Method { .. }, None, None) => Ok(()),
            (Event::Content { id, arguments, properties, body, .. }, Some(expected), None) => {
                Came::read(id, arguments, *properties, body).is(expected, &mut self.names)
            }
            (Event::Method { .. }, Some(expected), None) => {
                Err(format!("the queue is empty, where {expected:?} was to be"))
            }
            (event, _, None) => Err(format!("there came {}", told(&event))),
        }
    }
}
