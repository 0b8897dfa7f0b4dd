//! Connections and channels that come and go.

use std::sync::Arc;

use super::Broker;
use super::access::vhost_refused;
use crate::channel::{Channel, Connection};
use crate::effect::{Batch, Effect, Reply};
use crate::ids::{ChanId, ConnId};
use crate::input::{ConnectionInfo, Settle};
use crate::refusal::{Refusal, RefusalKind};

impl Broker {
    /// Takes a connection in, unless it would be that of a user or in a virtual host that is gone since the login, or of
    /// another user who has that name now.
    pub(super) fn connection_opened(&mut self, conn: ConnId, info: ConnectionInfo, out: &mut Vec<Effect>) {
        if let Some(text) = self.is_late(&info) {
            return out.push(forced(conn, &text));
        }
        let connection = Connection {
            user: Some(info.user.as_str()).filter(|user| !user.is_empty()).map(Arc::from),
            info,
            connected_at_ms: self.now_ms,
            channels: Default::default(),
            exclusive_queues: Default::default(),
        };
        self.connections.insert(conn, connection);
    }

    pub(super) fn connection_closed(&mut self, conn: ConnId, out: &mut Vec<Effect>) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let channels = std::mem::take(&mut connection.channels);
        let queues = std::mem::take(&mut connection.exclusive_queues);
        for chan in channels {
            self.channel_closed(chan, out);
        }
        self.failed_channels.retain(|_, of| *of != conn);
        self.connections.remove(&conn);
        let mut batch = Batch::default();
        for id in queues {
            self.remove_queue(id, &mut batch, out);
        }
        self.append_unless_empty(batch, out);
    }

    /// Why a connection comes too late, if it does.
    fn is_late(&self, info: &ConnectionInfo) -> Option<String> {
        let ConnectionInfo { user, vhost, .. } = info;
        if !user.is_empty() && !self.access.is_still(user, info.login_at) {
            return Some(format!("user '{user}' is deleted"));
        }
        if !vhost.is_empty() && self.vhosts.find(vhost).is_none() {
            return Some(format!("vhost '{vhost}' is deleted"));
        }
        let refused = !user.is_empty() && !vhost.is_empty() && !self.access.may_enter(user, vhost);
        refused.then(|| vhost_refused(user, vhost).text)
    }

    /// Ends connections whose ground has gone.
    pub(super) fn force(
        &mut self,
        concerns: impl Fn(&ConnectionInfo) -> bool,
        text: &str,
        out: &mut Vec<Effect>,
    ) {
        let all = self.connections.iter();
        let conns: Vec<ConnId> = all.filter(|(_, c)| concerns(&c.info)).map(|(conn, _)| *conn).collect();
        for conn in conns {
            out.push(forced(conn, text));
            self.connection_closed(conn, out);
        }
    }

    /// A channel on a connection that was ended just before is not silent: who opened it hears of the end.
    pub(super) fn channel_opened(
        &mut self,
        conn: ConnId,
        chan: ChanId,
        credit_bytes: u64,
        strict: bool,
        out: &mut Vec<Effect>,
    ) {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return out.push(forced(conn, "the connection is not open any more"));
        };
        connection.channels.insert(chan);
        let channel = Channel::new(conn, connection.user.clone(), credit_bytes, strict);
        self.channels.insert(chan, channel);
    }

    /// Ends a strict channel on which something was refused: as if it were closed, and it stays silent until it is.
    pub(crate) fn fail_channel(&mut self, chan: Option<ChanId>, out: &mut Vec<Effect>) {
        let Some(chan) = chan else { return };
        let Some(channel) = self.channels.get(&chan).filter(|channel| channel.strict) else { return };
        let conn = channel.conn;
        self.channel_closed(chan, out);
        self.failed_channels.insert(chan, conn);
    }

    /// Consumers end first, so that nothing that comes back goes to this channel again.
    pub(super) fn channel_closed(&mut self, chan: ChanId, out: &mut Vec<Effect>) {
        self.failed_channels.remove(&chan);
        let Some(channel) = self.channels.remove(&chan) else { return };
        // Nobody waits for these outcomes any more; a stop must not either.
        self.counters.confirmed += channel.confirms.published.saturating_sub(channel.confirms.confirmed);
        if let Some(connection) = self.connections.get_mut(&channel.conn) {
            connection.channels.remove(&chan);
        }
        let mut left = Vec::new();
        for id in channel.consumers.values() {
            left.extend(self.remove_consumer(*id));
        }
        self.drop_gets(chan, &channel.gets, out);
        for (_, unacked) in channel.unacked {
            self.settle_unacked(&unacked, Settle::Requeue);
        }
        if let Some(tx) = channel.tx {
            self.budget.discharge(tx.charged_bytes);
            for (unacked, _) in tx.settled.values() {
                self.settle_unacked(unacked, Settle::Requeue);
            }
        }
        for queue in left {
            self.delete_if_abandoned(queue, out);
        }
    }

    /// Answers who waits until nothing is out on a channel, where that is so.
    pub(super) fn answer_idle(&mut self, out: &mut Vec<Effect>) {
        let (queues, levels, channels) = (&self.queues, &self.levels, &self.channels);
        self.idle.retain(|(chan, req)| {
            // Mostly the first one shows that it is not idle.
            let busy =
                channels.get(chan).is_some_and(|channel| {
                    let in_tx =
                        channel.tx.iter().flat_map(|tx| tx.settled.values().map(|(unacked, _)| unacked));
                    channel.unacked.iter().map(|(_, unacked)| unacked).chain(in_tx).any(|unacked| {
                        queues.contains_key(levels.get(&unacked.queue).unwrap_or(&unacked.queue))
                    })
                });
            if !busy {
                out.push(Effect::Reply { req: *req, result: Ok(Reply::Done) });
            }
            busy
        });
    }

    pub(super) fn writable(&mut self, chan: ChanId, bytes: u64) {
        let Some(channel) = self.channels.get_mut(&chan) else { return };
        channel.add_credit(bytes);
        self.wake_channel(chan);
    }
}

fn forced(conn: ConnId, text: &str) -> Effect {
    Effect::ConnectionForced { conn, refusal: Refusal::new(RefusalKind::ConnectionForced, text) }
}
