//! Bodies in blob files, as the model test uses them: written ahead, put with one message or several, put again with what
//! was fetched, let go of.

use super::*;
use crate::BlobRef;

/// Bodies with handles; put there also from within the blob writer.
pub(super) type Bodies = Arc<crate::sync::Mutex<Vec<(BlobRef, Bytes)>>>;

impl World {
    /// One of the bodies there are, which may be put once more.
    pub(super) fn take_body(&mut self) -> Option<(crate::BlobRef, Bytes)> {
        let mut bodies = lock(&self.bodies);
        let index = (!bodies.is_empty()).then(|| self.rng.usize(..bodies.len()))?;
        Some(if self.rng.bool() { bodies.swap_remove(index) } else { bodies[index].clone() })
    }

    /// Has a body written, or lets go of one.
    pub(super) fn write_body(&mut self) {
        if self.rng.u8(..3) == 0 {
            drop(self.take_body());
            return;
        }
        let length = if self.rng.u8(..8) == 0 { 9_000 } else { self.rng.usize(1..3_000) };
        let mut body = vec![0; length];
        self.rng.fill(&mut body);
        let (body, bodies) = (Bytes::from(body), Arc::clone(&self.bodies));
        let (store, _) = self.store.as_ref().expect("open");
        store.blobs().put(body.clone(), move |blob| lock(&bodies).extend(blob.map(|blob| (blob, body))));
    }

    /// What was fetched may be put into another queue.
    pub(super) fn keep_body(&mut self, blob: Option<BlobRef>, payload: &Bytes) {
        if let Some(blob) = blob
            && self.rng.u8(..4) == 0
        {
            let body = payload.slice(payload.len() - blob.bytes() as usize..);
            lock(&self.bodies).push((blob, body));
        }
    }
}

pub(super) fn add(sum: &mut Counts, counts: &Counts) {
    sum.blobs += counts.blobs;
    sum.blob_puts += counts.blob_puts;
    sum.blob_files_removed += counts.blob_files_removed;
}

/// Blobs occurred all the time.
pub(super) fn check(counts: &Counts, seeds: u64) {
    assert!(counts.blobs > 5 * seeds && counts.blob_puts > 5 * seeds, "{counts:?}");
    assert!(counts.blob_files_removed > seeds, "{counts:?}");
}
