//! The state that a start found, from facts to topology and queues.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::access::words::{AddUser, PasswordHash, Permissions, TopicPermissions};
use crate::access::{Access, User};
use crate::ids::{QueueId, Seq};
use crate::queue::{Queue, QueueProps};
use crate::record::fact::{self, BindingFact, ExchangeFact, Fact, FactError, QueueFact};
use crate::recovered::{Recovered, RecoveredQueue};
use crate::topology::{ExchangeKind, ExchangeProps, Topology};
use crate::vhosts::{self, VhostRef, Vhosts};

/// Why the broker cannot start with what the store holds. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// A fact was written by a newer broker, or is not what it should be.
    #[error("fact {key}: {source}; start the broker version that wrote it, or run `leveret check`")]
    Fact {
        /// The fact's key, readable.
        key: String,
        /// What is wrong.
        source: FactError,
    },
    /// A fact speaks of something that does not exist.
    #[error("fact {key}: {text}; run `leveret check`")]
    Dangling {
        /// The fact's key, readable.
        key: String,
        /// What is missing.
        text: String,
    },
    /// A queue of the store that no fact names.
    #[error("queue {0} of the store has no name; run `leveret check`")]
    Nameless(QueueId),
    /// The store's numbers for a queue contradict each other.
    #[error("queue {queue} of the store: {text}; run `leveret check`")]
    Numbers {
        /// The queue.
        queue: QueueId,
        /// The contradiction.
        text: String,
    },
}

/// What a start begins with.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) vhosts: Vhosts,
    pub(crate) access: Access,
    pub(crate) queues: BTreeMap<QueueId, Box<Queue>>,
    /// Whose the levels of queues are.
    pub(crate) levels: BTreeMap<QueueId, QueueId>,
    pub(crate) next_queue_id: QueueId,
    /// Only what facts name exists.
    pub(crate) defaults_made: bool,
}

pub(crate) fn replay(recovered: Recovered) -> Result<State, RecoverError> {
    let mut exchanges = Vec::new();
    // Queues and bindings come last, and are decoded one by one: all at once they would take several times the memory
    // that they take in the end.
    let (many, facts): (Vec<_>, Vec<_>) =
        recovered.facts.into_iter().partition(|(key, _)| Fact::is_of_many(key));
    let mut vhosts = Vhosts::default();
    let mut defaults_made = false;
    let mut access = Access::default();
    let (mut permissions, mut topic_permissions) = (Vec::new(), Vec::new());
    for (key, value) in facts {
        match Fact::decode(&key, &value).map_err(|source| bad(&key, source))? {
            Fact::Exchange(fact) => exchanges.push((key, fact)),
            Fact::Queue(_) | Fact::Binding(_) => unreachable!("they are among the many"),
            Fact::Vhost(fact) => {
                let tags = fact.tags.into_iter().map(Arc::from).collect();
                vhosts.add(Arc::from(fact.name), Arc::from(fact.description), tags);
            }
            Fact::Defaults(_) => defaults_made = true,
            Fact::User(fact) => access.add_user(AddUser {
                name: Arc::from(fact.name),
                password_hash: PasswordHash(Arc::from(fact.password_hash)),
                tags: fact.tags.into_iter().map(Arc::from).collect(),
            }),
            Fact::Permission(fact) => permissions.push((key, fact)),
            Fact::TopicPermission(fact) => topic_permissions.push((key, fact)),
        }
    }
    // It is there from the beginning, until the store is told what there is.
    if !defaults_made && vhosts.find(vhosts::DEFAULT).is_none() {
        vhosts.add(Arc::from(vhosts::DEFAULT), Arc::from(""), Vec::new());
    }
    let mut found = Found::new(recovered.queues);
    let highest = found.0.last().map_or(QueueId(0), |(id, _)| *id);
    let mut state = State {
        vhosts,
        access,
        defaults_made,
        queues: BTreeMap::new(),
        levels: BTreeMap::new(),
        next_queue_id: QueueId(recovered.next_queue_id.0.max(highest.0 + 1)),
    };
    for (key, fact) in exchanges {
        state.add_exchange(&key, fact)?;
    }
    // Keys are in order: queues come before bindings.
    let decode = |(key, value): (Bytes, Bytes)| {
        let fact = Fact::decode(&key, &value).map_err(|source| bad(&key, source))?;
        Ok((key, fact))
    };
    let mut many = many.into_iter().map(decode).peekable();
    while let Some(next) = many.next_if(|next| !matches!(next, Ok((_, Fact::Binding(_))))) {
        if let (key, Fact::Queue(fact)) = next? {
            state.add_queue(&key, fact, &mut found)?;
        }
    }
    if let Some(id) = found.first() {
        return Err(RecoverError::Nameless(id));
    }
    drop(found);
    for next in many {
        if let (key, Fact::Binding(fact)) = next? {
            state.add_binding(&key, &fact)?;
        }
    }
    for (key, fact) in permissions {
        let row = Permissions {
            vhost: Arc::from(fact.vhost),
            user: Arc::from(fact.user),
            configure: Arc::from(fact.configure),
            write: Arc::from(fact.write),
            read: Arc::from(fact.read),
        };
        let granted = state.granted(&key, &row.user, &row.vhost)?.set_permissions(&row);
        granted.map_err(|refusal| dangling(&key, refusal.text))?;
    }
    for (key, fact) in topic_permissions {
        let row = TopicPermissions {
            vhost: Arc::from(fact.vhost),
            user: Arc::from(fact.user),
            exchange: Arc::from(fact.exchange),
            write: Arc::from(fact.write),
            read: Arc::from(fact.read),
        };
        let granted = state.granted(&key, &row.user, &row.vhost)?.set_topic_permissions(&row);
        granted.map_err(|refusal| dangling(&key, refusal.text))?;
    }
    Ok(state)
}

/// The queues of the store that no fact has named yet, in order of their ids.
struct Found(Vec<(QueueId, Option<RecoveredQueue>)>);

impl Found {
    fn new(mut queues: Vec<RecoveredQueue>) -> Self {
        queues.sort_by_key(|queue| queue.queue);
        Self(queues.into_iter().map(|queue| (queue.queue, Some(queue))).collect())
    }

    fn take(&mut self, id: QueueId) -> Option<RecoveredQueue> {
        let at = self.0.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.0[at].1.take()
    }

    fn first(&self) -> Option<QueueId> {
        self.0.iter().find(|(_, queue)| queue.is_some()).map(|(id, _)| *id)
    }
}

impl State {
    fn vhost(&mut self, key: &Bytes, name: &str) -> Result<(VhostRef, &mut Topology), RecoverError> {
        let missing = || dangling(key, format!("there is no vhost '{name}'"));
        let id = self.vhosts.find(name).ok_or_else(missing)?;
        let vhost = self.vhosts.get(id).ok_or_else(missing)?.as_ref();
        Ok((vhost, self.vhosts.topology_mut(id).ok_or_else(missing)?))
    }

    /// A user who may do something in a virtual host.
    fn granted(&mut self, key: &Bytes, user: &str, vhost: &str) -> Result<&mut User, RecoverError> {
        self.vhost(key, vhost)?;
        self.access.user_mut(user).ok_or_else(|| dangling(key, format!("there is no user '{user}'")))
    }

    fn add_exchange(&mut self, key: &Bytes, fact: ExchangeFact) -> Result<(), RecoverError> {
        let Some(kind) = ExchangeKind::parse(&fact.kind) else {
            return Err(dangling(key, format!("there is no exchange type '{}'", fact.kind)));
        };
        let props = ExchangeProps {
            kind,
            durable: true,
            auto_delete: fact.auto_delete,
            internal: fact.internal,
            arguments: fact::table(&fact.arguments).map_err(|source| bad(key, source))?,
        };
        self.vhost(key, &fact.vhost)?.1.add_exchange(Arc::from(fact.name), props);
        Ok(())
    }

    fn add_queue(&mut self, key: &Bytes, fact: QueueFact, found: &mut Found) -> Result<(), RecoverError> {
        let mut take = |id: QueueId| {
            let store = found.take(id);
            let store = store.ok_or_else(|| dangling(key, format!("there is no queue {id} in the store")))?;
            check_numbers(&store).map(|()| store)
        };
        let id = fact.id();
        let (vhost, _) = self.vhost(key, &fact.vhost)?;
        let props = QueueProps {
            vhost,
            name: Arc::from(fact.name),
            durable: true,
            auto_delete: fact.auto_delete,
            exclusive_owner: None,
            arguments: fact::table(&fact.arguments).map_err(|source| bad(key, source))?,
        };
        let name = props.name.clone();
        let mut queue = Queue::recover(props, take(id)?);
        queue.expiring = fact.expiring;
        for level in &fact.levels {
            let level_id = QueueId(level.queue);
            let priority = u8::try_from(level.priority).ok().filter(|priority| !queue.has_level(*priority));
            let priority = priority.ok_or_else(|| {
                dangling(key, format!("there cannot be a level of priority {}", level.priority))
            })?;
            queue.recover_level(priority, take(level_id)?);
            self.levels.insert(level_id, id);
        }
        self.vhost(key, &fact.vhost)?.1.add_queue(name, id, true);
        self.queues.insert(id, Box::new(queue));
        Ok(())
    }

    fn add_binding(&mut self, key: &Bytes, fact: &BindingFact) -> Result<(), RecoverError> {
        let binding = fact.binding().map_err(|source| bad(key, source))?;
        match self.vhost(key, &fact.vhost)?.1.bind(binding) {
            Ok(Some(true)) => Ok(()),
            Ok(_) => Err(dangling(
                key,
                "the binding stands there twice, or between ends that are not durable".into(),
            )),
            Err(error) => Err(dangling(key, error.to_string())),
        }
    }
}

/// A store that counts otherwise than its dead places say would make counts drift for ever.
fn check_numbers(found: &RecoveredQueue) -> Result<(), RecoverError> {
    let error = |text: String| Err(RecoverError::Numbers { queue: found.queue, text });
    let (head, next) = (found.head.0, found.next.0);
    if head == 0 || head > next {
        return error(format!("its first live place {head} is not between 1 and the next free one, {next}"));
    }
    let mut dead = 0;
    let mut free = Seq(head);
    for (from, last) in &found.dead {
        if *from < free || last < from || last.0 >= next {
            return error(format!(
                "dead places {from} to {last} are out of order or not in [{free}, {next})"
            ));
        }
        dead += last.0 - from.0 + 1;
        free = Seq(last.0 + 1);
    }
    if next - head - dead != found.live {
        return error(format!("{} messages live, {} counted", next - head - dead, found.live));
    }
    Ok(())
}

fn bad(key: &Bytes, source: FactError) -> RecoverError {
    RecoverError::Fact { key: readable(key), source }
}

fn dangling(key: &Bytes, text: String) -> RecoverError {
    RecoverError::Dangling { key: readable(key), text }
}

fn readable(key: &Bytes) -> String {
    key.escape_ascii().to_string()
}
