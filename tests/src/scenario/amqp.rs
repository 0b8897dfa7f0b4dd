//! Does the steps of a scenario over AMQP, with frames of our own.

mod content;
mod expect;
mod handshake;
mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::access::{Access, Admin};
use super::came::Names;
use super::step::{At, Fault, Step};
use super::wire::{Event, PATIENCE, Wire};
use crate::amqp::codec::{Reader, Writer};
use crate::amqp::{Tune, method};

/// How long nothing must come for a scenario to believe that nothing comes.
const QUIET: Duration = Duration::from_millis(250);
/// How often something is asked for that is to come true sooner or later.
const POLL: Duration = Duration::from_millis(25);

/// One scenario over AMQP.
#[derive(Debug)]
pub(super) struct Run {
    port: u16,
    /// Where it runs; the scenarios say "/".
    vhost: String,
    access: Access,
    connections: BTreeMap<String, Open>,
    /// A connection that asks about queues and exchanges.
    asking: Option<Wire>,
    names: Names,
}

#[derive(Debug)]
struct Open {
    wire: Wire,
    channels: BTreeSet<u16>,
    frame_max: usize,
}

impl Run {
    pub(super) fn new(port: u16, vhost: &str, admin: Admin) -> Self {
        Self {
            port,
            vhost: vhost.into(),
            access: Access::new(admin, vhost),
            connections: BTreeMap::new(),
            asking: None,
            names: Names::default(),
        }
    }

    /// The broker is another process now.
    pub(super) fn restarted(&mut self, port: u16, admin: Admin) {
        self.port = port;
        self.access.restarted(admin);
        self.connections.clear();
        self.asking = None;
    }

    /// The broker stops now: a connection is told so, where the scenario says how; the others are dropped.
    pub(super) async fn left(&mut self, told: Option<(At, Fault)>) -> Result<(), String> {
        let Some((at, fault)) = told else {
            self.connections.clear();
            return Ok(());
        };
        let event = self.wire(&at).await?.wire.any(Instant::now() + PATIENCE).await?;
        let event = event.ok_or("the broker stops and says nothing")?;
        self.refused(&at, event, &fault, (0, 0)).await
    }

    pub(super) async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Connect(step) => self.connect(step).await,
            Step::Disconnect(step) => self.disconnect(step.at.clone(), step.abrupt).await,
            Step::ChannelOpen(step) => {
                self.wire(&step.at).await?;
                let arguments = Writer::new().shortstr("");
                let ids = (method::CHANNEL_OPEN, method::CHANNEL_OPEN_OK);
                self.call_raw(&step.at, ids, &arguments, step.error.as_ref()).await.map(drop)
            }
            Step::ChannelClose(step) => self.channel_close(step).await,
            Step::Publish(step) => self.publish(step).await,
            Step::Get(step) => self.get(step).await,
            Step::Send(step) => self.send(step).await,
            Step::Frame(step) => self.frame(step).await,
            Step::RawBytes(step) => {
                let bytes = super::value::unhex(&step.hex)?;
                self.wire(&step.at).await?.wire.send(&bytes).await
            }
            Step::Wait(step) => {
                tokio::time::sleep(Duration::from_millis(step.ms)).await;
                Ok(())
            }
            Step::UserAdd(_) | Step::VhostAdd(_) | Step::Permissions(_) | Step::TopicPermissions(_) => {
                self.access.step(step).await
            }
            Step::Restart(_) | Step::Kill(_) => Err("the runner does that".into()),
            other if other.name().starts_with("expect.") || other.name() == "quiet" => {
                self.expect(other).await
            }
            other => self.request(other).await,
        }
    }

    /// At the end nothing may have come that nobody expected.
    pub(super) async fn finish(&mut self) -> Result<(), String> {
        for (name, open) in &mut self.connections {
            // What is on its way already; what is late is for `quiet` to see.
            if let Some(event) = open.wire.any(Instant::now() + Duration::from_millis(1)).await? {
                return Err(format!("on connection {name} came something that no step expects: {event:?}"));
            }
        }
        Ok(())
    }

    /// Ends the connections, and removes what was made.
    pub(super) async fn clean_up(&mut self) -> Result<(), String> {
        self.connections.clear();
        self.asking = None;
        self.access.clean_up().await?;
        if self.names.queues.is_empty() && self.names.exchanges.is_empty() {
            return Ok(());
        }
        let mut wire = self.open(Tune::default()).await?;
        wire.method(1, method::CHANNEL_OPEN, &Writer::new().shortstr("")).await?;
        wire.answer(1, &[method::CHANNEL_OPEN_OK]).await?;
        for queue in std::mem::take(&mut self.names.queues) {
            let arguments = Writer::new().short(0).shortstr(&queue).octet(0);
            // One that is exclusive to a connection that just ended goes by itself.
            for _ in 0..100 {
                wire.method(1, method::QUEUE_DELETE, &arguments).await?;
                match wire.answer(1, &[method::QUEUE_DELETE_OK]).await? {
                    Event::Closed { channel: 1, code: 405, .. } => {
                        wire.method(1, method::CHANNEL_OPEN, &Writer::new().shortstr("")).await?;
                        wire.answer(1, &[method::CHANNEL_OPEN_OK]).await?;
                        tokio::time::sleep(POLL).await;
                    }
                    Event::Method { .. } => break,
                    other => return Err(format!("queue '{queue}' cannot be deleted: {other:?}")),
                }
            }
        }
        for exchange in std::mem::take(&mut self.names.exchanges) {
            let arguments = Writer::new().short(0).shortstr(&exchange).octet(0);
            wire.method(1, request::EXCHANGE_DELETE.0, &arguments).await?;
            match wire.answer(1, &[request::EXCHANGE_DELETE.1]).await? {
                Event::Method { .. } => {}
                other => return Err(format!("exchange '{exchange}' cannot be deleted: {other:?}")),
            }
        }
        Ok(())
    }

    /// The connection, opened when it is used for the first time.
    async fn wire(&mut self, at: &At) -> Result<&mut Open, String> {
        if !self.connections.contains_key(&at.connection) {
            let wire = self.open(Tune::default()).await?;
            let open = Open { wire, channels: BTreeSet::new(), frame_max: 131_072 };
            self.connections.insert(at.connection.clone(), open);
        }
        self.connections.get_mut(&at.connection).ok_or_else(|| "no connection".into())
    }

    /// The connection with the channel open.
    async fn channel(&mut self, at: &At) -> Result<&mut Open, String> {
        let open = self.wire(at).await?;
        if open.channels.insert(at.channel) {
            let arguments = Writer::new().shortstr("");
            open.wire.method(at.channel, method::CHANNEL_OPEN, &arguments).await?;
            match open.wire.answer(at.channel, &[method::CHANNEL_OPEN_OK]).await? {
                Event::Method { .. } => {}
                other => return Err(format!("channel {} cannot be opened: {other:?}", at.channel)),
            }
        }
        Ok(open)
    }

    /// Sends a method on an open channel; its answer's arguments, unless it is to be refused.
    async fn call(
        &mut self,
        at: &At,
        ids: (method::Id, method::Id),
        arguments: &Writer,
        error: Option<&Fault>,
    ) -> Result<Option<Reader>, String> {
        self.channel(at).await?;
        self.call_raw(at, ids, arguments, error).await
    }

    async fn call_raw(
        &mut self,
        at: &At,
        (asked, answer): (method::Id, method::Id),
        arguments: &Writer,
        error: Option<&Fault>,
    ) -> Result<Option<Reader>, String> {
        let open = self.wire(at).await?;
        open.wire.method(at.channel, asked, arguments).await?;
        if answer == method::CHANNEL_OPEN_OK {
            open.channels.insert(at.channel);
        }
        let event = open.wire.answer(at.channel, &[answer]).await?;
        match (event, error) {
            (Event::Method { arguments, .. }, None) => Ok(Some(arguments)),
            (event, Some(fault)) => {
                let fault = fault.clone();
                self.refused(at, event, &fault, asked).await.map(|()| None)
            }
            (event, None) => Err(format!("it was to be done, but there came {}", told(&event))),
        }
    }

    /// Asserts that the channel or the connection was closed so; and a connection's socket ends then.
    async fn refused(
        &mut self,
        at: &At,
        event: Event,
        fault: &Fault,
        failed: method::Id,
    ) -> Result<(), String> {
        let vhost = format!("vhost '{}'", self.vhost);
        let Event::Closed { channel, code, text, failing } = &event else {
            return Err(format!(
                "it was to be refused with {} {}, but there came {}",
                fault.code,
                fault.text,
                told(&event)
            ));
        };
        let scope = if fault.ends_connection() { 0 } else { at.channel };
        let name = fault.name().unwrap_or_default();
        let text = self.access.as_said(&text.replace(&vhost, "vhost '/'"));
        let explanation = text.strip_prefix(name).and_then(|rest| rest.strip_prefix(" - "));
        let explained = explanation.is_some_and(|explanation| self.access.explains(fault, explanation));
        if *code != fault.code || *channel != scope || !explained {
            let wanted = format!("{} {name} - {} on channel {scope}", fault.code, fault.text);
            return Err(format!("refused with {code} {text} on channel {channel}, not {wanted}"));
        }
        if *failing != failed {
            return Err(format!("the failing method is {failing:?}, not {failed:?}"));
        }
        if scope == 0 {
            let Some(mut open) = self.connections.remove(&at.connection) else { return Ok(()) };
            return match open.wire.any(Instant::now() + PATIENCE).await? {
                Some(Event::Ended) => Ok(()),
                Some(other) => Err(format!("after the close of the connection came {}", told(&other))),
                None => Err("the socket does not end after the close of the connection".into()),
            };
        }
        if let Some(open) = self.connections.get_mut(&at.connection) {
            open.channels.remove(&at.channel);
        }
        Ok(())
    }
}

/// An event in the words of a report.
fn told(event: &Event) -> String {
    match event {
        Event::Closed { channel, code, text, .. } => format!("{code} {text} on channel {channel}"),
        Event::Ended => "the end of the socket".into(),
        Event::Confirm { tag, ack, .. } => format!("a confirm of {tag}, ack {ack}"),
        Event::Method { channel, id, .. } => format!("method {id:?} on channel {channel}"),
        Event::Content { channel, id, body, .. } => format!("content {id:?} {body:?} on channel {channel}"),
    }
}
