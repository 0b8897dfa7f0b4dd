//! One AMQP connection as a scenario sees it: what comes is kept in the order in which it came, contents as a whole,
//! confirms one by one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout_at};

use super::properties::Properties;
use crate::amqp::codec::{BODY, Frame, HEADER, HEARTBEAT, METHOD, Reader, Writer};
use crate::amqp::{Connection, Error, method};

/// How long anything may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// What came.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A method without content.
    Method { channel: u16, id: method::Id, arguments: Reader },
    /// basic.deliver, basic.get-ok or basic.return with its message.
    Content { channel: u16, id: method::Id, arguments: Reader, properties: Box<Properties>, body: Bytes },
    /// One publish is confirmed.
    Confirm { channel: u16, tag: u64, ack: bool },
    /// channel.close, or connection.close (channel 0); it is answered already.
    Closed { channel: u16, code: u16, text: String, failing: method::Id },
    /// The socket ended.
    Ended,
}

impl Event {
    /// The channel; 0 is the connection.
    pub(super) fn channel(&self) -> u16 {
        match *self {
            Self::Method { channel, .. }
            | Self::Content { channel, .. }
            | Self::Confirm { channel, .. }
            | Self::Closed { channel, .. } => channel,
            Self::Ended => 0,
        }
    }

    /// Class and method.
    fn id(&self) -> Option<method::Id> {
        match self {
            Self::Method { id, .. } | Self::Content { id, .. } => Some(*id),
            _ => None,
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) connection: Connection,
    pub(super) heartbeats: u64,
    events: VecDeque<Event>,
    /// Contents that are not whole.
    begun: BTreeMap<u16, Begun>,
    /// Publishes of each channel in confirm mode that are not confirmed.
    unconfirmed: BTreeMap<u16, (u64, Vec<u64>)>,
    ended: bool,
}

#[derive(Debug)]
struct Begun {
    id: method::Id,
    arguments: Reader,
    properties: Option<Properties>,
    missing: u64,
    body: BytesMut,
}

impl Wire {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            heartbeats: 0,
            events: VecDeque::new(),
            begun: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            ended: false,
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.connection.send(bytes).await.map_err(|error| format!("the socket does not take it: {error}"))
    }

    pub(super) async fn method(
        &mut self,
        channel: u16,
        id: method::Id,
        arguments: &Writer,
    ) -> Result<(), String> {
        self.send(&crate::amqp::codec::method(channel, id, arguments)).await
    }

    /// The channel counts its publishes from now on.
    pub(super) fn confirms(&mut self, channel: u16) {
        self.unconfirmed.entry(channel).or_default();
    }

    /// The channel is closed: what was published on it is not confirmed any more.
    pub(super) fn forget(&mut self, channel: u16) {
        self.unconfirmed.remove(&channel);
        self.begun.remove(&channel);
    }

    /// Counts a publish: its tag, where there are confirms.
    pub(super) fn published(&mut self, channel: u16) -> Option<u64> {
        let (last, unconfirmed) = self.unconfirmed.get_mut(&channel)?;
        *last += 1;
        unconfirmed.push(*last);
        Some(*last)
    }

    /// The next event of the channel, or of the connection as a whole. None when nothing comes in time.
    pub(super) async fn next(&mut self, channel: u16, until: Instant) -> Result<Option<Event>, String> {
        self.first(until, |event| event.channel() == channel || event.channel() == 0).await
    }

    /// The answer on a channel; what comes before it stays. Or the end of the channel or of the connection.
    pub(super) async fn answer(&mut self, channel: u16, ids: &[method::Id]) -> Result<Event, String> {
        let answers = |event: &Event| match event {
            Event::Closed { channel: closed, .. } => *closed == channel || *closed == 0,
            Event::Ended => true,
            other => other.channel() == channel && other.id().is_some_and(|id| ids.contains(&id)),
        };
        let event = self.first(Instant::now() + PATIENCE, answers).await?;
        event.ok_or_else(|| format!("no answer in {PATIENCE:?}"))
    }

    /// The confirm of a publish, wherever it stands.
    pub(super) async fn confirm(&mut self, channel: u16, number: u64) -> Result<Event, String> {
        let about = |event: &Event| match event {
            Event::Confirm { channel: on, tag, .. } => *on == channel && *tag == number,
            Event::Closed { channel: closed, .. } => *closed == channel || *closed == 0,
            other => matches!(other, Event::Ended),
        };
        let event = self.first(Instant::now() + PATIENCE, about).await?;
        event.ok_or_else(|| format!("no confirm in {PATIENCE:?}"))
    }

    /// Any event.
    pub(super) async fn any(&mut self, until: Instant) -> Result<Option<Event>, String> {
        self.first(until, |_| true).await
    }

    async fn first(
        &mut self,
        until: Instant,
        mut wanted: impl FnMut(&Event) -> bool,
    ) -> Result<Option<Event>, String> {
        let mut seen = 0;
        loop {
            while seen < self.events.len() {
                if wanted(&self.events[seen]) {
                    return Ok(self.events.remove(seen));
                }
                seen += 1;
            }
            if self.ended || !self.read(until).await? {
                return Ok(None);
            }
        }
    }

    /// Takes one frame; false when none comes in time.
    pub(super) async fn read(&mut self, until: Instant) -> Result<bool, String> {
        match timeout_at(until, self.connection.frame()).await {
            Err(_) | Ok(Err(Error::Timeout)) => return Ok(false),
            Ok(Ok(frame)) => self.take(frame).await?,
            Ok(Err(Error::Ended | Error::Io(_))) => {
                self.ended = true;
                self.events.push_back(Event::Ended);
            }
            Ok(Err(error)) => return Err(format!("not AMQP: {error}")),
        }
        Ok(true)
    }

    async fn take(&mut self, frame: Frame) -> Result<(), String> {
        match frame.kind {
            HEARTBEAT => self.heartbeats += 1,
            METHOD => self.take_method(&frame).await,
            HEADER => {
                let Some(begun) = self.begun.get_mut(&frame.channel) else {
                    return Err("a content header without its method".into());
                };
                let mut reader = Reader::new(frame.payload.clone());
                reader.long();
                begun.missing = reader.longlong();
                let properties = Properties::read(frame.payload.slice(12..));
                begun.properties = Some(properties.ok_or("properties that cannot be read")?);
                self.whole(frame.channel);
            }
            BODY => {
                let Some(begun) = self.begun.get_mut(&frame.channel).filter(|begun| begun.missing > 0) else {
                    return Err("a body that was not announced".into());
                };
                let left = begun.missing.checked_sub(frame.payload.len() as u64);
                begun.missing = left.ok_or("a body that is larger than was announced")?;
                begun.body.extend_from_slice(&frame.payload);
                self.whole(frame.channel);
            }
            kind => return Err(format!("a frame of kind {kind}")),
        }
        Ok(())
    }

    async fn take_method(&mut self, frame: &Frame) {
        let (channel, mut arguments) = (frame.channel, frame.arguments());
        let id = frame.method().unwrap_or_default();
        match id {
            method::BASIC_DELIVER | method::BASIC_GET_OK | method::BASIC_RETURN => {
                let body = BytesMut::new();
                let begun = Begun { id, arguments, properties: None, missing: 0, body };
                self.begun.insert(channel, begun);
            }
            method::BASIC_ACK | method::BASIC_NACK => {
                let (tag, multiple, ack) =
                    (arguments.longlong(), arguments.octet() & 1 != 0, id == method::BASIC_ACK);
                let (_, unconfirmed) = self.unconfirmed.entry(channel).or_default();
                let covers = |other: &mut u64| *other == tag || multiple && *other < tag;
                let covered: Vec<u64> = unconfirmed.extract_if(.., covers).collect();
                if covered.is_empty() {
                    // Twice, or of a publish that never was: nobody expects it, and so it is seen.
                    self.events.push_back(Event::Method { channel, id, arguments });
                }
                self.events.extend(covered.into_iter().map(|tag| Event::Confirm { channel, tag, ack }));
            }
            method::CHANNEL_CLOSE | method::CONNECTION_CLOSE => {
                let answer = match id {
                    method::CHANNEL_CLOSE => method::CHANNEL_CLOSE_OK,
                    _ => method::CONNECTION_CLOSE_OK,
                };
                // The other side may not wait for it.
                let _ = self.method(channel, answer, &Writer::new()).await;
                let (code, text) = (arguments.short(), arguments.shortstr());
                let failing = (arguments.short(), arguments.short());
                self.forget(channel);
                self.events.push_back(Event::Closed { channel, code, text, failing });
            }
            _ => self.events.push_back(Event::Method { channel, id, arguments }),
        }
    }

    fn whole(&mut self, channel: u16) {
        if self.begun.get(&channel).is_some_and(|begun| begun.missing > 0) {
            return;
        }
        let Some(Begun { id, arguments, properties, body, .. }) = self.begun.remove(&channel) else { return };
        let (properties, body) = (Box::new(properties.unwrap_or_default()), body.freeze());
        self.events.push_back(Event::Content { channel, id, arguments, properties, body });
    }
}
