//! The way in: bodies to be written, and the handles by which messages name them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::BlobPlace;
use crate::shared::{Shared, lock};

/// A body in a blob file, synced. Whoever holds one keeps the body from being freed; a message that is put with it names
/// the body in the log, and from then on, until its last place is dead, the store does.
#[derive(Clone)]
pub struct BlobRef(pub(super) Arc<Held>);

/// What all handles of a body share.
pub(crate) struct Held {
    pub(super) place: BlobPlace,
    pub(super) shared: Weak<Shared>,
}

/// The way into a store's blob files, from any thread.
#[derive(Debug, Clone)]
pub struct Blobs {
    /// Whoever keeps this keeps no closed store open by it.
    shared: Weak<Shared>,
    bytes_min: u64,
}

/// Bodies that wait to be written, in order.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(super) bodies: VecDeque<Body>,
    /// Nothing is written any more.
    closed: bool,
    /// There is no room for them.
    pub(super) full: bool,
}

/// One of them.
pub(crate) struct Body {
    pub(super) bytes: Bytes,
    pub(super) crc: u32,
    pub(super) waiter: Box<dyn BodyWaiter>,
    /// How often it could not be written.
    pub(super) tries: u8,
}

/// Whoever waits for a body. Called on the thread that writes bodies, and dropped uncalled when the store closes or, on
/// the thread that met the failure, fails; neither must block. It is held for as long as the body is, so what is counted for the one may hang on the
/// other.
pub trait BodyWaiter: Send {
    /// Nobody waits any more: the body need not be written.
    fn is_gone(&self) -> bool {
        false
    }

    /// The body is on the disk (under every fsync policy), or the disk does not take it.
    fn written(self: Box<Self>, written: Result<BlobRef, NotWritten>);
}

/// A body that could not be written, several times, although the disk is not full; why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body of the message could not be written: {0}")]
pub struct NotWritten(pub String);

/// One that waits to the end.
struct Patient<F>(F);

impl<F: FnOnce(Result<BlobRef, NotWritten>) + Send> BodyWaiter for Patient<F> {
    fn written(self: Box<Self>, written: Result<BlobRef, NotWritten>) {
        (self.0)(written);
    }
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.bodies.is_empty()
    }

    /// Takes those out that fulfil a condition. To be dropped without the lock, since their waiters are.
    pub(super) fn take_if(&mut self, condition: impl Fn(&Body) -> bool) -> VecDeque<Body> {
        if !self.bodies.iter().any(&condition) {
            return VecDeque::new();
        }
        let (taken, left) = std::mem::take(&mut self.bodies).into_iter().partition(condition);
        self.bodies = left;
        taken
    }

    /// Nothing is written any more. To be dropped without the lock, uncalled: whoever waits hears of it.
    pub(crate) fn close(&mut self) -> VecDeque<Body> {
        self.closed = true;
        std::mem::take(&mut self.bodies)
    }

    /// There is no room for what waits.
    pub(crate) fn is_stuck(&self) -> bool {
        self.full
    }
}

impl Blobs {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::downgrade(shared), bytes_min: shared.settings.blob_bytes_min }
    }

    /// Bodies of at least so many bytes belong into a blob file.
    pub fn bytes_min(&self) -> u64 {
        self.bytes_min
    }

    /// Has a body written, and calls `done` like [`BodyWaiter::written`].
    pub fn put(&self, body: Bytes, done: impl FnOnce(Result<BlobRef, NotWritten>) + Send + 'static) {
        self.put_for(body, Box::new(Patient(done)));
    }

    /// Has a body written for somebody, unless he goes before that; in the order of the calls. A full disk makes it wait.
    /// Takes as long as its checksum does, which the blob writer would have the disk wait for.
    pub fn put_for(&self, body: Bytes, waiter: Box<dyn BodyWaiter>) {
        let Some(shared) = self.shared.upgrade() else { return };
        let crc = crc32fast::hash(&body);
        let mut waiting = lock(&shared.bodies);
        if !waiting.closed {
            waiting.bodies.push_back(Body { bytes: body, crc, waiter, tries: 0 });
        }
        drop(waiting);
        shared.ring(|bells| bells.ring_blobs());
    }
}

impl BlobRef {
    pub(crate) fn place(&self) -> BlobPlace {
        self.0.place
    }

    /// A handle to nothing, to be encoded.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn to(place: BlobPlace) -> Self {
        Self(Arc::new(Held { place, shared: Weak::new() }))
    }

    /// Length of the body.
    pub fn bytes(&self) -> u64 {
        self.0.place.bytes
    }
}

impl PartialEq for BlobRef {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for BlobRef {}

impl fmt::Debug for BlobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BlobPlace { file, offset, bytes, crc: _ } = self.0.place;
        write!(f, "BlobRef({bytes} bytes at {offset} of {file})")
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.bytes.len())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            lock(&shared.blobs).suspects.push_back(self.place);
            shared.ring(|bells| bells.ring_blobs());
        }
    }
}
