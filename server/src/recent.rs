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

impl Recent {
    /// The shared form of a name.
    pub(crate) fn share(&mut self, name: &str) -> Arc<str> {
        if *self.0 != *name {
            self.0 = Arc::from(name);
        }
        Arc::clone(&self.0)
    }
}
