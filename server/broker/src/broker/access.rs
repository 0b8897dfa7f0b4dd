//! Users and permissions that are added, changed, listed and deleted.

use std::sync::Arc;

use bytes::Bytes;

use super::Broker;
use super::request::no_vhost;
use super::vhost::vhost_fact;
use crate::access::ADMINISTRATOR;
use crate::access::User;
use crate::access::names::{check_name, check_tags, check_text};
use crate::access::words::{AddUser, PasswordHash, Permissions, TopicPermissions, UserRecord, UserRow};
use crate::effect::{Batch, Effect, Reply};
use crate::names;
use crate::record::fact::{DefaultsFact, Fact, PermissionFact, TopicPermissionFact, UserFact};
use crate::refusal::{Refusal, RefusalKind};
use crate::vhosts::DEFAULT;

impl Broker {
    /// What a new store begins with, as one append.
    pub(super) fn make_defaults(
        &mut self,
        name: Arc<str>,
        password_hash: PasswordHash,
        out: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        if self.defaults_made {
            return Ok(Reply::Done);
        }
        check_name("user", &name)?;
        check_text("password hash", &password_hash.0)?;
        let vhost = self.vhost(&Arc::from(DEFAULT));
        // Until now it was there without a fact.
        let mut facts: Vec<Fact> = self.vhosts.get(vhost.id).map(vhost_fact).into_iter().collect();
        if self.access.user(&name).is_none() {
            let tags = vec![Arc::from(ADMINISTRATOR)];
            self.access.add_user(AddUser { name: name.clone(), password_hash, tags });
            facts.extend(self.access.user(&name).map(user_fact));
        }
        if let Some(user) = self.access.user_mut(&name) {
            let all: Arc<str> = Arc::from(".*");
            let (configure, write, read) = (all.clone(), all.clone(), all);
            let permissions = Permissions { vhost: vhost.name, user: name.clone(), configure, write, read };
            user.set_permissions(&permissions)?;
            facts.push(permission_fact(&permissions));
        }
        facts.push(Fact::Defaults(DefaultsFact {}));
        self.defaults_made = true;
        self.access_changed(facts, out);
        // Not made now, but before everything: nobody else can have had the name, and who connects to a server that is
        // just starting has looked at the count of changes before there was one.
        Ok(Reply::Done)
    }

    pub(super) fn add_user(&mut self, user: AddUser, out: &mut Vec<Effect>) -> Result<Reply, Refusal> {
        check_name("user", &user.name)?;
        check_text("password hash", &user.password_hash.0)?;
        check_tags(&user.tags)?;
        if self.access.user(&user.name).is_some() {
            let text = format!("user '{}' exists already", user.name);
            return Err(Refusal::new(RefusalKind::AlreadyExists, text).with("user", &*user.name));
        }
        let name = user.name.clone();
        self.access.add_user(user);
        self.user_changed(&name, out);
        self.access.made_now(&name);
        Ok(Reply::Done)
    }

    pub(super) fn change_password(
        &mut self,
        name: &str,
        password_hash: PasswordHash,
        out: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        check_text("password hash", &password_hash.0)?;
        self.access.user_mut(name).ok_or_else(|| no_user(name))?.password_hash = password_hash;
        self.user_changed(name, out);
        Ok(Reply::Done)
    }

    pub(super) fn set_user_tags(
        &mut self,
        name: &str,
        tags: Vec<Arc<str>>,
        out: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        check_tags(&tags)?;
        self.access.user_mut(name).ok_or_else(|| no_user(name))?.tags = tags;
        self.user_changed(name, out);
        Ok(Reply::Done)
    }

    /// Deletes a user. Should the log take it in pieces, the permissions go first.
    pub(super) fn delete_user(&mut self, name: &str, out: &mut Vec<Effect>) -> Result<Reply, Refusal> {
        let user = self.access.user(name).ok_or_else(|| no_user(name))?;
        let facts: Vec<Fact> = grant_facts(user, None).chain([user_fact(user)]).collect();
        self.access.remove_user(name);
        self.access_removed(facts, out);
        self.force(|info| info.user == name, &format!("user '{name}' is deleted"), out);
        Ok(Reply::Done)
    }

    pub(super) fn set_permissions(
        &mut self,
        permissions: &Permissions,
        out: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        self.granted(&permissions.user, &permissions.vhost)?.set_permissions(permissions)?;
        self.access_changed(vec![permission_fact(permissions)], out);
        Ok(Reply::Done)
    }

    pub(super) fn clear_permissions(
        &mut self,
        name: &Arc<str>,
        vhost: &Arc<str>,
        out: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let user = self.granted(name, vhost)?;
        let before: Vec<Permissions> = user.permissions().filter(|row| row.vhost == *vhost).collect();
        if user.clear_permissions(vhost) {
            self.access_removed(before.iter().map(permission_fact).collect(), out);
        }
        Ok(Reply::Done)
    }

    pub(super) fn set_topic_permissions(
        &mut self,
        permissions: &TopicPermissions,
        out: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        names::check_length("exchange", &permissions.exchange)?;
        self.granted(&permissions.user, &permissions.vhost)?.set_topic_permissions(permissions)?;
        self.access_changed(vec![topic_permission_fact(permissions)], out);
        Ok(Reply::Done)
    }

    pub(super) fn clear_topic_permissions(
        &mut self,
        name: &Arc<str>,
        vhost: &Arc<str>,
        exchange: Option<&Arc<str>>,
        out: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let user = self.granted(name, vhost)?;
        let rows = user
            .topic_permissions()
            .filter(|row| row.vhost == *vhost && exchange.is_none_or(|exchange| row.exchange == *exchange));
        let before: Vec<TopicPermissions> = rows.collect();
        for row in &before {
            user.clear_topic_permissions(vhost, &row.exchange);
        }
        if !before.is_empty() {
            self.access_removed(before.iter().map(topic_permission_fact).collect(), out);
        }
        Ok(Reply::Done)
    }

    pub(super) fn user_rows(&self) -> Vec<UserRow> {
        self.access.users().map(|user| UserRow { name: user.name.clone(), tags: user.tags.clone() }).collect()
    }

    pub(super) fn permission_rows(&self, vhost: &Arc<str>) -> Result<Vec<Permissions>, Refusal> {
        self.topology(&self.vhost(vhost))?;
        Ok(self.access.users().flat_map(User::permissions).filter(|row| row.vhost == *vhost).collect())
    }

    pub(super) fn user_permission_rows(&self, name: &str) -> Result<Vec<Permissions>, Refusal> {
        Ok(self.access.user(name).ok_or_else(|| no_user(name))?.permissions().collect())
    }

    pub(super) fn topic_permission_rows(&self, vhost: &Arc<str>) -> Result<Vec<TopicPermissions>, Refusal> {
        self.topology(&self.vhost(vhost))?;
        Ok(self.access.users().flat_map(User::topic_permissions).filter(|row| row.vhost == *vhost).collect())
    }

    pub(super) fn look_up_user(&self, name: &str) -> Option<UserRecord> {
        self.access.user(name).map(|user| UserRecord {
            name: user.name.clone(),
            password_hash: user.password_hash.clone(),
            tags: user.tags.clone(),
        })
    }

    pub(super) fn enter_vhost(&self, user: &str, vhost: &Arc<str>) -> Result<Reply, Refusal> {
        self.topology(&self.vhost(vhost))?;
        if self.access.may_enter(user, vhost) { Ok(Reply::Done) } else { Err(vhost_refused(user, vhost)) }
    }

    /// Appends the end of what users may do in a virtual host that is deleted, and forgets it.
    pub(super) fn vhost_grants_gone(&mut self, vhost: &str) -> Vec<Batch> {
        let facts = self.access.users().flat_map(|user| grant_facts(user, Some(vhost)));
        let gone = facts.map(|fact| Batch { facts: vec![(fact.key(), None)], ..Batch::default() }).collect();
        self.access.remove_vhost(vhost);
        gone
    }

    /// A user whose permissions in a virtual host are to be changed.
    fn granted(&mut self, name: &Arc<str>, vhost: &Arc<str>) -> Result<&mut User, Refusal> {
        if self.vhosts.find(vhost).is_none() {
            return Err(no_vhost(vhost));
        }
        self.access.user_mut(name).ok_or_else(|| no_user(name))
    }

    fn user_changed(&mut self, name: &str, out: &mut Vec<Effect>) {
        let facts = self.access.user(name).map(user_fact).into_iter().collect();
        self.access_changed(facts, out);
    }

    fn access_changed(&mut self, facts: Vec<Fact>, out: &mut Vec<Effect>) {
        let facts = facts.iter().map(|fact| (fact.key(), Some(fact.value()))).collect();
        self.tickets.append(Batch { facts, ..Batch::default() }, out);
        self.tell_access_changed(out);
    }

    fn access_removed(&mut self, facts: Vec<Fact>, out: &mut Vec<Effect>) {
        let facts = facts.iter().map(|fact| (fact.key(), None::<Bytes>)).collect();
        self.tickets.append(Batch { facts, ..Batch::default() }, out);
        self.tell_access_changed(out);
    }

    /// Tells a change, and counts it.
    pub(super) fn tell_access_changed(&mut self, out: &mut Vec<Effect>) {
        self.access.told += 1;
        out.push(Effect::AccessChanged);
    }
}

pub(super) fn no_user(name: &str) -> Refusal {
    Refusal::new(RefusalKind::NotFound, format!("user '{name}' not found")).with("user", name)
}

pub(super) fn vhost_refused(user: &str, vhost: &str) -> Refusal {
    let text = format!("access to vhost '{vhost}' refused for user '{user}'");
    Refusal::new(RefusalKind::AccessRefused, text).with("vhost", vhost)
}

/// A user's permissions, everywhere or in one virtual host.
fn grant_facts<'a>(user: &'a User, vhost: Option<&'a str>) -> impl Iterator<Item = Fact> + 'a {
    let counts = move |of: &str| vhost.is_none_or(|vhost| vhost == of);
    let permissions = user.permissions().filter(move |row| counts(&row.vhost));
    let topics = user.topic_permissions().filter(move |row| counts(&row.vhost));
    let permissions = permissions.map(|row| permission_fact(&row));
    permissions.chain(topics.map(|row| topic_permission_fact(&row)))
}

fn user_fact(user: &User) -> Fact {
    Fact::User(UserFact {
        name: user.name.to_string(),
        password_hash: user.password_hash.0.to_string(),
        tags: user.tags.iter().map(|tag| tag.to_string()).collect(),
    })
}

fn permission_fact(row: &Permissions) -> Fact {
    Fact::Permission(PermissionFact {
        vhost: row.vhost.to_string(),
        user: row.user.to_string(),
        configure: row.configure.to_string(),
        write: row.write.to_string(),
        read: row.read.to_string(),
    })
}

fn topic_permission_fact(row: &TopicPermissions) -> Fact {
    Fact::TopicPermission(TopicPermissionFact {
        vhost: row.vhost.to_string(),
        user: row.user.to_string(),
        exchange: row.exchange.to_string(),
        write: row.write.to_string(),
        read: row.read.to_string(),
    })
}
