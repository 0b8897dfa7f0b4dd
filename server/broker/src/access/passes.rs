//! What a channel remembers of its user's permissions, so that a publish costs no regular expression.

use std::sync::Arc;

use crate::vhosts::VhostId;

/// Exchanges remembered; when there are more, all are forgotten.
const PASSES_MAX: usize = 16;

/// Exchanges that a user may publish to, as found since the last change of permissions.
#[derive(Debug, Default)]
pub(crate) struct Passes {
    generation: u64,
    granted: Vec<Pass>,
}

/// One exchange that the user may publish to.
#[derive(Debug)]
struct Pass {
    vhost: VhostId,
    exchange: Arc<str>,
    by_topic: ByTopic,
}

/// Whether routing keys decide as well, should the exchange be a topic exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByTopic {
    Yes,
    No,
}

impl Passes {
    /// Whether the user may publish to the exchange, if that is known.
    pub(super) fn find(&self, generation: u64, vhost: VhostId, exchange: &Arc<str>) -> Option<ByTopic> {
        if self.generation != generation {
            return None;
        }
        // Front ends hand out the same name in the same place as long as they can.
        let same = |pass: &&Pass| {
            pass.vhost == vhost && (Arc::ptr_eq(&pass.exchange, exchange) || pass.exchange == *exchange)
        };
        self.granted.iter().find(same).map(|pass| pass.by_topic)
    }

    pub(super) fn grant(&mut self, generation: u64, vhost: VhostId, exchange: &Arc<str>, by_topic: ByTopic) {
        if self.generation != generation || self.granted.len() == PASSES_MAX {
            self.granted.clear();
            self.generation = generation;
        }
        self.granted.push(Pass { vhost, exchange: exchange.clone(), by_topic });
    }
}
