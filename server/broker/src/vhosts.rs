//! Virtual hosts: exchanges, queues and bindings of one are invisible from another.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::topology::Topology;

/// The virtual host of who names none.
pub(crate) const DEFAULT: &str = "/";

/// A virtual host while the process lives; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VhostId(u32);

/// A virtual host with its name, for facts and sentences.
#[derive(Debug, Clone)]
pub(crate) struct VhostRef {
    pub(crate) id: VhostId,
    pub(crate) name: Arc<str>,
}

#[derive(Debug)]
pub(crate) struct Vhost {
    pub(crate) id: VhostId,
    pub(crate) name: Arc<str>,
    pub(crate) description: Arc<str>,
    pub(crate) tags: Vec<Arc<str>>,
    pub(crate) topology: Topology,
}

/// All virtual hosts.
#[derive(Debug, Default)]
pub(crate) struct Vhosts {
    by_name: BTreeMap<Arc<str>, VhostId>,
    /// By number; the place of one that is gone stays empty.
    slots: Vec<Option<Box<Vhost>>>,
}

/// The number of the virtual host that publishes on a channel named last, so that naming it again costs a comparison of
/// addresses.
#[derive(Debug, Default)]
pub(crate) struct LastVhost(Option<(Arc<str>, VhostId)>);

impl Vhosts {
    /// Adds one, which must not exist.
    pub(crate) fn add(&mut self, name: Arc<str>, description: Arc<str>, tags: Vec<Arc<str>>) -> VhostId {
        let id = VhostId(self.slots.len() as u32);
        let vhost = Vhost { id, name: name.clone(), description, tags, topology: Topology::new() };
        self.slots.push(Some(Box::new(vhost)));
        let before = self.by_name.insert(name, id);
        debug_assert!(before.is_none(), "it exists");
        id
    }

    pub(crate) fn remove(&mut self, id: VhostId) {
        if let Some(vhost) = self.slots.get_mut(id.0 as usize).and_then(Option::take) {
            self.by_name.remove(&vhost.name);
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<VhostId> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn get(&self, id: VhostId) -> Option<&Vhost> {
        self.slots.get(id.0 as usize)?.as_deref()
    }

    pub(crate) fn topology(&self, id: VhostId) -> Option<&Topology> {
        self.get(id).map(|vhost| &vhost.topology)
    }

    pub(crate) fn topology_mut(&mut self, id: VhostId) -> Option<&mut Topology> {
        self.slots.get_mut(id.0 as usize)?.as_deref_mut().map(|vhost| &mut vhost.topology)
    }

    /// All of them in order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Vhost> {
        self.by_name.values().filter_map(|id| self.get(*id))
    }
}

impl Vhost {
    pub(crate) fn as_ref(&self) -> VhostRef {
        VhostRef { id: self.id, name: self.name.clone() }
    }
}

impl VhostRef {
    /// One that does not exist.
    pub(crate) fn nowhere(name: Arc<str>) -> Self {
        Self { id: VhostId(u32::MAX), name }
    }
}

/// Whether two names are alike; then the first of them shares the other's memory, by which the next is told sooner.
fn is_same(last: &mut Arc<str>, name: &Arc<str>) -> bool {
    if Arc::ptr_eq(last, name) {
        return true;
    }
    let same = *last == *name;
    if same {
        last.clone_from(name);
    }
    same
}

impl LastVhost {
    /// The virtual host of that name.
    pub(crate) fn find(&mut self, name: &Arc<str>, vhosts: &Vhosts) -> Option<VhostId> {
        if let Some((last, id)) = &mut self.0
            && is_same(last, name)
            // It may have been deleted, and another one may have its name now.
            && vhosts.get(*id).is_some()
        {
            return Some(*id);
        }
        let id = vhosts.find(name)?;
        self.0 = Some((name.clone(), id));
        Some(id)
    }
}
