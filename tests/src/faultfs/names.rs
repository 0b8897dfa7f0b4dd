//! A directory's names: those that the process sees, and which of their changes a power loss may undo.
//!
//! A change is done or not, never half. A file system with a journal keeps an order: what survives is a front part of the
//! changes. One without promises less, each change for itself. A loss does one or the other.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use fastrand::Rng;

use super::loss::{Lost, Style};

/// One directory.
#[derive(Debug, Default)]
pub(super) struct Names {
    now: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Set { name: OsString, node: u64 },
    Remove { name: OsString },
    Rename { from: OsString, to: OsString, node: u64 },
}

impl Names {
    pub(super) fn get(&self, name: &OsStr) -> Option<u64> {
        self.now.get(name).copied()
    }

    pub(super) fn now(&self) -> &BTreeMap<OsString, u64> {
        &self.now
    }

    pub(super) fn set(&mut self, name: &OsStr, node: u64) {
        self.now.insert(name.to_owned(), node);
        self.pending.push(Change::Set { name: name.to_owned(), node });
    }

    pub(super) fn remove(&mut self, name: &OsStr) {
        self.now.remove(name);
        self.pending.push(Change::Remove { name: name.to_owned() });
    }

    /// Gives what has a name another one, which is taken from whatever had it; false where nothing has the name.
    pub(super) fn rename(&mut self, from: &OsStr, to: &OsStr) -> bool {
        let Some(node) = self.now.remove(from) else { return false };
        self.now.insert(to.to_owned(), node);
        self.pending.push(Change::Rename { from: from.to_owned(), to: to.to_owned(), node });
        true
    }

    /// fsync of the directory.
    pub(super) fn sync(&mut self) {
        self.pending.clear();
        self.durable.clone_from(&self.now);
    }

    /// What has a name now, or may have one after a power loss.
    pub(super) fn reachable(&self) -> impl Iterator<Item = u64> + '_ {
        let pending = self.pending.iter().filter_map(|change| match change {
            Change::Set { node, .. } | Change::Rename { node, .. } => Some(*node),
            Change::Remove { .. } => None,
        });
        self.now.values().chain(self.durable.values()).copied().chain(pending)
    }

    /// The power is gone: becomes one of the states that may be left, which is durable then.
    pub(super) fn lose_power(&mut self, style: Style, rng: &mut Rng, lost: &mut Lost) {
        let pending = std::mem::take(&mut self.pending);
        let mut fate = style.fate(rng);
        if rng.bool() {
            fate = fate.in_order();
        }
        let mut names = std::mem::take(&mut self.durable);
        for change in pending {
            if !fate.survives(rng) {
                lost.names += 1;
                continue;
            }
            lost.names_kept += 1;
            match change {
                Change::Set { name, node } => drop(names.insert(name, node)),
                Change::Remove { name } => drop(names.remove(&name)),
                Change::Rename { from, to, node } => {
                    if names.get(&from) == Some(&node) {
                        names.remove(&from);
                    }
                    names.insert(to, node);
                }
            }
        }
        self.now.clone_from(&names);
        self.durable = names;
    }
}
