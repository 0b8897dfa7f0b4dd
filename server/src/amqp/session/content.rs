//! basic.publish with its content: AMQP 0-9-1, section 4.2.6. Bodies are gathered whole, in bounded memory.

use std::sync::Arc;

use bytes::Bytes;
use leveret_broker::{Input, Publish, PublishExtras};
use leveret_engine::BodyBuffer;

use super::channel::Channel;
use super::{BASIC, HALF_SENT_BYTES_MAX, Session, failed, unexpected};
use crate::amqp::frame::CONTENT_HEAD_BYTES;
use crate::amqp::reply_code::{Failure, ReplyCode};
use crate::publish_in::{self, Accepted, publish_cost_bytes};

/// Room made for a body that has only been announced; the rest grows with what comes...
const BODY_START_BYTES: usize = 256 * 1024;
/// ...to so many times of that: what is never filled is never touched, and takes no memory, but each growth copies all.
const GROWTH: usize = 8;

/// A publish whose content is coming in.
#[derive(Debug)]
pub(super) struct Content {
    exchange: Arc<str>,
    routing_key: Arc<str>,
    mandatory: bool,
    /// Once the header has come.
    header: Option<Header>,
    body: BodyBuffer,
    /// When the method came.
    since_ms: u64,
}

#[derive(Debug)]
struct Header {
    properties: Bytes,
    persistent: bool,
    extras: Option<Box<PublishExtras>>,
    body_bytes: u64,
}

impl Content {
    /// A frame came in the middle that is not its next one. In RabbitMQ's words.
    pub(super) fn interrupted(&self) -> Failure {
        let text = match self.header {
            Some(_) => "expected content body, got non content body frame instead".to_owned(),
            None => {
                format!("expected content header for class {BASIC}, got non content header frame instead")
            }
        };
        Failure::new(ReplyCode::UnexpectedFrame, text, PUBLISH)
    }

    /// What it counts among half-sent bodies.
    pub(super) fn held_bytes(&self) -> u64 {
        self.body.len() as u64
    }
}

const PUBLISH: (u16, u16) = (60, 40);
const NOT_A_METHOD: &str = "expected method frame, got non method frame instead";

impl Session {
    pub(super) fn publish(
        &mut self,
        number: u16,
        exchange: &str,
        routing_key: &str,
        mandatory: bool,
        immediate: bool,
    ) -> Result<(), Failure> {
        if immediate {
            return Err(failed(ReplyCode::NotImplemented, "immediate=true"));
        }
        let (exchange, routing_key) = (self.exchange.share(exchange), self.routing_key.share(routing_key));
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        let (header, body, since_ms) = (None, BodyBuffer::default(), self.times.now_ms());
        channel.content = Some(Content { exchange, routing_key, mandatory, header, body, since_ms });
        Ok(())
    }

    pub(super) fn content_header(&mut self, number: u16, payload: &[u8]) -> Result<(), Failure> {
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        let content = match channel.content.as_mut() {
            None => return Err(unexpected(NOT_A_METHOD)),
            Some(content) if content.header.is_some() => return Err(content.interrupted()),
            Some(content) => content,
        };
        let Some((head, properties)) = payload.split_first_chunk::<CONTENT_HEAD_BYTES>() else {
            let text = format!("a content header of {} bytes is too short", payload.len());
            return Err(Failure::new(ReplyCode::FrameError, text, PUBLISH));
        };
        let [c0, c1, _, _, size @ ..] = *head;
        let (class, body_bytes) = (u16::from_be_bytes([c0, c1]), u64::from_be_bytes(size));
        if class != BASIC {
            let text =
                format!("expected content header for class {BASIC}, got one for class {class} instead");
            return Err(Failure::new(ReplyCode::UnexpectedFrame, text, PUBLISH));
        }
        let most = self.settings.message_bytes_max;
        if body_bytes > most {
            let text = format!("message size {body_bytes} is larger than configured max size {most}");
            return Err(Failure::new(ReplyCode::PreconditionFailed, text, PUBLISH));
        }
        let Accepted { properties, persistent, extras } = publish_in::accept(
            publish_in::copy_properties(properties),
            publish_in::Sender { reply_to: Some(channel.reply_to.as_deref()) },
        )
        .map_err(|refused| match refused {
            publish_in::Refused::Malformed(error) => {
                Failure::new(ReplyCode::SyntaxError, error.to_string(), PUBLISH)
            }
            publish_in::Refused::Refusal(refusal) => Failure::refused(refusal, PUBLISH),
        })?;
        content.header = Some(Header { properties, persistent, extras, body_bytes });
        if body_bytes == 0 {
            self.content_complete(number, Bytes::new());
        }
        Ok(())
    }

    pub(super) fn content_body(&mut self, number: u16, payload: &[u8]) -> Result<(), Failure> {
        let half_sent_max = HALF_SENT_BYTES_MAX.max(2 * self.settings.message_bytes_max);
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        let Some((content, header)) =
            channel.content.as_mut().and_then(|content| Some((&mut content.body, content.header.as_ref()?)))
        else {
            return Err(channel
                .content
                .as_ref()
                .map_or_else(|| unexpected(NOT_A_METHOD), Content::interrupted));
        };
        let body_bytes = header.body_bytes;
        let missing = body_bytes - content.len() as u64;
        let size = payload.len() as u64;
        if size > missing {
            let text = format!("content body of {size} bytes, the header promised {missing} more");
            return Err(Failure::new(ReplyCode::FrameError, text, PUBLISH));
        }
        if size == missing {
            let body = if content.is_empty() {
                Bytes::copy_from_slice(payload)
            } else {
                let mut whole = std::mem::take(content);
                self.half_sent_bytes -= whole.len() as u64;
                grow(&mut whole, payload, body_bytes);
                whole.into_bytes()
            };
            self.content_complete(number, body);
            return Ok(());
        }
        grow(content, payload, body_bytes);
        self.half_sent_bytes += size;
        if self.half_sent_bytes > half_sent_max {
            let text = format!("more than {half_sent_max} bytes of half-sent messages on one connection");
            return Err(Failure::new(ReplyCode::ResourceError, text, PUBLISH));
        }
        Ok(())
    }

    /// Bytes of bodies that are not whole, and when the oldest of them began.
    pub fn half_sent(&self) -> Option<(u64, u64)> {
        if self.half_sent_bytes == 0 {
            return None;
        }
        let contents = self.channels.values().filter_map(|channel| channel.content.as_ref());
        let begun = contents.filter(|content| content.held_bytes() > 0).map(|content| content.since_ms);
        Some((self.half_sent_bytes, begun.min()?))
    }

    /// What this connection has sent in part has to go, and the connection with it.
    pub fn evict_half_sent(&mut self, bytes_max: u64) {
        let text = format!(
            "half-sent messages of all connections take more than {bytes_max} bytes, and this connection's are the oldest"
        );
        self.close_connection(Failure::new(ReplyCode::ResourceError, text, PUBLISH));
    }

    fn content_complete(&mut self, number: u16, body: Bytes) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let Some(Content { exchange, routing_key, mandatory, header: Some(header), .. }) =
            channel.content.take()
        else {
            return;
        };
        let Header { properties, persistent, extras, .. } = header;
        let publish =
            Publish { exchange, routing_key, mandatory, persistent, properties, body, blob: None, extras };
        self.for_core.publish_bytes += publish_cost_bytes(&publish);
        channel.published += 1;
        channel.unheard = true;
        let (chan, tag) = (channel.chan, channel.published);
        let vhost = self.publish_vhost.share(&self.vhost);
        self.for_core.inputs.push(Input::Publish { chan, tag, vhost, publish });
    }

    pub(super) fn drop_content(&mut self, channel: &mut Channel) {
        if let Some(content) = channel.content.take() {
            self.half_sent_bytes -= content.held_bytes();
        }
    }
}

/// Appends, with no more room than the whole body needs, and not beyond all measure of what has come.
fn grow(body: &mut BodyBuffer, part: &[u8], body_bytes: u64) {
    let needed = body.len() + part.len();
    if needed > body.room() {
        let room = needed.saturating_mul(GROWTH).max(BODY_START_BYTES);
        body.make_room(room.min(usize::try_from(body_bytes).unwrap_or(usize::MAX)));
    }
    body.extend(part);
}
