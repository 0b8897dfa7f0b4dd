//! Names that repeat share their memory.

use std::sync::Arc;

/// The name that was used last: mostly the next one is the same, and then shares its memory.
#[derive(Debug)]
pub(crate) struct Recent(Arc<str>);

impl Default for Recent {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

impl From<Arc<str>> for Recent {
    fn from(name: Arc<str>) -> Self {
        Self(name)
    }
}

impl Recent {
    /// The last name once more.
    pub(crate) fn again(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// From here on another memory is shared, with the same name in it: what has gone to another thread is counted there,
    /// and one counter for two threads costs each of them more than all else that is done for a message.
    pub(crate) fn part(&mut self) {
        self.0 = Arc::from(&*self.0);
    }

    /// The shared form of a name.
    pub(crate) fn share(&mut self, name: &str) -> Arc<str> {
        if *self.0 != *name {
            self.0 = Arc::from(name);
        }
        Arc::clone(&self.0)
    }
}
