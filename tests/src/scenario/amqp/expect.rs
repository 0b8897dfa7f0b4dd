//! Steps that only look.

use std::time::Duration;

use tokio::time::Instant;

use super::{POLL, QUIET, Run, told};
use crate::amqp::codec::{Reader, Writer};
use crate::amqp::{Tune, method};
use crate::scenario::came::Came;
use crate::scenario::step::{At, Content, ExpectConfirms, ExpectQueue, Step};
use crate::scenario::value::unhex;
use crate::scenario::wire::{Event, PATIENCE};

impl Run {
    pub(super) async fn expect(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::ExpectDeliver(step) => {
                for body in &step.bodies {
                    let expected = Content { body: Some(body.clone()), ..step.content.clone() };
                    let came = self.content(&step.at, method::BASIC_DELIVER).await?;
                    came.is(&expected, &mut self.names)?;
                }
                if !step.bodies.is_empty() {
                    return Ok(());
                }
                let came = self.content(&step.at, method::BASIC_DELIVER).await?;
                came.is(&step.content, &mut self.names)
            }
            Step::ExpectReturn(step) => {
                let came = self.content(&step.at, method::BASIC_RETURN).await?;
                let (code, text) = (step.code.unwrap_or(312), step.text.as_deref().unwrap_or("NO_ROUTE"));
                if came.returned.as_ref().is_none_or(|returned| (returned.0, &*returned.1) != (code, text)) {
                    return Err(format!("returned with {:?}", came.returned));
                }
                came.is(&step.content, &mut self.names)
            }
            Step::ExpectConfirm(step) => match self.next(&step.at).await? {
                Event::Confirm { tag, ack, .. } if tag == step.tag && ack == (step.is == "ack") => Ok(()),
                other => Err(format!("not a confirm of {} by {}, but {}", step.tag, step.is, told(&other))),
            },
            Step::ExpectConfirms(step) => self.confirms(step).await,
            Step::ExpectCancel(step) => match self.next(&step.at).await? {
                Event::Method { id: (60, 30), mut arguments, .. } => {
                    let tag = arguments.shortstr();
                    if tag == step.tag { Ok(()) } else { Err(format!("consumer '{tag}' is cancelled")) }
                }
                other => Err(format!("not basic.cancel, but {}", told(&other))),
            },
            Step::ExpectMethod(step) => match self.next(&step.at).await? {
                Event::Method { id, .. } if id == step.method => Ok(()),
                other => Err(format!("not method {:?}, but {}", step.method, told(&other))),
            },
            Step::ExpectClose(step) => {
                let event = self.next(&step.at).await?;
                let fault = step.error.as_ref().ok_or("expect.close needs error")?;
                self.refused(&step.at, event, fault, step.method).await
            }
            Step::ExpectEnd(step) => {
                let patience = step.within_ms.map_or(PATIENCE, Duration::from_millis);
                let open = self.wire(&step.at).await?;
                let ended = match open.wire.any(Instant::now() + patience).await? {
                    Some(Event::Ended) => Ok(()),
                    Some(other) => Err(format!("not the end of the socket, but {}", told(&other))),
                    None => Err(format!("the socket does not end in {patience:?}")),
                };
                self.connections.remove(&step.at.connection);
                ended
            }
            Step::ExpectBytes(step) => {
                let rest = self.wire(&step.at).await?.wire.connection.rest().await;
                self.connections.remove(&step.at.connection);
                let rest = rest.map_err(|error| error.to_string())?;
                if rest[..] == unhex(&step.hex)? { Ok(()) } else { Err(format!("there came {rest:?}")) }
            }
            Step::ExpectHeartbeat(step) => {
                let until = Instant::now() + Duration::from_millis(step.within_ms);
                let open = self.wire(&step.at).await?;
                let before = open.wire.heartbeats;
                while open.wire.heartbeats == before {
                    if !open.wire.read(until).await? {
                        return Err(format!("no heartbeat in {} ms", step.within_ms));
                    }
                }
                Ok(())
            }
            Step::ExpectQueue(step) => self.expect_queue(step).await,
            Step::ExpectExchange(step) => {
                let declare = (method::EXCHANGE_DECLARE, method::EXCHANGE_DECLARE_OK);
                let arguments =
                    Writer::new().short(0).shortstr(&step.exchange).shortstr("direct").octet(1).longstr(&[]);
                let until = Instant::now() + PATIENCE;
                while self.ask(declare, &arguments).await?.is_none() != step.gone {
                    if Instant::now() > until {
                        return Err(format!("exchange '{}': gone is not {}", step.exchange, step.gone));
                    }
                    tokio::time::sleep(POLL).await;
                }
                Ok(())
            }
            Step::Quiet(step) => {
                let until = Instant::now() + step.ms.map_or(QUIET, Duration::from_millis);
                match self.wire(&step.at).await?.wire.any(until).await? {
                    None => Ok(()),
                    Some(event) => Err(format!("nothing was to come, but there came {}", told(&event))),
                }
            }
            other => Err(format!("{} is not for AMQP", other.name())),
        }
    }

    async fn next(&mut self, at: &At) -> Result<Event, String> {
        let until = Instant::now() + PATIENCE;
        let event = self.wire(at).await?.wire.next(at.channel, until).await?;
        event.ok_or_else(|| format!("nothing came in {PATIENCE:?}"))
    }

    async fn content(&mut self, at: &At, wanted: method::Id) -> Result<Came, String> {
        match self.next(at).await? {
            Event::Content { id, arguments, properties, body, .. } if id == wanted => {
                Ok(Came::read(id, arguments, *properties, body))
            }
            other => Err(format!("not content {wanted:?}, but {}", told(&other))),
        }
    }

    async fn confirms(&mut self, step: &ExpectConfirms) -> Result<(), String> {
        let at = &step.at;
        let wanted =
            step.acks.iter().map(|tag| (*tag, true)).chain(step.nacks.iter().map(|tag| (*tag, false)));
        for (tag, wanted) in wanted {
            match self.wire(at).await?.wire.confirm(at.channel, tag).await? {
                Event::Confirm { ack, .. } if ack == wanted => {}
                other => return Err(format!("confirm of {tag}, ack {wanted}: there came {}", told(&other))),
            }
        }
        Ok(())
    }

    async fn expect_queue(&mut self, step: &ExpectQueue) -> Result<(), String> {
        let declare = (method::QUEUE_DECLARE, method::QUEUE_DECLARE_OK);
        let arguments =
            Writer::new().short(0).shortstr(&self.names.named(&step.queue)?).octet(1).longstr(&[]);
        let until = Instant::now() + step.within_ms.map_or(PATIENCE, Duration::from_millis);
        loop {
            let found = self.ask(declare, &arguments).await?.map(|mut answer| {
                answer.shortstr();
                (u64::from(answer.long()), u64::from(answer.long()))
            });
            let right = match found {
                None => step.gone,
                Some((ready, consumers)) => {
                    !step.gone
                        && step.ready.is_none_or(|wanted| wanted == ready)
                        && step.consumers.is_none_or(|wanted| wanted == consumers)
                }
            };
            if right {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("queue '{}' has (ready, consumers) {found:?}", step.queue));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks on a connection of its own; None when it is not found.
    async fn ask(
        &mut self,
        ids: (method::Id, method::Id),
        arguments: &Writer,
    ) -> Result<Option<Reader>, String> {
        let mut wire = match self.asking.take() {
            Some(wire) => wire,
            None => self.open(Tune::default()).await?,
        };
        wire.method(1, method::CHANNEL_OPEN, &Writer::new().shortstr("")).await?;
        wire.answer(1, &[method::CHANNEL_OPEN_OK]).await?;
        wire.method(1, ids.0, arguments).await?;
        let answer = match wire.answer(1, &[ids.1]).await? {
            Event::Method { arguments, .. } => {
                let close = Writer::new().short(200).shortstr("bye").short(0).short(0);
                wire.method(1, method::CHANNEL_CLOSE, &close).await?;
                wire.answer(1, &[method::CHANNEL_CLOSE_OK]).await?;
                Some(arguments)
            }
            Event::Closed { channel: 1, code: 404, .. } => None,
            other => return Err(format!("asked about it, there came {}", told(&other))),
        };
        self.asking = Some(wire);
        Ok(answer)
    }
}
