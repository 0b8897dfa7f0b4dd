//! The invariants by name.

use std::fmt;

/// What must hold, as clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// A confirmed persistent message in a durable queue is delivered or still queued.
    I1,
    /// After an ack is confirmed the message never comes back.
    I2,
    /// Each delivery equals a published payload byte for byte.
    I3,
    /// First deliveries keep publish order within a priority, and the higher priority comes first; a returned message goes
    /// back to its old place.
    I4,
    /// A second delivery says redelivered=true.
    I5,
    /// An unconfirmed publish exists 0 or 1 time per queue and never in part of its queues.
    I6,
    /// Declares, binds, deletes and purges that were answered are durable.
    I7,
    /// A move leaves the message in exactly one of the two queues.
    I8,
    /// A recovery that is killed and tried again ends as one that is not.
    I11,
    /// Damage on the disk is outside of what lives, or reported with what is lost; the rest goes on, nothing is deleted.
    I12,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::I1,
        Self::I2,
        Self::I3,
        Self::I4,
        Self::I5,
        Self::I6,
        Self::I7,
        Self::I8,
        Self::I11,
        Self::I12,
    ];

    /// What it says.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::I1 => "a confirmed persistent message is delivered or still queued",
            Self::I2 => "after an ack is confirmed the message never comes back",
            Self::I3 => "each delivery equals a published payload byte for byte",
            Self::I4 => {
                "order is publish order, by priority where there are any, and a returned message goes back to its old place"
            }
            Self::I5 => "a second delivery says redelivered=true",
            Self::I6 => "a publish exists once per queue or not at all, and never in part of its queues",
            Self::I7 => "declares, binds, deletes and purges that were answered are durable",
            Self::I8 => "a move, as of a dead letter, leaves the message in exactly one of the two queues",
            Self::I11 => "a recovery that is killed and tried again ends as one that is not",
            Self::I12 => {
                "damage is outside of what lives or reported with what is lost, the rest goes on, nothing is deleted"
            }
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({})", self.sentence())
    }
}

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{invariant} is broken: {text}")]
pub struct Violation {
    /// Which one.
    pub invariant: Invariant,
    /// What happened.
    pub text: String,
}
