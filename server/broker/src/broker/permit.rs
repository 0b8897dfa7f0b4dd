//! Who may ask for what. Each check comes before what would tell whether the thing exists.

use std::sync::Arc;

use super::Broker;
use super::access::vhost_refused;
use super::request::Who;
use crate::access::{ADMINISTRATOR, MONITORING, Right, Thing};
use crate::ids::ChanId;
use crate::input::{Binding, ConnectionInfo, Consume, DestinationKind, Get, Hold, Op};
use crate::refusal::{Refusal, RefusalKind};
use crate::topology::ExchangeKind;
use crate::vhosts::Vhost;

/// What a request reaches.
enum Scope {
    /// Things in its virtual host, by name.
    Vhost,
    /// Users, virtual hosts and permissions.
    Access,
    /// What any user may ask, or is decided further on.
    User,
    /// What the connection itself holds.
    Own,
}

impl Broker {
    /// Refuses what the user of a request may not ask for at all, or where there is nothing to ask for.
    pub(super) fn admit(&self, who: &Who, op: &Op) -> Result<(), Refusal> {
        let scope = scope(op);
        let Some(user) = &who.user else {
            return match scope {
                Scope::Vhost => self.topology(&who.vhost).map(drop),
                Scope::Access | Scope::User | Scope::Own => Ok(()),
            };
        };
        self.check_connection(who, user)?;
        self.check_channels(who, op)?;
        let is_administrator = || self.access.has_tag(user, ADMINISTRATOR);
        match (scope, op) {
            (Scope::Vhost, _) if self.access.may_enter(user, &who.vhost.name) => {
                self.topology(&who.vhost).map(drop)
            }
            (Scope::Vhost, _) => {
                // Only who may list the virtual hosts hears that there is none.
                if is_administrator() {
                    self.topology(&who.vhost)?;
                }
                Err(vhost_refused(user, &who.vhost.name))
            }
            (Scope::Access, Op::EnterVhost { user: whom, .. }) if whom == user => Ok(()),
            (Scope::Access, _) if !is_administrator() => {
                let text = format!("user '{user}' lacks the tag '{ADMINISTRATOR}' that this needs");
                Err(Refusal::new(RefusalKind::AccessRefused, text))
            }
            (Scope::User, _) if self.access.user(user).is_none() => {
                Err(Refusal::new(RefusalKind::AccessRefused, format!("access refused for user '{user}'")))
            }
            (Scope::Access | Scope::User | Scope::Own, _) => Ok(()),
        }
    }

    /// Refuses a connection or session that is another user's.
    fn check_connection(&self, who: &Who, user: &Arc<str>) -> Result<(), Refusal> {
        let owner = || self.connections.get(&who.conn?)?.user.as_ref();
        match owner() {
            Some(owner) if owner != user => {
                let text = format!("the connection is not one of user '{user}'");
                Err(Refusal::new(RefusalKind::AccessRefused, text))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a channel that is not one of the request's connection.
    fn check_channels(&self, who: &Who, op: &Op) -> Result<(), Refusal> {
        match who.chan.into_iter().chain(channel(op)).find(|chan| self.is_foreign(who, *chan)) {
            Some(chan) => {
                let text = format!("channel {chan} is not one of the connection that the request is made on");
                Err(Refusal::new(RefusalKind::AccessRefused, text))
            }
            None => Ok(()),
        }
    }

    /// Whether a channel is another connection's than that of a user's request.
    pub(super) fn is_foreign(&self, who: &Who, chan: ChanId) -> bool {
        let open = || self.channels.get(&chan).map(|channel| channel.conn);
        let of = open().or_else(|| self.failed_channels.get(&chan).copied());
        who.user.is_some() && of.is_some_and(|conn| who.conn != Some(conn))
    }

    /// Refuses what the user of a request may not do with a queue or an exchange, whether or not it exists.
    pub(super) fn may(&self, who: &Who, right: Right, thing: Thing, name: &str) -> Result<(), Refusal> {
        match &who.user {
            Some(user) => self.access.check(user, &who.vhost.name, right, thing, name),
            None => Ok(()),
        }
    }

    /// Refuses a binding that the user may neither make nor remove.
    pub(super) fn may_bind(&self, who: &Who, binding: &Binding) -> Result<(), Refusal> {
        let Some(user) = &who.user else { return Ok(()) };
        let thing = match binding.destination_kind {
            DestinationKind::Queue => Thing::Queue,
            DestinationKind::Exchange => Thing::Exchange,
        };
        let (vhost, source) = (&who.vhost.name, &binding.source);
        self.may(who, Right::Write, thing, &binding.destination)?;
        self.may(who, Right::Read, Thing::Exchange, source)?;
        match self.topology(&who.vhost)?.exchange(source) {
            Some(exchange) if exchange.props.kind == ExchangeKind::Topic => {
                self.access.check_topic(user, vhost, Right::Read, source, &binding.routing_key)
            }
            _ => Ok(()),
        }
    }

    /// Refuses a new thing whose messages the user could not have taken from it and sent where they are to go on to.
    pub(super) fn may_lead_on(&self, who: &Who, thing: Thing, name: &str, to: &str) -> Result<(), Refusal> {
        self.may(who, Right::Read, thing, name)?;
        self.may(who, Right::Write, Thing::Exchange, to)
    }

    /// Whether the user of a request sees a connection.
    pub(super) fn sees(&self, who: &Who, connection: &ConnectionInfo) -> bool {
        who.user.as_ref().is_none_or(|user| connection.user == **user || self.sees_all(user))
    }

    /// Whether the user of a request sees a virtual host.
    pub(super) fn sees_vhost(&self, who: &Who, vhost: &Vhost) -> bool {
        who.user.as_ref().is_none_or(|user| self.access.may_enter(user, &vhost.name) || self.sees_all(user))
    }

    /// Whether a user sees everything there is.
    pub(super) fn sees_all(&self, user: &str) -> bool {
        [ADMINISTRATOR, MONITORING].iter().any(|tag| self.access.has_tag(user, tag))
    }
}

/// The channel that a request speaks of.
fn channel(op: &Op) -> Option<ChanId> {
    match op {
        Op::Get(Get { hold: Hold::Channel(chan) | Hold::AutoAckOn(chan), .. })
        | Op::Consume(Consume { chan, .. })
        | Op::Cancel { chan, .. }
        | Op::ChannelPrefetch { chan, .. }
        | Op::TxSelect { chan }
        | Op::TxCommit { chan }
        | Op::TxRollback { chan }
        | Op::Recover { chan }
        | Op::WhenIdle { chan }
        | Op::CloseChannel { chan } => Some(*chan),
        _ => None,
    }
}

fn scope(op: &Op) -> Scope {
    match op {
        Op::DeclareExchange(_)
        | Op::DeleteExchange { .. }
        | Op::DeclareQueue(_)
        | Op::DeleteQueue { .. }
        | Op::PurgeQueue { .. }
        | Op::Bind(_)
        | Op::Unbind(_)
        | Op::Publish(_)
        | Op::Get(_)
        | Op::Consume(_)
        | Op::ListExchanges
        | Op::ListQueues { .. }
        | Op::ListBindings
        | Op::ListConsumers => Scope::Vhost,
        Op::MakeDefaults { .. }
        | Op::AddVhost(_)
        | Op::DeleteVhost { .. }
        | Op::AddUser(_)
        | Op::ChangePassword { .. }
        | Op::DeleteUser { .. }
        | Op::SetUserTags { .. }
        | Op::ListUsers
        | Op::SetPermissions(_)
        | Op::ClearPermissions { .. }
        | Op::ListPermissions { .. }
        | Op::ListUserPermissions { .. }
        | Op::SetTopicPermissions(_)
        | Op::ClearTopicPermissions { .. }
        | Op::ListTopicPermissions { .. }
        | Op::LookUpUser { .. }
        | Op::EnterVhost { .. } => Scope::Access,
        Op::SettleIds { .. } | Op::ListVhosts | Op::ListConnections | Op::ListChannels | Op::Stats => {
            Scope::User
        }
        Op::Cancel { .. }
        | Op::ChannelPrefetch { .. }
        | Op::TxSelect { .. }
        | Op::TxCommit { .. }
        | Op::TxRollback { .. }
        | Op::Recover { .. }
        | Op::WhenIdle { .. }
        | Op::CloseChannel { .. }
        | Op::CloseConnection
        | Op::Barrier => Scope::Own,
    }
}
