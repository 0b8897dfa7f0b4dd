//! What is under way in few queues.

use std::collections::{BTreeMap, BTreeSet};

use super::dying::Dying;
use crate::death::Reason;
use crate::seldom::Empty;

/// Places of a level with something under way.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Aside {
    /// Places that are neither ready nor out any more, and wait to be read so that they can be dead-lettered.
    pub(super) dying: BTreeMap<u64, Dying>,
    /// Places like those that are dying, which are to move only when there is room for them, and why they do.
    pub(super) waiting: BTreeMap<u64, Reason>,
    /// Places of returned messages without a body.
    pub(super) bodiless: BTreeSet<u64>,
    /// Places that are out and whose bodies are wanted back.
    pub(super) recalled: BTreeSet<u64>,
}

impl Empty for Aside {
    fn empty() -> &'static Self {
        static EMPTY: Aside = Aside {
            dying: BTreeMap::new(),
            waiting: BTreeMap::new(),
            bodiless: BTreeSet::new(),
            recalled: BTreeSet::new(),
        };
        &EMPTY
    }
}
