//! A body that the store already has.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// The store's handle to a body that it holds apart from its log, opaque to the core, which only passes it on: whoever
/// puts the message into a queue puts it with the handle, and the body is not written again.
#[derive(Clone)]
pub struct Blob(Arc<dyn Any + Send + Sync>);

/// Upper bound of what the log holds instead of such a body, in bytes.
pub(crate) const BLOB_BYTES: u64 = 32;

impl Blob {
    /// Wraps the store's handle.
    pub fn new(handle: impl Any + Send + Sync) -> Self {
        Self(Arc::new(handle))
    }

    /// The store's handle.
    pub fn handle<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl PartialEq for Blob {
    /// Whether it is the very same handle.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Blob {}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blob")
    }
}

/// What of a body goes into the log: all of it, or what stands for it.
pub(crate) fn logged_bytes(body_bytes: usize, blob: Option<&Blob>) -> u64 {
    if blob.is_some() { BLOB_BYTES } else { body_bytes as u64 }
}
