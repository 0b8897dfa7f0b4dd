//! Virtual hosts that are added and deleted.

use std::sync::Arc;

use bytes::Bytes;

use super::Broker;
use super::bind::remove_facts;
use super::request::Who;
use crate::access::names::{check_name, check_tags, check_text};
use crate::access::words::{AddVhost, VhostRow};
use crate::effect::{Batch, Effect, Reply};
use crate::ids::QueueId;
use crate::record::fact::{Fact, VhostFact};
use crate::refusal::{Refusal, RefusalKind};
use crate::vhosts::{DEFAULT, Vhost};

impl Broker {
    pub(super) fn add_vhost(&mut self, vhost: AddVhost, out: &mut Vec<Effect>) -> Result<Reply, Refusal> {
        check_name("vhost", &vhost.name)?;
        check_text("description", &vhost.description)?;
        check_tags(&vhost.tags)?;
        if self.vhosts.find(&vhost.name).is_some() {
            return Ok(Reply::Done);
        }
        let id = self.vhosts.add(vhost.name, vhost.description, vhost.tags);
        let facts = self.vhosts.get(id).map(vhost_fact).into_iter();
        let facts = facts.map(|fact| (fact.key(), Some(fact.value()))).collect();
        self.tickets.append(Batch { facts, ..Batch::default() }, out);
        self.tell_access_changed(out);
        Ok(Reply::Done)
    }

    /// Deletes a virtual host with all that is in it. The appends are as large as they may be; a crash between two of
    /// them leaves it with what it still has, and nobody was told that it is gone.
    pub(super) fn delete_vhost(&mut self, name: &Arc<str>, out: &mut Vec<Effect>) -> Result<Reply, Refusal> {
        let vhost = self.vhost(name);
        self.topology(&vhost)?;
        if !self.defaults_made && **name == *DEFAULT {
            let text = format!("vhost '{name}' cannot be deleted before the store was given its defaults");
            return Err(Refusal::new(RefusalKind::PreconditionFailed, text).with("vhost", &**name));
        }
        self.force(|info| info.vhost == **name, &format!("vhost '{name}' is deleted"), out);
        let topology = self.topology(&vhost)?;
        let queues: Vec<QueueId> = topology.queues().map(|(_, id)| id).collect();
        let mut gathered = Gathered::default();
        for id in queues {
            let mut next = Batch::default();
            self.remove_queue(id, &mut next, out);
            self.gather(&mut gathered, next, out);
        }
        for gone in self.topology_mut(&vhost)?.remove_all() {
            let mut next = Batch::default();
            remove_facts(&vhost.name, gone, &mut next);
            self.gather(&mut gathered, next, out);
        }
        for next in self.vhost_grants_gone(name) {
            self.gather(&mut gathered, next, out);
        }
        let fact = self.vhosts.get(vhost.id).map(vhost_fact);
        let facts = fact.into_iter().map(|fact| (fact.key(), None::<Bytes>)).collect();
        self.gather(&mut gathered, Batch { facts, ..Batch::default() }, out);
        self.append_unless_empty(gathered.batch, out);
        self.vhosts.remove(vhost.id);
        self.tell_access_changed(out);
        Ok(Reply::Done)
    }

    pub(super) fn vhost_rows(&self, who: &Who) -> Vec<VhostRow> {
        let row = |vhost: &Vhost| VhostRow {
            name: vhost.name.clone(),
            description: vhost.description.clone(),
            tags: vhost.tags.clone(),
        };
        self.vhosts.iter().filter(|vhost| self.sees_vhost(who, vhost)).map(row).collect()
    }

    /// Adds to what is gathered, which goes to the log before it would become too large. Each part stays whole, unless it
    /// is too large by itself.
    fn gather(&mut self, gathered: &mut Gathered, next: Batch, out: &mut Vec<Effect>) {
        let bytes = next.rest_bytes();
        if gathered.bytes + bytes > self.settings.append_bytes_max {
            let full = std::mem::take(gathered);
            self.append_unless_empty(full.batch, out);
        }
        gathered.bytes += bytes;
        gathered.batch.merge(next);
    }
}

/// What is to be appended, and an upper bound of its bytes in the log.
#[derive(Default)]
struct Gathered {
    batch: Batch,
    bytes: u64,
}

pub(super) fn vhost_fact(vhost: &Vhost) -> Fact {
    Fact::Vhost(VhostFact {
        name: vhost.name.to_string(),
        description: vhost.description.to_string(),
        tags: vhost.tags.iter().map(|tag| tag.to_string()).collect(),
    })
}
