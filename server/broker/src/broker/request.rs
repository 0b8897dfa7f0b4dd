//! Requests: the table of verbs.

use std::sync::Arc;

use super::Broker;
use crate::effect::{Effect, Reply};
use crate::ids::{ChanId, ConnId, ReqId};
use crate::input::Op;
use crate::refusal::{Refusal, RefusalKind};
use crate::topology::Topology;
use crate::vhosts::VhostRef;

/// Who makes a request, and where.
#[derive(Debug)]
pub(super) struct Who {
    pub(super) conn: Option<ConnId>,
    /// The strict channel that it is made on.
    pub(super) chan: Option<ChanId>,
    /// None may do everything.
    pub(super) user: Option<Arc<str>>,
    /// Exists where the request speaks of things in it.
    pub(super) vhost: VhostRef,
}

impl Broker {
    pub(super) fn request(&mut self, req: ReqId, who: &Who, op: Op, out: &mut Vec<Effect>) {
        // A channel that is not the asker's own is none of what follows from the request.
        let (conn, chan) = (who.conn, who.chan.filter(|chan| !self.is_foreign(who, *chan)));
        if chan.is_some_and(|chan| self.failed_channels.contains_key(&chan))
            && !matches!(op, Op::CloseChannel { .. } | Op::CloseConnection)
        {
            out.push(Effect::Dropped { req });
            return;
        }
        if let Err(refusal) = self.admit(who, &op) {
            self.fail_channel(chan, out);
            return self.reply_when_durable(req, Err(refusal));
        }
        // Answers with counts speak of a queue that has handed out what it can.
        if !matches!(op, Op::Publish(_) | Op::SettleIds { .. }) {
            self.dispatch_dirty(out);
        }
        let (result, at_once) = match op {
            // These answer in their own time.
            Op::Publish(publishes) => return self.publish_batch(req, who, publishes, out),
            Op::SettleIds { ids, how } => return self.settle_ids(req, who, &ids, how),
            Op::Get(get) => match self.get(req, who, &get, out) {
                Ok(()) => return,
                Err(refusal) => (Err(refusal), true),
            },
            Op::WhenIdle { chan } => {
                self.idle.insert((chan, req));
                return;
            }
            // These speak of what has to be durable.
            Op::DeclareExchange(declare) => (self.declare_exchange(who, declare, out), false),
            Op::DeleteExchange { name, if_unused } => {
                (self.delete_exchange(who, &name, if_unused, out), false)
            }
            Op::DeclareQueue(declare) => (self.declare_queue(who, declare, out), false),
            Op::DeleteQueue { name, if_unused, if_empty } => {
                (self.delete_queue(who, &name, if_unused, if_empty, out), false)
            }
            Op::PurgeQueue { name } => (self.purge_queue(who, &name, out), false),
            Op::Bind(binding) => (self.bind(who, binding, out), false),
            Op::Unbind(binding) => (self.unbind(who, binding, out), false),
            Op::TxCommit { chan } => match self.tx_commit(chan, req, out) {
                Ok(()) => return,
                Err(refusal) => (Err(refusal), false),
            },
            // These are answered at once.
            Op::Consume(consume) => (self.consume(who, &consume, out), true),
            Op::Cancel { chan, consumer_tag } => {
                self.cancel(chan, &consumer_tag, out);
                (Ok(Reply::Done), true)
            }
            Op::ChannelPrefetch { chan, messages } => (self.channel_prefetch(chan, messages), true),
            Op::TxSelect { chan } => (self.tx_select(chan), true),
            Op::TxRollback { chan } => (self.tx_rollback(chan), true),
            Op::Recover { chan } => (self.recover(chan), true),
            Op::CloseChannel { chan } => {
                self.channel_closed(chan, out);
                (Ok(Reply::Done), true)
            }
            Op::CloseConnection => {
                if let Some(conn) = conn {
                    self.connection_closed(conn, out);
                }
                (Ok(Reply::Done), true)
            }
            Op::Barrier => (Ok(Reply::Done), true),
            Op::ListExchanges => (self.exchange_rows(&who.vhost).map(Reply::Exchanges), true),
            Op::ListQueues { name } => (self.queue_rows(&who.vhost, name.as_ref()).map(Reply::Queues), true),
            Op::ListBindings => (self.binding_rows(&who.vhost).map(Reply::Bindings), true),
            Op::ListConsumers => (self.consumer_rows(&who.vhost).map(Reply::Consumers), true),
            Op::ListConnections => (Ok(Reply::Connections(self.connection_rows(who))), true),
            Op::ListChannels => (Ok(Reply::Channels(self.channel_rows(who))), true),
            Op::Stats => (Ok(Reply::Stats(self.stats_for(who))), true),
            Op::AddVhost(vhost) => (self.add_vhost(vhost, out), false),
            Op::DeleteVhost { name } => (self.delete_vhost(&name, out), false),
            Op::ListVhosts => (Ok(Reply::Vhosts(self.vhost_rows(who))), true),
            Op::MakeDefaults { user, password_hash } => (self.make_defaults(user, password_hash, out), false),
            Op::AddUser(user) => (self.add_user(user, out), false),
            Op::ChangePassword { name, password_hash } => {
                (self.change_password(&name, password_hash, out), false)
            }
            Op::DeleteUser { name } => (self.delete_user(&name, out), false),
            Op::SetUserTags { name, tags } => (self.set_user_tags(&name, tags, out), false),
            Op::ListUsers => (Ok(Reply::Users(self.user_rows())), true),
            Op::SetPermissions(permissions) => (self.set_permissions(&permissions, out), false),
            Op::ClearPermissions { user, vhost } => (self.clear_permissions(&user, &vhost, out), false),
            Op::ListPermissions { vhost } => (self.permission_rows(&vhost).map(Reply::Permissions), true),
            Op::ListUserPermissions { user } => {
                (self.user_permission_rows(&user).map(Reply::Permissions), true)
            }
            Op::SetTopicPermissions(permissions) => (self.set_topic_permissions(&permissions, out), false),
            Op::ClearTopicPermissions { user, vhost, exchange } => {
                (self.clear_topic_permissions(&user, &vhost, exchange.as_ref(), out), false)
            }
            Op::ListTopicPermissions { vhost } => {
                (self.topic_permission_rows(&vhost).map(Reply::TopicPermissions), true)
            }
            Op::LookUpUser { name } => (Ok(Reply::User(self.look_up_user(&name))), true),
            Op::EnterVhost { user, vhost } => (self.enter_vhost(&user, &vhost), true),
        };
        if result.is_err() {
            self.fail_channel(chan, out);
        }
        if at_once {
            out.push(Effect::Reply { req, result });
        } else {
            self.reply_when_durable(req, result);
        }
    }

    /// Who makes a request. One on a connection is its user's, whether or not that is said again.
    pub(super) fn who(
        &self,
        conn: Option<ConnId>,
        chan: Option<ChanId>,
        user: Option<Arc<str>>,
        vhost: &Arc<str>,
    ) -> Who {
        let own = || self.connections.get(&conn?)?.user.clone();
        Who { conn, chan, user: user.or_else(own), vhost: self.vhost(vhost) }
    }

    /// The virtual host of that name.
    pub(super) fn vhost(&self, name: &Arc<str>) -> VhostRef {
        match self.vhosts.find(name) {
            Some(id) => VhostRef { id, name: name.clone() },
            None => VhostRef::nowhere(name.clone()),
        }
    }

    pub(super) fn topology(&self, vhost: &VhostRef) -> Result<&Topology, Refusal> {
        self.vhosts.topology(vhost.id).ok_or_else(|| no_vhost(&vhost.name))
    }

    pub(super) fn topology_mut(&mut self, vhost: &VhostRef) -> Result<&mut Topology, Refusal> {
        self.vhosts.topology_mut(vhost.id).ok_or_else(|| no_vhost(&vhost.name))
    }
}

pub(super) fn no_vhost(vhost: &str) -> Refusal {
    Refusal::new(RefusalKind::NotFound, format!("vhost '{vhost}' not found")).with("vhost", vhost)
}
