//! Requests on strict channels, of users, and in other virtual hosts than the default one.

use std::sync::Arc;

use super::{World, channel_opened, replies};
use crate::effect::{Effect, Reply};
use crate::ids::{ChanId, ConnId};
use crate::input::{ConnectionInfo, Input, Op};
use crate::refusal::Refusal;

impl World {
    /// Opens a strict channel on connection 1.
    pub(crate) fn open_strict(&mut self, chan: u64) {
        let (conn, chan) = (ConnId(1), ChanId(chan));
        self.send(Input::ChannelOpened { conn, chan, credit_bytes: 1 << 40, strict: true });
    }

    /// A request's input, made by connection 1 on a strict channel.
    pub(crate) fn request_on(&mut self, on: u64, op: Op) -> Input {
        let mut input = self.request(Some(1), op);
        if let Input::Request { chan, .. } = &mut input {
            *chan = Some(ChanId(on));
        }
        input
    }

    /// Asks on a strict channel and returns the answer.
    #[track_caller]
    pub(crate) fn ask_on(&mut self, chan: u64, op: Op) -> Result<Reply, Refusal> {
        let input = self.request_on(chan, op);
        let effects = self.send(input);
        replies(effects, self.requests).expect("the answer comes at once")
    }

    /// The effects of a request of connection 1 in a virtual host.
    pub(crate) fn ask_effects_in(&mut self, name: &str, op: Op) -> Vec<Effect> {
        let mut input = self.request(Some(1), op);
        if let Input::Request { vhost, .. } = &mut input {
            *vhost = Arc::from(name);
        }
        self.send(input)
    }

    /// Asks as a user, outside any connection.
    pub(crate) fn ask_as(&mut self, name: &str, vhost: &str, op: Op) -> Result<Reply, Refusal> {
        let mut input = self.request(None, op);
        if let Input::Request { user, vhost: at, .. } = &mut input {
            (*user, *at) = (Some(Arc::from(name)), Arc::from(vhost));
        }
        let effects = self.send(input);
        replies(effects, self.requests).expect("the answer comes at once")
    }

    /// What is out of a queue.
    pub(crate) fn unacked(&self, name: &str) -> u64 {
        let queues = self.broker.queues.values();
        queues.filter(|queue| &*queue.props.name == name).map(|queue| queue.messages_unacknowledged()).sum()
    }

    /// Opens a connection of a user's, with a channel.
    pub(crate) fn open_as(&mut self, user: &str, vhost: &str, conn: u64, chan: u64) {
        let info = ConnectionInfo { user: user.into(), vhost: vhost.into(), ..ConnectionInfo::default() };
        self.send(Input::ConnectionOpened { conn: ConnId(conn), info });
        self.send(channel_opened(conn, chan, 1 << 40));
    }

    /// Asks in a virtual host.
    pub(crate) fn ask_in(&mut self, name: &str, op: Op) -> Result<Reply, Refusal> {
        let effects = self.ask_effects_in(name, op);
        replies(effects, self.requests).expect("the answer comes at once")
    }

    /// Spills what waits for it.
    pub(crate) fn spill(&mut self) -> Vec<Effect> {
        let puts = std::mem::take(&mut self.spills);
        let inputs = puts.iter().map(|put| Input::Spilled { places: self.store.spill(put) }).collect();
        self.turn(inputs)
    }
}
