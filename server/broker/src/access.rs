//! Who may do what: users, and their permissions in virtual hosts.
//!
//! Pure state: what is asked of it says user, virtual host and thing by name, and nothing of whether the thing exists.

pub(crate) mod names;
mod passes;
mod pattern;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::input::Publish;
use crate::refusal::{Refusal, RefusalKind};
use crate::topology::ExchangeKind;
use crate::vhosts::Vhost;
use passes::ByTopic;
pub(crate) use passes::Passes;
use pattern::Pattern;
use words::{AddUser, PasswordHash, Permissions, TopicPermissions};

/// May do everything that concerns users, virtual hosts and permissions.
pub(crate) const ADMINISTRATOR: &str = "administrator";
/// May see all virtual hosts, and the connections of others.
pub(crate) const MONITORING: &str = "monitoring";
/// May publish in the name of others.
const IMPERSONATOR: &str = "impersonator";

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Access {
    users: BTreeMap<Arc<str>, User>,
    /// Rises with every change.
    generation: u64,
    /// Changes that were told.
    pub(crate) told: u64,
}

#[derive(Debug)]
pub(crate) struct User {
    pub(crate) name: Arc<str>,
    pub(crate) password_hash: PasswordHash,
    pub(crate) tags: Vec<Arc<str>>,
    /// The change with which it came; 0: it was there from the start.
    made_by: u64,
    /// By virtual host.
    grants: BTreeMap<Arc<str>, Grants>,
}

/// What a user may do in one virtual host.
#[derive(Debug, Default)]
struct Grants {
    permissions: Option<Grant>,
    /// By exchange.
    topics: BTreeMap<Arc<str>, TopicGrant>,
}

#[derive(Debug)]
struct Grant {
    configure: Pattern,
    write: Pattern,
    read: Pattern,
}

#[derive(Debug)]
struct TopicGrant {
    write: Pattern,
    read: Pattern,
}

/// What somebody wants to do with a queue or an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    Configure,
    Write,
    Read,
}

/// With what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thing {
    Queue,
    Exchange,
}

impl Access {
    pub(crate) fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// All users in order of their names.
    pub(crate) fn users(&self) -> impl Iterator<Item = &User> {
        self.users.values()
    }

    pub(crate) fn has_tag(&self, user: &str, tag: &str) -> bool {
        self.users.get(user).is_some_and(|user| user.tags.iter().any(|own| **own == *tag))
    }

    /// Whether a user may use a virtual host at all.
    pub(crate) fn may_enter(&self, user: &str, vhost: &str) -> bool {
        self.grant(user, vhost).is_some()
    }

    /// Whether there is a name of a queue anywhere that a user may read.
    pub(crate) fn reads_anything(&self, user: &str) -> bool {
        let grants = self.users.get(user).into_iter().flat_map(|user| user.grants.values());
        grants
            .filter_map(|grants| grants.permissions.as_ref())
            .any(|grant| !matches!(&*grant.read.text(), "" | "^$"))
    }

    /// Refuses what a user may not do with a queue or an exchange of that name, whether or not there is one.
    pub(crate) fn check(
        &self,
        user: &str,
        vhost: &str,
        right: Right,
        thing: Thing,
        name: &str,
    ) -> Result<(), Refusal> {
        let name = thing.name(name);
        let may = self.grant(user, vhost).is_some_and(|grant| grant.of(right).fits(name));
        if may { Ok(()) } else { Err(refused(user, vhost, right, thing, name)) }
    }

    /// Refuses a routing key that a user may not use with a topic exchange.
    pub(crate) fn check_topic(
        &self,
        user: &str,
        vhost: &str,
        right: Right,
        exchange: &str,
        key: &str,
    ) -> Result<(), Refusal> {
        let grants = self.users.get(user).and_then(|user| user.grants.get(vhost));
        let Some(topic) = grants.and_then(|grants| grants.topics.get(exchange)) else { return Ok(()) };
        let pattern = if right == Right::Read { &topic.read } else { &topic.write };
        if pattern.fits(key) {
            return Ok(());
        }
        let text = format!(
            "{} access to topic '{key}' in exchange '{exchange}' in vhost '{vhost}' refused for user '{user}'",
            right.word()
        );
        Err(Refusal::new(RefusalKind::AccessRefused, text).with("exchange", exchange))
    }

    /// Refuses a publish that a user may not make. `passes` remembers what was found.
    pub(crate) fn check_publish(
        &self,
        user: &str,
        passes: &mut Passes,
        vhost: &Vhost,
        publish: &Publish,
    ) -> Result<(), Refusal> {
        let exchange = &publish.exchange;
        let by_topic = match passes.find(self.generation, vhost.id, exchange) {
            Some(by_topic) => by_topic,
            None => {
                self.check(user, &vhost.name, Right::Write, Thing::Exchange, exchange)?;
                let by_topic = self.by_topic(user, &vhost.name, exchange);
                passes.grant(self.generation, vhost.id, exchange, by_topic);
                by_topic
            }
        };
        let extras = publish.extras.as_deref();
        let is_topic =
            |exchange| vhost.topology.exchange(exchange).is_some_and(|x| x.props.kind == ExchangeKind::Topic);
        if by_topic == ByTopic::Yes && is_topic(exchange) {
            let more_keys = extras.iter().flat_map(|extras| &extras.routing_keys);
            for key in std::iter::once(&publish.routing_key).chain(more_keys) {
                self.check_topic(user, &vhost.name, Right::Write, exchange, key)?;
            }
        }
        match extras.and_then(|extras| extras.user_id.as_deref()) {
            Some(claimed) if claimed != user && !self.has_tag(user, IMPERSONATOR) => {
                let text = format!("user_id property set to '{claimed}' but authenticated user was '{user}'");
                Err(Refusal::new(RefusalKind::PreconditionFailed, text).with("field", "user_id"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a user exists and is the one who was there after so many changes, not another one of that name.
    pub(crate) fn is_still(&self, user: &str, changes: Option<u64>) -> bool {
        self.users.get(user).is_some_and(|user| changes.is_none_or(|changes| user.made_by <= changes))
    }

    /// Adds a user, who must not exist.
    pub(crate) fn add_user(&mut self, user: AddUser) {
        let AddUser { name, password_hash, tags } = user;
        self.generation += 1;
        self.users
            .insert(name.clone(), User { name, password_hash, tags, made_by: 0, grants: BTreeMap::new() });
    }

    /// A user came with the change that was told last.
    pub(crate) fn made_now(&mut self, name: &str) {
        if let Some(user) = self.users.get_mut(name) {
            user.made_by = self.told;
        }
    }

    /// A user to be changed.
    pub(crate) fn user_mut(&mut self, name: &str) -> Option<&mut User> {
        self.generation += 1;
        self.users.get_mut(name)
    }

    pub(crate) fn remove_user(&mut self, name: &str) {
        self.generation += 1;
        self.users.remove(name);
    }

    /// Takes away what users may do in a virtual host that is deleted.
    pub(crate) fn remove_vhost(&mut self, vhost: &str) {
        self.generation += 1;
        for user in self.users.values_mut() {
            user.grants.remove(vhost);
        }
    }

    fn grant(&self, user: &str, vhost: &str) -> Option<&Grant> {
        self.users.get(user)?.grants.get(vhost)?.permissions.as_ref()
    }

    fn by_topic(&self, user: &str, vhost: &str, exchange: &str) -> ByTopic {
        let grants = self.users.get(user).and_then(|user| user.grants.get(vhost));
        match grants.is_some_and(|grants| grants.topics.contains_key(exchange)) {
            true => ByTopic::Yes,
            false => ByTopic::No,
        }
    }
}

impl User {
    /// Sets what the user may do in a virtual host.
    pub(crate) fn set_permissions(&mut self, permissions: &Permissions) -> Result<(), Refusal> {
        let grant = Grant {
            configure: Pattern::new(&permissions.configure)?,
            write: Pattern::new(&permissions.write)?,
            read: Pattern::new(&permissions.read)?,
        };
        self.grants.entry(permissions.vhost.clone()).or_default().permissions = Some(grant);
        Ok(())
    }

    /// False when there were none.
    pub(crate) fn clear_permissions(&mut self, vhost: &str) -> bool {
        let cleared = self.grants.get_mut(vhost).and_then(|grants| grants.permissions.take());
        self.tidy(vhost);
        cleared.is_some()
    }

    /// Sets with which routing keys the user may use a topic exchange.
    pub(crate) fn set_topic_permissions(&mut self, permissions: &TopicPermissions) -> Result<(), Refusal> {
        let TopicPermissions { vhost, exchange, .. } = permissions;
        let topic = TopicGrant {
            write: Pattern::of_topic(&permissions.write, &self.name, vhost)?,
            read: Pattern::of_topic(&permissions.read, &self.name, vhost)?,
        };
        self.grants.entry(vhost.clone()).or_default().topics.insert(exchange.clone(), topic);
        Ok(())
    }

    pub(crate) fn clear_topic_permissions(&mut self, vhost: &str, exchange: &str) {
        if let Some(grants) = self.grants.get_mut(vhost) {
            grants.topics.remove(exchange);
        }
        self.tidy(vhost);
    }

    /// Permissions in order of virtual hosts.
    pub(crate) fn permissions(&self) -> impl Iterator<Item = Permissions> {
        self.grants.iter().filter_map(|(vhost, grants)| {
            let grant = grants.permissions.as_ref()?;
            Some(Permissions {
                vhost: vhost.clone(),
                user: self.name.clone(),
                configure: grant.configure.text(),
                write: grant.write.text(),
                read: grant.read.text(),
            })
        })
    }

    /// Topic permissions in order of virtual hosts and exchanges.
    pub(crate) fn topic_permissions(&self) -> impl Iterator<Item = TopicPermissions> {
        let topics =
            self.grants.iter().flat_map(|(vhost, grants)| grants.topics.iter().map(move |t| (vhost, t)));
        topics.map(|(vhost, (exchange, topic))| TopicPermissions {
            vhost: vhost.clone(),
            user: self.name.clone(),
            exchange: exchange.clone(),
            write: topic.write.text(),
            read: topic.read.text(),
        })
    }

    fn tidy(&mut self, vhost: &str) {
        if self
            .grants
            .get(vhost)
            .is_some_and(|grants| grants.permissions.is_none() && grants.topics.is_empty())
        {
            self.grants.remove(vhost);
        }
    }
}

impl Grant {
    fn of(&self, right: Right) -> &Pattern {
        match right {
            Right::Configure => &self.configure,
            Right::Write => &self.write,
            Right::Read => &self.read,
        }
    }
}

impl Right {
    fn word(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

impl Thing {
    fn word(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Exchange => "exchange",
        }
    }

    /// The name that patterns see.
    fn name(self, name: &str) -> &str {
        if self == Self::Exchange && name.is_empty() { "amq.default" } else { name }
    }
}

fn refused(user: &str, vhost: &str, right: Right, thing: Thing, name: &str) -> Refusal {
    let (right, thing) = (right.word(), thing.word());
    let text = format!("{right} access to {thing} '{name}' in vhost '{vhost}' refused for user '{user}'");
    Refusal::new(RefusalKind::AccessRefused, text).with(thing, name)
}
