//! How channels and connections end, from either side.

use leveret_broker::{Input, Op};

use super::answer::Answer;
use super::channel::{Channel, Mode, backlog_cost};
use super::{Phase, Session, decode, failed};
use crate::amqp::frame::{Frame, Kind};
use crate::amqp::method::Method;
use crate::amqp::reply_code::{Failure, ReplyCode};

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The client closed it.
    ByClient,
    /// The first bytes are not AMQP 0-9-1's; what they seem to be.
    OtherProtocol(&'static str),
    /// The handshake took too long.
    HandshakeTimeout,
    /// No sign of life.
    MissedHeartbeats,
    /// Refused login: the user's name.
    LoginRefused(String),
    /// We closed it, and said why.
    ByServer(Failure),
}

impl Session {
    /// Ends what the failure's code says: the channel or the connection.
    pub(super) fn fail(&mut self, number: u16, failure: Failure) {
        if number == 0 || failure.code.ends_connection() {
            self.close_connection(failure);
        } else {
            self.close_channel(number, &failure);
        }
    }

    fn close_channel(&mut self, number: u16, failure: &Failure) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        if channel.closing {
            return;
        }
        channel.closing = true;
        let chan = channel.chan;
        let content = channel.content.take();
        let asked = channel.asked.take();
        let backlog = std::mem::take(&mut channel.backlog);
        if let Some(content) = content {
            self.half_sent_bytes -= content.held_bytes();
        }
        // The client has closed it, too, behind what failed.
        let crossed = asked.as_ref().is_some_and(|asked| matches!(asked.answer, Answer::ChannelClosed));
        if let Some(asked) = asked {
            self.requests.remove(&asked.req);
        }
        self.numbers.remove(&chan);
        self.for_core.inputs.push(Input::ChannelClosed { chan });
        let (class_id, method_id) = failure.ids;
        let close = Method::ChannelClose {
            reply_code: failure.code.number(),
            reply_text: &failure.reply_text(),
            class_id,
            method_id,
        };
        self.send(number, &close);
        if crossed {
            self.send(number, &Method::ChannelCloseOk {});
        }
        // The client's own close may be among them.
        for (kind, payload) in backlog {
            self.backlog_bytes -= backlog_cost(&payload);
            self.frame_on_closing_channel(number, kind, &payload);
        }
    }

    pub(super) fn frame_on_closing_channel(&mut self, number: u16, kind: Kind, payload: &[u8]) {
        if kind != Kind::Method {
            return;
        }
        match Method::decode(payload) {
            Ok(Method::ChannelClose { .. }) => self.send(number, &Method::ChannelCloseOk {}),
            Ok(Method::ChannelCloseOk {}) => self.remove_channel(number),
            _ => {}
        }
    }

    /// Says why and waits for the answer.
    pub(super) fn close_connection(&mut self, failure: Failure) {
        if matches!(self.phase, Phase::Closing { .. } | Phase::Ended(_)) {
            return;
        }
        let (class_id, method_id) = failure.ids;
        let close = Method::ConnectionClose {
            reply_code: failure.code.number(),
            reply_text: &failure.reply_text(),
            class_id,
            method_id,
        };
        self.send(0, &close);
        // In the core it is gone before the client can read this: what was exclusive is free.
        self.leave_core();
        self.end_after_close(End::ByServer(failure));
    }

    pub(super) fn end_after_close(&mut self, end: End) {
        self.times.closing(self.settings.close_ms);
        self.phase = Phase::Closing { end, garbled: false };
    }

    /// Ends everything that the connection has in the core.
    fn leave_core(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.requests.clear();
        self.numbers.clear();
        self.backlog_bytes = 0;
        self.half_sent_bytes = 0;
        let channels = std::mem::take(&mut self.channels);
        let open = channels.into_values().filter(|channel| !channel.closing);
        self.for_core.inputs.extend(open.map(|channel| Input::ChannelClosed { chan: channel.chan }));
        self.for_core.inputs.extend(self.conn.take().map(|conn| Input::ConnectionClosed { conn }));
    }

    /// What the core is to hear when the socket is gone, whatever was going on.
    pub fn abandon(&mut self) -> Vec<Input> {
        self.leave_core();
        std::mem::take(&mut self.for_core.inputs)
            .into_iter()
            .filter(|input| matches!(input, Input::ChannelClosed { .. } | Input::ConnectionClosed { .. }))
            .collect()
    }

    pub(super) fn connection_method(&mut self, method: &Method<'_>) -> Result<(), Failure> {
        match method {
            Method::ConnectionClose { .. } => {
                let req = self.ids.request();
                let (conn, vhost) = (self.conn, self.vhost.clone());
                let op = Op::CloseConnection;
                self.for_core.inputs.push(Input::Request { req, conn, chan: None, user: None, vhost, op });
                self.phase = Phase::ClosedByClient(req);
                Ok(())
            }
            Method::ConnectionUpdateSecret { .. } => {
                self.update_secret();
                Ok(())
            }
            Method::ConnectionCloseOk {} => Ok(()),
            other => Err(failed(ReplyCode::CommandInvalid, format!("{} is not expected here", other.name()))),
        }
    }

    /// The core has closed what the client wants closed.
    pub(super) fn closed_by_client(&mut self) {
        self.leave_core();
        self.send(0, &Method::ConnectionCloseOk {});
        self.phase = Phase::Ended(End::ByClient);
    }

    pub(super) fn frame_while_closing(&mut self, frame: Frame<'_>) {
        let Phase::Closing { end, .. } = &self.phase else { return };
        if frame.kind != Kind::Method || frame.channel != 0 {
            return;
        }
        match decode(frame.payload) {
            Ok(Method::ConnectionClose { .. }) => {
                let end = end.clone();
                self.send(0, &Method::ConnectionCloseOk {});
                self.phase = Phase::Ended(end);
            }
            Ok(Method::ConnectionCloseOk {}) => self.phase = Phase::Ended(end.clone()),
            _ => {}
        }
    }

    /// The process stops. Connections that have nothing to settle are closed as soon as what they published is
    /// confirmed.
    pub fn drain(&mut self) {
        self.draining = true;
        self.close_if_drained();
    }

    /// The process ends: what is still open is closed.
    pub fn shut_down(&mut self) {
        match self.phase {
            Phase::Closing { .. } | Phase::Ended(_) => {}
            Phase::Header => self.phase = Phase::Ended(End::ByServer(shutdown())),
            _ => self.close_connection(shutdown()),
        }
    }

    /// What was published last could not be stored, and what came behind it must not pass it: the connection ends. Nothing of
    /// it was confirmed.
    pub fn not_stored(&mut self, why: &str) {
        self.close_connection(failed(ReplyCode::InternalError, why));
    }

    pub(super) fn close_if_drained(&mut self) {
        let drained = match self.phase {
            Phase::Running => {
                let done = |channel: &Channel| {
                    // What a transaction holds is forgotten.
                    let confirmed = channel.mode == Mode::Tx || channel.confirmed == channel.published;
                    channel.asked.is_none() && confirmed
                };
                self.owes_nothing()
                    && self.waiting.is_empty()
                    && self.channels.values().all(|c| c.closing || done(c))
            }
            Phase::Header
            | Phase::Starting
            | Phase::Authenticating { .. }
            | Phase::Tuning
            | Phase::Opening
            | Phase::Entering => true,
            _ => false,
        };
        if drained {
            self.shut_down();
        }
    }
}

fn shutdown() -> Failure {
    failed(ReplyCode::ConnectionForced, "broker forced connection closure with reason 'shutdown'")
}
