//! The deliberate bugs, wherever they are.

use std::fmt;

/// A bug of the engine or of the core that can be switched on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Of the engine.
    Engine(leveret_engine::Control),
    /// Of the core.
    Core(leveret_broker::Control),
}

impl Bug {
    /// All that a crash brings to light.
    pub fn all() -> impl Iterator<Item = Self> {
        let engine = leveret_engine::Control::OF_CRASHES.into_iter().map(Self::Engine);
        engine.chain(leveret_broker::Control::ALL.into_iter().map(Self::Core))
    }

    pub(super) fn of_engine(self) -> Option<leveret_engine::Control> {
        match self {
            Self::Engine(control) => Some(control),
            Self::Core(_) => None,
        }
    }

    pub(super) fn of_core(self) -> Option<leveret_broker::Control> {
        match self {
            Self::Engine(_) => None,
            Self::Core(control) => Some(control),
        }
    }
}

impl fmt::Debug for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(control) => control.fmt(f),
            Self::Core(control) => control.fmt(f),
        }
    }
}
