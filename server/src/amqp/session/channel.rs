//! A channel: opening, the backlog behind a request, and which of its frames may come when.

use std::collections::VecDeque;
use std::sync::Arc;

use leveret_broker::{ChanId, Input, Op};

use super::answer::{Answer, Asked};
use super::content::Content;
use super::{Phase, Session, decode, failed, unexpected};
use crate::amqp::frame::Kind;
use crate::amqp::method::Method;
use crate::amqp::reply_code::{Failure, ReplyCode};

/// A channel of the client's.
#[derive(Debug)]
pub(super) struct Channel {
    /// Its name in the core.
    pub(super) chan: ChanId,
    /// We have closed it; only close and close-ok are heard.
    pub(super) closing: bool,
    /// The request that the channel waits for.
    pub(super) asked: Option<Asked>,
    /// Frames that came behind it.
    pub(super) backlog: VecDeque<(Kind, Vec<u8>)>,
    /// The publish whose content is coming in.
    pub(super) content: Option<Content>,
    pub(super) mode: Mode,
    /// Publishes that went to the core, and those of them that have their outcome.
    pub(super) published: u64,
    pub(super) confirmed: u64,
    /// The core may still have something to say of publishes or settlements that went to it: a return, or that the
    /// channel fails. What the session answers by itself must not overtake that.
    pub(super) unheard: bool,
    /// For consumers that are started from now on.
    pub(super) prefetch: u16,
    /// The queue that was declared last: what an empty name means.
    pub(super) last_queue: Option<Arc<str>>,
    /// What the reply-to pseudo queue of this channel stands for.
    pub(super) reply_to: Option<Arc<str>>,
    /// Its consumers that ended by its own queue.delete: they are told behind the answer, as in RabbitMQ. Who leaves when
    /// told would else leave before its answer came.
    pub(super) cancelled: Vec<Arc<str>>,
    /// There may be deliveries to settle.
    pub(super) owes_acks: bool,
    /// The last of reject and nack: the core does not tell them apart.
    pub(super) refused_by: (u16, u16),
}

/// What a channel promises to its publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Plain,
    /// Confirms count from 1 behind so many publishes.
    Confirm {
        before: u64,
    },
    Tx,
}

impl Session {
    /// A frame of a channel, as it comes in.
    pub(super) fn channel_frame(&mut self, number: u16, kind: Kind, payload: &[u8]) -> Result<(), Failure> {
        let Some(channel) = self.channels.get_mut(&number) else {
            return self.open_channel(number, kind, payload);
        };
        if channel.closing {
            self.frame_on_closing_channel(number, kind, payload);
            return Ok(());
        }
        if channel.asked.is_some() {
            channel.backlog.push_back((kind, payload.to_vec()));
            self.backlog_bytes += backlog_cost(payload);
            return Ok(());
        }
        self.handle(number, kind, payload)
    }

    /// Goes on with a channel that does not wait any more.
    pub(super) fn resume(&mut self, number: u16) {
        while let Some(channel) = self.channels.get_mut(&number) {
            if channel.asked.is_some() {
                return;
            }
            let Some((kind, payload)) = channel.backlog.pop_front() else { return };
            self.backlog_bytes -= backlog_cost(&payload);
            if let Err(failure) = self.channel_frame(number, kind, &payload) {
                self.fail(number, failure);
            }
        }
    }

    /// Forgets a channel; what came behind its end may open it again.
    pub(super) fn remove_channel(&mut self, number: u16) {
        let Some(mut channel) = self.channels.remove(&number) else { return };
        self.numbers.remove(&channel.chan);
        self.drop_content(&mut channel);
        self.backlog_bytes -= backlog_bytes(&channel.backlog);
        while self.phase == Phase::Running
            && let Some((kind, payload)) = channel.backlog.pop_front()
        {
            if let Err(failure) = self.channel_frame(number, kind, &payload) {
                self.fail(number, failure);
            }
            if let Some(reopened) = self.channels.get_mut(&number) {
                self.backlog_bytes += backlog_bytes(&channel.backlog);
                reopened.backlog = channel.backlog;
                return self.resume(number);
            }
        }
    }

    /// No channel of the connection may have deliveries to settle.
    pub(super) fn owes_nothing(&self) -> bool {
        self.channels.values().all(|channel| !channel.owes_acks)
    }

    fn open_channel(&mut self, number: u16, kind: Kind, payload: &[u8]) -> Result<(), Failure> {
        let opens = kind == Kind::Method && matches!(decode(payload)?, Method::ChannelOpen { .. });
        if !opens {
            let ids = if kind == Kind::Method { decode(payload)?.ids() } else { (0, 0) };
            return Err(Failure::new(ReplyCode::ChannelError, "expected 'channel.open'", ids));
        }
        if number > self.channel_max {
            let most = self.channel_max;
            let text = format!("channel number {number} is higher than the negotiated channel_max ({most})");
            return Err(Failure::new(ReplyCode::NotAllowed, text, (20, 10)));
        }
        let Some(conn) = self.conn else { return Err(failed(ReplyCode::ChannelError, "no connection")) };
        let chan = self.ids.channel();
        let credit_bytes = self.settings.channel_credit_bytes;
        self.for_core.inputs.push(Input::ChannelOpened { conn, chan, credit_bytes, strict: true });
        self.numbers.insert(chan, number);
        self.channels.insert(number, Channel::new(chan));
        self.send(number, &Method::ChannelOpenOk { reserved_1: &[] });
        Ok(())
    }

    fn handle(&mut self, number: u16, kind: Kind, payload: &[u8]) -> Result<(), Failure> {
        match kind {
            Kind::Method => {
                let method = decode(payload)?;
                let ids = method.ids();
                self.channel_method(number, &method).map_err(|failure| Failure {
                    ids: if failure.ids == (0, 0) { ids } else { failure.ids },
                    ..failure
                })
            }
            Kind::Header => self.content_header(number, payload),
            Kind::Body => self.content_body(number, payload),
            Kind::Heartbeat => Err(unexpected("heartbeat frame on a channel")),
        }
    }

    fn channel_method(&mut self, number: u16, method: &Method<'_>) -> Result<(), Failure> {
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        if let Some(content) = &channel.content {
            return Err(content.interrupted());
        }
        match *method {
            Method::BasicPublish { exchange, routing_key, mandatory, immediate, .. } => {
                self.publish(number, exchange, routing_key, mandatory, immediate)
            }
            Method::BasicAck { .. } | Method::BasicReject { .. } | Method::BasicNack { .. } => {
                self.settle(number, method)
            }
            Method::ChannelOpen { .. } => Err(failed(ReplyCode::ChannelError, "second 'channel.open' seen")),
            Method::ChannelClose { .. } => {
                let chan = channel.chan;
                self.ask(number, method.ids(), Op::CloseChannel { chan }, Answer::ChannelClosed);
                Ok(())
            }
            // Of a close that has crossed with another; there is nothing to do.
            Method::ChannelCloseOk {} | Method::ChannelFlowOk { .. } => Ok(()),
            Method::ChannelFlow { active: true } => {
                self.send(number, &Method::ChannelFlowOk { active: true });
                Ok(())
            }
            Method::ChannelFlow { active: false } => {
                Err(failed(ReplyCode::NotImplemented, "active=false; use basic.qos or basic.cancel"))
            }
            Method::AccessRequest { .. } => {
                self.send(number, &Method::AccessRequestOk { ticket: 1 });
                Ok(())
            }
            _ => self.request(number, method),
        }
    }
}

impl Channel {
    fn new(chan: ChanId) -> Self {
        Self {
            chan,
            closing: false,
            asked: None,
            backlog: VecDeque::new(),
            content: None,
            mode: Mode::Plain,
            published: 0,
            unheard: false,
            confirmed: 0,
            prefetch: 0,
            last_queue: None,
            reply_to: None,
            cancelled: Vec::new(),
            owes_acks: false,
            refused_by: (60, 120),
        }
    }
}

fn backlog_bytes(backlog: &VecDeque<(Kind, Vec<u8>)>) -> usize {
    backlog.iter().map(|(_, payload)| backlog_cost(payload)).sum()
}

/// What a frame in a backlog counts.
pub(super) fn backlog_cost(payload: &[u8]) -> usize {
    payload.len() + size_of::<(Kind, Vec<u8>)>()
}
